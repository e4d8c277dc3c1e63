"""Datasets: what a scan finds, which shard a file belongs to, and what a changed tree invalidates."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_writer import WriteClip
from foley import tables
from foley.datasets.esc50 import ESC50
from foley.datasets.folder import Folder, FolderOptions
from foley.datasets.index import index_dataset, rows_of_shard
from foley.datasets.ingest import IngestOptions, collect_clips, ingest_shard
from foley.datasets.protocol import DatasetKind, RawClass, RawClip
from foley.datasets.registry import KINDS
from foley.datasets.tree import Fingerprint, fingerprint, read_list, shard_of
from foley.runtime.code import load
from foley.tables.clips import CLIPS, RAW_CLASSES, RAW_CLIPS, REJECTED


def touch(root: Path, *names: str) -> None:
    """Empty files: a scan opens no audio."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def scan(root: Path, **options: str) -> dict[str, RawClip]:
    return {clip.clip_id: clip for clip in Folder(FolderOptions(**options)).scan(root)}


def test_every_registered_kind_is_one() -> None:
    for target in KINDS.values():
        kind = load(target)
        assert issubclass(kind, DatasetKind)
        assert kind.title
        assert kind.licence


# A folder of class sub-folders


def test_folder(tmp_path: Path) -> None:
    touch(
        tmp_path, "dog/b.wav", "cat/a.flac", "cat/deep/er/c.MP3", "bird/d.ogg", "stray.wav", "cat/notes.txt"
    )
    touch(tmp_path, "cat/.hidden.wav", ".git/x.wav", "__MACOSX/cat/y.wav", "dog/.cache/z.wav")
    clips = scan(tmp_path)
    assert {clip_id: (clip.source, clip.label, clip.class_id) for clip_id, clip in clips.items()} == {
        "bird/d.ogg": ("bird/d.ogg", "bird", 0),
        "cat/a.flac": ("cat/a.flac", "cat", 1),
        "cat/deep/er/c.MP3": ("cat/deep/er/c.MP3", "cat", 1),
        "dog/b.wav": ("dog/b.wav", "dog", 2),
        "stray.wav": ("stray.wav", "", None),
    }
    # Without a pattern each file is a recording of its own.
    assert all(clip.recording_id == clip_id for clip_id, clip in clips.items())


def test_folder_with_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(
        tmp_path,
        "cat/a.mp4",
        "cat/b.MKV",
        "dog/c.m4a",
        "dog/d.webm",
        "dog/cover.jpg",
        ".git/objects/x",
        "dog/.e.wav",
    )
    assert set(scan(tmp_path)) == {"cat/a.mp4", "cat/b.MKV", "dog/c.m4a", "dog/d.webm"}
    assert (
        "1 files are neither audio nor video by their name and are left alone: ['dog/cover.jpg']"
        in caplog.text
    )


def test_a_new_file_renames_no_other(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.wav", "dog/a.wav")
    before = set(scan(tmp_path))
    touch(tmp_path, "cat/a.flac")
    assert set(scan(tmp_path)) == before | {"cat/a.flac"} == {"cat/a.wav", "cat/a.flac", "dog/a.wav"}


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.wav", "root/dog/b.wav")
    (tmp_path / "root" / "cat").symlink_to(tmp_path / "elsewhere")
    assert set(scan(tmp_path / "root")) == {"cat/a.wav", "dog/b.wav"}


@pytest.mark.parametrize("pattern", [r"(?P<take>\d+)_(?P<recording>[a-z]+)", r"\d+_([a-z]+)"])
def test_recording_pattern(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "cat/1_tom.wav", "cat/2_tom.wav", "cat/3_kit.wav", "dog/1_tom.wav", "dog/other.wav")
    recordings = {
        clip_id: clip.recording_id for clip_id, clip in scan(tmp_path, recording_pattern=pattern).items()
    }
    assert recordings == {
        "cat/1_tom.wav": "cat/tom", "cat/2_tom.wav": "cat/tom", "cat/3_kit.wav": "cat/kit", "dog/1_tom.wav": "dog/tom",
        "dog/other.wav": "dog/other.wav",
    }  # fmt: skip


def test_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recording_pattern is no regular expression"):
        FolderOptions(recording_pattern="(")
    with pytest.raises(FileNotFoundError, match="no folder at"):
        Folder().check(tmp_path / "gone")
    touch(tmp_path, "a.wav")
    with pytest.raises(FileNotFoundError, match="has no sub-folders"):
        Folder().check(tmp_path)
    (tmp_path / "dog").mkdir()
    (tmp_path / "a.wav").unlink()
    with pytest.raises(ValueError, match="no audio files below"):
        index_dataset(tmp_path / "m.parquet", tmp_path / "c.parquet", kind=Folder(), root=tmp_path, shards=1)


def test_manifest(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root, *(f"{label}/{n}.wav" for label in ("cat", "dog") for n in range(20)))
    index_dataset(
        tmp_path / "m.parquet", tmp_path / "c.parquet", kind=Folder(), root=root, shards=4,
        provenance={"rule": "index_dataset"},
    )  # fmt: skip
    rows = tables.read(tmp_path / "m.parquet", RAW_CLIPS).to_pylist()
    assert len(rows) == 40
    assert {row["shard"] for row in rows} == {0, 1, 2, 3}
    assert all(row["shard"] == shard_of(row["source"], 4) for row in rows)
    assert all(row["labels"] == [row["label"]] for row in rows)


def without_numbers(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"class_id": None} for row in rows]


def test_shards_make_up_the_manifest(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    touch(root, *(f"{label}/{n}.wav" for label in ("cat", "dog", "cat-1", "Cat") for n in range(200)))
    touch(root, "stray.flac", "cat/notes.txt", "dog/.hidden.wav")
    (root / "link").symlink_to(root / "cat")  # a folder is taken once
    kind = Folder(FolderOptions(recording_pattern=r"(\d)"))
    index_dataset(tmp_path / "m.parquet", tmp_path / "c.parquet", kind=kind, root=root, shards=3)
    manifest = tables.read(tmp_path / "m.parquet", RAW_CLIPS).to_pylist()
    assert len(manifest) == 801
    fingerprint(root, 3, cache, media=kind.media)
    for shard in range(3):
        mine = without_numbers(row for row in manifest if row["shard"] == shard)
        files = read_list(root, 3, shard, cache, media=kind.media)
        assert files == [row["source"] for row in sorted(mine, key=lambda row: row["source"])]
        assert without_numbers(rows_of_shard(kind, root, 3, shard, files)) == mine
        assert without_numbers(rows_of_shard(kind, root, 3, shard)) == mine


def test_a_shard_with_a_list_does_not_look_at_the_tree(
    tmp_path: Path, write_clip: WriteClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    for n in range(6):
        write_clip(root / "dog" / f"{n}.wav", n)
    fingerprint(root, 2, cache, media=Folder.media)
    walked = []
    walk = os.walk

    def watched(*args: Any, **options: Any) -> Any:
        walked.append(args)
        return walk(*args, **options)

    monkeypatch.setattr("os.walk", watched)

    def ingest(shard: int, name: str, cache: Path | None) -> list[str]:
        paths = [tmp_path / f"{name}-{shard}.parquet", tmp_path / f"{name}-{shard}-rejected.parquet"]
        ingest_shard(
            *paths, dataset="mine", kind=Folder(), root=root, shards=2, shard=shard, options=IngestOptions(),
            cache=cache,
        )  # fmt: skip
        return [name for path in paths for name in tables.read(path)["clip_id"].to_pylist()]

    by_list = [ingest(shard, "list", cache) for shard in (0, 1)]
    assert not walked and sorted(chain(*by_list)) == [f"dog/{n}.wav" for n in range(6)]
    # Without a list, or with a damaged one, the tree is listed.
    (damaged,) = cache.rglob("shard=0.json")
    damaged.write_text('["dog/0.w')
    assert [ingest(0, "damaged", cache), ingest(1, "tree", None)] == by_list
    assert len(walked) == 2
    # What is gone since is refused, not passed over.
    (root / by_list[1][0]).unlink()
    assert ingest(1, "gone", cache) == [*by_list[1][1:], by_list[1][0]]
    assert tables.read(tmp_path / "gone-1-rejected.parquet")["reason"].to_pylist() == ["missing"]


def test_a_new_file_changes_one_list(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    touch(root, *(f"dog/{n}.wav" for n in range(40)))
    fingerprint(root, 8, cache)
    before = {path: path.stat().st_ino for path in cache.rglob("shard=*.json")}
    assert len(before) == 8
    touch(root, "dog/new.wav")
    fingerprint(root, 8, cache)
    (changed,) = [path for path, number in before.items() if path.stat().st_ino != number]
    assert changed.name == f"shard={shard_of('dog/new.wav', 8)}.json"
    assert "dog/new.wav" in read_list(root, 8, shard_of("dog/new.wav", 8), cache)
    # A list that was lost is made again, also when nothing changed.
    changed.unlink()
    fingerprint(root, 8, cache)
    assert "dog/new.wav" in read_list(root, 8, shard_of("dog/new.wav", 8), cache)


# Classes


class Listed(DatasetKind):
    """A kind whose clips and classes a test gives."""

    title = "Listed"
    listed: ClassVar[list[RawClip]] = []
    defined: ClassVar[list[RawClass] | None] = None

    def scan(self, root: Path) -> list[RawClip]:
        return self.listed

    def classes(self, root: Path) -> list[RawClass] | None:
        return self.defined


def classes_of(tmp_path: Path, clips: list[RawClip], defined: list[RawClass] | None) -> list[tuple[int, str]]:
    kind = type("Given", (Listed,), {"listed": clips, "defined": defined})()
    index_dataset(tmp_path / "m.parquet", tmp_path / "c.parquet", kind=kind, root=tmp_path, shards=1)
    table = tables.read(tmp_path / "c.parquet", RAW_CLASSES)
    return list(zip(table["class_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def clip(name: str, label: str, class_id: int | None = None, *labels: str) -> RawClip:
    return RawClip(name, f"{name}.wav", label, name, class_id=class_id, labels=labels or None)


@pytest.mark.parametrize("source", ["dog/../../secret.wav", "/etc/secret.wav"])
def test_a_table_leads_nowhere_else(tmp_path: Path, source: str) -> None:
    class Astray(Folder):
        by_file = False

        def scan(self, root: Path) -> list[RawClip]:
            return [RawClip("a", source, "dog", "a", class_id=0)]

    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match=r"clip a names the file .*secret\.wav, which lies outside of"):
        list(rows_of_shard(Astray(), tmp_path, 1, 0))


def test_a_download_that_lost_files_says_how_to_get_them_again(tmp_path: Path) -> None:
    outputs = tmp_path / "m.parquet", tmp_path / "c.parquet"
    with pytest.raises(FileNotFoundError) as alone:
        index_dataset(*outputs, kind=Folder(), root=tmp_path, shards=1)
    assert "fetched anew" not in str(alone.value)
    (tmp_path / ".foley").mkdir()
    with pytest.raises(
        FileNotFoundError, match=f"no sub-folders.*delete {tmp_path / '.foley'} to have it fetched anew"
    ):
        index_dataset(*outputs, kind=Folder(), root=tmp_path, shards=1)


def test_classes_of_the_clips(tmp_path: Path) -> None:
    found = classes_of(
        tmp_path, [clip("a", "dog", 4), clip("b", "cat", 2), clip("c", "dog", 4), clip("d", "")], None
    )
    assert found == [(2, "cat"), (4, "dog")]
    for clips, message in (
        ([clip("a", "dog", 1), clip("b", "dog", 2)], "clip b is of class 2, 'dog'"),
        (
            [clip("a", "dog", 1), clip("b", "cat", 1)],
            "clip b is of class 1, 'cat'; others have class 1 as 'dog'",
        ),
        ([clip("a", "dog", 1), clip("b", "cat")], "clip b has the label 'cat', which has no class number"),
        ([clip("a", "dog", 1, "dog", "pet")], "clip a has the label 'pet', which has no class number"),
    ):
        with pytest.raises(ValueError, match=message):
            classes_of(tmp_path, clips, None)


def test_classes_that_the_dataset_defines(tmp_path: Path) -> None:
    defined = [RawClass(0, "animal"), RawClass(1, "dog", ("animal",)), RawClass(2, "rain")]
    clips = [clip("a", "dog", None, "dog", "animal"), clip("b", "")]
    assert classes_of(tmp_path, clips, defined) == [(0, "animal"), (1, "dog"), (2, "rain")]
    assert tables.read(tmp_path / "c.parquet")["parents"].to_pylist() == [[], ["animal"], []]
    # The class's number stands with its clips, whoever gave it.
    assert tables.read(tmp_path / "m.parquet")["class_id"].to_pylist() == [1, None]
    for clips, message in (
        (
            [clip("a", "cat")],
            "Listed: clip a has the label 'cat', which is none of the 3 classes that the dataset",
        ),
        ([clip("a", "dog", 1, "dog", "cat")], "clip a has the label 'cat', which is none"),
        ([clip("a", "dog", 2)], "clip a gives 'dog' the number 2; the dataset's own is 1"),
    ):
        with pytest.raises(ValueError, match=message):
            classes_of(tmp_path, clips, defined)
    with pytest.raises(ValueError, match="two of its 2 classes share a name or a number"):
        classes_of(tmp_path, [clip("a", "dog")], [RawClass(1, "dog"), RawClass(1, "cat")])
    with pytest.raises(ValueError, match="clip ids are not unique, for example a"):
        classes_of(tmp_path, [clip("a", "dog", 1), clip("a", "dog", 1)], None)


# ESC-50


@pytest.fixture
def esc50_root(tmp_path: Path, write_clip: WriteClip) -> Path:
    """The published layout, with clips as Ogg though the table names WAV, and one clip missing."""
    root = tmp_path / "ESC-50"
    (root / "meta").mkdir(parents=True)
    with (root / "meta" / "esc50.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for number in range(6):
            name = f"{number % 5 + 1}-{100 + number // 2}-A-{number % 3}"
            table.writerow([f"{name}.wav", number % 5 + 1, number % 3, ["dog", "cat", "rain"][number % 3],
                            "False", 100 + number // 2, "A"])  # fmt: skip
            if number != 4:
                write_clip(root / "audio" / f"{name}.ogg", number)
    return root


def test_esc50_layout(esc50_root: Path) -> None:
    clips = ESC50().scan(esc50_root)
    first, missing = clips[0], clips[4]
    assert first == RawClip(
        clip_id="1-100-A-0", source="audio/1-100-A-0.ogg", label="dog", recording_id="100", class_id=0, fold=1
    )
    assert clips[1].recording_id == "100"  # another clip of the same upload
    assert missing.source == "audio/5-102-A-1.wav"


def test_esc50_clip_without_its_file_is_rejected(esc50_root: Path, tmp_path: Path) -> None:
    manifest, audio, rejected = (tmp_path / f"{name}.parquet" for name in ("manifest", "audio", "rejected"))
    index_dataset(manifest, tmp_path / "raw_classes.parquet", kind=ESC50(), root=esc50_root, shards=1)
    ingest_shard(
        audio,
        rejected,
        dataset="esc50",
        kind=ESC50(),
        root=esc50_root,
        shards=1,
        shard=0,
        options=IngestOptions(),
    )
    collect_clips(
        tmp_path / "clips.parquet", tmp_path / "all-rejected.parquet", dataset="esc50", manifest=manifest,
        audio=[audio], rejected=[rejected], max_rejected=0.2, duplicates="reject",
    )  # fmt: skip
    (row,) = tables.read(tmp_path / "all-rejected.parquet", REJECTED).to_pylist()
    assert (row["clip_id"], row["reason"], row["detail"]) == (
        "5-102-A-1", "missing", "the dataset lists it, but there is no such file",
    )  # fmt: skip
    clips = tables.read(tmp_path / "clips.parquet", CLIPS)
    assert clips["fold"].to_pylist() == [1, 1, 2, 3, 4]


def test_esc50_errors(esc50_root: Path) -> None:
    table = esc50_root / "meta" / "esc50.csv"
    text = table.read_text()
    table.write_text(text.replace("src_file", "source"))
    with pytest.raises(ValueError, match=r"esc50\.csv lacks the columns \['src_file'\]"):
        ESC50().scan(esc50_root)
    table.write_text(text)
    (esc50_root / "audio" / "1-100-A-0.wav").touch()
    with pytest.raises(ValueError, match=r"two files for one clip: .*1-100-A-0"):
        ESC50().scan(esc50_root)
    table.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"not an ESC-50 folder: meta/esc50\.csv is not there; unpack http"
    ):
        ESC50().check(esc50_root)


def test_real_esc50(shared_data: Path) -> None:
    root = shared_data / "esc50"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    clips = ESC50().scan(root)
    # Piczak 2015: 50 classes of 40 clips in 5 folds.
    assert len(clips) == 2000
    assert len({clip.class_id for clip in clips}) == len({clip.label for clip in clips}) == 50
    assert {clip.fold for clip in clips} == {1, 2, 3, 4, 5}
    # Four uploads were cut into clips of two classes (hen and rooster, clock tick and alarm) in two folds, which is
    # why recordings, not folds, keep training and test apart.
    folds: dict[str, set[int | None]] = {}
    for clip in clips:
        folds.setdefault(clip.recording_id, set()).add(clip.fold)
    across = {name for name, found in folds.items() if len(found) > 1}
    assert across == {"131943", "134049", "209698", "234879"}


# Shards and fingerprints


def test_shards_are_those_of_every_platform() -> None:
    # printf dog/a.wav | sha256sum: the first eight bytes as a big-endian number, modulo.
    assert shard_of("dog/a.wav", 1000) == 0x9517C6DD4DF58BB2 % 1000


@given(st.lists(st.text(max_size=20), unique=True), st.integers(1, 50))
def test_adding_files_moves_no_other(names: list[str], shards: int) -> None:
    placed = {name: shard_of(name, shards) for name in names}
    assert all(0 <= shard < shards for shard in placed.values())
    assert placed == {name: shard_of(name, shards) for name in reversed(["new", *names]) if name in placed}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for number in range(12):
        path = root / "audio" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 100)
    (root / "labels.csv").write_text("file,label\n")
    return root


def differing(before: Fingerprint, after: Fingerprint) -> tuple[bool, set[int]]:
    """Whether the index changed, and which shards."""
    shards = {n for n, (a, b) in enumerate(zip(before.shards, after.shards, strict=True)) if a != b}
    return before.index != after.index, shards


def test_fingerprint_follows_content(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def look() -> Fingerprint:
        tables = ("*.csv",)
        found = fingerprint(tree, 4, cache, tables=tables)
        assert found == fingerprint(tree, 4, tmp_path / "no-cache-yet" / os.urandom(4).hex(), tables=tables)
        assert found == fingerprint(tree, 4, cache, tables=tables, trust_cache=True)
        return found

    first = look()
    os.utime(tree / "audio" / "3.wav", (1, 1))
    assert look() == first
    # The same length: size and mtime alone would not do.
    (tree / "audio" / "3.wav").write_bytes(b"!" * 100)
    second = look()
    assert differing(first, second) == (False, {shard_of("audio/3.wav", 4)})
    (tree / "labels.csv").write_text("file,label\n3.wav,dog\n")
    third = look()
    assert differing(second, third) == (True, {0, 1, 2, 3})
    (tree / "audio" / "new.wav").write_bytes(b"new")
    fourth = look()
    assert differing(third, fourth) == (True, {shard_of("audio/new.wav", 4)})
    (tree / "audio" / ".hidden.wav").write_bytes(b"x")
    # Neither audio nor a table of the dataset; a pipe, which must not be opened; a link that leads in a circle.
    (tree / "Thumbs.db").write_bytes(b"x")
    os.mkfifo(tree / "audio" / "pipe.wav")
    (tree / "audio" / "circle").symlink_to(tree)
    (tree / ".git").mkdir()
    (tree / ".git" / "config").write_text("x")
    (tree / "dangling.wav").symlink_to("nowhere")
    assert look() == fourth
    (tree / "audio" / "new.wav").unlink()
    assert look() == third


def test_datasets_that_share_a_folder_keep_their_own_files(tree: Path, tmp_path: Path) -> None:
    (tree / "video.mp4").write_bytes(b"video")
    (tree / "other.json").write_text("{}")

    def look(cache: Path, trust: bool = False) -> tuple[Fingerprint, Fingerprint]:
        wav = fingerprint(tree, 4, cache, media=frozenset([".wav"]), tables=("*.csv",), trust_cache=trust)
        return wav, fingerprint(
            tree, 4, cache, media=frozenset([".mp4"]), tables=("*.json",), trust_cache=trust
        )

    alone = look(tmp_path / "a")[0], look(tmp_path / "b")[1]
    assert look(tmp_path / "a") == look(tmp_path / "a", trust=True) == alone
    (tree / "other.json").write_text("[]")
    (tree / "audio" / "3.wav").unlink()
    after = look(tmp_path / "a")
    assert differing(alone[0], after[0]) == (True, {shard_of("audio/3.wav", 4)})
    assert differing(alone[1], after[1]) == (True, {0, 1, 2, 3})
    assert look(tmp_path / "a", trust=True) == after == look(tmp_path / "new")


def test_fingerprint_without_a_folder_or_with_a_damaged_cache(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at"):
        fingerprint(tree / "gone", 2, tmp_path / "cache")
    first = fingerprint(tree, 2, tmp_path / "cache")
    for kept in (tmp_path / "cache" / "trees").rglob("*.json"):
        kept.write_text("{ damaged")
    assert fingerprint(tree, 2, tmp_path / "cache", trust_cache=True) == first
    for kept in (tmp_path / "cache" / "trees").rglob("*.json"):
        kept.write_text("{ damaged")
    assert fingerprint(tree, 2, tmp_path / "cache") == first
    # Jobs trust the main process's look and do not see what changed since; nor do they need every file's hash.
    (tree / "audio" / "3.wav").write_bytes(b"changed")
    hashes = max((tmp_path / "cache" / "trees").glob("*.json"), key=lambda path: path.stat().st_size)
    assert "audio/3.wav" in hashes.read_text()
    hashes.unlink()
    assert fingerprint(tree, 2, tmp_path / "cache", trust_cache=True) == first
    assert not hashes.exists()
    assert fingerprint(tree, 2, tmp_path / "cache") != first
