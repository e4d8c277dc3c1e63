"""The page: one HTML file that needs nothing beside it, and the figures as files of their own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from foley import __version__, tables
from foley.report import figures as draw
from foley.report import svg
from foley.report.audio_gallery import in_pairs
from foley.report.audio_quality import audio_quality
from foley.report.chosen import Choices
from foley.report.class_gains import class_panels
from foley.report.class_vectors import class_vectors
from foley.report.confusion import Confusion, read_confusions
from foley.report.data_summary import DatasetTables, DataSummary, summarise
from foley.report.dataset_card import WHAT_NAMES, check_text, completeness, seconds
from foley.report.diverse import diverse_embeddings
from foley.report.foundation import FoundationTables, foundation
from foley.report.how_made import data_queries, flatten, queries, versions
from foley.report.leaderboard import boards, overviews, read_published
from foley.report.learning_curves import learning_curves
from foley.report.scores import ScoreBook, System
from foley.report.sections import marked_up
from foley.report.speech import SpeechTables, speech
from foley.report.spread import spread
from foley.report.study_words import ARMS, CHOSEN, ZERO_SHOT, words
from foley.report.synthetic_quality import synthetic_quality
from foley.report.values import percent, points, where
from foley.report.verdict import Finding, Verdict, verdicts
from foley.report.who_wins import who_wins
from foley.tables.report import EMBEDDING_MAP, GALLERY

__all__ = ["TEMPLATES", "DatasetTables", "FoundationTables", "MapTable", "SpeechTables", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = ("leaderboard", "classes", "map")
_MOST_CONFUSIONS = 60  # drawn on the page; past that it grows without anyone looking
_CONFUSED_PAIRS = 12
_ROWS_TOGETHER = 12  # of a figure of gains with several variants
_LEFT_OUT = "left_out"  # key of the summary: dataset -> why it is not in the run
_SCHEDULES = (
    "schedules"  # key of the summary: dataset -> method -> its classifier's options, where they differ
)
_NOT_MEASURED = "not_measured"  # key of the summary: key of the zero-shot study -> methods that it leaves out


@dataclass(frozen=True)
class MapTable:
    """One EMBEDDING_MAP and the words that name its experiment: dataset, split, method, variant."""

    title: tuple[str, ...]
    path: Path


def write_report(
    output: Path,
    *,
    datasets: Sequence[DatasetTables],
    config_summary: Mapping[str, Any],
    scores: Path | None = None,
    predictions: Sequence[Path] = (),
    quality: Sequence[Path] = (),
    maps: Sequence[MapTable] = (),
    prompted: FoundationTables | None = None,
    spoken: SpeechTables | None = None,
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
        config_summary: What the run was configured to do; nested, plain data. Its ``left_out``, if there is one,
            says why which dataset is not in the run; its ``not_measured``, which methods `learning_curve`,
            `variance` and `quality` of the zero-shot study leave out; its ``schedules``, where classifiers of one
            kind are trained by other options in the methods than in the baseline.
        scores: SCORES of all studies; None where no study ran: the page then shows the data alone.
        predictions: PREDICTIONS tables, for the confusion matrices.
        quality: AUDIO_QUALITY tables of generated clips, for what scores leave out: values per class, warnings.
        maps: Embedding maps, in the order to show them.
        prompted: Costs, choices and prompts of the study of prompted generators.
        spoken: Backgrounds of the study of speech, and what was kept apart in it.
        published: YAML files with published figures (see `read_published`).
        figures: Where to write ``leaderboard``, ``classes`` and ``map`` as SVG; absent ones are not written.
        methods: Methods and generators in the order of the config.
        title: Heading of the page.
        provenance: What is recorded of the run, shown at the page's end.

    Raises:
        ValueError: a published figure lacks a key, or ``figures`` names an unknown figure.
    """
    unknown = set(figures or {}) - set(FIGURES)
    if unknown:
        raise ValueError(f"no figures called {sorted(unknown)}; there are {list(FIGURES)}")
    book = ScoreBook(scores, [*dict.fromkeys([*methods, *ARMS, CHOSEN])], [d.dataset for d in datasets])
    literature = read_published(published)
    summaries = [summarise(dataset) for dataset in datasets]
    labels = {summary.dataset: summary.labels for summary in summaries}

    found = verdicts(book)
    its = prompted or FoundationTables()
    choices = Choices(its.choices, its.costs)
    ranked, leaderboard_svgs = boards(book, literature)
    by_class, class_svgs = class_panels(book, labels)
    map_panels, map_svgs = _map_panels(maps)
    confusions = sorted(read_confusions(predictions), key=_confusion_order(book))
    shown = confusions[:_MOST_CONFUSIONS]
    settings = dict(config_summary)
    not_measured = settings.pop(_NOT_MEASURED, None) or {}
    schedules = settings.pop(_SCHEDULES, None) or {}
    parts = [
        learning_curves(book, not_measured.get("learning_curve", ())),
        spread(book, not_measured.get("variance", ())),
        synthetic_quality(book, not_measured.get("quality", ())),
        audio_quality(book, quality, literature, labels),
        foundation(book, its, labels),
        class_vectors(book),
        diverse_embeddings(book),
        speech(book, spoken or SpeechTables(), labels),
    ]
    galleries = [_gallery_context(d) for d in datasets if d.gallery or d.synthetic_galleries]
    left_out = {str(name): str(reason) for name, reason in (settings.pop(_LEFT_OUT, None) or {}).items()}

    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    page = _environment().get_template("report.html.j2").render(
        title=title,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        figure_style=Markup(svg.STYLE),
        verdicts=[
            _verdict_panel(verdict, book, choices)
            | {"schedules": _schedules(schedules.get(verdict.dataset, {}), verdict)}
            for verdict in found
        ],
        wins=who_wins(book),
        overviews=overviews(book),
        boards=ranked,
        sections=[s for s in parts if s is not None],
        class_panels=by_class,
        confusion_panels=[_confusion_panel(c, labels.get(c.dataset, {})) for c in shown],
        confusions_left_out=len(confusions) - len(shown),
        confusion_settings=sorted({c.setting for c in shown}),
        map_panels=map_panels,
        galleries=galleries,
        gallery_kinds={clip["kind"] for g in galleries for c in g["classes"] for clip in c["clips"]},
        summaries=summaries,
        data_panels=[_data_panel(summary) for summary in summaries],
        left_out=left_out,
        config_rows=list(flatten(settings)),
        versions=versions(),
        scores=scores,
        predictions=predictions,
        quality=quality,
        datasets=datasets,
        maps=maps,
        queries=data_queries(datasets) if scores is None else queries(scores, predictions),
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
        _write_text(path, svg.stack(*drawn[name]))


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
    environment.filters["percent"] = percent
    environment.filters["points"] = points
    environment.filters["breakable"] = lambda text: Markup(str(escape(text)).replace("_", "_<wbr>"))
    environment.filters["thousands"] = lambda value: f"{value:,}".replace(",", " ")
    environment.filters["seconds"] = seconds
    # The page refers to nothing outside itself, not even by an address that some viewer makes a link of.
    environment.filters["unlinked"] = lambda text: str(text).replace("https://", "").replace("http://", "")
    return environment


# ---- verdict ----


def _verdict_panel(verdict: Verdict, book: ScoreBook, choices: Choices) -> dict[str, Any]:
    variants = list(dict.fromkeys(finding.system.variant for finding in verdict.findings))
    splits = {finding.split for finding in verdict.findings}
    count = book.split_count(verdict.study, verdict.dataset)
    its = words(verdict.study)
    told = [
        choices.of(verdict.study, verdict.dataset, f.system.variant, f.split)
        if f.system.method == CHOSEN
        else None
        for f in verdict.findings
    ]
    rows = [
        _finding_context(f, len(variants) > 1, len(splits) > 1) | {"chosen": one.text if one else ""}
        for f, one in zip(verdict.findings, told, strict=True)
    ]
    # The comparison that validation clips promised most of: test clips have no say in what the lead names.
    promises = {number: one.promise for number, one in enumerate(told) if one is not None}
    best = max(promises, key=lambda number: promises[number], default=None)
    controls = [_finding_context(f, len(variants) > 1, len(splits) > 1) for f in verdict.controls]
    of_sources = [_finding_context(f, len(variants) > 1, len(splits) > 1) for f in verdict.sources]
    # Each once, though it stands beside every split without leaks.
    leaky = list(dict.fromkeys(f for finding in verdict.findings for f in finding.leaky))
    leaky_controls = list(dict.fromkeys(f for finding in verdict.controls for f in finding.leaky))
    # Many rows of several variants: a figure for each variant, which its title then names.
    apart = len(variants) > 1 and len(rows) > _ROWS_TOGETHER
    details = (
        [f.split if len(splits) > 1 else "" for f in verdict.findings]
        if apart
        else [r["detail"] for r in rows]
    )
    first = verdict.findings[0]
    title = (
        f"Gain in {'UAR' if first.quantity else 'accuracy'} over {first.baseline}, in points, 95 % interval"
    )
    panels = [
        (
            f"{shown[0]}: gain over {verdict.findings[0].baseline}, in points" if apart else title,
            [
                _drawn(f, detail)
                for detail, f in zip(details, verdict.findings, strict=True)
                if f.system.variant in shown
            ],
        )
        for shown in ([[v] for v in variants] if apart else [variants])
    ]
    panels += [
        (name, [_drawn(f, f.system.variant if len(variants) > 1 else "") for f in others])
        for name, others in (
            ("The same on a split that leaks recordings", leaky),
            ("The same without any generator", verdict.controls),
            ("Each source as it is, unfiltered and not chosen", verdict.sources),
        )
        if others
    ]
    return {
        "study": verdict.study,
        "dataset": verdict.dataset,
        "subject": its.subject,
        "rivalry": verdict.rivalry,
        "quantity": its.quantity,
        "listed": its.listed,
        "trained": its.trained,
        "leaky": verdict.leaky,
        "controls": controls,
        "sources": of_sources if verdict.sources_spelt_out else [],
        "all_rows": [
            *rows,
            *of_sources,
            *controls,
            *(_finding_context(f, True, True) for f in (*leaky, *leaky_controls)),
        ],
        "summary": verdict.summary,
        "spelt_out": verdict.spelt_out,
        "variant": variants[0] if len(variants) == 1 else "",
        "where": where(splits.copy().pop(), count) if len(splits) == 1 else "",
        "rows": rows,
        "best": None if best is None else rows[best],
        "figures": marked_up(draw.gains_svgs(panels)),
    }


def _schedules(options: Mapping[str, Mapping[str, Any]], verdict: Verdict) -> str:
    """What a reader of the gains must know where the classifier is not trained alike: a sentence, or nothing."""
    if verdict.study != ZERO_SHOT or not options:
        return ""
    alike: dict[str, list[str]] = {}
    for method, given in options.items():
        told = ", ".join(f"{name} {value}" for name, value in sorted(given.items())) or "as its kind has them"
        alike.setdefault(told, []).append(method)
    each = "; ".join(f"{', '.join(methods)}: {told}" for told, methods in alike.items())
    return (
        f"The classifier is of one kind in all of these, but not trained alike ({each}): a gain is that of synthetic "
        "data with its schedule, not of synthetic data alone."
    )


def _finding_context(finding: Finding, with_variant: bool, with_split: bool) -> dict[str, Any]:
    detail = [finding.system.variant] * with_variant + [finding.split] * with_split
    return {
        "outcome": finding.outcome,
        "method": finding.system.method,
        "detail": ", ".join(part for part in detail if part),
        "baseline": finding.baseline,
        "gain": finding.gain,
        "p": finding.p,
        "rival_p": finding.rival_p,
        "quantity": finding.quantity,
        "before": finding.before,
        "after": finding.after,
        "split": finding.split,
        "variant": finding.system.variant,
        "leaky": [_finding_context(f, False, True) for f in finding.leaky],
        "rival": finding.rival,
        "to_rival": finding.to_rival,
        "chosen": "",
    }


def _drawn(finding: Finding, detail: str) -> draw.Interval:
    gain = finding.gain
    return draw.Interval(
        finding.system.method, detail, gain.value, gain.low, gain.high, outcome=finding.outcome
    )


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
        "figure": Markup(svg.inline(figure)),
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
        figure = draw.map_svg(
            table["x"].to_numpy().astype(np.float64),
            table["y"].to_numpy().astype(np.float64),
            table["kind"].to_pylist(),
            table["label"].to_pylist(),
            title,
        )
        svgs.append(figure)
        panels.append({"title": title, "figure": Markup(svg.inline(figure)), "rows": table.to_pylist()})
    return panels, svgs


def _gallery_context(dataset: DatasetTables) -> dict[str, Any]:
    classes: dict[int, dict[str, Any]] = {}
    files = [path for path in (dataset.gallery, *dataset.synthetic_galleries) if path is not None]
    for row in tables.read(files, GALLERY).to_pylist():
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
    for entry in classes.values():
        entry["clips"] = in_pairs(entry["clips"])
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
        figure = svg.inline(draw.histogram_svg(summary.histogram, "Clips by duration, in seconds"))
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
