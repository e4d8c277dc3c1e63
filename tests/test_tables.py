"""Tables: what is written comes back, whole, ordered and typed, and other readers see the same."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foley import __version__, tables
from foley.tables import TableError
from foley.tables.classes import CLASS_VECTORS
from foley.tables.clips import AUDIO, CLIPS
from foley.tables.features import EMBEDDINGS, HISTORY
from foley.tables.registry import KINDS, describe
from foley.tables.scores import SCORES


def example_value(dtype: pa.DataType, number: int) -> Any:
    """Some value of a type, another one for each number; floats that float32 holds exactly."""
    if pa.types.is_string(dtype):
        return f"text {number:03d} ä"
    if pa.types.is_integer(dtype):
        return number
    if pa.types.is_floating(dtype):
        return number + 0.25
    if pa.types.is_boolean(dtype):
        return number % 2 == 0
    if pa.types.is_fixed_size_binary(dtype):
        return bytes([number] * dtype.byte_width)
    if pa.types.is_binary(dtype):
        return bytes([number, 0, 255])
    if pa.types.is_struct(dtype):
        return {field.name: example_value(field.type, number) for field in dtype}
    return [example_value(dtype.value_type, number + k) for k in range(3)]


def example_rows(kind: tables.TableKind, count: int = 5) -> list[dict[str, Any]]:
    return [
        {name: example_value(dtype, number) for name, (dtype, _) in kind.columns.items()}
        for number in range(count)
    ]


def history(*epochs: int, value: float = 1.0) -> list[dict[str, Any]]:
    return [{"epoch": epoch, "quantity": "loss", "value": value} for epoch in epochs]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_comes_back_in_its_order(kind: tables.TableKind, tmp_path: Path) -> None:
    rows = example_rows(kind)
    path = tmp_path / "table.parquet"
    tables.write(path, kind, random.Random(0).sample(rows, len(rows)))
    table = tables.read(path, kind)
    assert table.to_pylist() == rows
    assert table.schema.equals(kind.schema)
    # Arrow tables and record batches are taken as rows too, whatever the order of their columns.
    again = tmp_path / "again.parquet"
    tables.write(again, kind, table.select(table.column_names[::-1]))
    assert again.read_bytes() == path.read_bytes()
    with tables.writer(again, kind) as out:
        for batch in table.to_batches(max_chunksize=2):
            out.write(batch)
    assert tables.read(again, kind).equals(table)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 3), st.sampled_from("ab"), st.none() | st.integers(0, 2)),
        unique=True,
    ),
    st.randoms(use_true_random=False),
)
def test_file_does_not_depend_on_the_order_of_rows(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple], shuffler: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = [
        {"study": "s", "dataset": "d", "metric": metric, "seed": seed, "class_id": c, "value": 0.5}
        for seed, metric, c in keys
    ]
    tables.write(folder / "a.parquet", SCORES, rows)
    shuffler.shuffle(rows)
    tables.write(folder / "b.parquet", SCORES, rows)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


def test_empty_tables_keep_their_columns(tmp_path: Path) -> None:
    for kind in KINDS.values():
        tables.write(tmp_path / "empty.parquet", kind, [])
        assert tables.read(tmp_path / "empty.parquet", kind).schema.equals(kind.schema)


def test_doubled_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(TableError, match=r"history: doubled rows.*'epoch': 2"):
        tables.write(path, HISTORY, history(1, 2, 2))
    # Empty keys count as equal: two overall scores of one metric contradict each other.
    score = {"study": "s", "dataset": "d", "metric": "accuracy", "seed": None, "value": 0.5}
    with pytest.raises(TableError, match="doubled"):
        tables.write(path, SCORES, [score, score])
    with pytest.raises(TableError, match="doubled"), tables.writer(path, HISTORY) as out:
        out.write(history(1, 1))
    assert not path.exists()


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(TableError, match=r"history: unknown columns \['vlaue'\]"):
        tables.write(path, HISTORY, [{"epoch": 1, "quantity": "loss", "vlaue": 1.0}])
    with pytest.raises(TableError, match="rows do not fit"):
        tables.write(path, HISTORY, [{"epoch": "first", "quantity": "loss"}])
    with pytest.raises(TableError, match="rows do not fit"):
        tables.write(path, HISTORY, pa.table({"epoch": [1]}))
    nameless = example_rows(CLIPS, 1)[0] | {"clip_id": None}
    with pytest.raises(TableError, match="column clip_id has empty values"):
        tables.write(path, CLIPS, [nameless])
    with pytest.raises(TableError, match="column sha256 has empty values"):
        tables.write(path, CLIPS, [{k: v for k, v in example_rows(CLIPS, 1)[0].items() if k != "sha256"}])
    assert list(tmp_path.iterdir()) == []


def test_streamed_batches_must_come_in_order(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with tables.writer(path, HISTORY) as out:
        out.write(history(2, 1))  # within a batch they are sorted
        out.write([])
        out.write(history(3))
        assert out.rows == 3
    assert tables.read(path)["epoch"].to_pylist() == [1, 2, 3]
    assert pq.ParquetFile(path).num_row_groups == 2
    for late in (2, 3):
        with (
            pytest.raises(TableError, match="out of order"),
            tables.writer(tmp_path / "u.parquet", HISTORY) as out,
        ):
            out.write(history(1, 3))
            out.write(history(late))
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.parquet"
    tables.write(path, HISTORY, history(1))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), tables.writer(path, HISTORY) as out:
        out.write(history(1, 2, 3))
        assert path.read_bytes() == before
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_files_have_the_users_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with tables.atomic_file(tmp_path / "x") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_provenance(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    facts = {"rule": "train_encoder", "params": {"lr": 0.1, "path": Path("a/b")}, "shape": [480, 64]}
    tables.write(path, HISTORY, history(1), facts)
    assert tables.provenance(path) == {
        "table": "history", "foley_version": __version__, "rule": "train_encoder",
        "params": {"lr": 0.1, "path": "a/b"}, "shape": [480, 64],
    }  # fmt: skip
    pq.write_table(pa.table({"x": [1]}), path)
    assert tables.provenance(path) == {}


def test_vectors_have_a_fixed_size(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    matrix = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    kind = EMBEDDINGS.with_vectors(vector=4)
    keys = {"clip_id": pa.array(["a", "b", "c"]), "window": pa.array([0, 0, 0], pa.int32())}
    tables.write(path, kind, pa.table({**keys, "vector": tables.from_matrix(matrix)}))
    column = tables.read(path, EMBEDDINGS)["vector"]
    assert column.type == pa.list_(pa.float32(), 4)
    np.testing.assert_array_equal(tables.to_matrix(column), matrix)
    np.testing.assert_array_equal(tables.to_matrix(column.slice(1)), matrix[1:])
    assert tables.to_matrix(column.slice(0, 0)).shape == (0, 4)
    with pytest.raises(TableError, match="rows do not fit"):
        tables.write(path, kind, pa.table({**keys, "vector": tables.from_matrix(matrix[:, :3])}))


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    # A folder `key=value` must not add a column of its own.
    paths = [tmp_path / f"epoch={number}" / "t.parquet" for number in (1, 2)]
    for number, path in enumerate(paths):
        tables.write(path, HISTORY, history(2 * number + 1, 2 * number + 2), {"part": number})
    table = tables.read(paths, HISTORY)
    assert table["epoch"].to_pylist() == [1, 2, 3, 4]
    assert table.column_names == HISTORY.schema.names
    assert tables.read(paths, columns=["value"]).column_names == ["value"]
    batches = list(tables.iter_batches(paths[0], columns=["epoch"], batch_size=1))
    assert [batch.num_rows for batch in batches] == [1, 1]


@pytest.mark.parametrize(
    "content",
    [b"", b"clip_id,label\n", b"PAR1" + bytes(50) + b"PAR1", b"PAR1" + b"\xff" * 50 + b"\x10\0\0\0PAR1"],
    ids=["empty", "csv", "no footer", "damaged footer"],
)
def test_error_names_a_file_that_is_no_parquet(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clips.parquet"
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"clips\.parquet is not a readable Parquet file"):
        tables.read(path, CLIPS)


def test_error_names_lacking_columns_and_lacking_files(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables.write(path, HISTORY, history(1))
    with pytest.raises(TableError, match=r"t\.parquet lacks the columns \['class_id', 'label', 'vector'\]"):
        tables.read(path, CLASS_VECTORS)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tables.read(tmp_path / "nowhere.parquet")


@pytest.fixture
def audio_shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard=0.parquet"
    tables.write(path, AUDIO, example_rows(AUDIO))
    return path


def test_hugging_face_sees_audio(audio_shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(
        "parquet", data_files=str(audio_shard), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(loaded.features["audio"], datasets.Audio)
    assert loaded.num_rows == 5
    row = loaded.cast_column("audio", datasets.Audio(decode=False))[1]
    assert row == tables.read(audio_shard).to_pylist()[1]


def test_duckdb_and_pandas_read_tables(audio_shard: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    import pandas

    query = f"SELECT clip_id, audio.path FROM '{audio_shard}' WHERE duration_s > 3 ORDER BY clip_id"
    assert duckdb.sql(query).fetchall() == [(f"text {n:03d} ä", f"text {n:03d} ä") for n in (3, 4)]
    frame = pandas.read_parquet(audio_shard)
    assert list(frame.columns) == list(AUDIO.columns)
    assert frame["audio"][2]["bytes"] == bytes([2, 0, 255])


def test_description_names_every_column() -> None:
    text = describe()
    for kind in KINDS.values():
        assert f"## {kind.name}\n" in text
        for name, (_, doc) in kind.columns.items():
            assert f"| `{name}` |" in text
            assert doc in text
    path = Path(__file__).resolve().parents[1] / "docs" / "tables.md"
    assert path.read_text() == text, "run `make docs`"
