"""What each representation is worth: every subset, leave-one-out, gains over equally large baselines, and how alike
the representations are.

Differences are paired: all systems of a split answer for the same clips, and are measured on the same bootstrap
draws of recordings. Folds have test clips of their own, so a mean over folds averages draw by draw. Intervals are
over recordings and hold the trainings fixed: seeds are averaged within a draw. What other seeds would give stands
beside them, as rows per seed and their deviation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from foley import tables
from foley.metrics.average_precision import average_precisions
from foley.metrics.bootstrap import Resamples
from foley.metrics.similarity import agreement, debiased_linear_cka, debiased_linear_cka_without, linear_cka
from foley.runtime.seeds import derive
from foley.studies.audio.splits import TEST, is_fold
from foley.studies.diverse.heads import JOINT, TOGETHER
from foley.studies.diverse.label_clips import LabelledClips, read_labelled
from foley.studies.diverse.networks import Part, parameters_behind, read_chunk_embeddings
from foley.studies.zero_shot.score import Measured, resamples_of, score_row, summary_rows
from foley.tables.diverse import CLIP_SCORES
from foley.tables.scores import SCORES

STUDY = "diverse_embeddings"
MEAN = "mean"
OWN_HEAD = "own_head"  # variant of a network that answers by the head that it was trained with
_DRAWS_AT_ONCE = 250  # bounds the memory of bootstrap draws of many clips
# Parts of a jackknife over recordings; each recording is one where there are no more.
_JACKKNIFE_GROUPS = 200


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


class _Found(NamedTuple):
    """A quantity, and the seed of each of its values; no seed where a value is no single one's."""

    measured: Measured
    seeds: tuple[int, ...] = ()


@dataclass
class _Split:
    clips: LabelledClips
    tested: np.ndarray
    resamples: Resamples
    scores: dict[System, dict[int, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))
    measured: dict[System, _Found] = field(default_factory=dict)


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
    behind: Mapping[str, Part] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Scores of all systems of a dataset, split by split, and their means over folds (``mean``).

    ``accuracy`` or ``map`` of every subset of every set (``variant`` is the set), of its networks trained together
    (``joint``) and of the baselines, which stand beside each set. Of the whole set and of ``joint``:
    ``above_<baseline>``, ``above_<representation>`` and ``above_own_head_<representation>``, the difference to it, to
    a frozen head on it alone, and to its network as it was trained. ``contribution`` of a representation: the whole
    set minus the set without it. Of networks with their own heads (``own_head``): the metric, ``cka_with_<other>`` and
    ``debiased_cka_with_<other>`` of their embeddings of test clips, and ``agreement_with_<other>``, the share of test
    clips whose first class is the same. ``parameters`` of each system: all that was trained on the study's labels.

    Args:
        behind: network -> the one that was trained here to make its frames. Files of scores count what was trained with
            them alone, so its parameters are added.

    Raises:
        ValueError: systems of a split that answer for other clips than its test clips.
    """
    splits = {name: _split(path, multi_label, name, draws, seed) for name, path in labelled.items()}
    counts = _read_scores(splits, said, sets, baselines, behind or {})
    for part in splits.values():
        for system, by_seed in part.scores.items():
            part.measured[system] = _Found(_measure(part, by_seed, multi_label), tuple(sorted(by_seed)))
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
        for name, one in own.items():
            labels = {"study": STUDY, "dataset": dataset, "split": name, **system._asdict()}
            rows += summary_rows(labels, quantity, one.seeds, one.measured)
    rows += _similarity_rows(dataset, splits, embedded, folds, seed)
    rows += _chance_rows(dataset, splits, folds, multi_label, metric)
    for (name, system), count in counts.items():
        labels = {"study": STUDY, "dataset": dataset, "split": name, **system._asdict()}
        rows.append(score_row(labels, "parameters", float(count), 1))
    tables.write(output, SCORES, rows, provenance)


def _split(path: Path, multi_label: bool, name: str, draws: int, seed: int) -> _Split:
    clips = read_labelled(path, multi_label)
    tested = np.array(sorted(clips.of_role(TEST)), dtype=object)
    recording_of = dict(zip(clips.clip_ids.tolist(), clips.recording_ids.tolist(), strict=True))
    return _Split(clips, tested, resamples_of(tested, recording_of, name, draws, seed))


def _read_scores(
    splits: Mapping[str, _Split],
    said: Sequence[Said],
    sets: Mapping[str, Sequence[str]],
    baselines: Sequence[str],
    behind: Mapping[str, Part],
) -> dict[tuple[str, System], int]:
    """Fill in what every system says; returns how many parameters each has in each split."""
    counts: dict[tuple[str, System], int] = {}
    hidden = {
        (split, name): parameters_behind(made_by, part.clips.targets.classes)
        for split, part in splits.items()
        for name, made_by in behind.items()
    }
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
                    members = sets[variant] if name == JOINT else name.split(TOGETHER)
                    more = sum(hidden.get((entry.split, member), 0) for member in members)
                    counts.setdefault((entry.split, System(name, variant)), int(parameters[name]) + more)
    return counts


def _measure(part: _Split, by_seed: Mapping[int, np.ndarray], multi_label: bool) -> Measured:
    """Accuracy or mAP of a system: per seed, and its draws, averaged over seeds."""
    truth = part.clips.targets.rows(part.tested).numpy()
    scores = [by_seed[seed] for seed in sorted(by_seed)]
    if not multi_label:
        correct = np.stack([own.argmax(axis=1) == truth for own in scores]).astype(np.float64)
        return Measured(correct.mean(axis=1), _share_draws(correct.mean(axis=0), part.resamples), len(truth))
    per_seed = np.array([np.nanmean(average_precisions(truth, own)) for own in scores])
    drawn = np.mean([_map_draws(truth, own, part.resamples) for own in scores], axis=0)
    # A positive clip that is drawn twice stands behind itself once more, which lifts its precision: draws are too high
    # by about the same amount, so they are shifted back to the estimate.
    drawn += per_seed.mean() - drawn[np.isfinite(drawn)].mean()
    return Measured(per_seed, drawn, len(truth))


def _share_draws(per_clip: np.ndarray, resamples: Resamples) -> np.ndarray:
    return resamples.sums(per_clip) / resamples.sums(np.ones_like(per_clip))


def _map_draws(truth: np.ndarray, scores: np.ndarray, resamples: Resamples) -> np.ndarray:
    """mAP in each draw; a class of which a draw has no positive clip takes no part in it."""
    parts = []
    for begin in range(0, len(resamples.weights), _DRAWS_AT_ONCE):
        weights = resamples.weights[begin : begin + _DRAWS_AT_ONCE][:, resamples.recording]
        parts.append(np.nanmean(average_precisions(truth, scores, weights), axis=1))
    return np.concatenate(parts)


_Quantities = dict[tuple[System, str], _Found]


def _quantities(
    part: _Split, metric: str, sets: Mapping[str, Sequence[str]], baselines: Sequence[str]
) -> _Quantities:
    """Every system's score, gains and contributions."""
    found: _Quantities = {(system, metric): one for system, one in part.measured.items()}
    for variant, names in sets.items():
        whole = System(TOGETHER.join(names), variant)
        if whole not in part.measured:
            continue
        for system in (whole, System(JOINT, variant)):
            if system not in part.measured:
                continue
            others = {baseline: System(baseline, variant) for baseline in baselines}
            if len(names) > 1:
                others |= {name: System(name, variant) for name in names}
                others |= {f"{OWN_HEAD}_{name}": System(name, OWN_HEAD) for name in names}
            for name, other in others.items():
                if other in part.measured:
                    found[system, f"above_{name}"] = _difference(part.measured[system], part.measured[other])
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
            found[one, f"agreement_with_{other.method}"] = _Found(
                Measured(same.mean(axis=1), _share_draws(same.mean(axis=0), part.resamples), len(part.tested))
            )
    return found


def _difference(here: _Found, base: _Found) -> _Found:
    """Seed by seed, where both have the same ones.

    Subsets of one seed share their networks, so their scores go up and down together. A seed of a baseline is a
    training of its own: with that any pairing gives the spread of the difference of two trainings.
    """
    (one, seeds), (other, its) = here, base
    draws = one.draws - other.draws
    if seeds != its:
        return _Found(Measured(np.array([one.per_seed.mean() - other.per_seed.mean()]), draws, one.n))
    return _Found(Measured(one.per_seed - other.per_seed, draws, one.n), seeds)


def _mean(parts: Sequence[_Found]) -> _Found:
    measured = [part.measured for part in parts]
    draws, n = np.mean([own.draws for own in measured], axis=0), sum(own.n for own in measured)
    if len({part.seeds for part in parts}) > 1:
        return _Found(Measured(np.array([np.mean([own.per_seed.mean() for own in measured])]), draws, n))
    return _Found(Measured(np.mean([own.per_seed for own in measured], axis=0), draws, n), parts[0].seeds)


def clip_embeddings(path: Path, clip_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """The mean embedding of each clip over its chunks, by their real share [N, D] float64, in the order of
    ``clip_ids``."""
    table, shares = read_chunk_embeddings(path)
    names = np.array(table["clip_id"].to_pylist(), dtype=object).astype(str)
    vectors = tables.to_matrix(table["vector"]).astype(np.float64)
    unique, place = np.unique(names, return_inverse=True)
    sums = np.zeros((len(unique), vectors.shape[1]))
    np.add.at(sums, place, vectors * shares[:, None])
    means = sums / np.bincount(place, shares)[:, None]
    return means[np.searchsorted(unique, np.asarray(clip_ids).astype(str))]


def _similarity_rows(
    dataset: str, splits: Mapping[str, _Split], embedded: Sequence[Embedded], folds: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Linear CKA of each pair of representations on test clips, both of one seed: a row a seed, and their mean.

    Plain, without an interval, and debiased, with that of a jackknife over recordings: drawing clips twice makes
    vectors alike, so bootstrap draws of either are too high.
    """
    of: dict[tuple[str, int], dict[str, np.ndarray]] = defaultdict(dict)
    for entry in embedded:
        of[entry.split, entry.seed][entry.representation] = clip_embeddings(
            entry.path, splits[entry.split].tested
        )
    groups = {name: _jackknife_groups(part.resamples.recording, seed, name) for name, part in splits.items()}
    plain: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    debiased: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    without: dict[tuple[str, str, str], dict[int, np.ndarray]] = defaultdict(dict)
    for (split, number), vectors in of.items():
        for one, other in combinations(vectors, 2):
            x, y = vectors[one], vectors[other]
            found = linear_cka(x, y), debiased_linear_cka(x, y)
            left_out = debiased_linear_cka_without(x, y, groups[split])
            for pair in ((one, other), (other, one)):
                plain[split, *pair][number], debiased[split, *pair][number] = found
                without[split, *pair][number] = left_out
    errors = {key: _jackknife_error(debiased[key], its) for key, its in without.items()}
    for one, other in {key[1:] for key in plain}:
        keys = [(fold, one, other) for fold in folds if (fold, one, other) in plain]
        if len(keys) == len(folds) > 1:
            seeds = set.intersection(*(set(plain[key]) for key in keys))
            for of_pairs in (plain, debiased):
                of_pairs[MEAN, one, other] = {
                    s: float(np.mean([of_pairs[key][s] for key in keys])) for s in seeds
                }
            variances, freedom = zip(*(errors[key] for key in keys), strict=True)
            errors[MEAN, one, other] = sum(variances) / len(folds) ** 2, sum(freedom)
    rows = []
    for (split, one, other), by_seed in plain.items():
        labels = {"study": STUDY, "dataset": dataset, "split": split, "method": one, "variant": OWN_HEAD}
        names = [name for name in folds if split == MEAN] or [split]
        n = sum(len(splits[name].tested) for name in names)
        own = debiased[split, one, other]
        low, high = _about(float(np.mean(list(own.values()))), *errors[split, one, other])
        for metric, values, more in (
            (f"cka_with_{other}", by_seed, {}),
            (f"debiased_cka_with_{other}", own, {"low": low, "high": high}),
        ):
            rows.append(score_row(labels, metric, float(np.mean(list(values.values()))), n, **more))
            rows += [score_row(labels, metric, value, n, seed=s) for s, value in sorted(values.items())]
    return rows


def _jackknife_groups(recording: np.ndarray, seed: int, split: str) -> np.ndarray:
    """Number of the jackknife's group of each clip [clips]; a group has whole recordings."""
    order = np.random.default_rng(derive(seed, "jackknife", split)).permutation(int(recording.max()) + 1)
    group = np.empty(len(order), dtype=np.int64)
    for number, own in enumerate(np.array_split(order, min(_JACKKNIFE_GROUPS, len(order)))):
        group[own] = number
    return group[recording]


def _jackknife_error(value: Mapping[int, float], without: Mapping[int, np.ndarray]) -> tuple[float, int]:
    """Variance of a mean over seeds by what it is without each group, and its degrees of freedom."""
    left_out = np.mean([without[s] for s in sorted(without)], axis=0)
    count = len(left_out)
    centre = np.mean([value[s] for s in sorted(value)])
    return float((count - 1) / count * np.square(left_out - centre).sum()), count - 1


def _about(value: float, variance: float, freedom: int) -> tuple[float | None, float | None]:
    """95 % interval of an alignment, which is 1 at most; empty where it has no variance."""
    if freedom < 1 or not math.isfinite(variance) or not math.isfinite(value):
        return None, None
    reach = float(student.ppf(0.975, freedom)) * math.sqrt(variance)
    return value - reach, min(value + reach, 1.0)


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
