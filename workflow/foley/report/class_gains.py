"""Gains and losses per class: a figure and a table per study, dataset and variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from foley.report import comparison_figures, svg
from foley.report import figures as draw
from foley.report.mixes import as_they_are, tuned_on_test
from foley.report.scores import MEAN, REFERENCES, Score, ScoreBook, System
from foley.report.study_words import words
from foley.report.values import Cell, Row, ValueTable, crosses_zero, interval_text, points, where
from foley.report.verdict import DIFFERENCE, GAIN

_MOST_MARKS = 6  # methods that find room on lines of their own in a class's row


def class_panels(
    book: ScoreBook, labels: Mapping[str, Mapping[int, str]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """A figure and a table per study, dataset and variant."""
    panels, svgs = [], []
    for study in book.studies():
        if not words(study).measures_accuracy:
            continue
        for dataset in book.datasets(study):
            splits = [s for s in book.splits(study, dataset) if book.class_ids(study, dataset, s)]
            if words(study).same_classes:
                splits = [s for s in splits if s == MEAN] or book.leak_free(study, splits) or splits
            else:
                # The mean over splits repeats a class that one split tests, and hides which split that was.
                splits = [s for s in splits if s != MEAN] or splits
            systems = [
                s
                for s in book.systems(study, dataset, ["recall", "precision"])
                if not tuned_on_test(s.variant)
            ]
            plain = as_they_are(s.method for s in systems) if words(study).by_source else []
            # References have no variant of their own with methods in it.
            for variant in dict.fromkeys(s.variant for s in systems if s.method not in REFERENCES):
                chosen = [
                    system
                    for system in systems
                    if system.variant == variant and _is_shown(system.method, study, plain)
                ]
                if not chosen:
                    continue
                panel, drawn = _class_panel(
                    book, study, dataset, variant, splits, chosen, labels.get(dataset, {})
                )
                panels.append(panel)
                svgs += drawn
    return panels, svgs


def _is_shown(method: str, study: str, plain: Sequence[str]) -> bool:
    judged = words(study).judged
    return not judged or method in (*judged, *plain, *REFERENCES, words(study).baseline)


def _class_panel(
    book: ScoreBook,
    study: str,
    dataset: str,
    variant: str,
    splits: Sequence[str],
    systems: Sequence[System],
    labels: Mapping[int, str],
) -> tuple[dict[str, Any], list[str]]:
    gain_metrics = [m for m in book.metrics(study, dataset) if m.startswith(GAIN)] or [f"{GAIN}ale"]
    metric, baseline = gain_metrics[0], gain_metrics[0].removeprefix(GAIN)
    reference = System(baseline, variant)
    gainers = [s for s in systems if s.method != baseline and s.method not in REFERENCES]
    columns = [("clips", "")]
    for system in systems:
        columns += [("recall", system.method), ("precision", system.method)]
        if system in gainers:
            columns.append(("gain", system.method))
    rows: list[Row] = []
    gains: dict[tuple[str, str, str], Score] = {}
    groups: list[tuple[str, list[str]]] = []
    for split in splits:
        names: list[str] = []
        group = ", ".join(part for part in (dataset, where(split, book.split_count(study, dataset))) if part)
        for class_id in book.class_ids(study, dataset, split):
            name = labels.get(class_id, str(class_id))
            cells, size = [], None
            for system in systems:
                recall = book.get(study, dataset, split, system, "recall", class_id)
                size = size or (recall.n if recall else None)
                cells.append(Cell(recall))
                cells.append(Cell(book.get(study, dataset, split, system, "precision", class_id)))
                if system in gainers:
                    gain = book.get(study, dataset, split, system, metric, class_id) or book.get(
                        study, dataset, split, system, f"{DIFFERENCE}{baseline}", class_id
                    )
                    before = book.get(study, dataset, split, reference, "recall", class_id)
                    mark = "noise" if gain is not None and _unclear(gain) else ""
                    if gain is None and recall is not None and before is not None:
                        gain = Score(recall.value - before.value, None, None, recall.n)
                    cells.append(Cell(gain, signed=True, mark=mark))
                    if gain is not None:
                        gains[group, name, system.method] = gain
            if any(cell.score for cell in cells):
                names.append(name)
                clips = Cell(Score(float(size), None, None, None) if size else None, share=False)
                rows.append(Row((name, split or "all"), (clips, *cells)))
        if names:
            groups.append((group, names))
    title = f"{dataset}: recall per class, gain over {baseline}" + (f" ({variant})" if variant else "")
    colours = book.colours(study, dataset)
    drawn = {s.method: colours.get(s.method, len(colours)) for s in gainers}
    svgs = []
    if gains and len(drawn) <= _MOST_MARKS:
        svgs = draw.class_gains_svgs(groups, drawn, {key: gain.value for key, gain in gains.items()})
    elif gains:
        svgs = [_gains_matrix(group, names, list(drawn), gains) for group, names in groups]
    table = ValueTable(title, ("class", "split"), tuple(columns), tuple(rows))
    panel = {
        "title": title,
        "name": " · ".join(part for part in (dataset, variant) if part),
        "figures": [Markup(svg.inline(figure)) for figure in svgs],
        "table": table,
    }
    return panel, svgs


def _unclear(gain: Score) -> bool:
    """Whether a gain may be noise: its interval holds zero, or a single recording gives it none."""
    return gain.low is None or crosses_zero(gain)


def _gains_matrix(
    group: str,
    classes: Sequence[str],
    methods: Sequence[str],
    gains: Mapping[tuple[str, str, str], Score],
) -> str:
    """Classes by methods: many methods would hide one another as marks."""
    cells = {}
    for row, name in enumerate(classes):
        for column, method in enumerate(methods):
            if (gain := gains.get((group, name, method))) is not None:
                tip = f"{name}, {method}: {points(gain.value)} points {interval_text(gain, points)}".strip()
                cells[row, column] = comparison_figures.Difference(gain.value, _unclear(gain), tip)
    return comparison_figures.differences_svg(classes, methods, cells, group, ("gain", "loss"))
