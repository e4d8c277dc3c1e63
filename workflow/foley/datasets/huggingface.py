"""Any dataset in the Parquet form of Hugging Face `datasets` with an `Audio` column: local, or by name from the hub.

A row is a clip; its audio is a struct of `bytes` and `path`. What the columns mean (`Audio`, `ClassLabel` and its
names) stands as JSON in the files' metadata under the key `huggingface`, which `datasets` and Foley's own shards write.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foley.datasets.metadata import whole_number
from foley.datasets.protocol import AUDIO_SUFFIXES, DatasetKind, RawClass, RawClip, audio_files
from foley.download.sources import AnySource, HubSource

# pyarrow is imported where files are opened: whoever only plans a run reads this module too.
if TYPE_CHECKING:
    import pyarrow.parquet as pq

log = logging.getLogger(__name__)

PARQUET = frozenset([".parquet"])
# Rows decoded from Parquet at a time.
READ_ROWS = 16
# How file and folder names tell the split, as `datasets` reads them (`datasets/data_files.py`).
_SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "dev": "validation", "val": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_SHARDED_NAME = re.compile(r"(?:.*/)?data/([^/]+?)-\d{5}-of-\d{5}[^/]*\.[^/]*")


@dataclass(frozen=True)
class HuggingFaceOptions:
    """Which dataset, and what its columns mean.

    repo: dataset on the hub, `owner/name`, to download; none for Parquet files at the dataset's `path`.
    revision: commit of the repository, 40 hexadecimal digits; needed with `repo`.
    patterns: which Parquet files, as patterns over their paths (`*` also matches `/`).
    audio_column: column with the audio; found by its type when left out.
    label_column: class names (text), class numbers (with names in the metadata) or lists of either (multi-label).
    recording_column: clips that share its value never part between training and test; each row a recording of its
        own when left out.
    speaker_column: speaker.
    fold_column: official fold, a whole number.
    split_column: official split; from the names of files and folders when left out.
    """

    repo: str | None = None
    revision: str | None = None
    patterns: tuple[str, ...] = ("*.parquet",)
    audio_column: str | None = None
    label_column: str = "label"
    recording_column: str | None = None
    speaker_column: str | None = None
    fold_column: str | None = None
    split_column: str | None = None

    def __post_init__(self) -> None:
        if self.repo is None and self.revision is not None:
            raise ValueError("`revision` is for a `repo` on the hub; local files have none")
        if self.repo is not None and not re.fullmatch(r"(?=.{1,96}$)[\w-][\w.-]*/[\w-][\w.-]*", self.repo):
            raise ValueError(f"`repo` must be owner/name, got {self.repo!r}")
        if self.repo is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(
                f"`repo` needs `revision`, a commit of 40 hexadecimal digits, got {self.revision!r}: branches and "
                "tags move; the page of the dataset's files on the hub shows the commit under History"
            )
        if not self.patterns:
            raise ValueError("`patterns` is empty; leave it out to take all Parquet files")

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a scan reads, by the option that names them."""
        named = {
            "label_column": self.label_column,
            "recording_column": self.recording_column,
            "speaker_column": self.speaker_column,
            "fold_column": self.fold_column,
            "split_column": self.split_column,
        }
        return {option: column for option, column in named.items() if column is not None}


class HuggingFace(DatasetKind):
    """Parquet files with an audio column; row `n` of `data/train-00000-of-00002.parquet` is a clip of its own."""

    title = "Hugging Face dataset"
    licence = "see the dataset's card"
    Options = HuggingFaceOptions
    media = PARQUET
    by_file = True
    # Files count by content in the list of clips, for they hold the labels; so does audio that they only name.
    tables = ("*.parquet", *(f"*{suffix}" for suffix in sorted(AUDIO_SUFFIXES)))

    def __init__(self, options: HuggingFaceOptions | None = None) -> None:
        super().__init__(options)
        repo, revision = self.options.repo, self.options.revision
        if repo is not None:
            self.title = f"Hugging Face dataset {repo}"  # type: ignore[misc]
            self.url = f"https://huggingface.co/datasets/{repo}/tree/{revision}"  # type: ignore[misc]
            # A folder of its own for each repository and revision.
            self.storage = f"{repo.replace('/', '--')}-{revision[:12]}"  # type: ignore[misc]

    def sources(self) -> tuple[AnySource, ...]:
        o = self.options
        if o.repo is None:
            return ()
        # Datasets may take different files of one repository, so each choice is a source of its own.
        choice = hashlib.sha256("\n".join(sorted(o.patterns)).encode()).hexdigest()[:8]
        return (HubSource(f"{o.repo.replace('/', '--')}-{choice}", o.repo, o.revision, tuple(o.patterns)),)

    def files(self, root: Path) -> list[Path]:
        """The Parquet files that `patterns` choose, sorted."""
        return [
            path for path in audio_files(root, PARQUET) if self._chosen(path.relative_to(root).as_posix())
        ]

    def _chosen(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.options.patterns)

    def check(self, root: Path) -> None:
        super().check(root)
        if not self.files(root):
            raise FileNotFoundError(
                f"{self.title}: no Parquet file below {root} matches {list(self.options.patterns)}; point `path` at "
                "the folder that `Dataset.to_parquet` or a download of the repository filled"
            )

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        files = [_File(path, root, self.options) for path in self.files(root)]
        numbers = {known.label: known.class_id for known in _classes(files)}
        return [clip for file in files for clip in file.clips(numbers)]

    def scan_files(self, root: Path, files: Sequence[str]) -> Iterator[RawClip]:
        chosen = [_File(root / name, root, self.options) for name in sorted(files) if self._chosen(name)]
        yield from sorted((clip for file in chosen for clip in file.clips({})), key=lambda clip: clip.clip_id)

    def classes(self, root: Path) -> list[RawClass]:
        self.check(root)
        return _classes([_File(path, root, self.options) for path in self.files(root)])

    def read(
        self, root: Path, rows: Iterable[Mapping[str, Any]]
    ) -> Iterator[tuple[Mapping[str, Any], Path | bytes]]:
        for source, group in groupby(rows, key=lambda row: row["source"]):
            yield from _File(root / source, root, self.options).read(group)


class _File:
    """One Parquet file of the dataset."""

    def __init__(self, path: Path, root: Path, options: HuggingFaceOptions) -> None:
        import pyarrow as pa

        self.path, self.root, self.options = path, root, options
        self.source = path.relative_to(root).as_posix()
        try:
            with self._open() as file:
                self.schema = file.schema_arrow
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{path} is no readable Parquet file: {error}") from None
        self.features = _features(self.schema.metadata or {})
        self.audio_column = self._audio_column()
        for option, column in options.columns.items():
            if column not in self.schema.names:
                raise ValueError(
                    f"{path} has no column {column!r} ({option} in the dataset's options); it has {self.schema.names}"
                )

    def _open(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        # A small buffer and no reading ahead: pages are read as they are needed, not a row group at once.
        return pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False)

    def _audio_column(self) -> str:
        """The column with the audio.

        Raises:
            ValueError: there is none, or there are several.
        """
        import pyarrow as pa

        def holds_audio(name: str) -> bool:
            dtype = self.schema.field(name).type
            return pa.types.is_struct(dtype) and {"bytes", "path"} <= {field.name for field in dtype}

        def is_audio(name: str) -> bool:
            feature = self.features.get(name)
            return isinstance(feature, dict) and feature.get("_type") == "Audio"

        chosen = self.options.audio_column
        if chosen is not None:
            if chosen not in self.schema.names or not holds_audio(chosen):
                raise ValueError(
                    f"{self.path} has no audio column {chosen!r}, a struct of bytes and path (audio_column in the "
                    f"dataset's options); it has {self.schema.names}"
                )
            return chosen
        structs = [name for name in self.schema.names if holds_audio(name)]
        # Images are structs of the same form; the metadata tells them apart.
        found = [name for name in structs if is_audio(name)] or [
            name for name in structs if name not in self.features
        ]
        if len(found) > 1 and "audio" in found:
            found = ["audio"]
        if len(found) != 1:
            lacks = (
                f"several audio columns, {found}" if found else "no audio column (a struct of bytes and path)"
            )
            raise ValueError(
                f"{self.path} has {lacks}; name one as audio_column in the dataset's options. "
                f"Its columns: {self.schema.names}"
            )
        return found[0]

    def _column(self, name: str) -> list[Any]:
        """A column's values, all rows."""
        import pyarrow as pa

        try:
            with self._open() as file:
                return file.read(columns=[name])[name].to_pylist()
        except pa.ArrowException as error:
            raise ValueError(f"{self.path}: column {name!r} cannot be read: {error}") from None

    @property
    def class_names(self) -> list[str] | None:
        """The names of a `ClassLabel` column (or of a list of them), or None where labels are their own names."""
        feature = self.features.get(self.options.label_column)
        while isinstance(feature, list | dict):
            if isinstance(feature, list):  # an older spelling of lists
                feature = feature[0] if feature else None
            elif feature.get("_type") == "ClassLabel":
                names = feature.get("names")
                if isinstance(names, Mapping):  # {"0": "dog", …}
                    names = [names[key] for key in sorted(names, key=int)]
                return [str(name) for name in names] if names else None
            else:
                feature = feature.get("feature")
        return None

    @cached_property
    def labels(self) -> list[tuple[str, ...]]:
        """The class names of each row; none where a row has no label."""
        column, names = self.options.label_column, self.class_names

        def name_of(value: Any, row: int) -> str | None:
            if value is None or value == "" or (names is not None and value == -1):
                return None
            if isinstance(value, float | dict | list | bytes):
                raise ValueError(
                    f"{self.path}, row {row}: {column} (label_column in the dataset's options) must hold class names, "
                    f"class numbers or lists of them, got {value!r}"
                )
            if names is None or isinstance(value, str):
                return str(value)
            if not 0 <= value < len(names):
                raise ValueError(
                    f"{self.path}, row {row}: class {value} is none of the {len(names)} that the metadata name"
                )
            return names[value]

        found = []
        for row, value in enumerate(self._column(column)):
            values = value if isinstance(value, list) else [value]
            labels = (name_of(one, row) for one in values)
            found.append(tuple(dict.fromkeys(label for label in labels if label is not None)))
        return found

    def clips(self, numbers: Mapping[str, int]) -> Iterator[RawClip]:
        """The rows as clips, without their audio; ``numbers`` are the classes' by name, as far as known."""
        o = self.options
        labels = self.labels
        nothing: Sequence[Any] = [None] * len(labels)
        recordings, speakers, folds, splits = (
            self._column(column) if column is not None else nothing
            for column in (o.recording_column, o.speaker_column, o.fold_column, o.split_column)
        )
        own_split = split_of(self.source) if o.split_column is None else None
        stem = os.path.splitext(self.source)[0]
        for row, names in enumerate(labels):
            clip_id = f"{stem}/{row:08d}"
            fold = folds[row]
            split = own_split if o.split_column is None else splits[row]
            yield RawClip(
                clip_id=clip_id,
                source=self.source,
                row=row,
                label=names[0] if names else "",
                labels=names,
                class_id=numbers.get(names[0]) if names else None,
                split=None if split is None else str(split),
                fold=None
                if fold is None
                else whole_number(str(fold), f"{self.path}, row {row}", str(o.fold_column)),
                recording_id=clip_id if recordings[row] is None else str(recordings[row]),
                speaker_id=None if speakers[row] is None else str(speakers[row]),
            )

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Path | bytes]]:
        """The audio of ``rows`` (by their number in the file, ascending), a few at a time."""
        wanted = iter(rows)
        row = next(wanted, None)
        with self._open() as file:
            first = 0
            for number in range(file.num_row_groups):
                count = file.metadata.row_group(number).num_rows
                if row is None:
                    return
                if row["row"] >= first + count:  # nobody wants these
                    first += count
                    continue
                for batch in file.iter_batches(
                    batch_size=READ_ROWS, row_groups=[number], columns=[self.audio_column], use_threads=False
                ):
                    audio = batch.column(0)
                    while row is not None and row["row"] < first + len(audio):
                        yield row, self._content(audio[row["row"] - first].as_py(), row["row"])
                        row = next(wanted, None)
                    first += len(audio)
        if row is not None:
            raise ValueError(f"{self.path} has no row {row['row']}: it was changed meanwhile; start again")

    def _content(self, audio: Mapping[str, Any] | None, row: int) -> Path | bytes:
        """A row's bytes, or the file that it names where it holds none."""
        audio = audio or {}
        if audio.get("bytes") is not None:
            return audio["bytes"]
        named = audio.get("path")
        if named:
            root = self.root.resolve()
            beside = (self.path.parent / named).resolve()
            if beside.is_relative_to(root):  # data must not make us read other places
                return beside
            log.warning("%s, row %d: %s lies outside of %s and is not read", self.path, row, named, root)
        return b""  # which is refused as empty


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What the metadata say of the columns; empty where they say nothing."""
    try:
        return json.loads(metadata[b"huggingface"])["info"]["features"] or {}
    except (KeyError, TypeError, ValueError):
        return {}


def _classes(files: Sequence[_File]) -> list[RawClass]:
    """The classes of all files: those that the metadata name, or those that occur, numbered by their names' order.

    Raises:
        ValueError: files name different classes.
    """
    named = {file.source: file.class_names for file in files}
    first = named[files[0].source]
    for source, names in named.items():
        if names != first:
            raise ValueError(
                f"{source} and {files[0].source} name different classes: {names} and {first}; choose files of one kind "
                "with `patterns` in the dataset's options"
            )
    if first is None:
        labels = sorted({label for file in files for names in file.labels for label in names})
    else:
        labels = first
    return [RawClass(number, label) for number, label in enumerate(labels)]


def split_of(source: str) -> str | None:
    """The split that a path names as the hub lays files out, or None.

    `data/<split>-00000-of-00003.parquet` names any split; else a folder or a file with one of the known words, whole or
    beside `-`, `.`, `_`, a space or a digit, as in `test/part.parquet`, `train-0.parquet` and `en_validation.parquet`.
    """
    sharded = _SHARDED_NAME.fullmatch(source)
    if sharded is not None:
        name = sharded.group(1)
        return _SPLIT_WORDS.get(name, name)
    *folders, name = source.split("/")
    for part in (*folders, os.path.splitext(name)[0]):
        words = [_SPLIT_WORDS[word] for word in re.split(r"[-._ 0-9]+", part) if word in _SPLIT_WORDS]
        if words:
            return words[0]
    return None
