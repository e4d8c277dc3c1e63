"""Tiny trees of the datasets of environmental sound.

Each is made from a list of clips (`<kind>_clips`), which is what a scan must find; the builder writes them into the
dataset's own metadata and layout.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from foley.datasets.protocol import RawClip
from trees import (
    Tree,
    checksum_overrides,
    split_zip,
    tar_folder,
    tone,
    write_text,
    write_wav,
    zip_folder,
)

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
ESC50_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
TAU = "TAU-urban-acoustic-scenes-2019-development"
KAGGLE_AUDIO = "Audio Wise V1.0-20220916T202003Z-001/Audio Wise V1.0"
KAGGLE_TABLE = "Metadata-20220916T202011Z-001/Metadata/Metadata V1.0 FSC22.csv"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, delimiter: str = ",") -> str:
    """A table as text; values are quoted where they hold the delimiter."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if columns:
        writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _tree(
    folder: Path,
    kind: str,
    clips: Sequence[RawClip],
    *,
    options: dict[str, Any] | None = None,
    downloadable: bool = True,
) -> Tree:
    return Tree(
        kind=kind,
        root=folder / "tree",
        served=folder / "served",
        overrides=checksum_overrides(folder / "served") if downloadable else {},
        clips=len(clips),
        labels={label for clip in clips for label in clip.labels or (clip.label,)},
        options=options or {},
    )


# ESC-50


def esc50_clips(subset: str = "esc50") -> list[RawClip]:
    """Two takes of one upload and one of another for each class, in five folds; `hen` is not in ESC-10."""
    clips = []
    classes = {"dog": 0, "rain": 10, "clock_tick": 38, "chainsaw": 41, "hen": 6}
    for number, (label, target) in enumerate(classes.items()):
        if subset == "esc10" and label == "hen":
            continue
        for upload, take in ((0, "A"), (0, "B"), (1, "A")):
            fold = (number + upload) % 5 + 1
            source = str(100_000 + 10 * number + upload)
            stem = f"{fold}-{source}-{take}-{target}"
            clips.append(
                RawClip(stem, f"audio/{stem}.wav", label, recording_id=source, class_id=target, fold=fold)
            )
    return clips


def build_esc50(folder: Path, *, subset: str = "esc50", seconds: float = 0.5) -> Tree:
    """The archive of a commit as GitHub makes it: a top folder, and the commit in the archive's comment."""
    root, every = folder / "tree", esc50_clips()
    for seed, clip in enumerate(every):
        write_wav(root / clip.source, tone(seed, seconds, 44_100), 44_100)
    rows = [
        (
            f"{c.clip_id}.wav",
            c.fold,
            c.class_id,
            c.label,
            c.label != "hen",
            c.recording_id,
            c.clip_id.split("-")[2],
        )
        for c in every
    ]
    columns = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    write_text(root / "meta" / "esc50.csv", table(columns, rows))
    write_text(root / "README.md", "# ESC-50: Dataset for Environmental Sound Classification\n")
    zip_folder(
        root, folder / "served" / f"{ESC50_COMMIT}.zip", top=f"ESC-50-{ESC50_COMMIT}", comment=ESC50_COMMIT
    )
    return _tree(
        folder, "esc50", esc50_clips(subset), options={"subset": subset} if subset != "esc50" else {}
    )


# UrbanSound8K


def urbansound8k_clips() -> list[RawClip]:
    """Two slices of one recording and one of another for each class, in folds 1 to 10."""
    clips = []
    for number, (label, class_id) in enumerate(
        {"dog_bark": 3, "gun_shot": 6, "siren": 8, "car_horn": 1}.items()
    ):
        for recording, cut in ((0, 0), (0, 1), (1, 0)):
            fold = (3 * number + recording) % 10 + 1
            source = str(7_000 + 10 * number + recording)
            stem = f"{source}-{class_id}-0-{cut}"
            clips.append(
                RawClip(
                    stem,
                    f"audio/fold{fold}/{stem}.wav",
                    label,
                    recording_id=source,
                    class_id=class_id,
                    fold=fold,
                )
            )
    return clips


def build_urbansound8k(folder: Path, *, seconds: float = 0.5) -> Tree:
    root, clips = folder / "tree", urbansound8k_clips()
    rows = []
    for seed, clip in enumerate(clips):
        rate = (44_100, 48_000, 22_050)[seed % 3]  # the real ones come as they were uploaded
        write_wav(root / clip.source, tone(seed, seconds, rate), rate)
        start = 4.0 * int(clip.clip_id.split("-")[3])
        rows.append(
            (
                f"{clip.clip_id}.wav",
                clip.recording_id,
                start,
                start + seconds,
                1,
                clip.fold,
                clip.class_id,
                clip.label,
            )
        )
    for fold in range(1, 11):
        (root / "audio" / f"fold{fold}").mkdir(exist_ok=True)
    columns = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
    write_text(root / "metadata" / "UrbanSound8K.csv", table(columns, rows))
    write_text(root / "UrbanSound8K_README.txt", "UrbanSound8K\n")
    tar_folder(root, folder / "served" / "UrbanSound8K.tar.gz", top="UrbanSound8K")
    return _tree(folder, "urbansound8k", clips)


# FSD50K and its single-label subset

# Rows of the real tables: labels run from the most specific one up.
GUITAR = ("Electric_guitar", "Guitar", "Plucked_string_instrument", "Musical_instrument", "Music")
BARK = ("Bark", "Dog", "Domestic_animals_and_pets", "Animal")
BARK_IN_RAIN = ("Bark", "Dog", "Rain", "Domestic_animals_and_pets", "Animal", "Water")
THUD = ("Thump_and_thud",)
MIDS = {
    "Electric_guitar": "/m/02sgy",
    "Guitar": "/m/0342h",
    "Plucked_string_instrument": "/m/0fx80y",
    "Musical_instrument": "/m/04szw",
    "Music": "/m/04rlf",
}
FSD50K = (
    ("64760", GUITAR, "train", "casual"),
    ("16399", GUITAR, "train", "casual"),
    ("345111", GUITAR, "validation", "strings"),
    ("136", BARK, "train", "kennel"),
    ("137", BARK, "validation", "kennel"),
    ("221", BARK_IN_RAIN, "train", "storm"),
    ("236", THUD, "train", "boxes"),
    ("237", THUD, "validation", "boxes"),
    ("99", GUITAR, "test", "band"),
    ("100", BARK, "test", "park"),
    ("209", BARK_IN_RAIN, "test", "park"),
    ("389", THUD, "test", "drop"),
)


def fsd50k_vocabulary() -> list[str]:
    """The 200 labels in the order of their numbers."""
    classes = yaml.safe_load((RESOURCES / "classes" / "fsd50k.yaml").read_text())["classes"]
    return [entry["label"] for entry in classes]


def fsd50k_clips() -> list[RawClip]:
    numbers = {label: number for number, label in enumerate(fsd50k_vocabulary())}
    return [
        RawClip(
            name,
            f"FSD50K.{'eval' if split == 'test' else 'dev'}_audio/{name}.wav",
            labels[0],
            recording_id=name,
            class_id=numbers[labels[0]],
            labels=labels,
            split=split,
            speaker_id=uploader,
        )
        for name, labels, split, uploader in FSD50K
    ]


def build_fsd50k(folder: Path, *, seconds: float = 0.5) -> Tree:
    """Audio as split zips (two parts each here; the real ones have six and two), the rest as plain ones."""
    root, served, clips = folder / "tree", folder / "served", fsd50k_clips()
    for seed, clip in enumerate(clips):
        write_wav(root / clip.source, tone(seed, seconds, 44_100), 44_100)
    truth, metadata = root / "FSD50K.ground_truth", root / "FSD50K.metadata"
    for part in ("dev", "eval"):
        rows, info = [], {}
        for clip in clips:
            if (clip.split == "test") == (part == "eval"):
                labels = clip.labels or ()
                mids = [MIDS.get(label, f"/m/0{label.lower()[:5]}") for label in labels]
                row = (clip.clip_id, ",".join(labels), ",".join(mids))
                split = {"train": "train", "validation": "val"}.get(str(clip.split))
                rows.append(row if part == "eval" else (*row, split))
                info[clip.clip_id] = {
                    "title": f"{clip.clip_id}.wav",
                    "description": "synthetic",
                    "tags": [],
                    "license": "http://creativecommons.org/publicdomain/zero/1.0/",
                    "uploader": clip.speaker_id,
                }
        columns = ("fname", "labels", "mids", "split")
        write_text(truth / f"{part}.csv", table(columns if part == "dev" else columns[:3], rows))
        write_text(metadata / f"{part}_clips_info_FSD50K.json", json.dumps(info, indent=4))
    vocabulary = [
        (number, label, MIDS.get(label, f"/m/0{number:05d}"))
        for number, label in enumerate(fsd50k_vocabulary())
    ]
    write_text(truth / "vocabulary.csv", table((), vocabulary))
    for name in ("FSD50K.ground_truth", "FSD50K.metadata"):
        zip_folder(root / name, served / f"{name}.zip", top=name)
    for name, parts in (("FSD50K.dev_audio", 6), ("FSD50K.eval_audio", 2)):
        split_zip(root / name, served / f"{name}.zip", parts, top=name)
    return _tree(folder, "fsd50k", clips)


def arca23k_fsd_clips() -> list[RawClip]:
    """The clips of FSD50K with one kind of sound."""
    classes = yaml.safe_load((RESOURCES / "classes" / "arca23k_fsd.yaml").read_text())["classes"]
    numbers = {entry["label"]: entry["id"] for entry in classes}
    return [
        RawClip(
            clip.clip_id,
            clip.source,
            clip.label,
            recording_id=clip.recording_id,
            class_id=numbers[clip.label],
            split=clip.split,
        )
        for clip in fsd50k_clips()
        if clip.labels != BARK_IN_RAIN
    ]


def build_arca23k_fsd(folder: Path, *, seconds: float = 0.5) -> Tree:
    """Its own ground truth beside FSD50K's audio, whose archives are the same to the byte as in `build_fsd50k`."""
    build_fsd50k(folder, seconds=seconds)
    root, served, clips = folder / "tree", folder / "served", arca23k_fsd_clips()
    for name in ("FSD50K.ground_truth", "FSD50K.metadata"):
        shutil.rmtree(root / name)
        (served / f"{name}.zip").unlink()
    truth = root / "ARCA23K-FSD.ground_truth"
    for part, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        rows = [(c.clip_id, c.label, MIDS.get(c.label, "/m/05tny_")) for c in clips if c.split == split]
        write_text(truth / f"{part}.csv", table(("fname", "label", "mid"), rows))
    zip_folder(truth, served / "ARCA23K-FSD.ground_truth.zip", top="ARCA23K-FSD.ground_truth")
    return _tree(folder, "arca23k_fsd", clips)


# FSC22


# Dataset file, source file, class; as the real table has them.
FSC22 = (
    ("1_10101", "17548__A.wav", "Fire"),
    ("1_10102", "17548_B.wav", "Fire"),
    ("1_10109", "17717_A.wav", "Fire"),
    ("5_10504", "104952_2.wav", "Wind"),
    ("5_10513", "104952_4.wav", "Wind"),
    ("6_10601", "renam (1).wav", "Silence"),
    ("6_10602", "193045__(1)_frithjof__stille-mit-vogel (1).wav", "Silence"),
    ("7_10701", "tree-felli_07054077.wav", "TreeFalling"),
    ("7_10702", "tree-felli_07054077-2.wav", "TreeFalling"),
    ("24_12401", "280230_5.wav", "WingFlaping"),
    ("24_12402", "280230_4.wav", "WingFlaping"),
)
FSC22_RECORDINGS = {
    "renam (1).wav": "renam",
    "193045__(1)_frithjof__stille-mit-vogel (1).wav": "193045",
    "tree-felli_07054077.wav": "tree-felli_07054077",
    "tree-felli_07054077-2.wav": "tree-felli_07054077",
}


def fsc22_clips(audio: str = KAGGLE_AUDIO) -> list[RawClip]:
    return [
        RawClip(
            name,
            f"{audio}/{name}.wav",
            label,
            recording_id=FSC22_RECORDINGS.get(source, source.split("_")[0]),
            class_id=int(name.split("_")[0]),
        )
        for name, source, label in FSC22
    ]


def build_fsc22(folder: Path, *, flat: bool = False, seconds: float = 0.5) -> Tree:
    """As Kaggle has it, or flat. Nobody can fetch it without an account, so nothing stands in for a checksum."""
    root = folder / "tree"
    clips = fsc22_clips("audio" if flat else KAGGLE_AUDIO)
    for seed, clip in enumerate(clips):
        write_wav(root / clip.source, tone(seed, seconds, 44_100), 44_100)
    rows = [
        (source, f"{name}.wav", clip.class_id, label)
        for (name, source, label), clip in zip(FSC22, clips, strict=True)
    ]
    columns = ("Source File Name", "Dataset File Name", "Class ID", "Class Name")
    write_text(root / (Path(KAGGLE_TABLE).name if flat else KAGGLE_TABLE), table(columns, rows))
    zip_folder(root, folder / "served" / "fsc22-dataset.zip")
    return _tree(folder, "fsc22", clips, downloadable=False)


# TAU Urban Acoustic Scenes 2019


def tau2019_clips() -> list[RawClip]:
    """Two segments of each of four locations a scene: two for training, one for testing, one in neither."""
    clips = []
    for number, (label, class_id) in enumerate({"airport": 0, "tram": 6, "park": 9}.items()):
        for place, (city, split) in enumerate(
            (("barcelona", "train"), ("lyon", "train"), ("vienna", "test"), ("milan", None))
        ):
            location = f"{city}-{10 * number + place}"
            for segment in range(2):
                stem = f"{label}-{location}-{100 * number + 10 * place + segment}-a"
                clips.append(
                    RawClip(
                        stem,
                        f"audio/{stem}.wav",
                        label,
                        recording_id=location,
                        class_id=class_id,
                        split=split,
                    )
                )
    return clips


def build_tau2019(folder: Path, *, seconds: float = 0.5) -> Tree:
    """`meta.zip` and 21 archives of audio, which all unpack to one folder."""
    root, served, clips = folder / "tree", folder / "served", tau2019_clips()
    for seed, clip in enumerate(clips):
        stereo = np.stack([tone(seed, seconds, 48_000), tone(1000 + seed, seconds, 48_000)], axis=1)
        write_wav(root / clip.source, stereo, 48_000, "PCM_24")
    rows = [(c.source, c.label, c.recording_id, "a") for c in clips]
    tables = {
        "meta.csv": (("filename", "scene_label", "identifier", "source_label"), rows),
        "evaluation_setup/fold1_train.csv": (
            ("filename", "scene_label"),
            [(c.source, c.label) for c in clips if c.split == "train"],
        ),
        "evaluation_setup/fold1_test.csv": (("filename",), [(c.source,) for c in clips if c.split == "test"]),
        "evaluation_setup/fold1_evaluate.csv": (
            ("filename", "scene_label"),
            [(c.source, c.label) for c in clips if c.split == "test"],
        ),
    }
    part = folder / "part"
    for name, (columns, lines) in tables.items():
        for place in (root, part):
            write_text(place / name, table(columns, lines, delimiter="\t"))
    zip_folder(part, served / f"{TAU}.meta.zip", top=TAU)
    shutil.rmtree(part)
    archives = 21
    for number in range(archives):
        (part / "audio").mkdir(parents=True)
        for clip in clips[number::archives]:
            shutil.copy(root / clip.source, part / clip.source)
        zip_folder(part, served / f"{TAU}.audio.{number + 1}.zip", top=TAU)
        shutil.rmtree(part)
    return _tree(folder, "tau2019", clips)
