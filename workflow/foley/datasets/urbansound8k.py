"""UrbanSound8K: 8,732 slices of up to 4 s from 1,297 Freesound recordings, in 10 classes and 10 official folds.

Salamon, Jacoby & Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014.
"""

from __future__ import annotations

from pathlib import Path

from foley.datasets.metadata import known_class, read_table, whole_number
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem
from foley.download.sources import RemoteFile, Source

# In the order of their classID.
CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
TABLE = "metadata/UrbanSound8K.csv"
COLUMNS = ("slice_file_name", "fsID", "fold", "classID", "class")


class UrbanSound8K(DatasetKind):
    """`audio/fold1/` to `audio/fold10/` (any format soundfile reads) and `metadata/UrbanSound8K.csv`."""

    title = "UrbanSound8K"
    official_splits = tuple(f"fold{number}" for number in range(1, 11))
    licence = "CC BY-NC 4.0 (its read-me says 3.0)"
    citation = "Salamon, Jacoby & Bello 2014, A Dataset and Taxonomy for Urban Sound Research"
    url = "https://urbansounddataset.weebly.com/urbansound8k.html"
    published_clips = 8732
    tables = (TABLE,)
    # The folds are meant to keep slices of one recording together, but the slices of five recordings lie in two
    # folds each (fsID 77751, 106905, 132016, 176638 and 180937). So this is no promise that a check may enforce.
    claims = frozenset()

    def sources(self) -> tuple[Source, ...]:
        archive = RemoteFile(
            "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
            6_023_741_708,
            "md5:9aa69802bbf37fb986f71ec1483a196e",
        )
        # Unpacked: an estimate.
        return (Source("urbansound8k", (archive,), strip=1, unpacked_bytes=7_200_000_000),)

    def check(self, root: Path) -> None:
        super().check(root)
        for part in (TABLE, "audio"):
            if not (root / part).exists():
                raise FileNotFoundError(
                    f"{root} is not an UrbanSound8K folder: {part} is not there; unpack UrbanSound8K.tar.gz from "
                    f"{self.url} and point the dataset's `path` at the folder that holds audio/ and metadata/"
                )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label) for number, label in enumerate(CLASSES)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        files = {fold: by_stem(audio_files(root / "audio" / f"fold{fold}")) for fold in range(1, 11)}
        clips = []
        for place, row in read_table(root / TABLE, COLUMNS):
            name = Path(row["slice_file_name"])
            fold = whole_number(row["fold"], place, "fold")
            if fold not in files:
                raise ValueError(f"{place}: fold must be 1 to 10, got {fold}; the file was changed")
            class_id = known_class(row["class"], CLASSES, place)
            if whole_number(row["classID"], place, "classID") != class_id:
                raise ValueError(
                    f"{place}: classID {row['classID']} is not that of {row['class']!r}, which is {class_id}; "
                    "the file was changed"
                )
            # A clip without its file is a row too: it ends in the rejected table.
            path = files[fold].get(name.stem, root / "audio" / f"fold{fold}" / name.name)
            clips.append(
                RawClip(
                    clip_id=name.stem,
                    source=path.relative_to(root).as_posix(),
                    label=row["class"],
                    class_id=class_id,
                    fold=fold,
                    # The Freesound recording that the slice was cut from.
                    recording_id=row["fsID"],
                )
            )
        return clips
