"""What it takes to find out what there is to do: time and memory of the DAG, from one dataset to two million clips."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from measure import REPOSITORY, Table
from working_copy import copy_repository

TITLE = "The DAG"
# Datasets that nobody can download without a person: tiny trees in their layouts, so that they take part.
BY_HAND = {"fsc22": "trees.sound", "activitynet": "trees.speech", "iemocap": "trees.speech"}
# (clips, shards) of one dataset that goes through clips, features, embeddings and the zero-shot study.
SIZES = ((2_000, 100), (2_000_000, 100), (2_000_000, 250), (2_000_000, 500), (2_000_000, 2_000))
CLASSES = 12
# Files of a folder that Foley is pointed at.
TREE_SIZES = (2_000, 20_000, 200_000)


@dataclass(frozen=True)
class Look:
    """One call of Snakemake: seconds, those of the CPU, the most memory in MiB, and what it said."""

    seconds: float
    cpu_seconds: float
    mib: float
    said: str

    @property
    def jobs(self) -> int:
        found = re.search(r"^total +(\d+)$", self.said, re.M)
        return int(found[1]) if found else 0


def snakemake(folder: Path, *options: str) -> Look:
    """Run Snakemake to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    command = [sys.executable, "-m", "snakemake", "--cores", "all", *options]
    with open(folder / "said.txt", "w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        said = output.read()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{said[-3000:]}")
    return Look(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)


def pretend_all_is_done(folder: Path, *options: str) -> None:
    """Make every output, empty, and let Snakemake note that it made them."""
    listed = snakemake(folder, *options, "--dry-run").said
    for line in re.findall(r"^    output: (.*)$", listed, re.M):
        for name in line.split(", "):
            path = folder / name
            if path.suffix:  # unlike the folders that rules make
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            else:
                path.mkdir(parents=True, exist_ok=True)
    snakemake(folder, *options, "--touch", "--quiet", "all")


def measure(folder: Path, *options: str) -> tuple[Look, Look]:
    """A dry run of everything, and a run when all is done."""
    everything = snakemake(folder, *options, "--dry-run", "--quiet", "rules")
    pretend_all_is_done(folder, *options)
    nothing = snakemake(folder, *options)
    if "Nothing to be done" not in nothing.said:
        raise RuntimeError(f"something is still to do:\n{nothing.said[-3000:]}")
    return everything, nothing


def row(name: str, everything: Look, nothing: Look) -> tuple[str, ...]:
    return (
        name,
        str(everything.jobs),
        f"{everything.seconds:.1f} ({everything.cpu_seconds:.1f})",
        f"{everything.mib:.0f}",
        f"{nothing.seconds:.1f} ({nothing.cpu_seconds:.1f})",
        f"{nothing.mib:.0f}",
    )


COLUMNS = ("config", "jobs", "dry run, s (of the CPU)", "MiB", "nothing to do, s (of the CPU)", "MiB")


def paper_table() -> Table:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_repository(Path(temporary))
        datasets = {}
        for name, module in BY_HAND.items():
            tree = getattr(importlib.import_module(module), f"build_{name}")(Path(temporary) / name)
            datasets[name] = {"path": str(tree.root), "options": tree.options}
        (folder / "here.yaml").write_text(yaml.safe_dump({"datasets": datasets}))
        looks = measure(folder, "--configfile", "experiments/paper.yaml", "here.yaml")
    caption = "`experiments/paper.yaml` with all fourteen datasets, nothing fetched yet; budget of the dry run: 30 s."
    return Table(caption, COLUMNS, [row("paper.yaml", *looks)])


def synthetic(clips: int, shards: int) -> dict:
    """A config with one dataset of so many clips, of which nothing is there yet."""
    return {
        "datasets": {
            "soundbox": {"shards": shards, "options": {"clips_per_class": clips // CLASSES // 4 * 4}},
        },
        "embeddings": {
            "mn04": {
                "encoder": "efficientat",
                "weights": "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt",
            }
        },
        "diffusion": None,
        "interpolation": None,
        "zero_shot": {"embeddings": ["scratch", "mn04"], "random_splits": {"count": 5}},
    }


def size_table(quick: bool) -> Table:
    rows = []
    for clips, shards in SIZES[:2] if quick else SIZES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = copy_repository(Path(temporary))
            (folder / "size.yaml").write_text(yaml.safe_dump(synthetic(clips, shards)))
            looks = measure(folder, "--configfile", "size.yaml")
        rows.append(row(f"{clips:,} clips in {shards:,} shards", *looks))
    caption = "One dataset through clips, log-mels, two embeddings and the zero-shot study: shards count, clips don't."
    return Table(caption, COLUMNS, rows)


# Looks at a raw tree as the main process does (first and later) and as its jobs do; in processes of their own, so that
# each one's memory is its own.
LOOK = """
import resource, sys, time
from pathlib import Path
from foley.datasets.tree import fingerprint
start = time.process_time()
fingerprint(Path(sys.argv[1]), 1000, Path(sys.argv[2]), trust_cache=sys.argv[3] == "job")
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def look(raw: Path, cache: Path, who: str) -> tuple[float, float]:
    """CPU seconds and MiB of one look at a raw tree."""
    said = subprocess.run(
        [sys.executable, "-c", LOOK, str(raw), str(cache), who],
        check=True, capture_output=True, text=True, cwd=REPOSITORY / "workflow",
    ).stdout  # fmt: skip
    seconds, mib = map(float, said.split())
    return seconds, mib


def tree_table(quick: bool) -> Table:
    rows = []
    for files in TREE_SIZES[:1] if quick else TREE_SIZES:
        with tempfile.TemporaryDirectory() as temporary:
            raw, cache = Path(temporary, "raw"), Path(temporary, "cache")
            for number in range(files):
                if number % 1000 == 0:
                    folder = raw / f"{number // 1000:05d}"
                    folder.mkdir(parents=True)
                (folder / f"{number}.wav").touch()
            looks = [look(raw, cache, who) for who in ("first", "later", "job")]
        cells = [cell for seconds, mib in looks for cell in (f"{seconds:.2f}", f"{mib:.0f}")]
        rows.append((f"{files:,}", *cells))
    caption = (
        "A folder of one's own, each file a clip (empty here; the first look also reads every byte). The main process "
        "looks at each start, and its jobs take its word. Seconds are of the CPU: a disk may need longer."
    )
    columns = ("files", "first look, s", "MiB", "later look, s", "MiB", "a job's, s", "MiB")
    return Table(caption, columns, rows)


def run(quick: bool) -> list[Table]:
    return [paper_table(), size_table(quick), tree_table(quick)]
