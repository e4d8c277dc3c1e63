"""The datasets of environmental sound: what a scan finds in their real layouts, and what it says of broken ones."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import yaml

from foley.classes.table import ClassTable, read_class_table
from foley.classes.word_vectors import load_word_vectors
from foley.datasets import arca23k_fsd, esc50, fsc22, fsd50k, tau2019, urbansound8k
from foley.datasets.arca23k_fsd import ARCA23KFSD
from foley.datasets.checksums import INDEXES, Comparison, Index, compare, installed_index
from foley.datasets.esc50 import ESC50, ESC50Options
from foley.datasets.fsc22 import FSC22, source_of
from foley.datasets.fsd50k import FSD50K
from foley.datasets.protocol import DatasetKind, RawClip
from foley.datasets.tau2019 import TAU2019
from foley.datasets.urbansound8k import UrbanSound8K
from foley.download.joined import join
from foley.download.sources import Source
from foley.options import ConfigError, parse_options
from trees import Tree, sound

RESOURCES = Path(__file__).resolve().parents[1] / "resources"
CLASSES: dict[str, Callable[..., DatasetKind]] = {
    "esc50": ESC50,
    "urbansound8k": UrbanSound8K,
    "fsd50k": FSD50K,
    "arca23k_fsd": ARCA23KFSD,
    "fsc22": FSC22,
    "tau2019": TAU2019,
}
KINDS = sorted(CLASSES)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    """A tree of each kind. Don't change them: copy."""
    folder = tmp_path_factory.mktemp("sound")
    return {kind: getattr(sound, f"build_{kind}")(folder / kind, seconds=0.1) for kind in KINDS}


@pytest.fixture
def copy(trees: dict[str, Tree], tmp_path: Path) -> Callable[[str], tuple[DatasetKind, Path]]:
    """A function that copies the tree of a kind, to be broken."""

    def make(kind: str) -> tuple[DatasetKind, Path]:
        root = tmp_path / kind
        shutil.copytree(trees[kind].root, root)
        return CLASSES[kind](), root

    return make


def rewrite(path: Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, count))


def by_id(clips: list[RawClip]) -> dict[str, RawClip]:
    return {clip.clip_id: clip for clip in clips}


# What a scan finds


@pytest.mark.parametrize("kind", KINDS)
def test_scan_finds_what_the_tree_holds(trees: dict[str, Tree], kind: str) -> None:
    tree = trees[kind]
    clips = CLASSES[kind]().scan(tree.root)
    assert by_id(clips) == by_id(getattr(sound, f"{kind}_clips")())
    assert len(clips) == tree.clips == len(by_id(clips))
    assert {label for clip in clips for label in clip.labels or (clip.label,)} == tree.labels
    assert all((tree.root / clip.source).is_file() for clip in clips)
    # At least two clips a class, and the tree keeps what the dataset promises.
    assert min(Counter(clip.label for clip in clips).values()) >= 2
    for what, between in CLASSES[kind]().claims:
        sides: dict[str, set[object]] = {}
        for clip in clips:
            if getattr(clip, between) is not None:
                sides.setdefault(getattr(clip, f"{what}_id"), set()).add(getattr(clip, between))
        assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("kind", KINDS)
def test_official_splits_are_those_of_the_clips(trees: dict[str, Tree], kind: str) -> None:
    clips = CLASSES[kind]().scan(trees[kind].root)
    found = {f"fold{clip.fold}" for clip in clips if clip.fold is not None}
    if {"train", "test"} <= {clip.split for clip in clips}:
        found.add("official")
    told = CLASSES[kind]().official_splits
    assert told is not None and found <= set(told) and bool(found) == bool(told)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_have_the_numbers_of_the_clips(trees: dict[str, Tree], kind: str) -> None:
    classes = CLASSES[kind]().classes(trees[kind].root)
    assert classes is not None
    numbers = {item.label: item.class_id for item in classes}
    assert len(numbers) == len(set(numbers.values())) == len(classes)
    for clip in CLASSES[kind]().scan(trees[kind].root):
        assert numbers[clip.label] == clip.class_id
        assert set(clip.labels or ()) <= set(numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_without_its_file_is_listed(copy: Callable, kind: str) -> None:
    dataset, root = copy(kind)
    before = by_id(dataset.scan(root))
    gone = sorted(before)[0]
    (root / before[gone].source).unlink()
    assert by_id(dataset.scan(root)) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_copy_is_found(copy: Callable, kind: str) -> None:
    dataset, root = copy(kind)
    clip = dataset.scan(root)[0]
    wav = root / clip.source
    samples, rate = soundfile.read(wav)
    soundfile.write(wav.with_suffix(".flac"), samples, rate)
    wav.unlink()
    assert by_id(dataset.scan(root))[clip.clip_id].source == f"{clip.source[:-4]}.flac"


def test_esc10(tmp_path: Path) -> None:
    tree = sound.build_esc50(tmp_path, subset="esc10", seconds=0.1)
    dataset = ESC50(parse_options(ESC50Options, tree.options, "options"))
    clips = dataset.scan(tree.root)
    assert by_id(clips) == by_id(sound.esc50_clips("esc10"))
    assert len(clips) == tree.clips < len(ESC50().scan(tree.root))
    classes = dataset.classes(tree.root)
    assert classes is not None
    # The numbers of ESC-50, with gaps.
    assert [(item.class_id, item.label) for item in classes] == [
        (0, "dog"), (10, "rain"), (38, "clock_tick"), (41, "chainsaw")
    ]  # fmt: skip
    assert (dataset.published_clips, dataset.licence) == (400, "CC BY")
    assert dataset.claims == {("recording", "fold")}
    # Of that instance alone.
    assert (ESC50().published_clips, ESC50().licence, ESC50().claims) == (2000, "CC BY-NC 3.0", frozenset())
    assert dataset.storage == ESC50.storage == "esc50"
    with pytest.raises(ConfigError, match=r"`options\.subset`.*'esc50' or 'esc10'"):
        parse_options(ESC50Options, {"subset": "esc20"}, "options")


def test_fsc22_flat_folder(tmp_path: Path) -> None:
    tree = sound.build_fsc22(tmp_path, flat=True, seconds=0.1)
    assert by_id(FSC22().scan(tree.root)) == by_id(sound.fsc22_clips("audio"))
    # The authors' repository has the clips in another folder.
    (tree.root / "audio").rename(tree.root / "Audios")
    assert by_id(FSC22().scan(tree.root)) == by_id(sound.fsc22_clips("Audios"))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("17548__A.wav", "17548"),
        ("34065.wav", "34065"),
        ("379247__13f-panska-petruzelova-anna__deep-silent-in-the-forest(1) (1).wav", "379247"),
        ("2409__mr-chips__uk-park-atmos-day (1)2.wav", "2409"),
        ("tree-felli_07054077-2.wav", "tree-felli_07054077"),
        ("Chainsaw slow.wav.wav", "Chainsaw slow"),
        ("3.wav", "3"),
    ],
)
def test_fsc22_recordings(name: str, source: str) -> None:
    assert source_of(name) == source


def test_fsd50k_without_metadata_has_no_uploaders(copy: Callable) -> None:
    dataset, root = copy("fsd50k")
    shutil.rmtree(root / "FSD50K.metadata")
    assert {clip.speaker_id for clip in dataset.scan(root)} == {None}


def test_fsd50k_hierarchy_is_the_one_of_the_labels(copy: Callable) -> None:
    dataset, root = copy("fsd50k")
    parents = {item.label: item.parents for item in dataset.classes(root) or ()}
    assert parents["Electric_guitar"] == ("Guitar",)
    assert parents["Guitar"] == ("Plucked_string_instrument",)
    assert parents["Bark"] == ("Dog",)
    assert parents["Rain"] == ("Water",)
    assert parents["Music"] == parents["Thump_and_thud"] == ()
    # No clip of it here: as the ontology has it.
    assert parents["Clapping"] == ("Hands", "Human_group_actions")
    # A label that was not propagated to a parent goes to the next class above that it was propagated to.
    for table in ("dev", "eval"):
        rewrite(root / "FSD50K.ground_truth" / f"{table}.csv", "Dog,", "")
        rewrite(root / "FSD50K.ground_truth" / f"{table}.csv", "/m/0dog,", "")
    parents = {item.label: item.parents for item in dataset.classes(root) or ()}
    assert parents["Bark"] == ("Domestic_animals_and_pets",)


# What is said of broken trees

MISSING = [
    ("esc50", "meta/esc50.csv", r"is not an ESC-50 folder: meta/esc50\.csv is not there; unpack https://github"),
    ("esc50", "audio", r"is not an ESC-50 folder: audio is not there"),
    ("urbansound8k", "metadata/UrbanSound8K.csv", r"metadata/UrbanSound8K\.csv is not there; unpack Urban\S+\.tar\.gz"),
    ("urbansound8k", "audio", r"is not an UrbanSound8K folder: audio is not there"),
    ("fsd50k", "FSD50K.ground_truth/eval.csv", r"FSD50K\.ground_truth/eval\.csv is not there; unpack the archives"),
    ("fsd50k", "FSD50K.ground_truth/vocabulary.csv", r"FSD50K\.ground_truth/vocabulary\.csv is not there"),
    ("fsd50k", "FSD50K.eval_audio", r"is not an FSD50K folder: FSD50K\.eval_audio is not there"),
    ("arca23k_fsd", "ARCA23K-FSD.ground_truth/val.csv", r"ARCA23K-FSD\.ground_truth/val\.csv is not there; unpack"),
    ("arca23k_fsd", "FSD50K.dev_audio", r"is not an ARCA23K-FSD folder: FSD50K\.dev_audio is not there"),
    ("fsc22", sound.KAGGLE_TABLE, r"is not an FSC22 folder: no table at any of .*Kaggle wants an account"),
    ("fsc22", sound.KAGGLE_AUDIO, r"is not an FSC22 folder: no clips at any of .*Audios.*kaggle\.com"),
    ("tau2019", "meta.csv", r"is not a TAU 2019 folder: meta\.csv is not there; unpack TAU-\S+\.meta\.zip"),
    ("tau2019", "evaluation_setup/fold1_test.csv", r"evaluation_setup/fold1_test\.csv is not there"),
    ("tau2019", "audio", r"is not a TAU 2019 folder: audio is not there; .* the 21 archives"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "part", "message"), MISSING)
def test_missing_part(copy: Callable, kind: str, part: str, message: str) -> None:
    dataset, root = copy(kind)
    dataset.check(root)
    path = root / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for call in (dataset.check, dataset.scan):
        with pytest.raises(FileNotFoundError, match=message):
            call(root)


@pytest.mark.parametrize("kind", KINDS)
def test_no_folder_at_all(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FileNotFoundError, match="no folder at"):
        CLASSES[kind]().check(tmp_path / "nothing")


BROKEN = [
    # A column that is missing.
    ("esc50", "meta/esc50.csv", "src_file", "source", r"esc50\.csv lacks the columns \['src_file'\]; it has \['filen"),
    ("urbansound8k", "metadata/UrbanSound8K.csv", "fsID", "id", r"UrbanSound8K\.csv lacks the columns \['fsID'\]"),
    ("fsd50k", "FSD50K.ground_truth/dev.csv", ",split", ",part", r"dev\.csv lacks the columns \['split'\]"),
    ("fsd50k", "FSD50K.ground_truth/eval.csv", "labels", "classes", r"eval\.csv lacks the columns \['labels'\]"),
    ("arca23k_fsd", "ARCA23K-FSD.ground_truth/val.csv", "label", "class", r"val\.csv lacks the columns \['label'\]"),
    ("fsc22", sound.KAGGLE_TABLE, "Class Name", "Class", r"FSC22\.csv lacks the columns \['Class Name'\]"),
    ("tau2019", "meta.csv", "identifier", "place", r"meta\.csv lacks the columns \['identifier'\]"),
    ("tau2019", "evaluation_setup/fold1_train.csv", "filename", "file", r"fold1_train\.csv lacks the columns"),
    # A class that the dataset does not define.
    ("esc50", "meta/esc50.csv", ",dog,", ",wolf,", r"esc50\.csv, line 2: class 'wolf' is not one of the 50"),
    ("urbansound8k", "metadata/UrbanSound8K.csv", "siren", "drum", r"line \d+: class 'drum' is not one of the 10"),
    ("fsd50k", "FSD50K.ground_truth/dev.csv", "Guitar,", "Lute,", r"line 2: class 'Lute' is not one of the 200"),
    ("arca23k_fsd", "ARCA23K-FSD.ground_truth/test.csv", "Bark", "Moo", r"test\.csv, line 3: class 'Moo' .* the 70"),
    ("fsc22", sound.KAGGLE_TABLE, "WingFlaping", "WingFlap", r"line 11: class 'WingFlap' is not one of the 27"),
    ("tau2019", "meta.csv", "\ttram\t", "\tferry\t", r"meta\.csv, line 10: class 'ferry' is not one of the 10"),
    # Numbers that are none, or others than the class has.
    ("esc50", "meta/esc50.csv", ",1,0,dog", ",one,0,dog", r"line 2: fold must be a whole number, got 'one'"),
    ("urbansound8k", "metadata/UrbanSound8K.csv", ",8,siren", ",9,siren", r"classID 9 is not that of 'siren'"),
    ("urbansound8k", "metadata/UrbanSound8K.csv", ",1,3,dog", ",11,3,dog", r"line 2: fold must be 1 to 10, got 11"),
    ("fsc22", sound.KAGGLE_TABLE, ",1,Fire", ",2,Fire", r"line 2: Class ID 2 is not that of 'Fire', which is 1"),
    ("fsc22", sound.KAGGLE_TABLE, ",1,Fire", ",x,Fire", r"line 2: Class ID must be a whole number, got 'x'"),
    # Other contents that cannot be.
    ("fsd50k", "FSD50K.ground_truth/dev.csv", ",train", ",dev", r"line 2: split must be train or val, got 'dev'"),
    ("fsd50k", "FSD50K.ground_truth/dev.csv", "/m/02sgy,", "", r"dev\.csv, line 2: labels and mids must be as many"),
    ("fsd50k", "FSD50K.ground_truth/vocabulary.csv", "1,Accordion", "7,Accordion", r"line 2: expected `1,<label>"),
    ("fsd50k", "FSD50K.metadata/dev_clips_info_FSD50K.json", "uploader", "by", r"got KeyError: 'uploader'; unpack it"),
    ("tau2019", "meta.csv", "audio/park-vienna", "audio/park-rome", r"lacks 2 segments that evaluation_setup/ names"),
    ("tau2019", "evaluation_setup/fold1_test.csv", "airport-vienna-2-20", "airport-lyon-1-10", r"in both train"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "table", "old", "new", "message"), BROKEN)
def test_broken_table(copy: Callable, kind: str, table: str, old: str, new: str, message: str) -> None:
    dataset, root = copy(kind)
    rewrite(root / table, old, new)
    with pytest.raises(ValueError, match=message):
        dataset.scan(root)


def test_esc50_class_with_two_names(copy: Callable) -> None:
    dataset, root = copy("esc50")
    rewrite(root / "meta" / "esc50.csv", ",0,dog", ",0,cat", 1)
    with pytest.raises(ValueError, match=r"line 3: target 0 is both 'cat' and 'dog'"):
        dataset.classes(root)


# Sources


@pytest.mark.parametrize("kind", KINDS)
def test_sources(kind: str) -> None:
    dataset = CLASSES[kind]()
    assert dataset.title and dataset.licence and dataset.citation and dataset.url.startswith("https://")
    sources = dataset.sources()
    assert bool(sources) != bool(dataset.by_hand)
    assert len({source.name for source in sources}) == len(sources)
    names = []
    for source in sources:
        assert isinstance(source, Source)
        assert source.unpacked_bytes is not None and source.files
        assert len(source.files) == 1 or source.files[-1].name.endswith(".zip")
        for file in source.files:
            names.append(file.name)
            assert file.url.startswith("https://")
            if file.name == "ARCA23K-FSD.ground_truth.zip":  # the one that nothing is known of
                assert (file.size_bytes, file.checksum) == (None, None)
                continue
            assert file.size_bytes is not None and file.size_bytes > 1000
            digits = {"md5": 32, "sha256": 64}
            assert file.checksum is not None
            algorithm, digest = file.checksum.split(":")
            assert re.fullmatch(rf"[0-9a-f]{{{digits[algorithm]}}}", digest)
    assert len(set(names)) == len(names)


def test_sizes_of_what_is_fetched() -> None:
    def total(dataset: DatasetKind) -> int:
        return sum(source.size_bytes or 0 for source in dataset.sources())

    # Zenodo's record 4060432 without its documentation (6,984 bytes).
    assert total(FSD50K()) == 24_671_691_926 + 334_701 + 6_700_838
    # Its audio and a small file of unknown size.
    assert total(ARCA23KFSD()) == 24_671_691_926
    assert {source.name for source in ARCA23KFSD().sources()} - {
        source.name for source in FSD50K().sources()
    } == {"ARCA23K-FSD.ground_truth"}
    assert ARCA23KFSD.storage == FSD50K.storage
    assert len(TAU2019().sources()) == 22
    assert Source("two", (*ESC50().sources()[0].files, *ARCA23KFSD().sources()[0].files)).size_bytes is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_serves_what_is_fetched(trees: dict[str, Tree], kind: str) -> None:
    tree = trees[kind]
    if kind == "fsc22":
        assert tree.overrides == {}
        return
    assert {path.name for path in tree.served.iterdir()} == set(tree.overrides)
    # Parts of split zips aside: a tiny zip may have fewer.
    wanted = {file.name for source in CLASSES[kind]().sources() for file in source.files}  # type: ignore[union-attr]
    assert wanted == set(tree.overrides)
    for name, override in tree.overrides.items():
        content = (tree.served / name).read_bytes()
        assert override["size_bytes"] == len(content)
        assert override["checksum"] == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "fsc22"])
def test_archives_unpack_to_the_tree(trees: dict[str, Tree], tmp_path: Path, kind: str) -> None:
    tree = trees[kind]
    for source in CLASSES[kind]().sources():
        assert isinstance(source, Source)
        parts = [tree.served / file.name for file in source.files]
        members: dict[str, bytes] = {}
        if parts[0].name.endswith(".tar.gz"):
            with tarfile.open(parts[0]) as packed:
                for info in packed:
                    if info.isfile():
                        stream = packed.extractfile(info)
                        assert stream is not None
                        members[info.name] = stream.read()
        else:
            with zipfile.ZipFile(join(parts) if len(parts) > 1 else parts[0]) as zipped:
                members = {
                    info.filename: zipped.read(info) for info in zipped.infolist() if not info.is_dir()
                }
        assert members
        for name, content in members.items():
            path = tmp_path / source.into / "/".join(name.split("/")[source.strip :])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert {
        path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    } == {path.relative_to(tree.root): path.read_bytes() for path in tree.root.rglob("*") if path.is_file()}


def test_split_zip_is_what_zip_makes(trees: dict[str, Tree], tmp_path: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("no zip")
    archive, joined = trees["fsd50k"].served / "FSD50K.dev_audio.zip", tmp_path / "joined.zip"
    subprocess.run(["zip", "-q", "-s", "0", archive, "--out", joined], check=True)
    with zipfile.ZipFile(joined) as packed:
        assert packed.testzip() is None
        names = [info.filename for info in packed.infolist() if not info.is_dir()]
    assert len(names) == sum(clip.split != "test" for clip in sound.fsd50k_clips())


def test_archives_are_the_same_each_time(trees: dict[str, Tree], tmp_path: Path) -> None:
    again = sound.build_fsd50k(tmp_path, seconds=0.1)
    assert again.overrides == trees["fsd50k"].overrides
    # So FSD50K and ARCA23K-FSD can share what is fetched.
    shared = {name for name in again.overrides if "audio" in name}
    assert shared and all(trees["arca23k_fsd"].overrides[name] == again.overrides[name] for name in shared)


# Class tables and zero-shot splits


def class_table(kind: str) -> ClassTable:
    return read_class_table(RESOURCES / "classes" / f"{kind}.yaml")


@pytest.mark.parametrize(
    ("kind", "labels", "first"),
    [
        ("esc50", esc50.CLASSES, 0),
        ("urbansound8k", urbansound8k.CLASSES, 0),
        ("arca23k_fsd", arca23k_fsd.CLASSES, 0),
        ("fsc22", fsc22.CLASSES, 1),
        ("tau2019", tau2019.CLASSES, 0),
        ("fsd50k", None, 0),
    ],
)
def test_class_tables(kind: str, labels: tuple[str, ...] | None, first: int) -> None:
    table = class_table(kind)
    assert [info.class_id for info in table.classes] == list(range(first, first + len(table.classes)))
    if labels is not None:
        assert tuple(info.label for info in table.classes) == labels
    else:
        assert len(table.classes) == 200
    for info in table.classes:
        assert 5 <= len(info.synonyms) <= 9, info.label
        words = [*info.words, *info.synonyms]
        assert all(word.isalpha() and word.islower() for word in words), info.label
        assert len(set(words)) == len(words), info.label
        # Words are those of the label in any order, besides `gunshot` for `gun_shot` and `flapping` for `Flaping`.
        assert set(info.words) - {"gunshot", "flapping"} <= set(re.findall("[a-z]+", _spaced(info.label))), (
            info.label
        )


def _spaced(label: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label).replace("_", " ").lower()


def test_arca23k_fsd_classes_are_some_of_fsd50k() -> None:
    words = {info.label: (info.words, info.synonyms) for info in class_table("fsd50k").classes}
    for info in class_table("arca23k_fsd").classes:
        assert words[info.label] == (info.words, info.synonyms)


def test_hierarchy_knows_only_classes_of_fsd50k() -> None:
    labels = {info.label for info in class_table("fsd50k").classes}
    assert set(fsd50k.PARENTS) | {p for parents in fsd50k.PARENTS.values() for p in parents} <= labels

    def above(label: str, below: frozenset[str]) -> None:
        assert label not in below, "a class above itself"
        for parent in fsd50k.PARENTS.get(label, ()):
            above(parent, below | {label})

    for label in labels:
        above(label, frozenset())


SPLITS = {
    "urbansound8k": {"test": (3, 7)},
    "tau2019": {"test": (3, 7)},
    "fsc22": {"val": (7, 13), "test": (7, 20)},
    "arca23k_fsd": {**{f"fold{fold}": (10, 50) for fold in range(6)}, "test": (10, 60)},
}


@pytest.mark.parametrize("kind", sorted(SPLITS))
def test_zero_shot_splits(kind: str) -> None:
    splits = yaml.safe_load((RESOURCES / "splits" / "zero_shot" / f"{kind}.yaml").read_text())["splits"]
    labels = {info.label for info in class_table(kind).classes}
    assert list(splits) == list(SPLITS[kind])
    for name, split in splits.items():
        assert set(split) <= {"unseen", "exclude"}
        unseen, excluded = set(split["unseen"]), set(split.get("exclude", []))
        assert unseen | excluded <= labels and not unseen & excluded
        assert excluded == (set() if name == "test" else set(splits["test"]["unseen"]))
        assert (len(unseen), len(labels - unseen - excluded)) == SPLITS[kind][name]
    if kind == "arca23k_fsd":  # each class is unseen in just one split
        assert Counter(label for split in splits.values() for label in split["unseen"]) == Counter(labels)


def test_zero_shot_splits_are_the_published_ones(shared_data: Path) -> None:
    path = shared_data / "reference" / "zsl_splits.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    published = json.loads(path.read_text())
    for kind in SPLITS:
        splits = yaml.safe_load((RESOURCES / "splits" / "zero_shot" / f"{kind}.yaml").read_text())["splits"]
        classes = class_table(kind).classes
        theirs = published["arca23k-fsd" if kind == "arca23k_fsd" else kind]
        assert set(theirs) == set(splits)
        for name, split in splits.items():
            # The study counts FSC22's classes from 0 and names those of ARCA23K-FSD.
            expected = [item if isinstance(item, str) else classes[item].label for item in theirs[name]]
            assert split["unseen"] == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "esc50"])
def test_most_class_words_have_vectors(shared_data: Path, kind: str) -> None:
    path = shared_data / "vectors" / "words-300d.bin"
    if not path.is_file():
        pytest.skip(f"no {path}")
    classes = class_table(kind).classes
    words = {word for info in classes for word in (*info.words, *info.synonyms)}
    found = set(load_word_vectors(path, words))
    assert len(found) > 0.7 * len(words)
    for info in classes:
        assert len(found.intersection((*info.words, *info.synonyms))) >= 3, info.label


# The real metadata


def test_real_urbansound8k(shared_data: Path, tmp_path: Path) -> None:
    table = shared_data / "layouts" / "UrbanSound8K.csv"
    if not table.is_file():
        pytest.skip(f"no {table}")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "audio").mkdir()
    shutil.copy(table, tmp_path / "metadata" / "UrbanSound8K.csv")
    clips = UrbanSound8K().scan(tmp_path)
    # Salamon et al. 2014, and the read-me.
    assert len(clips) == len(by_id(clips)) == UrbanSound8K.published_clips == 8732
    assert Counter(clip.fold for clip in clips) == {
        1: 873, 2: 888, 3: 925, 4: 990, 5: 936, 6: 823, 7: 838, 8: 806, 9: 816, 10: 837
    }  # fmt: skip
    rare = {"car_horn": 429, "gun_shot": 374, "siren": 929}
    assert Counter(clip.label for clip in clips) == {
        label: rare.get(label, 1000) for label in urbansound8k.CLASSES
    }
    assert all(clip.source == f"audio/fold{clip.fold}/{clip.clip_id}.wav" for clip in clips)
    folds: dict[str, set[int | None]] = {}
    for clip in clips:
        folds.setdefault(clip.recording_id, set()).add(clip.fold)
    assert len(folds) == 1297
    # Why the kind claims nothing.
    assert {recording for recording, found in folds.items() if len(found) > 1} == {
        "77751", "106905", "132016", "176638", "180937"
    }  # fmt: skip
    assert UrbanSound8K.claims == frozenset()


def test_real_esc50(shared_data: Path) -> None:
    root = shared_data / "esc50"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    for subset, classes, crossing in (
        ("esc50", 50, {"131943", "134049", "209698", "234879"}),
        ("esc10", 10, set()),
    ):
        dataset = ESC50(ESC50Options(subset))  # type: ignore[arg-type]
        clips = dataset.scan(root)
        assert len(clips) == len(by_id(clips)) == dataset.published_clips == 40 * classes
        assert set(Counter(clip.label for clip in clips).values()) == {40}
        assert Counter(clip.fold for clip in clips) == dict.fromkeys(range(1, 6), 8 * classes)
        assert all(esc50.CLASSES[clip.class_id or 0] == clip.label for clip in clips)
        defined = dataset.classes(root)
        assert defined is not None and len(defined) == classes
        assert {(item.class_id, item.label) for item in defined} == {
            (clip.class_id, clip.label) for clip in clips
        }
        folds: dict[str, set[int | None]] = {}
        for clip in clips:
            folds.setdefault(clip.recording_id, set()).add(clip.fold)
        # Why ESC-50 claims nothing and ESC-10 does.
        assert {recording for recording, found in folds.items() if len(found) > 1} == crossing
        assert bool(dataset.claims) == (not crossing)


def test_real_fsd50k_classes(shared_data: Path) -> None:
    path = shared_data / "layouts" / "FSD50K" / "class_labels_indices.csv"
    if not path.is_file():
        pytest.skip(f"no {path}")
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(int(row["index"]), row["display_name"]) for row in rows] == [
        (info.class_id, info.label) for info in class_table("fsd50k").classes
    ]
    mids = {row["display_name"]: row["mid"] for row in rows}
    assert sound.MIDS.items() <= mids.items()


# Published checksums


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def test_checksums_of_a_tree(copy: Callable, tmp_path: Path) -> None:
    _, root = copy("tau2019")
    clips = sound.tau2019_clips()
    prefix = "TAU-urban-acoustic-scenes-2019-development/"
    index = {
        "version": "1.0",
        "clips": {
            f"development/{clip.clip_id}": {"audio": [prefix + clip.source, md5(root / clip.source)]} for clip in clips
        }
        # Another part of the dataset, which is not ours.
        | {"evaluation/0": {"audio": ["TAU-urban-acoustic-scenes-2019-evaluation/audio/0.wav", "0" * 32]}},
        "metadata": {"meta.csv": {"meta": [f"{prefix}meta.csv", "0" * 32]}},
    }  # fmt: skip
    path = tmp_path / "tau2019uas_index_1.0.json"
    path.write_text(json.dumps(index))
    assert compare(root, "tau2019", index=path) == Comparison(
        index=path.name, published=len(clips), matching=len(clips)
    )
    (root / clips[3].source).write_bytes(b"other")
    (root / clips[5].source).unlink()
    assert compare(root, "tau2019", index=path, workers=2) == Comparison(
        index=path.name,
        published=len(clips),
        matching=len(clips) - 2,
        different=1,
        missing=1,
        different_names=(clips[3].source,),
        missing_names=(clips[5].source,),
    )


def test_checksums_in_the_form_of_mirdata(tmp_path: Path) -> None:
    file = tmp_path / "genres" / "jazz" / "jazz.00001.wav"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"audio")
    path = tmp_path / "gtzan_genre_index_1.0.json"
    track = {
        "audio": ["gtzan_genre/genres/jazz/jazz.00001.wav", md5(file)],
        "beats": ["elsewhere/x.beats", "0" * 32],
    }
    path.write_text(json.dumps({"version": "1.0", "tracks": {"jazz.00001": track}}))
    assert compare(tmp_path, "gtzan", index=path).matching == 1


@pytest.mark.parametrize("text", ["", "[]", '{"clips": {"a": {}}}', '{"clips": {"a": {"audio": [1]}}}'])
def test_damaged_list_of_checksums(tmp_path: Path, text: str) -> None:
    path = tmp_path / "esc50_index.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"esc50_index\.json is no list of checksums as soundata has them"):
        compare(tmp_path, "esc50", index=path)


def test_lists_of_checksums_are_found_in_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Index("listing_package", "esc50")
    assert installed_index(known) is None
    indexes = tmp_path / "listing_package" / "datasets" / "indexes"
    indexes.mkdir(parents=True)
    # It is found without being imported.
    (tmp_path / "listing_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_index(known) is None
    for name in ("esc50_index_2.0_sample.json", "esc50_1.0_mini_index.json", "other_index_1.0.json"):
        (indexes / name).touch()
    assert installed_index(known) is None
    (indexes / "esc50_index_2.0.json").touch()
    assert installed_index(known) == indexes / "esc50_index_2.0.json"
    assert "listing_package" not in sys.modules
    monkeypatch.setitem(INDEXES, "esc50", Index("a_package_that_is_not_here", "esc50"))
    told = compare(tmp_path, "esc50")
    assert told.published == 0 and told.not_checked is not None
    assert (
        "install a_package_that_is_not_here and run `a_package_that_is_not_here.initialize('esc50')"
        in told.not_checked
    )
    assert (
        compare(tmp_path, "folder").not_checked == "no list of per-clip checksums is known for this dataset"
    )


def test_checksums_of_a_tree_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "esc50_index.json"
    path.write_text(json.dumps({"version": "2.0", "clips": {"a": {"audio": ["audio/a.wav", "0" * 32]}}}))
    gone = tmp_path / "data" / "esc50"
    assert compare(gone, "esc50", index=path) == Comparison(
        not_checked=f"the raw files are no longer at {gone}"
    )
