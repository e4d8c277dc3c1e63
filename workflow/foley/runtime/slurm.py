"""Jobs that a lost run left in Slurm's queue.

A main process that is killed leaves its jobs running; a new one would start the same jobs beside them, two writers
to one file. The name under which a run submits its jobs is noted in its results, and its main process, so that the
next run finds them and can tell whether the run is lost.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from foley.runtime.identity import Process
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
    """Write down the name under which this process submits jobs, and below it which process this is."""
    with atomic_file(note) as temporary:
        temporary.write_text(f"{run}\n{Process.this()}\n")


def end_lost_run(note: Path, patience_s: float, *, guarded: bool, say: Callable[[str], None]) -> list[str]:
    """Cancel the jobs of the run that ``note`` names and wait until none is left; returns their ids.

    Only of a run that is surely lost: its main process was on this machine and is gone, and this run holds the lock
    (``guarded``). Elsewhere it may live, for all that this machine can see.

    Raises:
        RuntimeError: the run lives, or may live and has jobs; Slurm does not answer; or jobs are still there after
            ``patience_s``; says what to do.
    """
    run, *owner = note.read_text().splitlines() if note.is_file() else [""]
    if not run:
        return []
    process = Process.parse(owner[0]) if owner else None
    gone = process.is_gone() if process is not None else None
    where = f"on {process.host}" if process is not None else "nobody knows where"
    if gone is False and process is not None:
        raise RuntimeError(f"another run is under way in this folder (process {process.pid}); wait for it")
    hint = f"see `squeue --name={run}`; if none of its jobs can be left, remove {note}"
    if shutil.which("squeue") is None:
        raise RuntimeError(f"the last run here used Slurm, whose commands are not on this machine: {hint}")
    found = unfinished(run)
    if found and not (gone and guarded):
        raise RuntimeError(
            f"jobs of another run are under way in this folder ({len(found)} in Slurm's queue), which was started "
            f"{where}: wait for it. If its main process is gone, end them with `scancel --name={run}` and start again"
        )
    if found:
        _call("scancel", f"--name={run}")
        deadline = time.monotonic() + patience_s
        while unfinished(run):
            if time.monotonic() > deadline:
                raise RuntimeError(f"jobs of a run whose main process is gone do not end: {hint}")
            time.sleep(1)
        say(f"cancelled {len(found)} jobs of a run whose main process is gone: {' '.join(found)}")
    elif gone is None:
        say(
            f"the last run here, started {where}, came to no good end and has no jobs left; it is taken for lost. "
            "If it lives, stop this one"
        )
    note.unlink()
    return found
