"""Sizes for people, free space, and progress of work on bytes."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from foley.download.errors import DownloadError

log = logging.getLogger(__name__)

_LINE_EVERY_S = 10.0


def readable(size_bytes: float | None) -> str:
    """A size as people write it (powers of 1000): ``616.2 MB``."""
    if size_bytes is None:
        return "unknown size"
    if abs(size_bytes) < 1000:
        return f"{size_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if abs(size_bytes) < 999.95:
            return f"{size_bytes:,.1f} {unit}"
    return f"{size_bytes / 1000:,.1f} TB"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def need_space(needs: Mapping[Path, int], what: str) -> None:
    """Check that each folder's file system has room for the bytes it is to take; needs on the same one add up.

    Raises:
        DownloadError: naming what is needed, what is free and where.
    """
    systems: dict[int, tuple[Path, int]] = {}
    for folder, size in needs.items():
        here = _existing(folder)
        device = os.stat(here).st_dev
        first, before = systems.get(device, (here, 0))
        systems[device] = (first, before + size)
    for folder, size in systems.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise DownloadError(
                f"{what} needs {readable(size)} on the disk of {folder}, which has {readable(free)} free: "
                f"make room for {readable(size - free)} more, or set `data` to a folder on a larger disk"
            )


class Meter:
    """Progress of work on bytes: a bar on a terminal, else a log line now and then; throughput at the end."""

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped]

        self.what, self.total = what, total
        self._at, self._moved = done, 0
        self._start = self._line = time.monotonic()
        self._bar = tqdm(
            total=total, initial=done, unit="B", unit_scale=True, desc=what, leave=False,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip

    def add(self, count: int) -> None:
        self._at += count
        self._moved += count
        self._bar.update(count)
        now = time.monotonic()
        if self._bar.disable and now - self._line >= _LINE_EVERY_S:
            self._line = now
            part = f" of {readable(self.total)} ({self._at / self.total:.0%})" if self.total else ""
            log.info("%s: %s%s, %s", self.what, readable(self._at), part, self._speed())

    def reset(self, done: int) -> None:
        """Go on from another place: a transfer that had to start anew."""
        self._at = done
        self._bar.n = done
        self._bar.refresh()

    def _speed(self) -> str:
        return f"{readable(self._moved / max(time.monotonic() - self._start, 1e-9))}/s"

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if kind is None:
            spent = time.monotonic() - self._start
            log.info("%s: %s in %.1f s (%s)", self.what, readable(self._moved), spent, self._speed())
