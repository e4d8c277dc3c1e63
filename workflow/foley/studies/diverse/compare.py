"""What each representation is worth: every subset, leave-one-out, gains over equally large baselines, and how alike
the representations are.

Differences are paired: all systems of a split answer for the same clips, and are measured on the same bootstrap
draws of recordings. Folds have test clips of their own, so a mean over folds averages draw by draw. Intervals are
over recordings, seeds averaged; the spread over seeds stands beside them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foley import tables
from foley.metrics.average_precision import average_precisions
from foley.metrics.bootstrap import Resamples, interval
from foley.metrics.similarity import agreement, linear_cka
from foley.studies.audio.splits import TEST, is_fold
from foley.studies.diverse.heads import JOINT, TOGETHER
from foley.studies.diverse.label_clips import LabelledClips, read_labelled
from foley.studies.zero_shot.score import Measured, resamples_of, score_row, summary_rows
from foley.tables.diverse import CHUNK_EMBEDDINGS, CLIP_SCORES
from foley.tables.scores import SCORES

STUDY = "diverse_embeddings"
MEAN = "mean"
OWN_HEAD = "own_head"  # variant of a network that answers by the head that it was trained with
_DRAWS_AT_ONCE = 250  # bounds the memory of bootstrap draws of many clips


class System(NamedTuple):
    method: str
    variant: str


@dataclass(frozen=True)
class Said:
    """What a training wrote: class probabilities of test clips, of one or several systems."""

    split: str
    variant: str  # a set of representations, or `own_head`
    seed: int
    path: Path


@dataclass(frozen=True)
class Embedded:
    """Chunk embeddings of one representation."""

    split: str
    representation: str
    seed: int
    path: Path


@dataclass
class _Split:
    clips: LabelledClips
    tested: np.ndarray
    resamples: Resamples
    scores: dict[System, dict[int, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))
    measured: dict[System, Measured] = field(default_factory=dict)


def compare_representations(
    output: Path,
    *,
    dataset: str,
    labelled: Mapping[str, Path],
    multi_label: bool,
    said: Sequence[Said],
    embedded: Sequence[Embedded],
    sets: Mapping[str, Sequence[str]],
    baselines: Sequence[str],
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Scores of all systems of a dataset, split by split, and their means over folds (``mean``).

    ``accuracy`` or ``map`` of every subset of every set (``variant`` is the set), of its networks trained together
    (``joint``) and of the baselines, which stand beside each set. Of the whole set and of ``joint``:
    ``above_<baseline>`` and ``above_<representation>``, the difference to it. ``contribution`` of a representation: the
    whole set minus the set without it. Of networks with their own heads (``own_head``): the metric,
    ``cka_with_<other>`` of their embeddings of test clips, and ``agreement_with_<other>``, the share of test clips
    whose first class is the same. ``parameters`` of each system.

    Raises:
        ValueError: systems of a split that answer for other clips than its test clips.
    """
    splits = {name: _split(path, multi_label, name, draws, seed) for name, path in labelled.items()}
    counts = _read_scores(splits, said, list(sets), baselines)
    for part in splits.values():
        for system, by_seed in part.scores.items():
            part.measured[system] = _measure(part, by_seed, multi_label)
    metric = "map" if multi_label else "accuracy"
    folds = [name for name in splits if is_fold(name)]
    rows: list[dict[str, Any]] = []
    found = {name: _quantities(part, metric, sets, baselines) for name, part in splits.items()}
    for name, part in splits.items():
        found[name] |= _agreements(part, multi_label)
    for key in dict.fromkeys(key for its in found.values() for key in its):
        own = {name: its[key] for name, its in found.items() if key in its}
        if len(folds) > 1 and all(fold in own for fold in folds):
            own[MEAN] = _mean([own[fold] for fold in folds])
        system, quantity = key
        for name, measured in own.items():
            labels = {"study": STUDY, "dataset": dataset, "split": name, **system._asdict()}
            if quantity == metric:
                rows += summary_rows(labels, quantity, _seeds(splits, system, name), measured)
            else:
                low, high = (end if math.isfinite(end) else None for end in interval(measured.draws))
                rows.append(
                    score_row(labels, quantity, measured.per_seed.mean(), measured.n, low=low, high=high)
                )
    rows += _similarity_rows(dataset, splits, embedded, folds)
    rows += _chance_rows(dataset, splits, folds, multi_label, metric)
    for system, count in counts.items():
        labels = {"study": STUDY, "dataset": dataset, "split": next(iter(splits)), **system._asdict()}
        rows.append(score_row(labels, "parameters", float(count), 1))
    tables.write(output, SCORES, rows, provenance)


def _split(path: Path, multi_label: bool, name: str, draws: int, seed: int) -> _Split:
    clips = read_labelled(path, multi_label)
    tested = np.array(sorted(clips.of_role(TEST)), dtype=object)
    recording_of = dict(zip(clips.clip_ids.tolist(), clips.recording_ids.tolist(), strict=True))
    return _Split(clips, tested, resamples_of(tested, recording_of, name, draws, seed))


def _read_scores(
    splits: Mapping[str, _Split], said: Sequence[Said], sets: Sequence[str], baselines: Sequence[str]
) -> dict[System, int]:
    """Fill in what every system says; returns how many parameters each has."""
    counts: dict[System, int] = {}
    for entry in said:
        part = splits[entry.split]
        table = tables.read(entry.path, CLIP_SCORES)
        names = np.array(table["system"].to_pylist(), dtype=object)
        clip_ids = np.array(table["clip_id"].to_pylist(), dtype=object)
        vectors = tables.to_matrix(table["vector"])
        parameters = tables.provenance(entry.path).get("parameters", {})
        for name in dict.fromkeys(names.tolist()):
            rows = names == name
            if not np.array_equal(clip_ids[rows], part.tested):
                raise ValueError(
                    f"{entry.path}: `{name}` answers for other clips than the test clips of split {entry.split}; "
                    "delete it so that it is made again"
                )
            # A baseline stands beside each set that it is compared with.
            variants = (
                [*sets, OWN_HEAD] if name in baselines and entry.variant == OWN_HEAD else [entry.variant]
            )
            for variant in variants:
                part.scores[System(name, variant)][entry.seed] = vectors[rows]
                if name in parameters:
                    counts.setdefault(System(name, variant), int(parameters[name]))
    return counts


def _measure(part: _Split, by_seed: Mapping[int, np.ndarray], multi_label: bool) -> Measured:
    """Accuracy or mAP of a system: per seed, and its draws, averaged over seeds."""
    truth = part.clips.targets.rows(part.tested).numpy()
    scores = [by_seed[seed] for seed in sorted(by_seed)]
    if not multi_label:
        correct = np.stack([own.argmax(axis=1) == truth for own in scores]).astype(np.float64)
        return Measured(correct.mean(axis=1), _share_draws(correct.mean(axis=0), part.resamples), len(truth))
    per_seed = np.array([np.nanmean(average_precisions(truth, own)) for own in scores])
    drawn = [_map_draws(truth, own, part.resamples) for own in scores]
    return Measured(per_seed, np.mean(drawn, axis=0), len(truth))


def _share_draws(per_clip: np.ndarray, resamples: Resamples) -> np.ndarray:
    return resamples.sums(per_clip) / resamples.sums(np.ones_like(per_clip))


def _map_draws(truth: np.ndarray, scores: np.ndarray, resamples: Resamples) -> np.ndarray:
    """mAP in each draw; a class of which a draw has no positive clip takes no part in it."""
    parts = []
    for begin in range(0, len(resamples.weights), _DRAWS_AT_ONCE):
        weights = resamples.weights[begin : begin + _DRAWS_AT_ONCE][:, resamples.recording]
        parts.append(np.nanmean(average_precisions(truth, scores, weights), axis=1))
    return np.concatenate(parts)


_Quantities = dict[tuple[System, str], Measured]


def _quantities(
    part: _Split, metric: str, sets: Mapping[str, Sequence[str]], baselines: Sequence[str]
) -> _Quantities:
    """Every system's score, gains and contributions."""
    found: _Quantities = {(system, metric): measured for system, measured in part.measured.items()}
    for variant, names in sets.items():
        whole = System(TOGETHER.join(names), variant)
        if whole not in part.measured:
            continue
        for system in (whole, System(JOINT, variant)):
            if system not in part.measured:
                continue
            here = part.measured[system]
            for baseline in baselines:
                base = part.measured.get(System(baseline, variant))
                if base is not None:
                    found[system, f"above_{baseline}"] = _difference(here, base)
            for name in names:
                if len(names) > 1:
                    found[system, f"above_{name}"] = _difference(here, part.measured[System(name, variant)])
        for name in names:
            if len(names) > 1:
                rest = System(TOGETHER.join(other for other in names if other != name), variant)
                found[System(name, variant), "contribution"] = _difference(
                    part.measured[whole], part.measured[rest]
                )
    return found


def _agreements(part: _Split, multi_label: bool) -> _Quantities:
    """How often two networks put the same class first, each with its own head."""
    found: _Quantities = {}
    own = [system for system in part.scores if system.variant == OWN_HEAD]
    for one, other in permutations(own, 2):
        seeds = sorted(part.scores[one].keys() & part.scores[other].keys())
        if seeds:
            same = np.stack([agreement(part.scores[one][s], part.scores[other][s]) for s in seeds])
            found[one, f"agreement_with_{other.method}"] = Measured(
                same.mean(axis=1), _share_draws(same.mean(axis=0), part.resamples), len(part.tested)
            )
    return found


def _difference(here: Measured, base: Measured) -> Measured:
    # Of means over seeds: a seed of one network says nothing of the same number in another.
    return Measured(np.array([here.per_seed.mean() - base.per_seed.mean()]), here.draws - base.draws, here.n)


def _mean(parts: Sequence[Measured]) -> Measured:
    return Measured(
        np.mean([part.per_seed for part in parts], axis=0),
        np.mean([part.draws for part in parts], axis=0),
        sum(part.n for part in parts),
    )


def _seeds(splits: Mapping[str, _Split], system: System, split: str) -> list[int]:
    name = split if split != MEAN else next(name for name in splits if is_fold(name))
    return sorted(splits[name].scores[system])


def clip_embeddings(path: Path, clip_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """The mean embedding of each clip over its chunks [N, D] float64, in the order of ``clip_ids``."""
    table = tables.read(path, CHUNK_EMBEDDINGS)
    names = np.array(table["clip_id"].to_pylist(), dtype=object).astype(str)
    vectors = tables.to_matrix(table["vector"]).astype(np.float64)
    unique, place = np.unique(names, return_inverse=True)
    sums = np.zeros((len(unique), vectors.shape[1]))
    np.add.at(sums, place, vectors)
    means = sums / np.bincount(place)[:, None]
    return means[np.searchsorted(unique, np.asarray(clip_ids).astype(str))]


def _similarity_rows(
    dataset: str, splits: Mapping[str, _Split], embedded: Sequence[Embedded], folds: Sequence[str]
) -> list[dict[str, Any]]:
    """Linear CKA of each pair of representations on test clips, both of one seed: a row a seed, and their mean.

    Without an interval: clips drawn twice make vectors alike, so bootstrap draws of CKA are too high.
    """
    values: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    of: dict[tuple[str, int], dict[str, np.ndarray]] = defaultdict(dict)
    for entry in embedded:
        of[entry.split, entry.seed][entry.representation] = clip_embeddings(
            entry.path, splits[entry.split].tested
        )
    for (split, seed), vectors in of.items():
        for one, other in permutations(vectors, 2):
            values[split, one, other][seed] = linear_cka(vectors[one], vectors[other])
    for one, other in {key[1:] for key in values}:
        per_fold = [values[fold, one, other] for fold in folds if (fold, one, other) in values]
        if len(per_fold) == len(folds) > 1:
            seeds = set.intersection(*(set(own) for own in per_fold))
            values[MEAN, one, other] = {s: float(np.mean([own[s] for own in per_fold])) for s in seeds}
    rows = []
    for (split, one, other), by_seed in values.items():
        labels = {"study": STUDY, "dataset": dataset, "split": split, "method": one, "variant": OWN_HEAD}
        names = [name for name in folds if split == MEAN] or [split]
        n = sum(len(splits[name].tested) for name in names)
        each = np.array([by_seed[s] for s in sorted(by_seed)])
        rows.append(score_row(labels, f"cka_with_{other}", float(each.mean()), n))
        rows += [
            score_row(labels, f"cka_with_{other}", value, n, seed=s) for s, value in sorted(by_seed.items())
        ]
    return rows


def _chance_rows(
    dataset: str, splits: Mapping[str, _Split], folds: Sequence[str], multi_label: bool, metric: str
) -> list[dict[str, Any]]:
    """One class of C; of mAP, what random scores reach in the long run: the share of clips that have a class."""
    values = {}
    for name, part in splits.items():
        targets = part.clips.targets
        if multi_label:
            share = targets.rows(part.tested).mean(dim=0).numpy()
            values[name] = float(share[share > 0].mean())
        else:
            values[name] = 1 / targets.classes
    if len(folds) > 1:
        values[MEAN] = float(np.mean([values[fold] for fold in folds]))
    return [
        score_row(
            {"study": STUDY, "dataset": dataset, "split": name, "method": "chance", "variant": ""},
            metric,
            value,
            sum(len(splits[fold].tested) for fold in folds) if name == MEAN else len(splits[name].tested),
        )
        for name, value in values.items()
    ]
