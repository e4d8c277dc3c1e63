"""The study ``speech`` on one dataset: how well each arm recognises in each condition, and what backgrounds gain.

Every arm is measured in every condition on the same test clips, so all differences are paired. The bootstrap draws
speakers (recordings, where few speakers are tested). Over folds, which test each clip once, the test clips of all folds
are measured together under the split ``mean``: a fold that leaves one speaker out says nothing of how speakers vary.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from foley import tables
from foley.metrics import classification as metric
from foley.metrics.bootstrap import Resamples
from foley.studies.audio.compare_arms import (
    MEAN,
    Quantities,
    Run,
    Split,
    System,
    closed_of,
    difference_of,
    gains_over,
    pair_rows,
    reference_rows,
    rows_of,
    same_seeds,
    tested_over_trained,
)
from foley.studies.audio.splits import ROLES, TEST, TRAIN, VALIDATION, clips_in, is_fold
from foley.studies.speech.backgrounds import read_backgrounds
from foley.studies.speech.names import NONE, REAL, STUDY, Condition, parse_variant, variant
from foley.studies.speech.speakers import SPEAKER, clusters, read_speech_partition
from foley.studies.zero_shot.predictions import Predicted
from foley.studies.zero_shot.score import Measured, resamples_of
from foley.tables.scores import PREDICTIONS, SCORES
from foley.tables.speech import KEPT_APART, SPEECH_SCORES

ACCURACY, UAR, WEIGHTED_F1 = QUANTITIES = ("accuracy", "uar", "f1_weighted")


def compare_speech(
    output: Path,
    curves: Path,
    kept_apart: Path,
    *,
    predictions: Sequence[Path],
    partitions: Mapping[str, Path],
    backgrounds: Mapping[str, Path],
    background_split: str,
    draws: int,
    seed: int,
    quantity: str = ACCURACY,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Scores of all arms, recognisers and conditions of a dataset (SCORES), the same with background and ratio as
    columns (SPEECH_SCORES), and what was kept apart (KEPT_APART).

    ``accuracy``, ``uar`` (unweighted average recall) and ``f1_weighted``: over seeds with an interval, seed by seed,
    and their spread; ``recall`` of each class. A condition ``<background>/mean`` is the mean over the ratios of a
    background, draw by draw. ``difference_to_<arm>`` and ``p_difference_to_<arm>`` of accuracy, ``uar_difference_…`` of
    UAR: all pairs of arms of a recogniser in a condition, Holm's adjustment over those pairs; the p over folds is that
    of the corrected resampled t-test. ``gain_over_none``: the same of accuracy and of each class's recall, in the
    headline condition alone (:func:`headline`), so that one comparison answers the study's question. Where another
    ``quantity`` is to answer it, its gain stands beside, under its name: ``uar_gain_over_none``.

    Args:
        predictions: of every arm, recogniser and split; a file may hold several conditions.
        partitions: split -> its SPEECH_PARTITION.
        backgrounds: background -> its BACKGROUNDS.
        background_split: split of the background dataset.
        draws: of the bootstrap.
        quantity: that the study's question is asked of: ``accuracy`` or ``uar``.

    Raises:
        ValueError: predictions of a split without a partition, for other clips than its test clips, of different
            datasets or conditions; a recogniser without the arm ``none``; anything on both sides.
    """
    rows_of_split = {split: read_speech_partition(path, split) for split, path in partitions.items()}
    said, dataset = _read(predictions, rows_of_split)
    folds = [split for split in said if is_fold(split)]
    places = {split: (_clustered(rows_of_split[split]), said[split]) for split in said}
    if len(folds) > 1:
        whole = _pooled([said[fold] for fold in folds], dataset)
        tested = [row for fold in folds for row in rows_of_split[fold] if row["role"] == TEST]
        if whole:
            places[MEAN] = (_clustered(tested), whole)
    splits = {name: _measured(name, part, its, draws, seed) for name, (part, its) in places.items()}
    pooled = splits.get(MEAN)
    single = {name: part for name, part in splits.items() if name != MEAN}
    ratio = tested_over_trained([single[fold].rows for fold in folds])
    rows: list[dict[str, Any]] = []
    for place, part in splits.items():
        _refuse_without_baseline(part, dataset, place)
        for system, run in part.runs.items():
            labels = {
                "study": STUDY, "dataset": dataset, "split": place, "method": system.method,
                "variant": system.variant,
            }  # fmt: skip
            found = run.measured
            if system.method != NONE and system.variant in headline(part.runs):
                base = part.runs[System(NONE, system.variant)]
                gains = gains_over(found, base.measured, NONE)
                if quantity != ACCURACY:
                    its = difference_of(found[quantity, None], base.measured[quantity, None])
                    gains = {(f"{quantity}_gain_over_{NONE}", None): its, **gains}
                found = found | gains
            rows += rows_of(labels, found, run.seeds, QUANTITIES)
    for name in sorted({system.variant for part in single.values() for system in part.runs}):
        for quantity in (ACCURACY, UAR):
            rows += pair_rows(STUDY, dataset, name, single, folds, ratio, quantity=quantity, pooled=pooled)
    curve_rows = [_as_curve(row) for row in rows]
    rows += reference_rows(STUDY, dataset, single, folds)
    tables.write(output, SCORES, rows, provenance)
    tables.write(curves, SPEECH_SCORES, curve_rows, provenance)
    apart = _apart(dataset, rows_of_split, backgrounds, background_split)
    tables.write(kept_apart, KEPT_APART, apart, provenance)


def headline(systems: Sequence[System] | Mapping[System, Any]) -> set[str]:
    """The variant that answers the study's question, of each recogniser: the mean over the ratios of held-out
    recordings; where the test mixes in none, of the background that comes first in the alphabet."""
    found: dict[str, list[str]] = defaultdict(list)
    for system in systems:
        recogniser, condition = parse_variant(system.variant)
        if condition.is_mean and condition.background not in found[recogniser]:
            found[recogniser].append(str(condition.background))
    return {
        variant(recogniser, Condition(REAL if REAL in names else min(names)))
        for recogniser, names in found.items()
        if names
    }


def measure_speech(predicted: Predicted, resamples: Resamples) -> Quantities:
    """Everything that is measured of one arm in one condition; classes without test clips take no part."""
    truth, said, correct = predicted.truth, predicted.said, predicted.correct
    known = np.unique(truth)
    n = len(truth)
    recall = metric.class_recalls(truth, said, known)
    recall_draws = metric.recall_draws(correct, truth, known, resamples)
    found: Quantities = {
        (ACCURACY, None): Measured(metric.accuracy(correct), metric.accuracy_draws(correct, resamples), n),
        (UAR, None): Measured(
            metric.uar(truth, said, known),
            metric.uar_draws_per_seed(truth, said, known, resamples).mean(axis=0),
            n,
        ),
        (WEIGHTED_F1, None): Measured(
            metric.weighted_f1(truth, said, known),
            metric.weighted_f1_draws_per_seed(truth, said, known, resamples).mean(axis=0),
            n,
        ),
    }
    for number, class_id in enumerate(known.tolist()):
        clips = int((truth == class_id).sum())
        found["recall", class_id] = Measured(recall[:, number], recall_draws[:, number], clips)
    return found


def mean_over_ratios(runs: Mapping[System, Run]) -> dict[System, Run]:
    """Of each arm, recogniser and background the mean over its ratios: the same clips and draws in each."""
    groups: dict[System, list[Run]] = defaultdict(list)
    for system, run in runs.items():
        recogniser, condition = parse_variant(system.variant)
        if condition.background is not None:
            groups[System(system.method, variant(recogniser, Condition(condition.background)))].append(run)
    found = {}
    for system, of_ratios in groups.items():
        parts = [run.measured for run in of_ratios]
        mean = {
            key: Measured(
                np.mean([part[key].per_seed for part in parts], axis=0),
                np.mean([part[key].draws for part in parts], axis=0),
                parts[0][key].n,
            )
            for key in parts[0]
        }
        found[system] = Run(of_ratios[0].seeds, mean)
    return found


def _read(
    predictions: Sequence[Path], partitions: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[dict[str, dict[System, Predicted]], str]:
    """Split -> system -> answers, in the order of ``partitions``; and the dataset that all are of."""
    found: dict[str, dict[System, Predicted]] = {split: {} for split in partitions}
    datasets: set[str] = set()
    for path in predictions:
        table = tables.read(path, PREDICTIONS)
        for name in table["variant"].unique().to_pylist():
            predicted = closed_of(table.filter(pc.equal(table["variant"], name)), path)
            split, system = predicted.labels["split"], System(predicted.labels["method"], name)
            if split not in found:
                raise ValueError(
                    f"{path}: is of split {split}, which has no partition here; there are {list(found)}"
                )
            answered = dict(zip(predicted.clip_ids.tolist(), predicted.truth.tolist(), strict=True))
            if answered != clips_in(partitions[split], TEST):
                raise ValueError(
                    f"{path}: answers for other clips than the test clips of split {split}; delete it so that it is "
                    "made again"
                )
            if system in found[split]:
                raise ValueError(
                    f"{path}: arm `{system.method}` of `{name}` is in another file of split {split}, too"
                )
            found[split][system] = predicted
            datasets.add(predicted.labels["dataset"])
    if len(datasets) != 1:
        raise ValueError(f"predictions must be of one dataset, not of {sorted(datasets)}")
    return {split: its for split, its in found.items() if its}, datasets.pop()


def _clustered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with what the bootstrap draws as a whole in place of their recording."""
    of_clip = clusters(rows)
    return [dict(row) | {"recording_id": of_clip.get(row["clip_id"], row["recording_id"])} for row in rows]


def _pooled(folds: Sequence[Mapping[System, Predicted]], dataset: str) -> dict[System, Predicted]:
    """The answers of all folds together, of what every fold has."""
    found = {}
    for system in folds[0]:
        if not all(system in fold for fold in folds):
            continue
        parts = [fold[system] for fold in folds]
        seeds = same_seeds([part.seeds for part in parts], dataset, system)
        clip_ids = np.concatenate([part.clip_ids for part in parts])
        twice = [clip for clip, count in Counter(clip_ids.tolist()).items() if count > 1]
        if twice:
            raise ValueError(f"{dataset}: clip `{twice[0]}` is tested in two folds; these are no folds")
        order = np.argsort(clip_ids)
        found[system] = Predicted(
            parts[0].labels | {"split": MEAN},
            seeds,
            clip_ids[order],
            np.concatenate([part.truth for part in parts])[order],
            np.concatenate([part.said for part in parts], axis=1)[:, order],
            np.zeros(len(clip_ids), dtype=bool),
        )
    return found


def _measured(
    place: str, rows: Sequence[Mapping[str, Any]], said: Mapping[System, Predicted], draws: int, seed: int
) -> Split:
    cluster_of = {row["clip_id"]: row["recording_id"] for row in rows if row["role"] == TEST}
    # One set of draws for all: their differences are then paired.
    first = next(iter(said.values()))
    resamples = resamples_of(first.clip_ids, cluster_of, place, draws, seed)
    runs = {system: Run(p.seeds, measure_speech(p, resamples)) for system, p in said.items()}
    return Split(rows, runs | mean_over_ratios(runs))


def _refuse_without_baseline(part: Split, dataset: str, place: str) -> None:
    for system in part.runs:
        if System(NONE, system.variant) not in part.runs:
            raise ValueError(
                f"{dataset}, split {place}: arm `{system.method}` of `{system.variant}` has no arm `{NONE}` to be "
                f"measured against; run the arm `{NONE}`, too"
            )


def _as_curve(row: Mapping[str, Any]) -> dict[str, Any]:
    recogniser, condition = parse_variant(row["variant"])
    kept = ("dataset", "split", "metric", "seed", "class_id", "value", "low", "high", "n")
    return {name: row[name] for name in kept} | {
        "recogniser": recogniser,
        "arm": row["method"],
        "background": condition.background,
        "snr_db": condition.snr_db,
    }


def _apart(
    dataset: str,
    partitions: Mapping[str, Sequence[Mapping[str, Any]]],
    backgrounds: Mapping[str, Path],
    background_split: str,
) -> list[dict[str, Any]]:
    """How many speakers, recordings and backgrounds each part has; none is in two, or reading would have failed."""

    def counted(
        split: str, what: str, rows: Sequence[Mapping[str, Any]], key: str, background: str | None = None
    ) -> dict[str, Any]:
        sides = {role: {row[key] for row in rows if row["role"] == role} - {None} for role in ROLES}
        of_all = Counter(value for values in sides.values() for value in values)
        seconds = None
        if background is not None:
            seconds = sum(row["duration_s"] for row in rows if row["role"] == TRAIN)
        return {
            "dataset": dataset,
            "split": split,
            "what": what,
            "background": background,
            "train": len(sides[TRAIN]),
            "validation": len(sides[VALIDATION]),
            "test": len(sides[TEST]),
            "shared": sum(count > 1 for count in of_all.values()),
            "seconds": seconds,
        }

    found = []
    for split, rows in partitions.items():
        found.append(counted(split, "speakers", rows, SPEAKER))
        found.append(counted(split, "recordings", rows, "recording_id"))
    for background, path in backgrounds.items():
        rows = read_backgrounds(path)
        if background == REAL:
            found.append(counted(background_split, "background recordings", rows, "recording_id", background))
        found.append(counted(background_split, "background clips", rows, "clip_id", background))
    return found
