"""What it costs when there is nothing to do: a rerun of a finished run, and imports."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import yaml
from measure import REPOSITORY, Table, interleaved, times
from working_copy import copy_repository

TITLE = "Nothing to do, and imports"
# Every stage of the default experiment, on as little data and training as it takes.
TINY = {
    "datasets": {"soundbox": {"shards": 2, "options": {"clips_per_class": 8, "takes_per_recording": 1}}},
    "embeddings": {"scratch": {"options": {"epochs": 1, "patience": 1}}},
    "methods": {
        "ale": {"classifier_options": {"epochs": 1}},
        "zerodiffusion": {"generator_options": {"epochs": 1}, "classifier_options": {"epochs": 1}},
        "ddpm": {"generator_options": {"epochs": 1, "steps": 10}, "classifier_options": {"epochs": 1}},
    },
    "zero_shot": {"seeds": 2, "bootstrap": 100, "random_splits": {"count": 2}},
}
# What a script without torch imports from the library, and the packages that this stands on.
LIGHT = {
    "foley.datasets.index": "numpy, pyarrow.parquet",
    "foley.datasets.ingest": "numpy, pyarrow.parquet, soundfile, soxr",
    "foley.studies.partition": "numpy, pyarrow.parquet",
    "foley.studies.zero_shot.compare": "numpy, pyarrow.parquet",
}


def snakemake(folder: Path, *options: str) -> None:
    """Run the workflow of a copy; its output is shown only when it fails."""
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--configfile", "tiny.yaml", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "workflow", check=True)


def rerun_table(quick: bool) -> Table:
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_repository(Path(temporary))
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        snakemake(folder)
        found = interleaved(
            {
                "rerun": partial(snakemake, folder),
                "dry run": partial(snakemake, folder, "--dry-run"),
                "bare": partial(snakemake, folder, "--version"),
            },
            1 if quick else 7,
        )
    bare = found["bare"]
    rows = [
        ("no-op rerun", f"{found['rerun']:.2f}", times(found["rerun"] / bare), "under 5 s"),
        ("dry run", f"{found['dry run']:.2f}", times(found["dry run"] / bare), ""),
        ("`snakemake --version`", f"{bare:.2f}", "", ""),
    ]
    caption = "`snakemake --cores all` after a finished run of the default experiment with tiny data."
    return Table(caption, ("what", "seconds", "against `--version`", "budget"), rows)


def import_table(quick: bool) -> Table:
    calls = {"bare": partial(python, "pass")}
    for module, packages in LIGHT.items():
        calls[module] = partial(python, f"import {module}")
        calls[packages] = partial(python, f"import {packages}")
    found = interleaved(calls, 1 if quick else 9)
    bare = found["bare"]
    rows = []
    for module, packages in LIGHT.items():
        ours, theirs = found[module] - bare, found[packages] - bare
        rows.append(
            (
                f"`{module}`",
                f"{ours:.2f}",
                f"{packages}: {theirs:.2f}",
                times(ours / max(theirs, 1e-3)),
                "under 0.5 s",
            )
        )
    caption = f"Imports, less the start of Python ({bare:.2f} s), against the packages that they stand on."
    return Table(caption, ("module", "seconds", "packages alone", "ratio", "budget"), rows)


def run(quick: bool) -> list[Table]:
    return [rerun_table(quick), import_table(quick)]
