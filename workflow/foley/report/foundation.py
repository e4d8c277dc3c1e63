"""The study of prompted generators on the page: what each source is worth, what validation chose, and what it cost."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foley import tables
from foley.report.comparison_figures import Curve, CurvePanel, learning_curves_svgs
from foley.report.scores import REFERENCES, Score, ScoreBook, System
from foley.report.sections import Panel, Section, marked_up, place
from foley.report.study_words import CHOSEN, FOUNDATION
from foley.report.values import Cell, PValue, Row, ValueTable, percent
from foley.report.verdict import GAIN
from foley.tables.foundation import COSTS, MIX_CHOICE
from foley.tables.prompts import PROMPTS, REJECTED_PROMPTS

REAL = "real"
_VARIANT = re.compile(r"(?P<recogniser>.+)/real=(?P<percent>\d+)%(?P<protocol>/published)?")
_MIX = re.compile(r"(?P<source>.+)_(?P<amount>\d+)(?:_(?P<filter>precision|clap|active))?")
_PROMPTS_SHOWN = 200  # of a dataset; the table has them all
_LONGEST_PROMPT = 300  # characters shown


@dataclass(frozen=True)
class FoundationTables:
    """What the section reads beside the scores.

    costs: COSTS tables. choices: MIX_CHOICE tables.
    prompts: (dataset, prompt id) -> PROMPTS and REJECTED_PROMPTS.
    """

    costs: Sequence[Path] = ()
    choices: Sequence[Path] = ()
    prompts: Mapping[tuple[str, str], tuple[Path, Path]] = field(default_factory=dict)


def foundation(book: ScoreBook, files: FoundationTables) -> Section | None:
    """A panel per dataset; None where the study did not run."""
    panels = [
        _panel(book, dataset, files.costs, files.choices, files.prompts)
        for dataset in (book.datasets(FOUNDATION) if FOUNDATION in book.studies() else [])
    ]
    if not panels:
        return None
    return Section(
        "sources",
        "Sources of synthetic clips",
        "Sources",
        "Accuracy on real test clips against the part of the real training clips that there is (the axis is "
        "logarithmic), with 95 % bands: real clips alone, with each source's clips, and with the mix that validation "
        "clips chose in each split. The zero-shot score is that of synthetic clips alone. All trainings of a "
        "recogniser take as many optimiser steps.",
        tuple(panels),
        folded=False,
    )


def _panel(
    book: ScoreBook,
    dataset: str,
    costs: Sequence[Path],
    choices: Sequence[Path],
    prompts: Mapping[tuple[str, str], tuple[Path, Path]],
) -> Panel:
    systems = [s for s in book.systems(FOUNDATION, dataset, ["accuracy"]) if s.method not in REFERENCES]
    found: list[ValueTable] = []
    figures: list[str] = []
    splits = book.splits_shown(FOUNDATION, dataset, ["accuracy"])
    for split in splits:
        figures += _curves(book, dataset, split, systems)
        for table in (_zero_shot(book, dataset, split, systems), _filters(book, dataset, split, systems)):
            if table.rows:
                found.append(table)
    chosen = _choices(dataset, choices)
    paid = _costs(dataset, costs)
    details = [prompts_table(name, *files) for (its, name), files in prompts.items() if its == dataset]
    return Panel(
        FOUNDATION, dataset, (), marked_up(figures),
        tuple(found + [t for t in (chosen, paid) if t.rows]), tuple(t for t in details if t.rows),
    )  # fmt: skip


def _parts(variant: str) -> tuple[str, int, str]:
    """Recogniser, percentage of real clips, and protocol (empty for the clean one)."""
    match = _VARIANT.fullmatch(variant)
    assert match is not None, variant
    return match["recogniser"], int(match["percent"]), (match["protocol"] or "").lstrip("/")


def _curves(book: ScoreBook, dataset: str, split: str, systems: Sequence[System]) -> list[str]:
    colours = book.colours(FOUNDATION, dataset)
    panels = []
    asked = dict.fromkeys((_parts(s.variant)[0], _parts(s.variant)[2]) for s in systems)
    for recogniser, protocol in asked:
        of_method: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
        for system in systems:
            its, part, its_protocol = _parts(system.variant)
            score = book.get(FOUNDATION, dataset, split, system, "accuracy")
            if (its, its_protocol) != (recogniser, protocol) or not part or score is None:
                continue
            if system.method in (REAL, CHOSEN) or _is_plain(system.method, systems):
                of_method.setdefault(system.method, []).append(
                    (float(part), score.value, score.low, score.high)
                )
        curves = tuple(
            Curve(method, colours.get(method, len(colours)), tuple(sorted(points)))
            for method, points in of_method.items()
        )
        if curves:
            name = " ".join(part for part in (recogniser, f"({protocol})" if protocol else "") if part)
            panels.append(CurvePanel(place(book, FOUNDATION, dataset, name, split), curves))
    return learning_curves_svgs(panels, "% of the real training clips")


def _is_plain(method: str, systems: Sequence[System]) -> bool:
    """Whether a mix has no filter and the largest amount of its source: one curve a source."""
    match = _MIX.fullmatch(method)
    if match is None or match["filter"]:
        return False
    amounts = [
        int(other["amount"])
        for s in systems
        if (other := _MIX.fullmatch(s.method)) and other["source"] == match["source"]
    ]
    return int(match["amount"]) == max(amounts)


def _zero_shot(book: ScoreBook, dataset: str, split: str, systems: Sequence[System]) -> ValueTable:
    rows = []
    for system in systems:
        recogniser, part, protocol = _parts(system.variant)
        if not part:
            scores = [
                book.get(FOUNDATION, dataset, split, system, metric)
                for metric in ("accuracy", "accuracy_macro")
            ]
            rows.append(
                Row(
                    (system.method,),
                    tuple(Cell(score) for score in scores),
                    _recogniser(recogniser, protocol),
                )
            )
    for name in REFERENCES:
        score = book.get(FOUNDATION, dataset, split, System(name, ""), "accuracy")
        if score is not None:
            rows.append(Row((name,), (Cell(score), Cell(None)), "", True))
    if all(row.reference for row in rows):
        rows = []
    return ValueTable(
        f"Zero-shot score: trained on synthetic clips alone, accuracy on real test clips in %, {split}",
        ("source and amount",),
        (("all classes", ""), ("each class equally", "")),
        tuple(rows),
    )


def _filters(book: ScoreBook, dataset: str, split: str, systems: Sequence[System]) -> ValueTable:
    """What a filter gains over the same mix without it."""
    rows = []
    for system in systems:
        match = _MIX.fullmatch(system.method)
        if match is None or not match["filter"]:
            continue
        plain = f"{match['source']}_{match['amount']}"
        recogniser, part, protocol = _parts(system.variant)
        gain = book.get(FOUNDATION, dataset, split, system, f"difference_to_{plain}")
        over_real = book.get(FOUNDATION, dataset, split, system, f"{GAIN}{REAL}")
        p = book.get(FOUNDATION, dataset, split, system, f"p_difference_to_{plain}")
        detail = f"{_recogniser(recogniser, protocol)}, {part} % real"
        rows.append(
            Row(
                (system.method,),
                (Cell(gain, signed=True), PValue(p), Cell(over_real, signed=True)),
                detail,
            )
        )
    return ValueTable(
        f"What a filter gains over the same mix without it, in points, {split}",
        ("mix",),
        (("gain by the filter", ""), ("p (Holm)", ""), ("gain over real clips alone", "")),
        tuple(rows),
    )


def _recogniser(name: str, protocol: str) -> str:
    return f"{name}, {protocol} protocol" if protocol else name


def _choices(dataset: str, choices: Sequence[Path]) -> ValueTable:
    rows: dict[str, list[dict[str, Any]]] = {}
    if choices:
        for row in tables.read(list(choices), MIX_CHOICE).to_pylist():
            if row["dataset"] == dataset:
                rows.setdefault(row["variant"], []).append(row)
    found = []
    for variant in sorted(rows, key=lambda v: (_parts(v)[0], _parts(v)[1])):
        of_mix: dict[str, list[dict[str, Any]]] = {}
        for row in rows[variant]:
            of_mix.setdefault(row["method"], []).append(row)
        recogniser, part, _ = _parts(variant)
        for method, of_splits in of_mix.items():
            times = sum(row["chosen"] for row in of_splits)
            if times:
                mean = sum(row["accuracy"] for row in of_splits) / len(of_splits)
                n = sum(row["n"] for row in of_splits)
                found.append(
                    Row(
                        (method, f"{times} of {len(of_splits)}"),
                        (Cell(Score(mean, None, None, n)),),
                        f"{recogniser}, {part} % real",
                    )
                )
    return ValueTable(
        "What validation clips chose, and its accuracy on them in %",
        ("mix", "chosen in splits"),
        (("validation accuracy", ""),),
        tuple(found),
    )


def _costs(dataset: str, costs: Sequence[Path]) -> ValueTable:
    rows = []
    if costs:
        for row in tables.read(list(costs), COSTS).to_pylist():
            if row["dataset"] != dataset:
                continue
            spent = row["compute_s"]
            time = "not known" if spent is None else f"{spent:,.0f} s"
            each = "–" if spent is None or not row["clips"] else f"{spent / row['clips']:.2g} s"
            tokens = "–"
            if row["requests"]:
                tokens = (
                    f"{row['requests']} requests, {row['input_tokens'] or 0:,} tokens sent, "
                    f"{row['output_tokens'] or 0:,} written"
                )
            detail = f"trained on split {row['split']}" if row["split"] else row["device"] or ""
            head = (row["source"], f"{row['clips']:,}", f"{row['audio_h']:.2f} h", time, each, tokens)
            rows.append(Row(head, (), detail))
    columns = ("source", "clips", "audio", "time to make them", "per clip", "language model")
    return ValueTable("What the clips cost", columns, (), tuple(rows))


def prompts_table(name: str, prompts: Path, rejected: Path) -> ValueTable:
    """What a set of prompts says, and what was refused."""
    table = tables.read(prompts, PROMPTS)
    refused = tables.read(rejected, REJECTED_PROMPTS)
    lines = [(r["label"], _short(r["text"]), "used") for r in table.to_pylist()]
    lines += [(r["label"], _short(r["text"]), f"rejected: {r['reason']}") for r in refused.to_pylist()]
    lines.sort(key=lambda line: (line[0] or "", line[2] != "used"))
    left = f", the first {_PROMPTS_SHOWN} of {len(lines)} shown" if len(lines) > _PROMPTS_SHOWN else ""
    share = percent(len(refused) / len(lines)) if lines else "0"
    return ValueTable(
        f"Prompts `{name}`: {len(table)} used, {len(refused)} rejected ({share} %){left}",
        ("class", "prompt", "what became of it"),
        (),
        tuple(Row((label or "", text, fate), ()) for label, text, fate in lines[:_PROMPTS_SHOWN]),
    )


def _short(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= _LONGEST_PROMPT else f"{text[:_LONGEST_PROMPT]}…"
