"""The study of prompted generators on the page: what each source is worth, what validation chose, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from foley import tables
from foley.report.comparison_figures import Curve, CurvePanel, learning_curves_svgs
from foley.report.mixes import as_they_are, read_mix, read_variant
from foley.report.scores import REFERENCES, Score, ScoreBook, System
from foley.report.sections import Panel, Section, marked_up, place
from foley.report.study_words import CHOSEN, FOUNDATION
from foley.report.values import Cell, PValue, Row, ValueTable, percent
from foley.report.verdict import GAIN
from foley.tables.foundation import CLASS_CHOICE, COSTS, MIX_CHOICE, MIX_CLIPS
from foley.tables.prompts import PROMPTS, REJECTED_PROMPTS

REAL = "real"
_PROMPTS_SHOWN = 200  # of a dataset; the table has them all
_CLASSES_NAMED = 12
_LONGEST_PROMPT = 300  # characters shown


@dataclass(frozen=True)
class FoundationTables:
    """What the section reads beside the scores.

    costs: COSTS tables. choices: MIX_CHOICE tables. counts: MIX_CLIPS tables.
    kept: (dataset, recogniser, source and amount) -> CLASS_CHOICE of the class filter, split by split.
    prompts: (dataset, prompt id) -> PROMPTS and REJECTED_PROMPTS.
    """

    costs: Sequence[Path] = ()
    choices: Sequence[Path] = ()
    counts: Sequence[Path] = ()
    kept: Mapping[tuple[str, str, str], Sequence[Path]] = field(default_factory=dict)
    prompts: Mapping[tuple[str, str], tuple[Path, Path]] = field(default_factory=dict)


def foundation(
    book: ScoreBook, files: FoundationTables, labels: Mapping[str, Mapping[int, str]]
) -> Section | None:
    """A panel per dataset; None where the study did not run. ``labels``: class id -> name, by dataset."""
    panels = [
        _panel(book, dataset, files, labels.get(dataset, {}))
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
        "recogniser take as many optimiser steps. Filters, active generation, the choice and a probe's penalty use the "
        "labels of all validation clips, also where few real clips are learnt from: who has few lacks those, too. A "
        "part is rounded up to whole clips of each class; the table of clips has the true numbers.",
        tuple(panels),
        folded=False,
    )


def _panel(
    book: ScoreBook,
    dataset: str,
    files: FoundationTables,
    labels: Mapping[int, str],
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
    sizes = _sizes(dataset, files.counts)
    found += [
        _classes_left(dataset, files.kept, labels),
        _choices(dataset, files.choices),
        _too_small(sizes),
        _costs(dataset, files.costs),
    ]
    details = [prompts_table(name, *texts) for (its, name), texts in files.prompts.items() if its == dataset]
    details.append(_all_sizes(sizes))
    return Panel(
        FOUNDATION, dataset, (), marked_up(figures),
        tuple(t for t in found if t.rows), tuple(t for t in details if t.rows),
    )  # fmt: skip


def _curves(book: ScoreBook, dataset: str, split: str, systems: Sequence[System]) -> list[str]:
    colours = book.colours(FOUNDATION, dataset)
    shown = {REAL, CHOSEN, *as_they_are(s.method for s in systems)}
    panels = []
    asked = dict.fromkeys((read_variant(s.variant)[0], read_variant(s.variant)[2]) for s in systems)
    for recogniser, protocol in asked:
        of_method: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
        for system in systems:
            its, part, its_protocol = read_variant(system.variant)
            score = book.get(FOUNDATION, dataset, split, system, "accuracy")
            if (its, its_protocol) != (recogniser, protocol) or not part or score is None:
                continue
            if system.method in shown:
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


def _zero_shot(book: ScoreBook, dataset: str, split: str, systems: Sequence[System]) -> ValueTable:
    rows = []
    for system in systems:
        recogniser, part, protocol = read_variant(system.variant)
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
        mix = read_mix(system.method)
        if mix is None or not mix.filter:
            continue
        plain = mix.unfiltered
        gain = book.get(FOUNDATION, dataset, split, system, f"difference_to_{plain}")
        over_real = book.get(FOUNDATION, dataset, split, system, f"{GAIN}{REAL}")
        p = book.get(FOUNDATION, dataset, split, system, f"p_difference_to_{plain}")
        rows.append(
            Row(
                (system.method,),
                (Cell(gain, signed=True), PValue(p), Cell(over_real, signed=True)),
                _place(system.variant),
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
    for variant in sorted(rows, key=lambda v: (read_variant(v)[0], read_variant(v)[1])):
        of_mix: dict[str, list[dict[str, Any]]] = {}
        for row in rows[variant]:
            of_mix.setdefault(row["method"], []).append(row)
        for method, of_splits in of_mix.items():
            times = sum(row["chosen"] for row in of_splits)
            if times:
                mean = sum(row["accuracy"] for row in of_splits) / len(of_splits)
                n = sum(row["n"] for row in of_splits)
                found.append(
                    Row(
                        (method, f"{times} of {len(of_splits)}"),
                        (Cell(Score(mean, None, None, n)),),
                        _place(variant),
                    )
                )
    return ValueTable(
        "What validation clips chose, and its accuracy on them in %",
        ("mix", "chosen in splits"),
        (("validation accuracy", ""),),
        tuple(found),
    )


def _classes_left(
    dataset: str, kept: Mapping[tuple[str, str, str], Sequence[Path]], labels: Mapping[int, str]
) -> ValueTable:
    """What the class filter saw, and which classes it took the synthetic clips of."""
    rows = []
    for (its, recogniser, source), paths in kept.items():
        if its != dataset:
            continue
        found = [row for path in paths for row in tables.read(path, CLASS_CHOICE).to_pylist()]
        stay = [row["value"] for row in found if row["clips"] and row["value"] is not None]
        leave = [row["value"] for row in found if not row["clips"] and row["value"] is not None]
        often = Counter(labels.get(r["class_id"], str(r["class_id"])) for r in found if not r["clips"])
        names = [
            f"{name} ({n} of {len(paths)})" if len(paths) > 1 else name for name, n in often.most_common()
        ]
        left = f" and {len(names) - _CLASSES_NAMED} more" if len(names) > _CLASSES_NAMED else ""
        never = sum(row["value"] is None for row in found)
        rows.append(
            Row(
                (source, ", ".join(names[:_CLASSES_NAMED]) + left, f"{never} of {len(found)}"),
                tuple(
                    Cell(Score(sum(values) / len(values), None, None, len(values)) if values else None)
                    for values in (stay, leave)
                ),
                recogniser,
            )
        )
    return ValueTable(
        "What the class filter did: precision on validation clips of a recogniser that learnt from synthetic clips "
        "alone, mean of the classes that were named, in %",
        ("source and amount", "classes without synthetic clips", "classes that were never named"),
        (("classes that keep them", ""), ("classes without", "")),
        tuple(rows),
    )


@dataclass(frozen=True)
class _Size:
    """Clips of a mix, mean of all draws."""

    variant: str
    method: str
    real: float
    wanted: float
    taken: float


def _sizes(dataset: str, counts: Sequence[Path]) -> list[_Size]:
    if not counts:
        return []
    table = tables.read(list(counts), MIX_CLIPS)
    table = table.filter(pc.equal(table["dataset"], dataset))
    numbers = ["real", "wanted", "taken"]
    of_draw = table.group_by(["variant", "method", "split", "seed"], use_threads=False).aggregate(
        [(name, "sum") for name in numbers]
    )
    means = of_draw.group_by(["variant", "method"], use_threads=False).aggregate(
        [(f"{name}_sum", "mean") for name in numbers]
    )
    found = [
        _Size(row["variant"], row["method"], *(row[f"{name}_sum_mean"] for name in numbers))
        for row in means.to_pylist()
    ]
    return sorted(found, key=lambda size: (read_variant(size.variant)[:2], size.method != REAL, size.method))


def _too_small(sizes: Sequence[_Size]) -> ValueTable:
    return ValueTable(
        "Mixes with fewer synthetic clips than they are to have, since some of the source's were refused",
        ("mix", "synthetic clips wanted", "had"),
        (),
        tuple(
            Row((size.method, _clips(size.wanted), _clips(size.taken)), (), _place(size.variant))
            for size in sizes
            if size.taken < size.wanted
        ),
    )


def _all_sizes(sizes: Sequence[_Size]) -> ValueTable:
    return ValueTable(
        "Clips of each mix, all classes together, mean of the draws",
        ("mix", "real clips", "synthetic clips wanted", "had"),
        (),
        tuple(
            Row(
                (size.method, _clips(size.real), _clips(size.wanted), _clips(size.taken)),
                (),
                _place(size.variant),
            )
            for size in sizes
        ),
    )


def _clips(count: float) -> str:
    return f"{count:,.0f}" if count == round(count) else f"{count:,.1f}"


def _place(variant: str) -> str:
    recogniser, part, protocol = read_variant(variant)
    return f"{_recogniser(recogniser, protocol)}, {part} % real"


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
            head = (row["source"], f"{row['clips']:,}", _length(row["audio_h"]), time, each, tokens)
            rows.append(Row(head, (), detail))
    columns = ("source", "clips", "audio", "time to make them", "per clip", "language model")
    return ValueTable("What the clips cost", columns, (), tuple(rows))


def _length(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 1 else f"{60 * hours:.1f} min"


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
