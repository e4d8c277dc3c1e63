"""Copies of the project, runs of Snakemake in them and what they say, and folders of tiny clips."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import yaml

from foley import tables

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).parent / "config"
# What makes up the project; results and caches, however they are called, stay behind.
PARTS = ("Snakefile", "config.yaml", "envs", "profiles", "resources", "workflow")
RATE = 16_000
LABELS = ("bell", "dog", "engine", "rain", "wind")


class Job(NamedTuple):
    """A job that a dry run lists."""

    rule: str
    wildcards: Mapping[str, str]

    def named(self, *keys: str) -> str:
        """`rule`, followed by the values of those of the wildcards ``keys`` that it has."""
        return " ".join([self.rule, *(self.wildcards[key] for key in keys if key in self.wildcards)])


def parse_dry_run(output: str) -> list[Job]:
    """The jobs that a dry run lists, `all` left out.

    Raises:
        AssertionError: they are not as many as the table of job counts says, so the output was not understood.
    """
    jobs: list[Job] = []
    for line in output.splitlines():
        if start := re.fullmatch(r"(?:local)?(?:rule|checkpoint) (\w+):", line):
            jobs.append(Job(start[1], {}))
        elif found := re.fullmatch(r"    wildcards: (.*)", line):
            values = dict(pair.split("=", 1) for pair in found[1].split(", "))
            jobs[-1] = Job(jobs[-1].rule, values)
    if total := re.search(r"^total +(\d+)$", output, re.M):
        assert len(jobs) == int(total[1]), output
    else:
        assert not jobs and "Nothing to be done" in output, output
    return [job for job in jobs if job.rule != "all"]


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own, with a config to lay over its `config.yaml`."""

    folder: Path
    config: str

    def path(self, name: str) -> Path:
        return self.folder / name

    def command(self, *arguments: str, changes: Mapping[str, Any] | None = None, cores: int = 2) -> list[str]:
        """The command line of a run; ``changes`` are laid over the config."""
        configs = [str(self.path(self.config))]
        if changes is not None:
            configs.append(str(self.path("changes.yaml")))
            Path(configs[-1]).write_text(yaml.safe_dump(dict(changes)))
        return [
            *(sys.executable, "-m", "snakemake", "--cores", str(cores)),
            *("--configfile", *configs, "--", *arguments),
        ]

    def options(self, *arguments: str, **more: Any) -> list[str]:
        """The command line of a run with options instead of targets."""
        command = self.command(**more)
        return [*command[:-1], *arguments]

    def snakemake(self, *targets: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the workflow; stdout holds all that it says."""
        return run(self.command(*targets, **more), self.folder)

    def make(self, *targets: str, **more: Any) -> str:
        """Run the workflow, which must end well; returns what it says."""
        done = self.snakemake(*targets, **more)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def planned(self, *keys: str, changes: Mapping[str, Any] | None = None) -> list[str]:
        """The jobs that a run would do now, sorted, by rule and the values of the wildcards ``keys``."""
        done = run(self.options("--dry-run", changes=changes), self.folder)
        assert done.returncode == 0, done.stdout
        return sorted(job.named(*keys) for job in parse_dry_run(done.stdout))

    def table(self, name: str) -> pa.Table:
        return tables.read(self.path(name))

    def tables(self) -> dict[str, pa.Table]:
        """Every table below `results`, without the metadata of its file."""
        root = self.path("results")
        return {
            path.relative_to(root).as_posix(): tables.read(path).replace_schema_metadata(None)
            for path in sorted(root.rglob("*.parquet"))
        }

    def copy_to(self, folder: Path) -> Project:
        """A copy with all results, caches and modification times."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder, self.config)

    def append(self, name: str, text: str) -> None:
        with self.path(name).open("a", encoding="utf-8") as file:
            file.write(text)

    def insert(self, name: str, before: str, text: str) -> None:
        """Insert ``text`` before the one place of a file that reads ``before``."""
        whole = self.path(name).read_text(encoding="utf-8")
        assert whole.count(before) == 1, f"{before!r} is not once in {name}"
        self.path(name).write_text(whole.replace(before, text + before), encoding="utf-8")


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def environment() -> dict[str, str]:
    """Ours, without what would lead the copy to another library or another profile."""
    return {
        key: value
        for key, value in os.environ.items()
        if key != "PYTHONPATH" and not key.startswith("SNAKEMAKE_")
    }


def copy_project(folder: Path, config: str | Path) -> Project:
    """A copy of the project without results; ``config`` is one of ours, or the path of another."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source, target = REPOSITORY / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, target)
    source = CONFIG / config
    shutil.copy2(source, folder / source.name)
    return Project(folder, source.name)


def made_once(
    factory: pytest.TempPathFactory, name: str, config: str, make: Callable[[Path], Project]
) -> Project:
    """A project that ``make`` fills in a folder: the first of the processes that share out the tests does, for all."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name / "foley", root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return Project(folder, config)


def tone(seed: int, seconds: float = 0.6, rate: int = RATE) -> np.ndarray:
    """A noisy tone [T], another one for each seed."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    return 0.3 * np.sin(2 * np.pi * (150 + 40 * seed) * time) + 0.02 * noise


def write_clips(root: Path) -> None:
    """A folder dataset: five classes of six clips."""
    for number, label in enumerate(LABELS):
        (root / label).mkdir(parents=True)
        for clip in range(6):
            soundfile.write(root / label / f"{label}-{clip}.wav", tone(10 * number + clip), RATE)


# What becomes of each odd clip: the reason why it is rejected, or None where it is taken.
ODD_CLIPS: dict[str, str | None] = {
    "bell/truncated.wav": "truncated",
    "bell/empty.wav": "empty",
    "dog/silent.wav": "silent",
    "dog/nan.wav": "not_finite",
    "engine/short.wav": "too_short",
    "engine/text.wav": "unreadable",
    "rain/twin_of_rain-0.wav": "duplicate",
    "rain/24_bit.wav": None,
    "wind/6_channels.wav": None,
    "wind/flac_inside.wav": None,
}


def write_odd_clips(root: Path) -> None:
    """The clips of ODD_CLIPS in a folder made by `write_clips`."""
    soundfile.write(root / "bell/truncated.wav", tone(101), RATE)
    whole = (root / "bell/truncated.wav").read_bytes()
    (root / "bell/truncated.wav").write_bytes(whole[: len(whole) // 2])
    (root / "bell/empty.wav").touch()
    soundfile.write(root / "dog/silent.wav", np.zeros(RATE), RATE)
    broken = tone(102)
    broken[100] = np.nan
    soundfile.write(root / "dog/nan.wav", broken, RATE, subtype="FLOAT")
    soundfile.write(root / "engine/short.wav", tone(103, seconds=0.05), RATE)
    (root / "engine/text.wav").write_text("These are words, not sounds.")
    shutil.copy(root / "rain/rain-0.wav", root / "rain/twin_of_rain-0.wav")
    soundfile.write(root / "rain/24_bit.wav", tone(104), RATE, subtype="PCM_24")
    channels = np.stack([tone(105 + channel, rate=48_000) for channel in range(6)], axis=1)
    soundfile.write(root / "wind/6_channels.wav", channels, 48_000)
    soundfile.write(root / "wind/flac_inside.wav", tone(111), RATE, format="FLAC")


def write_words(path: Path) -> None:
    """Word vectors of the labels, in word2vec's text format."""
    vectors = np.random.default_rng(0).normal(size=(len(LABELS), 8))
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in row)}" for word, row in zip(LABELS, vectors, strict=True)]
    path.write_text("\n".join([f"{len(LABELS)} 8", *lines]) + "\n")
