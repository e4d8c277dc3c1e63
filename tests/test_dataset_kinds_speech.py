"""Dataset kinds of music, video and speech: what a scan of the real layout finds, and what it refuses."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rarfile

from foley import tables
from foley.classes.table import read_class_table
from foley.classes.word_vectors import load_word_vectors
from foley.datasets.activitynet import ActivityNet, ActivityNetOptions
from foley.datasets.emodb import EmoDB
from foley.datasets.gtzan import GTZAN, GTZANOptions
from foley.datasets.iemocap import IEMOCAP, IEMOCAPOptions
from foley.datasets.ingest import IngestOptions, ingest_shard
from foley.datasets.protocol import DatasetKind, RawClass, RawClip
from foley.datasets.ravdess import FOLD_OF_ACTOR, FOLDS, RAVDESS, RAVDESSOptions
from foley.datasets.speech_commands import (
    CORE_WORDS,
    WORDS,
    SpeechCommands,
    SpeechCommandsOptions,
    which_set,
)
from foley.datasets.ucf101 import UCF101, UCF101Options
from foley.download.sources import Source
from foley.options import ConfigError, parse_options
from foley.studies.partition import read_splits
from foley.tables.clips import REJECTED
from trees import Tree, speech

KINDS: dict[str, type[DatasetKind]] = {
    "gtzan": GTZAN,
    "ucf101": UCF101,
    "activitynet": ActivityNet,
    "iemocap": IEMOCAP,
    "speech_commands": SpeechCommands,
    "emodb": EmoDB,
    "ravdess": RAVDESS,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    """A tree of each kind. Don't change them: copy them."""
    folder = tmp_path_factory.mktemp("trees")
    return {kind: getattr(speech, f"build_{kind}")(folder / kind) for kind in KINDS}


@pytest.fixture
def copy_of(built: dict[str, Tree], tmp_path: Path) -> Callable[[str], Path]:
    """A function that copies a kind's tree, to be spoiled."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(built[kind].root, tmp_path / kind))

    return copy


def scan(kind: DatasetKind, root: Path) -> dict[str, RawClip]:
    clips = kind.scan(root)
    found = {clip.clip_id: clip for clip in clips}
    assert len(found) == len(clips)
    return found


def sides(clips: list[RawClip], what: str, between: str) -> dict[str, set[Any]]:
    """On which sides each recording or speaker is."""
    found = defaultdict(set)
    for clip in clips:
        key = clip.recording_id if what == "recording" else clip.speaker_id
        assert key is not None
        found[key].add(getattr(clip, between))
    return found


def assert_claims_hold(kind: DatasetKind, clips: list[RawClip]) -> None:
    for what, between in kind.claims:
        if what == "audio":  # only ingest can tell
            continue
        parted = {key: found for key, found in sides(clips, what, between).items() if len(found) > 1}
        assert not parted, (what, between, list(parted.items())[:3])
        assert len({getattr(clip, between) for clip in clips}) > 1


def touch(root: Path, *names: str) -> None:
    """Empty files: a scan opens no audio."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


# What all kinds share


@pytest.mark.parametrize("name", KINDS)
def test_official_splits_are_those_of_the_clips(built: dict[str, Tree], name: str) -> None:
    kind = KINDS[name](parse_options(KINDS[name].Options, built[name].options, "options"))
    clips = kind.scan(built[name].root)
    found = {f"fold{clip.fold}" for clip in clips if clip.fold is not None}
    if {"train", "test"} <= {clip.split for clip in clips}:
        found.add("official")
    told = kind.official_splits
    assert told is not None and found <= set(told) and bool(found) == bool(told)


@pytest.mark.parametrize("name", KINDS)
def test_scan(built: dict[str, Tree], name: str) -> None:
    tree = built[name]
    kind = KINDS[name](parse_options(KINDS[name].Options, tree.options, "options"))
    kind.check(tree.root)
    clips = scan(kind, tree.root)
    assert len(clips) == tree.clips
    assert {clip.label for clip in clips.values()} == tree.labels
    assert_claims_hold(kind, list(clips.values()))
    lacking = {clip.recording_id for clip in clips.values() if not (tree.root / clip.source).is_file()}
    assert lacking == ({speech.ACTIVITYNET_MISSING} if name == "activitynet" else set())
    assert all(Path(clip.source).suffix in kind.media for clip in clips.values())
    # Class numbers are those of the dataset.
    classes = kind.classes(tree.root)
    assert classes is not None
    numbers = {item.label: item.class_id for item in classes}
    assert sorted(numbers.values()) == list(range(len(classes)))
    assert all(clip.class_id == numbers[clip.label] for clip in clips.values())


@pytest.mark.parametrize("name", KINDS)
def test_class_table(built: dict[str, Tree], name: str) -> None:
    table = read_class_table(speech.RESOURCES / "classes" / f"{name}.yaml")
    classes = KINDS[name]().classes(built[name].root)
    assert classes is not None
    if name == "speech_commands":  # its table has the two classes of the task with twelve, too
        classes = [*classes, RawClass(35, "unknown"), RawClass(36, "silence")]
    assert [(info.class_id, info.label) for info in table.classes] == [
        (item.class_id, item.label) for item in classes
    ]
    for info in table.classes:
        assert len(info.synonyms) >= 3
        words = [*info.words, *info.synonyms]
        assert len(set(words)) == len(words)
        assert all(word == word.strip().lower() and " " not in word for word in words), info.label


@pytest.mark.parametrize("name", KINDS)
def test_class_words_have_vectors(shared_data: Path, name: str) -> None:
    table = read_class_table(speech.RESOURCES / "classes" / f"{name}.yaml")
    words = {word for info in table.classes for word in (*info.words, *info.synonyms)}
    known = load_word_vectors(shared_data / "vectors" / "words-300d.bin", words)
    for info in table.classes:
        # Even with this small vocabulary.
        assert sum(word in known for word in (*info.words, *info.synonyms)) >= 3, info.label


@pytest.mark.parametrize("name", KINDS)
def test_what_the_card_needs(name: str) -> None:
    kind = KINDS[name]()
    assert kind.title and kind.licence != "unknown" and kind.citation and kind.url.startswith("http")
    assert kind.published_clips
    assert bool(kind.sources()) != bool(kind.by_hand)
    for source in kind.sources():
        assert isinstance(source, Source)
        assert source.unpacked_bytes is not None and source.unpacked_bytes > 0
        assert all(file.url.startswith("http") and file.size_bytes > 0 for file in source.files)


def test_counts_follow_the_options() -> None:
    assert GTZAN(GTZANOptions(split="fault_filtered")).published_clips == 930
    assert RAVDESS(RAVDESSOptions(song=True)).published_clips == 2452
    assert IEMOCAP(IEMOCAPOptions(merge_excited=False)).published_clips == 4490
    assert SpeechCommands(SpeechCommandsOptions(words=("yes", "no"))).published_clips is None
    # Only the fault-filtered split promises anything; the classes themselves stay as they are.
    assert GTZAN(GTZANOptions(split="fault_filtered")).claims == {("audio", "split")}
    assert (GTZAN().claims, GTZAN().published_clips, RAVDESS().published_clips) == (frozenset(), 1000, 1440)


@pytest.mark.parametrize("name", KINDS)
def test_sources_have_the_names_of_the_archives(built: dict[str, Tree], name: str) -> None:
    named = {
        file.name for source in KINDS[name]().sources() if isinstance(source, Source) for file in source.files
    }
    assert named == set(built[name].overrides)


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_folder_names_what_lacks(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]()
    with pytest.raises(FileNotFoundError, match="no folder at"):
        kind.check(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"is not an? .* folder: .*(unpack|Put)"):
        kind.scan(tmp_path)


def test_stored_rar(tmp_path: Path) -> None:
    """The archives of these tests are what rarfile takes for RAR."""
    (tmp_path / "tree" / "a" / "empty").mkdir(parents=True)
    content = {"a/b.bin": bytes(range(256)) * 300, "c.txt": b"text", "a/none": b""}
    for name, data in content.items():
        (tmp_path / "tree" / name).write_bytes(data)
    speech.write_rar(tmp_path / "tree", tmp_path / "x.rar")
    with rarfile.RarFile(tmp_path / "x.rar", errors="strict") as archive:
        archive.testrar()
        assert {info.filename for info in archive.infolist() if info.is_dir()} == {"a/", "a/empty/"}
        assert {info.filename: archive.read(info) for info in archive.infolist() if info.is_file()} == content


# GTZAN


def test_gtzan_fault_filtered(tmp_path: Path) -> None:
    tree = speech.build_gtzan(tmp_path, fault_filtered=True)
    clips = scan(GTZAN(GTZANOptions(split="fault_filtered")), tree.root)
    assert len(clips) == tree.clips == 30
    assert not clips.keys() & set(speech.GTZAN_FAULTY)
    assert Counter(clip.split for clip in clips.values()) == {"train": 10, "validation": 10, "test": 10}
    assert clips["jazz.00054"].split == "train" and clips["hiphop.00081"].split == "validation"
    whole = scan(GTZAN(), tree.root)
    assert len(whole) == 32 and {clip.split for clip in whole.values()} == {None}


def test_gtzan_lists_of_our_own(shared_data: Path, tmp_path: Path) -> None:
    """Without lists in the folder ours stand in, and they are the published ones."""
    (tmp_path / "genres").mkdir()
    kind = GTZAN(GTZANOptions(split="fault_filtered"))
    ours = {clip.clip_id: clip.split for clip in kind.scan(tmp_path)}
    assert Counter(ours.values()) == {"train": 443, "validation": 197, "test": 290}
    for path in (shared_data / "layouts" / "GTZAN_fault_filtered").glob("*.txt"):
        shutil.copyfile(path, tmp_path / path.name)
    assert len(list(tmp_path.glob("*_filtered.txt"))) == 3
    published = kind.scan(tmp_path)
    assert {clip.clip_id: clip.split for clip in published} == ours
    # Listed clips without their files are rows too.
    assert published[0].source == "genres/blues/blues.00029.wav"


def test_gtzan_broken_clip_is_rejected(tmp_path: Path) -> None:
    tree = speech.build_gtzan(tmp_path, broken=True)
    ingest_shard(
        tmp_path / "audio.parquet", tmp_path / "rejected.parquet", dataset="gtzan", kind=GTZAN(), root=tree.root,
        shards=1, shard=0, options=IngestOptions(),
    )  # fmt: skip
    (row,) = tables.read(tmp_path / "rejected.parquet", REJECTED).to_pylist()
    assert (row["clip_id"], row["label"], row["reason"]) == ("jazz.00054", "jazz", "unreadable")


def test_gtzan_original_files(tmp_path: Path) -> None:
    touch(tmp_path, "genres/blues/blues.00000.au", "genres/rock/rock.00099.au", "genres/rock/._rock.00099.au")
    assert [clip.source for clip in GTZAN().scan(tmp_path)] == [
        "genres/blues/blues.00000.au",
        "genres/rock/rock.00099.au",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("genres/polka/polka.00000.wav", "class 'polka' is not one of the 10"),
        ("genres/rock/pop.00000.wav", r"pop\.00000\.wav: files of rock are named rock\.00000\.wav"),
        ("genres/rock/take one.wav", "files of rock are named"),
        ("genres/rock/rock.00000.au", "two files for one clip"),
    ],
)
def test_gtzan_refuses(copy_of: Callable[[str], Path], name: str, message: str) -> None:
    root = copy_of("gtzan")
    touch(root, name)
    with pytest.raises(ValueError, match=message):
        GTZAN().scan(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("polka/polka.00001.wav", r"test_filtered\.txt, line 11: class 'polka' is not one of the 10"),
        ("blues.wav", r"test_filtered\.txt, line 11: expected a file such as"),
        ("blues/blues.00029.wav", r"test_filtered\.txt, line 11: blues\.00029 is in the train list too"),
    ],
)
def test_gtzan_refuses_lists(tmp_path: Path, line: str, message: str) -> None:
    tree = speech.build_gtzan(tmp_path, fault_filtered=True)
    with (tree.root / "test_filtered.txt").open("a") as handle:
        handle.write(f"{line}\n")
    with pytest.raises(ValueError, match=message):
        GTZAN(GTZANOptions(split="fault_filtered")).scan(tree.root)


def test_gtzan_zero_shot_split(shared_data: Path) -> None:
    splits = read_splits(speech.RESOURCES / "splits" / "zero_shot" / "gtzan.yaml")
    published = json.loads((shared_data / "reference" / "zsl_splits.json").read_text())["gtzan"]
    numbers = {
        item.label: item.class_id
        for item in read_class_table(speech.RESOURCES / "classes" / "gtzan.yaml").classes
    }
    assert {
        name: sorted(numbers[label] for label in split.unseen) for name, split in splits.items()
    } == published


# UCF101


@pytest.mark.parametrize("number", [1, 2, 3])
def test_ucf101_lists(built: dict[str, Tree], number: int) -> None:
    clips = scan(UCF101(UCF101Options(split_list=number)), built["ucf101"].root)  # type: ignore[arg-type]
    groups = {clip.recording_id.rpartition("_")[2] for clip in clips.values() if clip.split == "test"}
    assert groups == {f"g{speech.UCF101_GROUPS[number - 1]:02d}"}
    assert Counter(clip.split for clip in clips.values()) == {"train": 24, "test": 12}
    clip = clips["v_HandStandPushups_g01_c02"]
    assert (clip.label, clip.class_id, clip.recording_id) == ("HandstandPushups", 36, "HandstandPushups_g01")
    assert clip.source == "UCF-101/HandstandPushups/v_HandStandPushups_g01_c02.avi"


def test_ucf101_published_lists(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "layouts" / "UCF101", tmp_path / "ucfTrainTestlist")
    (tmp_path / "UCF-101").mkdir()
    for number, (train, test) in {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}.items():
        kind = UCF101(UCF101Options(split_list=number))  # type: ignore[arg-type]
        clips = kind.scan(tmp_path)
        assert len(clips) == UCF101.published_clips
        assert Counter(clip.split for clip in clips) == {"train": train, "test": test}
        assert len({clip.label for clip in clips}) == 101
        assert_claims_hold(kind, clips)
    # 25 videos a class.
    assert len({clip.recording_id for clip in clips}) == 101 * 25
    labels = [item.label for item in UCF101().classes(tmp_path)]
    assert labels == speech.labels_of("ucf101")


def test_ucf101_zip(built: dict[str, Tree], copy_of: Callable[[str], Path]) -> None:
    """The other archive holds the videos in one folder and spells one class another way."""
    root = copy_of("ucf101")
    for path in sorted((root / "UCF-101").rglob("*.avi")):
        (root / "UCF101").mkdir(exist_ok=True)
        path.rename(root / "UCF101" / path.name.replace("HandStand", "Handstand"))
    shutil.rmtree(root / "UCF-101")
    clips = scan(UCF101(), root)
    assert all((root / clip.source).is_file() for clip in clips.values())
    assert clips["v_HandStandPushups_g01_c02"].source == "UCF101/v_HandstandPushups_g01_c02.avi"
    (source, _) = UCF101(UCF101Options(archive="zip")).sources()
    assert source.files[0].name == "UCF101_videos.zip" and source.files[0].checksum is not None


def test_ucf101_clip_without_a_file_and_file_without_a_list(
    copy_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = copy_of("ucf101")
    (root / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi").rename(
        root / "UCF-101" / "Archery" / "v_Archery_g25_c09.avi"
    )
    with caplog.at_level(logging.WARNING):
        clips = scan(UCF101(), root)
    assert clips["v_Archery_g01_c01"].source == "UCF-101/Archery/v_Archery_g01_c01.avi"
    assert "v_Archery_g25_c09" not in clips
    assert "1 videos are in neither list" in caplog.text and "v_Archery_g25_c09.avi" in caplog.text


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("testlist01.txt", "Polka/v_Polka_g01_c01.avi", "line 13: class 'Polka' is not one of the 101"),
        ("testlist01.txt", "v_Archery_g01_c01.avi", "line 13: expected <Class>/v_<Class>"),
        (
            "testlist01.txt",
            "Archery/v_Archery_g08_c01.avi",
            "line 13: v_Archery_g08_c01 is in the train list",
        ),
        ("trainlist01.txt", "Archery/v_Archery_g09_c01.avi 4", "Archery has the number 3 in classInd.txt"),
        ("trainlist01.txt", "Archery/v_Archery_g09_c01.avi x", "the class number must be a whole number"),
        ("classInd.txt", "103 Polka", "line 102: expected `102 <Class>`"),
    ],
)
def test_ucf101_refuses(copy_of: Callable[[str], Path], file: str, line: str, message: str) -> None:
    root = copy_of("ucf101")
    with (root / "ucfTrainTestlist" / file).open("a") as handle:
        handle.write(f"{line}\r\n")
    with pytest.raises(ValueError, match=message):
        UCF101().scan(root)


@pytest.mark.parametrize(
    "part", ["ucfTrainTestlist/testlist01.txt", "ucfTrainTestlist/classInd.txt", "UCF-101"]
)
def test_ucf101_names_the_missing_part(copy_of: Callable[[str], Path], part: str) -> None:
    root = copy_of("ucf101")
    (root / part).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"{part}/? is not there; unpack UCF101"):
        UCF101().check(root)


# ActivityNet


def test_activitynet_segments(built: dict[str, Tree]) -> None:
    clips = scan(ActivityNet(), built["activitynet"].root)
    first, second = clips["5n7NCViB5TU_0"], clips["5n7NCViB5TU_1"]
    assert (first.start_s, first.end_s) == (0.25, 1.5) and (second.start_s, second.end_s) == (2.0, 3.75)
    assert first.recording_id == second.recording_id == "5n7NCViB5TU"
    assert first.source == second.source == "train/v_5n7NCViB5TU.mp4"
    assert {clip.split for clip in clips.values()} == {"train", "validation"}
    assert clips["7tOoW2Fkg8k_0"].source == "val/v_7tOoW2Fkg8k.webm"
    # A video that is gone is two rows, whose file will be missed.
    assert clips[f"{speech.ACTIVITYNET_MISSING}_1"].source == f"videos/v_{speech.ACTIVITYNET_MISSING}.mp4"
    # Capitals come before small letters.
    assert (
        clips[f"{speech.ACTIVITYNET_MISSING}_1"].class_id,
        clips[f"{speech.ACTIVITYNET_SILENT}_0"].class_id,
    ) == (5, 4)


def test_activitynet_hierarchy(built: dict[str, Tree]) -> None:
    classes = ActivityNet().classes(built["activitynet"].root)
    assert len(classes) == 200
    parents = {item.label: item.parents for item in classes}
    assert parents["Playing guitarra"] == ("Playing musical instruments",)
    assert parents["Mooping floor"] == ("Housework",)
    assert "Root" not in parents and "Housework" not in parents


def test_activitynet_cuts_long_segments(built: dict[str, Tree]) -> None:
    clips = scan(ActivityNet(ActivityNetOptions(max_segment_s=1.5)), built["activitynet"].root)
    assert (clips["_0x7PiSoQ40_0"].start_s, clips["_0x7PiSoQ40_0"].end_s) == (0.5, 2.0)
    assert (clips["3wbT26mHU5A_0"].start_s, clips["3wbT26mHU5A_0"].end_s) == (1.0, 2.0)
    with pytest.raises(ConfigError, match="max_segment_s must be more than 0"):
        parse_options(ActivityNetOptions, {"max_segment_s": 0}, "options")


def spoil_label(content: dict[str, Any]) -> None:
    content["database"]["5n7NCViB5TU"]["annotations"][0]["label"] = "Polka"


def spoil_subset(content: dict[str, Any]) -> None:
    content["database"]["5n7NCViB5TU"]["subset"] = "extra"


def spoil_segment(content: dict[str, Any]) -> None:
    content["database"]["5n7NCViB5TU"]["annotations"][0]["segment"] = [1.0]


def spoil_taxonomy(content: dict[str, Any]) -> None:
    del content["taxonomy"][3]["parentId"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_label, "video 5n7NCViB5TU: class 'Polka' is not one of the 200"),
        (spoil_subset, "video 5n7NCViB5TU: subset must be training, validation or testing, got 'extra'"),
        (spoil_segment, r"video 5n7NCViB5TU: segment must be \[start, end\] in seconds, got \[1.0\]"),
        (spoil_taxonomy, "a node of the taxonomy lacks 'parentId'"),
        (lambda content: content.pop("taxonomy"), r"lacks the keys \['taxonomy'\]"),
        (
            lambda content: content.update(version="VERSION 1.2"),
            "is of 'VERSION 1.2'; Foley reads release 1.3",
        ),
    ],
)
def test_activitynet_refuses(
    copy_of: Callable[[str], Path], spoil: Callable[[dict[str, Any]], Any], message: str
) -> None:
    root = copy_of("activitynet")
    table = root / "activity_net.v1-3.min.json"
    content = json.loads(table.read_text())
    spoil(content)
    table.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        ActivityNet().scan(root)


def test_activitynet_files(copy_of: Callable[[str], Path]) -> None:
    root = copy_of("activitynet")
    touch(root, "videos/v_5n7NCViB5TU.mkv")
    with pytest.raises(ValueError, match="two files for one video"):
        ActivityNet().scan(root)
    (root / "activity_net.v1-3.min.json").write_text('{"database": {')
    with pytest.raises(ValueError, match="is no valid JSON"):
        ActivityNet().scan(root)
    for folder in ("train", "val", "videos"):
        shutil.rmtree(root / folder)
    with pytest.raises(FileNotFoundError, match=r"no video v_<id>\.mp4.*request form"):
        ActivityNet().check(root)


# IEMOCAP


def test_iemocap(built: dict[str, Tree]) -> None:
    clips = scan(IEMOCAP(), built["iemocap"].root)
    assert Counter(clip.fold for clip in clips.values()) == dict.fromkeys(range(1, 6), 12)
    # Each dialogue has, of the four, two neutral turns, a happy and an excited one, an angry and a sad one.
    assert Counter(clip.label for clip in clips.values()) == {"neu": 20, "hap": 20, "ang": 10, "sad": 10}
    clip = clips["Ses02F_impro01_M003"]
    assert clip.source == "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_M003.wav"
    # The man speaks where the woman wears the markers.
    assert (clip.label, clip.speaker_id, clip.recording_id) == ("ang", "Ses02M", "Ses02F_impro01")


def test_iemocap_without_excitement(built: dict[str, Tree]) -> None:
    clips = scan(IEMOCAP(IEMOCAPOptions(merge_excited=False)), built["iemocap"].root)
    assert Counter(clip.label for clip in clips.values()) == {"neu": 20, "hap": 10, "ang": 10, "sad": 10}


def test_iemocap_published_utterances(shared_data: Path, tmp_path: Path) -> None:
    """A tree made of the names and labels of the s3prl splits, whose test parts are the sessions."""
    published: dict[str, dict[str, Any]] = {}
    of_session: Counter[int] = Counter()
    for session in range(1, 6):
        part = json.loads(
            (shared_data / "layouts" / "IEMOCAP_s3prl_splits" / f"Session{session}_test.json").read_text()
        )
        published |= {Path(row["path"]).stem: row for row in part["meta_data"]}
        of_session[session] = len(part["meta_data"])
    lines = defaultdict(list)
    for utterance, row in published.items():
        path = Path(row["path"])
        touch(tmp_path, row["path"])
        lines[f"{path.parts[0]}/dialog/EmoEvaluation/{path.parent.name}.txt"].append(
            f"[0.0000 - 1.0000]\t{utterance}\t{row['label']}\t[2.5000, 2.5000, 2.5000]\n"
        )
    for name, turns in lines.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("".join(turns))
    kind = IEMOCAP()
    clips = scan(kind, tmp_path)
    assert len(clips) == IEMOCAP.published_clips == 5531
    assert Counter(clip.fold for clip in clips.values()) == of_session
    assert of_session == {1: 1085, 2: 1023, 3: 1151, 4: 1031, 5: 1241}
    assert {name: (clip.label, clip.source) for name, clip in clips.items()} == {
        name: (row["label"], row["path"]) for name, row in published.items()
    }
    assert len({clip.speaker_id for clip in clips.values()}) == 10
    assert_claims_hold(kind, list(clips.values()))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1.0 - 2.0]\tSes01F_impro01_F099\tjoy\t[2.5, 2.5, 2.5]", "emotion 'joy' is not one of neu, hap"),
        ("[1.0 - 2.0]\tSes01F_impro01_F099\t[2.5, 2.5, 2.5]", r"expected `\[start - end\]`, utterance"),
        ("[1.0 - 2.0]\tSes02F_impro01_F099\tneu\t[2.5, 2.5, 2.5]", "is no utterance of session 1"),
        (
            "[1.0 - 2.0]\tSes01F_impro01_F000\tsad\t[2.5, 2.5, 2.5]",
            "Ses01F_impro01_F000 is sad here and neu in",
        ),
    ],
)
def test_iemocap_refuses(copy_of: Callable[[str], Path], line: str, message: str) -> None:
    root = copy_of("iemocap")
    with (root / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt").open("a") as handle:
        handle.write(f"{line}\n")
    with pytest.raises(ValueError, match=message):
        IEMOCAP().scan(root)


def test_iemocap_missing_parts(copy_of: Callable[[str], Path]) -> None:
    root = copy_of("iemocap")
    (root / "Session3/sentences/wav/Ses03F_impro01/Ses03F_impro01_F000.wav").unlink()
    clips = scan(IEMOCAP(), root)
    assert (
        clips["Ses03F_impro01_F000"].source == "Session3/sentences/wav/Ses03F_impro01/Ses03F_impro01_F000.wav"
    )
    for path in (root / "Session4" / "dialog" / "EmoEvaluation").glob("Ses*.txt"):
        path.unlink()
    with pytest.raises(ValueError, match=r"Session4.*no labels in its \*\.txt files"):
        IEMOCAP().scan(root)
    shutil.rmtree(root / "Session4")
    with pytest.raises(
        FileNotFoundError, match=r"Session4/sentences/wav is not there.*licensed.*https://sail\.usc\.edu"
    ):
        IEMOCAP().scan(root)


# Speech Commands


def test_speech_commands(built: dict[str, Tree]) -> None:
    clips = scan(SpeechCommands(), built["speech_commands"].root)
    assert Counter(clip.split for clip in clips.values()) == {"train": 35, "validation": 35, "test": 35}
    clip = clips["yes/8b775397_nohash_0"]
    assert (clip.label, clip.speaker_id, clip.split) == ("yes", "8b775397", "validation")
    assert not any("_background_noise_" in clip.source for clip in clips.values())


def test_speech_commands_words(built: dict[str, Tree]) -> None:
    kind = SpeechCommands(parse_options(SpeechCommandsOptions, {"words": list(CORE_WORDS)}, "options"))
    root = built["speech_commands"].root
    clips = scan(kind, root)
    assert Counter(clip.label for clip in clips.values()) == dict.fromkeys(CORE_WORDS, 3)
    # The numbers stay those of all 35.
    assert {clip.label: clip.class_id for clip in clips.values()} == {w: WORDS.index(w) for w in CORE_WORDS}
    assert {item.label for item in kind.classes(root)} == set(CORE_WORDS)
    with pytest.raises(ConfigError, match="'yess' is not one of the 35; did you mean `yes`"):
        parse_options(SpeechCommandsOptions, {"words": ["yess"]}, "options")
    with pytest.raises(ConfigError, match="words is empty"):
        parse_options(SpeechCommandsOptions, {"words": []}, "options")


def test_speech_commands_without_official_parts(built: dict[str, Tree]) -> None:
    kind = SpeechCommands(parse_options(SpeechCommandsOptions, {"parts": "none"}, "options"))
    clips = kind.scan(built["speech_commands"].root)
    assert clips and {clip.split for clip in clips} == {None}
    assert not kind.official_splits and not kind.claims and SpeechCommands.official_splits
    with pytest.raises(ConfigError, match="leave `parts: none` out"):
        parse_options(SpeechCommandsOptions, {"parts": "none", "classes": 12}, "options")


def twelve(**options: Any) -> SpeechCommands:
    return SpeechCommands(parse_options(SpeechCommandsOptions, {"classes": 12, **options}, "options"))


def test_speech_commands_with_twelve_classes(built: dict[str, Tree]) -> None:
    root = built["speech_commands"].root
    kind = twelve(unknown_percent=50, silence_percent=30)
    clips = scan(kind, root)
    assert Counter((clip.label, clip.split) for clip in clips.values()) == Counter(
        {(word, split): 1 for word in CORE_WORDS for split in ("train", "validation", "test")}
        | {("unknown", split): 5 for split in ("train", "validation", "test")}
        | {("silence", split): 3 for split in ("train", "validation", "test")}
    )
    numbers = {item.label: item.class_id for item in kind.classes(root)}
    assert {clip.label: clip.class_id for clip in clips.values()} == numbers
    assert (numbers["unknown"], numbers["silence"]) == (35, 36)
    assert {word: numbers[word] for word in CORE_WORDS} == {w: WORDS.index(w) for w in CORE_WORDS}
    recordings: dict[str, set[str]] = {}
    for clip in clips.values():
        if clip.label == "unknown":
            word = clip.source.partition("/")[0]
            assert word in WORDS and word not in CORE_WORDS and clip.clip_id.startswith(f"{word}/")
        if clip.label == "silence":
            assert clip.start_s is not None and clip.end_s == clip.start_s + 1 <= 2
            assert (root / clip.source).is_file() and clip.speaker_id is None
            recordings.setdefault(clip.split or "", set()).add(clip.recording_id)
    # No recording of noise is on both sides of a split.
    assert sum(map(len, recordings.values())) == len(set.union(*recordings.values())) == 4
    assert ("recording", "split") in kind.claims and ("recording", "split") not in SpeechCommands().claims
    # Drawn by seed, and rounded up.
    assert scan(twelve(unknown_percent=50, silence_percent=30), root) == clips
    other = scan(twelve(unknown_percent=50, silence_percent=30, seed=1), root)
    assert {c for c in other if other[c].label == "unknown"} != {
        c for c in clips if clips[c].label == "unknown"
    }
    few = Counter(clip.label for clip in scan(twelve(), root).values())
    assert few["unknown"] == few["silence"] == 3 and twelve().published_clips is None
    none = {item.label for item in twelve(unknown_percent=0, silence_percent=0).classes(root)}
    assert none == set(CORE_WORDS)
    assert {clip.label for clip in scan(twelve(unknown_percent=0, silence_percent=0), root).values()} == none


def test_speech_commands_twelve_classes_need_noise_and_words(copy_of: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        twelve(words=["yes"])
    with pytest.raises(ConfigError, match="must not be negative"):
        twelve(silence_percent=-1)
    root = copy_of("speech_commands")
    (root / "_background_noise_" / "white_noise.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"white_noise\.wav can't be read as audio"):
        twelve().scan(root)
    shutil.rmtree(root / "_background_noise_")
    with pytest.raises(
        FileNotFoundError, match=r"_background_noise_ has 0: unpack .* or set `silence_percent: 0`"
    ):
        twelve().check(root)
    for word in set(WORDS) - set(CORE_WORDS):
        shutil.rmtree(root / word)
    for name in ("validation_list.txt", "testing_list.txt"):
        lines = (root / name).read_text().splitlines()
        kept = [line for line in lines if line.partition("/")[0] in CORE_WORDS]
        (root / name).write_text("\n".join(kept))
    with pytest.raises(FileNotFoundError, match="has none of them: unpack"):
        twelve(silence_percent=0).scan(root)


def test_speech_commands_lists_come_before_the_rule(copy_of: Callable[[str], Path]) -> None:
    root = copy_of("speech_commands")
    by_list = {clip_id: clip.split for clip_id, clip in scan(SpeechCommands(), root).items()}
    for name in ("validation_list.txt", "testing_list.txt"):
        (root / name).unlink()
    assert {clip_id: clip.split for clip_id, clip in scan(SpeechCommands(), root).items()} == by_list
    (root / "validation_list.txt").write_text("yes/00b01445_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("no/ffffffff_nohash_3.wav\n")
    clips = scan(SpeechCommands(), root)
    assert clips["yes/00b01445_nohash_0"].split == "validation"
    assert clips["yes/8b775397_nohash_0"].split == "train"
    # Listed, but without a file.
    assert clips["no/ffffffff_nohash_3"].split == "test"
    assert clips["no/ffffffff_nohash_3"].source == "no/ffffffff_nohash_3.wav"


def test_hashing_rule_agrees_with_the_published_lists(shared_data: Path) -> None:
    folder = shared_data / "layouts" / "SpeechCommands_lists_v0.01"
    speakers: dict[str, set[str]] = {}
    for name, split, count in (
        ("validation_list.txt", "validation", 6798),
        ("testing_list.txt", "test", 6835),
    ):
        names = (folder / name).read_text().split()
        assert len(names) == count
        assert {which_set(name) for name in names} == {split}
        speakers[split] = {Path(name).name.split("_nohash_")[0] for name in names}
    assert not speakers["validation"] & speakers["test"]


def test_speech_commands_real_clips(shared_data: Path) -> None:
    root = shared_data / "speech_commands"
    kind = SpeechCommands()
    clips = scan(kind, root)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(clips) == len(files) > 1300
    assert {clip.source for clip in clips.values()} == {path.relative_to(root).as_posix() for path in files}
    assert {clip.label for clip in clips.values()} == set(CORE_WORDS)
    for clip in clips.values():
        folder, _, name = clip.source.partition("/")
        assert clip.label == folder == WORDS[clip.class_id or 0]
        assert name.startswith(f"{clip.speaker_id}_nohash_")
    # They were taken from the test set.
    assert {clip.split for clip in clips.values()} == {"test"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yess/00b01445_nohash_0.wav", "class 'yess' is not one of the 35"),
        ("yes/take1.wav", r"take1\.wav: files are named <speaker>_nohash_<number>\.wav"),
        ("yes/00b01445_nohash_0.flac", "two files for one clip"),
    ],
)
def test_speech_commands_refuses(copy_of: Callable[[str], Path], name: str, message: str) -> None:
    root = copy_of("speech_commands")
    touch(root, name)
    with pytest.raises(ValueError, match=message):
        SpeechCommands().scan(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("yess/00b01445_nohash_0.wav", r"testing_list\.txt, line 36: class 'yess' is not one of the 35"),
        ("yes/00b01445.wav", r"testing_list\.txt, line 36: expected <word>/<speaker>_nohash_"),
        ("yes/8b775397_nohash_0.wav", r"testing_list\.txt, line 36: yes/8b775397_nohash_0 is in both lists"),
    ],
)
def test_speech_commands_refuses_lists(copy_of: Callable[[str], Path], line: str, message: str) -> None:
    root = copy_of("speech_commands")
    with (root / "testing_list.txt").open("a") as handle:
        handle.write(f"{line}\n")
    with pytest.raises(ValueError, match=message):
        SpeechCommands().scan(root)


def test_speech_commands_with_one_list(copy_of: Callable[[str], Path]) -> None:
    root = copy_of("speech_commands")
    (root / "testing_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has validation_list\.txt but not the other"):
        SpeechCommands().check(root)


# EmoDB


def test_emodb(built: dict[str, Tree]) -> None:
    clips = scan(EmoDB(), built["emodb"].root)
    assert Counter(clip.fold for clip in clips.values()) == dict.fromkeys(range(1, 11), 4)
    clip = clips["03a01Wa"]
    assert (clip.source, clip.label, clip.fold, clip.speaker_id) == ("wav/03a01Wa.wav", "anger", 1, "03")


def test_emodb_real_clips(shared_data: Path) -> None:
    kind = EmoDB()
    clips = scan(kind, shared_data / "emodb")
    assert len(clips) == EmoDB.published_clips == 535
    # Burkhardt et al. 2005; the letters are of the German words.
    assert Counter(clip.label for clip in clips.values()) == {
        "anger": 127, "boredom": 81, "neutral": 79, "happiness": 71, "fear": 69, "sadness": 62, "disgust": 46,
    }  # fmt: skip
    letters = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness"}
    letters["N"] = "neutral"
    for stem, clip in clips.items():
        assert (clip.label, clip.speaker_id) == (letters[stem[5]], stem[:2])
    speakers = sorted({clip.speaker_id or "" for clip in clips.values()})
    assert speakers == ["03", "08", "09", *map(str, range(10, 17))]
    assert {clip.speaker_id: clip.fold for clip in clips.values()} == {
        s: n for n, s in enumerate(speakers, 1)
    }
    assert_claims_hold(kind, list(clips.values()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wav/03a01Xa.wav", r"03a01Xa\.wav: emotion 'X' is not one of the letters"),
        ("wav/04a01Fa.wav", r"04a01Fa\.wav: speaker 04 is not one of the ten"),
        ("wav/noise.wav", r"noise\.wav: files are named speaker, text, emotion, version"),
        ("wav/03a01Wa.flac", "two files for one clip"),
    ],
)
def test_emodb_refuses(copy_of: Callable[[str], Path], name: str, message: str) -> None:
    root = copy_of("emodb")
    touch(root, name)
    with pytest.raises(ValueError, match=message):
        EmoDB().scan(root)


# RAVDESS


def test_ravdess_folds() -> None:
    assert sorted(actor for actors in FOLDS.values() for actor in actors) == list(range(1, 25))
    assert sorted(map(len, FOLDS.values())) == [4, 5, 5, 5, 5]


def test_ravdess(built: dict[str, Tree]) -> None:
    clips = scan(RAVDESS(), built["ravdess"].root)
    assert {int(clip.speaker_id or 0): clip.fold for clip in clips.values()} == FOLD_OF_ACTOR
    clip = clips["03-01-06-01-01-01-05"]
    assert (clip.source, clip.label, clip.class_id) == ("Actor_05/03-01-06-01-01-01-05.wav", "fearful", 5)


def test_ravdess_song_and_video(copy_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    root = copy_of("ravdess")
    touch(
        root, "Actor_01/03-02-03-01-01-01-01.wav", "Actor_01/01-01-03-01-01-01-01.mp4",
        "Actor_01/01-01-03-01-01-01-01.wav",
    )  # fmt: skip
    with caplog.at_level(logging.INFO):
        spoken = scan(RAVDESS(), root)
    assert len(spoken) == 48 and "{'of a video': 1, 'sung': 1}" in caplog.text
    sung = RAVDESS(RAVDESSOptions(song=True))
    assert set(scan(sung, root)) - set(spoken) == {"03-02-03-01-01-01-01"}
    assert [source.name for source in RAVDESS().sources()] == ["speech"]
    assert [source.name for source in sung.sources()] == ["speech", "song"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Actor_01/03-01-09-01-01-01-01.wav", "emotion 09 is not one of 01 to 08"),
        ("Actor_01/03-01-01-01-01-01-02.wav", "actor 02 is not the one of the folder"),
        (
            "Actor_25/03-01-01-01-01-01-25.wav",
            "actor 25 is not the one of the folder, or not one of 01 to 24",
        ),
        ("Actor_01/one.wav", r"one\.wav: names have seven parts"),
        ("Actor_02/03-01-03-01-01-01-02.flac", "two files for one clip"),
    ],
)
def test_ravdess_refuses(copy_of: Callable[[str], Path], name: str, message: str) -> None:
    root = copy_of("ravdess")
    touch(root, name)
    with pytest.raises(ValueError, match=message):
        RAVDESS().scan(root)
