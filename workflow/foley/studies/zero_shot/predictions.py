"""Predictions read back: one method in one split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from foley import tables
from foley.tables.scores import PREDICTIONS

CONVENTIONAL, GENERALISED = "conventional", "generalised"


@dataclass(frozen=True)
class Predicted:
    """One method's answers in one split: ids [N], truth [N], said [seeds, N]; the same N for every seed."""

    labels: dict[str, str]
    seeds: tuple[int, ...]
    clip_ids: np.ndarray
    truth: np.ndarray
    said: np.ndarray
    is_unseen: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return (self.said == self.truth[None, :]).astype(np.float64)

    def only_unseen(self) -> Predicted:
        keep = self.is_unseen
        return Predicted(
            self.labels, self.seeds, self.clip_ids[keep], self.truth[keep], self.said[:, keep], keep[keep]
        )


def read_predictions(path: Path, setting: str) -> Predicted:
    """One file of predictions, one setting."""
    table = tables.read(path, PREDICTIONS)
    table = table.filter(pa.compute.equal(table["setting"], setting))
    seeds = tuple(sorted(set(table["seed"].to_pylist())))
    n = table.num_rows // max(len(seeds), 1)
    # Rows are ordered by seed, then clip.
    said = table["predicted_class_id"].to_numpy().reshape(len(seeds), n)
    head = table.slice(0, n)
    return Predicted(
        {name: head[name][0].as_py() for name in ("dataset", "split", "method", "variant")},
        seeds,
        np.array(head["clip_id"].to_pylist(), dtype=object),
        head["class_id"].to_numpy(),
        said,
        np.array([role == "unseen" for role in head["role"].to_pylist()]),
    )
