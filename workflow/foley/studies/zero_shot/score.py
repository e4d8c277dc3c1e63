"""What is measured of one method in one split, with intervals over recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.metrics import classification as metric
from foley.metrics.bootstrap import Resamples, interval, resample_recordings
from foley.studies.zero_shot.predictions import CONVENTIONAL, GENERALISED, Predicted, read_settings
from foley.tables.scores import SCORES
from foley.tables.zero_shot import PARTITION

STUDY = "zero_shot"


@dataclass(frozen=True)
class Measured:
    """A quantity of one method in one split: per seed [seeds], and its bootstrap draws (mean over seeds).

    A method without seeds has one value.
    """

    per_seed: np.ndarray
    draws: np.ndarray
    n: int


def resamples_of(
    clip_ids: np.ndarray, recording_of: Mapping[str, str], split: str, draws: int, seed: int
) -> Resamples:
    # The same draws for every method of a split: differences are then paired.
    return resample_recordings(
        np.array([recording_of[c] for c in clip_ids]), draws, seed, split, len(clip_ids)
    )


class SplitDraws:
    """Bootstrap draws of the splits of a dataset, made once for each set of clips.

    Splits whose tested clips have no recording in common are drawn apart, each as :func:`resamples_of` draws it. Those
    that share some, directly or by way of others, are drawn together: a recording then has the same weight in each
    split, so that a mean over them is not taken for surer than its recordings make it. Clips of seen classes are often
    tested in several splits, clips of unseen ones only where the splits are the user's own.

    Args:
        partitions: split -> its partition table.
    """

    def __init__(self, partitions: Mapping[str, Path], draws: int, seed: int) -> None:
        self.draws, self.seed = draws, seed
        self.recording_of: dict[str, dict[str, str]] = {}
        # By whether clips of seen classes are tested, too: split -> the recordings that are.
        tested: dict[bool, dict[str, set[str]]] = {False: {}, True: {}}
        for split, path in partitions.items():
            table = tables.read(path, PARTITION, columns=["clip_id", "recording_id", "role"])
            recordings, roles = table["recording_id"].to_pylist(), table["role"].to_pylist()
            self.recording_of[split] = dict(zip(table["clip_id"].to_pylist(), recordings, strict=True))
            for general, some in ((False, ("unseen",)), (True, ("unseen", "seen_test"))):
                tested[general][split] = {
                    one for one, role in zip(recordings, roles, strict=True) if role in some
                }
        self._together = {general: _joined(of_split) for general, of_split in tested.items()}
        self._tested = tested
        self._of_clips: dict[tuple[str, bool, tuple[str, ...]], Resamples] = {}
        self._of_group: dict[tuple[bool, tuple[str, ...]], tuple[np.ndarray, np.ndarray]] = {}

    def of(self, split: str, clip_ids: np.ndarray, *, general: bool = False) -> Resamples:
        """Draws for clips of a split; ``general`` where clips of seen classes are among them."""
        key = (split, general, tuple(clip_ids))
        if key not in self._of_clips:
            self._of_clips[key] = self._make(split, clip_ids, general)
        return self._of_clips[key]

    def _make(self, split: str, clip_ids: np.ndarray, general: bool) -> Resamples:
        recording_of, group = self.recording_of[split], self._together[general][split]
        if len(group) == 1:
            return resamples_of(clip_ids, recording_of, split, self.draws, self.seed)
        own, recording = np.unique([recording_of[c] for c in clip_ids], return_inverse=True)
        if (general, group) not in self._of_group:
            every = np.array(sorted(set().union(*(self._tested[general][s] for s in group))))
            kind = "generalised" if general else "conventional"
            drawn = resample_recordings(every, self.draws, self.seed, "together", kind, *group)
            self._of_group[general, group] = every, drawn.weights
        every, weights = self._of_group[general, group]
        strange = sorted(set(own) - set(every))
        if strange:
            raise ValueError(
                f"split {split}: predictions of recordings that its partition does not test, for example {strange[0]}; "
                "delete them so that they are made again"
            )
        return Resamples(weights[:, np.searchsorted(every, own)], recording)


def _joined(of_split: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """Split -> all splits that it shares a recording with, directly or by way of others, itself among them."""
    groups: list[tuple[list[str], set[str]]] = []
    for split, recordings in of_split.items():
        touching = [group for group in groups if group[1] & recordings]
        groups = [group for group in groups if group not in touching]
        names = [name for group in touching for name in group[0]] + [split]
        groups.append((names, recordings.union(*(group[1] for group in touching))))
    return {name: tuple(sorted(names)) for names, _ in groups for name in names}


def measure(
    path: Path, recording_of: Mapping[str, str], draws: int, seed: int
) -> tuple[Predicted, dict[str, Measured]]:
    """Everything measured of one file of predictions, by metric.

    References without generalised predictions have ``accuracy`` and ``accuracy_macro`` alone.

    Raises:
        ValueError: the file has no conventional predictions.
    """

    def resample(predicted: Predicted) -> Resamples:
        return resamples_of(predicted.clip_ids, recording_of, predicted.labels["split"], draws, seed)

    return measure_with(path, resample)


def measure_with(
    path: Path, resample: Callable[[Predicted], Resamples]
) -> tuple[Predicted, dict[str, Measured]]:
    """The same with draws from ``resample``, which may hand out one set of draws for many methods."""
    settings = read_settings(path)
    plain = settings[CONVENTIONAL]
    known = np.unique(plain.truth)
    resamples = resample(plain)
    correct = plain.correct
    n = len(plain.truth)
    found = {
        "accuracy": Measured(metric.accuracy(correct), metric.accuracy_draws(correct, resamples), n),
        "accuracy_macro": Measured(
            np.nanmean(metric.recalls(correct, plain.truth, known), axis=1),
            np.nanmean(metric.recall_draws(correct, plain.truth, known, resamples), axis=1),
            n,
        ),
    }
    if GENERALISED not in settings:
        return plain, found
    general = settings[GENERALISED]
    resamples = resample(general)
    sides: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, side in (("accuracy_seen", ~general.is_unseen), ("accuracy_unseen", general.is_unseen)):
        if not side.any():  # every seen class has a single recording, which trains
            continue
        part = Resamples(resamples.weights, resamples.recording[side])
        classes = np.unique(general.truth[side])
        per_seed = np.nanmean(metric.recalls(general.correct[:, side], general.truth[side], classes), axis=1)
        drawn = metric.macro_draws_per_seed(general.correct[:, side], general.truth[side], classes, part)
        sides[name] = (per_seed, drawn)
        found[name] = Measured(per_seed, drawn.mean(axis=0), int(side.sum()))
    if len(sides) == 2:
        (seen, seen_draws), (unseen, unseen_draws) = sides["accuracy_seen"], sides["accuracy_unseen"]
        found["harmonic_mean"] = Measured(
            metric.harmonic_mean(seen, unseen),
            metric.harmonic_mean(seen_draws, unseen_draws).mean(axis=0),
            len(general.truth),
        )
    return plain, found


def score_row(
    labels: Mapping[str, str], metric_name: str, value: float, n: int, **more: Any
) -> dict[str, Any]:
    return {"study": STUDY, "fold": None, "seed": None, "class_id": None, "low": None, "high": None} | {
        **labels,
        "metric": metric_name,
        "value": None if np.isnan(value) else float(value),
        "n": int(n),
        **more,
    }


def interval_or_none(draws: np.ndarray) -> tuple[float | None, float | None]:
    """The interval of draws as a table has it: empty where no draw has a value."""
    low, high = interval(draws)
    return (low, high) if np.isfinite([low, high]).all() else (None, None)


def summary_rows(
    labels: Mapping[str, str], name: str, seeds: Sequence[int], measured: Measured
) -> list[dict[str, Any]]:
    """The mean over seeds with its interval, a row per seed and their spread; without seeds, the first row alone."""
    low, high = interval_or_none(measured.draws)
    rows = [score_row(labels, name, measured.per_seed.mean(), measured.n, low=low, high=high)]
    if seeds:
        rows += [
            score_row(labels, name, value, measured.n, seed=seed)
            for seed, value in zip(seeds, measured.per_seed, strict=True)
        ]
    if len(seeds) > 1:
        rows.append(score_row(labels, f"{name}_seed_std", measured.per_seed.std(ddof=1), len(seeds)))
    return rows


def recordings_of(partition: Path) -> dict[str, str]:
    table = tables.read(partition, PARTITION, columns=["clip_id", "recording_id"])
    return dict(zip(table["clip_id"].to_pylist(), table["recording_id"].to_pylist(), strict=True))


def score_method(
    output: Path,
    *,
    predictions: Path,
    partition: Path,
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """One method in one split: overall rows with intervals, a row per seed, and rows per class."""
    recording_of = recordings_of(partition)
    plain, found = measure(predictions, recording_of, draws, seed)
    rows = [row for name, m in found.items() for row in summary_rows(plain.labels, name, plain.seeds, m)]
    known = np.unique(plain.truth)
    resamples = resamples_of(plain.clip_ids, recording_of, plain.labels["split"], draws, seed)
    recall = metric.recalls(plain.correct, plain.truth, known).mean(axis=0)
    recall_draws = metric.recall_draws(plain.correct, plain.truth, known, resamples)
    precision = metric.precisions(plain.correct, plain.said, known)
    for number, class_id in enumerate(known):
        n = int((plain.truth == class_id).sum())
        low, high = interval(recall_draws[:, number])
        rows.append(
            score_row(plain.labels, "recall", recall[number], n, class_id=int(class_id), low=low, high=high)
        )
        said = precision[:, number]
        said = said[np.isfinite(said)]
        # A class that was never predicted has no precision: an empty value, not a zero.
        rows.append(
            score_row(
                plain.labels,
                "precision",
                float(said.mean()) if len(said) else float("nan"),
                n,
                class_id=int(class_id),
            )
        )
    tables.write(output, SCORES, rows, provenance)


def score_references(
    output: Path, *, partition: Path, dataset: str, split: str, provenance: Mapping[str, Any] | None = None
) -> None:
    """What needs no training: chance (one class in U), and always saying the commonest unseen class."""
    table = tables.read(partition, PARTITION, columns=["class_id", "role"])
    unseen = np.array(
        [
            c
            for c, r in zip(table["class_id"].to_pylist(), table["role"].to_pylist(), strict=True)
            if r == "unseen"
        ]
    )
    counts = np.unique(unseen, return_counts=True)[1]
    labels = {"dataset": dataset, "split": split, "variant": ""}
    rows = [
        score_row({**labels, "method": "chance"}, "accuracy", 1 / len(counts), len(unseen)),
        score_row({**labels, "method": "majority"}, "accuracy", counts.max() / len(unseen), len(unseen)),
    ]
    tables.write(output, SCORES, rows, provenance)
