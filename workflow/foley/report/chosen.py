"""What validation clips chose, in words: whose clips, with which prompts, how many, how filtered, at what cost.

All of it is known before the test clips are heard, and so is what the lead of the verdict names: the comparison in
which the chosen mix gained most on *validation* clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foley import tables
from foley.report.mixes import read_mix
from foley.report.scores import MEAN
from foley.report.study_words import words
from foley.tables.foundation import COSTS, MIX_CHOICE

_FILTERS = {"precision": "class filter", "clap": "CLAP filter", "active": "active generation"}


@dataclass(frozen=True)
class Chosen:
    """Of one recogniser and part of the real clips.

    text: what was chosen in how many splits, most often first, with its cost. From data: to be escaped.
    promise: accuracy of the chosen mixes on validation clips over that of real clips alone, mean of the splits.
    """

    text: str
    promise: float


class Choices:
    """All choices of the study and the costs of its sources.

    Args:
        choices: MIX_CHOICE tables.
        costs: COSTS tables.
    """

    def __init__(self, choices: Sequence[Path] = (), costs: Sequence[Path] = ()) -> None:
        self._choices = tables.read(list(choices), MIX_CHOICE).to_pylist() if choices else []
        self._costs = tables.read(list(costs), COSTS).to_pylist() if costs else []

    def of(self, study: str, dataset: str, variant: str, split: str) -> Chosen | None:
        """Of a split, or of all where it is their mean; None where nothing was chosen."""
        rows = [
            row
            for row in self._choices
            if (row["dataset"], row["variant"]) == (dataset, variant) and split in (row["split"], MEAN)
        ]
        splits = list(dict.fromkeys(row["split"] for row in rows))
        of_mix: dict[str, list[str]] = {}
        for row in rows:
            if row["chosen"]:
                of_mix.setdefault(row["method"], []).append(row["split"])
        if not of_mix:
            return None
        parts = []
        for method, its in sorted(of_mix.items(), key=lambda item: (-len(item[1]), item[0])):
            often = f", in {len(its)} of {len(splits)} splits" if len(splits) > 1 else ""
            parts.append(self._mix(dataset, method, its, often))
        real = words(study).baseline
        gains = [
            chosen["accuracy"] - alone["accuracy"]
            for chosen in rows
            for alone in rows
            if chosen["chosen"] and alone["method"] == real and alone["split"] == chosen["split"]
        ]
        return Chosen("; ".join(parts), sum(gains) / len(gains) if gains else 0.0)

    def _mix(self, dataset: str, method: str, splits: Sequence[str], often: str) -> str:
        mix = read_mix(method)
        if mix is None:
            return f"{method} clips alone{often}"
        spent = [
            row
            for row in self._costs
            if (row["dataset"], row["source"]) == (dataset, mix.source) and row["split"] in (None, *splits)
        ]
        name = mix.source
        if spent:
            name = spent[0]["generator"]
            if spent[0]["prompts"] is not None:
                name += f" with {spent[0]['prompts']} prompts"
        clips = f"{mix.amount} clip{'s' * (mix.amount != 1)} a class"
        how = f", {_FILTERS[mix.filter]}" if mix.filter else ""
        return f"{name}, {clips}{how}{often} ({_cost(spent)})"


def _cost(rows: Sequence[Mapping[str, Any]]) -> str:
    """What making all of a source's clips took."""
    if not rows:
        return "cost not known"
    times, devices = [row["compute_s"] for row in rows], {row["device"] for row in rows}
    unit = "s of training and sampling" if devices == {None} else "CPU s" if devices == {"cpu"} else "GPU s"
    parts = ["time not known" if None in times else f"{sum(times):,.0f} {unit}"]
    requests = sum(row["requests"] or 0 for row in rows)
    if requests:
        tokens = sum((row["input_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows)
        parts += [f"{requests:,} request{'s' * (requests != 1)}", f"{tokens:,} tokens"]
    return ", ".join(parts)
