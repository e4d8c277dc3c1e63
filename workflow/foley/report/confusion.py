"""Confusion counts, summed from the predictions per clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foley import tables

_KEY = ["dataset", "split", "method", "variant"]
_CELL = [*_KEY, "class_id", "predicted_class_id"]
# Setting -> role of the clips that are counted: unseen classes alone, or test clips of classes all of which train.
_COUNTED = {"conventional": "unseen", "closed": "test"}


@dataclass(frozen=True)
class Confusion:
    """Counts [classes, classes], true x predicted, of one experiment over all its seeds."""

    dataset: str
    split: str
    method: str
    variant: str
    class_ids: tuple[int, ...]
    counts: np.ndarray[Any, Any]
    setting: str = "conventional"

    def most_frequent(self, limit: int) -> list[tuple[int, int, int, float]]:
        """The commonest confusions: (true class, predicted class, count, share of the true class)."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        rows, columns = np.unravel_index(order, wrong.shape)
        totals = self.counts.sum(axis=1)
        return [
            (self.class_ids[r], self.class_ids[c], int(wrong[r, c]), float(wrong[r, c] / totals[r]))
            for r, c in zip(rows, columns, strict=True)
            if wrong[r, c]
        ]


def read_confusions(predictions: Sequence[Path]) -> list[Confusion]:
    """Confusions of the conventional setting (argmax over unseen classes) and of the closed one (all classes have
    training clips), in the order of the files.

    Streams the tables: memory does not grow with the number of clips.
    """
    cells: dict[tuple[str, str, str, str, str], dict[tuple[int, int], int]] = {}
    for path in predictions:
        for batch in tables.iter_batches(path, [*_CELL, "setting", "role"], batch_size=65_536):
            table = pa.Table.from_batches([batch])
            keep = pc.or_(
                *(
                    pc.and_(pc.equal(table["setting"], setting), pc.equal(table["role"], role))
                    for setting, role in _COUNTED.items()
                )
            )
            by = [*_CELL, "setting"]
            counted = table.filter(keep).group_by(by, use_threads=False).aggregate([([], "count_all")])
            for row in counted.to_pylist():
                key = (row["dataset"], row["split"], row["method"], row["variant"] or "", row["setting"])
                pair = (row["class_id"], row["predicted_class_id"])
                if None not in pair:
                    counts = cells.setdefault(key, {})
                    counts[pair] = counts.get(pair, 0) + row["count_all"]
    found = []
    for key, counts in cells.items():
        ids = tuple(sorted({class_id for pair in counts for class_id in pair}))
        place = {class_id: number for number, class_id in enumerate(ids)}
        matrix = np.zeros((len(ids), len(ids)), dtype=np.int64)
        for (true, predicted), count in counts.items():
            matrix[place[true], place[predicted]] = count
        dataset, split, method, variant, setting = key
        found.append(Confusion(dataset, split, method, variant, ids, matrix, setting))
    return found
