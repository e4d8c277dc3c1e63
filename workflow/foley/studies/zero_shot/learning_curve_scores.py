"""One dataset: accuracy at each point of its learning curves, per split and in the mean of the splits.

Apart from the training of the curves: what is measured of them may change without training them again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.metrics import classification as metric
from foley.studies.zero_shot.score import Measured, SplitDraws, summary_rows
from foley.tables.learning_curve import LEARNING_CURVE
from foley.tables.scores import SCORES

Seeds = tuple[int, ...]


def score_learning_curves(
    output: Path,
    *,
    curves: Sequence[Path],
    partitions: Mapping[str, Path],
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Rows ``accuracy_at_<n>_samples``: over seeds with an interval over recordings, seed by seed, and their spread.

    All points of a split share their bootstrap draws, those of the study's other methods. ``split = mean`` has the
    points that every split has.

    Args:
        curves: tables of learning curves, of any splits, methods and variants.
        partitions: split -> its partition table.

    Raises:
        ValueError: a method has other seeds in one split than in another.
    """
    split_draws = SplitDraws(partitions, draws, seed)
    rows: list[dict[str, Any]] = []
    by_method: dict[tuple[str, str, str], dict[str, tuple[Seeds, dict[int, Measured]]]] = defaultdict(dict)
    for path in curves:
        labels, seeds, points = _measure(path, split_draws)
        for count, measured in points.items():
            rows += summary_rows(labels, _name(count), seeds, measured)
        key = (labels["dataset"], labels["method"], labels["variant"])
        by_method[key][labels["split"]] = (seeds, points)
    for (dataset, method, variant), of_splits in by_method.items():
        if len(partitions) == 1 or set(of_splits) != set(partitions):
            continue
        if len({seeds for seeds, _ in of_splits.values()}) > 1:
            raise ValueError(
                f"the learning curves of {method} on {variant} have other seeds in one split than in another: "
                f"{ {split: seeds for split, (seeds, _) in of_splits.items()} }"
            )
        mean_labels = {"dataset": dataset, "split": "mean", "method": method, "variant": variant}
        everywhere = set.intersection(*(set(points) for _, points in of_splits.values()))
        seeds = next(iter(of_splits.values()))[0]
        for count in sorted(everywhere):
            parts = [points[count] for _, points in of_splits.values()]
            whole = Measured(
                np.mean([part.per_seed for part in parts], axis=0),
                np.mean([part.draws for part in parts], axis=0),
                sum(part.n for part in parts),
            )
            rows += summary_rows(mean_labels, _name(count), seeds, whole)
    tables.write(output, SCORES, rows, provenance)


def _name(count: int) -> str:
    return f"accuracy_at_{count}_samples"


def _measure(path: Path, split_draws: SplitDraws) -> tuple[dict[str, str], Seeds, dict[int, Measured]]:
    """One file: its labels, its seeds, and the accuracy at each number of samples."""
    table = tables.read(path, LEARNING_CURVE)
    labels = {name: table[name][0].as_py() for name in ("dataset", "split", "method", "variant")}
    counts = np.unique(table["samples_per_class"].to_numpy())
    seeds = tuple(np.unique(table["seed"].to_numpy()).tolist())
    # Rows are ordered by number of samples, seed and clip; every point has the same clips.
    correct = table["class_id"].to_numpy() == table["predicted_class_id"].to_numpy()
    correct = correct.reshape(len(counts), len(seeds), -1).astype(np.float64)
    n = correct.shape[2]
    clip_ids = np.array(table.slice(0, n)["clip_id"].to_pylist(), dtype=object)
    resamples = split_draws.of(labels["split"], clip_ids)
    points = {
        int(count): Measured(metric.accuracy(part), metric.accuracy_draws(part, resamples), n)
        for count, part in zip(counts, correct, strict=True)
    }
    return labels, seeds, points
