"""The tables that rules hand to one another: one Arrow schema each, one reader, one atomic writer.

Every table is a Parquet file with an explicit schema, a fixed row order and its provenance in the file's
metadata (key ``foley``, JSON). A table appears whole or not at all: rows go to a temporary file beside the
target, which is synced and renamed. Nothing here depends on the clock, so equal inputs give equal tables.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
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
# Environment variable: a folder on the machine's own disk, in which tables are built that are written bit by bit.
SCRATCH = "FOLEY_SCRATCH"
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


# Short names of the types that schemas are made of.
TEXT, INT32, INT64, FLOAT32, FLOAT64 = pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.float64()
TEXTS = pa.list_(pa.string())
VECTOR = pa.list_(pa.float32())


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


# Of files that this process is just writing.
_unfinished: set[Path] = set()


def remove_unfinished() -> None:
    """Remove what this process has begun to write, before it ends without unwinding."""
    for path in list(_unfinished):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _remove_partial(target: Path) -> None:
    """Remove what writers of a table left that were killed. A table has one writer at a time: the job that makes it."""
    for entry in os.scandir(target.parent):
        if entry.name.startswith(f".{target.name}.") and entry.name.endswith(".partial"):
            Path(entry.path).unlink(missing_ok=True)


def _scratch_prefix() -> str:
    """How scratch folders begin here: whose they are, on which machine and in which container."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    place = hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]
    return f"foley-{os.getuid()}_{place}_"


def clear_scratch(folder: str | os.PathLike[str]) -> int:
    """Remove what this user's killed jobs left in a scratch folder on this machine; returns how many folders."""
    removed = 0
    prefix = _scratch_prefix()
    found = list(Path(folder).glob(f"{prefix}*")) if Path("/proc/self").exists() else []
    for path in found:
        owner = re.match(r"\w*?_(\d+)_", path.name[len(prefix) :])
        if owner and not Path(f"/proc/{owner[1]}").exists():
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that becomes ``path`` when the block ends well, and vanishes when not."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    os.close(fd)
    temporary = Path(name)
    _unfinished.add(temporary)
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
        _unfinished.discard(temporary)


@contextmanager
def _built_in_scratch(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Like ``atomic_file``; with a scratch folder the temporary path lies there, and is copied over in one go.

    Network file systems are slow at many small writes, and a table gets one with each batch of rows.
    """
    scratch = os.environ.get(SCRATCH)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _remove_partial(Path(path))
    with atomic_file(path) as beside:
        if not scratch:
            yield beside
            return
        Path(scratch).mkdir(parents=True, exist_ok=True)
        prefix = f"{_scratch_prefix()}{os.environ.get('SLURM_JOB_ID', '0')}_{os.getpid()}_"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=scratch) as folder:
            _unfinished.add(Path(folder))
            built = Path(folder) / Path(path).name
            yield built
            shutil.copyfile(built, beside)
        _unfinished.discard(Path(folder))


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
        # Of the columns that queries select rows by: the writer keeps the statistics of every row group in memory.
        "write_statistics": [
            name for name in kind.order_by if not pa.types.is_nested(schema.field(name).type)
        ],
    }
    with _built_in_scratch(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as parquet:
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
