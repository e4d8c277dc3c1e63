"""Quality of synthetic embeddings: how close they come to real ones of seen classes that were held out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from foley.report.scores import REFERENCES, ScoreBook, System
from foley.report.sections import Panel, Section, left_out_sentence, place, variants
from foley.report.values import Cell, Row, ValueTable

REAL = "real"  # one half of the real clips against the other: the best that can be expected
# Metric -> its name, and whether more of it is better.
METRICS = {
    "quality_cosine": ("cosine similarity", True),
    "quality_mmd": ("MMD", False),
    "quality_frechet": ("Fréchet distance", False),
    "quality_precision": ("precision", True),
    "quality_recall": ("recall", True),
    "quality_density": ("density", True),
    "quality_coverage": ("coverage", True),
}


def synthetic_quality(book: ScoreBook, left_out: Sequence[str] = ()) -> Section | None:
    """A table per dataset and variant; None where quality was not measured."""
    panels = []
    for study in book.studies():
        for dataset in book.datasets(study):
            tables = _tables(book, study, dataset)
            if tables:
                panels.append(Panel(study, dataset, tables=tuple(tables)))
    if not panels:
        return None
    return Section(
        "quality",
        "Quality of synthetic embeddings",
        "Quality",
        "Synthetic embeddings of seen classes that the generator was not trained on, against real clips of these "
        f"classes. The row {REAL} compares one half of the real clips with the other: no generator can be "
        "expected to do better. It tells generators on the same embedding apart; it does not foretell accuracy on "
        "unseen classes. The best method of a column is marked; its head says which direction is better."
        + left_out_sentence(left_out),
        tuple(panels),
        folded=False,
    )


def _tables(book: ScoreBook, study: str, dataset: str) -> list[ValueTable]:
    known = set(book.metrics(study, dataset))
    metrics = [metric for metric in METRICS if metric in known]
    systems = book.systems(study, dataset, metrics)
    methods = [s for s in systems if s.method not in (REAL, *REFERENCES)]
    found = []
    for split in book.splits_shown(study, dataset, metrics):
        for variant in variants(methods):
            chosen = [system for system in methods if system.variant == variant]
            real = [s for s in systems if s.method == REAL and _is_of(s.variant, variant)]
            cells = [_column(book, study, dataset, split, chosen, real, metric) for metric in metrics]
            rows = [
                Row((system.method,), tuple(column[number] for column in cells))
                if system in chosen
                else Row(
                    (REAL,), tuple(column[number] for column in cells), "one half against the other", True
                )
                for number, system in enumerate((*chosen, *real))
            ]
            rows = [row for row in rows if any(cell.score for cell in row.cells)]
            if all(row.reference for row in rows):
                continue
            columns = tuple(
                (METRICS[metric][0], "higher is better" if METRICS[metric][1] else "lower is better")
                for metric in metrics
            )
            title = place(book, study, dataset, variant, split)
            found.append(ValueTable(title, ("method",), columns, tuple(rows)))
    return found


def _is_of(real: str, variant: str) -> bool:
    """Whether real clips (of any variant, or of an embedding) are those of a variant."""
    return real in ("", variant) or variant.startswith(f"{real}/")


def _column(
    book: ScoreBook,
    study: str,
    dataset: str,
    split: str,
    chosen: Sequence[System],
    real: Sequence[System],
    metric: str,
) -> list[Cell]:
    """Cells of the methods, then of the real clips; the best method is marked where there is a choice."""
    scores = [book.get(study, dataset, split, system, metric) for system in (*chosen, *real)]
    largest = max((abs(score.value) for score in scores if score is not None), default=0.0)
    # Three digits of the largest: numbers below one another are then compared at a glance.
    decimals = int(np.clip(2 - math.floor(math.log10(largest)), 0, 5)) if largest else 3
    values = [score.value for score in scores[: len(chosen)] if score is not None]
    best = (max if METRICS[metric][1] else min)(values) if len(values) > 1 else None
    return [
        Cell(
            score,
            share=False,
            decimals=decimals,
            mark="best" if number < len(chosen) and score is not None and score.value == best else "",
        )
        for number, score in enumerate(scores)
    ]
