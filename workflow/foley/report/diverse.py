"""Diverse embeddings: single representations, all subsets, what each adds, and how alike they are."""

from __future__ import annotations

from foley.report.scores import MEAN, Score, ScoreBook, System
from foley.report.sections import Panel, Section
from foley.report.study_words import DIVERSE
from foley.report.values import Cell, Row, ValueTable, crosses_zero, interval_text, percent, points, where

OWN_HEAD, JOINT, TOGETHER = "own_head", "joint", "+"
ABOVE, CONTRIBUTION, CKA, DEBIASED_CKA, AGREEMENT, PARAMETERS = (
    "above_",
    "contribution",
    "cka_with_",
    "debiased_cka_with_",
    "agreement_with_",
    "parameters",
)
SEED_STD = "_seed_std"
OWN = f"{OWN_HEAD}_"  # before a representation: its network as it was trained
# Metric of a study's clips, with one label or several, as a table calls it.
_METRICS = {"accuracy": "accuracy, %", "map": "mAP, %"}


def diverse_embeddings(book: ScoreBook) -> Section | None:
    """Tables per dataset; None where the study was not run."""
    panels = tuple(
        _Panels(book, dataset, metric, name).panel()
        for dataset in book.datasets(DIVERSE)
        for metric, name in _METRICS.items()
        if metric in book.metrics(DIVERSE, dataset)
    )
    if not panels:
        return None
    return Section(
        "diverse",
        "Diverse embeddings",
        "Diverse embeddings",
        "Each representation has a transformer of its own; linear heads join the frozen embeddings of every subset; "
        "in the row joint all networks and the head were trained together. A set is named by its neuralogram: one of "
        "a pretrained encoder has heard other data, so read the set without it beside; where the network trained here "
        "is another one (chunk_yamnet), the two differ by architecture, bandwidth and width as well. Parameters are "
        "all that was trained on these labels, also in the network behind a neuralogram that was trained here. "
        "Brackets hold 95 % intervals over recordings, with the trainings as they are; ± is the deviation over seeds, "
        "which says what other trainings would give. Where joint training begins with the trained networks "
        "(joint.start: trained), they have had its epochs on top of their own, which no baseline and no single network "
        "has: part of what joint is above them may be that.",
        panels,
        folded=False,
    )


class _Panels:
    def __init__(self, book: ScoreBook, dataset: str, metric: str, name: str) -> None:
        self.book, self.dataset, self.metric, self.name = book, dataset, metric, name
        splits = book.splits(DIVERSE, dataset)
        # The mean over folds where there is one, else every split apart.
        self.splits = [MEAN] if MEAN in splits else splits
        self.measured = [split for split in splits if split != MEAN]
        systems = book.systems(DIVERSE, dataset, [metric])
        self.own = [s.method for s in systems if s.variant == OWN_HEAD]
        self.sets = [v for v in dict.fromkeys(s.variant for s in systems) if v not in (OWN_HEAD, "")]

    def panel(self) -> Panel:
        found = [
            self.singles(),
            *(self.subsets(name) for name in self.sets),
            self.contributions(),
            self.gains(),
        ]
        alike = [
            self.matrix(
                DEBIASED_CKA,
                "Linear CKA of embeddings of test clips, debiased (1: one is the other turned and scaled; about 0: "
                "unrelated)",
            ),
            self.matrix(CKA, "The same without correction, which is too high with few clips"),
            self.matrix(AGREEMENT, "Test clips that two networks call the same, %", share=True),
        ]
        sentences = tuple(
            (f"set {name}" + (f", split {split}" if len(self.splits) > 1 else ""), sentence)
            for name in self.sets
            for split in self.splits
            if (sentence := self.claim(name, split))
        )
        shown = tuple(table for table in (*found, *alike) if table is not None)
        return Panel(DIVERSE, self.dataset, sentences, (), shown)

    # The claim

    def claim(self, variant: str, split: str) -> str:
        """Whether all representations together beat each single one, and baselines."""
        whole = self.whole(variant)
        reached = self.get(split, System(whole, variant), self.metric)
        if reached is None:
            return ""
        parts = [f"all together reach {percent(reached.value)} % {interval_text(reached, percent)}".rstrip()]
        # A single representation at its better: a head on its frozen embeddings, or the network as it was trained.
        singles = [
            [
                score
                for other in (name, OWN + name)
                if (score := self.get(split, System(whole, variant), ABOVE + other)) is not None
            ]
            for name in whole.split(TOGETHER)
        ]
        known = [both for both in singles if both]
        if known:
            higher = sum(all(score.value > 0 for score in both) for both in known)
            sure = sum(all(score.value > 0 and not crosses_zero(score) for score in both) for both in known)
            parts.append(
                f"above {higher} of {len(known)} single representations, each at the better of a frozen head and its "
                f"network as trained, {sure} of them with an interval above zero"
            )
        for baseline in self.baselines:
            gain = self.get(split, System(whole, variant), ABOVE + baseline)
            if gain is not None:
                noise = ", which is noise" if crosses_zero(gain) else ""
                size = self.size(System(baseline, OWN_HEAD), System(whole, variant))
                parts.append(
                    f"{points(gain.value)} points {interval_text(gain, points)} against {baseline}{size}{noise}"
                )
        return "; ".join(parts) + "."

    def size(self, baseline: System, whole: System) -> str:
        """How large a baseline is beside a set, as a sentence goes on."""
        its, own = self.count_of(baseline), self.count_of(whole)
        if its is None or own is None:
            return ""
        if its >= own:
            return " of equal size or more"
        return f", which is smaller ({self.parameters(baseline)} against {self.parameters(whole)} parameters)"

    # Tables

    def singles(self) -> ValueTable:
        rows = [
            Row(
                (method, self.parameters(System(method, OWN_HEAD))),
                tuple(self.cell(split, System(method, OWN_HEAD), self.metric) for split in self.splits),
                "baseline" if method in self.baselines else "",
                method in self.baselines,
            )
            for method in sorted(self.own, key=lambda m: m in self.baselines)
        ]
        title = (
            f"Single representations and baselines, each with the head that it was trained with: {self.name}"
        )
        return ValueTable(title, ("network", "parameters"), self.columns(), tuple(rows))

    def subsets(self, variant: str) -> ValueTable:
        systems = [s for s in self.book.systems(DIVERSE, self.dataset, [self.metric]) if s.variant == variant]
        systems.sort(key=lambda s: (s.method in self.baselines, s.method == JOINT, s.method.count(TOGETHER)))
        rows = [
            Row(
                (system.method.replace(TOGETHER, " + "), self.parameters(system)),
                tuple(self.cell(split, system, self.metric) for split in self.splits),
                "networks and head trained together" if system.method == JOINT else "",
                system.method in self.baselines,
            )
            for system in systems
        ]
        title = f"All subsets, set {variant}: a linear head on frozen embeddings, {self.name}"
        return ValueTable(title, ("representations", "parameters"), self.columns(), tuple(rows))

    def contributions(self) -> ValueTable | None:
        names = [
            name
            for name in self.own
            if any(
                self.get(s, System(name, v), CONTRIBUTION) is not None for s in self.splits for v in self.sets
            )
        ]
        if not names:
            return None
        columns = tuple((v, where(s, self.count) or "") for v in self.sets for s in self.splits)
        rows = [
            Row(
                (name,),
                tuple(
                    self.cell(s, System(name, v), CONTRIBUTION, signed=True)
                    for v in self.sets
                    for s in self.splits
                ),
            )
            for name in names
        ]
        title = "What each adds (leave-one-out): the whole set minus the set without it, in points"
        return ValueTable(title, ("representation",), columns, tuple(rows))

    def gains(self) -> ValueTable | None:
        metrics = self.above()
        rows = [
            Row(
                (system.method.replace(TOGETHER, " + "), _against(metric.removeprefix(ABOVE))),
                tuple(self.cell(split, system, metric, signed=True) for split in self.splits),
                f"set {system.variant}",
            )
            for system in self.book.systems(DIVERSE, self.dataset, metrics)
            for metric in metrics
            if any(self.get(split, system, metric) is not None for split in self.splits)
        ]
        if not rows:
            return None
        title = "All together against single representations and against baselines, in points"
        return ValueTable(title, ("system", "against"), self.columns(), tuple(rows))

    def matrix(self, prefix: str, title: str, share: bool = False) -> ValueTable | None:
        split = self.splits[0]
        names = [
            name
            for name in self.own
            if any(self.get(split, System(name, OWN_HEAD), prefix + other) is not None for other in self.own)
        ]
        if not names:
            return None

        def cell(one: str, other: str) -> Cell:
            score = (
                Score(1.0, None, None, None)
                if one == other
                else self.get(split, System(one, OWN_HEAD), prefix + other)
            )
            return Cell(score, share=share, decimals=None if share else 2)

        if not any(cell(one, other).score for one in names for other in names if one != other):
            return None
        rows = tuple(Row((one,), tuple(cell(one, other) for other in names)) for one in names)
        return ValueTable(
            f"{title}, {where(split, self.count)}", ("",), tuple((name, "") for name in names), rows
        )

    # Values

    @property
    def count(self) -> int:
        return self.book.split_count(DIVERSE, self.dataset)

    @property
    def baselines(self) -> list[str]:
        """Networks that are in no set."""
        combined = {name for variant in self.sets for name in self.whole(variant).split(TOGETHER)}
        return [name for name in self.own if name not in combined]

    def whole(self, variant: str) -> str:
        """The subset that has all representations of a set."""
        systems = self.book.systems(DIVERSE, self.dataset, [self.metric])
        names = [s.method for s in systems if s.variant == variant and s.method != JOINT]
        # Of a set of one representation the name has nothing to tell it from a baseline by, which is above nothing.
        compared = {
            s.method for s in self.book.systems(DIVERSE, self.dataset, self.above()) if s.variant == variant
        }
        return max(names, key=lambda name: (name in compared, name.count(TOGETHER)))

    def above(self) -> list[str]:
        """Metrics that are differences to a single representation or to a baseline."""
        found = self.book.metrics(DIVERSE, self.dataset)
        return [m for m in found if m.startswith(ABOVE) and not m.endswith(SEED_STD)]

    def columns(self) -> tuple[tuple[str, str], ...]:
        return tuple((where(split, self.count) or split, "") for split in self.splits)

    def get(self, split: str, system: System, metric: str) -> Score | None:
        return self.book.get(DIVERSE, self.dataset, split, system, metric)

    def cell(self, split: str, system: System, metric: str, *, signed: bool = False) -> Cell:
        std = self.get(split, system, metric + SEED_STD)
        return Cell(self.get(split, system, metric), std.value if std else None, signed=signed)

    def parameters(self, system: System) -> str:
        count = self.count_of(system)
        return "" if count is None else f"{count:,.0f}".replace(",", " ")

    def count_of(self, system: System) -> float | None:
        """Parameters of a system, in the first split that has it."""
        found = (self.get(split, system, PARAMETERS) for split in self.measured)
        return next((score.value for score in found if score is not None), None)


def _against(other: str) -> str:
    """What a difference is to, in words."""
    return f"{other.removeprefix(OWN)}, as trained" if other.startswith(OWN) else other
