"""A raw tree -> its manifest (one row a file) and its class table."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foley import tables
from foley.datasets.protocol import DatasetKind
from foley.datasets.tree import shard_of
from foley.tables.clips import RAW_CLIPS

log = logging.getLogger(__name__)


def index_dataset(
    manifest_path: Path,
    *,
    kind: DatasetKind,
    root: Path,
    shards: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Scan ``root`` and write the manifest, each file with its shard.

    Raises:
        FileNotFoundError: ``root`` is not a dataset of this kind.
        ValueError: nothing was found, or two files share a clip id.
    """
    kind.check(root)
    clips = kind.scan(root)
    if not clips:
        raise ValueError(f"{kind.title}: no audio files below {root}")
    doubled = [clip_id for clip_id, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
    if doubled:
        raise ValueError(f"{kind.title}: clip ids are not unique, for example {doubled[0]}")
    rows = [
        {
            "clip_id": clip.clip_id,
            "source": clip.source,
            "class_id": clip.class_id,
            "label": clip.label,
            "labels": list(clip.labels) if clip.labels is not None else [clip.label],
            "split": clip.split,
            "fold": clip.fold,
            "recording_id": clip.recording_id,
            "speaker_id": clip.speaker_id,
            "shard": shard_of(clip.source, shards),
        }
        for clip in clips
    ]
    tables.write(manifest_path, RAW_CLIPS, rows, provenance)
    log.info("%s: %d files, %d classes", kind.title, len(rows), len({clip.label for clip in clips}))
