"""The page: one HTML file that needs nothing beside it, and the figures as files of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from markupsafe import Markup

from foley import __version__, tables
from foley.report import figures as draw
from foley.report.confusion import Confusion, read_confusions
from foley.report.data_summary import DatasetTables, DataSummary, summarise
from foley.report.dataset_card import WHAT_NAMES, check_text, completeness, seconds
from foley.report.scores import MEAN, REFERENCES, Score, ScoreBook, System
from foley.report.verdict import GAIN, Finding, Verdict, verdicts
from foley.tables.report import EMBEDDING_MAP, GALLERY

__all__ = ["TEMPLATES", "DatasetTables", "MapTable", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = ("leaderboard", "classes", "map")
_MOST_CONFUSIONS = 60  # drawn on the page; past that it grows without anyone looking
_CONFUSED_PAIRS = 12
_FIGURE_ROWS = 60
_SHARES = ("accuracy", "harmonic_mean", "recall", "precision", GAIN)  # metrics shown in per cent
_PACKAGES = ("numpy", "pyarrow", "scikit-learn", "soundfile", "torch", "snakemake")


@dataclass(frozen=True)
class MapTable:
    """One EMBEDDING_MAP and the words that name its experiment: dataset, split, method, variant."""

    title: tuple[str, ...]
    path: Path


@dataclass(frozen=True)
class Published:
    """A figure that a paper reports, in the page's units (fractions)."""

    study: str
    dataset: str
    split: str
    method: str
    metric: str
    value: float
    std: float | None
    source: str
    variant: str | None = None

    @property
    def text(self) -> str:
        spread = "" if self.std is None else f" ± {100 * self.std:.2f}"
        return f"{100 * self.value:.2f}{spread}"


@dataclass(frozen=True)
class Cell:
    """One measured value as the page prints it; empty when it was not measured."""

    score: Score | None
    seed_std: float | None = None
    published: tuple[Published, ...] = ()
    signed: bool = False
    share: bool = True

    @property
    def text(self) -> str:
        if self.score is None:
            return "–"
        if not self.share:
            return _number(self.score.value)
        value = _points(self.score.value) if self.signed else _percent(self.score.value)
        return value if self.seed_std is None else f"{value} ± {_percent(self.seed_std)}"

    @property
    def interval(self) -> str:
        score = self.score
        if score is None or score.low is None or score.high is None:
            return ""
        show = _number if not self.share else _points if self.signed else _percent
        return f"[{show(score.low)}, {show(score.high)}]"

    @property
    def sort_key(self) -> str:
        return "" if self.score is None else repr(self.score.value)


@dataclass(frozen=True)
class Row:
    """One row of a table: leading text cells (``detail`` below the first), then values."""

    head: tuple[str, ...]
    cells: tuple[Cell, ...]
    detail: str = ""
    reference: bool = False


@dataclass(frozen=True)
class ValueTable:
    """A table of measured values under a heading."""

    title: str
    head: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Board:
    """The leaderboard of one study on one dataset: its figures and its tables, the first of them open."""

    study: str
    dataset: str
    figures: tuple[Markup, ...]
    tables: tuple[ValueTable, ...]
    sources: tuple[str, ...]


def write_report(
    output: Path,
    *,
    datasets: Sequence[DatasetTables],
    config_summary: Mapping[str, Any],
    scores: Path | None = None,
    predictions: Sequence[Path] = (),
    maps: Sequence[MapTable] = (),
    published: Sequence[Path] = (),
    figures: Mapping[str, Path] | None = None,
    methods: Sequence[str] = (),
    title: str = "Does synthetic audio help?",
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the page, and its main figures as SVG files.

    Args:
        output: HTML file to write. It refers to nothing outside itself.
        datasets: Tables of each dataset, in the order to show them.
        config_summary: What the run was configured to do; nested, plain data.
        scores: SCORES of all studies; None where no study ran: the page then shows the data alone.
        predictions: PREDICTIONS tables, for the confusion matrices.
        maps: Embedding maps, in the order to show them.
        published: YAML files with published figures (key ``figures``; values in per cent).
        figures: Where to write ``leaderboard``, ``classes`` and ``map`` as SVG; absent ones are not written.
        methods: Methods in the order of the config.
        title: Heading of the page.
        provenance: What is recorded of the run, shown at the page's end.

    Raises:
        ValueError: a published figure lacks a key, or ``figures`` names an unknown figure.
    """
    unknown = set(figures or {}) - set(FIGURES)
    if unknown:
        raise ValueError(f"no figures called {sorted(unknown)}; there are {list(FIGURES)}")
    book = ScoreBook(scores, methods, [d.dataset for d in datasets])
    literature = _read_published(published)
    summaries = [summarise(dataset) for dataset in datasets]
    labels = {summary.dataset: summary.labels for summary in summaries}

    found = verdicts(book)
    boards, leaderboard_svgs = _boards(book, literature)
    class_panels, class_svgs = _class_panels(book, labels)
    map_panels, map_svgs = _map_panels(maps)
    confusions = sorted(read_confusions(predictions), key=_confusion_order(book))
    shown = confusions[:_MOST_CONFUSIONS]

    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    page = _environment().get_template("report.html.j2").render(
        title=title,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        figure_style=Markup(draw.STYLE),
        verdicts=[_verdict_context(verdict, book) for verdict in found],
        boards=boards,
        class_panels=class_panels,
        confusion_panels=[_confusion_panel(c, labels.get(c.dataset, {})) for c in shown],
        confusions_left_out=len(confusions) - len(shown),
        map_panels=map_panels,
        galleries=[_gallery_context(d) for d in datasets if d.gallery is not None],
        summaries=summaries,
        data_panels=[_data_panel(summary) for summary in summaries],
        config_rows=list(_flatten(config_summary)),
        versions=_versions(),
        scores=scores,
        predictions=predictions,
        datasets=datasets,
        maps=maps,
        queries=_data_queries(datasets) if scores is None else _queries(scores, predictions),
        provenance=json.dumps(provenance or {}, indent=2, sort_keys=True, default=str),
        foley_version=__version__,
        has_scores=bool(book),
        has_study=scores is not None,
    )  # fmt: skip
    _write_text(output, page)

    drawn = {
        "leaderboard": (leaderboard_svgs, "No scores yet."),
        "classes": (class_svgs, "No scores per class."),
        "map": (map_svgs, "No embedding map was asked for."),
    }
    for name, path in (figures or {}).items():
        _write_text(path, draw.stack(*drawn[name]))


def _write_text(path: Path, text: str) -> None:
    with tables.atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = _percent
    environment.filters["points"] = _points
    environment.filters["thousands"] = lambda value: f"{value:,}".replace(",", " ")
    environment.filters["seconds"] = seconds
    # The page refers to nothing outside itself, not even by an address that some viewer makes a link of.
    environment.filters["unlinked"] = lambda text: str(text).replace("https://", "").replace("http://", "")
    return environment


# ---- numbers ----


def _percent(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "−")


def _points(value: float) -> str:
    """A difference in percentage points with its sign; what rounds to zero has none."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _is_share(metric: str) -> bool:
    return metric.startswith(_SHARES)


# ---- verdict ----


def _where(split: str, count: int) -> str:
    return f"mean of {count} splits" if split == MEAN and count else f"split {split}" if split else ""


def _verdict_context(verdict: Verdict, book: ScoreBook) -> dict[str, Any]:
    variants = {finding.system.variant for finding in verdict.findings}
    splits = {finding.split for finding in verdict.findings}
    count = len([s for s in book.splits(verdict.study, verdict.dataset) if s != MEAN])
    rows = [_finding_context(f, len(variants) > 1, len(splits) > 1) for f in verdict.findings]
    intervals = [
        draw.Interval(row["method"], row["detail"], f.gain.value, f.gain.low, f.gain.high)
        for row, f in zip(rows, verdict.findings, strict=True)
    ]
    title = f"Gain in accuracy over {verdict.findings[0].baseline}, in points, 95 % interval"
    return {
        "study": verdict.study,
        "dataset": verdict.dataset,
        "summary": verdict.summary,
        "spelt_out": verdict.spelt_out,
        "variant": variants.copy().pop() if len(variants) == 1 else "",
        "where": _where(splits.copy().pop(), count) if len(splits) == 1 else "",
        "rows": rows,
        "figure": Markup(draw.inline(draw.gains_svg(intervals, title))),
    }


def _finding_context(finding: Finding, with_variant: bool, with_split: bool) -> dict[str, Any]:
    detail = [finding.system.variant] * with_variant + [finding.split] * with_split
    return {
        "outcome": finding.outcome,
        "method": finding.system.method,
        "detail": ", ".join(part for part in detail if part),
        "baseline": finding.baseline,
        "gain": finding.gain,
        "before": finding.before,
        "after": finding.after,
        "split": finding.split,
        "variant": finding.system.variant,
    }


# ---- leaderboards ----


def _read_published(paths: Sequence[Path]) -> list[Published]:
    found = []
    for path in paths:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        for number, row in enumerate(document.get("figures") or []):
            try:
                std = row.get("std")
                found.append(
                    Published(
                        study=str(row["study"]),
                        dataset=str(row["dataset"]),
                        split=str(row["split"]),
                        method=str(row["method"]),
                        metric=str(row["metric"]),
                        value=float(row["value"]) / 100,
                        std=None if std is None else float(std) / 100,
                        source=str(row["source"]),
                        variant=None if row.get("variant") is None else str(row["variant"]),
                    )
                )
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: figures[{number}] is not a published figure: {error!r}") from error
    return found


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
            share=_is_share(metric),
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
        return (split or "all", f"{size} clips" if size and split != MEAN else "")

    def rows(self, metrics: Sequence[str], splits: Sequence[str]) -> list[Row]:
        """A row per system; cells by split, then metric. Methods that only a paper measured come last."""
        rows = []
        systems = self.book.systems(self.study, self.dataset, metrics)
        for system in systems:
            cells = tuple(self.cell(split, system, metric) for split in splits for metric in metrics)
            seeds = self.book.seed_count(self.study, self.dataset, system)
            head = (system.method, str(seeds or ""))
            rows.append(Row(head, cells, system.variant, system.method in REFERENCES))
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
        rest = [m for m in rest if not m.endswith("_seed_std")]
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
        """Accuracy on unseen classes, a figure per split, the mean first."""
        systems = self.book.systems(self.study, self.dataset, ["accuracy"])
        splits = _mean_first(self.splits(["accuracy"]))
        if len(systems) * len(splits) > _FIGURE_ROWS:
            splits = splits[:1]
        ours = [system for system in systems if system.method not in REFERENCES]
        several = len({system.variant for system in ours}) > 1
        count = len([s for s in self.all_splits if s != MEAN])
        panels = []
        for split in splits:
            rows = []
            for system in ours:
                cell = self.cell(split, system, "accuracy")
                if (score := cell.score) is not None:
                    beside = tuple((p.value, p.std) for p in cell.published)
                    detail = system.variant if several else ""
                    rows.append(
                        draw.Interval(system.method, detail, score.value, score.low, score.high, beside)
                    )
            lines = [
                (system.method, line.value)
                for system in systems
                if system.method in REFERENCES
                and (line := self.book.get(self.study, self.dataset, split, system, "accuracy"))
            ]
            if rows:
                title = ", ".join(part for part in (self.dataset, _where(split, count)) if part)
                panels.append(draw.Panel(title, tuple(rows), tuple(lines)))
        return draw.leaderboard_svgs(panels)


_HEAD = ("method", "seeds")


def _mean_first(splits: Sequence[str]) -> list[str]:
    """A narrow screen shows the first column only, and the mean sums the others up."""
    return sorted(splits, key=lambda split: split != MEAN)


def _boards(book: ScoreBook, literature: Sequence[Published]) -> tuple[list[Board], list[str]]:
    boards, svgs = [], []
    for study in book.studies():
        for dataset in book.datasets(study):
            builder = _BoardBuilder(book, literature, study, dataset)
            macro = "Conventional setting, every class weighted equally, accuracy in %"
            found = [
                builder.split_table("Conventional setting: unseen classes only, accuracy in %", "accuracy"),
                builder.generalised_table(),
                builder.split_table(macro, "accuracy_macro"),
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
                    tuple(Markup(draw.inline(svg)) for svg in drawn),
                    tuple(table for table in found if table is not None),
                    sources,
                )
            )
    return boards, svgs


# ---- classes ----


def _class_panels(
    book: ScoreBook, labels: Mapping[str, Mapping[int, str]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """A figure and a table per study, dataset and variant."""
    panels, svgs = [], []
    for study in book.studies():
        for dataset in book.datasets(study):
            splits = [s for s in book.splits(study, dataset) if book.class_ids(study, dataset, s)]
            # The mean over splits repeats a class that one split tests, and hides which split that was.
            splits = [s for s in splits if s != MEAN] or splits
            systems = book.systems(study, dataset, ["recall", "precision"])
            for variant in dict.fromkeys(system.variant for system in systems):
                chosen = [system for system in systems if system.variant == variant]
                panel, drawn = _class_panel(
                    book, study, dataset, variant, splits, chosen, labels.get(dataset, {})
                )
                panels.append(panel)
                svgs += drawn
    return panels, svgs


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
    rows, gains, groups = [], {}, []
    for split in splits:
        names, where = [], ", ".join(part for part in (dataset, _where(split, 0)) if part)
        for class_id in book.class_ids(study, dataset, split):
            name = labels.get(class_id, str(class_id))
            cells, size = [], None
            for system in systems:
                recall = book.get(study, dataset, split, system, "recall", class_id)
                size = size or (recall.n if recall else None)
                cells.append(Cell(recall))
                cells.append(Cell(book.get(study, dataset, split, system, "precision", class_id)))
                if system in gainers:
                    gain = book.get(study, dataset, split, system, metric, class_id)
                    before = book.get(study, dataset, split, reference, "recall", class_id)
                    if gain is None and recall is not None and before is not None:
                        gain = Score(recall.value - before.value, None, None, recall.n)
                    cells.append(Cell(gain, signed=True))
                    if gain is not None:
                        gains[where, name, system.method] = gain.value
            if any(cell.score for cell in cells):
                names.append(name)
                clips = Cell(Score(float(size), None, None, None) if size else None, share=False)
                rows.append(Row((name, split or "all"), (clips, *cells)))
        if names:
            groups.append((where, names))
    title = f"{dataset}: recall per class, gain over {baseline}" + (f" ({variant})" if variant else "")
    trained = dict.fromkeys(s.method for s in book.systems(study, dataset) if s.method not in REFERENCES)
    colours = {method: number for number, method in enumerate(trained)}
    drawn = {system.method: colours[system.method] for system in gainers}
    svgs = draw.class_gains_svgs(groups, drawn, gains) if gains else []
    table = ValueTable(title, ("class", "split"), tuple(columns), tuple(rows))
    panel = {
        "title": title,
        "name": " · ".join(part for part in (dataset, variant) if part),
        "figures": [Markup(draw.inline(svg)) for svg in svgs],
        "table": table,
    }
    return panel, svgs


# ---- confusion ----


def _confusion_order(book: ScoreBook) -> Any:
    """Sorts confusions like the leaderboard sorts its rows."""
    place: dict[tuple[str, System], int] = {}
    datasets: dict[str, int] = {}
    for study in book.studies():
        for dataset in book.datasets(study):
            datasets.setdefault(dataset, len(datasets))
            for number, system in enumerate(book.systems(study, dataset)):
                place.setdefault((dataset, system), number)

    def key(c: Confusion) -> tuple[int, str, int, str, str, str]:
        number = place.get((c.dataset, System(c.method, c.variant)), len(place))
        return (datasets.get(c.dataset, len(datasets)), c.dataset, number, c.method, c.variant, c.split)

    return key


def _confusion_panel(confusion: Confusion, labels: Mapping[int, str]) -> dict[str, Any]:
    names = [labels.get(class_id, str(class_id)) for class_id in confusion.class_ids]
    parts = [confusion.dataset, confusion.method, confusion.variant, confusion.split]
    title = " · ".join(part for part in parts if part)
    figure = draw.confusion_svg(
        names, confusion.counts, "Share of each true class (rows), in %, over all seeds"
    )
    return {
        "title": title,
        "figure": Markup(draw.inline(figure)),
        "pairs": [
            (labels.get(true, str(true)), labels.get(predicted, str(predicted)), count, share)
            for true, predicted, count, share in confusion.most_frequent(_CONFUSED_PAIRS)
        ],
    }


# ---- map and gallery ----


def _map_panels(maps: Sequence[MapTable]) -> tuple[list[dict[str, Any]], list[str]]:
    panels, svgs = [], []
    for entry in maps:
        table = tables.read(entry.path, EMBEDDING_MAP)
        title = " · ".join(part for part in entry.title if part)
        svg = draw.map_svg(
            table["x"].to_numpy().astype(np.float64),
            table["y"].to_numpy().astype(np.float64),
            table["kind"].to_pylist(),
            table["label"].to_pylist(),
            title,
        )
        svgs.append(svg)
        panels.append({"title": title, "figure": Markup(draw.inline(svg)), "rows": table.to_pylist()})
    return panels, svgs


def _gallery_context(dataset: DatasetTables) -> dict[str, Any]:
    assert dataset.gallery is not None
    classes: dict[int, dict[str, Any]] = {}
    for row in tables.read(dataset.gallery, GALLERY).to_pylist():
        entry = classes.setdefault(row["class_id"], {"label": row["label"], "clips": []})
        entry["clips"].append(
            {
                "clip_id": row["clip_id"],
                "kind": row["kind"],
                "note": row["note"],
                "audio": _data_uri("audio/mpeg", row["audio_mp3"]),
                "image": _data_uri("image/png", row["spectrogram_png"]),
            }
        )
    for entry in classes.values():  # real clips first, then what a generator made of the class
        entry["clips"].sort(key=lambda clip: (clip["kind"] != "real", clip["kind"] != "synthetic"))
    ordered = sorted(classes.values(), key=lambda entry: str(entry["label"]))
    return {"dataset": dataset.dataset, "classes": ordered}


def _data_uri(mime: str, data: bytes | None) -> Markup | None:
    # Base64 has no character that HTML gives a meaning.
    return Markup(f"data:{mime};base64,{base64.b64encode(data).decode()}") if data else None


# ---- data ----

_STATES = {
    "broken": "leaks",
    "found": "shares some",
    "unknown": "not checkable",
    "holds": "kept apart",
    "none": "none found",
    "unchecked": "–",
}


def _data_panel(summary: DataSummary) -> dict[str, Any]:
    """What the template shows of a dataset beside its summary: texts that the card shares, and the figure."""
    figure = ""
    if summary.histogram:
        figure = draw.inline(draw.histogram_svg(summary.histogram, "Clips by duration, in seconds"))
    return {
        "summary": summary,
        "completeness": completeness(summary),
        "state": summary.leak_state,
        "state_text": _STATES[summary.leak_state],
        "checks": [
            {
                "what": WHAT_NAMES[check.what],
                "between": f"{check.between}s",
                "state": check.state,
                "text": check_text(check),
            }
            for check in summary.leak_checks
        ],
        "leaks": [row | {"name": WHAT_NAMES[row["what"]]} for row in summary.leak_rows],
        "figure": Markup(figure),
    }


# ---- how it was made ----


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and text."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(
        isinstance(inner, Mapping | list | tuple) for inner in value
    ):
        for number, inner in enumerate(value):
            yield from _flatten(inner, f"{name}[{number}]")
    elif isinstance(value, list | tuple):
        yield name, ", ".join(map(str, value)) or "none"
    elif name:
        yield name, "none" if value is None or value == {} else str(value)


def _versions() -> list[tuple[str, str]]:
    found = [("foley", __version__), ("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def _sql(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _data_queries(datasets: Sequence[DatasetTables]) -> list[dict[str, str]]:
    """What a reader of the data alone is likely to ask next."""
    if not datasets:
        return []
    return [
        {
            "title": "Clips and hours per class, in DuckDB",
            "engine": "duckdb",
            "text": "SELECT dataset, label, count(*) AS clips, round(sum(duration_s) / 3600, 2) AS hours\n"
            f"FROM read_parquet([{', '.join(_sql(d.clips) for d in datasets)}])\n"
            "GROUP BY ALL ORDER BY ALL;",
        },
        {
            "title": "Rejected clips by reason, in pandas",
            "engine": "pandas",
            "text": "import pandas as pd\n\n"
            f"rejected = pd.concat(map(pd.read_parquet, {[str(d.rejected) for d in datasets]!r}))\n"
            'print(rejected.groupby(["dataset", "reason"]).size())',
        },
    ]


def _queries(scores: Path, predictions: Sequence[Path]) -> list[dict[str, str]]:
    """Three questions that a reader is likely to ask of the tables next."""
    queries = [
        {
            "title": "Leaderboard, in DuckDB",
            "engine": "duckdb",
            "text": "SELECT dataset, split, method, variant,\n"
            "       round(100 * value, 1) AS accuracy,\n"
            "       round(100 * low, 1) AS low, round(100 * high, 1) AS high\n"
            f"FROM {_sql(scores)}\n"
            "WHERE metric = 'accuracy' AND seed IS NULL AND class_id IS NULL\n"
            "ORDER BY dataset, split, accuracy DESC;",
        },
        {
            "title": "Gain per class, in pandas",
            "engine": "pandas",
            "text": "import pandas as pd\n\n"
            f"scores = pd.read_parquet({str(scores)!r})\n"
            'gains = scores[scores.metric.str.startswith("gain_over_") & scores.class_id.notna()]\n'
            'print(gains.pivot_table(index=["dataset", "class_id"], columns="method", values="value"))',
        },
    ]
    if predictions:
        queries.append(
            {
                "title": "Clips that every seed gets wrong, in DuckDB",
                "engine": "duckdb",
                "text": "SELECT clip_id, class_id, mode(predicted_class_id) AS taken_for, count(*) AS seeds\n"
                f"FROM {_sql(predictions[0])}\n"
                "WHERE setting = 'conventional'\n"
                "GROUP BY clip_id, class_id\n"
                "HAVING bool_and(predicted_class_id <> class_id)\n"
                "ORDER BY class_id, clip_id;",
            }
        )
    else:
        queries.append(
            {
                "title": "Spread over seeds, in DuckDB",
                "engine": "duckdb",
                "text": "SELECT dataset, split, method, variant, count(*) AS seeds,\n"
                "       round(100 * avg(value), 1) AS mean, round(100 * stddev_samp(value), 1) AS sd\n"
                f"FROM {_sql(scores)}\n"
                "WHERE metric = 'accuracy' AND seed IS NOT NULL AND class_id IS NULL\n"
                "GROUP BY ALL ORDER BY ALL;",
            }
        )
    return queries
