"""Jobs in Slurm's queue: those that a lost run left there, and the ends of a run's own that the plugin would miss.

A main process that is killed leaves its jobs running; a new one would start the same jobs beside them, two writers
to one file. The name under which a run submits its jobs is noted in its results, and its main process, so that the
next run finds them and can tell whether the run is lost.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
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
    - of a job that squeue does not list, sacct is asked; one that it does not know either has FAILED after
      ``patience_s``. One that sacct calls running is left alone, or two might write to one file; a warning says so.
    """

    def __init__(self, ask: Callable[[str, Any], Awaitable[Answer]], patience_s: float = 300) -> None:
        self._ask, self._patience_s = ask, patience_s
        self.expected: frozenset[str] = frozenset()
        self.requeues = False
        self.answered = True
        self._silent_since: float | None = None
        self._missing_since: dict[str, float] = {}
        self._warned: set[str] = set()

    async def query(self, command: str, logger: logging.Logger) -> Answer:
        """Stands in for the plugin's ``query_job_status``."""
        by_squeue = Path(command.split()[0]).name == "squeue"
        # Else the waiting tasks of an array are one line; and a raw id of sacct's is a number of its own for each task,
        # the array's own number for one of them.
        command = command.replace("--format=JobIdRaw,", "--format=JobID,") + " --array"
        states, seconds = await self._ask(command, logger)
        self.answered = states is not None
        self._say_silence(command, logger)
        if states is None:
            return None, None
        # Of nothing but our jobs: for a task that is not listed the plugin would take the state of its array.
        states = {job: (states[job].split() or [""])[0] for job in self.expected & states.keys()}
        if by_squeue:
            states |= self._of_missing(self.expected - states.keys(), logger)
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


def _ask_sacct(jobs: Iterable[str]) -> dict[str, str]:
    """State of each job that the accounting knows."""
    if shutil.which("sacct") is None:
        return {}
    try:
        listed = _call(
            "sacct", "-X", "-n", "-P", "--array", "--format=JobID,State", f"--jobs={','.join(jobs)}"
        )
    except RuntimeError:
        return {}
    rows = [line.split("|") for line in listed.splitlines() if "|" in line]
    return {job: state.split()[0] for job, state, *_ in rows if state}


def watch_jobs(plugin: ModuleType) -> None:
    """Let the Slurm plugin ask by a ``StatusWatch``, and keep its jobs while Slurm does not answer.

    Raises:
        RuntimeError: the plugin is another than the one that this was written for.
    """
    try:
        check, query = plugin.Executor.check_active_jobs, plugin.query_job_status
    except AttributeError as error:
        raise RuntimeError(
            f"{PLUGIN} has changed ({error}): install the version in constraints.txt"
        ) from None
    watch = StatusWatch(query)

    async def check_all(executor: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        watch.expected = frozenset(job.external_jobid for job in active_jobs)
        watch.requeues = bool(executor.workflow.executor_settings.requeue)
        watch.answered = True
        async for job in check(executor, active_jobs):
            yield job
        if not watch.answered:  # by the last query the plugin goes, and then it gives none back
            for job in active_jobs:
                yield job

    plugin.query_job_status = watch.query  # type: ignore[attr-defined]
    plugin.Executor.check_active_jobs = check_all
