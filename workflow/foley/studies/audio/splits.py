"""Who plays which part in the audio studies: clips to learn from, to validate on and to test on.

A dataset with official folds has the splits ``fold<number>``: that fold tests, the next one in cyclic order validates,
the others train. One with official train and test parts has ``official``. Any other gets folds drawn by seed,
``fold1`` ... ``foldK``, with the classes about even, recordings whole and, of speech, speakers whole. Besides, all have
``random``, the way in which some published figures were made: clips are drawn one by one, so that clips of one
recording lie on both sides. Its accuracy also says how well recordings are known again, and it enters no mean with the
others.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foley import tables
from foley.runtime.seeds import derive
from foley.tables.audio_studies import AUDIO_PARTITION
from foley.tables.clips import CLIPS

log = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST = ROLES = ("train", "validation", "test")
RANDOM, OFFICIAL, FOLD = "random", "official", "fold"
# What the partition asks of the clips.
COLUMNS = ("clip_id", "class_id", "label", "labels", "recording_id", "speaker_id", "fold", "split")
# Drawn parts are whole numbers of folds, of so many at most.
_FINEST_FOLDS = 20
_NAMED = 8  # classes or recordings that an error names


@dataclass(frozen=True)
class Splits:
    """How splits are drawn where the dataset has none.

    folds: how many are drawn.
    seed: of all draws.
    test_fraction: of the clips, in ``random``; a fold is its own.
    validation_fraction: of the clips in ``random``; else of the training part, where no fold or official part is left
    to validate on.
    """

    folds: int = 5
    seed: int = 0
    test_fraction: float = 0.1
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(
                f"folds must be at least 2, one to test on and one to learn from; got {self.folds}"
            )
        for name in ("test_fraction", "validation_fraction"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"{name} must lie between 0 and 0.5, got {getattr(self, name)}")


@dataclass(frozen=True)
class OfficialParts:
    """What a dataset's publisher says: numbers of its folds, and whether it has train and test parts."""

    folds: tuple[int, ...] = ()
    train_test: bool = False


def official_parts(clips: pa.Table) -> OfficialParts:
    """What the clips themselves say. A single fold is none, and a train part without a test part is none either."""
    folds = tuple(sorted(number for number in clips["fold"].unique().to_pylist() if number is not None))
    parts = set(clips["split"].unique().to_pylist())
    return OfficialParts(folds if len(folds) > 1 else (), {TRAIN, TEST} <= parts)


def split_names(official: OfficialParts, settings: Splits) -> list[str]:
    """The splits of a dataset, ``random`` last. Official folds come before official parts.

    Needs no data, so that a plan may ask it for a dataset whose official parts are known beforehand.
    """
    if official.folds:
        names = [f"{FOLD}{number}" for number in official.folds]
    elif official.train_test:
        names = [OFFICIAL]
    else:
        names = [f"{FOLD}{number}" for number in range(1, settings.folds + 1)]
    return [*names, RANDOM]


def is_fold(split: str) -> bool:
    """Whether a split is one of several that are averaged."""
    return split.startswith(FOLD) and split.removeprefix(FOLD).isdigit()


def partition_clips(clips: pa.Table, split: str, settings: Splits) -> list[dict[str, Any]]:
    """Each clip's role in ``split``: rows of AUDIO_PARTITION, ordered by clip.

    Outside ``random`` no recording has two roles. Official folds of real datasets break this for a few recordings
    (ESC-50, UrbanSound8K): the test part stays as published, and what shares a recording with it is left out of
    training and validation; so are validation clips that share one with the training part. Where a class would have no
    training clip, its validation recordings train. Clips without an official part, where others have one, are left
    out. A log line counts each.

    Raises:
        ValueError: the dataset has no such split (names those that it has), a class has no training clip, a clip has
            several labels, or there are too few recordings for the folds.
    """
    rows = clips.select(list(COLUMNS)).sort_by("clip_id").to_pylist()
    _refuse_unlabelled(rows)
    official = official_parts(clips)
    names = split_names(official, settings)
    if split not in names:
        raise ValueError(
            f"split `{split}`: the dataset has {', '.join(f'`{name}`' for name in names)}; name these"
        )
    roles = _roles(rows, split, official, settings)
    if split != RANDOM:
        _part_recordings(rows, roles, split)
    lost = sum(role is None for role in roles)
    if lost:
        log.warning("split %s: %d of %d clips play no part", split, lost, len(rows))
    kept = [
        {name: row[name] for name in ("clip_id", "class_id", "recording_id")} | {"role": role}
        for row, role in zip(rows, roles, strict=True)
        if role is not None
    ]
    labels = {row["class_id"]: row["label"] for row in rows}
    gone = [labels[class_id] for class_id in labels.keys() - set(classes_in(kept))]
    if gone:
        log.warning("split %s: no clip of these classes plays a part: %s", split, _named(gone))
    _refuse_untrained(kept, labels, split)
    shared = leaking_recordings(kept)
    if split == RANDOM:
        tested = [row for row in kept if row["role"] == TEST]
        leaked = sum(row["recording_id"] in shared for row in tested)
        log.info(
            "split %s: %d of %d test clips share their recording with others", split, leaked, len(tested)
        )
    else:
        _refuse_leaks(shared, split)
    counts = Counter(row["role"] for row in kept)
    if not counts[VALIDATION]:
        log.warning("split %s: no recording is left to validate on", split)
    log.info("split %s: %s", split, {role: counts[role] for role in ROLES})
    return kept


def split_clips(
    output: Path, *, clips: Path, split: str, settings: Splits, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write the partition of a clip table; see :func:`partition_clips`."""
    table = tables.read(clips, CLIPS, columns=COLUMNS)
    tables.write(output, AUDIO_PARTITION, partition_clips(table, split, settings), provenance)


def read_partition(path: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split's partition.

    Raises:
        ValueError: a recording has two roles, though the split is not ``random``.
    """
    rows = tables.read(path, AUDIO_PARTITION).to_pylist()
    if split != RANDOM:
        _refuse_leaks(leaking_recordings(rows), f"{split} ({path})")
    return rows


def clips_in(rows: Iterable[Mapping[str, Any]], *roles: str) -> dict[str, int]:
    """Clip id -> class id of the clips that play one of ``roles``."""
    return {row["clip_id"]: row["class_id"] for row in rows if row["role"] in roles}


def classes_in(rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """The classes of a split, ascending: a class's place is its number in a classifier."""
    return sorted({row["class_id"] for row in rows})


def leaking_recordings(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """Recordings with clips in two roles."""
    return leaking(rows, "recording_id")


def leaking(rows: Iterable[Mapping[str, Any]], key: str) -> set[str]:
    """Values of a column, such as speakers, with clips in two roles; clips without one share nothing."""
    roles: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row[key] is not None:
            roles[row[key]].add(row["role"])
    return {value for value, its in roles.items() if len(its) > 1}


def draw_folds(
    class_ids: Sequence[int],
    recording_ids: Sequence[str],
    count: int,
    seed: int,
    names: Sequence[object] = (),
) -> np.ndarray:
    """The fold (1 ... count) of each clip [N]: recordings whole, classes about even.

    scikit-learn's StratifiedGroupKFold: recordings, in an order drawn by seed and then those of the most uneven
    classes first, go one by one to the fold where the spread of the classes over the folds stays smallest.

    Raises:
        ValueError: fewer recordings than folds, no class with as many clips, or a fold that stays empty.
    """
    recordings = len(set(recording_ids))
    most = max(Counter(class_ids).values(), default=0)
    if min(recordings, most) < count:
        raise ValueError(
            f"{count} folds of {recordings} recordings, {most} clips in the largest class: take "
            f"{min(recordings, most)} folds or fewer, or add recordings"
        )
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(
        count, shuffle=True, random_state=derive(seed, "audio folds", *names) % 2**32
    )
    fold = np.zeros(len(class_ids), dtype=np.int64)
    with warnings.catch_warnings():
        # Of classes with fewer clips than folds: the partition itself sees to these.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, rows) in enumerate(splitter.split(class_ids, class_ids, recording_ids), start=1):
            if not len(rows):
                raise ValueError(f"no recording is left for fold {number} of {count}; take fewer folds")
            fold[rows] = number
    return fold


def _roles(
    rows: Sequence[Mapping[str, Any]], split: str, official: OfficialParts, settings: Splits
) -> list[str | None]:
    """The role of each clip, as published or drawn."""
    if split == RANDOM:
        return _random_roles(len(rows), settings)
    if split == OFFICIAL:
        roles = [row["split"] if row["split"] in ROLES else None for row in rows]
    else:
        folds: Sequence[int | None] = (
            [row["fold"] for row in rows]
            if official.folds
            else draw_folds(*_columns(rows), settings.folds, settings.seed).tolist()
        )
        numbers = list(official.folds) or list(range(1, settings.folds + 1))
        place = numbers.index(int(split.removeprefix(FOLD)))
        role_of: dict[int | None, str] = dict.fromkeys(numbers, TRAIN)
        if len(numbers) > 2:
            role_of[numbers[(place + 1) % len(numbers)]] = VALIDATION
        role_of[numbers[place]] = TEST
        roles = [role_of.get(fold) for fold in folds]
    if VALIDATION not in roles:
        _draw_validation(rows, roles, split, settings)
    return roles


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[str]]:
    """Class of each clip, and what it is drawn with."""
    return [row["class_id"] for row in rows], whole_groups(rows)


def whole_groups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of what is drawn as a whole: clips that share a recording or a speaker, in however many steps; the
    recordings themselves where no clip names a speaker."""
    if all(row["speaker_id"] is None for row in rows):
        return [row["recording_id"] for row in rows]
    above: dict[tuple[str, str], tuple[str, str]] = {}

    def top(node: tuple[str, str]) -> tuple[str, str]:
        while above.setdefault(node, node) != node:
            node = above[node]
        return node

    for row in rows:
        if row["speaker_id"] is not None:
            recording, speaker = top(("recording", row["recording_id"])), top(("speaker", row["speaker_id"]))
            above[max(recording, speaker)] = min(recording, speaker)
    return [" ".join(top(("recording", row["recording_id"]))) for row in rows]


def _random_roles(count: int, settings: Splits) -> list[str | None]:
    tested, validated = (
        max(1, round(fraction * count)) for fraction in (settings.test_fraction, settings.validation_fraction)
    )
    roles: list[str | None] = [TRAIN] * count
    order = np.random.default_rng(derive(settings.seed, "audio split", RANDOM)).permutation(count).tolist()
    for place, row in enumerate(order[: tested + validated]):
        roles[row] = TEST if place < tested else VALIDATION
    return roles


def _draw_validation(
    rows: Sequence[Mapping[str, Any]], roles: list[str | None], split: str, settings: Splits
) -> None:
    """Some folds of the training part become the validation part; with too few recordings it stays empty."""
    tested = {row["recording_id"] for row, role in zip(rows, roles, strict=True) if role == TEST}
    places = [
        place
        for place, role in enumerate(roles)
        if role == TRAIN and rows[place]["recording_id"] not in tested
    ]
    class_ids, recordings = _columns([rows[place] for place in places])
    most = min(len(set(recordings)), max(Counter(class_ids).values(), default=0), _FINEST_FOLDS)
    share = Fraction(settings.validation_fraction).limit_denominator(max(most, 1))
    if most < 2:
        return
    # A fraction that is below one of the folds that can be had becomes one fold.
    share = share if share.numerator else Fraction(1, most)
    folds = draw_folds(class_ids, recordings, share.denominator, settings.seed, ["validation", split])
    for place, fold in zip(places, folds, strict=True):
        if fold <= share.numerator:
            roles[place] = VALIDATION


def _part_recordings(rows: Sequence[Mapping[str, Any]], roles: list[str | None], split: str) -> None:
    """Take the role from clips that share a recording with the test part, or with the training part; then give
    classes without training clips those that they would validate on."""

    def recordings(role: str) -> set[str]:
        return {row["recording_id"] for row, its in zip(rows, roles, strict=True) if its == role}

    for giving, keeping in ((TRAIN, TEST), (VALIDATION, TEST), (VALIDATION, TRAIN)):
        kept = recordings(keeping)
        shared = [
            place
            for place, role in enumerate(roles)
            if role == giving and rows[place]["recording_id"] in kept
        ]
        for place in shared:
            roles[place] = None
        if shared:
            log.warning(
                "split %s: %d %s clips share a recording with the %s part and are left out: %s",
                split, len(shared), giving, keeping, _named({rows[place]["recording_id"] for place in shared}),
            )  # fmt: skip
    trained = {row["class_id"] for row, role in zip(rows, roles, strict=True) if role == TRAIN}
    saved = {
        row["recording_id"]
        for row, role in zip(rows, roles, strict=True)
        if role == VALIDATION and row["class_id"] not in trained
    }
    for place, role in enumerate(roles):
        if role == VALIDATION and rows[place]["recording_id"] in saved:
            roles[place] = TRAIN
    if saved:
        log.warning(
            "split %s: the recordings %s train and don't validate: their classes have no others to learn from",
            split, _named(saved),
        )  # fmt: skip


def _refuse_unlabelled(rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        if len(row["labels"] or ()) > 1:
            raise ValueError(
                f"clip {row['clip_id']} has several labels ({', '.join(row['labels'])}); the audio studies need one "
                "label a clip"
            )
        if row["class_id"] is None:
            raise ValueError(
                f"clip {row['clip_id']} has no class number; check its label {row['label']!r} against the class table"
            )
    if len({row["class_id"] for row in rows}) < 2:
        raise ValueError("the audio studies need clips of two classes at least, to tell them apart")


def _refuse_untrained(rows: Sequence[Mapping[str, Any]], labels: Mapping[int, str], split: str) -> None:
    trained = set(clips_in(rows, TRAIN).values())
    lacking = [class_id for class_id in classes_in(rows) if class_id not in trained]
    if lacking:
        recordings = {
            c: len({row["recording_id"] for row in rows if row["class_id"] == c}) for c in lacking[:_NAMED]
        }
        told = ", ".join(f"`{labels[c]}` ({count} recordings)" for c, count in recordings.items())
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        raise ValueError(
            f"split {split}: all clips of the class {told}{more} are tested, so none is left to learn from; add "
            "recordings of it, or leave it out of the dataset"
        )
    if not any(row["role"] == TEST for row in rows):
        raise ValueError(f"split {split}: no clip is tested; add clips")


def _refuse_leaks(shared: Iterable[str], split: str) -> None:
    shared = set(shared)
    if shared:
        raise ValueError(
            f"split {split}: {len(shared)} recordings have clips in two roles, so its accuracy would be too high: "
            f"{_named(shared)}; delete the partition so that it is made again"
        )


def _named(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
