"""What the page says of each dataset: counts, durations, class balance, and what was refused and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.tables.classes import CLASSES, MISSING_WORDS
from foley.tables.clips import CLIPS, REJECTED

REJECTED_ROWS = 200  # shown on the page; the table holds all


@dataclass(frozen=True)
class DatasetTables:
    """The tables of one dataset that the page reads."""

    dataset: str
    clips: Path
    rejected: Path
    classes: Path
    gallery: Path | None = None
    missing_words: Sequence[Path] = ()


@dataclass(frozen=True)
class ClassBalance:
    """Clips of one class."""

    label: str
    clips: int
    recordings: int
    minutes: float


@dataclass(frozen=True)
class DataSummary:
    """One dataset in numbers. Durations in seconds."""

    dataset: str
    labels: dict[int, str]
    accepted: int
    recordings: int
    speakers: int
    hours: float
    shortest_s: float
    median_s: float
    longest_s: float
    stored_rates_hz: tuple[int, ...]
    source_rates_hz: tuple[int, ...]
    balance: tuple[ClassBalance, ...]
    reasons: tuple[tuple[str, int], ...]
    rejected: int
    rejected_rows: tuple[dict[str, Any], ...]
    missing_words: tuple[tuple[str, str], ...]


def summarise(dataset: DatasetTables) -> DataSummary:
    """Read the tables of one dataset into numbers."""
    columns = ["class_id", "label", "recording_id", "speaker_id", "duration_s", "sample_rate_hz"]
    clips = tables.read(dataset.clips, CLIPS, [*columns, "source_sample_rate_hz"])
    labels = _labels(dataset.classes)
    durations = clips["duration_s"].to_numpy()
    grouped = (
        clips.group_by("label", use_threads=False)
        .aggregate([("duration_s", "sum"), ("recording_id", "count_distinct"), ([], "count_all")])
        .sort_by("label")
    )
    balance = {
        row["label"]: ClassBalance(
            row["label"], row["count_all"], row["recording_id_count_distinct"], row["duration_s_sum"] / 60
        )
        for row in grouped.to_pylist()
    }
    # A class that lost all its clips is what a reader must see, so classes without clips keep their row.
    empty = {label: ClassBalance(label, 0, 0, 0.0) for label in labels.values() if label not in balance}
    rejected = tables.read(dataset.rejected, REJECTED)
    reasons = rejected.group_by("reason", use_threads=False).aggregate([([], "count_all")]).to_pylist()
    words = {
        (row["label"] or "", row["word"] or "")
        for path in dataset.missing_words
        for row in tables.read(path, MISSING_WORDS).to_pylist()
    }
    some = bool(len(durations))
    return DataSummary(
        dataset=dataset.dataset,
        labels=labels,
        accepted=clips.num_rows,
        recordings=len(clips["recording_id"].unique()),
        speakers=len([s for s in clips["speaker_id"].unique().to_pylist() if s]),
        hours=float(durations.sum()) / 3600,
        shortest_s=float(durations.min()) if some else 0.0,
        median_s=float(np.median(durations)) if some else 0.0,
        longest_s=float(durations.max()) if some else 0.0,
        stored_rates_hz=_rates(clips["sample_rate_hz"]),
        source_rates_hz=_rates(clips["source_sample_rate_hz"]),
        balance=tuple(sorted({**empty, **balance}.values(), key=lambda row: row.label)),
        reasons=tuple(sorted(((r["reason"], r["count_all"]) for r in reasons), key=lambda r: (-r[1], r[0]))),
        rejected=rejected.num_rows,
        rejected_rows=tuple(rejected.slice(0, REJECTED_ROWS).to_pylist()),
        missing_words=tuple(sorted(words)),
    )


def _labels(classes: Path) -> dict[int, str]:
    rows = tables.read(classes, CLASSES, ["class_id", "label"]).to_pylist()
    return {row["class_id"]: row["label"] for row in rows}


def _rates(column: Any) -> tuple[int, ...]:
    return tuple(sorted(rate for rate in column.unique().to_pylist() if rate is not None))
