"""One dataset: means over its splits, and each method's paired gain over the one without synthetic data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.metrics import classification as metric
from foley.metrics.bootstrap import interval
from foley.studies.zero_shot.predictions import CONVENTIONAL, Predicted, read_predictions
from foley.studies.zero_shot.score import (
    Measured,
    measure,
    recordings_of,
    resamples_of,
    score_row,
    summary_rows,
)
from foley.tables.scores import SCORES


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
    """One dataset: means over splits, and each method's paired gain over the baseline.

    A gain is the difference in accuracy on the same clips, with an interval over the same bootstrap draws. Splits
    have unseen clips of their own, so their draws are independent and a mean over splits averages draw by draw.

    Args:
        partitions: split -> its partition table.
        baseline: the method without synthetic data that gains are measured against.
        generated: methods with synthetic data, whose gains are of interest.
    """
    recordings = {split: recordings_of(path) for split, path in partitions.items()}
    measured: dict[tuple[str, str, str], tuple[Predicted, dict[str, Measured]]] = {}
    dataset = ""
    for path in predictions:
        labels = read_predictions(path, CONVENTIONAL).labels
        dataset = labels["dataset"]
        key = (labels["method"], labels["variant"], labels["split"])
        measured[key] = measure(path, recordings[labels["split"]], draws, seed)
    rows: list[dict[str, Any]] = []
    pairs = sorted({(method, variant) for method, variant, _ in measured})
    for method, variant in pairs:
        splits = [split for split in partitions if (method, variant, split) in measured]
        labels = {"dataset": dataset, "method": method, "variant": variant}
        gains: list[Measured] = []
        for split in splits:
            here = measured[method, variant, split]
            base = measured.get((baseline, variant, split))
            if base is None or method not in generated:
                continue
            gain = _gain(here[1]["accuracy"], base[1]["accuracy"])
            gains.append(gain)
            low, high = interval(gain.draws)
            name = f"gain_over_{baseline}"
            rows.append(
                score_row({**labels, "split": split}, name, gain.per_seed.mean(), gain.n, low=low, high=high)
            )
            rows += _class_gains(
                {**labels, "split": split}, name, here[0], base[0], recordings[split], draws, seed
            )
        if len(splits) == len(partitions) and len(splits) > 1:
            mean_labels = {**labels, "split": "mean"}
            for name in measured[method, variant, splits[0]][1]:
                parts = [measured[method, variant, split][1].get(name) for split in splits]
                whole = [part for part in parts if part is not None]
                if len(whole) == len(splits):
                    rows += summary_rows(
                        mean_labels, name, measured[method, variant, splits[0]][0].seeds, _mean(whole)
                    )
            if len(gains) == len(splits):
                total = _mean(gains)
                low, high = interval(total.draws)
                rows.append(
                    score_row(
                        mean_labels,
                        f"gain_over_{baseline}",
                        total.per_seed.mean(),
                        total.n,
                        low=low,
                        high=high,
                    )
                )
    if len(partitions) > 1:
        known = tables.read(list(references), SCORES).to_pylist()
        for method in ("chance", "majority"):
            values = [(row["value"], row["n"]) for row in known if row["method"] == method]
            rows.append(
                score_row(
                    {"dataset": dataset, "split": "mean", "method": method, "variant": ""},
                    "accuracy",
                    float(np.mean([v for v, _ in values])),
                    sum(n for _, n in values),
                )
            )
    tables.write(output, SCORES, rows, provenance)


def _gain(here: Measured, base: Measured) -> Measured:
    seeds = min(len(here.per_seed), len(base.per_seed))
    return Measured(here.per_seed[:seeds] - base.per_seed[:seeds], here.draws - base.draws, here.n)


def _mean(parts: Sequence[Measured]) -> Measured:
    return Measured(
        np.mean([p.per_seed for p in parts], axis=0),
        np.mean([p.draws for p in parts], axis=0),
        sum(p.n for p in parts),
    )


def _class_gains(
    labels: Mapping[str, str],
    name: str,
    here: Predicted,
    base: Predicted,
    recording_of: Mapping[str, str],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    known = np.unique(here.truth)
    resamples = resamples_of(here.clip_ids, recording_of, labels["split"], draws, seed)
    difference = (here.correct.mean(axis=0) - base.correct.mean(axis=0))[None, :]
    value = metric.recalls(difference, here.truth, known)[0]
    drawn = metric.recall_draws(difference, here.truth, known, resamples)
    rows = []
    for number, class_id in enumerate(known):
        low, high = interval(drawn[:, number])
        n = int((here.truth == class_id).sum())
        rows.append(score_row(labels, name, value[number], n, class_id=int(class_id), low=low, high=high))
    return rows
