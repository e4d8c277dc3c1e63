"""A dataset in numbers: counts, durations, classes, folds, what was refused and why, and what leaks.

The page and the dataset's card both show these, so both say the same.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foley import tables
from foley.audio.acoustic_hash import NO_HASH
from foley.datasets.leaks import BETWEENS, WHATS, is_claimed, ordered_sides, removed_duplicates
from foley.tables.classes import CLASSES, MISSING_WORDS
from foley.tables.clips import CLIPS, LEAKS, RAW_CLIPS, REJECTED

REJECTED_ROWS = 200  # shown on the page; the table holds all
_EXAMPLES = 3  # of each reason for a refusal
_LEAK_ROWS = 50
_BINS = 12


@dataclass(frozen=True)
class DatasetTables:
    """The tables of one dataset that the page reads, and what is known of it (see `Facts`)."""

    dataset: str
    clips: Path
    rejected: Path
    classes: Path
    gallery: Path | None = None
    missing_words: Sequence[Path] = ()
    leaks: Path | None = None
    manifest: Path | None = None
    facts: Mapping[str, Any] | None = None
    synthetic_galleries: Sequence[Path] = ()  # GALLERY of generated clips, see `pick_synthetic`


@dataclass(frozen=True)
class SourceFile:
    """A file that a dataset is downloaded as."""

    name: str
    size_bytes: int | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Facts:
    """What a dataset's publisher says of it."""

    title: str
    licence: str = "unknown"
    citation: str = ""
    url: str = ""
    published_clips: int | None = None
    by_hand: str = ""
    multi_label: bool = False
    claims: frozenset[tuple[str, str]] = frozenset()
    sources: tuple[SourceFile, ...] = ()

    @classmethod
    def of(cls, dataset: str, facts: Mapping[str, Any] | None) -> Facts:
        """From plain data; keys that are missing or empty keep their defaults, others than these are passed by."""
        known = {
            name: facts[name]
            for name in ("title", "licence", "citation", "url", "published_clips", "by_hand", "multi_label")
            if facts and facts.get(name)
        }
        sources = tuple(
            SourceFile(str(entry["name"]), entry.get("size_bytes"), entry.get("checksum"))
            for entry in (facts or {}).get("sources") or ()
        )
        claims = frozenset((str(what), str(between)) for what, between in (facts or {}).get("claims") or ())
        return cls(**{"title": dataset, **known}, claims=claims, sources=sources)


@dataclass(frozen=True)
class ClassBalance:
    """Clips of one class; with several labels a clip counts for each."""

    label: str
    clips: int
    recordings: int
    minutes: float


@dataclass(frozen=True)
class Side:
    """One fold or split: its clips, and of which class they are."""

    name: str
    clips: int
    hours: float
    recordings: int
    speakers: int
    per_class: Mapping[str, int]


@dataclass(frozen=True)
class Reason:
    """Why clips were refused, how many, and a few of them, of different classes where they are."""

    name: str
    count: int
    examples: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class LeakCheck:
    """Whether one thing is kept apart between folds or splits.

    state: ``holds`` or ``broken`` (claimed); ``none`` or ``found`` (not claimed); ``unknown`` (claimed, but the tables
        lack what it takes: see ``why``).
    """

    what: str
    between: str
    claimed: bool
    state: str
    found: int = 0
    clips: int = 0
    why: str = ""


@dataclass(frozen=True)
class DataSummary:
    """One dataset in numbers. Durations in seconds."""

    dataset: str
    facts: Facts
    labels: dict[int, str]
    listed: int | None  # rows of the manifest: what lay there before anything was refused
    accepted: int
    recordings: int
    speakers: int
    clips_per_speaker: tuple[int, float, int] | None  # least, median, most
    without_speaker: int
    hours: float
    shortest_s: float
    median_s: float
    longest_s: float
    histogram: tuple[tuple[float, float, int], ...]  # from, below, clips
    stored_rates_hz: tuple[int, ...]
    source_rates: tuple[tuple[int, int], ...]  # Hz, clips
    source_channels: tuple[tuple[int, int], ...]  # channels, clips
    balance: tuple[ClassBalance, ...]
    labels_per_clip: tuple[tuple[int, int], ...]  # labels, clips; empty for single-label data
    hierarchy: tuple[tuple[str, tuple[str, ...]], ...]  # a class or group, and the classes right below it
    sides: Mapping[str, tuple[Side, ...]]
    unplaced: Mapping[str, int]  # clips without a fold or a split, where others have one
    reasons: tuple[Reason, ...]
    rejected: int
    rejected_rows: tuple[dict[str, Any], ...]
    missing_words: tuple[tuple[str, str], ...]
    leak_checks: tuple[LeakCheck, ...]
    leak_rows: tuple[dict[str, Any], ...]
    leaks: int
    removed_duplicates: Mapping[str, int] = field(default_factory=dict)
    without_hash: int = 0

    @property
    def source_rates_hz(self) -> tuple[int, ...]:
        return tuple(rate for rate, _ in self.source_rates)

    @property
    def leak_state(self) -> str:
        """The worst of the checks: broken, found, unknown, holds, none; or unchecked, where there are none."""
        states = {check.state for check in self.leak_checks}
        return next((s for s in ("broken", "found", "unknown", "holds", "none") if s in states), "unchecked")


def summarise(dataset: DatasetTables) -> DataSummary:
    """Read the tables of one dataset into numbers."""
    facts = Facts.of(dataset.dataset, dataset.facts)
    clips = tables.read(dataset.clips, CLIPS)
    classes = tables.read(dataset.classes, CLASSES).to_pylist()
    labels = {row["class_id"]: row["label"] for row in classes}
    manifest = None if dataset.manifest is None else tables.read(dataset.manifest, RAW_CLIPS)
    rejected = tables.read(dataset.rejected, REJECTED)
    durations = clips["duration_s"].to_numpy()
    some = bool(len(durations))
    labelled = _a_row_a_label(clips)
    counts = _counted([len(found or ()) for found in clips["labels"].to_pylist()])
    several = facts.multi_label or any(number > 1 for number, _ in counts)
    speakers = Counter(speaker for speaker in clips["speaker_id"].to_pylist() if speaker)
    sides = {between: _sides(clips, labelled, between) for between in BETWEENS}
    leaks = [] if dataset.leaks is None else tables.read(dataset.leaks, LEAKS).to_pylist()
    hashes = [digest for digest in clips["acoustic_hash"].to_pylist() if digest not in (None, NO_HASH)]
    words = {
        (row["label"] or "", row["word"] or "")
        for path in dataset.missing_words
        for row in tables.read(path, MISSING_WORDS).to_pylist()
    }
    return DataSummary(
        dataset=dataset.dataset,
        facts=facts,
        labels=labels,
        listed=None if manifest is None else manifest.num_rows,
        accepted=clips.num_rows,
        recordings=len(clips["recording_id"].unique()),
        speakers=len(speakers),
        clips_per_speaker=_spread(list(speakers.values())),
        without_speaker=clips.num_rows - speakers.total() if speakers else 0,
        hours=float(durations.sum()) / 3600,
        shortest_s=float(durations.min()) if some else 0.0,
        median_s=float(np.median(durations)) if some else 0.0,
        longest_s=float(durations.max()) if some else 0.0,
        histogram=_histogram(durations),
        stored_rates_hz=tuple(rate for rate, _ in _counted(clips["sample_rate_hz"].to_pylist())),
        source_rates=_counted(clips["source_sample_rate_hz"].to_pylist()),
        source_channels=_counted(clips["source_channels"].to_pylist()),
        balance=_balance(labelled, labels.values()),
        labels_per_clip=counts if several else (),
        hierarchy=_hierarchy(classes),
        sides=sides,
        unplaced={b: clips[b].null_count if sides[b] else 0 for b in BETWEENS},
        reasons=_reasons(rejected),
        rejected=rejected.num_rows,
        rejected_rows=tuple(rejected.slice(0, REJECTED_ROWS).to_pylist()),
        missing_words=tuple(sorted(words)),
        leak_checks=()
        if dataset.leaks is None
        else tuple(
            check
            for between in BETWEENS
            for what in WHATS
            if (check := _check(what, between, facts.claims, leaks, sides[between], speakers, hashes))
        ),
        # What breaks a promise first, then what concerns most clips.
        leak_rows=tuple(sorted(leaks, key=lambda row: (not row["claimed"], -row["clips"]))[:_LEAK_ROWS]),
        leaks=len(leaks),
        removed_duplicates={} if manifest is None else removed_duplicates(rejected, manifest),
        without_hash=clips.num_rows - len(hashes) if hashes else 0,
    )


def _counted(values: Iterable[int | None]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(value for value in values if value is not None).items()))


def _spread(values: Sequence[int]) -> tuple[int, float, int] | None:
    return (min(values), float(np.median(values)), max(values)) if values else None


def _a_row_a_label(clips: pa.Table) -> pa.Table:
    """The clips with a row for each of their labels; a clip without a list has its one label."""
    names = ["label", "recording_id", "duration_s", *BETWEENS]
    listed = clips.filter(pc.greater(pc.fill_null(pc.list_value_length(clips["labels"]), 0), 0))
    plain = clips.filter(pc.equal(pc.fill_null(pc.list_value_length(clips["labels"]), 0), 0)).select(names)
    each = listed["labels"].combine_chunks()
    rows = listed.select(names).take(pc.list_parent_indices(each))
    rows = rows.set_column(0, "label", pc.cast(pc.list_flatten(each), pa.string()))
    return pa.concat_tables([rows.cast(plain.schema), plain])


def _balance(labelled: pa.Table, labels: Iterable[str]) -> tuple[ClassBalance, ...]:
    grouped = labelled.group_by("label", use_threads=False).aggregate(
        [("duration_s", "sum"), ("recording_id", "count_distinct"), ([], "count_all")]
    )
    found = {
        row["label"]: ClassBalance(
            row["label"], row["count_all"], row["recording_id_count_distinct"], row["duration_s_sum"] / 60
        )
        for row in grouped.to_pylist()
    }
    # A class that lost all its clips is what a reader must see, so classes without clips keep their row.
    empty = {label: ClassBalance(label, 0, 0, 0.0) for label in labels if label not in found}
    return tuple(sorted({**empty, **found}.values(), key=lambda row: row.label))


def _hierarchy(classes: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    below: dict[str, set[str]] = defaultdict(set)
    for row in classes:
        for parent in row["parents"] or ():
            below[parent].add(row["label"])
    return tuple((parent, tuple(sorted(below[parent]))) for parent in sorted(below))


def _sides(clips: pa.Table, labelled: pa.Table, between: str) -> tuple[Side, ...]:
    per_class: dict[Any, dict[str, int]] = defaultdict(dict)
    counts = labelled.group_by([between, "label"], use_threads=False).aggregate([([], "count_all")])
    for row in counts.to_pylist():
        per_class[row[between]][row["label"]] = row["count_all"]
    grouped = clips.group_by(between, use_threads=False).aggregate(
        [
            ("duration_s", "sum"),
            ("recording_id", "count_distinct"),
            ("speaker_id", "count_distinct", pc.CountOptions(mode="only_valid")),
            ([], "count_all"),
        ]
    )
    found = {row[between]: row for row in grouped.to_pylist() if row[between] is not None}
    return tuple(
        Side(
            name=str(side),
            clips=found[side]["count_all"],
            hours=found[side]["duration_s_sum"] / 3600,
            recordings=found[side]["recording_id_count_distinct"],
            speakers=found[side]["speaker_id_count_distinct"],
            per_class=per_class[side],
        )
        for side in ordered_sides(found)
    )


def _reasons(rejected: pa.Table) -> tuple[Reason, ...]:
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rejected.to_pylist():
        of[row["reason"]].append(row)
    found = []
    for name, rows in of.items():
        by_class = {row["label"]: row for row in reversed(rows)}  # the first of each class
        chosen = list(by_class.values())[::-1]
        chosen += [row for row in rows if all(row is not other for other in chosen)]
        found.append(Reason(name, len(rows), tuple(chosen[:_EXAMPLES])))
    return tuple(sorted(found, key=lambda reason: (-reason.count, reason.name)))


def _check(
    what: str,
    between: str,
    claims: frozenset[tuple[str, str]],
    leaks: Sequence[Mapping[str, Any]],
    sides: Sequence[Side],
    speakers: Mapping[str, int],
    hashes: Sequence[bytes],
) -> LeakCheck | None:
    """What there is to say of one pair; None where there is nothing to leak across and nothing was promised."""
    claimed = is_claimed(what, between, claims)
    why = ""
    if len(sides) < 2:
        why = f"there are no two {between}s"
    elif what == "speaker" and not speakers:
        why = "no speakers are known"
    elif what == "near_audio" and not hashes:
        why = "no clip has an acoustic hash"
    if why:
        return LeakCheck(what, between, claimed, "unknown", why=why) if claimed else None
    rows = [row for row in leaks if (row["what"], row["between"]) == (what, between)]
    state = ("broken" if rows else "holds") if claimed else ("found" if rows else "none")
    return LeakCheck(what, between, claimed, state, len(rows), sum(row["clips"] for row in rows))


def _edges(low: float, high: float) -> list[float]:
    """Round numbers around [low, high], at most `_BINS` steps: equal ones, or 1-2-5 where lengths differ much."""
    if high > 20 * max(low, 1e-3):
        scale = [
            factor * 10.0**power
            for power in range(math.floor(math.log10(max(low, 1e-3))), math.ceil(math.log10(high)) + 1)
            for factor in (1, 2, 5)
        ]
        first = max(number for number, edge in enumerate(scale) if edge <= max(low, 1e-3) * (1 + 1e-9))
        last = min(number for number, edge in enumerate(scale) if edge > high)
        return [0.0 if low < scale[first] else scale[first], *scale[first + 1 : last + 1]]
    span = max(high - low, 0.2 * high, 1e-3)
    power = 10.0 ** math.floor(math.log10(span / _BINS))
    step = next(power * k for k in (1, 2, 5, 10, 20) if span / (power * k) <= _BINS - 1)
    first, last = math.floor(low / step + 1e-9), math.floor(high / step + 1e-9) + 1
    return [number * step for number in range(first, last + 1)]


def _histogram(durations: np.ndarray) -> tuple[tuple[float, float, int], ...]:
    if not len(durations):
        return ()
    # To the millisecond: resampling leaves lengths that differ in the last digits.
    rounded = np.round(durations, 3)
    edges = np.round(_edges(float(rounded.min()), float(rounded.max())), 6)
    places = np.searchsorted(edges, rounded, side="right") - 1
    counts = np.bincount(places, minlength=len(edges) - 1)
    return tuple(
        (float(low), float(high), int(count))
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    )
