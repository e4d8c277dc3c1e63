"""Jobs that a lost run left in Slurm's queue.

A main process that is killed leaves its jobs running; a new one would start the same jobs beside them, two writers
to one file. The name under which a run submits its jobs is noted in its results, so that the next run finds them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from foley.tables import atomic_file


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
    """Write down the name under which a run submits its jobs."""
    with atomic_file(note) as temporary:
        temporary.write_text(run + "\n")


def cancel_lost_run(note: Path, patience_s: float) -> list[str]:
    """Cancel the jobs of the run that ``note`` names and wait until none is left; returns their ids.

    Raises:
        RuntimeError: Slurm does not answer, or jobs are still there after ``patience_s``; says what to do.
    """
    run = note.read_text().strip() if note.is_file() else ""
    if not run:
        return []
    hint = f"see `squeue --name={run}`; if none of its jobs can be left, remove {note}"
    if shutil.which("squeue") is None:
        raise RuntimeError(f"the last run here used Slurm, whose commands are not on this machine: {hint}")
    found = unfinished(run)
    if found:
        _call("scancel", f"--name={run}")
        deadline = time.monotonic() + patience_s
        while unfinished(run):
            if time.monotonic() > deadline:
                raise RuntimeError(f"jobs of a run whose main process is gone do not end: {hint}")
            time.sleep(1)
    note.unlink()
    return found
