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


def iter_places(
    embeddings: Sequence[Path], projected: Path | None
) -> Iterator[tuple[list[str], np.ndarray[Any, Any]]]:
    """Clip ids and vectors, some at a time: real embeddings, a row a window; or, where the generator has a space of
    its own, each clip's place in that of the lowest seed.
    """
    if projected is None or not has_own_space(projected):
        for path in embeddings:
            for batch in tables.iter_batches(path, ["clip_id", "vector"], batch_size=BATCH_ROWS):
                yield batch["clip_id"].to_pylist(), tables.to_matrix(batch["vector"])
        return
    lowest: int | None = None
    columns = ["seed", "clip_id", "draw", "vector"]
    for batch in tables.iter_batches(projected, columns, batch_size=BATCH_ROWS):
        # Rows are ordered by seed; draws other than 0 are what classifiers learnt from.
        lowest = batch["seed"][0].as_py() if lowest is None else lowest
        batch = batch.filter(pc.and_(pc.equal(batch["seed"], lowest), pc.equal(batch["draw"], 0)))
        if batch.num_rows:
            yield batch["clip_id"].to_pylist(), tables.to_matrix(batch["vector"])
