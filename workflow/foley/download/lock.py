"""One process at a time, by a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_LINE_EVERY_S = 30.0


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file at ``path`` while the block runs, waiting for another holder; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _take(path, what)
    try:
        yield
    finally:
        # While it is held: whoever waits for it sees that the file is another one and opens that.
        path.unlink(missing_ok=True)
        os.close(handle)


def _take(path: Path, what: str) -> int:
    last_line = 0.0
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() - last_line >= _LINE_EVERY_S:
                last_line = time.monotonic()
                log.info("another process works on %s (it holds %s); waiting for it", what, path)
            time.sleep(0.2)
            continue
        except OSError:  # some network file systems know no locks: go on unguarded
            return handle
        try:
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)
