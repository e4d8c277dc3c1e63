"""Jobs in Slurm's queue: those that a lost run left there, and what the plugin would miss of a run's own.

A main process that is killed leaves its jobs running; a new one would start the same jobs beside them, two writers
to one file. The name under which a run submits its jobs is noted in its results, and its main process, so that the
next run finds them and can tell whether the run is lost.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from foley.runtime.identity import Process
from foley.tables import atomic_file


def ask_for(first: float, attempt: int, most: int | None = None) -> int:
    """What an attempt (from 1) asks for: ``first``, doubled with each further one, and never more than ``most``."""
    asked = int(first * 2 ** (attempt - 1))
    return asked if most is None else min(asked, most)


def _call(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"`{' '.join(command)}` failed: {error.stderr.strip()}") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"`{' '.join(command)}` gave no answer within a minute") from None


def unfinished(run: str) -> list[str]:
    """Ids of a run's jobs that wait, run or are just being ended.

    Raises:
        RuntimeError: Slurm does not answer.
    """
    return _call("squeue", "--noheader", "--array", "--format=%i", f"--name={run}").split()


def note_run(note: Path, run: str) -> None:
    """Write down the name under which this process submits jobs, and below it which process this is."""
    with atomic_file(note) as temporary:
        temporary.write_text(f"{run}\n{Process.this()}\n")


def end_lost_run(note: Path, patience_s: float, *, guarded: bool, say: Callable[[str], None]) -> list[str]:
    """Cancel the jobs of the run that ``note`` names and wait until none is left; returns their ids.

    Only of a run that is surely lost: its main process was on this machine and is gone, and this run holds the lock
    (``guarded``). Elsewhere it may live, for all that this machine can see.

    Raises:
        RuntimeError: the run lives, or may live and has jobs; Slurm does not answer; or jobs are still there after
            ``patience_s``; says what to do.
    """
    run, *owner = note.read_text().splitlines() if note.is_file() else [""]
    if not run:
        return []
    process = Process.parse(owner[0]) if owner else None
    gone = process.is_gone() if process is not None else None
    where = f"on {process.host}" if process is not None else "nobody knows where"
    if gone is False and process is not None:
        raise RuntimeError(f"another run is under way in this folder (process {process.pid}); wait for it")
    hint = f"see `squeue --name={run}`; if none of its jobs can be left, remove {note}"
    if shutil.which("squeue") is None:
        raise RuntimeError(f"the last run here used Slurm, whose commands are not on this machine: {hint}")
    found = unfinished(run)
    if found and not (gone and guarded):
        raise RuntimeError(
            f"jobs of another run are under way in this folder ({len(found)} in Slurm's queue), which was started "
            f"{where}: wait for it. If its main process is gone, end them with `scancel --name={run}` and start again"
        )
    if found:
        _call("scancel", f"--name={run}")
        deadline = time.monotonic() + patience_s
        while unfinished(run):
            if time.monotonic() > deadline:
                raise RuntimeError(f"jobs of a run whose main process is gone do not end: {hint}")
            time.sleep(1)
        say(f"cancelled {len(found)} jobs of a run whose main process is gone: {' '.join(found)}")
    elif gone is None:
        say(
            f"the last run here, started {where}, came to no good end and has no jobs left; it is taken for lost. "
            "If it lives, stop this one"
        )
    note.unlink()
    return found


PLUGIN = "snakemake_executor_plugin_slurm"
# States of jobs that have ended, as squeue and sacct call them.
ENDED = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    ]
)
# State of each job, and seconds that the answer took; None for both where there was none.
Answer = tuple[dict[str, str] | None, float | None]


class StatusWatch:
    """The status query of Snakemake's Slurm plugin, with answers that miss no end of a job.

    By itself the plugin forgets all its jobs when Slurm is silent for a while, and waits for ever for one that was
    preempted or that the controller has forgotten (`MinJobAge`). Here

    - what was silent is asked again later (see ``watch_jobs``);
    - tasks of an array are told apart, by sacct as well;
    - PREEMPTED is FAILED, unless Slurm requeues;
    - `CANCELLED by 1000`, as sacct has it, is CANCELLED;
    - of a job that squeue does not list, sacct is asked, or the other way round; one that neither knows has FAILED
      after ``patience_s``. One that sacct calls running is left alone, or two might write to one file; a warning says
      so.
    """

    def __init__(self, ask: Callable[[str, Any], Awaitable[Answer]], patience_s: float = 300) -> None:
        self._ask, self._patience_s = ask, patience_s
        self.run = ""
        self.expected: frozenset[str] = frozenset()
        self.requeues = False
        self.answered = True
        self._silent_since: float | None = None
        self._missing_since: dict[str, float] = {}
        self._warned: set[str] = set()

    async def query(self, command: str, logger: logging.Logger) -> Answer:
        """Stands in for the plugin's ``query_job_status``."""
        by_squeue = Path(command.split()[0]).name == "squeue"
        if by_squeue:  # else the waiting tasks of an array are one line
            command += " --array"
        else:
            # A raw id is a number of its own for each task, and for one of them the array's. Waiting tasks are one
            # line, as sacct of Slurm 22.05 has no `--array`: the queue is asked about them.
            command = command.replace("--format=JobIdRaw,", "--format=JobID,")
        states, seconds = await self._ask(command, logger)
        self.answered = states is not None
        self._say_silence(command, logger)
        if states is None:
            return None, None
        # Of nothing but our jobs: for a task that is not listed the plugin would take the state of its array.
        states = {job: (states[job].split() or [""])[0] for job in self.expected & states.keys()}
        missing = self.expected - states.keys()
        if missing and not by_squeue:
            queued = _ask_squeue(self.run)
            # A silent controller forgets nothing: the time runs while both answer.
            missing = missing if queued is not None else frozenset()
            states |= {job: state for job, state in (queued or {}).items() if job in missing}
            missing -= states.keys()
        states |= self._of_missing(missing, logger)
        if not self.requeues:
            for job in sorted(self.expected):
                if states.get(job) == "PREEMPTED":
                    logger.warning(f"foley: Slurm job {job} was preempted: it counts as failed")
                    states[job] = "FAILED"
        return states, seconds

    def _say_silence(self, command: str, logger: logging.Logger) -> None:
        now = time.monotonic()
        if self.answered and self._silent_since is not None:
            logger.warning(f"foley: Slurm answers again, after {now - self._silent_since:.0f} s")
            self._silent_since = None
        elif not self.answered and self._silent_since is None:
            logger.warning(
                f"foley: Slurm does not answer (`{command.split()[0]}`): asked again until it does"
            )
            self._silent_since = now

    def _of_missing(self, missing: Iterable[str], logger: logging.Logger) -> dict[str, str]:
        """States of jobs that squeue does not list; none for those of which it is too early to say."""
        now = time.monotonic()
        self._missing_since = {job: self._missing_since.get(job, now) for job in sorted(missing)}
        if not self._missing_since:
            return {}
        kept = _ask_sacct(self._missing_since)
        found: dict[str, str] = {}
        for job, since in self._missing_since.items():
            state = kept.get(job)
            if state in ENDED:
                found[job] = state
            elif now - since < self._patience_s:
                continue
            elif state is None:
                logger.warning(f"foley: neither squeue nor sacct knows Slurm job {job}: it counts as failed")
                found[job] = "FAILED"
            elif job not in self._warned:
                logger.warning(
                    f"foley: Slurm job {job} is not in the queue, and the accounting has it as {state}: waiting for "
                    f"it. If it is gone: `scancel {job}`, or have the cluster looked at (`sacctmgr show runawayjobs`)"
                )
                self._warned.add(job)
        return found


def _ask_squeue(run: str) -> dict[str, str] | None:
    """State of each of a run's jobs that the controller knows; None where it does not answer."""
    try:
        listed = _call("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--name={run}")
    except (RuntimeError, OSError):
        return None
    return {job: state for job, _, state in (line.partition("|") for line in listed.splitlines()) if state}


def _ask_sacct(jobs: Iterable[str]) -> dict[str, str]:
    """State of each job that the accounting knows."""
    if shutil.which("sacct") is None:
        return {}
    try:
        listed = _call("sacct", "-X", "-n", "-P", "--format=JobID,State", f"--jobs={','.join(jobs)}")
    except RuntimeError:
        return {}
    rows = [line.split("|") for line in listed.splitlines() if "|" in line]
    return {job: state.split()[0] for job, state, *_ in rows if state}


# What sbatch says that has not reached the controller, or not heard its answer; then the job may be in the queue.
UNHEARD = re.compile(
    "Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted|backup controller in standby"
    "|Communication (connection|shutdown) failure|Message (send|receive) failure|temporarily unable to accept"
    "|Connection (refused|timed out|reset)|Transport endpoint is not connected",
    re.IGNORECASE,
)


class Submissions:
    """Submissions of Snakemake's Slurm plugin, which outlive a silent controller and leave no job behind.

    By itself the plugin reports every sbatch that failed as a failed job, so that all retries go in a minute; and what
    Slurm took though sbatch heard nothing of it runs beside its second submission, two writers to one file. Here

    - sbatch is tried again for ``patience_s``, which costs no retry;
    - before that squeue is asked whether Slurm took the job, and then its number is the answer;
    - what came through after the patience was over is ended before the next submission of that name.
    """

    def __init__(self, patience_s: float = 600, pause_s: float = 5) -> None:
        self._patience_s, self._pause_s = patience_s, pause_s
        self.logger = logging.getLogger("snakemake")
        self._known: set[str] = set()  # numbers of which the plugin has heard
        # Jobs are told by their comments, which several may share: one of each at a time.
        self._locks: dict[str, threading.Lock] = {}
        # Comments of submissions of which nobody knows whether Slurm took them.
        self._unsure: set[str] = set()
        self._silent = False
        self._ending = threading.Event()

    def end(self) -> None:
        """Submit nothing more, and wait for no silent controller."""
        self._ending.set()

    def submit(self, call: str, text: str | None) -> tuple[int, str, str]:
        """Run the plugin's shell command ``call`` with ``text`` to read; returns its exit status, stdout and stderr."""
        words = shlex.split(call.partition(" --wrap=")[0])
        name, comment = (words[words.index(option) + 1] for option in ("--job-name", "--comment"))
        clusters = words[words.index("--clusters") + 1] if "--clusters" in words else None
        query = _Unclaimed(name, comment, clusters, self._known)
        with self._locks.setdefault(comment, threading.Lock()):
            return self._submit(call, text, query)

    def _submit(self, call: str, text: str | None, query: _Unclaimed) -> tuple[int, str, str]:
        deadline, pause = time.monotonic() + self._patience_s, self._pause_s
        ours = False  # whether what is in the queue unclaimed can only be of this call
        failed = 1, "", "squeue does not say what became of an earlier submission of this job"
        while not self._ending.is_set():
            found: list[str] | None = []
            if query.comment in self._unsure:
                found = query.ask(ended=True) if ours else self._end_stale(query)
            if found and ours:
                first, *twins = found
                self._known.update(found)
                self._unsure.discard(query.comment)
                self._say_heard()
                self.logger.warning(f"foley: Slurm had taken job {first}, though sbatch heard no answer")
                query.cancel(twins)
                return 0, first, ""
            if found == []:
                done = subprocess.run(
                    call, shell=True, text=True, input=text or "", capture_output=True, check=False
                )
                failed = done.returncode, done.stdout, done.stderr
                if done.returncode == 0:
                    self._known.update(re.findall(r"\d+", done.stdout))
                    self._say_heard()
                    self._end_twins(query)
                    return failed
                if not UNHEARD.search(done.stderr):
                    return failed
                self._unsure.add(query.comment)
                ours = True
            if not found:
                self._say_silence(failed[2])
            if time.monotonic() > deadline:
                return failed
            self._ending.wait(pause)
            pause = min(2 * pause, 12 * self._pause_s)
        return 1, "", f"not submitted, as the run is being ended ({failed[2].strip()})"

    def _end_stale(self, query: _Unclaimed) -> list[str] | None:
        """End what came through of an earlier call, whose job is tried again or has failed: what is left of it."""
        left = query.ask(ended=False)
        if left:
            self.logger.warning(f"foley: ends {' '.join(left)}, of which nobody knew that Slurm took it")
            query.cancel(left)
        elif left == []:
            past = query.ask(ended=True)
            if past is None:
                return None
            self._known.update(past)
            self._unsure.discard(query.comment)
        return left

    def _end_twins(self, query: _Unclaimed) -> None:
        """End an earlier try of this call that came through only after squeue was asked."""
        if query.comment in self._unsure:
            twins = query.ask(ended=False)
            if twins is not None and query.cancel(twins):
                self._known.update(twins)
                self._unsure.discard(query.comment)

    def _say_silence(self, error: str) -> None:
        if not self._silent:
            said = (error.strip().splitlines() or ["no answer"])[-1]
            self.logger.warning(
                f"foley: Slurm takes no jobs ({said}): tried again, each for {self._patience_s / 60:.0f} minutes"
            )
        self._silent = True

    def _say_heard(self) -> None:
        if self._silent:
            self.logger.warning("foley: Slurm takes jobs again")
        self._silent = False


class _Unclaimed:
    """Jobs in the queue of one run and one comment, of whose numbers the plugin has not heard."""

    def __init__(self, run: str, comment: str, clusters: str | None, known: set[str]) -> None:
        self.comment = comment
        self._run, self._known = run, known
        self._where = [f"--clusters={clusters}"] if clusters else []

    def ask(self, *, ended: bool) -> list[str] | None:
        """Their numbers, those of ``ended`` ones too; None where Slurm does not answer."""
        states = ["--states=all"] if ended else []
        try:
            # %F: of an array, the number that sbatch tells.
            listed = _call(
                "squeue", "--noheader", "--format=%F|%k", f"--name={self._run}", *states, *self._where
            )
        except (RuntimeError, OSError):
            return None
        rows = [line.strip().partition("|") for line in listed.splitlines()]
        found = dict.fromkeys(job for job, _, comment in rows if comment == self.comment)
        return [job for job in found if job not in self._known]

    def cancel(self, jobs: list[str]) -> bool:
        """Whether Slurm was told; those that are still being ended are unclaimed until they are gone."""
        try:
            if jobs:
                _call("scancel", *self._where, *jobs)
        except (RuntimeError, OSError):
            return False
        return True


class _Sbatch:
    """What the plugin uses of a ``subprocess.Popen`` of sbatch."""

    def __init__(self, submissions: Submissions, call: str) -> None:
        self._submissions, self._call = submissions, call
        self.returncode: int | None = None

    def communicate(self, input: str | None = None) -> tuple[str, str]:
        self.returncode, out, err = self._submissions.submit(self._call, input)
        return out, err


class _Subprocess:
    """Stands in for the plugin's ``subprocess``, which starts nothing by ``Popen`` but sbatch."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, call: Any, **options: Any) -> Any:
        if isinstance(call, str) and call.startswith("sbatch "):
            return _Sbatch(self._submissions, call)
        return subprocess.Popen(call, **options)


class _Accounts:
    """The plugin's check of an account, once: it asks before each job, and fails the job if nobody answers."""

    def __init__(self, check: Callable[[str, Any], Any]) -> None:
        self._check = check
        self._checked: dict[str, Any] = {}

    def __call__(self, account: str, logger: Any) -> Any:
        if account not in self._checked:
            self._checked[account] = self._check(account, logger)
        return self._checked[account]


class _Excluded(set[str]):
    """Nodes that no job goes to: those that the user named, and no more.

    The plugin would add each node that failed, for the rest of the run; where it is the only one with a GPU, every
    further submission is refused. Slurm itself sends nothing to a node that is down.
    """

    def add(self, node: str) -> None:
        logging.getLogger("snakemake").warning(
            f"foley: {node} failed; it is not excluded, as Slurm sends no job to a node that is down"
        )


def end_all(executor: Any, submissions: Submissions, patience_s: float) -> None:
    """Submit nothing more, and cancel what is in the queue of a run, whether the plugin knows of it or not."""
    submissions.end()
    # What was never submitted is dropped; what is being submitted comes to its end.
    executor._job_submission_executor.shutdown(wait=True, cancel_futures=True)
    run = executor.run_uuid
    where = ["--clusters=all"] if executor._submitted_job_clusters else []
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if where or unfinished(run):
                _call("scancel", f"--name={run}", *where)
            return
        except (RuntimeError, OSError) as error:
            if time.monotonic() > deadline:
                executor.logger.warning(
                    f"foley: Slurm was not told to cancel what may be left of this run ({error}): "
                    f"`scancel --name={run}`; the next start here does it, too"
                )
                return
            time.sleep(1)


def watch_jobs(
    plugin: ModuleType, note: Path, *, submissions: Submissions | None = None, patience_s: float = 60
) -> None:
    """Let the Slurm plugin ask by a ``StatusWatch`` and submit by ``Submissions``; note its run before its first job.

    It keeps its jobs while Slurm does not answer, and cancels all that it leaves; being interrupted, it tries to for
    ``patience_s``.

    Raises:
        RuntimeError: the plugin is another than the one that this was written for.
    """
    changed = f"{PLUGIN} has changed ({{}}): install the version in constraints.txt"
    try:
        executor_class = plugin.Executor
        check, query, run_jobs = (
            executor_class.check_active_jobs,
            plugin.query_job_status,
            executor_class.run_jobs,
        )
        shutdown = executor_class.shutdown
        validate = plugin.validate_account
        plugin.subprocess.Popen  # noqa: B018
    except AttributeError as error:
        raise RuntimeError(changed.format(error)) from None
    watch = StatusWatch(query)
    submit = submissions or Submissions()

    def note_and_run(executor: Any, jobs: list[Any]) -> None:
        if not watch.run:
            try:
                run, excluded = executor.run_uuid, _Excluded(executor._failed_nodes)
            except AttributeError as error:
                raise RuntimeError(changed.format(error)) from None
            note_run(note, run)
            watch.run, submit.logger, executor._failed_nodes = run, executor.logger, excluded
        run_jobs(executor, jobs)

    async def check_all(executor: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        watch.expected = frozenset(job.external_jobid for job in active_jobs)
        watch.requeues = bool(executor.workflow.executor_settings.requeue)
        watch.answered = True
        async for job in check(executor, active_jobs):
            yield job
        if not watch.answered:  # by the last query the plugin goes, and then it gives none back
            for job in active_jobs:
                yield job

    def shut_down(executor: Any) -> None:
        if watch.run and not executor.workflow.remote_execution_settings.immediate_submit:
            end_all(executor, submit, 0)
        shutdown(executor)

    def cancel(executor: Any) -> None:
        if watch.run:
            end_all(executor, submit, patience_s)
        shutdown(executor)

    plugin.query_job_status = watch.query  # type: ignore[attr-defined]
    plugin.subprocess = _Subprocess(submit)  # type: ignore[attr-defined]
    plugin.validate_account = _Accounts(validate)  # type: ignore[attr-defined]
    executor_class.run_jobs, executor_class.check_active_jobs = note_and_run, check_all
    executor_class.shutdown, executor_class.cancel = shut_down, cancel
