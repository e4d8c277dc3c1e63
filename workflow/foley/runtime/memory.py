"""A job's memory: what is freed stays with it, for its next clip; and it keeps to what it asked for."""

from __future__ import annotations

import ctypes
import os
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


def descendants() -> list[int]:
    """Process ids of all that this process has started and what those have; nothing where the kernel doesn't say."""
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        pid = todo.pop()
        for thread in _listed(f"/proc/{pid}/task"):
            children = _read(f"/proc/{pid}/task/{thread}/children").split()
            found += map(int, children)
            todo += map(int, children)
    return found


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # a process that has just ended
        return ""


def _kib(text: str, names: str) -> int:
    return sum(int(kib) for kib in re.findall(rf"^(?:{names}):\s+(\d+) kB$", text, re.M))


def held_mib(limit_mib: float = float("inf")) -> int | None:
    """MiB in memory of this process and all that it has started; None where there is no /proc.

    Files that are mapped are left out. What a process shares with one that it was forked from counts once; that is
    dear to find out, so below ``limit_mib`` the figure may be too high.
    """
    own = _kib(_read("/proc/self/status"), "RssAnon|RssShmem")
    if not own:
        return None
    others = descendants()
    most = own + sum(_kib(_read(f"/proc/{pid}/status"), "RssAnon|RssShmem") for pid in others)
    if not others or most >> 10 <= limit_mib:
        return most >> 10
    # Its part of each page that it shares.
    parts = [_kib(_read(f"/proc/{pid}/smaps_rollup"), "Pss_Anon|Pss_Shmem") for pid in ["self", *others]]
    return (sum(parts) if parts[0] else most) >> 10


def call_when_over(limit_mib: int, call: Callable[[int], None], interval_s: float = 0.2) -> None:
    """Watch this process and its children: once they hold more than ``limit_mib``, ``call`` with what they hold."""

    def watch() -> None:
        while True:
            start = time.thread_time()
            held = held_mib(limit_mib)
            if held is None:
                return
            if held > limit_mib:
                call(held)
                return
            # At most a tenth of a core for this, however many processes there are.
            time.sleep(max(interval_s, 10 * (time.thread_time() - start)))

    threading.Thread(target=watch, daemon=True, name="watch-memory").start()
