"""One dataset: means over folds of what was measured of each generator, and every pair of generators.

A mean is over the folds; the split ``random``, which leaks recordings, and any other single split stand for themselves.

Intervals of means: folds have clips of their own, and each its own training, so their values are independent, and their
intervals are joined by the method of variance estimates recovery (Zou & Donner 2008, "Construction of confidence limits
about effect measures: a general approach", Statistics in Medicine 27): the lower arm of a mean is the root of the sum
of the squared lower arms, over their number. What is itself a mean over classes is drawn anew over classes, which all
folds share.

Pairs are compared class by class: the same classes are drawn for both, and for all folds. That holds the clips as they
are and asks what other classes would say.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foley import tables
from foley.metrics.bootstrap import interval, resample_recordings
from foley.metrics.paired import bootstrap_p, holm
from foley.studies.audio.quality import (
    CLASS_MEAN,
    INFINITE,
    KERNEL,
    REAL,
    RECOGNITION,
    SHRUNK,
    STUDY,
    quality_scores,
    stands_alone,
)
from foley.studies.audio.splits import is_fold
from foley.tables.audio_studies import AUDIO_QUALITY
from foley.tables.scores import SCORES

log = logging.getLogger(__name__)

MEAN = "mean"
# What pairs of generators are compared by.
PAIRED = (SHRUNK, INFINITE, KERNEL, RECOGNITION)
# Of these, what more vectors alone make lower: in a class that two generators made other numbers of, they are no pair.
# The others are unbiased, or the limit for many clips.
OF_EQUAL_NUMBERS = frozenset({SHRUNK})
_OF_CLASSES = ("diversity", "real_diversity", "vendi")

Row = Mapping[str, Any]


class _Key(NamedTuple):
    """What was measured of whom, in a split."""

    split: str
    embedding: str
    metric: str
    generator: str


class _OfClass(NamedTuple):
    value: float
    numbers: tuple[int, ...]


def compare_generators(
    output: Path,
    *,
    quality: Sequence[Path],
    draws: int = 2000,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write means over folds, and for each pair of generators the mean difference over classes.

    Rows of a pair are ``<metric>_difference_to_<generator>`` with an interval over classes, and
    ``p_<metric>_difference_to_<generator>``, the p of that bootstrap after Holm's adjustment over all pairs of the same
    split, embedding and metric; ``n`` is the number of classes. Only values that stand alone are compared; classes
    that one of the two lacks are left out, and so are, for ``OF_EQUAL_NUMBERS``, classes of which they have other
    numbers of vectors. A pair with fewer than two classes has no row. The yardstick ``real`` has means and no pairs.

    Args:
        quality: tables of all generators and splits of one dataset.
        draws, seed: of the bootstrap.

    Raises:
        ValueError: no tables, tables of several datasets, or a value that is measured twice.
    """
    if not quality:
        raise ValueError("no tables of quality to compare; measure the generators first")
    rows: list[Row] = [row for path in quality for row in tables.read(path, AUDIO_QUALITY).to_pylist()]
    datasets = sorted({row["dataset"] for row in rows})
    if len(datasets) > 1:
        raise ValueError(f"tables of the datasets {datasets}: give those of one")
    good = [row for row in rows if stands_alone(row)]
    overall: dict[_Key, Row] = {}
    classes: dict[_Key, dict[int, Row]] = defaultdict(dict)
    for row in good:
        key = _Key(row["split"], row["embedding"], row["metric"], row["generator"])
        own, name = (overall, key) if row["class_id"] is None else (classes[key], row["class_id"])
        if name in own:
            raise ValueError(f"{key} of class {row['class_id']} is measured twice; give each table once")
        own[name] = row  # type: ignore[index]
    folds = sorted({row["split"] for row in rows if is_fold(row["split"])})
    found: list[dict[str, Any]] = []
    if len(folds) > 1:
        found += quality_scores(_means(overall, classes, folds, draws, seed))
    for row in _differences(classes, folds, draws, seed):
        found.append(
            {**row, "study": STUDY, "dataset": datasets[0], "fold": None, "seed": None, "class_id": None}
        )
    tables.write(output, SCORES, found, provenance)


def _means(
    overall: Mapping[_Key, Row],
    classes: Mapping[_Key, Mapping[int, Row]],
    folds: Sequence[str],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of AUDIO_QUALITY of ``split = mean``: over all classes where every fold has a value, and of each class in
    the folds that have it."""
    rows = []
    for key in sorted({key._replace(split=MEAN) for key in {*overall, *classes} if key.split in folds}):
        of_folds = [overall.get(key._replace(split=fold)) for fold in folds]
        parts = [row for row in of_folds if row is not None]
        if len(parts) == len(folds):
            low, high = _joined(parts)
            if key.metric in _OF_CLASSES or key.metric.endswith(CLASS_MEAN):
                low, high = _over_classes(key, classes, folds, draws, seed)
            rows.append(_mean_row(parts, low, high))
        elif parts:
            log.warning(
                "%s, %s, %s: %d of %d folds have a value without a warning, so there is no mean",
                *(key.generator, key.embedding, key.metric, len(parts), len(folds)),
            )
        of_class: dict[int, list[Row]] = defaultdict(list)
        for fold in folds:
            for class_id, row in classes.get(key._replace(split=fold), {}).items():
                of_class[class_id].append(row)
        rows += [_mean_row(of_class[class_id], *_joined(of_class[class_id])) for class_id in sorted(of_class)]
    return rows


def _mean_row(parts: Sequence[Row], low: float | None, high: float | None) -> dict[str, Any]:
    def total(name: str) -> int | None:
        return None if parts[0][name] is None else sum(row[name] for row in parts)

    return {
        **parts[0],
        "split": MEAN,
        "value": float(np.mean([row["value"] for row in parts])),
        "low": low,
        "high": high,
        "n_real": total("n_real"),
        "n_synthetic": total("n_synthetic"),
    }


def _joined(parts: Sequence[Row]) -> tuple[float | None, float | None]:
    """Interval of a mean of independent values (Zou & Donner 2008); none where one of them has none."""
    if any(row["low"] is None or row["high"] is None for row in parts):
        return None, None
    value = np.array([row["value"] for row in parts])
    arms = [np.array([row[end] for row in parts]) - value for end in ("low", "high")]
    below, above = (float(np.sqrt(np.square(arm).sum()) / len(parts)) for arm in arms)
    return float(value.mean()) - below, float(value.mean()) + above


def _over_classes(
    key: _Key, classes: Mapping[_Key, Mapping[int, Row]], folds: Sequence[str], draws: int, seed: int
) -> tuple[float | None, float | None]:
    """Interval over classes of a mean over folds of means over classes; the same draw of classes for all folds."""
    metric = key.metric.removesuffix(CLASS_MEAN)
    parts = [classes.get(key._replace(split=fold, metric=metric), {}) for fold in folds]
    known = sorted({class_id for part in parts for class_id in part})
    if len(known) < 2:
        return None, None
    resamples = resample_recordings(np.array(known), draws, seed, "classes")
    means = []
    for part in parts:
        there = np.array([class_id in part for class_id in known], dtype=float)
        values = np.array([part[c]["value"] if c in part else 0.0 for c in known])
        with np.errstate(invalid="ignore"):
            means.append(resamples.sums(values) / resamples.sums(there))
    low, high = interval(np.mean(means, axis=0))
    return low, high


def _differences(
    classes: Mapping[_Key, Mapping[int, Row]], folds: Sequence[str], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of pairs in each split, and in the mean over folds."""
    # Of a class: its value, and the numbers of vectors that it follows from, where that matters.
    tables_of: dict[tuple[str, str, str], dict[str, dict[int, _OfClass]]] = defaultdict(dict)
    for key, of_class in classes.items():
        if key.metric in PAIRED and key.generator != REAL:
            counts = key.metric in OF_EQUAL_NUMBERS
            found = {
                class_id: _OfClass(float(row["value"]), (row["n_synthetic"],) if counts else ())
                for class_id, row in of_class.items()
            }
            tables_of[key.split, key.embedding, key.metric][key.generator] = found
    if len(folds) > 1:
        for embedding, metric in {where[1:] for where in tables_of}:
            tables_of[MEAN, embedding, metric] = _of_all_folds(
                [tables_of.get((fold, embedding, metric), {}) for fold in folds]
            )
    rows = []
    for (split, embedding, metric), by_generator in sorted(tables_of.items()):
        pairs = []
        for one, other in combinations(sorted(by_generator), 2):
            ours, theirs = by_generator[one], by_generator[other]
            shared = [c for c in sorted(ours.keys() & theirs.keys()) if ours[c].numbers == theirs[c].numbers]
            if len(shared) < 2:
                continue
            values = np.array([ours[c].value - theirs[c].value for c in shared])
            resamples = resample_recordings(np.array(shared), draws, seed, "classes")
            pairs.append((one, other, values, resamples.sums(values) / len(shared)))
        if not pairs:
            continue
        for (one, other, values, drawn), p in zip(
            pairs, holm(np.array([bootstrap_p(pair[3]) for pair in pairs])), strict=True
        ):
            low, high = interval(drawn)
            mean = float(values.mean())
            for here, there, value, ends in (
                (one, other, mean, (low, high)),
                (other, one, 0 - mean, (0 - high, 0 - low)),
            ):
                labels = {"split": split, "method": here, "variant": embedding, "n": len(values)}
                name = f"{metric}_difference_to_{there}"
                rows.append({**labels, "metric": name, "value": value, "low": ends[0], "high": ends[1]})
                rows.append({**labels, "metric": f"p_{name}", "value": float(p), "low": None, "high": None})
    return rows


def _of_all_folds(
    folds: Sequence[Mapping[str, Mapping[int, _OfClass]]],
) -> dict[str, dict[int, _OfClass]]:
    """Mean over folds of each generator's value of each class, where all folds have both."""
    generators = set.intersection(*(set(fold) for fold in folds))
    means: dict[str, dict[int, _OfClass]] = {}
    for generator in generators:
        known = set.intersection(*(set(fold[generator]) for fold in folds))
        means[generator] = {
            c: _OfClass(
                float(np.mean([fold[generator][c].value for fold in folds])),
                tuple(number for fold in folds for number in fold[generator][c].numbers),
            )
            for c in known
        }
    return means
