"""ARCA23K-FSD: the clips of FSD50K with one kind of sound each, in 70 classes.

Iqbal, Cao, Bailey, Plumbley & Wang, "ARCA23K: An audio dataset for investigating open-set label noise", DCASE
Workshop 2021.
"""

from __future__ import annotations

from pathlib import Path

from foley.datasets.fsd50k import DEV_AUDIO, EVAL_AUDIO, PARENTS, audio_sources
from foley.datasets.metadata import known_class, read_table
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem
from foley.download.sources import RemoteFile, Source

# The dataset numbers its classes nowhere; they are in alphabetical order here.
# fmt: off
CLASSES = (
    "Acoustic_guitar", "Bark", "Bass_guitar", "Boom", "Bowed_string_instrument", "Burping_and_eructation",
    "Camera", "Chewing_and_mastication", "Child_speech_and_kid_speaking", "Clapping", "Coin_(dropping)",
    "Computer_keyboard", "Cough", "Crack", "Crackle", "Crash_cymbal", "Cricket",
    "Crumpling_and_crinkling", "Crushing", "Crying_and_sobbing", "Dishes_and_pots_and_pans",
    "Drawer_open_or_close", "Drill", "Electric_guitar", "Fart", "Female_singing",
    "Female_speech_and_woman_speaking", "Finger_snapping", "Giggle", "Gong", "Gunshot_and_gunfire",
    "Hammer", "Harp", "Keys_jangling", "Knock", "Livestock_and_farm_animals_and_working_animals",
    "Male_speech_and_man_speaking", "Meow", "Microwave_oven", "Organ", "Piano", "Printer", "Rattle",
    "Rattle_(instrument)", "Run", "Sawing", "Scissors", "Scratching_(performance_technique)", "Screaming",
    "Skateboard", "Slam", "Snare_drum", "Splash_and_splatter", "Squeak", "Stream", "Tap", "Tearing",
    "Thump_and_thud", "Toilet_flush", "Train", "Trumpet", "Walk_and_footsteps", "Water_tap_and_faucet",
    "Waves_and_surf", "Whoosh_and_swoosh_and_swish", "Wind", "Wind_chime",
    "Wind_instrument_and_woodwind_instrument", "Writing", "Zipper_(clothing)",
)
# fmt: on
GROUND_TRUTH = "ARCA23K-FSD.ground_truth"
URL = "https://zenodo.org/records/5117901"
# Each table, the split it stands for, and where its clips lie.
TABLES = (
    ("train", "train", DEV_AUDIO),
    ("val", "validation", DEV_AUDIO),
    ("test", "test", EVAL_AUDIO),
)
COLUMNS = ("fname", "label", "mid")


class ARCA23KFSD(DatasetKind):
    """`ARCA23K-FSD.ground_truth/{train,val,test}.csv` beside FSD50K's audio folders, which it shares with FSD50K."""

    title = "ARCA23K-FSD"
    official_splits = ("official",)
    licence = "see LICENSE at its page; each clip CC0, CC BY, CC BY-NC or CC Sampling+, as in FSD50K"
    citation = "Iqbal et al. 2021, ARCA23K: An audio dataset for investigating open-set label noise"
    url = URL
    storage = "fsd50k"
    tables = (f"{GROUND_TRUTH}/*.csv",)

    def sources(self) -> tuple[Source, ...]:
        # Neither the size nor the checksum that Zenodo has for this small file could be looked up.
        ground_truth = RemoteFile(f"{URL}/files/{GROUND_TRUTH}.zip", None)
        return (Source(GROUND_TRUTH, (ground_truth,), unpacked_bytes=2_000_000), *audio_sources())

    def check(self, root: Path) -> None:
        super().check(root)
        for part in (*(f"{GROUND_TRUTH}/{table}.csv" for table, *_ in TABLES), DEV_AUDIO, EVAL_AUDIO):
            if not (root / part).exists():
                raise FileNotFoundError(
                    f"{root} is not an ARCA23K-FSD folder: {part} is not there; unpack {GROUND_TRUTH}.zip from "
                    f"{self.url} beside FSD50K's {DEV_AUDIO}/ and {EVAL_AUDIO}/ and point the dataset's `path` at "
                    "the folder that holds all three"
                )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label, PARENTS.get(label, ())) for number, label in enumerate(CLASSES)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        files = {folder: by_stem(audio_files(root / folder)) for folder in (DEV_AUDIO, EVAL_AUDIO)}
        clips = []
        for table, split, folder in TABLES:
            for place, row in read_table(root / GROUND_TRUTH / f"{table}.csv", COLUMNS):
                name = row["fname"].removesuffix(".wav")
                # A clip without its file is a row too: it ends in the rejected table.
                path = files[folder].get(name, root / folder / f"{name}.wav")
                clips.append(
                    RawClip(
                        clip_id=name,
                        source=path.relative_to(root).as_posix(),
                        label=row["label"],
                        class_id=known_class(row["label"], CLASSES, place),
                        split=split,
                        # The clip's number at Freesound.
                        recording_id=name,
                    )
                )
        return clips
