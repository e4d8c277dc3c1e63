"""Names of the mixes of the study `foundation`, as the page reads them (`foley.studies.foundation.mix`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MIX = re.compile(r"(?P<source>.+)_(?P<amount>\d+)(?:_(?P<filter>precision|clap|active))?")
_VARIANT = re.compile(r"(?P<recogniser>.+)/real=(?P<percent>\d+)%(?P<protocol>/published)?")


@dataclass(frozen=True)
class MixName:
    """A source, clips of each class, and a filter (empty for none)."""

    source: str
    amount: int
    filter: str

    @property
    def unfiltered(self) -> str:
        return f"{self.source}_{self.amount}"


def read_mix(method: str) -> MixName | None:
    """None for a method that is no mix with synthetic clips: ``real``, ``chosen``, a reference."""
    match = _MIX.fullmatch(method)
    return None if match is None else MixName(match["source"], int(match["amount"]), match["filter"] or "")


def as_they_are(methods: Iterable[str]) -> list[str]:
    """The mix of each source that shows what its clips do: no filter, the largest amount. One a source."""
    largest: dict[str, tuple[int, str]] = {}
    for method in methods:
        mix = read_mix(method)
        if mix is not None and not mix.filter and mix.amount > largest.get(mix.source, (0, ""))[0]:
            largest[mix.source] = mix.amount, method
    return [method for _, method in largest.values()]


def tuned_on_test(variant: str) -> bool:
    """Whether weights were chosen on the test clips (protocol ``published``): such gains are no verdict."""
    match = _VARIANT.fullmatch(variant)
    return match is not None and match["protocol"] is not None


def read_variant(variant: str) -> tuple[str, int, str]:
    """Recogniser, percentage of real clips, and protocol (empty for the clean one)."""
    match = _VARIANT.fullmatch(variant)
    assert match is not None, variant
    return match["recogniser"], int(match["percent"]), (match["protocol"] or "").lstrip("/")
