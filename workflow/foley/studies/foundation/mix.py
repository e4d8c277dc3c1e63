"""The names of mixes: what a recogniser learns from. Imports nothing heavy, so that a plan may ask it."""

from __future__ import annotations

from dataclasses import dataclass

REAL = "real"
ALL, PRECISION, CLAP, ACTIVE = FILTERS = ("none", "precision", "clap", "active")
CLEAN, PUBLISHED = PROTOCOLS = ("clean", "published")


@dataclass(frozen=True)
class Mix:
    """What a recogniser learns from.

    real_percent: part of the real training clips, %.
    source: id of the synthetic clips' source; none = real clips alone.
    amount: synthetic clips of each class, before the filter.
    filter: which of them are used (FILTERS).
    """

    real_percent: int
    source: str | None = None
    amount: int = 0
    filter: str = ALL

    def __post_init__(self) -> None:
        if not 0 <= self.real_percent <= 100:
            raise ValueError(f"real_percent must lie between 0 and 100, got {self.real_percent}")
        if self.filter not in FILTERS:
            raise ValueError(f"unknown filter `{self.filter}`; there are {', '.join(FILTERS)}")
        if (self.source is None) != (self.amount == 0):
            raise ValueError("a mix has a source and an amount of synthetic clips, or neither")
        if not self.real_percent and self.source is None:
            raise ValueError("a mix of no real and no synthetic clips leaves nothing to learn from")

    @property
    def name(self) -> str:
        """Its name beside mixes with as many real clips: ``real``, or ``<source>_<amount>[_<filter>]``."""
        if self.source is None:
            return REAL
        parts = [self.source, str(self.amount), *([self.filter] if self.filter != ALL else [])]
        return "_".join(parts)


def variant(recogniser: str, real_percent: int, protocol: str = CLEAN) -> str:
    """Name of what is compared with each other: one recogniser, given one part of the real clips."""
    return "/".join([recogniser, f"real={real_percent}%", *([protocol] if protocol != CLEAN else [])])
