"""Who plays which part, and what each clip is: one label, or several.

Single-label datasets are split like those of the audio studies. Of a multi-label dataset the official train, validation
and test parts are taken as published (split ``official``; FSD50K).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foley import tables
from foley.classifiers.chunk_network import Targets
from foley.studies.audio.splits import (
    COLUMNS,
    OFFICIAL,
    ROLES,
    TEST,
    TRAIN,
    VALIDATION,
    Splits,
    partition_clips,
)
from foley.tables.clips import CLIPS
from foley.tables.diverse import LABELLED_CLIPS

log = logging.getLogger(__name__)


def label_clips(
    output: Path,
    *,
    clips: Path,
    classes: Path,
    split: str,
    settings: Splits,
    multi_label: bool,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the roles and classes of a dataset's clips in one split.

    Raises:
        ValueError: a label that is no class, or a split that the dataset does not have.
    """
    table = tables.read(clips, CLIPS, columns=COLUMNS)
    if not multi_label:
        rows = [
            {name: row[name] for name in ("clip_id", "recording_id", "role")}
            | {"class_ids": [row["class_id"]]}
            for row in partition_clips(table, split, settings)
        ]
    else:
        known = tables.read(classes, columns=["class_id", "label"])
        number_of = dict(zip(known["label"].to_pylist(), known["class_id"].to_pylist(), strict=True))
        rows = official_rows(table, number_of, split)
    tables.write(output, LABELLED_CLIPS, rows, provenance)


def official_rows(clips: pa.Table, number_of: Mapping[str, int], split: str) -> list[dict[str, Any]]:
    """Rows of LABELLED_CLIPS of a dataset with several labels a clip, by its official parts.

    Classes that no training clip has are taught by nothing, and are left out of the labels; a clip without any other
    plays no part. The log counts both.

    Raises:
        ValueError: another split, no official parts, no training or test clip, or a label that is no class.
    """
    if split != OFFICIAL:
        raise ValueError(
            f"split `{split}`: a dataset with several labels a clip has `{OFFICIAL}` alone; name it"
        )
    rows = []
    for row in clips.sort_by("clip_id").to_pylist():
        unknown = [label for label in row["labels"] if label not in number_of]
        if unknown:
            raise ValueError(f"clip {row['clip_id']}: label {unknown[0]!r} is no class of the dataset")
        if row["split"] in ROLES:
            rows.append(
                {
                    "clip_id": row["clip_id"],
                    "class_ids": sorted({number_of[label] for label in row["labels"]}),
                    "recording_id": row["recording_id"],
                    "role": row["split"],
                }
            )
    roles = Counter(row["role"] for row in rows)
    if not roles[TRAIN] or not roles[TEST]:
        raise ValueError(
            f"split {split}: {roles[TRAIN]} training and {roles[TEST]} test clips; the dataset needs official parts"
        )
    taught = {class_id for row in rows if row["role"] == TRAIN for class_id in row["class_ids"]}
    untaught = {class_id for row in rows for class_id in row["class_ids"]} - taught
    if untaught:
        log.warning("split %s: no training clip has the classes %s: left out", split, sorted(untaught))
    for row in rows:
        row["class_ids"] = [class_id for class_id in row["class_ids"] if class_id in taught]
    kept = [row for row in rows if row["class_ids"]]
    if len(kept) < len(rows):
        log.warning("split %s: %d clips have no other class and play no part", split, len(rows) - len(kept))
    log.info("split %s: %s, %d classes", split, dict(roles), len(taught))
    return kept


@dataclass(frozen=True)
class LabelledClips:
    """The clips of a split: ids [N], their role and recording, and what they are."""

    clip_ids: np.ndarray
    roles: np.ndarray
    recording_ids: np.ndarray
    class_ids: tuple[int, ...]  # ascending; a class's place is its number in a network
    targets: Targets

    def of_role(self, *roles: str) -> list[str]:
        return self.clip_ids[np.isin(self.roles, roles)].tolist()


def read_labelled(path: Path, multi_label: bool) -> LabelledClips:
    """What `label_clips` wrote."""
    table = tables.read(path, LABELLED_CLIPS)
    names, classes = table["clip_id"].to_pylist(), table["class_ids"].to_pylist()
    known = sorted({class_id for its in classes for class_id in its})
    place = {class_id: number for number, class_id in enumerate(known)}
    classes_of = {c: [place[i] for i in its] for c, its in zip(names, classes, strict=True)}
    return LabelledClips(
        np.array(names, dtype=object),
        np.array(table["role"].to_pylist(), dtype=object),
        np.array(table["recording_id"].to_pylist(), dtype=object),
        tuple(known),
        Targets(classes_of, len(known), multi_label),
    )


def rows_of(clip_ids: np.ndarray, clips: LabelledClips, role: str) -> np.ndarray:
    """Row numbers of the chunks whose clip plays a role."""
    wanted = frozenset(clips.of_role(role))
    return np.flatnonzero([c in wanted for c in clip_ids])


def parts_of(clip_ids: np.ndarray, clips: LabelledClips) -> dict[str, np.ndarray]:
    """Role -> row numbers of its chunks."""
    return {role: rows_of(clip_ids, clips, role) for role in (TRAIN, VALIDATION, TEST)}


def score_rows(system: str, clip_ids: Sequence[str] | np.ndarray, scores: np.ndarray) -> pa.Table:
    """Clip scores [N, classes] of a system as rows of CLIP_SCORES."""
    return pa.table(
        {
            "system": pa.array([system] * len(clip_ids), pa.string()),
            "clip_id": pa.array(list(clip_ids), pa.string()),
            "vector": tables.from_matrix(scores),
        }
    )
