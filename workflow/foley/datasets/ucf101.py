"""UCF101: 13,320 clips of 101 human actions, cut from YouTube videos; 51 of the classes have sound.

Soomro, Zamir & Shah, "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild", CRCV-TR-12-01,
arXiv 1212.0402, 2012.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foley.datasets.metadata import known_class, whole_number
from foley.datasets.protocol import VIDEO_SUFFIXES, DatasetKind, RawClass, RawClip, audio_files
from foley.download.sources import RemoteFile, Source

log = logging.getLogger(__name__)

LISTS = "ucfTrainTestlist"
VIDEO_FOLDERS = ("UCF-101", "UCF101")
ENTRY = re.compile(r"(?P<label>\w+)/(?P<stem>v_\w+_g(?P<group>\d{2})_c\d{2})\.avi")


@dataclass(frozen=True)
class UCF101Options:
    """Options of UCF101.

    split_list: which of the three official pairs of lists makes the splits `train` and `test`.
    archive: `rar` is the publisher's file; `zip` holds the same videos on the THUMOS host, and needs no unrar.
    """

    split_list: Literal[1, 2, 3] = 1
    archive: Literal["rar", "zip"] = "rar"


class UCF101(DatasetKind):
    """`UCF-101/<Class>/v_<Class>_g01_c01.avi` with `ucfTrainTestlist/{classInd,trainlist0N,testlist0N}.txt`.

    Clips of one group come from one video, and the lists keep groups whole. Clips without a sound track end among
    the rejected clips.
    """

    title = "UCF101"
    official_splits = ("official",)
    licence = "none given; research use"
    citation = (
        "Soomro, Zamir & Shah 2012, UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild"
    )
    url = "https://www.crcv.ucf.edu/data/UCF101.php"
    Options = UCF101Options
    published_clips = 13_320
    claims = frozenset({("recording", "split")})
    media = VIDEO_SUFFIXES
    tables = (f"{LISTS}/*.txt",)

    def sources(self) -> tuple[Source, ...]:
        videos = {
            # Its publisher gives no checksum.
            "rar": RemoteFile("https://www.crcv.ucf.edu/data/UCF101/UCF101.rar", 6_932_971_618),
            "zip": RemoteFile(
                "https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
                6_960_400_115,
                "sha256:dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
            ),
        }[self.options.archive]
        lists = RemoteFile(
            "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
            113_943,
            "sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
        )
        return (
            Source("videos", (videos,), unpacked_bytes=7_100_000_000),
            Source("lists", (lists,), unpacked_bytes=4_000_000),
        )

    def check(self, root: Path) -> None:
        super().check(root)
        number = self.options.split_list
        for name in ("classInd.txt", f"trainlist0{number}.txt", f"testlist0{number}.txt"):
            if not (root / LISTS / name).is_file():
                raise FileNotFoundError(
                    f"{root} is not a UCF101 folder: {LISTS}/{name} is not there; unpack "
                    f"UCF101TrainTestSplits-RecognitionTask.zip from {self.url} into it"
                )
        if not any((root / name).is_dir() for name in VIDEO_FOLDERS):
            raise FileNotFoundError(
                f"{root} is not a UCF101 folder: {VIDEO_FOLDERS[0]}/ is not there; unpack UCF101.rar from "
                f"{self.url} into it"
            )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label) for number, label in enumerate(_read_classes(root))]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        labels = _read_classes(root)
        files: dict[str, Path] = {}
        for folder in VIDEO_FOLDERS:
            for path in audio_files(root / folder, VIDEO_SUFFIXES):
                # The lists write v_HandStandPushups, the zip v_HandstandPushups.
                key = path.stem.lower()
                if key in files:
                    raise ValueError(f"two files for one clip: {files[key]} and {path}; remove one")
                files[key] = path
        clips = []
        listed: dict[str, str] = {}
        for split in ("train", "test"):
            table = root / LISTS / f"{split}list0{self.options.split_list}.txt"
            for place, text in _lines(table):
                entry, _, number = text.partition(" ")
                match = ENTRY.fullmatch(entry)
                if match is None:
                    raise ValueError(f"{place}: expected <Class>/v_<Class>_g01_c01.avi, got {text!r}")
                label, stem = match["label"], match["stem"]
                class_id = known_class(label, labels, place)
                # Only the training lists repeat the class number.
                if number and whole_number(number, place, "the class number") != class_id + 1:
                    raise ValueError(f"{place}: {label} has the number {class_id + 1} in classInd.txt")
                if stem.lower() in listed:
                    raise ValueError(f"{place}: {stem} is in the {listed[stem.lower()]} list already")
                listed[stem.lower()] = split
                # A listed clip without its file is a row too: it ends in the rejected table.
                path = files.get(stem.lower(), root / VIDEO_FOLDERS[0] / label / f"{stem}.avi")
                clips.append(
                    RawClip(
                        clip_id=stem,
                        source=path.relative_to(root).as_posix(),
                        label=label,
                        class_id=class_id,
                        recording_id=f"{label}_g{match['group']}",
                        split=split,
                    )
                )
        others = sorted(path.name for key, path in files.items() if key not in listed)
        if others:
            log.warning("%d videos are in neither list and are left alone: %s", len(others), others[:5])
        return clips


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a list that hold text, each with its place for messages."""
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if text.strip():
            yield f"{path}, line {number}", text.strip()


def _read_classes(root: Path) -> list[str]:
    """The labels of `classInd.txt` (`1 ApplyEyeMakeup`) in the order of their numbers, which start at 1."""
    labels: list[str] = []
    for place, text in _lines(root / LISTS / "classInd.txt"):
        number, _, label = text.partition(" ")
        if whole_number(number, place, "the class number") != len(labels) + 1 or not label.strip():
            raise ValueError(f"{place}: expected `{len(labels) + 1} <Class>`, got {text!r}")
        labels.append(label.strip())
    return labels
