"""Freed memory stays with a job, for its next clip."""

from __future__ import annotations

import ctypes

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
