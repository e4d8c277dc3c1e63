"""Where each clip lies in the space that a generator draws in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foley import tables

BATCH_ROWS = 4096


def has_own_space(projected: Path | None) -> bool:
    """Whether a generator draws in a space of its own (PROJECTED_EMBEDDINGS has rows)."""
    return projected is not None and pq.read_metadata(projected).num_rows > 0


def _clip_means(path: Path) -> Iterator[tuple[list[str], np.ndarray[Any, Any]]]:
    """Of EMBEDDINGS, where the windows of a clip follow one another; the last clip of a batch may go on in the next."""
    names: list[str] = []
    rows: np.ndarray[Any, Any] | None = None
    for batch in tables.iter_batches(path, ["clip_id", "vector"], batch_size=BATCH_ROWS):
        matrix = tables.to_matrix(batch["vector"]).astype(np.float64)
        names += batch["clip_id"].to_pylist()
        rows = matrix if rows is None else np.concatenate([rows, matrix])
        last = names.index(names[-1])
        if last:
            yield _means(names[:last], rows[:last])
        names, rows = names[last:], rows[last:]
    if rows is not None and len(rows):
        yield _means(names, rows)


def _means(names: list[str], rows: np.ndarray[Any, Any]) -> tuple[list[str], np.ndarray[Any, Any]]:
    firsts = [row for row, name in enumerate(names) if not row or name != names[row - 1]]
    counts = np.diff([*firsts, len(names)])
    return [names[row] for row in firsts], np.add.reduceat(rows, firsts) / counts[:, None]


def iter_places(
    embeddings: Sequence[Path], projected: Path | None
) -> Iterator[tuple[list[str], np.ndarray[Any, Any]]]:
    """Clip ids and vectors, some at a time: real embeddings, of each clip the mean over its windows; or, where the
    generator has a space of its own, each clip's place in that of the lowest seed.
    """
    if projected is None or not has_own_space(projected):
        for path in embeddings:
            yield from _clip_means(path)
        return
    lowest: int | None = None
    columns = ["seed", "clip_id", "draw", "vector"]
    for batch in tables.iter_batches(projected, columns, batch_size=BATCH_ROWS):
        # Rows are ordered by seed; draws other than 0 are what classifiers learnt from.
        lowest = batch["seed"][0].as_py() if lowest is None else lowest
        batch = batch.filter(pc.and_(pc.equal(batch["seed"], lowest), pc.equal(batch["draw"], 0)))
        if batch.num_rows:
            yield batch["clip_id"].to_pylist(), tables.to_matrix(batch["vector"])
