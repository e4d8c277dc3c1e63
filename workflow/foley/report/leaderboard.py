"""Leaderboards: every method of a study on a dataset, with published figures beside ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from markupsafe import Markup

from foley.report import figures as draw
from foley.report import svg
from foley.report.mixes import tuned_on_test
from foley.report.scores import MEAN, REFERENCES, UPPER_REFERENCES, Score, ScoreBook, System
from foley.report.study_words import is_leaky, words
from foley.report.values import Cell, Published, Row, ValueTable, is_share, where
from foley.report.verdict import GAIN

_FIGURE_ROWS = 60  # of all figures of a dataset; past that only the mean over splits is drawn
_ROWS_TOGETHER = 12
# Metrics with a section of their own on the page.
_OWN_SECTION = re.compile(r"(p_)?difference_to_|accuracy_at_\d+_samples|spread_|quality_")


@dataclass(frozen=True)
class Board:
    """The leaderboard of one study on one dataset: its figures and its tables, the first of them open."""

    study: str
    dataset: str
    figures: tuple[Markup, ...]
    tables: tuple[ValueTable, ...]
    sources: tuple[str, ...]
    caption: str = ""  # of the figures


_UNITS = {"percent": 0.01, "plain": 1.0}  # of published values; plain ones are no shares, such as distances


def read_published(paths: Sequence[Path]) -> list[Published]:
    """The figures of YAML files: a list ``figures`` of study, dataset, split, method, metric, value and source; std,
    variant and unit (``percent``, unless ``plain``) may be left out.

    Raises:
        ValueError: a figure lacks a key, or has a value or unit that is none.
    """
    found = []
    for path in paths:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        for number, row in enumerate(document.get("figures") or []):
            try:
                std = row.get("std")
                scale = _UNITS[row.get("unit", "percent")]
                found.append(
                    Published(
                        study=str(row["study"]),
                        dataset=str(row["dataset"]),
                        split=str(row["split"]),
                        method=str(row["method"]),
                        metric=str(row["metric"]),
                        value=float(row["value"]) * scale,
                        std=None if std is None else float(std) * scale,
                        source=str(row["source"]),
                        variant=None if row.get("variant") is None else str(row["variant"]),
                        share=scale != 1,
                    )
                )
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: figures[{number}] is not a published figure: {error!r}") from error
    return found


def system_detail(system: System) -> str:
    """What stands below a method's name."""
    tuned = "weights chosen on the test clips" if tuned_on_test(system.variant) else ""
    parts = (system.variant, tuned, UPPER_REFERENCES.get(system.method, ""))
    return ", ".join(part for part in parts if part)


def _refers_to(reference: str, variant: str) -> bool:
    """Whether a reference of that variant (none, or an embedding) belongs beside a method's variant."""
    return reference in ("", variant) or variant.startswith(f"{reference}/")


class _BoardBuilder:
    """The rows of one study on one dataset."""

    def __init__(self, book: ScoreBook, literature: Sequence[Published], study: str, dataset: str) -> None:
        self.book, self.study, self.dataset = book, study, dataset
        self.literature = [p for p in literature if (p.study, p.dataset) == (study, dataset)]
        self.used: list[Published] = []
        self.all_splits = book.splits(study, dataset)

    def cell(self, split: str, system: System, metric: str) -> Cell:
        def get(name: str) -> Score | None:
            return self.book.get(self.study, self.dataset, split, system, name)

        std, beside = get(f"{metric}_seed_std"), self.published(split, system.method, metric, system.variant)
        return Cell(
            get(metric),
            std.value if std else None,
            beside,
            signed=metric.startswith(GAIN),
            share=is_share(metric),
        )

    def published(
        self, split: str, method: str, metric: str, variant: str | None = None
    ) -> tuple[Published, ...]:
        """Published figures of a cell; one that names a variant stands beside that variant alone."""
        wanted = (split, method, metric)
        beside = tuple(
            p
            for p in self.literature
            if (p.split, p.method, p.metric) == wanted and variant in (None, p.variant or variant)
        )
        self.used += beside
        return beside

    def splits(self, metrics: Sequence[str]) -> list[str]:
        """Splits with values of the metrics; a single split and its mean are one column, not two."""
        have = [
            split
            for split in self.all_splits
            if any(
                self.book.get(self.study, self.dataset, split, system, metric)
                for metric in metrics
                for system in self.book.systems(self.study, self.dataset, [metric])
            )
        ]
        return have[:1] if len(have) == 2 and have[1] == MEAN else have

    def column(self, split: str, metric: str) -> tuple[str, str]:
        """A split's heading and, where all rows agree on it, the number of clips."""
        scores = [
            self.book.get(self.study, self.dataset, split, system, metric)
            for system in self.book.systems(self.study, self.dataset, [metric])
        ]
        sizes = {score.n for score in scores if score is not None}
        size = sizes.pop() if len(sizes) == 1 else None
        details = ["leaky"] * is_leaky(self.study, split) + [f"{size} clips"] * bool(size and split != MEAN)
        return (split or "all", ", ".join(details))

    def rows(self, metrics: Sequence[str], splits: Sequence[str]) -> list[Row]:
        """A row per system; cells by split, then metric. Methods that only a paper measured come last."""
        rows = []
        systems = self.book.systems(self.study, self.dataset, metrics)
        for system in systems:
            cells = tuple(self.cell(split, system, metric) for split in splits for metric in metrics)
            seeds = self.book.seed_count(self.study, self.dataset, system)
            head = (system.method, str(seeds or ""))
            rows.append(Row(head, cells, system_detail(system), system.method in REFERENCES))
        ours = {system.method for system in systems}
        for method in dict.fromkeys(p.method for p in self.literature if p.method not in ours):
            cells = tuple(
                Cell(None, published=self.published(split, method, metric))
                for split in splits
                for metric in metrics
            )
            if any(cell.published for cell in cells):
                rows.append(Row((method, ""), cells, "published only", True))
        return rows

    def split_table(self, title: str, metric: str) -> ValueTable | None:
        """Methods by splits, for one metric."""
        splits = _mean_first(self.splits([metric]))
        if not splits:
            return None
        columns = tuple(self.column(split, metric) for split in splits)
        return ValueTable(title, _HEAD, columns, tuple(self.rows([metric], splits)))

    def generalised_table(self) -> ValueTable | None:
        """Seen, unseen and harmonic mean, a row per method and split."""
        metrics = ("accuracy_seen", "accuracy_unseen", "harmonic_mean")
        splits = self.splits(metrics)
        if not splits:
            return None
        rows = [
            Row((*row.head, split or "all"), row.cells, row.detail, row.reference)
            for split in _mean_first(splits)
            for row in self.rows(metrics, [split])
        ]
        columns = (("seen", ""), ("unseen", ""), ("harmonic mean", ""))
        title = "Generalised setting: among seen and unseen classes, mean accuracy per class in %"
        return ValueTable(title, (*_HEAD, "split"), columns, tuple(rows))

    def other_table(self, shown: set[str]) -> ValueTable | None:
        """Whatever else the study measured, a row per method and metric."""
        rest = [m for m in self.book.metrics(self.study, self.dataset) if m not in shown]
        rest = [m for m in rest if not m.endswith("_seed_std") and not _OWN_SECTION.match(m)]
        splits = _mean_first(self.splits(rest))
        rows = [
            Row((*row.head, metric), row.cells, row.detail, row.reference)
            for metric in rest
            for row in self.rows([metric], splits)
        ]
        if not rows:
            return None
        columns = tuple((split or "all", "") for split in splits)
        return ValueTable("All other metrics", (*_HEAD, "metric"), columns, tuple(rows))

    def figures(self) -> list[str]:
        """Accuracy, a figure per split, the mean first."""
        systems = self.book.systems(self.study, self.dataset, ["accuracy"])
        splits = _mean_first(self.splits(["accuracy"]))
        if len(systems) * len(splits) > _FIGURE_ROWS:
            splits = splits[:1] + [split for split in splits[1:] if is_leaky(self.study, split)]
        ours = [system for system in systems if system.method not in REFERENCES]
        variants = list(dict.fromkeys(system.variant for system in ours))
        # Many rows of several variants: a figure for each variant.
        apart = len(variants) > 1 and len(ours) > _ROWS_TOGETHER
        panels = [
            self._panel(split, [s for s in ours if s.variant in chosen], systems, chosen)
            for split in splits
            for chosen in ([[v] for v in variants] if apart else [variants])
        ]
        return draw.leaderboard_svgs([panel for panel in panels if panel.rows])

    def _panel(
        self, split: str, ours: Sequence[System], systems: Sequence[System], variants: Sequence[str]
    ) -> draw.Panel:
        rows, lines = [], []
        several = len({system.variant for system in ours}) > 1
        for system in ours:
            cell = self.cell(split, system, "accuracy")
            if (score := cell.score) is not None:
                beside = tuple((p.value, p.std) for p in cell.published)
                detail = system.variant if several else ""
                rows.append(draw.Interval(system.method, detail, score.value, score.low, score.high, beside))
        fitting = [
            s for s in systems if s.method in REFERENCES and any(_refers_to(s.variant, v) for v in variants)
        ]
        for system in fitting:
            line = self.book.get(self.study, self.dataset, split, system, "accuracy")
            if line is not None:
                alone = sum(s.method == system.method for s in fitting) == 1
                lines.append((system.method if alone else f"{system.method} {system.variant}", line.value))
        count = self.book.split_count(self.study, self.dataset)
        known = {system.variant for system in self.book.systems(self.study, self.dataset, ["accuracy"])}
        variant = variants[0] if len(variants) == 1 and len(known - {""}) > 1 else ""
        leaky = "leaky" if is_leaky(self.study, split) else ""
        title = ", ".join(part for part in (self.dataset, where(split, count), leaky, variant) if part)
        return draw.Panel(title, tuple(rows), tuple(lines))


_HEAD = ("method", "seeds")


def _mean_first(splits: Sequence[str]) -> list[str]:
    """A narrow screen shows the first column only, and the mean sums the others up."""
    return sorted(splits, key=lambda split: split != MEAN)


def boards(book: ScoreBook, literature: Sequence[Published]) -> tuple[list[Board], list[str]]:
    boards, svgs = [], []
    for study in book.studies():
        its = words(study)
        if not its.measures_accuracy:
            continue
        for dataset in book.datasets(study):
            builder = _BoardBuilder(book, literature, study, dataset)
            found = [
                builder.split_table(its.accuracy, "accuracy"),
                builder.generalised_table(),
                builder.split_table(its.macro, "accuracy_macro"),
                builder.other_table(
                    {"accuracy", "accuracy_macro", "accuracy_seen", "accuracy_unseen", "harmonic_mean"}
                ),
            ]
            drawn = builder.figures()
            svgs += drawn
            sources = tuple(dict.fromkeys(p.source for p in builder.used))
            boards.append(
                Board(
                    study,
                    dataset,
                    tuple(Markup(svg.inline(figure)) for figure in drawn),
                    tuple(table for table in found if table is not None),
                    sources,
                    its.caption,
                )
            )
    return boards, svgs


def overviews(book: ScoreBook) -> list[ValueTable]:
    """A table per study of several datasets: methods by datasets, the mean over splits where there is one."""
    found = []
    for study in book.studies():
        shown = {d: book.splits_shown(study, d, ["accuracy"]) for d in book.datasets(study)}
        # Without a mean, several splits have no one number; such a dataset is in its own tables alone.
        datasets = [dataset for dataset, splits in shown.items() if len(splits) == 1]
        if len(datasets) < 2:
            continue
        rows = [
            Row(
                (system.method,),
                tuple(Cell(book.get(study, d, shown[d][0], system, "accuracy")) for d in datasets),
                system_detail(system),
                system.method in REFERENCES,
            )
            for system in book.systems_of(study, "accuracy")
        ]
        title = f"All datasets: {words(study).overview} ({study})"
        columns = tuple((d, where(shown[d][0], book.split_count(study, d))) for d in datasets)
        found.append(ValueTable(title, ("method",), columns, tuple(rows)))
    return found
