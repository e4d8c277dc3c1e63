"""GPUs of one box shared out among jobs and runs, with four devices that are only names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from project import REPOSITORY, environment

pytestmark = pytest.mark.workflow

JOBS = 12
PATIENCE_S = 240
DEVICES = ["0", "1", "2", "3"]
SNAKEFILE = f"""
from foley.runtime.job import announce_workflow
announce_workflow()
rule all:
    input: expand("done/{{n}}", n=range({JOBS}))
rule use:
    output: "done/{{n}}"
    log: "logs/{{n}}.log"
    resources: gpu=1
    script: "use.py"
"""
# Says when it has which device, and keeps it until the test lets go. A line is written in one piece.
USE = """
import os, time
from foley.runtime.job import run_job

def say(what):
    line = f"{what} {os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']} {time.monotonic()}\\n"
    handle = os.open(os.environ["EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)

with run_job(snakemake):
    say("start")
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.05)
# What CUDA holds goes with the process: no other job may have the device before.
time.sleep(0.2)
say("end")
open(snakemake.output[0], "w").close()
"""


class Use(NamedTuple):
    pid: int
    device: str
    start: float
    end: float


class Box:
    """A box with four devices, on which runs of twelve jobs take place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = folder / "events"
        self.events.touch()
        self.go = folder / "go"
        self.killed: dict[int, float] = {}
        self.runs: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "use.py").write_text(USE)
        variables = {
            "EVENTS": str(self.events),
            "GO": str(self.go),
            "FOLEY_GPUS": ",".join(DEVICES),
            "FOLEY_GPU_LOCKS": str(self.folder / "locks"),
            "PYTHONPATH": str(REPOSITORY / "workflow"),
            # A folder of its own for each run, as some sites give it.
            "TMPDIR": str(folder),
        }
        run = subprocess.Popen(
            [
                *(sys.executable, "-m", "snakemake", "--cores", str(JOBS), "--nolock", "--rerun-incomplete"),
                *("--keep-going", "--retries", "1", *options),
            ],
            cwd=folder,
            env=environment() | variables,
            stdout=(folder / "run.log").open("ab"),
            stderr=subprocess.STDOUT,
        )
        self.runs.append(run)
        return run

    def started(self) -> dict[int, tuple[str, float]]:
        lines = [line.split() for line in self.events.read_text().splitlines()]
        return {int(pid): (device, float(when)) for what, pid, device, when in lines if what == "start"}

    def ended(self) -> dict[int, float]:
        lines = [line.split() for line in self.events.read_text().splitlines()]
        return {int(pid): float(when) for what, pid, _, when in lines if what == "end"} | self.killed

    def wait_until_full(self, *, started: int) -> None:
        """Return when each device is taken; no further job may then have one.

        ``started``: how many jobs have started until then.
        """
        deadline = time.monotonic() + PATIENCE_S
        while len(self.started()) < started:
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)
        time.sleep(2)
        ended = self.ended()
        running = [device for pid, (device, _) in self.started().items() if pid not in ended]
        assert sorted(running) == DEVICES

    def finish(self, *runs: subprocess.Popen[bytes]) -> None:
        """Let all jobs end, and their runs."""
        self.go.touch()
        for run in runs:
            assert run.wait(PATIENCE_S) == 0, self.logs()

    def logs(self) -> str:
        return "\n".join(log.read_text() for log in self.folder.glob("*/run.log"))

    def kill_jobs(self) -> list[int]:
        """SIGKILL of all jobs that have a device."""
        ended = self.ended()
        doomed = [pid for pid in self.started() if pid not in ended]
        for pid in doomed:
            self.killed[pid] = time.monotonic()
            os.kill(pid, signal.SIGKILL)
        return doomed

    def uses(self) -> list[Use]:
        ended = self.ended()
        return [Use(pid, device, start, ended[pid]) for pid, (device, start) in self.started().items()]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    one = Box(tmp_path)
    yield one
    for run in one.runs:
        if run.poll() is None:
            run.kill()
        run.wait()


def check(uses: list[Use]) -> None:
    """Never two on a device, and so never more at once than there are devices."""
    for one, other in combinations(uses, 2):
        assert one.device != other.device or one.end <= other.start or other.end <= one.start, (one, other)


@pytest.mark.parametrize("options", [("--resources", "gpu=4"), ()], ids=["counted", "not_counted"])
def test_twelve_jobs_on_four_devices(box: Box, options: tuple[str, ...]) -> None:
    """Also where Snakemake is not told how many there are: then jobs wait for a device."""
    run = box.start("run", *options)
    box.wait_until_full(started=4)
    box.finish(run)
    uses = box.uses()
    assert len(uses) == JOBS
    check(uses)


def test_killed_jobs_free_their_devices(box: Box) -> None:
    run = box.start("run", "--resources", "gpu=4")
    box.wait_until_full(started=4)
    assert len(box.kill_jobs()) == 4
    box.wait_until_full(started=8)
    box.finish(run)
    uses = box.uses()
    assert len(uses) == JOBS + 4
    check(uses)


def test_runs_on_one_box_share_its_devices(box: Box) -> None:
    """Two runs at once; one is killed, which ends its jobs, those that wait too, and started again."""
    first, second = box.start("first"), box.start("second", "--resources", "gpu=4")
    box.wait_until_full(started=4)
    orphans = [pid for pid in box.started() if Path(f"/proc/{pid}/cwd").resolve() == box.folder / "first"]
    first.kill()
    first.wait()
    # They notice within a second, and keep their devices until then.
    box.killed = dict.fromkeys(orphans, time.monotonic())
    again = box.start("first", "--resources", "gpu=4")
    box.wait_until_full(started=4 + len(orphans))
    assert not [pid for pid in orphans if Path(f"/proc/{pid}").exists()]
    box.finish(second, again)
    uses = box.uses()
    assert len(uses) == 2 * JOBS + len(orphans)
    check(uses)
