"""Batches that fit into a device's memory: out of memory, half as many go through together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def batches_that_fit(
    run: Callable[[slice], Result], count: int, batch_size: int, name: str
) -> Iterator[Result]:
    """``run`` on slices of ``count`` rows, in their order, with ``batch_size`` rows at most and fewer if need be.

    Args:
        name: of what runs, for the log.

    Raises:
        torch.OutOfMemoryError: a single row is too much.
    """
    start = 0
    while start < count:
        part = slice(start, min(start + batch_size, count))
        try:
            made = run(part)
        except torch.OutOfMemoryError:
            if part.stop - start == 1:
                raise
        else:
            yield made
            start = part.stop
            continue
        # Outside of the handler: the error holds the frames whose tensors fill the memory.
        batch_size = (part.stop - start) // 2
        log.warning("%s: out of memory; going on with %d at once", name, batch_size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
