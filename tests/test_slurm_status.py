"""What the plugin by itself would miss of a run's jobs on Slurm: with the plugin as it is, and commands of our own.

What a real cluster does is tested in tests/slurm.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from foley.runtime import slurm
from foley.runtime.identity import Process

# Each prints a file of its name, or fails where there is none. squeue lists waiting tasks of an array as one, unless
# told otherwise, sacct always. A line of sacct's file may have a third entry, the raw id, which it gives when asked
# for that.
SQUEUE = """#!/bin/sh
echo "$*" >> asked-squeue
case "$*" in *%F*)
    [ -e comments ] || { echo "Unable to contact slurm controller" >&2; exit 1; }
    # A job whose line says COMPLETED is listed with --states=all only.
    case "$*" in *--states=all*) sed 's/|COMPLETED$//' comments;; *) grep -v 'COMPLETED$' comments;; esac
    exit 0;;
esac
case "$*" in *--array*) name=squeue.array;; *) name=squeue;; esac
[ -e $name ] || name=squeue
cat $name 2>/dev/null || { echo "Unable to contact slurm controller" >&2; exit 1; }
"""
SACCT = """#!/bin/sh
echo "$*" >> asked
# As in Slurm 22.05.
case "$*" in *--array*) echo "sacct: unrecognized option '--array'" >&2; exit 1;; esac
[ -e sacct ] || { echo "Slurm accounting storage is disabled" >&2; exit 1; }
case "$*" in *--format=JobIdRaw*) raw=1;; *) raw=0;; esac
awk -F'|' -v OFS='|' -v raw=$raw 'NF { print (raw && NF > 2 ? $3 : $1), $2 }' sacct
"""
# Each call is a line of `submitted`, and what comes of it the next line of `sbatch`: a number, or what went wrong.
# A number after `lost:` is that of a job that Slurm took, though its answer was lost; after `late:`, of one that it
# takes at last, with the next, 18.
SBATCH = """#!/bin/sh
echo "$*" >> submitted
read -r said < sbatch
sed -i 1d sbatch
while [ -e hold ]; do sleep 0.02; done
case "$said" in
    lost:*)
        echo "${said#lost:}|rule_shard_wildcards_0" >> comments
        echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2;;
    late:*) echo "${said#late:}|rule_shard_wildcards_0" >> comments; echo 18; exit 0;;
    [0-9]*) echo "$said"; exit 0;;
    *) echo "sbatch: error: Batch job submission failed: $said" >&2;;
esac
exit 1
"""
SCANCEL = """#!/bin/sh
[ ! -e silent ] || { echo "Unable to contact slurm controller" >&2; exit 1; }
echo "$*" >> cancelled
for one; do [ ! -e comments ] || sed -i "/^$one|/d" comments; done
case "$*" in *--name*) : > squeue;; esac
"""
SACCTMGR = """#!/bin/sh
[ ! -e silent ] && echo lab
"""
SCONTROL = """#!/bin/sh
echo "MinJobAge               = 300 sec"
"""


class Queue:
    """A run's jobs as the plugin sees them."""

    def __init__(self, folder: Path, plugin: ModuleType, **settings: Any) -> None:
        self.folder = folder
        self.ended: dict[str, str] = {}
        executor = object.__new__(plugin.Executor)
        executor.workflow = SimpleNamespace(
            executor_settings=SimpleNamespace(
                status_command="squeue", status_attempts=2, init_seconds_before_status_checks=1,
                requeue=False, no_requeue=True, keep_successful_logs=True, exclude_failed_nodes=None, qos=None,
                reservation=None, pass_command_as_script=False, delete_logfiles_older_than=0,
                efficiency_report=False, disable_memory_fudge=True, **settings,
            ),
            remote_execution_settings=SimpleNamespace(immediate_submit=False),
            workdir_init=str(folder),
        )  # fmt: skip
        executor.logger = logging.getLogger("snakemake")
        executor.run_uuid = "run-1"
        executor.status_rate_limiter = AlwaysNow()
        executor._next_seconds_between_status_checks = 1
        executor._preemption_warning = False
        executor._failed_nodes = set()
        executor._status_query_calls = executor._status_query_failures = 0
        executor._status_query_total_seconds = executor._status_query_max_seconds = 0.0
        executor._status_query_min_seconds = None
        executor._status_query_cycle_rows = []
        executor.report_job_success = lambda job: self.ended.update({job.external_jobid: "good"})
        executor.report_job_error = lambda job, **_: self.ended.update({job.external_jobid: "bad"})
        executor.report_job_submission = lambda job: self.submitted.append(job.external_jobid)
        executor.get_account_arg = lambda job: iter([" -A lab"])
        executor.format_job_exec = lambda job: f'snakemake "{job.name}"'
        executor.printjob = lambda job: None
        executor.slurm_logdir = folder / "logs"
        executor.array_jobs = set()
        executor._partitions = executor._main_event_loop = None
        executor._submitted_job_clusters = set()
        executor._job_submission_executor = ThreadPoolExecutor(2)
        executor.active_jobs, executor.lock, executor.wait = [], threading.Lock(), True
        executor.wait_thread = threading.Thread(target=lambda: None)
        executor.wait_thread.start()
        executor._tmpdir = str(folder / "jobscripts")
        self.submitted: list[str | None] = []
        self.executor = executor

    def submit(self, *jobs: SimpleNamespace) -> None:
        self.executor.run_jobs(list(jobs))

    def finish(self) -> None:
        """Wait for all submissions."""
        self.executor._job_submission_executor.shutdown(wait=True)
        self.executor._job_submission_executor = ThreadPoolExecutor(2)

    def calls(self, command: str) -> list[str]:
        """What a command was called with."""
        path = self.folder / command
        return path.read_text().splitlines() if path.exists() else []

    def says(self, command: str, *lines: str) -> None:
        (self.folder / command).write_text("".join(f"{line}\n" for line in lines))

    def check(self, *jobs: str) -> tuple[list[str], dict[str, str]]:
        """One look at the jobs: those that are still tracked, and how the others ended."""
        self.ended.clear()
        active = [SimpleNamespace(external_jobid=job, aux={}) for job in jobs]

        async def look() -> list[str]:
            return [job.external_jobid async for job in self.executor.check_active_jobs(active)]

        return asyncio.run(look()), dict(self.ended)


class Resources(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def job(shard: int = 0) -> SimpleNamespace:
    resources = Resources(slurm_partition="cpu", mem_mb=1000, runtime=10)
    return SimpleNamespace(
        name="shard", rule=SimpleNamespace(name="shard"), jobid=shard, wildcards=[str(shard)], threads=1,
        resources=resources, is_group=lambda: False,
    )  # fmt: skip


class AlwaysNow(nullcontext):  # type: ignore[type-arg]
    """No limit to the rate of queries."""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    plugin = pytest.importorskip(slurm.PLUGIN, reason="needs `make install-cluster`")
    # Undone at the end of the test.
    monkeypatch.setattr(plugin, "query_job_status", plugin.query_job_status)
    monkeypatch.setattr(plugin, "subprocess", plugin.subprocess)
    monkeypatch.setattr(plugin, "validate_account", plugin.validate_account)
    for method in ("check_active_jobs", "run_jobs", "shutdown", "cancel"):
        monkeypatch.setattr(plugin.Executor, method, getattr(plugin.Executor, method))
    (tmp_path / "bin").mkdir()
    commands = {"squeue": SQUEUE, "sacct": SACCT, "scontrol": SCONTROL, "sbatch": SBATCH, "scancel": SCANCEL}
    commands |= {"sacctmgr": SACCTMGR, "sshare": SACCTMGR}
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    slurm.watch_jobs(
        plugin, tmp_path / "note", submissions=slurm.Submissions(patience_s=1.5, pause_s=0.02), patience_s=0.2
    )
    return Queue(tmp_path, plugin)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that our own code sees pass."""
    now = [0.0]
    monkeypatch.setattr(slurm, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_jobs_end_as_the_queue_says(queue: Queue) -> None:
    queue.says("squeue", "1|RUNNING", "2|COMPLETED", "3|TIMEOUT", "4|PENDING", "5|NODE_FAIL")
    queue.says("sacct", "")
    assert queue.check("1", "2", "3", "4", "5") == (["1", "4"], {"2": "good", "3": "bad", "5": "bad"})


def test_jobs_are_kept_while_slurm_is_silent(
    queue: Queue, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert queue.check("1", "2") == (["1", "2"], {})
        clock[0] += 60
    queue.says("squeue", "1|RUNNING", "2|COMPLETED")
    assert queue.check("1", "2") == (["1"], {"2": "good"})
    assert caplog.text.count("Slurm does not answer (`squeue`)") == 1
    assert caplog.text.count("Slurm answers again, after 180 s") == 1


def test_preempted_jobs_have_failed(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.says("squeue", "1|PREEMPTED", "2|PREEMPTED", "3|RUNNING")
    assert queue.check("1", "2", "3") == (["3"], {"1": "bad", "2": "bad"})
    assert caplog.text.count("was preempted: it counts as failed") == 2


def test_preempted_jobs_are_left_to_a_slurm_that_requeues(queue: Queue) -> None:
    queue.executor.workflow.executor_settings.requeue = True
    queue.says("squeue", "1|PREEMPTED")
    assert queue.check("1") == (["1"], {})


def test_sacct_is_asked_for_forgotten_jobs(queue: Queue) -> None:
    queue.says("squeue", "1|RUNNING")
    queue.says("sacct", "2|COMPLETED", "3|CANCELLED by 1000", "4_7|OUT_OF_MEMORY")
    assert queue.check("1", "2", "3", "4_7") == (["1"], {"2": "good", "3": "bad", "4_7": "bad"})
    assert (queue.folder / "asked").read_text().splitlines() == [
        "-X -n -P --format=JobID,State --jobs=2,3,4_7"
    ]


def test_jobs_that_nobody_knows_have_failed_after_a_while(
    queue: Queue, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """They were seen, or were forgotten before that: no matter; nor whether there is an accounting."""
    queue.says("squeue", "1|RUNNING", "2|RUNNING")
    assert queue.check("1", "2") == (["1", "2"], {})
    queue.says("squeue", "1|RUNNING")
    for spent in (0, 299):
        clock[0] = spent
        assert queue.check("1", "2", "3") == (["1", "2", "3"], {})
    clock[0] = 301
    assert queue.check("1", "2", "3") == (["1"], {"2": "bad", "3": "bad"})
    assert "neither squeue nor sacct knows Slurm job 2" in caplog.text


def test_a_job_that_shows_again_was_not_forgotten(queue: Queue, clock: list[float]) -> None:
    queue.says("squeue", "")
    assert queue.check("1") == (["1"], {})
    queue.says("squeue", "1|RUNNING")
    clock[0] = 200
    assert queue.check("1") == (["1"], {})
    queue.says("squeue", "")
    clock[0] = 400
    assert queue.check("1") == (["1"], {})


def test_a_job_that_the_accounting_calls_running_is_never_run_beside(
    queue: Queue, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    queue.says("squeue", "")
    queue.says("sacct", "1|RUNNING")
    for spent in (0, 400, 8000):
        clock[0] = spent
        assert queue.check("1") == (["1"], {})
    assert caplog.text.count("the accounting has it as RUNNING") == 1


def test_waiting_tasks_of_an_array_are_not_forgotten(queue: Queue, clock: list[float]) -> None:
    queue.says("squeue", "4_1|RUNNING", "4_[2-3%2]|PENDING")
    queue.says("squeue.array", "4_1|RUNNING", "4_2|PENDING", "4_3|PENDING")
    for spent in (0, 400):
        clock[0] = spent
        assert queue.check("4_1", "4_2", "4_3") == (["4_1", "4_2", "4_3"], {})


def test_sacct_as_the_status_command(
    queue: Queue, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """The plugin asks it by itself where the controller soon forgets."""
    queue.executor.workflow.executor_settings.status_command = "sacct"
    queue.says("sacct", "1|RUNNING", "2|CANCELLED by 1000", "3|PREEMPTED")
    queue.says("squeue", "1|RUNNING")
    for spent, known in ((0, ["1", "4"]), (299, ["1", "4"]), (301, ["1"])):
        clock[0] = spent
        ended = {job: "bad" for job in "234" if job not in known}
        assert queue.check("1", "2", "3", "4") == (known, ended)
    assert "neither squeue nor sacct knows Slurm job 4" in caplog.text


def test_what_sacct_does_not_list_the_queue_may_know(queue: Queue, clock: list[float]) -> None:
    """The accounting may be late; and a silent controller forgets nothing."""
    queue.executor.workflow.executor_settings.status_command = "sacct"
    queue.says("sacct", "1|RUNNING")
    queue.says("squeue", "1|RUNNING", "2|PENDING", "3|COMPLETED")
    for spent in (0, 400):
        clock[0] = spent
        assert queue.check("1", "2", "3") == (["1", "2"], {"3": "good"})
    (queue.folder / "squeue").unlink()
    for spent in (500, 900):
        clock[0] = spent
        assert queue.check("1", "2") == (["1", "2"], {})
    queue.says("squeue", "1|RUNNING")
    clock[0] = 1000
    assert queue.check("1", "2") == (["1", "2"], {})
    clock[0] = 1301
    assert queue.check("1", "2") == (["1"], {"2": "bad"})


def test_tasks_of_an_array_are_told_apart_by_sacct(queue: Queue) -> None:
    """The array's own number is the raw id of one task: its end is not that of the others."""
    queue.executor.workflow.executor_settings.status_command = "sacct"
    queue.says("sacct", "4_1|COMPLETED|5", "4_2|RUNNING|6", "4_3|COMPLETED|4", "4_[4-5]|PENDING|7")
    queue.says("squeue", "4_2|RUNNING", "4_4|PENDING", "4_5|PENDING")
    tasks = [f"4_{task}" for task in range(1, 6)]
    assert queue.check(*tasks) == (["4_2", "4_4", "4_5"], {"4_1": "good", "4_3": "good"})
    assert "--noheader --format=JobID,State" in queue.calls("asked")[0]
    # Nor is anything said of a task that is not listed yet.
    queue.says("sacct", "4|COMPLETED")
    assert queue.check("4_2") == (["4_2"], {})


def test_a_silent_controller_costs_no_retry(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.says("comments")
    silence = ["Unable to contact slurm controller (connect failure)"] * 3
    queue.says("sbatch", *silence, "17", "18")
    queue.submit(job())
    queue.finish()
    assert (queue.submitted, queue.ended) == (["17"], {})
    assert len(queue.calls("submitted")) == 4
    assert caplog.text.count("Slurm takes no jobs") == caplog.text.count("Slurm takes jobs again") == 1
    queue.submit(job(1))
    queue.finish()
    assert queue.submitted == ["17", "18"]


def test_a_job_that_slurm_took_unheard_is_not_submitted_again(queue: Queue) -> None:
    queue.says("comments", "9|rule_shard_wildcards_1", "8|rule_shard")
    queue.says("sbatch", "lost:17", "18")
    queue.submit(job())
    queue.finish()
    assert (queue.submitted, queue.ended) == (["17"], {})
    assert len(queue.calls("submitted")) == 1
    # Its number is known now: another job of that comment is another.
    queue.submit(job())
    queue.finish()
    assert queue.submitted == ["17", "18"]
    assert "--name=run-1 --states=all" in queue.calls("asked-squeue")[0]


def test_nothing_is_submitted_again_while_the_queue_does_not_answer(queue: Queue) -> None:
    """Slurm may have taken the job: it waits, fails, and what came through is ended before the next attempt."""
    queue.says("sbatch", "Socket timed out on send/recv operation", "18")
    queue.submit(job())
    queue.finish()
    assert (queue.submitted, queue.ended) == ([], {None: "bad"})
    assert len(queue.calls("submitted")) == 1
    queue.says("comments", "17|rule_shard_wildcards_0")
    queue.submit(job())
    queue.finish()
    assert queue.submitted == ["18"]
    assert queue.calls("cancelled") == ["17"]


def test_what_was_ended_is_taken_for_no_later_submission(queue: Queue) -> None:
    """Slurm lists it for a while: 17, of a submission that was given up, has ended when its job is submitted again."""
    queue.says("sbatch", "Socket timed out on send/recv operation", "lost:18", "19")
    queue.submit(job())
    queue.finish()
    assert queue.ended == {None: "bad"}
    queue.says("comments", "17|rule_shard_wildcards_0|COMPLETED")
    queue.submit(job())
    queue.finish()
    assert queue.submitted == ["18"]
    assert queue.calls("cancelled") == []


def test_the_account_is_checked_once(queue: Queue) -> None:
    """A silent accounting costs no retry either."""
    del queue.executor.get_account_arg
    queue.says("sbatch", "17", "18")
    with_account = [job(), job(1)]
    for one in with_account:
        one.resources["slurm_account"] = "lab"
    queue.submit(with_account[0])
    queue.finish()
    (queue.folder / "silent").touch()
    queue.submit(with_account[1])
    queue.finish()
    assert queue.submitted == ["17", "18"]
    assert [" -A lab " in call for call in queue.calls("submitted")] == [True, True]


def test_what_slurm_takes_late_is_ended(queue: Queue) -> None:
    """It was not in the queue yet when that was asked."""
    queue.says("comments")
    queue.says("sbatch", "Socket timed out on send/recv operation", "late:17")
    queue.submit(job())
    queue.finish()
    assert queue.submitted == ["18"]
    assert queue.calls("cancelled") == ["17"]


def test_an_array_that_slurm_took_unheard(queue: Queue) -> None:
    queue.executor.array_jobs, queue.executor.max_array_size = {"shard"}, 100
    queue.says("comments")
    queue.says("sbatch", "lost:17")
    queue.submit(job(), job(1))
    queue.finish()
    assert (queue.submitted, queue.ended) == (["17_1", "17_2"], {})
    assert len(queue.calls("submitted")) == 1


def test_what_slurm_refuses_fails_at_once(queue: Queue) -> None:
    queue.says("sbatch", "Invalid account or account/partition combination specified")
    queue.submit(job())
    queue.finish()
    assert (queue.submitted, queue.ended) == ([], {None: "bad"})
    assert len(queue.calls("submitted")) == 1


def test_an_interrupted_run_leaves_no_job(queue: Queue) -> None:
    """Neither those of which the plugin knows nothing just then, nor those that it had yet to submit."""
    queue.says("squeue", "1|RUNNING")
    queue.says("sbatch", *map(str, range(10, 20)))
    (queue.folder / "hold").touch()
    queue.submit(*(job(shard) for shard in range(8)))
    deadline = time.monotonic() + 20
    while len(queue.calls("submitted")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    threading.Timer(0.3, (queue.folder / "hold").unlink).start()
    queue.executor.cancel()
    assert len(queue.calls("submitted")) == 2
    assert queue.calls("cancelled") == ["--name=run-1"]
    assert queue.executor.wait is False


def test_an_interrupted_run_waits_for_no_silent_controller(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.says("sbatch", *["Unable to contact slurm controller (connect failure)"] * 50)
    (queue.folder / "silent").touch()
    queue.submit(job())
    queue.executor.cancel()
    assert "`scancel --name=run-1`; the next start here does it, too" in caplog.text
    assert queue.executor.wait is False


def test_a_run_that_ends_cancels_what_it_lost_sight_of(queue: Queue) -> None:
    queue.says("squeue")
    queue.says("sbatch", "17", "18")
    queue.submit(job())
    queue.finish()
    queue.says("squeue", "17|RUNNING")
    queue.executor.shutdown()
    assert queue.calls("cancelled") == ["--name=run-1"]


def test_a_node_that_failed_is_not_excluded(queue: Queue) -> None:
    """It may be the only one with a GPU; those that the user named stay out."""
    queue.executor._failed_nodes = {"n9"}
    queue.says("sbatch", "17", "18")
    queue.submit(job())
    queue.finish()
    queue.says("squeue", "17|NODE_FAIL")
    queue.says("sacct", "n1")
    assert queue.check("17") == ([], {"17": "bad"})
    queue.submit(job())
    queue.finish()
    calls = queue.calls("submitted")
    assert len(calls) == 2
    assert all("--exclude=n9 " in call and "n1" not in call for call in calls)


def test_the_run_is_noted_before_its_first_job(queue: Queue) -> None:
    """Not by a hook of Snakemake's, which `--no-hooks` leaves out."""
    assert not (queue.folder / "note").exists()
    queue.says("sbatch", "17")
    queue.submit(job())
    assert (queue.folder / "note").read_text() == f"run-1\n{Process.this()}\n"
    queue.finish()


def test_a_run_without_a_name_is_refused(queue: Queue) -> None:
    del queue.executor.run_uuid
    queue.says("sbatch", "17")
    with pytest.raises(RuntimeError, match=r"has changed .*run_uuid.*: install the version in constraints"):
        queue.submit(job())
    assert not queue.calls("submitted")


def test_another_plugin_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"has changed .*: install the version in constraints"):
        slurm.watch_jobs(ModuleType(slurm.PLUGIN), Path("note"))
