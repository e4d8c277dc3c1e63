"""Sections of one shape: on each dataset some sentences, figures, and the tables one click away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foley.report import svg
from foley.report.scores import REFERENCES, ScoreBook, System
from foley.report.values import ValueTable, where


@dataclass(frozen=True)
class Panel:
    """What a section says of one dataset."""

    study: str
    dataset: str
    sentences: tuple[tuple[str, str], ...] = ()  # (of what, sentence)
    figures: tuple[Markup, ...] = ()
    tables: tuple[ValueTable, ...] = ()
    details: tuple[ValueTable, ...] = ()  # always one click away
    sources: tuple[str, ...] = ()  # of the published figures among the values


@dataclass(frozen=True)
class Section:
    """A heading, how to read what follows, and a panel per dataset."""

    id: str
    heading: str
    name: str  # in the list of sections
    explanation: str
    panels: tuple[Panel, ...]
    folded: bool = True  # whether the tables are one click away, or what the section is about


def left_out_sentence(methods: Sequence[str]) -> str:
    """Which methods the config left out of a section; an empty text where it left out none."""
    return f" Left out by the config: {', '.join(methods)}." if methods else ""


def variants(systems: Sequence[System]) -> list[str]:
    """Variants of the methods, without those of references alone."""
    return list(dict.fromkeys(system.variant for system in systems if system.method not in REFERENCES))


def place(
    book: ScoreBook, study: str, dataset: str, variant: str, split: str, count: int | None = None
) -> str:
    """What a figure or a table is about: ``esc50, scratch/words, mean of 5 splits``.

    ``count``: how many splits the mean is over, where not all were measured.
    """
    count = book.split_count(study, dataset) if count is None else count
    return ", ".join(part for part in (dataset, variant, where(split, count)) if part)


def near(variant: str, split: str, splits: Sequence[str]) -> str:
    """What a sentence is about, on a page that names the dataset above it."""
    return ", ".join(part for part in (variant, f"split {split}" if len(splits) > 1 else "") if part)


def marked_up(figures: Sequence[str]) -> tuple[Markup, ...]:
    return tuple(Markup(svg.inline(figure)) for figure in figures)
