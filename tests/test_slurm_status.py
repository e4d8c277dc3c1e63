"""Ends of jobs on Slurm that the plugin by itself would miss: with the plugin as it is, and commands of our own.

What a real cluster does is tested in tests/slurm.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from foley.runtime import slurm

# Each prints a file of its name, or fails where there is none. squeue and sacct list waiting tasks of an array as one,
# unless told otherwise. A line of sacct's file may have a third entry, the raw id, which it gives when asked for that.
SQUEUE = """#!/bin/sh
case "$*" in *--array*) name=squeue.array;; *) name=squeue;; esac
[ -e $name ] || name=squeue
cat $name 2>/dev/null || { echo "Unable to contact slurm controller" >&2; exit 1; }
"""
SACCT = """#!/bin/sh
echo "$*" >> asked
case "$*" in *--array*) name=sacct.array;; *) name=sacct;; esac
[ -e $name ] || name=sacct
[ -e $name ] || { echo "Slurm accounting storage is disabled" >&2; exit 1; }
case "$*" in *--format=JobIdRaw*) raw=1;; *) raw=0;; esac
awk -F'|' -v OFS='|' -v raw=$raw 'NF { print (raw && NF > 2 ? $3 : $1), $2 }' $name
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
                requeue=False, keep_successful_logs=True, **settings,
            )
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
        self.executor = executor

    def says(self, command: str, *lines: str) -> None:
        (self.folder / command).write_text("".join(f"{line}\n" for line in lines))

    def check(self, *jobs: str) -> tuple[list[str], dict[str, str]]:
        """One look at the jobs: those that are still tracked, and how the others ended."""
        self.ended.clear()
        active = [SimpleNamespace(external_jobid=job, aux={}) for job in jobs]

        async def look() -> list[str]:
            return [job.external_jobid async for job in self.executor.check_active_jobs(active)]

        return asyncio.run(look()), dict(self.ended)


class AlwaysNow(nullcontext):  # type: ignore[type-arg]
    """No limit to the rate of queries."""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    plugin = pytest.importorskip(slurm.PLUGIN, reason="needs `make install-cluster`")
    # Undone at the end of the test.
    monkeypatch.setattr(plugin, "query_job_status", plugin.query_job_status)
    monkeypatch.setattr(plugin.Executor, "check_active_jobs", plugin.Executor.check_active_jobs)
    (tmp_path / "bin").mkdir()
    for name, text in (("squeue", SQUEUE), ("sacct", SACCT), ("scontrol", SCONTROL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    slurm.watch_jobs(plugin)
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
        "-X -n -P --array --format=JobID,State --jobs=2,3,4_7"
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


def test_sacct_as_the_status_command(queue: Queue) -> None:
    """The plugin asks it by itself where the controller soon forgets."""
    queue.executor.workflow.executor_settings.status_command = "sacct"
    queue.says("sacct", "1|RUNNING", "2|CANCELLED by 1000", "3|PREEMPTED")
    assert queue.check("1", "2", "3", "4") == (["1", "4"], {"2": "bad", "3": "bad"})


def test_tasks_of_an_array_are_told_apart_by_sacct(queue: Queue) -> None:
    """The array's own number is the raw id of one task: its end is not that of the others."""
    queue.executor.workflow.executor_settings.status_command = "sacct"
    queue.says("sacct", "4_1|COMPLETED|5", "4_2|RUNNING|6", "4_3|COMPLETED|4", "4_[4-5]|PENDING|7")
    queue.says(
        "sacct.array",
        *("4_1|COMPLETED|5", "4_2|RUNNING|6", "4_3|COMPLETED|4", "4_4|PENDING|7", "4_5|PENDING|7"),
    )
    tasks = [f"4_{task}" for task in range(1, 6)]
    assert queue.check(*tasks) == (["4_2", "4_4", "4_5"], {"4_1": "good", "4_3": "good"})
    # Nor is anything said of a task that is not listed yet.
    queue.says("sacct.array", "4|COMPLETED")
    assert queue.check("4_2") == (["4_2"], {})


def test_another_plugin_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"has changed .*: install the version in constraints"):
        slurm.watch_jobs(ModuleType(slurm.PLUGIN))
