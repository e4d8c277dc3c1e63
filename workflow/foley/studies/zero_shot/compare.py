"""One dataset: means over its splits, gains over the method without synthetic data, and every pair of methods.

Differences are paired: both methods answer for the same clips and are measured on the same bootstrap draws. A mean over
splits averages draw by draw: splits with tested clips of their own are drawn independently, and a recording that
several splits test has the same weight in each (``SplitDraws``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from foley import tables
from foley.metrics import classification as metric
from foley.metrics.bootstrap import Resamples, interval
from foley.metrics.paired import bootstrap_p, corrected_t_test, holm
from foley.studies.zero_shot.predictions import Predicted, read_labels
from foley.studies.zero_shot.score import (
    Measured,
    SplitDraws,
    measure_with,
    score_row,
    summary_rows,
)
from foley.tables.scores import SCORES
from foley.tables.zero_shot import PARTITION


class System(NamedTuple):
    """What is compared: a method on an embedding and class vectors."""

    method: str
    variant: str


@dataclass(frozen=True)
class Run:
    """One system in one split: its answers and what was measured of them, by metric."""

    predicted: Predicted
    measured: dict[str, Measured]


Runs = dict[System, dict[str, Run]]  # system -> split -> run, splits in the order of the config


def compare_methods(
    output: Path,
    *,
    predictions: Sequence[Path],
    partitions: Mapping[str, Path],
    references: Sequence[Path],
    baseline: str,
    generated: Sequence[str],
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """One dataset: means over splits, paired gains over the baseline, and paired differences of all pairs.

    Pairs are two methods of one variant (``difference_to_<method>``), and one method with two kinds of class vectors
    on one embedding (``difference_to_variant_<variant>``). A pair's ``p_...`` row of the mean is that of the corrected
    resampled t-test over splits; that of a single split, or of splits without variance, is the bootstrap p over
    recordings. Both are after Holm's adjustment over all pairs of a variant (between class vectors: of an embedding)
    in the same split or mean. Classes have differences in recall to the baseline: gains of ``generated``, plain
    differences of the other methods. References whose variant names no class vectors (oracle, CLAP) get means and no
    pairs.

    Args:
        partitions: split -> its partition table.
        references: tables of scores with chance and majority, one per split.
        baseline: the method without synthetic data that gains are measured against.
        generated: methods with synthetic data, whose gains are of interest.

    Raises:
        ValueError: predictions of a split without a partition, or two methods that answer for different clips.
    """
    files: dict[str, list[Path]] = {split: [] for split in partitions}
    dataset = ""
    for path in predictions:
        labels = read_labels(path)
        dataset = labels["dataset"]
        if labels["split"] not in files:
            raise ValueError(
                f"{path}: is of split {labels['split']}, which has no partition here; there are {list(files)}"
            )
        files[labels["split"]].append(path)
    runs: Runs = defaultdict(dict)
    rows: list[dict[str, Any]] = []
    split_draws = SplitDraws(partitions, draws, seed)

    def resample(predicted: Predicted) -> Resamples:
        general = not predicted.is_unseen.all()
        return split_draws.of(predicted.labels["split"], predicted.clip_ids, general=general)

    for split, paths in files.items():
        for path in paths:
            run = Run(*measure_with(path, resample))
            labels = run.predicted.labels
            runs[System(labels["method"], labels["variant"])][split] = run
        for system, of_split in sorted(runs.items()):
            base = runs.get(System(baseline, system.variant), {}).get(split)
            if system.method != baseline and base is not None and split in of_split:
                # With another classifier than the baseline's it is no gain of synthetic data alone.
                name = f"{'gain_over' if system.method in generated else 'difference_to'}_{baseline}"
                rows += _class_differences(name, of_split[split].predicted, base.predicted, resample)
    for system, of_split in sorted(runs.items()):
        base_runs = runs.get(System(baseline, system.variant))
        if system.method in generated and base_runs is not None:
            gains = _with_mean(_differences(of_split, base_runs), len(partitions))
            rows += _difference_rows(dataset, system, f"gain_over_{baseline}", gains)
        if len(of_split) == len(partitions) > 1:
            rows += _mean_rows(dataset, system, list(of_split.values()))
    ratio = _test_train_ratio(list(partitions.values()))
    for family in _families(runs):
        rows += _pair_rows(dataset, family, runs, len(partitions), ratio)
    if len(partitions) > 1:
        rows += _mean_reference_rows(dataset, references)
    tables.write(output, SCORES, rows, provenance)


def _test_train_ratio(partitions: Sequence[Path]) -> float:
    """Unseen over seen classes, summed over splits: n_test / n_train of the corrected t-test.

    A split draws classes, so classes are what it trains and tests on; clips of one class say the same of how methods
    vary with the choice of classes. Splits of different sizes (30 and 40 seen classes in ESC-50) enter with their
    mean sizes, excluded classes with none.
    """
    seen = unseen = 0
    for path in partitions:
        table = tables.read(path, PARTITION, columns=["class_id", "role"])
        of_role = set(zip(table["role"].to_pylist(), table["class_id"].to_pylist(), strict=True))
        unseen += len({class_id for role, class_id in of_role if role == "unseen"})
        seen += len({class_id for role, class_id in of_role if role.startswith("seen")})
    return unseen / seen


def _families(runs: Runs) -> list[list[tuple[System, System]]]:
    """Pairs that are tested together: methods of one variant; class vectors of one embedding, method by method."""
    by_variant: dict[str, list[System]] = defaultdict(list)
    by_embedding: dict[str, dict[str, list[System]]] = defaultdict(lambda: defaultdict(list))
    for system in sorted(runs):
        embedding, _, vectors = system.variant.partition("/")
        if vectors:
            by_variant[system.variant].append(system)
            by_embedding[embedding][system.method].append(system)
    families = [list(combinations(systems, 2)) for systems in by_variant.values()]
    families += [
        [pair for systems in methods.values() for pair in combinations(systems, 2)]
        for methods in by_embedding.values()
    ]
    return [family for family in families if family]


def _pair_rows(
    dataset: str, family: Sequence[tuple[System, System]], runs: Runs, splits: int, ratio: float
) -> list[dict[str, Any]]:
    rows = []
    tested: dict[str, list[tuple[System, System, int, float]]] = defaultdict(list)
    for one, other in family:
        parts = _differences(runs[one], runs[other])
        differences = _with_mean(parts, splits)
        for here, there, sign in ((one, other, 1), (other, one, -1)):
            signed = {split: _signed(found, sign) for split, found in differences.items()}
            rows += _difference_rows(dataset, here, f"difference_to_{_opponent(here, there)}", signed)
        for split in differences:
            of_split = [parts[split]] if split in parts else list(parts.values())
            tested[split].append((one, other, len(of_split), _p_of(of_split, ratio)))
    for split, of_pairs in tested.items():
        adjusted = holm(np.array([p for *_, p in of_pairs]))
        for (one, other, n, _), p in zip(of_pairs, adjusted, strict=True):
            for here, there in ((one, other), (other, one)):
                labels = {"dataset": dataset, "split": split, **here._asdict()}
                rows.append(score_row(labels, f"p_difference_to_{_opponent(here, there)}", p, n))
    return rows


def _p_of(parts: Sequence[Measured], ratio: float) -> float:
    """Of a difference in each of several splits, or in one."""
    p = corrected_t_test(np.array([part.per_seed[0] for part in parts]), ratio)
    return bootstrap_p(_mean(parts).draws) if math.isnan(p) else p


def _opponent(here: System, there: System) -> str:
    return there.method if here.variant == there.variant else f"variant_{there.variant}"


def _signed(difference: Measured, sign: int) -> Measured:
    return difference if sign > 0 else Measured(0 - difference.per_seed, 0 - difference.draws, difference.n)


def _differences(here: Mapping[str, Run], base: Mapping[str, Run]) -> dict[str, Measured]:
    """Difference in accuracy in each split that both have, the mean over seeds as its one value."""
    return {split: _difference(run, base[split]) for split, run in here.items() if split in base}


def _difference(here: Run, base: Run) -> Measured:
    _refuse_other_clips(here.predicted, base.predicted)
    a, b = here.measured["accuracy"], base.measured["accuracy"]
    # Methods need not have the same seeds: the seeds of one say nothing of those of another.
    return Measured(np.array([a.per_seed.mean() - b.per_seed.mean()]), a.draws - b.draws, a.n)


def _refuse_other_clips(here: Predicted, base: Predicted) -> None:
    if not np.array_equal(here.clip_ids, base.clip_ids):
        one, other = here.labels, base.labels
        raise ValueError(
            f"{one['dataset']}, split {one['split']}: {one['method']} ({one['variant']}) and {other['method']} "
            f"({other['variant']}) answer for different clips, so they can't be compared in pairs; delete their "
            "predictions so that they are made again"
        )


def _with_mean(differences: dict[str, Measured], splits: int) -> dict[str, Measured]:
    """With the mean where all of several splits are there."""
    if len(differences) == splits > 1:
        return {**differences, "mean": _mean(list(differences.values()))}
    return differences


def _difference_rows(
    dataset: str, system: System, name: str, differences: Mapping[str, Measured]
) -> list[dict[str, Any]]:
    rows = []
    for split, difference in differences.items():
        low, high = interval(difference.draws)
        labels = {"dataset": dataset, "split": split, **system._asdict()}
        rows.append(score_row(labels, name, difference.per_seed[0], difference.n, low=low, high=high))
    return rows


def _mean_rows(dataset: str, system: System, of_splits: Sequence[Run]) -> list[dict[str, Any]]:
    labels = {"dataset": dataset, "split": "mean", **system._asdict()}
    rows = []
    for name in of_splits[0].measured:
        if all(name in run.measured for run in of_splits):
            whole = _mean([run.measured[name] for run in of_splits])
            rows += summary_rows(labels, name, of_splits[0].predicted.seeds, whole)
    return rows


def _mean(parts: Sequence[Measured]) -> Measured:
    return Measured(
        np.mean([p.per_seed for p in parts], axis=0),
        np.mean([p.draws for p in parts], axis=0),
        sum(p.n for p in parts),
    )


def _class_differences(
    name: str, here: Predicted, base: Predicted, resample: Callable[[Predicted], Resamples]
) -> list[dict[str, Any]]:
    _refuse_other_clips(here, base)
    known = np.unique(here.truth)
    difference = (here.correct.mean(axis=0) - base.correct.mean(axis=0))[None, :]
    value = metric.recalls(difference, here.truth, known)[0]
    drawn = metric.recall_draws(difference, here.truth, known, resample(here))
    rows = []
    for number, class_id in enumerate(known):
        low, high = interval(drawn[:, number])
        n = int((here.truth == class_id).sum())
        rows.append(
            score_row(here.labels, name, value[number], n, class_id=int(class_id), low=low, high=high)
        )
    return rows


def _mean_reference_rows(dataset: str, references: Sequence[Path]) -> list[dict[str, Any]]:
    known = tables.read(list(references), SCORES).to_pylist()
    rows = []
    for method in ("chance", "majority"):
        values = [(row["value"], row["n"]) for row in known if row["method"] == method]
        labels = {"dataset": dataset, "split": "mean", "method": method, "variant": ""}
        value = float(np.mean([v for v, _ in values]))
        rows.append(score_row(labels, "accuracy", value, sum(n for _, n in values)))
    return rows
