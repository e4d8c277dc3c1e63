"""One run at a time in a working directory, by a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_held: list[int] = []


def hold(path: Path) -> bool:
    """Hold the lock until this process ends; False where the file system knows no locks.

    Raises:
        RuntimeError: another run holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RuntimeError(
            f"another run is under way in this folder (it holds {path}); wait for it"
        ) from None
    except OSError:
        # Some network file systems know no locks; a run there is as before, unguarded.
        os.close(handle)
        return False
    _held.append(handle)
    return True
