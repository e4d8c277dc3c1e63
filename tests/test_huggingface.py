"""Hugging Face datasets: what a scan finds, which audio a row has, and that `datasets` sees the same."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from clip_writer import WriteClip
from foley import tables
from foley.audio.decode import to_pcm16
from foley.datasets.folder import Folder
from foley.datasets.huggingface import HuggingFace, HuggingFaceOptions, split_of
from foley.datasets.index import index_dataset, rows_of_shard
from foley.datasets.ingest import IngestOptions, collect_clips, ingest_shard
from foley.datasets.protocol import RawClass, RawClip
from foley.datasets.tree import fingerprint, shard_of
from foley.download.sources import HubSource
from foley.options import ConfigError, parse_options
from foley.tables.clips import CLIPS, RAW_CLASSES, RAW_CLIPS, REJECTED
from trees import Tree
from trees.huggingface import FILES, NAMES, build_huggingface, flac, rows_of, write_parquet

COMMIT = "0123456789abcdef0123456789abcdef01234567"
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return build_huggingface(tmp_path_factory.mktemp("huggingface"))


def kind(**options: Any) -> HuggingFace:
    return HuggingFace(HuggingFaceOptions(**options))


def plain(path: Path, **columns: list[Any]) -> Path:
    """A Parquet file without `datasets`' metadata, as other programs write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: pa.array(values, AUDIO) if name.startswith("audio") else pa.array(values)
        for name, values in columns.items()
    }
    pq.write_table(pa.table(arrays), path)
    return path.parent


def one(number: int) -> dict[str, Any]:
    return {"bytes": flac(number), "path": None}


def ingest(
    dataset: HuggingFace | Folder, root: Path, out: Path, shards: int = 1
) -> tuple[list[dict], list[dict]]:
    """Rows of the clip table and of the rejected."""
    out.mkdir(exist_ok=True)
    manifest = out / "manifest.parquet"
    index_dataset(manifest, out / "raw_classes.parquet", kind=dataset, root=root, shards=shards)
    audio = [out / f"audio-{shard}.parquet" for shard in range(shards)]
    rejected = [out / f"rejected-{shard}.parquet" for shard in range(shards)]
    for shard in range(shards):
        ingest_shard(
            audio[shard], rejected[shard], dataset="hf", kind=dataset, root=root, shards=shards, shard=shard,
            options=IngestOptions(), threads=2,
        )  # fmt: skip
    collect_clips(
        out / "clips.parquet", out / "rejected.parquet", dataset="hf", manifest=manifest, audio=audio,
        rejected=rejected, max_rejected=1.0, duplicates="reject",
    )  # fmt: skip
    return (
        tables.read(out / "clips.parquet", CLIPS).to_pylist(),
        tables.read(out / "rejected.parquet", REJECTED).to_pylist(),
    )


# What a scan finds


def test_scan(tree: Tree) -> None:
    clips = HuggingFace(HuggingFaceOptions(**tree.options)).scan(tree.root)
    assert len(clips) == tree.clips == sum(FILES.values())
    by_id = {clip.clip_id: clip for clip in clips}
    assert len(by_id) == len(clips)
    # The seventh row of all is the second of the second file: label 6 % 3, take 6 // 3, speaker 6 // 2.
    assert by_id["data/train-00001-of-00002/00000001"] == RawClip(
        clip_id="data/train-00001-of-00002/00000001", source="data/train-00001-of-00002.parquet", row=1,
        label="rain", labels=("rain",), class_id=0, split="train", fold=2, recording_id="2", speaker_id="s3",
    )  # fmt: skip
    assert {clip.split for clip in clips} == {"train", "validation", "test"}
    assert HuggingFace().classes(tree.root) == [RawClass(n, name) for n, name in enumerate(NAMES)]
    # Without columns for them, each row is a recording of its own.
    bare = HuggingFace().scan(tree.root)
    assert all(clip.recording_id == clip.clip_id and clip.speaker_id is clip.fold is None for clip in bare)


def test_datasets_reads_the_same(tree: Tree) -> None:
    import datasets

    root = tree.root / "data"
    loaded = datasets.load_dataset(
        "parquet",
        data_files={split: [str(root / f"{split}-*.parquet")] for split in ("train", "validation", "test")},
        cache_dir=str(tree.root.parent / "cache"),
    ).cast_column("audio", datasets.Audio(decode=False))
    dataset = HuggingFace()
    rows = list(rows_of_shard(dataset, tree.root, 1, 0))
    ours = {"train": [], "validation": [], "test": []}  # type: ignore[var-annotated]
    for row, content in dataset.read(tree.root, rows):
        ours[row["split"]].append((row["label"], hashlib.sha256(content).hexdigest()))
    for split, table in loaded.items():
        names = table.features["label"]
        theirs = [
            (names.int2str(row["label"]), hashlib.sha256(row["audio"]["bytes"]).hexdigest()) for row in table
        ]
        assert ours[split] == theirs


@pytest.mark.parametrize(
    ("source", "split"),
    [
        ("data/train-00000-of-00003.parquet", "train"), ("data/validation-00000-of-00001.parquet", "validation"),
        ("data/train.clean.100-00000-of-00014.parquet", "train.clean.100"), ("test/part.parquet", "test"),
        ("en/dev-0.parquet", "validation"), ("my_eval.parquet", "test"), ("train.parquet", "train"),
        ("training set/0.parquet", "train"), ("0000.parquet", None), ("latest/attest.parquet", None),
        ("strain.parquet", None),
    ],
)  # fmt: skip
def test_split_of_a_path(source: str, split: str | None) -> None:
    assert split_of(source) == split


def test_datasets_finds_the_same_splits(tmp_path: Path) -> None:
    from datasets.data_files import get_data_patterns

    for name in ("en/train-0.parquet", "en/my_eval.parquet", "en/valid 2.parquet", "en/strain.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = get_data_patterns(str(tmp_path))
    assert {str(split) for split in found} == {
        split_of(path.relative_to(tmp_path).as_posix()) for path in tmp_path.rglob("*.parquet")
    } - {None}


def test_labels_as_text_numbers_and_lists(tmp_path: Path) -> None:
    audio = [one(n) for n in range(4)]
    text = plain(tmp_path / "text" / "a.parquet", audio=audio, label=["dog", "cat", None, ""])
    clips = HuggingFace().scan(text)
    assert [(c.label, c.class_id, c.labels) for c in clips] == [
        ("dog", 1, ("dog",)), ("cat", 0, ("cat",)), ("", None, ()), ("", None, ()),
    ]  # fmt: skip
    numbers = plain(tmp_path / "numbers" / "a.parquet", audio=audio, digit=[7, 7, 0, 3])
    assert [c.label for c in kind(label_column="digit").scan(numbers)] == ["7", "7", "0", "3"]
    lists = plain(tmp_path / "lists" / "a.parquet", audio=audio, label=[["b", "a"], ["a", "a"], [], None])
    assert [(c.label, c.labels, c.class_id) for c in HuggingFace().scan(lists)] == [
        ("b", ("b", "a"), 1), ("a", ("a",), 0), ("", (), None), ("", (), None),
    ]  # fmt: skip
    assert HuggingFace().classes(lists) == [RawClass(0, "a"), RawClass(1, "b")]


def test_class_labels_in_lists_and_without_a_label(tmp_path: Path) -> None:
    from datasets import ClassLabel, List

    columns = {"audio": [one(n) for n in range(3)], "label": [[2, 0], [1], []]}
    write_parquet(tmp_path / "many" / "a.parquet", columns, label=List(ClassLabel(names=list(NAMES))))
    assert [c.labels for c in HuggingFace().scan(tmp_path / "many")] == [
        ("church bell", "rain"), ("dog",), (),
    ]  # fmt: skip
    columns["label"] = [1, -1, None]  # type: ignore[list-item]
    write_parquet(tmp_path / "one" / "a.parquet", columns)
    assert [c.label for c in HuggingFace().scan(tmp_path / "one")] == ["dog", "", ""]
    clips, rejected = ingest(HuggingFace(), tmp_path / "one", tmp_path / "out")
    assert [row["label"] for row in clips] == ["dog"]
    assert [row["reason"] for row in rejected] == ["no_class", "no_class"]
    # Classes without clips are classes.
    named = tables.read(tmp_path / "out" / "raw_classes.parquet", RAW_CLASSES)
    assert named["label"].to_pylist() == list(NAMES)


def test_columns_that_say_which(tmp_path: Path) -> None:
    root = plain(
        tmp_path / "r" / "a.parquet", audio=[one(0)], audio_far=[one(1)], label=["x"], part=["test"], g=["3"]
    )
    dataset = kind(audio_column="audio_far", split_column="part", fold_column="g")
    (clip,) = dataset.scan(root)
    assert (clip.split, clip.fold) == ("test", 3)
    (row,) = rows_of_shard(dataset, root, 1, 0)
    ((_, content),) = dataset.read(root, [row])
    assert content == flac(1)


# Ingest


def test_ingest(tree: Tree, tmp_path: Path) -> None:
    dataset = HuggingFace(HuggingFaceOptions(**tree.options))
    clips, rejected = ingest(dataset, tree.root, tmp_path, shards=3)
    assert rejected == []
    assert [row["clip_id"] for row in clips] == sorted(clip.clip_id for clip in dataset.scan(tree.root))
    for number, name in (
        (6, "data/train-00001-of-00002/00000001"),
        (8, "data/validation-00000-of-00001/00000000"),
    ):
        row = next(row for row in clips if row["clip_id"] == name)
        (tmp_path / "one" / "x").mkdir(parents=True, exist_ok=True)
        (tmp_path / "one" / "x" / "a.flac").write_bytes(flac(number))
        (alone,), _ = ingest(Folder(), tmp_path / "one", tmp_path / "alone")
        assert row["sha256"] == alone["sha256"]
        assert row["acoustic_hash"] == alone["acoustic_hash"]
        assert alone["source_sha256"] == hashlib.sha256(flac(number)).hexdigest()
    # The file holds other clips too, so its hash is none of a clip.
    assert {row["source_sha256"] for row in clips} == {None}
    # A file's rows stay together.
    manifest = tables.read(tmp_path / "manifest.parquet", RAW_CLIPS).to_pylist()
    assert all(row["shard"] == shard_of(row["source"], 3) for row in manifest)
    assert [row["row"] for row in manifest if row["source"].startswith("data/train-00000")] == [0, 1, 2, 3, 4]


def test_only_wanted_rows_are_read(tmp_path: Path) -> None:
    root = tmp_path / "r"
    columns = rows_of(0, 40)
    columns["audio"] = [{"bytes": bytes([number]) * 10, "path": None} for number in range(40)]
    write_parquet(root / "a.parquet", columns, batch_size=7)
    assert pq.ParquetFile(root / "a.parquet").num_row_groups == 6
    rows = [row for row in rows_of_shard(HuggingFace(), root, 1, 0) if row["row"] in (0, 6, 7, 20, 39)]
    read = list(HuggingFace().read(root, rows))
    assert [(row["row"], content) for row, content in read] == [
        (number, bytes([number]) * 10) for number in (0, 6, 7, 20, 39)
    ]
    with pytest.raises(ValueError, match=r"a\.parquet has no row 40: it was changed meanwhile"):
        list(HuggingFace().read(root, [*rows, rows[-1] | {"row": 40}]))


def test_audio_beside_the_parquet_file(tmp_path: Path, write_clip: WriteClip) -> None:
    root = tmp_path / "r"
    written = write_clip(root / "sub" / "clips" / "a.wav", 1)
    write_clip(tmp_path / "secret.wav", 2)
    audio = [
        {"bytes": None, "path": "clips/a.wav"}, {"bytes": None, "path": "clips/gone.wav"},
        {"bytes": None, "path": "../../secret.wav"}, {"bytes": None, "path": str(tmp_path / "secret.wav")},
        {"bytes": None, "path": None}, None, {"bytes": b"", "path": "clips/a.wav"},
    ]  # fmt: skip
    plain(root / "sub" / "a.parquet", audio=audio, label=["x"] * len(audio))
    clips, rejected = ingest(HuggingFace(), root, tmp_path / "out")
    assert [row["clip_id"] for row in clips] == ["sub/a/00000000"]
    expected = hashlib.sha256(to_pcm16(soundfile.read(root / "sub/clips/a.wav")[0]).tobytes()).hexdigest()
    assert clips[0]["sha256"] == expected
    assert len(written) == 8000
    assert [row["reason"] for row in rejected] == ["missing", "empty", "empty", "empty", "empty", "empty"]


def test_foleys_own_shards(tree: Tree, tmp_path: Path) -> None:
    first, _ = ingest(HuggingFace(), tree.root, tmp_path / "first")
    again = tmp_path / "again" / "data"
    again.mkdir(parents=True)
    (tmp_path / "first" / "audio-0.parquet").rename(again / "shard-0.parquet")
    dataset = kind(recording_column="recording_id", split_column="split")
    second, rejected = ingest(dataset, tmp_path / "again", tmp_path / "second")
    assert rejected == []
    keys = ("label", "recording_id", "split", "sha256", "acoustic_hash", "duration_s")
    assert [[row[k] for k in keys] for row in second] == [[row[k] for k in keys] for row in first]


def test_fingerprint_follows_labels_and_audio(tree: Tree, tmp_path: Path) -> None:
    root = tmp_path / "r"
    for name in ("a", "b"):
        plain(root / f"{name}.parquet", audio=[one(1)], label=["x"])

    def look() -> Any:
        return fingerprint(root, 8, tmp_path / "cache", media=HuggingFace.media, tables=HuggingFace.tables)

    before = look()
    plain(root / "a.parquet", audio=[one(1)], label=["y"])
    after = look()
    # The label stands in the manifest, and in the shard of this file alone.
    assert after.index != before.index
    changed = {n for n in range(8) if after.shards[n] != before.shards[n]}
    assert changed == {shard_of("a.parquet", 8)} != {shard_of("b.parquet", 8)}
    (root / "beside.wav").write_bytes(b"audio that a row names")
    assert all(a != b for a, b in zip(look().shards, after.shards, strict=True))


# Errors


def test_errors_name_the_file_and_the_option(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no Parquet file below .* matches \['\*\.parquet'\]"):
        HuggingFace().check(tmp_path)
    root = plain(tmp_path / "r" / "a.parquet", audio=[one(0)], audio_2=[one(1)], label=["x"], text=["y"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.parquet").write_bytes(b"PAR1 and no more")
    mixed = tmp_path / "mixed"
    write_parquet(mixed / "a.parquet", rows_of(0, 2))
    from datasets import ClassLabel

    write_parquet(mixed / "b.parquet", rows_of(0, 2), label=ClassLabel(names=["x", "y", "z"]))
    for dataset, folder, message in (
        (kind(label_column="class"), root, r"a\.parquet has no column 'class' \(label_column .*it has \['audio'"),
        (kind(fold_column="fold"), root, r"no column 'fold' \(fold_column"),
        (kind(audio_column="text"), root, r"no audio column 'text', a struct of bytes and path"),
        (kind(fold_column="text"), root, r"a\.parquet, row 0: text must be a whole number, got 'y'"),
        (kind(label_column="audio_2"), root, r"row 0: audio_2 .* must hold class names"),
        (HuggingFace(), tmp_path / "broken", r"broken/a\.parquet is no readable Parquet file"),
        (HuggingFace(), mixed, r"b\.parquet and a\.parquet name different classes"),
        (HuggingFace(), plain(tmp_path / "n" / "a.parquet", label=["x"]), r"has no audio column \(a struct"),
        (HuggingFace(), plain(tmp_path / "s" / "a.parquet", audio_1=[one(0)], audio_2=[one(1)], label=["x"]),
         r"several audio columns, \['audio_1', 'audio_2'\]; name one as audio_column"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            dataset.scan(folder)
    with pytest.raises(FileNotFoundError, match="matches"):
        kind(patterns=("other/*.parquet",)).scan(root)


def test_class_number_without_a_name(tmp_path: Path) -> None:
    from datasets import ClassLabel

    columns = rows_of(0, 2) | {"label": [0, 1]}
    write_parquet(tmp_path / "a.parquet", columns, label=ClassLabel(names=["x", "y"]))
    table = pq.read_table(tmp_path / "a.parquet")
    at = table.schema.get_field_index("label")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array([0, 5])), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"row 1: class 5 is none of the 2 that the metadata name"):
        HuggingFace().scan(tmp_path)


# By name


def test_by_name() -> None:
    dataset = kind(repo="ashraq/esc50", revision=COMMIT, patterns=("data/train-*",))
    assert dataset.sources() == (
        HubSource("ashraq--esc50-42cc4a4a", "ashraq/esc50", COMMIT, patterns=("data/train-*",)),
    )
    assert dataset.storage == "ashraq--esc50-0123456789ab"
    assert "ashraq/esc50" in dataset.title
    assert HuggingFace().sources() == ()
    assert HuggingFace().storage is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repo": "a/b"}, "needs `revision`, a commit of 40 hexadecimal digits, got None: branches and tags move"),
        ({"repo": "a/b", "revision": "main"}, "needs `revision`"),
        ({"repo": "../b", "revision": COMMIT}, "`repo` must be owner/name"),
        ({"repo": "b", "revision": COMMIT}, "`repo` must be owner/name"),
        ({"revision": COMMIT}, "`revision` is for a `repo`"),
        ({"patterns": []}, "`patterns` is empty"),
        ({"label": "x"}, "unknown key `datasets.x.options.label`"),
    ],
)  # fmt: skip
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_options(HuggingFaceOptions, options, "datasets.x.options")
