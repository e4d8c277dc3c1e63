"""GTZAN: 1,000 excerpts of 30 s in 10 genres of music.

Tzanetakis & Cook, "Musical genre classification of audio signals", IEEE Trans. Speech and Audio Processing 10(5), 2002.

Many excerpts are copies of others, share an artist or are distorted (Sturm, "The GTZAN dataset: Its contents, its
faults, their effects on evaluation, and its future use", arXiv 1306.1461). The fault-filtered split of Kereliuk,
Sturm & Larsen ("Deep Learning and Music Adversaries", IEEE Trans. Multimedia 17(11), 2015), made by hand, leaves out
70 of them, the copies among these.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foley.datasets.metadata import known_class
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files
from foley.download.sources import RemoteFile, Source

log = logging.getLogger(__name__)

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
NAME = re.compile(r"(?P<genre>[a-z]+)\.(?P<number>\d{5})")

# The lists' names, and Foley's for what they hold.
LISTS = {"train": "train", "valid": "validation", "test": "test"}

# The file numbers of the fault-filtered lists.
# fmt: off
FAULT_FILTERED = {
    "train": {
        "blues": "29-49 73-97",
        "classical": "30-33 43-48 50-67 80-99",
        "country": "19-26 28-29 65-99",
        "disco": "5 15-20 22-37 39-45 47 49 53-54 56-57 59 61 70 73-74 89",
        "hiphop": "2-25 28-29 31-38 41-42 55-61 77-80",
        "jazz": "0-1 11-24 41 47-72",
        "metal": "2-3 5 21 24 35 46-57 59-66 69 71-72 79-80 84 86 89-99",
        "pop": "2-9 11-12 16-20 23-29 31-36 38-42 44 46 49-50 80 97-99",
        "reggae": "0-2 4 6 9 11-12 14-32 42-45 49-51 54-60 63 69",
        "rock": "0-9 16-26 57-70 91-99",
    },
    "valid": {
        "blues": "0-11 50-60",
        "classical": "0-10 68-76",
        "country": "0-7 9-18 27 41-42 45 49",
        "disco": "0 2-4 6-14 46 48 52 67-68 72 75 90 95",
        "hiphop": "81-98",
        "jazz": "2-10 25-32",
        "metal": "0-1 6-11 16-20 36-37 68 76-77 81-82",
        "pop": "10 53 55 58-62 81 83-86",
        "reggae": "61-62 70 72 74 76-78 85 92-99",
        "rock": "38 49-56 71-85",
    },
    "test": {
        "blues": "12-28 61-72 98-99",
        "classical": "11-29 34-41 49 77-79",
        "country": "30-40 43-44 46-48 50-51 53-64",
        "disco": "1 21 58 62-66 69 76-88 91-94 96-97 99",
        "hiphop": "0 26-27 30 40 43-45 51-54 62-75 99",
        "jazz": "73-99",
        "metal": "12-15 22-23 25-33 38-39 67 70 73-75 78 83 85 87-88",
        "pop": "0-1 13-14 43 63-66 69-79 82 88-96",
        "reggae": "34-40 46-48 52-53 64-68 71 79 82-84 87-90",
        "rock": "10-15 27-37 39-48 86-90",
    },
}
# fmt: on


@dataclass(frozen=True)
class GTZANOptions:
    """split: `none` (all 1,000 clips, no split) or `fault_filtered` (its 930 clips in train, validation and test)."""

    split: Literal["none", "fault_filtered"] = "none"


class GTZAN(DatasetKind):
    """`genres/<genre>/<genre>.00000.wav` (or `.au`).

    Which excerpts come from one recording is not published with the data, so every file counts as a recording of
    its own; splits that Foley draws itself can have one song on both sides. `jazz.00054` cannot be decoded in some
    copies of the data; it ends among the rejected clips.
    """

    title = "GTZAN genre collection"
    official_splits = ()
    licence = "none given; research use"
    citation = "Tzanetakis & Cook 2002, Musical genre classification of audio signals"
    url = "http://marsyas.info/downloads/datasets.html"
    Options = GTZANOptions
    published_clips = 1000
    tables = ("*_filtered.txt",)

    def __init__(self, options: GTZANOptions | None = None) -> None:
        super().__init__(options)
        if self.options.split == "fault_filtered":
            # Of this instance, not of the class. Copies are among the faults that the lists leave out.
            self.published_clips = 930  # type: ignore[misc]
            self.claims = frozenset({("audio", "split")})  # type: ignore[misc]
            self.official_splits = ("official",)  # type: ignore[misc, assignment]

    def sources(self) -> tuple[Source, ...]:
        # The publisher's host, opihi.cs.uvic.ca, has been down since 2022 (mirdata issue 549, torchaudio pull
        # request 2763). This is the Internet Archive's copy of its file, with the checksum that torchaudio has for it.
        archive = "https://web.archive.org/web/20220328223413/http://opihi.cs.uvic.ca/sound/genres.tar.gz"
        return (
            Source(
                "genres",
                (
                    RemoteFile(
                        archive,
                        1_225_571_541,
                        "sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
                    ),
                ),
                unpacked_bytes=1_350_000_000,
            ),
        )

    def check(self, root: Path) -> None:
        super().check(root)
        if not (root / "genres").is_dir():
            raise FileNotFoundError(
                f"{root} is not a GTZAN folder: genres/ is not there; unpack genres.tar.gz and point the dataset's "
                "`path` at the folder that holds genres/"
            )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, genre) for number, genre in enumerate(GENRES)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        files: dict[str, Path] = {}
        for path in audio_files(root / "genres"):
            genre, match = path.parent.name, NAME.fullmatch(path.stem)
            known_class(genre, GENRES, str(path))
            if match is None or match["genre"] != genre:
                raise ValueError(f"{path}: files of {genre} are named {genre}.00000.wav; remove or rename it")
            if path.stem in files:
                raise ValueError(f"two files for one clip: {files[path.stem]} and {path}; remove one")
            files[path.stem] = path
        if self.options.split == "none":
            return [self._clip(root, stem, path, None) for stem, path in sorted(files.items())]
        clips = []
        listed: dict[str, str] = {}
        for name, split in LISTS.items():
            for place, stem in self._listed(root, name):
                if stem in listed:
                    raise ValueError(f"{place}: {stem} is in the {listed[stem]} list too")
                listed[stem] = name
                # A listed clip without its file is a row too: it ends in the rejected table.
                genre = stem.partition(".")[0]
                path = files.get(stem, root / "genres" / genre / f"{stem}.wav")
                clips.append(self._clip(root, stem, path, split))
        log.info(
            "fault-filtered split: %d of %d files are in no list", len(files.keys() - listed), len(files)
        )
        return clips

    def _listed(self, root: Path, name: str) -> Iterator[tuple[str, str]]:
        """Stems of a fault-filtered list, each with its place: of the dataset's own file, else of ours."""
        path = root / f"{name}_filtered.txt"
        if not path.is_file():
            for genre, ranges in FAULT_FILTERED[name].items():
                for number in _numbers(ranges):
                    yield f"FAULT_FILTERED[{name!r}]", f"{genre}.{number:05d}"
            return
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not text.strip():
                continue
            place, stem = f"{path}, line {line}", Path(text.strip()).stem
            match = NAME.fullmatch(stem)
            if match is None:
                raise ValueError(f"{place}: expected a file such as blues/blues.00000.wav, got {text!r}")
            known_class(match["genre"], GENRES, place)
            yield place, stem

    def _clip(self, root: Path, stem: str, path: Path, split: str | None) -> RawClip:
        genre = stem.partition(".")[0]
        return RawClip(
            clip_id=stem,
            source=path.relative_to(root).as_posix(),
            label=genre,
            class_id=GENRES.index(genre),
            recording_id=stem,
            split=split,
        )


def _numbers(ranges: str) -> Iterator[int]:
    """The numbers of ranges such as `0-3 7`."""
    for part in ranges.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
