"""Predictions read back: one method in one split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from foley import tables
from foley.tables.scores import PREDICTIONS

CONVENTIONAL, GENERALISED = "conventional", "generalised"
LABELS = ("dataset", "split", "method", "variant")


@dataclass(frozen=True)
class Predicted:
    """One method's answers in one split: ids [N], truth [N], said [runs, N]; the same N for every run.

    A run is a seed. A method without seeds (null in the table) has one run and empty ``seeds``.
    """

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


def read_labels(path: Path) -> dict[str, str]:
    """Whose predictions a file holds: dataset, split, method and variant.

    Raises:
        ValueError: the file has no rows.
    """
    head = tables.read(path, PREDICTIONS, columns=list(LABELS)).slice(0, 1).to_pylist()
    if not head:
        raise ValueError(f"{path}: holds no predictions; delete it so that it is made again")
    return head[0]


def read_settings(path: Path) -> dict[str, Predicted]:
    """One file of predictions, setting by setting: references (oracle, CLAP) have the conventional one alone.

    Raises:
        ValueError: the file has no conventional predictions, or some with and some without a seed.
    """
    table = tables.read(path, PREDICTIONS)
    settings = table["setting"].unique().to_pylist()
    if CONVENTIONAL not in settings:
        raise ValueError(f"{path}: holds no {CONVENTIONAL} predictions; delete it so that it is made again")
    return {
        setting: _predicted(path, table.filter(pa.compute.equal(table["setting"], setting)))
        for setting in settings
    }


def read_predictions(path: Path, setting: str) -> Predicted:
    """One file of predictions, one setting.

    Raises:
        ValueError: the file has no predictions in this setting.
    """
    settings = read_settings(path)
    if setting not in settings:
        raise ValueError(f"{path}: holds no {setting} predictions, only {', '.join(sorted(settings))} ones")
    return settings[setting]


def _predicted(path: Path, table: pa.Table) -> Predicted:
    seeds = table["seed"].unique().to_pylist()
    if None in seeds and len(seeds) > 1:
        raise ValueError(f"{path}: some predictions have a seed and some have none; a method has either")
    n = table.num_rows // len(seeds)
    # Rows are ordered by seed, then clip.
    said = table["predicted_class_id"].to_numpy().reshape(len(seeds), n)
    head = table.slice(0, n)
    return Predicted(
        {name: head[name][0].as_py() for name in LABELS},
        tuple(sorted(seed for seed in seeds if seed is not None)),
        np.array(head["clip_id"].to_pylist(), dtype=object),
        head["class_id"].to_numpy(),
        said,
        np.array([role == "unseen" for role in head["role"].to_pylist()]),
    )
