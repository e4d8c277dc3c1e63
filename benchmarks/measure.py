"""How things are measured here: medians of interleaved repeats, on one core where the code under test has one."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Table:
    """What a benchmark found: a caption and cells, as they are shown."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.caption, "", "| " + " | ".join(self.columns) + " |", "|---" * len(self.columns) + "|"]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in self.rows)])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core and every library on one thread."""
    import torch
    from threadpoolctl import threadpool_limits

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    threads = torch.get_num_threads()
    try:
        if allowed:
            os.sched_setaffinity(0, {max(allowed)})
        torch.set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
        if allowed:
            os.sched_setaffinity(0, allowed)


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Wall time of one call; with ``time.process_time`` the CPU time of this process."""
    start = clock()
    call()
    return clock() - start


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median time of each call in seconds, by ``clock``.

    All are called once before the clock starts. Then they take turns, so that whatever else slows the machine down
    slows all of them.
    """
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds(call, clock))
    return {name: statistics.median(values) for name, values in taken.items()}


def times(ratio: float) -> str:
    """A ratio as it is shown."""
    return f"{ratio:.2f}x"
