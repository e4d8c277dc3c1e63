"""ESC-50: 2,000 environmental clips of 5 s in 50 classes and 5 official folds; ESC-10 is 400 of them in 10 classes.

Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foley.datasets.metadata import known_class, read_table, whole_number
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem
from foley.download.sources import RemoteFile, Source

# In the order of their target numbers.
# fmt: off
CLASSES = (
    "dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow",
    "rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds", "water_drops", "wind", "pouring_water",
    "toilet_flush", "thunderstorm",
    "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing", "brushing_teeth",
    "snoring", "drinking_sipping",
    "door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening", "washing_machine",
    "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking",
    "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane", "fireworks",
    "hand_saw",
)
# fmt: on
TABLE = "meta/esc50.csv"
COLUMNS = ("filename", "fold", "target", "category", "src_file")


@dataclass(frozen=True)
class ESC50Options:
    """subset: `esc50` (all) or `esc10` (the ten classes under CC BY, with the numbers and folds of ESC-50)."""

    subset: Literal["esc50", "esc10"] = "esc50"


class ESC50(DatasetKind):
    """The published layout: `audio/` (any format soundfile reads) and `meta/esc50.csv`."""

    title = "ESC-50"
    official_splits = ("fold1", "fold2", "fold3", "fold4", "fold5")
    licence = "CC BY-NC 3.0"
    tables = (TABLE,)
    url = "https://github.com/karolpiczak/ESC-50"
    citation = "Piczak 2015, ESC: Dataset for Environmental Sound Classification"
    Options = ESC50Options
    storage = "esc50"
    published_clips = 2000
    # The folds are meant to keep clips of one upload together, but four uploads, cut into clips of two classes, lie
    # in two folds each. So this is no promise that a check may enforce; in ESC-10, which has one of each pair, it is.
    claims = frozenset()

    def __init__(self, options: ESC50Options | None = None) -> None:
        super().__init__(options)
        if self.options.subset == "esc10":
            # Of this instance, not of the class.
            self.title = "ESC-10"  # type: ignore[misc]
            self.splits = "esc10"  # type: ignore[misc]
            self.licence = "CC BY"  # type: ignore[misc]
            self.published_clips = 400  # type: ignore[misc]
            self.claims = frozenset({("recording", "fold")})  # type: ignore[misc]

    def sources(self) -> tuple[Source, ...]:
        # GitHub publishes no checksum. Size and hash are those that two unrelated projects have for the archive of
        # this commit, the last one of the repository; that of a branch changes with every commit.
        commit = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
        archive = RemoteFile(
            f"{self.url}/archive/{commit}.zip",
            645_832_161,
            "sha256:661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
        )
        return (Source("esc50", (archive,), strip=1, unpacked_bytes=885_000_000),)

    def check(self, root: Path) -> None:
        super().check(root)
        for part in (TABLE, "audio"):
            if not (root / part).exists():
                raise FileNotFoundError(
                    f"{root} is not an ESC-50 folder: {part} is not there; unpack {self.url} "
                    "and point the dataset's `path` at the folder that holds audio/ and meta/"
                )

    def classes(self, root: Path) -> list[RawClass]:
        found: dict[int, str] = {}
        for place, row in self._rows(root):
            target = whole_number(row["target"], place, "target")
            if found.setdefault(target, row["category"]) != row["category"]:
                raise ValueError(
                    f"{place}: target {target} is both {found[target]!r} and {row['category']!r}"
                )
        return [RawClass(target, found[target]) for target in sorted(found)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        files = by_stem(audio_files(root / "audio"))
        clips = []
        for place, row in self._rows(root):
            known_class(row["category"], CLASSES, place)
            stem = Path(row["filename"]).stem
            # A clip without its file is a row too: it ends in the rejected table, not in silence.
            path = files.get(stem, root / "audio" / Path(row["filename"]).name)
            clips.append(
                RawClip(
                    clip_id=stem,
                    source=path.relative_to(root).as_posix(),
                    label=row["category"],
                    class_id=whole_number(row["target"], place, "target"),
                    fold=whole_number(row["fold"], place, "fold"),
                    # Clips cut from one Freesound upload share its number.
                    recording_id=row["src_file"],
                )
            )
        return clips

    def _rows(self, root: Path) -> Iterator[tuple[str, dict[str, str]]]:
        subset = self.options.subset == "esc10"
        for place, row in read_table(root / TABLE, (*COLUMNS, "esc10") if subset else COLUMNS):
            if not subset or row["esc10"].lower() == "true":
                yield place, row
