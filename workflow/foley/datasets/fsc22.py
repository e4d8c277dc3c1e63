"""FSC22: 2,025 clips of 5 s, 27 classes of forest sound with 75 clips each.

Bandara, Jayasundara, Ariyarathne, Meedeniya & Perera, "Forest Sound Classification Dataset: FSC22", Sensors 23(4),
2023.
"""

from __future__ import annotations

import re
from pathlib import Path

from foley.datasets.metadata import known_class, read_table, whole_number
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem

# In the order of their Class ID, which starts at 1. `WingFlaping` is the dataset's own spelling.
# fmt: off
CLASSES = (
    "Fire", "Rain", "Thunderstorm", "WaterDrops", "Wind", "Silence", "TreeFalling", "Helicopter", "VehicleEngine",
    "Axe", "Chainsaw", "Generator", "Handsaw", "Firework", "Gunshot", "WoodChop", "Whistling", "Speaking",
    "Footsteps", "Clapping", "Insect", "Frog", "BirdChirping", "WingFlaping", "Lion", "WolfHowl", "Squirrel",
)
# fmt: on
TABLE = "Metadata V1.0 FSC22.csv"
COLUMNS = ("Source File Name", "Dataset File Name", "Class ID", "Class Name")
# Where the table and the clips lie: in Kaggle's archive, in the same without its outer folders, and in the authors'
# repository.
TABLE_FOLDERS = ("Metadata-20220916T202011Z-001/Metadata", "Metadata", ".")
AUDIO_FOLDERS = ("Audio Wise V1.0-20220916T202003Z-001/Audio Wise V1.0", "Audio Wise V1.0", "Audios", "audio")


class FSC22(DatasetKind):
    """The archive as Kaggle has it, or a flat folder with the table and the clips in `audio/`.

    There are no official folds. Most clips are named after the Freesound sound that they were cut from.
    """

    title = "FSC22"
    official_splits = ()
    licence = "see its page at Kaggle; the clips are from Freesound, under Creative Commons licences"
    citation = "Bandara, Jayasundara, Ariyarathne, Meedeniya & Perera 2023, Forest Sound Classification Dataset: FSC22"
    url = "https://www.kaggle.com/datasets/irmiot22/fsc22-dataset"
    published_clips = 2025
    tables = (TABLE,)
    by_hand = (
        f"Kaggle wants an account: sign in, download {url}, and unpack the archive as it is (it holds "
        f"`{AUDIO_FOLDERS[0]}/` and `{TABLE_FOLDERS[0]}/{TABLE}`)."
    )

    def check(self, root: Path) -> None:
        super().check(root)
        self._table(root)
        self._audio(root)

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label) for number, label in enumerate(CLASSES, start=1)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        folder = self._audio(root)
        files = by_stem(audio_files(folder))
        clips = []
        for place, row in read_table(self._table(root), COLUMNS):
            class_id = known_class(row["Class Name"], CLASSES, place) + 1
            if whole_number(row["Class ID"], place, "Class ID") != class_id:
                raise ValueError(
                    f"{place}: Class ID {row['Class ID']} is not that of {row['Class Name']!r}, which is {class_id}; "
                    "the file was changed"
                )
            name = Path(row["Dataset File Name"])
            # A clip without its file is a row too: it ends in the rejected table.
            path = files.get(name.stem, folder / name.name)
            clips.append(
                RawClip(
                    clip_id=name.stem,
                    source=path.relative_to(root).as_posix(),
                    label=row["Class Name"],
                    class_id=class_id,
                    recording_id=source_of(row["Source File Name"]),
                )
            )
        return clips

    def _table(self, root: Path) -> Path:
        return self._first(root, [f"{folder}/{TABLE}" for folder in TABLE_FOLDERS], "table")

    def _audio(self, root: Path) -> Path:
        return self._first(root, AUDIO_FOLDERS, "clips")

    def _first(self, root: Path, places: list[str] | tuple[str, ...], what: str) -> Path:
        for place in places:
            if (root / place).exists():
                return root / place
        names = ", ".join(place.removeprefix("./") for place in places)
        raise FileNotFoundError(f"{root} is not an FSC22 folder: no {what} at any of {names}. {self.by_hand}")


def source_of(name: str) -> str:
    """The recording that a clip was cut from, by the name of its source file.

    Names start with the number of a Freesound sound (`17548__A.wav`, `280230_5.wav`); in the others a mark of the
    cut (`-2`, ` (1)`) is left out.
    """
    number = re.match(r"\d{4,}", name)
    if number is not None:
        return number.group()
    return re.sub(r"(-\d| \(\d+\))$", "", name.removesuffix(".wav").removesuffix(".wav"))
