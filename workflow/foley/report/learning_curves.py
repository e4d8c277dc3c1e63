"""Learning curves: accuracy against synthetic samples per class."""

from __future__ import annotations

import re
from collections.abc import Sequence

from foley.report.comparison_figures import Curve, CurvePanel, learning_curves_svgs
from foley.report.scores import REFERENCES, ScoreBook, System
from foley.report.sections import Panel, Section, left_out_sentence, marked_up, place, variants
from foley.report.values import Cell, Row, ValueTable
from foley.report.verdict import GAIN

_AT = re.compile(r"accuracy_at_(\d+)_samples")


def learning_curves(book: ScoreBook, left_out: Sequence[str] = ()) -> Section | None:
    """Curves on each dataset, a figure per variant; None where no curve was measured."""
    panels = []
    for study in book.studies():
        for dataset in book.datasets(study):
            panel = _panel(book, study, dataset)
            if panel is not None:
                panels.append(panel)
    if not panels:
        return None
    return Section(
        "curves",
        "Learning curves",
        "Learning curves",
        "Accuracy on unseen classes against the number of synthetic samples per class (the axis is logarithmic), "
        "with 95 % bands. The broken line is the baseline, which has no synthetic data; not every method has its kind "
        "of classifier." + left_out_sentence(left_out),
        tuple(panels),
    )


def _panel(book: ScoreBook, study: str, dataset: str) -> Panel | None:
    amounts = {int(m[1]): m[0] for name in book.metrics(study, dataset) if (m := _AT.fullmatch(name))}
    # Zero samples have no place on a logarithmic axis: that is the baseline.
    amounts = {count: amounts[count] for count in sorted(amounts) if count > 0}
    systems = [s for s in book.systems(study, dataset, amounts.values()) if s.method not in REFERENCES]
    baselines = [m.removeprefix(GAIN) for m in book.metrics(study, dataset) if m.startswith(GAIN)]
    colours = book.colours(study, dataset)
    panels, tables = [], []
    for split in book.splits_shown(study, dataset, amounts.values()):
        for variant in variants(systems):
            title = place(book, study, dataset, variant, split)
            curves, rows, lines = [], [], []
            for system in (s for s in systems if s.variant == variant):
                scores = [book.get(study, dataset, split, system, metric) for metric in amounts.values()]
                points = tuple(
                    (float(count), score.value, score.low, score.high)
                    for count, score in zip(amounts, scores, strict=True)
                    if score is not None
                )
                if points:
                    curves.append(Curve(system.method, colours.get(system.method, len(colours)), points))
                    rows.append(Row((system.method,), tuple(Cell(score) for score in scores)))
            if not curves:
                continue
            for baseline in baselines:
                score = book.get(study, dataset, split, System(baseline, variant), "accuracy")
                if score is not None:
                    lines.append((baseline, colours.get(baseline, len(colours)), score.value))
                    empty = (Cell(None),) * (len(amounts) - 1)
                    rows.append(Row((baseline,), (Cell(score), *empty), "without synthetic data", True))
            panels.append(CurvePanel(title, tuple(curves), tuple(lines)))
            columns = tuple((str(count), "") for count in amounts)
            heading = f"Accuracy in % by synthetic samples per class: {title}"
            tables.append(ValueTable(heading, ("method",), columns, tuple(rows)))
    if not panels:
        return None
    figures = learning_curves_svgs(panels, "synthetic samples per class")
    return Panel(study, dataset, (), marked_up(figures), tuple(tables))
