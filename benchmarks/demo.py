"""The default experiment from an empty copy, and again: wall time and memory. Takes minutes, so only with `--demo`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from measure import Table, cores
from working_copy import copy_repository

TITLE = "The demo"
POLL_S = 0.25


def memory_bytes(process: psutil.Popen) -> list[int]:
    """Memory of each process of a tree, shared pages divided among those that share them where the system says."""
    found = []
    for member in [process, *process.children(recursive=True)]:
        try:
            full = member.memory_full_info()
        except psutil.Error:  # it ended meanwhile
            continue
        found.append(getattr(full, "pss", full.rss))
    return found


def run(quick: bool) -> list[Table]:
    command = [sys.executable, "-m", "snakemake", "--cores", "all"]
    if quick:
        command.append("--dry-run")
    largest = together = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_repository(Path(temporary))
        again_s = 0.0
        with open(Path(temporary) / "output.txt", "w+") as output:
            start = time.perf_counter()
            process = psutil.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
            while process.poll() is None:
                sizes = memory_bytes(process)
                largest, together = max([largest, *sizes]), max(together, sum(sizes))
                time.sleep(POLL_S)
            wall_s = time.perf_counter() - start
            if process.returncode:
                output.seek(0)
                raise RuntimeError(f"{' '.join(command)} failed:\n{output.read()}")
        if not quick:
            start = time.perf_counter()
            said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            again_s = time.perf_counter() - start
            if "Nothing to be done" not in said.stdout + said.stderr:
                raise RuntimeError(f"a second run has something to do:\n{said.stdout}{said.stderr}")
    rows = [
        ("wall time", f"{wall_s / 60:.1f} min", "under 10 min"),
        ("memory of all processes at once, peak", f"{together / 2**30:.2f} GiB", "under 4 GiB"),
        ("memory of the largest process, peak", f"{largest / 2**30:.2f} GiB", ""),
        ("a second run, nothing to do", f"{again_s:.1f} s", "under 5 s"),
    ]
    caption = f"`make demo` after the install, from nothing, on {cores()} cores."
    return [Table(caption, ("what", "measured", "budget"), rows)]
