"""The study ``interpolation`` on one dataset: does a classifier gain by interpolated or sampled clips?

Every arm is measured in every split, against the arm ``real`` and against every other. Differences are paired: both
arms answer for the same clips and are measured on the same bootstrap draws of recordings. The folds of a dataset have
test clips of their own, so their draws are independent and a mean over folds averages draw by draw. ``random`` stays
by itself: its recordings leak.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foley import tables
from foley.metrics import classification as metric
from foley.metrics.bootstrap import Resamples
from foley.metrics.paired import ROUNDING, bootstrap_p, corrected_t_test, holm
from foley.studies.audio.arms import REAL
from foley.studies.audio.splits import TEST, TRAIN, classes_in, clips_in, is_fold, read_partition
from foley.studies.audio.training import CLOSED
from foley.studies.zero_shot.predictions import LABELS, Predicted
from foley.studies.zero_shot.score import Measured, interval_or_none, resamples_of, score_row, summary_rows
from foley.tables.scores import PREDICTIONS, SCORES

STUDY = "interpolation"
MEAN = "mean"
# What has a row for each seed besides.
BY_SEED = ("accuracy", "accuracy_macro", "f1_macro")

# (metric, class id or None for all classes) -> what was measured.
Quantities: TypeAlias = dict[tuple[str, int | None], Measured]


class System(NamedTuple):
    """What is compared: an arm of a classifier."""

    method: str
    variant: str


@dataclass(frozen=True)
class Run:
    """One arm of a classifier in one split: its seeds and what was measured."""

    seeds: tuple[int, ...]
    measured: Quantities


@dataclass(frozen=True)
class Split:
    """A split's partition (rows of AUDIO_PARTITION), and the runs in it."""

    rows: Sequence[Mapping[str, Any]]
    runs: dict[System, Run]


def compare_arms(
    output: Path,
    *,
    predictions: Sequence[Path],
    partitions: Mapping[str, Path],
    baseline: str = REAL,
    draws: int,
    seed: int,
    study: str = STUDY,
    without_baseline: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Scores of all arms and classifiers of a dataset, split by split, and their means over folds (``mean``).

    ``accuracy``, ``accuracy_macro`` (unweighted average recall) and ``f1_macro``: over seeds with an interval, seed by
    seed, and their spread. ``recall`` and ``precision`` of each class. ``gain_over_<baseline>``: difference in
    accuracy, and in recall for each class. ``difference_to_<arm>`` and ``p_difference_to_<arm>``: of all pairs of arms
    of a classifier. The p of the mean is that of the corrected resampled t-test over folds, that of a single split the
    bootstrap's over recordings; both are after Holm's adjustment over all pairs of a classifier in a split or the mean.
    A class with test clips of a single recording has no interval, nor has its mean over folds.
    ``chance`` and ``majority`` (the commonest class of the training clips) have an ``accuracy``.

    A mean of a class is over the folds that test it. An arm that lacks a fold has no mean.

    Args:
        predictions: of every arm, classifier and split.
        partitions: split -> its partition table.
        draws: of the bootstrap.
        study: as the table names it.
        without_baseline: a classifier may lack the arm ``baseline``; its arms then have no gains.

    Raises:
        ValueError: predictions of a split without a partition, for other clips than its test clips, or for no arm
            ``baseline``; an arm whose seeds differ from fold to fold.
    """
    splits, dataset = _read_runs(predictions, partitions, draws, seed)
    folds = [split for split in splits if is_fold(split)]
    systems = sorted({system for part in splits.values() for system in part.runs})
    rows: list[dict[str, Any]] = []
    for system in systems:
        own = {split: part.runs[system] for split, part in splits.items() if system in part.runs}
        base = System(baseline, system.variant)
        based = any(base in part.runs for part in splits.values()) or not without_baseline
        for split in own:
            if based and base not in splits[split].runs:
                raise ValueError(
                    f"{dataset}, split {split}: arm `{system.method}` of `{system.variant}` has no arm `{baseline}` to "
                    f"be measured against; run the arm `{baseline}`, too"
                )
        measured = {split: run.measured for split, run in own.items()}
        if based and system != base:
            for split, run in own.items():
                gains = gains_over(run.measured, splits[split].runs[base].measured, baseline)
                measured[split] = run.measured | gains
        seeds = {split: run.seeds for split, run in own.items()}
        if len(folds) > 1 and all(fold in own for fold in folds):
            seeds[MEAN] = same_seeds([own[fold].seeds for fold in folds], dataset, system)
            measured[MEAN] = mean_over_folds([measured[fold] for fold in folds])
        for split, found in measured.items():
            labels = labels_of(study, dataset, split, *system)
            rows += rows_of(labels, found, seeds[split])
    ratio = tested_over_trained([splits[fold].rows for fold in folds])
    for variant in sorted({system.variant for system in systems}):
        rows += pair_rows(study, dataset, variant, splits, folds, ratio)
    rows += reference_rows(study, dataset, splits, folds)
    tables.write(output, SCORES, rows, provenance)


def read_closed(path: Path, role: str = TEST) -> Predicted:
    """What one classifier said of the clips of a role, in one arm and split.

    Raises:
        ValueError: no such predictions in the setting ``closed``, or seeds that answer for different clips.
    """
    return closed_of(tables.read(path, PREDICTIONS), path, role)


def closed_of(table: pa.Table, path: Path, role: str = TEST) -> Predicted:
    """The same from rows of PREDICTIONS that were read from ``path`` already."""
    table = table.filter(pc.and_(pc.equal(table["setting"], CLOSED), pc.equal(table["role"], role)))
    if not table.num_rows:
        raise ValueError(
            f"{path}: holds no {CLOSED} predictions of {role} clips; delete it so that it is made again"
        )
    seeds = table["seed"].unique().to_pylist()
    parts = [table.filter(pc.equal(table["seed"], seed)) for seed in seeds]
    head = parts[0]
    if any(
        not part.select(["clip_id", "class_id"]).equals(head.select(["clip_id", "class_id"]))
        for part in parts
    ):
        raise ValueError(f"{path}: its seeds answer for different clips; delete it so that it is made again")
    return Predicted(
        {name: head[name][0].as_py() for name in LABELS},
        tuple(seeds),
        np.array(head["clip_id"].to_pylist(), dtype=object),
        head["class_id"].to_numpy(),
        np.stack([part["predicted_class_id"].to_numpy() for part in parts]),
        np.zeros(head.num_rows, dtype=bool),
    )


def measure_closed(predicted: Predicted, resamples: Resamples) -> Quantities:
    """Everything that is measured of one arm in one split; classes without test clips take no part."""
    truth, correct = predicted.truth, predicted.correct
    known = np.unique(truth)
    n = len(truth)
    one = _single_recording(resamples.recording)
    recall = metric.recalls(correct, truth, known)
    recall_draws = metric.recall_draws(correct, truth, known, resamples)
    whole = {
        "accuracy": (metric.accuracy(correct), metric.accuracy_draws(correct, resamples)),
        "accuracy_macro": (recall.mean(axis=1), np.nanmean(recall_draws, axis=1)),
        "f1_macro": (
            f1_scores(predicted.said, truth, known).mean(axis=1),
            f1_macro_draws(predicted.said, truth, known, resamples),
        ),
    }
    found: Quantities = {
        (name, None): Measured(per_seed, _unknown(draws) if one else draws, n)
        for name, (per_seed, draws) in whole.items()
    }
    precision = metric.precisions(correct, predicted.said, known)
    for number, class_id in enumerate(known.tolist()):
        count = int((truth == class_id).sum())
        draws = recall_draws[:, number]
        if _single_recording(resamples.recording[truth == class_id]):
            draws = _unknown(draws)
        found["recall", class_id] = Measured(recall[:, number], draws, count)
        said = precision[:, number][np.isfinite(precision[:, number])]
        # A class that was never said has no precision: an empty value, not a zero.
        mean = said.mean() if len(said) else math.nan
        found["precision", class_id] = Measured(np.array([mean]), np.empty(0), count)
    return found


def _single_recording(recordings: np.ndarray) -> bool:
    """Whether there is nothing to draw: one recording says nothing of how much recordings vary."""
    return len(np.unique(recordings)) < 2


def _unknown(draws: np.ndarray) -> np.ndarray:
    """No draw has a value, so there is no interval."""
    return np.full_like(draws, np.nan)


def f1_scores(said: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """F1 of each class, 2 TP / (2 TP + FP + FN): said [seeds, N] and truth [N] -> [seeds, C]."""
    member = metric.one_hot(truth, known)
    answered = said[:, :, None] == known
    return 2 * (answered & member).sum(axis=1) / (answered.sum(axis=1) + member.sum(axis=0))


def f1_macro_draws(
    said: np.ndarray, truth: np.ndarray, known: np.ndarray, resamples: Resamples
) -> np.ndarray:
    """Mean F1 over classes in each draw, averaged over seeds [draws]; classes without a drawn clip are left out."""
    member = metric.one_hot(truth, known)
    counts = resamples.sums(member)  # [draws, C]
    total = np.zeros(len(counts))
    for answers in said:
        answered = answers[:, None] == known
        right, claimed = resamples.sums(answered & member), resamples.sums(answered)
        f1 = np.divide(2 * right, claimed + counts, out=np.zeros_like(counts), where=counts > 0)
        total += f1.sum(axis=1) / (counts > 0).sum(axis=1)
    return total / len(said)


def _read_runs(
    predictions: Sequence[Path], partitions: Mapping[str, Path], draws: int, seed: int
) -> tuple[dict[str, Split], str]:
    """Splits by name, in the order of ``partitions``, and the dataset that all predictions are of."""
    splits = {name: Split(read_partition(path, name), {}) for name, path in partitions.items()}
    made: dict[str, Resamples] = {}
    datasets: set[str] = set()
    for path in predictions:
        predicted = read_closed(path)
        labels = predicted.labels
        name = labels["split"]
        if name not in splits:
            raise ValueError(
                f"{path}: is of split {name}, which has no partition here; there are {list(splits)}"
            )
        rows, runs = splits[name].rows, splits[name].runs
        answered = dict(zip(predicted.clip_ids.tolist(), predicted.truth.tolist(), strict=True))
        if answered != clips_in(rows, TEST):
            raise ValueError(
                f"{path}: answers for other clips than the test clips of split {name}; delete it so that it is made "
                "again"
            )
        if name not in made:
            recording_of = {row["clip_id"]: row["recording_id"] for row in rows}
            # One set for all arms: their differences are then paired.
            made[name] = resamples_of(predicted.clip_ids, recording_of, name, draws, seed)
        system = System(labels["method"], labels["variant"])
        if system in runs:
            raise ValueError(
                f"{path}: a second file of arm `{system.method}` of `{system.variant}` in split {name}"
            )
        runs[system] = Run(predicted.seeds, measure_closed(predicted, made[name]))
        datasets.add(labels["dataset"])
    if len(datasets) != 1:
        raise ValueError(f"predictions must be of one dataset, not of {sorted(datasets)}")
    return splits, datasets.pop()


def gains_over(here: Quantities, base: Quantities, baseline: str) -> Quantities:
    """Differences in accuracy, and in recall class by class."""
    return {
        (f"gain_over_{baseline}", class_id): difference_of(measured, base[name, class_id])
        for (name, class_id), measured in here.items()
        if name in ("accuracy", "recall")
    }


def difference_of(here: Measured, base: Measured) -> Measured:
    # Means over seeds: the seed of one arm says nothing of the same number in another, which sees other batches.
    mean = np.array([here.per_seed.mean() - base.per_seed.mean()])
    return Measured(_without_rounding(mean), _without_rounding(here.draws - base.draws), here.n)


def _without_rounding(values: np.ndarray) -> np.ndarray:
    """Zero for what the order of a sum alone makes another number."""
    return np.where(np.abs(values) <= ROUNDING, 0.0, values)


def mean_over_folds(parts: Sequence[Quantities]) -> Quantities:
    """Means over folds; of a class, over the folds that test it, and in a draw over those that drew it.

    Where one of the folds has no interval (a single recording), the mean has none.
    """
    found: Quantities = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        of_folds = [part[key] for part in parts if key in part]
        with warnings.catch_warnings():
            # A class that was never said, or drawn in no fold, has no value.
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            draws = np.nanmean([m.draws for m in of_folds], axis=0)
            if any(np.isnan(m.draws).all() for m in of_folds):
                draws = _unknown(draws)
            found[key] = Measured(
                _without_rounding(np.nanmean([m.per_seed for m in of_folds], axis=0)),
                _without_rounding(draws),
                sum(m.n for m in of_folds),
            )
    return found


def same_seeds(seeds: Sequence[tuple[int, ...]], dataset: str, system: System) -> tuple[int, ...]:
    if len(set(seeds)) > 1:
        raise ValueError(
            f"{dataset}: arm `{system.method}` of `{system.variant}` has other seeds in one fold than in another "
            f"({sorted(set(seeds))}); delete its predictions so that they are made again"
        )
    return seeds[0]


def rows_of(
    labels: Mapping[str, str], found: Quantities, seeds: tuple[int, ...], by_seed: Sequence[str] = BY_SEED
) -> list[dict[str, Any]]:
    """Rows of SCORES; what ``by_seed`` names has one for each seed and one for their spread besides."""
    rows = []
    for (name, class_id), measured in found.items():
        if name in by_seed:
            rows += summary_rows(labels, name, seeds, measured)
        else:
            rows.append(_row(labels, name, measured, class_id))
    return rows


def _row(
    labels: Mapping[str, str], name: str, measured: Measured, class_id: int | None = None
) -> dict[str, Any]:
    low, high = interval_or_none(measured.draws)
    return score_row(
        labels, name, measured.per_seed.mean(), measured.n, class_id=class_id, low=low, high=high
    )


def pair_rows(
    study: str,
    dataset: str,
    variant: str,
    splits: Mapping[str, Split],
    folds: Sequence[str],
    ratio: float,
    *,
    quantity: str = "accuracy",
    pooled: Split | None = None,
) -> list[dict[str, Any]]:
    """All pairs of arms of one classifier, in both directions.

    Args:
        quantity: what is compared; of others than accuracy the rows bear its name, as in ``uar_difference_to_real``.
        pooled: the test clips of all folds together, whose difference then stands for the mean over folds.
    """
    prefix = "" if quantity == "accuracy" else f"{quantity}_"
    rows: list[dict[str, Any]] = []
    arms = sorted({s.method for part in splits.values() for s in part.runs if s.variant == variant})
    tested: dict[str, list[tuple[str, str, int, float]]] = defaultdict(list)
    for one, other in combinations(arms, 2):
        here, there = System(one, variant), System(other, variant)
        differences = {
            split: difference_of(
                part.runs[here].measured[quantity, None], part.runs[there].measured[quantity, None]
            )
            for split, part in splits.items()
            if here in part.runs and there in part.runs
        }
        of_folds = [differences[fold] for fold in folds if fold in differences]
        for split, difference in differences.items():
            tested[split].append((one, other, 1, _bootstrap_p(difference.draws)))
        if len(of_folds) == len(folds) > 1:
            if pooled is None:
                difference = mean_over_folds([{("", None): part} for part in of_folds])["", None]
            else:
                difference = difference_of(
                    pooled.runs[here].measured[quantity, None], pooled.runs[there].measured[quantity, None]
                )
            p = corrected_t_test(np.array([part.per_seed[0] for part in of_folds]), ratio)
            # Folds that all differ by the same amount leave the bootstrap's.
            p = _bootstrap_p(difference.draws) if math.isnan(p) else p
            tested[MEAN].append((one, other, len(folds), p))
            differences[MEAN] = difference
        for split, difference in differences.items():
            for method, opponent, sign in ((one, other, 1), (other, one, -1)):
                labels = labels_of(study, dataset, split, method, variant)
                signed = Measured(
                    # Without a minus before a zero.
                    sign * difference.per_seed + 0.0,
                    sign * difference.draws + 0.0,
                    difference.n,
                )
                rows.append(_row(labels, f"{prefix}difference_to_{opponent}", signed))
    for split, pairs in tested.items():
        for (one, other, n, _), p in zip(pairs, holm(np.array([p for *_, p in pairs])), strict=True):
            for method, opponent in ((one, other), (other, one)):
                labels = labels_of(study, dataset, split, method, variant)
                rows.append(score_row(labels, f"p_{prefix}difference_to_{opponent}", p, n))
    return rows


def _bootstrap_p(draws: np.ndarray) -> float:
    """As ``bootstrap_p``; 1 where nothing could be drawn, so that nothing is claimed."""
    return 1.0 if np.isnan(draws).all() else bootstrap_p(draws)


def labels_of(study: str, dataset: str, split: str, method: str, variant: str) -> dict[str, str]:
    return {"study": study, "dataset": dataset, "split": split, "method": method, "variant": variant}


def tested_over_trained(partitions: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    """Tested over training recordings, summed over folds: n_test / n_train of the corrected t-test.

    What a fold draws is recordings; the clips of one say much the same.
    """
    recordings = Counter(
        role for rows in partitions for role, _ in {(row["role"], row["recording_id"]) for row in rows}
    )
    return recordings[TEST] / recordings[TRAIN] if recordings[TRAIN] else 0.0


def reference_rows(
    study: str, dataset: str, splits: Mapping[str, Split], folds: Sequence[str]
) -> list[dict[str, Any]]:
    """What needs no ears: chance (one class in C), and always saying the commonest class of the training clips."""
    found: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    for split, part in splits.items():
        tested = Counter(clips_in(part.rows, TEST).values())
        trained = Counter(clips_in(part.rows, TRAIN).values())
        # Of equally common ones, the first.
        commonest = min(trained, key=lambda class_id: (-trained[class_id], class_id))
        n = tested.total()
        found["chance"][split] = 1 / len(classes_in(part.rows)), n
        found["majority"][split] = tested[commonest] / n, n
    if len(folds) > 1:
        for of_split in found.values():
            parts = [of_split[fold] for fold in folds]
            of_split[MEAN] = float(np.mean([value for value, _ in parts])), sum(n for _, n in parts)
    return [
        score_row(labels_of(study, dataset, split, method, ""), "accuracy", value, n)
        for method, of_split in found.items()
        for split, (value, n) in of_split.items()
    ]
