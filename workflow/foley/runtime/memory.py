"""A job's memory: what is freed stays with it, for its next clip; and it keeps to what it asked for."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
KEPT_BYTES = 256 << 20
LARGEST_BYTES = 32 << 20  # the most that glibc takes


def keep_freed_memory() -> bool:
    """Let malloc keep freed blocks instead of giving them back to the system; False where it isn't glibc's.

    A clip's arrays are a megabyte or so: given back and asked for anew with each clip, their pages are zeroed each
    time, which takes a sixth of the time from a file to its log-mel, and more where several jobs do so at once.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))


def own_mib() -> int | None:
    """MiB in memory that are this process's own (files that are mapped left out); None where there is no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return sum(int(kib) for kib in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", status, re.M)) >> 10


def call_when_over(limit_mib: int, call: Callable[[int], None], interval_s: float = 0.2) -> None:
    """Watch this process from a thread: once it holds more than ``limit_mib``, ``call`` with what it holds."""

    def watch() -> None:
        while (held := own_mib()) is not None:
            if held > limit_mib:
                call(held)
                return
            time.sleep(interval_s)

    threading.Thread(target=watch, daemon=True, name="watch-memory").start()
