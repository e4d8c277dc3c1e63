"""Who speaks in which part of a split: no speaker and no recording on both sides.

A split of the audio studies keeps recordings apart. Here speakers are as well: what shares a speaker with the test part
leaves training and validation, and what shares one with the training part leaves validation. Official folds and lists
are made so that nothing has to leave; the test part always stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foley import tables
from foley.studies.audio.clips import named
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION, clips_in, leaking, read_partition
from foley.tables.clips import CLIPS
from foley.tables.speech import SPEECH_PARTITION

log = logging.getLogger(__name__)

SPEAKER = "speaker_id"
# Part of the training clips that may leave: past it the folds are none of speakers.
MOST_LOST = 0.5
# Clusters of the bootstrap are speakers where the test clips have so many; fewer say nothing of how speakers vary.
FEWEST_SPEAKERS = 8


def separate_speakers(
    output: Path, *, partition: Path, clips: Path, split: str, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write the split's partition with its speakers (SPEECH_PARTITION).

    Args:
        partition: the split's AUDIO_PARTITION.
        clips: the dataset's CLIPS, which know the speakers.

    Raises:
        ValueError: speakers lie on both sides of most training clips, or a class has no training clip left.
    """
    rows = read_partition(partition, split)
    table = tables.read(clips, CLIPS, columns=["clip_id", SPEAKER])
    speaker_of = dict(zip(table["clip_id"].to_pylist(), table[SPEAKER].to_pylist(), strict=True))
    spoken = [row | {SPEAKER: speaker_of.get(row["clip_id"])} for row in rows]
    kept = part_speakers(spoken, split)
    unknown = sum(row[SPEAKER] is None for row in kept)
    if unknown:
        log.warning(
            "split %s: %d of %d clips name no speaker: only recordings keep these apart",
            split, unknown, len(kept),
        )  # fmt: skip
    tables.write(output, SPEECH_PARTITION, kept, provenance)


def part_speakers(rows: Sequence[Mapping[str, Any]], split: str) -> list[dict[str, Any]]:
    """The rows without those that share a speaker across parts; see the module.

    Raises:
        ValueError: as :func:`separate_speakers`.
    """
    kept = [dict(row) for row in rows]
    before = len(clips_in(kept, TRAIN))
    for giving, keeping in ((TRAIN, TEST), (VALIDATION, TEST), (VALIDATION, TRAIN)):
        theirs = {row[SPEAKER] for row in kept if row["role"] == keeping} - {None}
        gone = [row for row in kept if row["role"] == giving and row[SPEAKER] in theirs]
        if gone:
            log.warning(
                "split %s: %d %s clips share a speaker with the %s part and are left out: %s",
                split, len(gone), giving, keeping, named(sorted({row[SPEAKER] for row in gone})),
            )  # fmt: skip
        lost = {row["clip_id"] for row in gone}
        kept = [row for row in kept if row["clip_id"] not in lost]
    trained = clips_in(kept, TRAIN)
    if len(trained) < (1 - MOST_LOST) * before:
        raise ValueError(
            f"split {split}: {before - len(trained)} of {before} training clips have a speaker who is tested, too: "
            "it does not part speakers; name folds or official parts that do"
        )
    untrained = sorted({row["class_id"] for row in kept} - set(trained.values()))
    if untrained:
        raise ValueError(
            f"split {split}: no training clip of the classes {untrained} is left whose speaker is not tested; leave "
            "these classes out, or add speakers"
        )
    return kept


def read_speech_partition(path: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split's partition.

    Raises:
        ValueError: a speaker or a recording has two roles.
    """
    read_partition(path, split)
    rows = tables.read(path, SPEECH_PARTITION).to_pylist()
    shared = sorted(leaking(rows, SPEAKER))
    if shared:
        raise ValueError(
            f"split {split} ({path}): {len(shared)} speakers have clips in two roles, so its accuracy would be too "
            f"high: {named(shared)}; delete the partition so that it is made again"
        )
    return rows


def clusters(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Test clip -> what is drawn as a whole by the bootstrap: its speaker, where ``FEWEST_SPEAKERS`` are tested, else
    its recording; also the recording of a clip that names no speaker."""
    tested = [row for row in rows if row["role"] == TEST]
    by_speaker = len({row[SPEAKER] for row in tested} - {None}) >= FEWEST_SPEAKERS
    return {
        row["clip_id"]: row[SPEAKER] if by_speaker and row[SPEAKER] is not None else row["recording_id"]
        for row in tested
    }
