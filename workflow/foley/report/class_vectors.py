"""Class vectors: what the methods gain from synonyms, sentences or attributes over other vectors."""

from __future__ import annotations

from collections.abc import Sequence

from foley.report.scores import REFERENCES, ScoreBook, System
from foley.report.sections import Panel, Section, near, place
from foley.report.values import Row, ValueTable, points
from foley.report.who_wins import DIFFERENCE, VARIANT, Pair, pair_of


def class_vectors(book: ScoreBook) -> Section | None:
    """A sentence and a table per pair of variants on each dataset; None where none were compared."""
    panels = []
    for study in book.studies():
        for dataset in book.datasets(study):
            panel = _panel(book, study, dataset)
            if panel is not None:
                panels.append(panel)
    if not panels:
        return None
    return Section(
        "vectors",
        "Class vectors",
        "Class vectors",
        "The same method with other vectors for the classes, on the same clips: with or without synonyms, words, "
        "sentences or attributes.",
        tuple(panels),
    )


def _panel(book: ScoreBook, study: str, dataset: str) -> Panel | None:
    prefix = DIFFERENCE + VARIANT
    existing = {system.variant for system in book.systems(study, dataset)}
    metrics = [m for m in book.metrics(study, dataset) if m.startswith(prefix)]
    # A method may be called variant_x: a variant is what some row has as its variant, or nobody has as its method.
    methods = {system.method for system in book.systems(study, dataset)}
    metrics = [
        m for m in metrics if m.removeprefix(prefix) in existing or m.removeprefix(DIFFERENCE) not in methods
    ]
    systems = [s for s in book.systems(study, dataset, metrics) if s.method not in REFERENCES]
    splits = book.splits_shown(study, dataset, metrics)
    sentences, tables = [], []
    for split in splits:
        for (variant, other), pairs in _compared(book, study, dataset, split, systems, metrics).items():
            one, against, beside = _names(variant, other)
            sentences.append((near(beside, split, splits), _sentence(one, against, pairs)))
            rows = tuple(
                Row((method, pair.outcome), pair.cells, reference=pair.noise)
                for method, pair in pairs.items()
            )
            title = f"{one} minus {against}: {place(book, study, dataset, beside, split)}"
            columns = (("difference, points", ""), ("corrected p", ""))
            tables.append(ValueTable(title, ("method", "result"), columns, rows))
    return Panel(study, dataset, tuple(sentences), (), tuple(tables)) if tables else None


def _compared(
    book: ScoreBook,
    study: str,
    dataset: str,
    split: str,
    systems: Sequence[System],
    metrics: Sequence[str],
) -> dict[tuple[str, str], dict[str, Pair]]:
    """(variant, other) -> method -> pair. Of two directions the first counts: the other says the same."""
    found: dict[tuple[str, str], dict[str, Pair]] = {}
    for system in systems:
        for metric in metrics:
            other = metric.removeprefix(DIFFERENCE + VARIANT)
            pair = pair_of(book, study, dataset, split, system, VARIANT + other)
            if pair is None or other == system.variant:
                continue
            if (other, system.variant) in found:
                found[other, system.variant].setdefault(system.method, pair.reversed)
            else:
                found.setdefault((system.variant, other), {})[system.method] = pair
    return found


def _names(variant: str, other: str) -> tuple[str, str, str]:
    """Both variants without the embedding that they share, and that embedding."""
    embedding, slash, vectors = variant.rpartition("/")
    its, _, others = other.rpartition("/")
    return (vectors, others, embedding) if slash and embedding == its else (variant, other, "")


def _sentence(one: str, other: str, pairs: dict[str, Pair]) -> str:
    """Over how many methods the vectors help, and by how much in the mean."""
    total = len(pairs)
    better = [method for method, pair in pairs.items() if pair.outcome == "better"]
    worse = [method for method, pair in pairs.items() if pair.outcome == "worse"]
    if total == 1:
        ((method, pair),) = pairs.items()
        sure = "which is noise" if pair.noise else "more than noise"
        return f"{one} instead of {other} changes the accuracy of {method} by {pair.text}, {sure}."
    mean = sum(pair.difference.value for pair in pairs.values()) / total
    counts = [
        f"better for {_counted(better)}" if better else "",
        f"worse for {_counted(worse)}" if worse else "",
        f"noise for {total - len(better) - len(worse)}" if total > len(better) + len(worse) else "",
    ]
    said = ", ".join(part for part in counts if part)
    return f"{one} instead of {other}: {said} of {total} methods; {points(mean)} points in the mean of the methods."


def _counted(methods: Sequence[str]) -> str:
    return f"{len(methods)} ({methods[0]})" if len(methods) == 1 else str(len(methods))
