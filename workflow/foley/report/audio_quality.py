"""Quality of generated clips: are they of their class, how close do they come to real ones, and are they new?"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.report import figures as draw
from foley.report.comparison_figures import shares_svg
from foley.report.scores import MEAN, REFERENCES, Score, ScoreBook, System
from foley.report.sections import Panel, Section, marked_up, place
from foley.report.study_words import DIFFUSION, is_leaky
from foley.report.values import (
    Cell,
    Published,
    Row,
    ValueTable,
    interval_text,
    number,
    percent,
    where,
)
from foley.report.who_wins import DIFFERENCE, Pair
from foley.tables.audio_studies import AUDIO_QUALITY

REAL = "real"  # real clips in place of generated ones: the yardstick
RECOGNITION = "recognition_accuracy"
FRECHET = "frechet_audio_distance"  # the sample distance, which never stands without its warning
BY_CLASS = f"{FRECHET}_class_mean"  # as published: each class on its own, mean over classes


@dataclass(frozen=True)
class Measure:
    """How a metric of generated clips is called and read.

    ``better``: 1 where higher is better, -1 where lower is, 0 where neither is and real clips are the yardstick.
    """

    name: str
    better: int
    share: bool = False

    @property
    def direction(self) -> str:
        return {1: "↑ higher is better", -1: "↓ lower is better", 0: "compare with real"}[self.better]


# Asked of a judge, which knows the classes.
OF_CLASS = {
    RECOGNITION: Measure("recognised, %", 1, True),
    "recognition_accuracy_at_5": Measure("among the first 5, %", 1, True),
    "clap_accuracy_at_1": Measure("prompt first, %", 1, True),
    "clap_accuracy_at_5": Measure("prompt among 5, %", 1, True),
    "clap_accuracy_at_10": Measure("prompt among 10, %", 1, True),
    "map_at_10": Measure("mAP@10, %", 1, True),
}
# Of two sets of vectors in the space of an embedding: how far apart they are; how they overlap, and what is new.
CLOSE = {
    "frechet_audio_distance_shrunk": Measure("FAD, shrunk", -1),
    "frechet_audio_distance_infinity": Measure("FAD∞", -1),
    "kernel_audio_distance": Measure("KAD", -1),
    "frechet_audio_distance_shrunk_class_mean": Measure("FAD by class, shrunk", -1),
    "kernel_audio_distance_class_mean": Measure("KAD by class", -1),
}
NEW = {
    "precision": Measure("precision", 1),
    "recall": Measure("recall", 1),
    "density": Measure("density", 1),
    "coverage": Measure("coverage", 1),
    "memorised": Measure("copies, %", -1, True),
    "nearest_distance": Measure("to training clips", 0),
    "diversity": Measure("diversity", 1),
    "vendi": Measure("Vendi", 1),
}
MEASURES = OF_CLASS | CLOSE | NEW
# What pairs of generators are compared by, class by class.
PAIRED = (
    RECOGNITION,
    "frechet_audio_distance_infinity",
    "frechet_audio_distance_shrunk",
    "kernel_audio_distance",
)
# What more clips alone make better: of generators with other numbers of vectors none is the best.
OF_EQUAL_NUMBERS = frozenset(
    {
        "frechet_audio_distance_shrunk",
        "frechet_audio_distance_shrunk_class_mean",
        "recall",
        "coverage",
        "vendi",
    }
)
# What a warning says of a value that is shown in spite of it.
_BIASED = "not 0 for equal sets: read it against real"
NOTES = {
    "memorised": "not of all classes",
    "frechet_audio_distance_shrunk": _BIASED,
    "frechet_audio_distance_shrunk_class_mean": _BIASED,
}
_CLASSES_TOGETHER = 25  # in one figure
_Key = tuple[str, str, str]  # metric, embedding, generator


@dataclass(frozen=True)
class _Quality:
    """What AUDIO_QUALITY tables say beyond the scores: values per class, and warnings."""

    dataset: str
    classes: Mapping[_Key, Mapping[int, float]] = field(default_factory=dict)  # class -> value
    warned: Mapping[_Key, int] = field(default_factory=dict)  # classes with a warning
    # (metric, embedding, reason) -> values with it, and all values.
    warnings: Mapping[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    noted: frozenset[tuple[str, _Key]] = frozenset()  # (split, key): over all classes, with a warning
    # The same -> number of synthetic vectors; of the mean over splits all of them.
    numbers: Mapping[tuple[str, _Key], int] = field(default_factory=dict)


def audio_quality(
    book: ScoreBook,
    quality: Sequence[Path] = (),
    literature: Sequence[Published] = (),
    labels: Mapping[str, Mapping[int, str]] | None = None,
) -> Section | None:
    """Tables per dataset, split and embedding; None where no generated clips were measured.

    Args:
        quality: AUDIO_QUALITY tables: values per class, and why some should not be trusted.
        literature: Published figures.
        labels: Dataset -> class -> name.
    """
    by_dataset = _read_quality(quality)
    panels = []
    for dataset in book.datasets(DIFFUSION):
        more = by_dataset.get(dataset, _Quality(dataset))
        panel = _Panels(book, dataset, more, literature, (labels or {}).get(dataset, {})).panel()
        if panel is not None:
            panels.append(panel)
    if not panels:
        return None
    return Section(
        "clips",
        "Quality of generated clips",
        "Generated clips",
        "Generated clips against real test clips, which no generator has heard. The row real puts real clips in "
        "their place (training clips where sets are compared, else the test clips): no generator can be expected to "
        "do better. Brackets hold 95 % intervals. Distances (FAD, KAD) depend on the embedding: compare them within "
        "one table only. The best generator of a column is marked, whichever direction is better; whether its lead "
        "is more than noise is said above the tables.",
        tuple(panels),
        folded=False,
    )


def _read_quality(paths: Sequence[Path]) -> dict[str, _Quality]:
    """The tables of each dataset, means over splits; leaky splits count where there are no others."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if paths:
        for row in tables.read(list(paths), AUDIO_QUALITY).to_pylist():
            rows[row["dataset"]].append(row)
    found = {}
    for dataset, its in rows.items():
        noted, numbers = set(), defaultdict[tuple[str, _Key], int](int)
        for row in its:
            if row["class_id"] is not None:
                continue
            key = (row["metric"], row["embedding"], row["generator"])
            for split in (row["split"],) if is_leaky(DIFFUSION, row["split"]) else (row["split"], MEAN):
                if row["warning"]:
                    noted.add((split, key))
                numbers[split, key] += row["n_synthetic"] or 0
        its = [row for row in its if not is_leaky(DIFFUSION, row["split"])] or its
        values: dict[tuple[str, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        warned: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        totals: dict[tuple[str, str], int] = defaultdict(int)
        reasons: dict[tuple[str, str, str], int] = defaultdict(int)
        for row in its:
            metric, embedding = row["metric"], row["embedding"]
            key = (metric, embedding, row["generator"])
            totals[metric, embedding] += 1
            if row["class_id"] is not None and _known(row["value"]):
                values[key][row["class_id"]].append(row["value"])
            if row["warning"]:
                reasons[metric, embedding, _reason(row["warning"])] += 1
                if row["class_id"] is not None:
                    warned[key].add(row["class_id"])
        found[dataset] = _Quality(
            dataset,
            {key: {c: float(np.mean(v)) for c, v in of.items()} for key, of in values.items()},
            {key: len(classes) for key, classes in warned.items()},
            {(m, e, reason): (count, totals[m, e]) for (m, e, reason), count in reasons.items()},
            frozenset(noted),
            numbers,
        )
    return found


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _reason(warning: str) -> str:
    """A warning without its numbers, which differ from class to class."""
    return re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "…", warning)


class _Panels:
    """The panel of one dataset."""

    def __init__(
        self,
        book: ScoreBook,
        dataset: str,
        more: _Quality,
        literature: Sequence[Published],
        labels: Mapping[int, str],
    ) -> None:
        self.book, self.dataset, self.more, self.labels = book, dataset, more, labels
        self.literature = [p for p in literature if (p.study, p.dataset) == (DIFFUSION, dataset)]
        self.systems = book.systems(DIFFUSION, dataset, MEASURES)
        self.used: list[Published] = []

    def panel(self) -> Panel | None:
        splits = self.book.splits_shown(DIFFUSION, self.dataset, MEASURES)
        shown: list[ValueTable] = []
        sentences: list[tuple[str, str]] = []
        for split in splits:
            said, found = self._tables(split)
            shown += found
            sentences += [
                (f"{name}, split {split}" if len(splits) > 1 else name, text) for name, text in said
            ]
        if not shown:
            return None
        details = [
            *(table for split in splits for table in self._pair_tables(split)),
            *self._published_tables(),
            *self._class_tables(),
            *self._warning_tables(),
        ]
        sources = tuple(dict.fromkeys(p.source for p in self.used))
        drawn = marked_up(self._figures(splits))
        return Panel(DIFFUSION, self.dataset, tuple(sentences), drawn, tuple(shown), tuple(details), sources)

    # ---- tables ----

    def _tables(self, split: str) -> tuple[list[tuple[str, str]], list[ValueTable]]:
        found: list[ValueTable | None] = [*self._judged_tables(split)]
        sentences = self._recognised(split)
        for variant in self._variants(CLOSE | NEW):
            for title, measures in (
                ("How far from real clips", CLOSE),
                ("Overlap with real clips, copies and variety", NEW),
            ):
                rows, columns = self._rows(split, variant, measures)
                heading = f"{title}: {self._place(variant, split)}"
                found.append(ValueTable(heading, ("generator",), columns, tuple(rows)) if rows else None)
            said = [*self._closest(split, variant), *self._copied(split, variant)]
            sentences += [(_judge(variant), " ".join(said))] * bool(said)
        return sentences, [table for table in found if table is not None]

    def _judged_tables(self, split: str) -> list[ValueTable]:
        """Of their class? A table for the judges that answer the same questions, classifiers for example."""
        of_columns: dict[tuple[tuple[str, str], ...], tuple[list[str], list[Row]]] = {}
        # Classifiers first, that have heard the real clips of these very classes.
        for variant in sorted(self._variants(OF_CLASS), key=lambda v: v not in self._variants([RECOGNITION])):
            its, columns = self._rows(split, variant, OF_CLASS)
            judges, rows = of_columns.setdefault(columns, ([], []))
            judges.append(_judge(variant))
            rows += [Row((r.head[0], _judge(variant)), r.cells, r.detail, r.reference) for r in its]
        found = []
        for columns, (judges, rows) in of_columns.items():
            if columns:
                of = self._place("", split)
                title = f"Of their class, says {' and '.join(judges)}: {of}"
                several = len(judges) > 1
                head = ("generator", "judge") if several else ("generator",)
                its = [r if several else Row(r.head[:1], r.cells, r.detail, r.reference) for r in rows]
                found.append(ValueTable(title, head, columns, tuple(its)))
        return found

    def _rows(
        self, split: str, variant: str, measures: Mapping[str, Measure]
    ) -> tuple[list[Row], tuple[tuple[str, str], ...]]:
        """Rows of generators, then of real clips and of generators that only a paper measured, and their columns."""
        systems = self._generators(variant) + [s for s in self.systems if s == System(REAL, variant)]
        known = [
            metric for metric in measures if any(self._score(split, system, metric) for system in systems)
        ]
        cells = [self._column(split, systems, metric) for metric in known]
        rows = []
        for number_, system in enumerate(systems):
            row = tuple(column[number_] for column in cells)
            real = system.method == REAL
            if any(cell.score for cell in row):
                rows.append(Row((system.method,), row, "real clips" if real else "", real))
        ours = {system.method for system in systems}
        if not any(not row.reference for row in rows):
            return [], ()
        for method in dict.fromkeys(p.method for p in self.literature if p.method not in ours):
            row = tuple(
                Cell(None, published=self._published(method, metric, variant), share=MEASURES[metric].share)
                for metric in known
            )
            if any(cell.published for cell in row):
                rows.append(Row((method,), row, "published only", True))
        return rows, tuple((measures[m].name, self._hint(split, systems, m)) for m in known)

    def _hint(self, split: str, systems: Sequence[System], metric: str) -> str:
        """Which direction is better, and what has to be known of values that a warning concerns."""
        noted = any(self._noted(split, system, metric) for system in systems)
        parts = [MEASURES[metric].direction]
        parts += [NOTES[metric]] if noted and metric in NOTES else []
        if metric in OF_EQUAL_NUMBERS and self._unequal(
            split, [s for s in systems if s.method != REAL], metric
        ):
            parts.append("depends on the number of clips, which differs: compare no two")
        return "; ".join(parts)

    def _unequal(self, split: str, systems: Sequence[System], metric: str) -> list[int]:
        """The numbers of vectors of some generators, where they are known and differ; else nothing."""
        keys = [(split, (metric, system.variant, system.method)) for system in systems]
        known = [self.more.numbers[key] for key in keys if key in self.more.numbers]
        return known if len(set(known)) > 1 else []

    def _noted(self, split: str, system: System, metric: str) -> bool:
        return (split, (metric, system.variant, system.method)) in self.more.noted

    def _column(self, split: str, systems: Sequence[System], metric: str) -> list[Cell]:
        """Cells of the systems; the best generator is marked where there is a choice and a direction."""
        measure = MEASURES[metric]
        scores = [self._score(split, system, metric) for system in systems]
        largest = max((abs(score.value) for score in scores if score is not None), default=0.0)
        # Three digits of the largest: numbers below one another are then compared at a glance.
        decimals = int(np.clip(2 - math.floor(math.log10(largest)), 0, 5)) if largest else 3
        generated = [
            score.value
            for score, system in zip(scores, systems, strict=True)
            if score is not None and system.method != REAL
        ]
        best = _best(measure, generated) if len(generated) > 1 else None
        if metric == "memorised" and any(self._noted(split, system, metric) for system in systems):
            best = None  # what is not of all classes is no best
        made = [s for s, score in zip(systems, scores, strict=True) if score is not None and s.method != REAL]
        if metric in OF_EQUAL_NUMBERS and self._unequal(split, made, metric):
            best = None
        return [
            Cell(
                score,
                published=self._published(system.method, metric, system.variant),
                share=measure.share,
                decimals=decimals,
                mark="best"
                if best is not None and score is not None and score.value == best and system.method != REAL
                else "",
            )
            for score, system in zip(scores, systems, strict=True)
        ]

    def _published(self, method: str, metric: str, variant: str) -> tuple[Published, ...]:
        """Figures of a paper's generator in the same space; the splits of a paper are its own."""
        beside = tuple(
            p
            for p in self.literature
            if (p.method, p.metric) == (method, metric) and p.variant in (None, variant)
        )
        self.used += beside
        return beside

    def _pair_tables(self, split: str) -> list[ValueTable]:
        """Each pair of generators, class by class; the better one first."""
        found = []
        for variant in self._variants(MEASURES):
            names = [system.method for system in self._generators(variant)]
            rows = []
            for metric in PAIRED:
                measure = MEASURES[metric]
                for one, other in combinations(names, 2):
                    systems = System(one, variant), System(other, variant)
                    pair = self._pair(split, systems[0], metric, other)
                    if pair is None:
                        numbers = self._unequal(split, systems, metric)
                        if metric in OF_EQUAL_NUMBERS and numbers:
                            why = f"not compared: {numbers[0]} and {numbers[1]} vectors"
                            rows.append(
                                Row((one, other, measure.name, why), (Cell(None), Cell(None)), "", True)
                            )
                        continue
                    if pair.difference.value * measure.better < 0:
                        one, other, pair = other, one, pair.reversed
                    mark = "noise" if pair.noise else ""
                    difference, p = pair.cells
                    if not measure.share:
                        difference = Cell(pair.difference, share=False, mark=mark)
                    head = (one, other, measure.name, "noise" if pair.noise else "better")
                    rows.append(Row(head, (difference, p), reference=pair.noise))
            if rows:
                title = f"Pairs of generators, class by class: {self._place(variant, split)}"
                columns = (("difference, mean over classes", "shares in points"), ("corrected p", ""))
                head = ("generator", "against", "measure", "result")
                found.append(ValueTable(title, head, columns, tuple(rows)))
        return found

    def _published_tables(self) -> list[ValueTable]:
        """The published measure, which is no good one: only for the comparison with published figures."""
        published = [p for p in self.literature if p.metric.startswith(BY_CLASS)]
        found = []
        for variant in dict.fromkeys(p.variant or "" for p in published):
            metrics = [m for m in dict.fromkeys(p.metric for p in published) if m.startswith(BY_CLASS)]
            rows = []
            generators = self._generators(variant) + [s for s in self.systems if s == System(REAL, variant)]
            names = [s.method for s in generators]
            for method in dict.fromkeys([*names, *(p.method for p in published)]):
                cells = tuple(
                    Cell(
                        self._mean_of_classes(variant, method, metric),
                        published=self._published(method, metric, variant),
                        share=False,
                        decimals=3,
                    )
                    for metric in metrics
                )
                if not any(cell.score or cell.published for cell in cells):
                    continue
                warned = self.more.warned.get((FRECHET, variant, method), 0)
                detail = f"{warned} classes with a warning" if warned else ""
                ours = any(cell.score for cell in cells)
                reference = not ours or method == REAL
                rows.append(Row((method,), cells, detail if ours else "published only", reference))
            title = f"As published: FAD class by class in {variant}, too high with few clips a class"
            columns = tuple((_classes_of(metric), "↓ lower is better") for metric in metrics)
            found.append(ValueTable(title, ("generator",), columns, tuple(rows)))
        # What nothing of ours stands beside.
        others = [p for p in self.literature if p not in self.used and p.metric in MEASURES]
        for variant in dict.fromkeys(p.variant or "" for p in others):
            its = [p for p in others if (p.variant or "") == variant]
            metrics = list(dict.fromkeys(p.metric for p in its))
            rows = [
                Row(
                    (method,),
                    tuple(
                        Cell(None, published=self._published(method, metric, variant)) for metric in metrics
                    ),
                    "published only",
                    True,
                )
                for method in dict.fromkeys(p.method for p in its)
            ]
            columns = tuple((MEASURES[metric].name, MEASURES[metric].direction) for metric in metrics)
            title = f"Published, without a figure of ours ({variant})"
            found.append(ValueTable(title, ("generator",), columns, tuple(rows)))
        return found

    def _mean_of_classes(self, variant: str, method: str, metric: str) -> Score | None:
        values = self.more.classes.get((FRECHET, variant, method), {})
        first = re.fullmatch(rf"{BY_CLASS}_first_(\d+)", metric)
        chosen = [v for c, v in values.items() if first is None or c < int(first[1])]
        return Score(float(np.mean(chosen)), None, None, len(chosen)) if chosen else None

    def _class_tables(self) -> list[ValueTable]:
        """Recognition of each class, a table per judge."""
        found = []
        for variant in self._variants([RECOGNITION]):
            methods, of_class = self._recognition_by_class(variant)
            rows = [
                Row(
                    (self.labels.get(class_id, str(class_id)),),
                    tuple(
                        Cell(None if value is None else Score(value, None, None, None))
                        for value in (of_class[method].get(class_id) for method in methods)
                    ),
                )
                for class_id in sorted({c for values in of_class.values() for c in values})
            ]
            if rows:
                title = f"Recognised clips of each class, in %: {_judge(variant)}"
                columns = tuple((method, "real test clips" if method == REAL else "") for method in methods)
                found.append(ValueTable(title, ("class",), columns, tuple(rows)))
        return found

    def _warning_tables(self) -> list[ValueTable]:
        """How many values carry which warning."""
        rows = [
            Row(
                (_name(metric), embedding, reason),
                tuple(Cell(Score(float(n), None, None, None), share=False, decimals=0) for n in counts),
            )
            for (metric, embedding, reason), counts in sorted(self.more.warnings.items())
        ]
        if not rows:
            return []
        head = ("measure", "embedding", "why not to trust it")
        columns = (("values with it", ""), ("values in all", ""))
        return [ValueTable(f"Warnings: {len(rows)}", head, columns, tuple(rows))]

    # ---- sentences ----

    def _recognised(self, split: str) -> list[tuple[str, str]]:
        found = []
        for variant in self._variants([RECOGNITION]):
            scores = self._scores(split, variant, RECOGNITION)
            if not scores:
                continue
            first = max(scores, key=lambda method: scores[method].value)
            best = scores[first]
            share = f"{percent(best.value)} % {interval_text(best, percent)}".strip()
            if len(scores) > 1:
                text = f"clips of {first} are recognised most often, {share}"
            else:
                text = f"{share} of the clips of {first} are recognised"
            beside = []
            real = self._score(split, System(REAL, variant), RECOGNITION)
            if real is not None:
                beside.append(f"real test clips {percent(real.value)} %")
            if (chance := self._chance(variant)) is not None:
                beside.append(f"chance {percent(chance)} %")
            text += f" ({', '.join(beside)})" if beside else ""
            found.append(
                (_judge(variant), f"{text}{self._rivals(split, variant, RECOGNITION, first, scores)}.")
            )
        return found

    def _closest(self, split: str, variant: str) -> list[str]:
        """By FAD∞, which does not depend on the number of clips; else by the shrunk estimate where all have as many,
        else by KAD.
        """
        for metric in (
            "frechet_audio_distance_infinity",
            "frechet_audio_distance_shrunk",
            "kernel_audio_distance",
        ):
            scores = self._scores(split, variant, metric)
            made = [System(method, variant) for method in scores]
            if not scores or (metric in OF_EQUAL_NUMBERS and self._unequal(split, made, metric)):
                continue
            name = MEASURES[metric].name
            first = min(scores, key=lambda method: scores[method].value)
            value = f"{name} {number(scores[first].value)} {interval_text(scores[first], number)}".strip()
            if len(scores) > 1:
                text = f"{first} comes closest to real clips, {value}"
            else:
                text = f"{first} has {value}"
            real = self._score(split, System(REAL, variant), metric)
            text += f" (real clips {number(real.value)})" if real is not None else ""
            return [f"{text}{self._rivals(split, variant, metric, first, scores)}."]
        return []

    def _copied(self, split: str, variant: str) -> list[str]:
        scores = self._scores(split, variant, "memorised")
        if not scores:
            return []
        worst = max(scores, key=lambda method: scores[method].value)
        real = self._score(split, System(REAL, variant), "memorised")
        beside = f"; of real test clips {percent(real.value)} %" if real is not None else ""
        share = scores[worst].value
        text = "No clip is flagged as a copy of a training clip"
        if share > 0:
            which = "At most " if len(scores) > 1 else ""
            text = f"{which}{percent(share)} % of clips ({worst}) are flagged as copies of training clips"
        if any(self._noted(split, System(method, variant), "memorised") for method in scores):
            text += " in the classes with enough real clips to tell"
        return [f"{text}{beside}."]

    def _rivals(self, split: str, variant: str, metric: str, first: str, scores: Mapping[str, Score]) -> str:
        """Who may be as good as the first: by the paired difference over classes where there is one, else by whether
        the intervals overlap; silent about values without either.
        """
        noise, ahead, near = [], [], []
        for method, score in scores.items():
            if method == first:
                continue
            pair = self._pair(split, System(first, variant), metric, method)
            if pair is None:
                near += [method] * _overlap(scores[first], score)
            elif pair.noise:
                noise.append(method)
            elif pair.difference.value * MEASURES[metric].better < 0:
                ahead.append(method)
        parts = [f"class by class its lead over {_listed(noise)} is noise"] if noise else []
        parts += [f"class by class {_listed(ahead)} is better in the mean"] if ahead else []
        parts += [f"its interval overlaps that of {_listed(near)}"] if near else []
        return f"; {', and '.join(parts)}" if parts else ""

    def _pair(self, split: str, system: System, metric: str, other: str) -> Pair | None:
        difference = self._score(split, system, f"{metric}_{DIFFERENCE}{other}")
        p = self._score(split, system, f"p_{metric}_{DIFFERENCE}{other}")
        return None if difference is None else Pair(difference, None if p is None else p.value)

    # ---- figures ----

    def _figures(self, splits: Sequence[str]) -> list[str]:
        panels, matrices = [], []
        for variant in self._variants([RECOGNITION]):
            for split in splits:
                scores = self._scores(split, variant, RECOGNITION)
                if not scores:
                    continue
                lines = []
                real = self._score(split, System(REAL, variant), RECOGNITION)
                if real is not None:
                    lines.append(("real test clips", real.value))
                if (chance := self._chance(variant)) is not None:
                    lines.append(("chance", chance))
                rows = tuple(
                    draw.Interval(method, "", score.value, score.low, score.high)
                    for method, score in scores.items()
                )
                count = self.book.split_count(DIFFUSION, self.dataset)
                title = ", ".join([f"Recognised by {_judge(variant)}", where(split, count)])
                panels.append(draw.Panel(title, rows, tuple(lines)))
            methods, of_class = self._recognition_by_class(variant)
            classes = {c for values in of_class.values() for c in values}
            # What generators manage best stands first.
            made = [m for m in methods if m != REAL] or methods
            ease = {c: np.mean([of_class[m][c] for m in made if c in of_class[m]] or [0.0]) for c in classes}
            ranked = sorted(classes, key=lambda c: (-ease[c], c))
            for start in range(0, len(ranked), _CLASSES_TOGETHER):
                order = ranked[start : start + _CLASSES_TOGETHER]
                cells = {
                    (order.index(c), column): value
                    for column, method in enumerate(methods)
                    for c, value in of_class[method].items()
                    if c in order
                }
                names = [self.labels.get(c, str(c)) for c in order]
                heads = ["real test clips" if m == REAL else m for m in methods]
                title = f"Recognised by {_judge(variant)}, in % of each class"
                title += ", continued" if start else ""
                matrices.append(shares_svg(names, heads, cells, title))
        return [*draw.leaderboard_svgs(panels), *matrices]

    # ---- values ----

    def _place(self, variant: str, split: str) -> str:
        return place(self.book, DIFFUSION, self.dataset, variant, split)

    def _score(self, split: str, system: System, metric: str) -> Score | None:
        return self.book.get(DIFFUSION, self.dataset, split, system, metric)

    def _scores(self, split: str, variant: str, metric: str) -> dict[str, Score]:
        """Of the generators that have one."""
        found = {s.method: self._score(split, s, metric) for s in self._generators(variant)}
        return {method: score for method, score in found.items() if score is not None}

    def _generators(self, variant: str) -> list[System]:
        return [s for s in self.systems if s.variant == variant and s.method not in (REAL, *REFERENCES)]

    def _variants(self, metrics: Iterable[str]) -> list[str]:
        systems = self.book.systems(DIFFUSION, self.dataset, list(metrics))
        return sorted({s.variant for s in systems if s.method not in (REAL, *REFERENCES)})

    def _recognition_by_class(self, variant: str) -> tuple[list[str], dict[str, Mapping[int, float]]]:
        """Generators, then real clips; and class -> share of recognised clips of each."""
        found: dict[str, Mapping[int, float]] = {}
        for method in [*(s.method for s in self._generators(variant)), REAL]:
            values = self.more.classes.get((RECOGNITION, variant, method)) or self._from_scores(
                method, variant
            )
            if values:
                found[method] = values
        return list(found), found

    def _from_scores(self, method: str, variant: str) -> dict[int, float]:
        splits = self.book.splits_shown(DIFFUSION, self.dataset, [RECOGNITION])
        values: dict[int, list[float]] = defaultdict(list)
        for split in splits:
            for class_id in self.book.class_ids(DIFFUSION, self.dataset, split):
                score = self.book.get(
                    DIFFUSION, self.dataset, split, System(method, variant), RECOGNITION, class_id
                )
                if score is not None:
                    values[class_id].append(score.value)
        return {class_id: float(np.mean(v)) for class_id, v in values.items()}

    def _chance(self, variant: str) -> float | None:
        """One over the number of classes that clips were made of."""
        methods, of_class = self._recognition_by_class(variant)
        classes = {c for method in methods for c in of_class[method]}
        return 1 / len(classes) if classes else None


def _best(measure: Measure, values: Sequence[float]) -> float | None:
    """The best value; None where no direction is better, or all are equal."""
    if not measure.better or min(values) == max(values):
        return None
    return max(values, key=lambda value: measure.better * value)


def _overlap(one: Score, other: Score) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _judge(variant: str) -> str:
    return variant.removeprefix("probe:")


def _name(metric: str) -> str:
    known = {name: measure.name for name, measure in MEASURES.items()}
    known |= {FRECHET: "FAD, sample", BY_CLASS: "FAD by class, sample"}
    return known.get(metric, metric.replace("_", " "))


def _classes_of(metric: str) -> str:
    first = re.fullmatch(rf"{BY_CLASS}_first_(\d+)", metric)
    return f"first {first[1]} classes" if first else "all classes"
