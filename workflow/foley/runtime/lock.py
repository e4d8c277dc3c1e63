"""One run at a time in a working directory, by a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_held: list[int] = []


def hold(path: Path) -> str | None:
    """Hold the lock until this process ends; where that cannot be, returns why.

    A lock that was got is no proof that none is held on another machine: some network file systems (BeeGFS, Lustre
    with `localflock`) keep locks to the machine that took them.

    Raises:
        RuntimeError: another run holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        # Read-only results can be looked at: a run that has nothing to do needs no lock.
        return f"{path}: {error.strerror}"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RuntimeError(
            f"another run is under way in this folder (it holds {path}); wait for it"
        ) from None
    except OSError as error:
        os.close(handle)
        return f"the file system knows no locks ({error.strerror})"
    _held.append(handle)
    return None
