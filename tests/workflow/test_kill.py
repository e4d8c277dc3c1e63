"""SIGKILL at any moment: no job outlives the run, and the next start goes on to the same tables, by itself."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from project import Project, environment

from foley.runtime import lock

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]

# What a whole run must lack to do a stage again: the stage's tables and what is made of them.
STAGES = {
    "ingest_shard": ["results"],
    "train_encoder": [
        "results/embeddings",
        "results/zero_shot",
        "results/scores.parquet",
        "results/report",
    ],
    "write_report": ["results/report/index.html"],
}
KILLS = 3
TRAINING = "results/embeddings/dataset=soundbox/embedding=scratch/split=fold0/embeddings.parquet"
PATIENCE_S = 300


@contextmanager
def started(project: Project, *targets: str) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A run in the background, in a process group of its own, and the file of what it says."""
    log = project.path("run.log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            project.command(*targets),
            cwd=project.folder,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A test that itself runs in the background of a shell would hand on that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def await_job(process: subprocess.Popen, log: Path, rule: str) -> None:
    """Return when the run says that a job of a rule starts."""
    deadline = time.monotonic() + PATIENCE_S
    while not re.search(rf"^(local)?rule {rule}:$", log.read_text(), re.M):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def await_job_or_end(process: subprocess.Popen, log: Path, rule: str) -> bool:
    """Whether a job of a rule has started; not where the run ended without one."""
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        if re.search(rf"^(local)?rule {rule}:$", log.read_text(), re.M):
            return True
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return False


def session(leader: int) -> list[int]:
    """Living processes of the session that ``leader`` began."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, sid = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(sid) == leader and state != "Z":
            found.append(int(entry.name))
    return found


def await_end(leader: int) -> None:
    """Return when no process of a session is left."""
    deadline = time.monotonic() + PATIENCE_S
    while session(leader):
        assert time.monotonic() < deadline, "jobs outlive their run"
        time.sleep(0.05)


def remove(project: Project, rule: str) -> None:
    """Remove what a stage has written."""
    for name in STAGES[rule]:
        path = project.path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("rule", STAGES)
def test_killed_runs_go_on(two_methods: Project, tmp_path: Path, rule: str) -> None:
    """The whole run is killed in one stage, again and again, and ends with the tables of an undisturbed one.

    Each start but the first goes on from what the killed one left; the last is left alone.
    """
    soundbox = two_methods.copy_to(tmp_path / "foley")
    remove(soundbox, rule)
    moments = random.Random(rule)
    kills = 0
    for _ in range(10 * KILLS):
        with started(soundbox) as (process, log):
            if await_job_or_end(process, log, rule):
                time.sleep(moments.uniform(0, 1.5))
            if process.poll() is None:
                process.kill()
                process.wait()
                await_end(process.pid)
                kills += 1
                if kills == KILLS:
                    break
                continue
            # The stage was done before the kill, in this start or at the end of the last one: once more.
            assert process.wait() == 0, log.read_text()
        remove(soundbox, rule)
    assert kills == KILLS
    soundbox.make()
    expected, found = two_methods.tables(), soundbox.tables()
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name
    assert soundbox.planned() == []
    shutil.rmtree(soundbox.folder)


@pytest.mark.parametrize(
    ("before", "pause_s"),
    [
        pytest.param("from foley.runtime.job import run_job", 2, id="while_a_job_starts"),
        pytest.param("    from foley.encoders.embed import train_and_embed", 3600, id="while_a_job_works"),
    ],
)
def test_jobs_end_with_their_run(soundbox: Project, before: str, pause_s: float) -> None:
    """Wherever a job is when the run is killed, it ends and leaves its outputs alone."""
    shutil.rmtree(soundbox.path(TRAINING).parents[2])
    indent = " " * (len(before) - len(before.lstrip()))
    pause = f"{indent}open('here', 'w').close(); __import__('time').sleep({pause_s})\n"
    soundbox.insert("workflow/scripts/train_encoder.py", before, pause)
    with started(soundbox, TRAINING) as (process, log):
        await_job(process, log, "train_encoder")
        deadline = time.monotonic() + PATIENCE_S
        while not soundbox.path("here").exists():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        process.kill()
        process.wait()
        await_end(process.pid)
    assert not soundbox.path(TRAINING).exists()


def test_a_second_run_in_the_same_folder_is_refused(soundbox: Project) -> None:
    shutil.rmtree(soundbox.path(TRAINING).parents[2])
    target = TRAINING
    with started(soundbox, target) as (process, log):
        await_job(process, log, "train_encoder")
        second = soundbox.snakemake(target)
        assert process.poll() is None, "the first run was over before the second one started"
        assert second.returncode != 0
        assert "another run is under way in this folder" in second.stdout
        assert "Traceback" not in second.stdout
        # What it would do was not even planned: jobs that end meanwhile would be planned, and done, twice.
        assert "Building DAG of jobs" not in second.stdout
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    assert soundbox.planned() == []


def test_a_look_takes_no_lock(soundbox: Project) -> None:
    """Nor is it refused while a run is under way."""
    path = soundbox.path("results/.lock")
    path.unlink()
    looks = [["--dry-run"], ["--summary"], ["--dag"], ["--lint"]]
    for look in looks:
        done = subprocess.run(
            soundbox.options(*look), cwd=soundbox.folder, env=environment(), capture_output=True, text=True
        )
        assert "under way" not in done.stderr, look
        assert done.returncode == 0 or look == ["--lint"], done.stderr
        assert not path.exists(), look
    assert lock.hold(path) is None
    try:
        assert soundbox.planned() == []
        refused = soundbox.snakemake()
        assert "another run is under way in this folder" in refused.stdout
    finally:
        os.close(lock._held.pop())


def test_an_interrupted_run_ends_its_jobs(soundbox: Project) -> None:
    """Ctrl-C, as a terminal sends it: to the whole process group."""
    shutil.rmtree(soundbox.path(TRAINING).parents[2])
    with started(soundbox, TRAINING) as (process, log):
        await_job(process, log, "train_encoder")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) != 0
        await_end(process.pid)
    soundbox.make(TRAINING)
    assert soundbox.planned() == []
