"""The project on the cluster: runs in the background, what they say, and what the accounting says of their jobs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from cluster import Cluster
from project import Project, environment

PATIENCE_S = 900
TRAINING = "results/embeddings/dataset=soundbox/embedding=scratch/split=fold0/embeddings.parquet"


@dataclass
class ClusterRun:
    """A run of the workflow whose jobs go to the cluster."""

    process: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, ready: Callable[[], bool], what: str) -> None:
        """Return when ``ready``; the run must not end before."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            assert self.process.poll() is None, f"the run ended before {what}:\n{self.said()}"
            assert time.monotonic() < deadline, f"no {what}:\n{self.said()}"
            time.sleep(0.2)

    def succeed(self, patience_s: float = PATIENCE_S) -> str:
        try:
            status = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run has not ended after {patience_s:.0f} s:\n{self.said()}") from None
        assert status == 0, self.said()
        return self.said()

    def kill(self) -> None:
        """The main process is gone, its jobs are not told."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class ClusterProject:
    """A copy of the project that runs on the cluster."""

    project: Project
    cluster: Cluster

    @contextmanager
    def started(
        self, *targets: str, options: tuple[str, ...] = (), changes: Mapping[str, Any] | None = None
    ) -> Iterator[ClusterRun]:
        command = self.project.options(
            *("--workflow-profile", str(self.cluster.folder / "profile")),
            *(*options, "--", *targets),
            changes=changes,
        )
        log = self.project.path("run.log")
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                cwd=self.project.folder,
                env=environment() | {"PATH": self.cluster.environment()["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield ClusterRun(process, log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def run(self, *targets: str, patience_s: float = PATIENCE_S, **more: Any) -> str:
        """Run to a good end; returns what was said."""
        with self.started(*targets, **more) as run:
            return run.succeed(patience_s)

    def attempts(self, since: int) -> list[dict[str, str]]:
        """Rows of the accounting after job number ``since``, in the order of submission."""
        return [row for row in self.cluster.accounting() if int(row["JobIDRaw"]) > since]

    def last_job(self) -> int:
        return max((int(row["JobIDRaw"]) for row in self.cluster.accounting()), default=0)

    def running(self, comment: str) -> list[list[str]]:
        return [job for job in self.cluster.queue() if job[1] == "RUNNING" and comment in job[3]]


class Use(NamedTuple):
    """A job's use of a GPU, from its log and the accounting."""

    job: str
    node: str
    device: str
    start: datetime
    end: datetime


def uses_of_gpus(results: Path, rows: Iterable[dict[str, str]]) -> list[Use]:
    node_of = {row["JobIDRaw"]: row["NodeList"] for row in rows}
    found = []
    for log in results.rglob("*.log"):
        text = log.read_text()
        job = re.search(r"^(.*?) INFO foley: Slurm job (\d+);", text, re.M)
        devices = re.search(r"devices \['([\d', ]+)'\]", text)
        done = re.search(r"^(.*?) INFO foley: .* done in ", text, re.M)
        if not devices:
            continue
        assert job and done, text
        start, end = (datetime.strptime(time, "%Y-%m-%d %H:%M:%S,%f") for time in (job[1], done[1]))
        found += [Use(job[2], node_of[job[2]], device, start, end) for device in devices[1].split("', '")]
    return found


def same_tables(found: dict[str, pa.Table], expected: dict[str, pa.Table]) -> None:
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


def check_gpus(results: Path, rows: list[dict[str, str]], cluster: Cluster) -> int:
    """Jobs with GPUs, and those alone, had one each and for themselves; returns how many worked at once at most."""
    assert {row["State"] for row in rows} == {"COMPLETED"}
    with_gpu = [row for row in rows if "gres/gpu=" in row["AllocTRES"]]
    assert {row["Partition"] for row in with_gpu} == {"gpu"}
    assert {row["Partition"] for row in rows if row not in with_gpu} == {"cpu"}
    uses = uses_of_gpus(results, rows)
    assert len(uses) == len(with_gpu)
    row_of = {row["JobIDRaw"]: row for row in with_gpu}
    for use in sorted(uses, key=lambda use: use.start):
        row = row_of[use.job]
        print(
            f"job {use.job} {row['Comment']} {row['AllocTRES']} {use.node} CUDA_VISIBLE_DEVICES={use.device} "
            f"{use.start:%H:%M:%S} to {use.end:%H:%M:%S}"
        )
    for one, other in combinations(uses, 2):
        apart = one.end <= other.start or other.end <= one.start
        assert apart or (one.node, one.device) != (other.node, other.device), (one, other)
    # The accounting's seconds, and the hundredths of the jobs' own logs.
    booked = at_most([(row["Start"], row["End"]) for row in with_gpu])
    at_once = at_most([(use.start, use.end) for use in uses])
    assert at_once <= booked <= cluster.gpus
    print(f"{len(rows)} jobs of Slurm's, {len(with_gpu)} with a GPU, {booked} of {cluster.gpus} GPUs at once")
    return at_once


def at_most(spans: Sequence[tuple[Any, Any]]) -> int:
    """How many of the spans (start, end) hold at once at most; an end at the moment of a start is over."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
