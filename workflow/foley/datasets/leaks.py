"""Leaks: what lies on both sides of official folds or splits, so that a test hears what was trained on.

Four things can: equal audio, nearly equal audio (resampled, re-encoded, louder), clips of one recording, and clips of
one speaker. All are looked for in every dataset; only those that a dataset claims to keep apart make an error.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from foley import tables
from foley.audio.acoustic_hash import BITS, NO_HASH
from foley.tables.clips import CLIPS, LEAKS, RAW_CLIPS, REJECTED

log = logging.getLogger(__name__)

WHATS = ("audio", "near_audio", "recording", "speaker")
BETWEENS = ("fold", "split")
# Hashes that differ in at most so many of 256 bits are copies. Measured on 3,893 clips of ESC-50, Speech Commands and
# EmoDB: copies through 8 to 48 kHz, Ogg Vorbis and MP3 differ in at most 39 bits. Of 60.9 million pairs of clips of one
# or two seconds, 24 differ in at most 56 bits, all of them true copies; the next two in 63 and 64.
NEAR_BITS = 56
CLIP_IDS = 20  # kept in a row of the table
_WORST = 3  # named in an error
_COLUMNS = ("dataset", "clip_id", "split", "fold", "recording_id", "speaker_id", "duration_s", "sha256")
_SPLIT_ORDER = ("train", "validation", "test")
# Clips compared at a time: a block of products stays in the processor's cache.
_BLOCK = 1024
_THE_SAME = re.compile(r"the same samples as (.+)")

Claims = Collection[Sequence[str]]
Progress = Callable[[Iterable[Any]], Iterable[Any]]


class LeakError(ValueError):
    """Folds or splits share what their dataset claims to keep apart."""


def is_claimed(what: str, between: str, claims: Claims) -> bool:
    """Whether a dataset with these claims promises it; who promises no equal audio promises no copies either."""
    pairs = {tuple(claim) for claim in claims}
    return (what, between) in pairs or (what == "near_audio" and ("audio", between) in pairs)


def _check_claims(claims: Claims) -> None:
    for claim in claims:
        if len(claim) != 2 or claim[0] not in WHATS or claim[1] not in BETWEENS:
            raise ValueError(f"claims are pairs of one of {WHATS} and one of {BETWEENS}, got {list(claim)}")


def ordered_sides(sides: Iterable[Any]) -> list[Any]:
    """Folds by number; splits as train, validation, test, then the others by name."""

    def key(side: Any) -> tuple[int, Any]:
        if isinstance(side, int):
            return (0, side)
        return (_SPLIT_ORDER.index(side), "") if side in _SPLIT_ORDER else (len(_SPLIT_ORDER), str(side))

    return sorted(sides, key=key)


# ---- groups of clips that are copies ----


class _Groups:
    """Union-find over clips 0 … n-1; a group is named by its smallest member."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, one: int, other: int) -> None:
        one, other = self.find(one), self.find(other)
        if one != other:
            self._parent[max(one, other)] = min(one, other)

    def join_pairs(self, ones: np.ndarray, others: np.ndarray) -> None:
        """Join many pairs: their own groups first, by a library, so that a million pairs take no million steps."""
        nodes, edges = np.unique(np.concatenate([ones, others]), return_inverse=True)
        half = len(ones)
        graph = coo_matrix((np.ones(half, np.int8), (edges[:half], edges[half:])), (len(nodes), len(nodes)))
        _, part = connected_components(graph, directed=False)
        _, first = np.unique(part, return_index=True)
        for node, leader in zip(nodes.tolist(), nodes[first][part].tolist(), strict=True):
            self.join(node, leader)

    def members(self) -> dict[int, list[int]]:
        """Groups of two or more, in order."""
        found: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            found[self.find(item)].append(item)
        return {root: items for root, items in found.items() if len(items) > 1}


def _equal_audio(clips: Mapping[str, list[Any]]) -> _Groups:
    """Clips with equal samples, or from files with equal bytes."""
    groups = _Groups(len(clips["sha256"]))
    for column in ("sha256", "source_sha256"):
        first: dict[str, int] = {}
        for number, digest in enumerate(clips[column]):
            if digest is not None:
                groups.join(first.setdefault(digest, number), number)
    return groups


def _may_match(shorter_s: np.ndarray | float, longer_s: np.ndarray | float) -> Any:
    """Copies have the same length but for what codecs and resamplers add at the ends."""
    return longer_s - shorter_s <= np.maximum(0.1, 0.02 * longer_s)


@dataclass(frozen=True)
class _Block:
    """Hashes that are compared at once: consecutive in an order by sides and duration."""

    rows: np.ndarray  # [n] numbers of the hashes
    signs: np.ndarray  # [n, BITS] float32 of ±1
    durations_s: np.ndarray  # [n]
    sides: np.ndarray  # [n, B]; see `near_pairs`

    def apart_from(self, other: _Block) -> bool:
        """Whether no pair of the two can lie on different sides and be equally long."""
        lows = self.durations_s.min(), other.durations_s.min()
        highs = self.durations_s.max(), other.durations_s.max()
        near, far = (highs[0], lows[1]) if lows[1] >= lows[0] else (highs[1], lows[0])
        if far > near and not _may_match(near, far):
            return True
        return all(
            (first == first[0]).all() and (second == first[0]).all() and first[0] != _SEVERAL
            for first, second in zip(self.sides.T, other.sides.T, strict=True)
        )


_NO_SIDE, _SEVERAL = -1, -2


def _crossing(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which pairs of sides differ: neither without a side, and not both the same one."""
    known = (ones != _NO_SIDE) & (others != _NO_SIDE)
    return known & ((ones != others) | (ones == _SEVERAL))


def near_pairs(
    hashes: np.ndarray,
    durations_s: np.ndarray,
    sides: np.ndarray,
    *,
    most_bits: int = NEAR_BITS,
    progress: Progress = iter,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of near-equal hashes that lie on different sides, a block of pairs at a time; exact.

    With ±1 for bits, a scalar product is 256 - 2 x distance, so a matrix product compares a thousand hashes with a
    thousand. Blocks hold one side and similar durations, so most pairs that cannot matter are never compared. Memory
    is that of a few blocks.

    Args:
        hashes: uint8 [N, 32].
        durations_s: [N].
        sides: int [N, B], a side for each of B ways to divide; -1 for none, -2 for several.
        most_bits: largest distance of a pair.
    """
    order = np.lexsort((durations_s, *sides.T[::-1]))

    def block(start: int) -> _Block:
        rows = order[start : start + _BLOCK]
        signs = 2 * np.unpackbits(hashes[rows], axis=1).astype(np.float32) - 1
        return _Block(rows, signs, durations_s[rows], sides[rows])

    starts = range(0, len(order), _BLOCK)
    for number in progress(range(len(starts))):
        one = block(starts[number])
        for start in starts[number:]:
            other = block(start)
            if one.apart_from(other):
                continue
            products = one.signs @ other.signs.T
            least = BITS - 2 * most_bits
            if products.max() < least:
                continue
            left, right = np.nonzero(products >= least)
            if other.rows[0] == one.rows[0]:
                left, right = left[left < right], right[left < right]
            pair_s = np.sort([one.durations_s[left], other.durations_s[right]], axis=0)
            keep = _may_match(pair_s[0], pair_s[1])
            keep &= _crossing(one.sides[left], other.sides[right]).any(axis=1)
            if keep.any():
                yield one.rows[left[keep]], other.rows[right[keep]]


def _near_audio(
    clips: Mapping[str, list[Any]], equal: _Groups, sides: Mapping[str, list[Any]], progress: Progress
) -> dict[str, list[list[int]]]:
    """Groups of clips whose audio is near-equal across sides, for each way to divide."""
    # Clips with equal audio are one item, which may lie on several sides.
    items: dict[int, list[int]] = defaultdict(list)
    for number, digest in enumerate(clips["acoustic_hash"]):
        if digest is not None and digest != NO_HASH:
            items[equal.find(number)].append(number)
    members = list(items.values())
    if len(members) < 2:
        return {between: [] for between in BETWEENS}
    first = [numbers[0] for numbers in members]
    hashes = np.frombuffer(b"".join(clips["acoustic_hash"][n] for n in first), np.uint8).reshape(
        len(first), -1
    )
    durations = np.array([clips["duration_s"][n] for n in first])
    codes = np.empty((len(first), len(BETWEENS)), np.int64)
    for column, between in enumerate(BETWEENS):
        code_of = {side: code for code, side in enumerate(dict.fromkeys(sides[between])) if side is not None}
        for row, numbers in enumerate(members):
            found = {code_of[side] for n in numbers if (side := sides[between][n]) is not None}
            codes[row, column] = _NO_SIDE if not found else _SEVERAL if len(found) > 1 else found.pop()
    groups = [_Groups(len(first)) for _ in BETWEENS]
    for ones, others in near_pairs(hashes, durations, codes, progress=progress):
        for column, group in enumerate(groups):
            cross = _crossing(codes[ones, column], codes[others, column])
            if cross.any():
                group.join_pairs(ones[cross], others[cross])
    return {
        between: [sorted(n for item in found for n in members[item]) for found in group.members().values()]
        for between, group in zip(BETWEENS, groups, strict=True)
    }


# ---- the table ----


def find_leaks(clips: pa.Table, claims: Claims = (), *, progress: Progress = iter) -> list[dict[str, Any]]:
    """Rows of LEAKS: what occurs in more than one fold, and what in more than one split.

    - ``audio``: clips with equal samples, or from equal files.
    - ``near_audio``: clips of similar length whose acoustic hashes differ in at most `NEAR_BITS` bits, with one on
      another side; clips without such a hash (silent, or never changing) are left out.
    - ``recording`` and ``speaker``: by their ids.

    What is shared within a fold or a split is no leak, nor is a clip without a fold or a split.

    Args:
        clips: CLIPS of one dataset.
        claims: what the dataset promises to keep apart, pairs of (what, between).

    Raises:
        ValueError: a claim is none.
    """
    _check_claims(claims)
    table = clips.sort_by("clip_id")
    columns = {name: table[name].to_pylist() for name in (*_COLUMNS, "source_sha256", "acoustic_hash")}
    sides = {between: columns[between] for between in BETWEENS}
    equal = _equal_audio(columns)
    near = _near_audio(columns, equal, sides, progress)
    rows = []
    for between in BETWEENS:
        found: dict[str, dict[str, list[int]]] = {
            # A group is named by the hash of its first clip, which no other group has.
            "audio": {columns["sha256"][root]: numbers for root, numbers in equal.members().items()},
            "near_audio": {columns["sha256"][numbers[0]]: numbers for numbers in near[between]},
            "recording": _by_value(columns["recording_id"]),
            "speaker": _by_value(columns["speaker_id"]),
        }
        for what, groups in found.items():
            for key, numbers in groups.items():
                inside = [n for n in numbers if sides[between][n] is not None]
                different = ordered_sides({sides[between][n] for n in inside})
                if len(different) < 2:
                    continue
                rows.append(
                    {
                        "dataset": columns["dataset"][inside[0]],
                        "what": what,
                        "between": between,
                        "key": key,
                        "sides": [str(side) for side in different],
                        "clip_ids": _some_of_each(inside, sides[between], columns["clip_id"]),
                        "clips": len(inside),
                        "claimed": is_claimed(what, between, claims),
                    }
                )
    return rows


def _by_value(values: Sequence[str | None]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for number, value in enumerate(values):
        if value:
            found[value].append(number)
    return found


def _some_of_each(numbers: Sequence[int], sides: Sequence[Any], ids: Sequence[str]) -> list[str]:
    """At most `CLIP_IDS` ids, taken from each side in turn: the first of a long list may all lie on one side."""
    queues: dict[Any, list[int]] = defaultdict(list)
    for number in numbers:
        queues[sides[number]].append(number)
    turns = [(turn, number) for queue in queues.values() for turn, number in enumerate(queue[:CLIP_IDS])]
    return sorted(ids[number] for _, number in sorted(turns)[:CLIP_IDS])


def removed_duplicates(rejected: pa.Table, manifest: pa.Table) -> dict[str, int]:
    """How many clips were refused as duplicates of a clip in another fold, and in another split.

    They leak no more, but whoever uses the dataset as published has them.
    """
    places = {
        clip_id: (fold, split)
        for clip_id, fold, split in zip(
            *(manifest[name].to_pylist() for name in ("clip_id", "fold", "split")), strict=True
        )
    }
    counts = dict.fromkeys(BETWEENS, 0)
    for clip_id, reason, detail in zip(
        *(rejected[name].to_pylist() for name in ("clip_id", "reason", "detail")), strict=True
    ):
        same = _THE_SAME.match(detail or "") if reason == "duplicate" else None
        here, there = places.get(clip_id), places.get(same[1]) if same else None
        if here is None or there is None:
            continue
        for between, one, other in zip(BETWEENS, here, there, strict=True):
            counts[between] += one is not None and other is not None and one != other
    return counts


def check_leaks(
    output: Path,
    *,
    dataset: str,
    clips: Path,
    rejected: Path,
    claims: Claims,
    policy: str,
    manifest: Path | None = None,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the LEAKS of a dataset, and fail where they break what it claims.

    Args:
        output: table to write.
        clips: CLIPS of the dataset.
        rejected: its REJECTED; with ``manifest`` the log says how many duplicates across sides lie there.
        claims: what the dataset promises to keep apart, pairs of (what, between).
        policy: ``fail`` or ``report``, what to do where a promise is broken.

    Raises:
        LeakError: a promise is broken and the policy is ``fail``; the table is written first.
        ValueError: a claim or the policy is none.
    """
    if policy not in ("fail", "report"):
        raise ValueError(f"datasets.{dataset}.leaks must be fail or report, got {policy!r}")
    table = tables.read(clips, CLIPS, [*_COLUMNS, "source_sha256", "acoustic_hash"])
    rows = find_leaks(table, claims, progress=progress)
    tables.write(output, LEAKS, rows, provenance)
    counts = Counter((row["what"], row["between"], row["claimed"]) for row in rows)
    for (what, between, claimed), count in sorted(counts.items()):
        log.info(
            "%s: %s across %ss%s", dataset, _count(what, count), between, " (claimed)" if claimed else ""
        )
    if manifest is not None:
        refused = tables.read(rejected, REJECTED, ["clip_id", "reason", "detail"])
        removed = removed_duplicates(refused, tables.read(manifest, RAW_CLIPS, ["clip_id", "fold", "split"]))
        for between, count in removed.items():
            if count:
                log.info("%s: %d duplicates across %ss were refused before", dataset, count, between)
    broken = sorted((row for row in rows if row["claimed"]), key=lambda row: (-row["clips"], row["key"]))
    if not broken:
        return
    # Snakemake removes the outputs of a failed job, so the rows go into the log and the worst into the message.
    report = log.error if policy == "fail" else log.warning
    for row in broken:
        report("%s leaks across %ss: %s", dataset, row["between"], _describe(row))
    if policy == "report":
        return
    parts = []
    for what in WHATS:
        for between in BETWEENS:
            mine = [row for row in broken if (row["what"], row["between"]) == (what, between)]
            if mine:
                worst = "; ".join(map(_describe, mine[:_WORST]))
                parts.append(f"{_count(what, len(mine))} across {between}s ({worst})")
    raise LeakError(
        f"dataset {dataset} claims to keep these apart and does not: {', '.join(parts)}. Take the clips out or mend "
        f"their folds or splits (the log lists all of them), or go on with datasets.{dataset}.leaks: report"
    )


def _count(what: str, count: int) -> str:
    one, many = {
        "audio": ("clip with equal copies", "clips with equal copies"),
        "near_audio": ("clip with near-equal copies", "clips with near-equal copies"),
        "recording": ("recording", "recordings"),
        "speaker": ("speaker", "speakers"),
    }[what]
    return f"{count:,} {one if count == 1 else many}"


def _describe(row: Mapping[str, Any]) -> str:
    """A row in words: `recording 1234 in folds 1, 2: 5 clips, among them a, b, c`."""
    named = f"{row['what']} {row['key']}" if row["what"] in ("recording", "speaker") else row["what"]
    ids = ", ".join(row["clip_ids"][:4])
    text = (
        f"{named} in {row['between']}s {', '.join(row['sides'])}: {row['clips']} clips, "
        f"{'' if row['clips'] <= 4 else 'among them '}{ids}"
    )
    return " ".join(text.split())  # one line, whatever a recording is called
