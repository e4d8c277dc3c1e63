"""Who wins: all pairs of methods of a variant, with what is noise told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foley.report.comparison_figures import Difference, differences_svg
from foley.report.scores import ALPHA, REFERENCES, Score, ScoreBook, System
from foley.report.sections import Panel, Section, marked_up, near, place, variants
from foley.report.study_words import words
from foley.report.values import Cell, PValue, Row, ValueTable, crosses_zero, interval_text, points
from foley.report.verdict import DIFFERENCE

P_VALUE = f"p_{DIFFERENCE}"
VARIANT = "variant_"  # after these prefixes: a difference to another variant of the method
_NAMED = 3  # methods that a sentence names; more become a count


@dataclass(frozen=True)
class Pair:
    """Accuracy of one system minus that of another, and the corrected p value of the difference."""

    difference: Score
    p: float | None

    @property
    def noise(self) -> bool:
        """Whether chance explains it: the interval holds zero, or p is above the level; or neither is known."""
        known = self.p is not None or (self.difference.low is not None and self.difference.high is not None)
        return not known or crosses_zero(self.difference) or (self.p is not None and self.p > ALPHA)

    @property
    def text(self) -> str:
        return f"{points(self.difference.value)} points"

    @property
    def reversed(self) -> Pair:
        d = self.difference
        low, high = (None if d.high is None else -d.high), (None if d.low is None else -d.low)
        return Pair(Score(-d.value, low, high, d.n), self.p)

    @property
    def outcome(self) -> str:
        return "noise" if self.noise else "better" if self.difference.value > 0 else "worse"

    def tip(self, what: str) -> str:
        p = "" if self.p is None else f"p {self.cells[1].text}"
        parts = [f"{what}: {self.text}", interval_text(self.difference, points), p, self.outcome]
        return ", ".join(part for part in parts if part)

    @property
    def cells(self) -> tuple[Cell, Cell]:
        """The difference with its interval, and p."""
        p = None if self.p is None else Score(self.p, None, None, None)
        mark = "noise" if self.noise else ""
        return Cell(self.difference, signed=True, mark=mark), PValue(p, share=False, mark=mark)


def pair_of(book: ScoreBook, study: str, dataset: str, split: str, system: System, name: str) -> Pair | None:
    """What the table says of ``system`` against ``name`` (a method, or ``variant_…``)."""
    difference = book.get(study, dataset, split, system, DIFFERENCE + name)
    p = book.get(study, dataset, split, system, P_VALUE + name)
    return None if difference is None else Pair(difference, None if p is None else p.value)


def who_wins(book: ScoreBook) -> Section | None:
    """All pairs of methods on each dataset; None where no pair was compared."""
    panels = []
    for study in book.studies():
        if not words(study).measures_accuracy:
            continue
        for dataset in book.datasets(study):
            panel = _panel(book, study, dataset)
            if panel is not None:
                panels.append(panel)
    if not panels:
        return None
    return Section(
        "wins",
        "Who wins",
        "Who wins",
        "Every method against every other on the same clips: accuracy of the row minus that of the column, in "
        "points. Grey is noise: the 95 % interval holds zero, or p, corrected for the number of comparisons, is "
        f"above {ALPHA:g}.",
        tuple(panels),
    )


def _panel(book: ScoreBook, study: str, dataset: str) -> Panel | None:
    metrics = [m for m in book.metrics(study, dataset) if m.startswith(DIFFERENCE)]
    # A method may be called variant_x; what is no method of the study is a difference to a variant.
    methods = [s.method for s in book.systems(study, dataset) if s.method not in REFERENCES]
    names = {m.removeprefix(DIFFERENCE): m for m in metrics}
    metrics = [names[method] for method in dict.fromkeys(methods) if method in names]
    metrics += [m for name, m in names.items() if name not in methods and not name.startswith(VARIANT)]
    splits = book.splits_shown(study, dataset, metrics)
    sentences, figures, tables = [], [], []
    for split in splits:
        for variant in variants(book.systems(study, dataset, metrics)):
            pairs = _pairs(book, study, dataset, split, variant, metrics)
            if not pairs:
                continue
            order = _order(book, study, dataset, pairs)
            title = place(book, study, dataset, variant, split)
            cells = {
                (order.index(a), order.index(b)): Difference(
                    pair.difference.value, pair.noise, pair.tip(f"{a} minus {b}")
                )
                for (a, b), pair in pairs.items()
            }
            figures.append(differences_svg(order, order, cells, title))
            sentences.append(
                (
                    near(variant, split, splits),
                    winner(order, pairs, _accuracy(book, study, dataset, split, variant, order)),
                )
            )
            tables.append(_table(title, order, pairs))
    if not figures:
        return None
    return Panel(study, dataset, tuple(sentences), marked_up(figures), tuple(tables))


def _pairs(
    book: ScoreBook, study: str, dataset: str, split: str, variant: str, metrics: Sequence[str]
) -> dict[tuple[str, str], Pair]:
    """(method, other) -> pair, in both directions, whichever of them is stored."""
    found: dict[tuple[str, str], Pair] = {}
    for system in book.systems(study, dataset, metrics):
        if system.variant != variant or system.method in REFERENCES:
            continue
        for metric in metrics:
            other = metric.removeprefix(DIFFERENCE)
            pair = pair_of(book, study, dataset, split, system, other)
            if pair is not None and other not in (system.method, *REFERENCES):
                found[system.method, other] = pair
    return {(b, a): pair.reversed for (a, b), pair in found.items()} | found


def _order(book: ScoreBook, study: str, dataset: str, pairs: dict[tuple[str, str], Pair]) -> list[str]:
    """Methods in the order of the leaderboard."""
    compared = {method for pair in pairs for method in pair}
    ranked = dict.fromkeys(system.method for system in book.systems(study, dataset))
    return [m for m in ranked if m in compared] + sorted(compared - set(ranked))


def _accuracy(
    book: ScoreBook, study: str, dataset: str, split: str, variant: str, methods: Sequence[str]
) -> dict[str, float]:
    scores = {m: book.get(study, dataset, split, System(m, variant), "accuracy") for m in methods}
    return {method: score.value for method, score in scores.items() if score is not None}


def winner(methods: Sequence[str], pairs: dict[tuple[str, str], Pair], accuracy: dict[str, float]) -> str:
    """Who is ahead, over how many, by how much, and where the lead is noise: one sentence."""

    def lead(method: str) -> float:
        mine = [pair.difference.value for (a, _), pair in pairs.items() if a == method]
        return sum(mine) / len(mine)

    # Accuracy ranks even where some pairs are missing; without it, the mean difference does.
    complete = all(method in accuracy for method in methods)
    first = max(methods, key=lambda m: accuracy[m] if complete else lead(m))
    against = {b: pair for (a, b), pair in pairs.items() if a == first}
    beaten = {b: pair for b, pair in against.items() if pair.outcome == "better"}
    lost = {b: pair for b, pair in against.items() if pair.outcome == "worse"}
    noise = {b: pair for b, pair in against.items() if pair.noise}
    count, total = len(beaten), len(against)
    others = "method" if total == 1 else "methods"
    if not beaten:
        start = f"No method wins: {first} comes first"
    elif total == 1:
        (other,) = beaten
        return f"{first} beats {other}, by {beaten[other].text}."
    else:
        nearest = min(beaten, key=lambda b: beaten[b].difference.value)
        farthest = max(beaten, key=lambda b: beaten[b].difference.value)
        whom = f"all {total} other {others}" if count == total else f"{count} of {total} other {others}"
        span = f"by {beaten[nearest].text} ({nearest})"
        if count > 1:
            span = f"by {points(beaten[nearest].difference.value)} ({nearest}) to {beaten[farthest].text} ({farthest})"
        start = f"{first} beats {whom}, {span}"
    ends = []
    if noise:
        ahead = all(pair.difference.value > 0 for pair in noise.values())
        word = ("lead" if ahead else "difference") + ("" if len(noise) == 1 else "s")
        to = "over" if ahead else "to"
        if len(noise) == 1:
            (other,) = noise
            ends.append(f"its {word} {to} {other}, {noise[other].text}, is noise")
        else:
            ends.append(f"its {word} {to} {_named(noise)} are noise")
    if lost:
        ends.append(f"it loses to {_named(lost)}")
    join = ", but " if not beaten else "; "
    return f"{start}{join if ends else ''}{', and '.join(ends)}."


def _named(pairs: dict[str, Pair]) -> str:
    """``ridge (+3.9 points), ale (+5.0 points) and 4 more``, the smallest difference first."""
    order = sorted(pairs, key=lambda name: abs(pairs[name].difference.value))
    parts = [f"{name} ({pairs[name].text})" for name in order]
    if len(parts) > _NAMED:
        parts = [*parts[: _NAMED - 1], f"{len(parts) - _NAMED + 1} more"]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _table(title: str, order: Sequence[str], pairs: dict[tuple[str, str], Pair]) -> ValueTable:
    """A row per pair, the better method first."""
    rows = []
    for number, a in enumerate(order):
        for b in order[number + 1 :]:
            if (a, b) not in pairs:
                continue
            one, other = (a, b) if pairs[a, b].difference.value >= 0 else (b, a)
            pair = pairs[one, other]
            rows.append(Row((one, other, pair.outcome), pair.cells, reference=pair.noise))
    return ValueTable(
        f"All pairs: {title}",
        ("method", "against", "result"),
        (("difference, points", ""), ("corrected p", "")),
        tuple(rows),
    )
