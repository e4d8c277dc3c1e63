"""TAU Urban Acoustic Scenes 2019, development set: 14,400 segments of 10 s, ten scenes in ten European cities.

Mesaros, Heittola & Virtanen, "A multi-device dataset for urban acoustic scene classification", DCASE Workshop 2018.
"""

from __future__ import annotations

from pathlib import Path

from foley.datasets.metadata import known_class, read_table
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem
from foley.download.sources import RemoteFile, Source

# The dataset numbers its scenes nowhere; this is the order of its documentation.
CLASSES = (
    "airport",
    "shopping_mall",
    "metro_station",
    "street_pedestrian",
    "public_square",
    "street_traffic",
    "tram",
    "bus",
    "metro",
    "park",
)
NAME = "TAU-urban-acoustic-scenes-2019-development"
TABLE = "meta.csv"
SPLITS = {"train": "evaluation_setup/fold1_train.csv", "test": "evaluation_setup/fold1_test.csv"}
COLUMNS = ("filename", "scene_label", "identifier")
# Zenodo's sizes and MD5 of audio.1.zip to audio.21.zip.
AUDIO = (
    (1_657_550_587, "aca4ebfd9ed03d5f747d6ba8c24bc728"),
    (1_666_219_450, "c4f170408ce77c8c70c532bf268d7be0"),
    (1_817_901_591, "c7214a07211f10f3250290d05e72c37e"),
    (1_821_710_642, "a6a62110f6699cf4432072acb1dffda6"),
    (1_803_118_466, "091a0b6d3c84b8e60e46940aa7d4a8a0"),
    (1_789_566_029, "114f4ca13e074391b98a1cfd8140de65"),
    (1_747_953_866, "5951dd2968f7a514e2afbe279c4f060d"),
    (1_728_724_513, "b0b63dc95b327e1509857c8d8a663cc3"),
    (1_667_106_209, "3c32a693a6b111ffb957be3c1dd22e9b"),
    (1_632_636_175, "0ffbf60006da520cc761fb74c878b98b"),
    (1_671_793_546, "599055d93b4c11057c29be2df54538d4"),
    (1_672_592_150, "98b8d162ff3665695c4c910e6c372cc8"),
    (1_673_481_614, "a356c08b1a5a21d433eba37ef87587f4"),
    (1_666_137_450, "f8969771e7faf7dd471d1cf78b0cf011"),
    (1_675_127_004, "4758c4b0fb7484faa632266e78850820"),
    (1_648_240_966, "a18acad9ede8ea76574216feb887f0bc"),
    (1_698_414_214, "1af7703484632f340da5c33662dc9632"),
    (1_731_093_704, "b67402bf3e08f4da394a7c18756c0fd2"),
    (1_745_153_640, "035db315f19106eb848b6f9b32bcc47c"),
    (1_774_038_704, "9cb28c74911bf8a3eadcf53f50a5b5d6"),
    (1_333_808_800, "0e44ed85c88ec036a9725b4dd1dfaea0"),
)


class TAU2019(DatasetKind):
    """`audio/`, `meta.csv` and `evaluation_setup/fold1_*.csv`; the tables are tab-separated.

    The split is the one that comes with the data: 70 % of the locations for training, 30 % for testing, and a rest
    (1,030 segments of Milan and others) in neither, whose split is null.
    """

    title = "TAU Urban Acoustic Scenes 2019, development set"
    official_splits = ("official",)
    licence = "Tampere University, non-commercial use only"
    citation = (
        "Mesaros, Heittola & Virtanen 2018, A multi-device dataset for urban acoustic scene classification"
    )
    url = "https://zenodo.org/records/2589280"
    published_clips = 14_400
    tables = (TABLE, "evaluation_setup/*.csv")
    # "The segments recorded at the same location are included into the same subset", says its documentation.
    claims = frozenset({("recording", "split")})

    def sources(self) -> tuple[Source, ...]:
        base = f"{self.url}/files/{NAME}"
        meta = RemoteFile(f"{base}.meta.zip", 156_863, "md5:09782f2097e4735687af73c44919329c")
        return (
            Source("meta", (meta,), strip=1, unpacked_bytes=3_000_000),
            *(
                # Segments are 10 s of 48 kHz, 24 bit, stereo: 2.88 MB each, about 686 in an archive.
                Source(
                    f"audio.{number}",
                    (RemoteFile(f"{base}.audio.{number}.zip", size, f"md5:{md5}"),),
                    strip=1,
                    unpacked_bytes=2_000_000_000,
                )
                for number, (size, md5) in enumerate(AUDIO, start=1)
            ),
        )

    def check(self, root: Path) -> None:
        super().check(root)
        for part in (TABLE, *SPLITS.values(), "audio"):
            if not (root / part).exists():
                raise FileNotFoundError(
                    f"{root} is not a TAU 2019 folder: {part} is not there; unpack {NAME}.meta.zip and the "
                    f"{len(AUDIO)} archives {NAME}.audio.*.zip from {self.url} and point the dataset's `path` at "
                    f"the folder {NAME} that they make"
                )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label) for number, label in enumerate(CLASSES)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        split_of: dict[str, str] = {}
        for split, table in SPLITS.items():
            for place, row in read_table(root / table, ("filename",), delimiter="\t"):
                if split_of.setdefault(row["filename"], split) != split:
                    raise ValueError(f"{place}: {row['filename']} is in both train and test")
        files = by_stem(audio_files(root / "audio"))
        clips = []
        for place, row in read_table(root / TABLE, COLUMNS, delimiter="\t"):
            name = Path(row["filename"])
            # A clip without its file is a row too: it ends in the rejected table.
            path = files.get(name.stem, root / "audio" / name.name)
            clips.append(
                RawClip(
                    clip_id=name.stem,
                    source=path.relative_to(root).as_posix(),
                    label=row["scene_label"],
                    class_id=known_class(row["scene_label"], CLASSES, place),
                    split=split_of.pop(row["filename"], None),
                    # City and location, such as `lyon-1162`: everything recorded at one place.
                    recording_id=row["identifier"],
                )
            )
        if split_of:
            raise ValueError(
                f"{root / TABLE} lacks {len(split_of)} segments that evaluation_setup/ names, for example "
                f"{next(iter(split_of))}; take all tables from one release"
            )
        return clips
