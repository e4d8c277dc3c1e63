"""Measured values as the page prints them: cells, rows, tables and numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foley.report.scores import MEAN, Score
from foley.report.verdict import GAIN

# Metrics that are shown in per cent.
_SHARES = ("accuracy", "f1", "harmonic_mean", "recall", "precision", GAIN)
_WINDOW_ROWS = 40


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
    share: bool = True

    @property
    def text(self) -> str:
        if not self.share:
            return number(self.value) if self.std is None else f"{number(self.value)} ± {number(self.std)}"
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
    mark: str = ""  # ``best`` or ``noise``
    decimals: int | None = None  # of a number that is no share; None: four digits in all

    @property
    def text(self) -> str:
        if self.score is None:
            return "–"
        value = self.show(self.score.value)
        return value if self.seed_std is None else f"{value} ± {percent(self.seed_std)}"

    @property
    def interval(self) -> str:
        return "" if self.score is None else interval_text(self.score, self.show)

    def show(self, value: float) -> str:
        """A value as this cell prints it."""
        if not self.share:
            return number(value, self.decimals)
        return points(value) if self.signed else percent(value)

    @property
    def sort_key(self) -> str:
        return "" if self.score is None else repr(self.score.value)


class PValue(Cell):
    """A p value: three decimals, and never nought."""

    def show(self, value: float) -> str:
        return "< 0.001" if value < 0.001 else f"{value:.3f}"


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

    @property
    def tall(self) -> bool:
        """Whether it scrolls in a window of its own."""
        return len(self.rows) > _WINDOW_ROWS


def percent(value: float) -> str:
    return f"{100 * value:.1f}".replace("-", "−")


def points(value: float) -> str:
    """A difference in percentage points with its sign; what rounds to zero has none."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def number(value: float, decimals: int | None = None) -> str:
    return (f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}").replace("-", "−")


def is_share(metric: str) -> bool:
    return metric.startswith(_SHARES)


def where(split: str, count: int) -> str:
    return f"mean of {count} splits" if split == MEAN and count else f"split {split}" if split else ""


def interval_text(score: Score, show: Callable[[float], str]) -> str:
    """The interval in brackets, or nothing."""
    return "" if score.low is None or score.high is None else f"[{show(score.low)}, {show(score.high)}]"


def crosses_zero(score: Score) -> bool:
    """Whether the interval of a difference holds zero."""
    return score.low is not None and score.high is not None and score.low <= 0 <= score.high
