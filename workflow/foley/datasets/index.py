"""A raw tree -> its manifest (one row a clip) and its class table."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from foley import tables
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, has_suffix, walk_files
from foley.datasets.tree import shard_of
from foley.tables.clips import RAW_CLASSES, RAW_CLIPS

log = logging.getLogger(__name__)

# Rows of a shard that are in memory at a time.
ROWS = 256
_COPIED = (
    "clip_id", "source", "row", "start_s", "end_s", "class_id", "label", "split", "fold", "recording_id", "speaker_id",
)  # fmt: skip


def _scan(kind: DatasetKind, root: Path) -> list[RawClip]:
    try:
        kind.check(root)
    except FileNotFoundError as error:
        if not (root / ".foley").is_dir():
            raise
        raise FileNotFoundError(
            f"{error}. It was downloaded and has lost files since: delete {root / '.foley'} to have it fetched anew"
        ) from None
    clips = kind.scan(root)
    if not clips:
        raise ValueError(f"{kind.title}: no audio files below {root}")
    doubled = [clip_id for clip_id, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
    if doubled:
        raise ValueError(f"{kind.title}: clip ids are not unique, for example {doubled[0]}")
    for clip in clips:
        _refuse_elsewhere(kind, root, clip)
    # As Arrow orders text: by UTF-8, which is by code points.
    return sorted(clips, key=lambda clip: clip.clip_id)


def _refuse_elsewhere(kind: DatasetKind, root: Path, clip: RawClip) -> None:
    path = PurePosixPath(clip.source)
    if path.is_absolute() or ".." in path.parts:  # a table must not make us read other places
        raise ValueError(
            f"{kind.title}: clip {clip.clip_id} names the file {clip.source}, which lies outside of {root}; mend "
            "the table that names it"
        )


def _table(clips: Sequence[RawClip], shards: Sequence[int]) -> pa.Table:
    types = {name: dtype for name, (dtype, _) in RAW_CLIPS.columns.items()}
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(clip, name) for clip in clips], types[name]) for name in _COPIED
    }
    labels = [list(clip.labels) if clip.labels is not None else [clip.label] for clip in clips]
    columns["labels"] = pa.array(labels, types["labels"])
    columns["shard"] = pa.array(shards, types["shard"])
    return pa.table(columns).select(RAW_CLIPS.schema.names)


def rows_of_shard(
    kind: DatasetKind, root: Path, shards: int, shard: int, files: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The manifest's rows of one shard, in the order of clip ids; class numbers may be missing.

    A clip's shard follows from the name of its file. Where a clip follows from its file alone (``kind.by_file``), no
    other file is looked at and a few rows are in memory at a time; other kinds list the whole tree.

    Args:
        files: the shard's files below ``root``, where they are known; otherwise the tree is listed.

    Raises:
        FileNotFoundError: ``root`` is not a dataset of this kind (kinds that list the whole tree).
        ValueError: nothing was found, or two clips share an id (these as well); a clip's file lies elsewhere.
    """
    clips: Iterable[RawClip]
    if not kind.by_file:
        clips = [clip for clip in _scan(kind, root) if shard_of(clip.source, shards) == shard]
    else:
        if files is None:

            def ours(name: str) -> bool:
                return has_suffix(name, kind.media) and shard_of(name, shards) == shard

            files = [name for name, _ in walk_files(root, ours)]
        clips = kind.scan_files(root, files)
    # A few at a time as Python objects, which take far more memory than a table or names.
    waiting = iter(clips)
    while some := list(islice(waiting, ROWS)):
        for clip in some:
            _refuse_elsewhere(kind, root, clip)
        yield from _table(some, [shard] * len(some)).to_pylist()


def classes_of(kind: DatasetKind, root: Path, clips: Sequence[RawClip]) -> list[RawClass]:
    """The classes that the dataset defines, or those of its clips where it defines none.

    Raises:
        ValueError: a clip's label is none of them, or has another number; a class has two numbers.
    """
    defined = kind.classes(root)
    if defined is None:
        return _classes_of_clips(kind, clips)
    numbers = {known.label: known.class_id for known in defined}
    if len(numbers) < len(defined) or len(set(numbers.values())) < len(defined):
        raise ValueError(f"{kind.title}: two of its {len(defined)} classes share a name or a number")
    for clip in clips:
        # A clip without a label has no class; ingest refuses it with that reason.
        for label in dict.fromkeys((clip.label, *(clip.labels or ()))) if clip.label else ():
            if label not in numbers:
                raise ValueError(
                    f"{kind.title}: clip {clip.clip_id} has the label {label!r}, which is none of the "
                    f"{len(numbers)} classes that the dataset defines"
                )
        if clip.label and clip.class_id is not None and clip.class_id != numbers[clip.label]:
            raise ValueError(
                f"{kind.title}: clip {clip.clip_id} gives {clip.label!r} the number {clip.class_id}; "
                f"the dataset's own is {numbers[clip.label]}"
            )
    return defined


def _classes_of_clips(kind: DatasetKind, clips: Sequence[RawClip]) -> list[RawClass]:
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    for clip in clips:
        if not clip.label or clip.class_id is None:
            continue
        label = names.setdefault(clip.class_id, clip.label)
        if numbers.setdefault(clip.label, clip.class_id) != clip.class_id or label != clip.label:
            raise ValueError(
                f"{kind.title}: clip {clip.clip_id} is of class {clip.class_id}, {clip.label!r}; "
                f"others have class {clip.class_id} as {label!r} and {clip.label!r} as {numbers[clip.label]}"
            )
    for clip in clips:
        for label in dict.fromkeys((clip.label, *(clip.labels or ()))) if clip.label else ():
            if label not in numbers:
                raise ValueError(
                    f"{kind.title}: clip {clip.clip_id} has the label {label!r}, which has no class number; "
                    f"the known ones are {sorted(numbers)[:20]}"
                )
    return [RawClass(number, label) for label, number in numbers.items()]


def index_dataset(
    manifest_path: Path,
    classes_path: Path,
    *,
    kind: DatasetKind,
    root: Path,
    shards: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Scan ``root`` and write the manifest, each clip with its shard, and the classes.

    Raises:
        FileNotFoundError: ``root`` is not a dataset of this kind.
        ValueError: nothing was found, two clips share an id, or a clip's file lies elsewhere; as `classes_of`.
    """
    clips = _scan(kind, root)
    classes = classes_of(kind, root, clips)
    numbers = {known.label: known.class_id for known in classes}
    clips = [c if c.class_id is not None else replace(c, class_id=numbers.get(c.label)) for c in clips]
    manifest = _table(clips, [shard_of(clip.source, shards) for clip in clips])
    rows = [{"class_id": c.class_id, "label": c.label, "parents": list(c.parents)} for c in classes]
    tables.write(classes_path, RAW_CLASSES, rows, provenance)
    tables.write(manifest_path, RAW_CLIPS, manifest, provenance)
    log.info("%s: %d clips, %d classes", kind.title, len(clips), len(classes))
