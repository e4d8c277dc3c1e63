"""Where the spread comes from: standard deviations by embedding network, generator and classifier."""

from __future__ import annotations

from collections.abc import Sequence

from foley.report.comparison_figures import Bars, bars_svgs
from foley.report.scores import MEAN, REFERENCES, Score, ScoreBook
from foley.report.sections import Panel, Section, left_out_sentence, marked_up, place, variants
from foley.report.values import Cell, Row, ValueTable

SOURCES = {
    "spread_embedding": "embedding network",
    "spread_generator": "generator",
    "spread_classifier": "classifier",
}
TOTAL = "spread_total"


def spread(book: ScoreBook, left_out: Sequence[str] = ()) -> Section | None:
    """Bars on each dataset, a figure per variant; None where the spread was not split."""
    panels = []
    for study in book.studies():
        for dataset in book.datasets(study):
            panel = _panel(book, study, dataset)
            if panel is not None:
                panels.append(panel)
    if not panels:
        return None
    return Section(
        "spread",
        "Where the spread comes from",
        "Spread",
        "How far accuracy moves, in points, when one thing is trained anew and the rest is kept: standard "
        "deviations, the square roots of variance components; variances add up, standard deviations do not. The "
        "intervals in the tables are over seeds, and wide where few were trained."
        + left_out_sentence(left_out),
        tuple(panels),
    )


def _panel(book: ScoreBook, study: str, dataset: str) -> Panel | None:
    metrics = [*SOURCES, TOTAL]
    known = set(book.metrics(study, dataset))
    # A source that nobody measured (one embedding network, say) is not drawn as if it were nought.
    sources = {metric: name for metric, name in SOURCES.items() if metric in known}
    systems = [s for s in book.systems(study, dataset, metrics) if s.method not in REFERENCES]
    panels, tables = [], []
    of_dataset = [s for s in book.splits(study, dataset) if s != MEAN]
    count = sum(
        any(book.get(study, dataset, split, s, m) for s in systems for m in metrics) for split in of_dataset
    )
    for split in book.splits_shown(study, dataset, metrics):
        for variant in variants(systems):
            bars, rows = [], []
            for system in (s for s in systems if s.variant == variant):
                scores = [book.get(study, dataset, split, system, metric) for metric in (*sources, TOTAL)]
                if any(scores):
                    values = [_value(score) for score in scores]
                    bars.append(Bars(system.method, tuple(values[:-1]), values[-1]))
                    rows.append(Row((system.method,), tuple(Cell(score) for score in scores)))
            if bars:
                title = place(book, study, dataset, variant, split, count)
                panels.append((title, bars))
                columns = tuple((name, "") for name in (*sources.values(), "total"))
                tables.append(
                    ValueTable(f"Standard deviations in points: {title}", ("method",), columns, tuple(rows))
                )
    if not panels:
        return None
    figures = bars_svgs(panels, list(sources.values()), "total")
    return Panel(study, dataset, (), marked_up(figures), tuple(tables))


def _value(score: Score | None) -> float | None:
    return None if score is None else score.value
