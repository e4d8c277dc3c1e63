"""The tables that rules hand to one another: one Arrow schema each, one reader, one atomic writer.

Every table is a Parquet file with an explicit schema, a fixed row order and its provenance in the file's
metadata (key ``foley``, JSON). A table appears whole or not at all: rows go to a temporary file beside the
target, which is synced and renamed. Nothing here depends on the clock, so equal inputs give equal tables.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foley import __version__

PROVENANCE_KEY = b"foley"
Rows: TypeAlias = "pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]]"


@dataclass(frozen=True)
class TableKind:
    """A kind of table: its columns (name -> (Arrow type, meaning)) and the columns that order its rows."""

    name: str
    doc: str
    columns: Mapping[str, tuple[pa.DataType, str]]
    order_by: tuple[str, ...]
    not_null: frozenset[str] = frozenset()

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field(name, dtype, nullable=name not in self.not_null)
                for name, (dtype, _) in self.columns.items()
            ]
        )

    def with_vectors(self, **dims: int) -> TableKind:
        """The same kind with the named vector columns fixed to a length (a fixed-size list of float32)."""
        columns = dict(self.columns)
        for name, dim in dims.items():
            columns[name] = (pa.list_(pa.float32(), dim), columns[name][1])
        return TableKind(self.name, self.doc, columns, self.order_by, self.not_null)


_S, _I32, _I64, _F64, _B = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_()
_VECTOR = pa.list_(pa.float32())

RAW_CLIPS = TableKind(
    "raw_clips",
    "One row per raw audio file, before anything was decoded (the manifest of a dataset).",
    {
        "clip_id": (_S, "id of the clip, unique in its dataset"),
        "source": (_S, "path of the file, relative to the dataset's folder"),
        "class_id": (_I32, "class number; null where the dataset has none for this file"),
        "label": (_S, "class name"),
        "labels": (pa.list_(_S), "all class names of the clip (one for single-label data)"),
        "split": (_S, "official split (train, validation, test) or null"),
        "fold": (_I32, "official fold or null"),
        "recording_id": (_S, "clips cut from one recording share it"),
        "speaker_id": (_S, "speaker, for speech, or null"),
        "shard": (_I32, "the shard that ingests the file"),
    },
    ("clip_id",),
    frozenset({"clip_id", "source", "label", "recording_id", "shard"}),
)

CLASSES = TableKind(
    "classes",
    "One row per class: what is known of it without audio.",
    {
        "class_id": (_I32, "class number"),
        "label": (_S, "class name"),
        "words": (pa.list_(_S), "the label's own words"),
        "synonyms": (pa.list_(_S), "related words, ours"),
        "attributes": (pa.list_(pa.float32()), "graded acoustic attributes in [0, 1], or null"),
    },
    ("class_id",),
    frozenset({"class_id", "label"}),
)

CLIPS = TableKind(
    "clips",
    "One row per accepted clip.",
    {
        "dataset": (_S, "id of the dataset in the config"),
        "clip_id": (_S, "id of the clip, unique in its dataset"),
        "class_id": (_I32, "class number"),
        "label": (_S, "class name"),
        "labels": (pa.list_(_S), "all class names of the clip"),
        "split": (_S, "official split or null"),
        "fold": (_I32, "official fold or null"),
        "recording_id": (_S, "clips cut from one recording share it"),
        "speaker_id": (_S, "speaker or null"),
        "duration_s": (_F64, "length in seconds"),
        "sample_rate_hz": (_I32, "sample rate of the stored audio"),
        "source_sample_rate_hz": (_I32, "sample rate of the raw file"),
        "source_channels": (_I32, "channels of the raw file (stored audio is mono)"),
        "peak": (_F64, "largest absolute sample of the stored audio, full scale = 1"),
        "rms_dbfs": (_F64, "root mean square level in dB re full scale"),
        "sha256": (_S, "hash of the stored samples (mono 16-bit PCM at sample_rate_hz)"),
        "source": (_S, "path of the raw file, relative to the dataset's folder"),
        "shard": (_I32, "the shard that holds the audio"),
    },
    ("clip_id",),
    frozenset({"dataset", "clip_id", "label", "recording_id", "duration_s", "sample_rate_hz", "sha256"}),
)

AUDIO = TableKind(
    "audio",
    "A shard of clips with their audio in the Hugging Face `Audio` form (FLAC bytes).",
    {
        # No class number: it may shift when a class is added, and shards of old clips stay as they are.
        **{name: column for name, column in CLIPS.columns.items() if name != "class_id"},
        "audio": (
            pa.struct([("bytes", pa.binary()), ("path", _S)]),
            "FLAC bytes and a file name, as `datasets.Audio` stores them",
        ),
    },
    ("clip_id",),
    CLIPS.not_null,
)

REJECTED = TableKind(
    "rejected",
    "One row per raw clip that was refused, with the reason.",
    {
        "dataset": (_S, "id of the dataset in the config"),
        "clip_id": (_S, "id of the clip"),
        "label": (_S, "class name"),
        "source": (_S, "path of the raw file, relative to the dataset's folder"),
        "reason": (_S, "unreadable, truncated, empty, silent, not_finite, too_short, too_long, duplicate, …"),
        "detail": (_S, "what was seen"),
    },
    ("clip_id", "source"),
    frozenset({"dataset", "clip_id", "source", "reason"}),
)

FEATURES = TableKind(
    "features",
    "Features of one shard: a flattened array per clip and window (its shape is in the file's metadata).",
    {
        "clip_id": (_S, "id of the clip"),
        "window": (_I32, "number of the window in the clip, from 0"),
        "vector": (_VECTOR, "the feature, flattened in row-major order"),
    },
    ("clip_id", "window"),
    frozenset({"clip_id", "window", "vector"}),
)

EMBEDDINGS = TableKind(
    "embeddings", "One embedding per clip and window.", FEATURES.columns, FEATURES.order_by
)

HISTORY = TableKind(
    "history",
    "Training history: one row per epoch and quantity.",
    {"epoch": (_I32, "epoch, from 1"), "quantity": (_S, "what was measured"), "value": (_F64, "its value")},
    ("epoch", "quantity"),
)

CLASS_VECTORS = TableKind(
    "class_vectors",
    "One vector per class, from words, attributes or a sentence.",
    {"class_id": (_I32, "class number"), "label": (_S, "class name"), "vector": (_VECTOR, "class vector")},
    ("class_id",),
)

MISSING_WORDS = TableKind(
    "missing_words",
    "Words of a class that have no vector; the class vector is the mean of the others.",
    {"class_id": (_I32, "class number"), "label": (_S, "class name"), "word": (_S, "word without a vector")},
    ("class_id", "word"),
)

PARTITION = TableKind(
    "partition",
    "Which part of a zero-shot experiment each clip plays in one split.",
    {
        "clip_id": (_S, "id of the clip"),
        "class_id": (_I32, "class number"),
        "recording_id": (_S, "clips cut from one recording share it"),
        "role": (_S, "seen_train, seen_validation, seen_test or unseen"),
    },
    ("clip_id",),
)

SYNTHETIC_EMBEDDINGS = TableKind(
    "synthetic_embeddings",
    "Embeddings that a generator made of classes without audio.",
    {
        "seed": (_I32, "seed of the generator"),
        "class_id": (_I32, "class number"),
        "index": (_I32, "number of the sample within its class"),
        "vector": (_VECTOR, "synthetic embedding"),
    },
    ("seed", "class_id", "index"),
)

PREDICTIONS = TableKind(
    "predictions",
    "One row per clip, seed and setting: what the classifier said.",
    {
        "dataset": (_S, "id of the dataset in the config"),
        "split": (_S, "split of the study"),
        "method": (_S, "method id in the config"),
        "variant": (_S, "embedding and class vectors, for example `scratch/words`"),
        "seed": (_I32, "seed; null for methods without one"),
        "setting": (_S, "conventional (argmax over unseen classes) or generalised (over all)"),
        "clip_id": (_S, "id of the clip"),
        "role": (_S, "unseen or seen_test"),
        "class_id": (_I32, "true class"),
        "predicted_class_id": (_I32, "class with the highest score"),
        "margin": (pa.float32(), "highest score minus the best score of another class"),
    },
    ("dataset", "split", "method", "variant", "setting", "seed", "clip_id"),
)

SCORES = TableKind(
    "scores",
    "One row per measured value; every study's figures meet here.",
    {
        "study": (_S, "study"),
        "dataset": (_S, "id of the dataset in the config"),
        "split": (_S, "split or fold set of the study"),
        "fold": (_I32, "fold or null"),
        "method": (_S, "method id in the config"),
        "variant": (_S, "embedding and class vectors, or another variant of the method"),
        "seed": (_I32, "seed; null = over all seeds"),
        "class_id": (_I32, "class; null = all classes"),
        "metric": (_S, "what was measured (docs/metrics.md)"),
        "value": (_F64, "the value"),
        "low": (_F64, "lower end of the 95 % bootstrap interval, or null"),
        "high": (_F64, "upper end of the 95 % bootstrap interval, or null"),
        "n": (_I64, "number of clips (or seeds) behind the value"),
    },
    ("study", "dataset", "split", "fold", "method", "variant", "metric", "seed", "class_id"),
)

EMBEDDING_MAP = TableKind(
    "embedding_map",
    "Real and synthetic embeddings of one experiment, projected together to the plane (t-SNE).",
    {
        "kind": (_S, "seen, unseen (real clips) or synthetic"),
        "item": (_S, "clip id, or seed/class/index of a synthetic embedding"),
        "class_id": (_I32, "class number"),
        "label": (_S, "class name"),
        "x": (pa.float32(), "first coordinate, no unit"),
        "y": (pa.float32(), "second coordinate, no unit"),
    },
    ("kind", "class_id", "item"),
)

GALLERY = TableKind(
    "gallery",
    "A few clips per class to hear and see in the report.",
    {
        "dataset": (_S, "id of the dataset in the config"),
        "class_id": (_I32, "class number"),
        "label": (_S, "class name"),
        "clip_id": (_S, "id of the clip"),
        "kind": (
            _S,
            "real, synthetic or nearest (the real clip nearest to what a generator made of the class)",
        ),
        "note": (_S, "what to know of it: prompt, generator, true class; or null"),
        "audio_mp3": (pa.binary(), "the clip as MP3, which every browser plays"),
        "spectrogram_png": (pa.binary(), "its log-mel spectrogram as PNG"),
    },
    ("class_id", "kind", "clip_id"),
)

KINDS: dict[str, TableKind] = {
    kind.name: kind
    for kind in (
        RAW_CLIPS, CLASSES, CLIPS, AUDIO, REJECTED, FEATURES, EMBEDDINGS, HISTORY, CLASS_VECTORS,
        MISSING_WORDS, PARTITION, SYNTHETIC_EMBEDDINGS, PREDICTIONS, SCORES, EMBEDDING_MAP,
        GALLERY,
    )
}  # fmt: skip


class TableError(ValueError):
    """A table that does not have the columns, types or uniqueness that its kind promises."""


def _metadata(kind: TableKind, provenance: Mapping[str, Any]) -> dict[bytes, bytes]:
    facts = {"table": kind.name, "foley_version": __version__, **provenance}
    metadata = {PROVENANCE_KEY: json.dumps(facts, sort_keys=True, default=str).encode()}
    if "audio" in kind.columns:
        # What `datasets` reads to decode the column as audio.
        metadata[b"huggingface"] = json.dumps({"info": {"features": {"audio": {"_type": "Audio"}}}}).encode()
    return metadata


def _conform(rows: Rows, schema: pa.Schema, kind: TableKind) -> pa.Table:
    try:
        if isinstance(rows, pa.Table):
            table = rows.select(schema.names).cast(schema)
        elif isinstance(rows, pa.RecordBatch):
            table = pa.Table.from_batches([rows]).select(schema.names).cast(schema)
        else:
            listed: list[Mapping[str, Any]] = list(rows)
            unknown = {key for row in listed for key in row} - set(schema.names)
            if unknown:
                raise TableError(f"table {kind.name}: unknown columns {sorted(unknown)}")
            table = pa.Table.from_pylist(listed, schema=schema)
    except (pa.ArrowException, KeyError, ValueError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"table {kind.name}: rows do not fit its schema: {error}") from error
    for name in kind.columns:
        if name in kind.not_null and table[name].null_count:
            raise TableError(f"table {kind.name}: column {name} has empty values")
    return table


def _refuse_doubled(table: pa.Table, kind: TableKind) -> None:
    if table.num_rows < 2:
        return
    counts = table.group_by(list(kind.order_by)).aggregate([([], "count_all")])
    doubled = counts.filter(pc.greater(counts["count_all"], 1))
    if doubled.num_rows:
        raise TableError(f"table {kind.name}: doubled rows, for example {doubled.slice(0, 1).to_pylist()[0]}")


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes ``path`` when the block ends well, and vanishes when not."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    os.close(fd)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


class TableWriter:
    """Appends batches of rows to one table under construction; rows must come in the kind's order."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, kind: TableKind) -> None:
        self._writer, self._schema, self._kind = writer, schema, kind
        self._last: tuple[Any, ...] | None = None
        self.rows = 0

    def write(self, rows: Rows) -> None:
        """Write one row group.

        Raises:
            TableError: rows do not fit the schema, come out of order, or share the ordering key.
        """
        table = _conform(rows, self._schema, self._kind)
        if not table.num_rows:
            return
        ordered = table.sort_by([(name, "ascending") for name in self._kind.order_by])
        _refuse_doubled(ordered, self._kind)
        first = tuple(ordered[name][0].as_py() for name in self._kind.order_by)
        if self._last is not None and first <= self._last:
            raise TableError(f"table {self._kind.name}: batches out of order at {first}")
        self._last = tuple(ordered[name][-1].as_py() for name in self._kind.order_by)
        self._writer.write_table(ordered)
        self.rows += table.num_rows


@contextmanager
def writer(
    path: str | os.PathLike[str], kind: TableKind, provenance: Mapping[str, Any] | None = None
) -> Iterator[TableWriter]:
    """Stream a table to ``path``, one row group a call of ``write``; memory stays that of one batch."""
    schema = kind.schema.with_metadata(_metadata(kind, provenance or {}))
    # Floating-point vectors and FLAC or MP3 bytes gain nothing from a codec or a dictionary, and cost time.
    bulky = {"vector", "audio", "audio_mp3", "spectrogram_png"}
    light = [name for name in schema.names if name not in bulky]
    options: dict[str, Any] = {
        "compression": {
            f.name: "none" if f.name in bulky else "zstd" for f in schema if not pa.types.is_nested(f.type)
        },
        "use_dictionary": [f.name for f in schema if f.name in light and f.type == pa.string()],
    }
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as parquet:
        yield TableWriter(parquet, kind.schema, kind)


def write(
    path: str | os.PathLike[str], kind: TableKind, rows: Rows, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a whole table at once, sorted by the kind's order.

    Raises:
        TableError: rows do not fit the schema, or two rows share the ordering key.
    """
    table = _conform(rows, kind.schema, kind).sort_by([(name, "ascending") for name in kind.order_by])
    _refuse_doubled(table, kind)
    with writer(path, kind, provenance) as out:
        out._writer.write_table(table)


def read(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    kind: TableKind | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read one table, or several of a kind as one (in the order given).

    Raises:
        TableError: a file is not Parquet, or lacks columns that ``kind`` promises; names the file.
    """
    many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    parts = []
    for path in many:
        try:
            # `ParquetFile`, not `read_table`: the latter adds columns from `key=value` folders.
            with pq.ParquetFile(path) as file:
                parts.append(file.read(columns=list(columns) if columns is not None else None))
        except (pa.ArrowInvalid, OSError) as error:
            # A damaged footer is an OSError too, but one without a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise TableError(f"{path} is not a readable Parquet file: {error}") from error
        wanted = columns if columns is not None else (kind.schema.names if kind else [])
        lacking = [name for name in wanted if name not in parts[-1].column_names]
        if lacking:
            raise TableError(
                f"{path} lacks the columns {lacking}: it was not written as a {kind and kind.name}"
            )
    if len(parts) == 1:
        return parts[0]
    return pa.concat_tables([part.replace_schema_metadata(None) for part in parts])


def iter_batches(
    path: str | os.PathLike[str], columns: Sequence[str] | None = None, batch_size: int = 64
) -> Iterator[pa.RecordBatch]:
    """Stream a table in batches of at most ``batch_size`` rows; memory stays that of one row group."""
    wanted = list(columns) if columns is not None else None
    with pq.ParquetFile(path) as file:
        # Group by group: `ParquetFile.iter_batches` reads ahead, and so grows with the file.
        for number in range(file.num_row_groups):
            yield from file.read_row_group(number, columns=wanted).to_batches(max_chunksize=batch_size)


def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the writer recorded about a table: rule, parameters, versions."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(PROVENANCE_KEY, b"{}"))


def to_matrix(column: pa.ChunkedArray | pa.Array) -> Any:
    """A vector column as a float32 array [rows, dim], without copying through Python objects."""
    import numpy as np

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if len(array) == 0:
        dim = array.type.list_size if pa.types.is_fixed_size_list(array.type) else 0
        return np.zeros((0, dim), dtype=np.float32)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)


def from_matrix(matrix: Any) -> pa.FixedSizeListArray:
    """A float32 array [rows, dim] as a fixed-size-list column."""
    import numpy as np

    flat = np.ascontiguousarray(matrix, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])


def describe() -> str:
    """docs/tables.md: every kind with its columns, made from the schemas themselves."""
    lines = ["# Tables", "", "Made from `foley.tables` by `make docs`; a test keeps it so.", ""]
    for kind in KINDS.values():
        lines += [f"## {kind.name}", "", f"{kind.doc} Rows are ordered by {', '.join(kind.order_by)}.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{name}` | `{dtype}` | {doc} |" for name, (dtype, doc) in kind.columns.items()]
        lines.append("")
    return "\n".join(lines)
