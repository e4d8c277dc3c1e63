"""FSD50K: 51,197 Freesound clips of 0.3 to 30 s with labels from 200 classes of the AudioSet ontology.

Fonseca, Favory, Pons, Font & Serra, "FSD50K: An Open Dataset of Human-Labeled Sound Events", IEEE/ACM Transactions on
Audio, Speech, and Language Processing 30, 2022.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from foley.datasets.metadata import known_class, read_table
from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem
from foley.download.sources import RemoteFile, Source

DEV_AUDIO, EVAL_AUDIO = "FSD50K.dev_audio", "FSD50K.eval_audio"
GROUND_TRUTH, METADATA = "FSD50K.ground_truth", "FSD50K.metadata"
URL = "https://zenodo.org/records/4060432"
SPLITS = {"train": "train", "val": "validation"}

# The classes right below each class in the AudioSet ontology (https://github.com/audioset/ontology), with what lies
# between two classes but is none of the 200 left out.
# fmt: off
CHILDREN = {
    "Aircraft": "Fixed-wing_aircraft_and_airplane",
    "Alarm": "Bicycle_bell Doorbell Siren Telephone Vehicle_horn_and_car_horn_and_honking",
    "Animal": (
        "Domestic_animals_and_pets Livestock_and_farm_animals_and_working_animals Wild_animals"
    ),
    "Bell": "Bicycle_bell Chime Church_bell Cowbell",
    "Bicycle": "Bicycle_bell",
    "Bird": "Bird_vocalization_and_bird_call_and_bird_song Crow Gull_and_seagull",
    "Bird_vocalization_and_bird_call_and_bird_song": "Chirp_and_tweet",
    "Brass_instrument": "Trumpet",
    "Breathing": "Gasp",
    "Car": "Car_passing_by Race_car_and_auto_racing Vehicle_horn_and_car_horn_and_honking",
    "Cat": "Growling Hiss Meow Purr",
    "Chime": "Wind_chime",
    "Clock": "Tick Tick-tock",
    "Cymbal": "Crash_cymbal Hi-hat",
    "Dog": "Bark Growling",
    "Domestic_animals_and_pets": "Cat Dog",
    "Domestic_sounds_and_home_sounds": (
        "Bathtub_(filling_or_washing) Coin_(dropping) Cupboard_open_or_close Cutlery_and_silverware "
        "Dishes_and_pots_and_pans Door Drawer_open_or_close Frying_(food) Keys_jangling "
        "Microwave_oven Packing_tape_and_duct_tape Scissors Sink_(filling_or_washing) Toilet_flush "
        "Typing Water_tap_and_faucet Writing Zipper_(clothing)"
    ),
    "Door": "Doorbell Knock Slam Sliding_door Squeak Tap",
    "Drum": "Bass_drum Snare_drum Tabla",
    "Engine": "Accelerating_and_revving_and_vroom Engine_starting Idling",
    "Explosion": "Boom Fireworks Gunshot_and_gunfire",
    "Fire": "Crackle",
    "Fowl": "Chicken_and_rooster",
    "Glass": "Chink_and_clink Shatter",
    "Guitar": "Acoustic_guitar Bass_guitar Electric_guitar Strum",
    "Hands": "Clapping Finger_snapping",
    "Human_group_actions": "Applause Chatter Cheering Clapping Crowd",
    "Human_voice": "Crying_and_sobbing Laughter Screaming Shout Sigh Singing Speech Whispering",
    "Insect": "Buzz Cricket",
    "Keyboard_(musical)": "Organ Piano",
    "Laughter": "Chuckle_and_chortle Giggle",
    "Liquid": "Boiling Drip Fill_(with_liquid) Pour Splash_and_splatter",
    "Livestock_and_farm_animals_and_working_animals": "Cowbell Fowl",
    "Mallet_percussion": "Glockenspiel Marimba_and_xylophone",
    "Mechanisms": "Camera Clock Mechanical_fan Printer Ratchet_and_pawl",
    "Motor_vehicle_(road)": "Bus Car Motorcycle Traffic_noise_and_roadway_noise Truck",
    "Music": "Musical_instrument",
    "Musical_instrument": (
        "Accordion Bell Bowed_string_instrument Brass_instrument Harmonica Harp Keyboard_(musical) "
        "Percussion Plucked_string_instrument Scratching_(performance_technique) "
        "Wind_instrument_and_woodwind_instrument"
    ),
    "Ocean": "Waves_and_surf",
    "Percussion": (
        "Cowbell Cymbal Drum Drum_kit Gong Mallet_percussion Rattle_(instrument) Tambourine"
    ),
    "Plucked_string_instrument": "Guitar",
    "Pour": "Trickle_and_dribble",
    "Power_tool": "Drill",
    "Rail_transport": "Subway_and_metro_and_underground Train",
    "Rain": "Raindrop",
    "Respiratory_sounds": "Breathing Cough Sneeze",
    "Shout": "Yell",
    "Singing": "Female_singing Male_singing",
    "Speech": (
        "Child_speech_and_kid_speaking Conversation Female_speech_and_woman_speaking "
        "Male_speech_and_man_speaking Speech_synthesizer"
    ),
    "Telephone": "Ringtone",
    "Thunderstorm": "Thunder",
    "Tools": "Hammer Power_tool Sawing",
    "Typing": "Computer_keyboard Typewriter",
    "Vehicle": (
        "Aircraft Bicycle Boat_and_Water_vehicle Motor_vehicle_(road) Rail_transport Skateboard"
    ),
    "Water": "Gurgling Hiss Ocean Rain Stream",
    "Wild_animals": "Bird Frog Growling Hiss Insect Rattle",
    "Wood": "Crack",
}
# fmt: on


def _parents() -> dict[str, tuple[str, ...]]:
    parents: dict[str, tuple[str, ...]] = {}
    for parent, children in CHILDREN.items():
        for child in children.split():
            parents[child] = (*parents.get(child, ()), parent)
    return parents


PARENTS = _parents()


def audio_sources() -> tuple[Source, ...]:
    """The archives of the clips (16-bit mono at 44.1 kHz), which ARCA23K-FSD needs too."""

    def split_zip(name: str, parts: Iterable[tuple[str, int, str]], hours: float) -> Source:
        files = tuple(
            RemoteFile(f"{URL}/files/{name}.{suffix}", size, f"md5:{md5}") for suffix, size, md5 in parts
        )
        return Source(name, files, unpacked_bytes=round(hours * 3600 * 44_100 * 2))

    part = 3 << 30
    return (
        split_zip(
            DEV_AUDIO,
            (
                ("z01", part, "faa7cf4cc076fc34a44a479a5ed862a3"),
                ("z02", part, "8f9b66153e68571164fb1315d00bc7bc"),
                ("z03", part, "1196ef47d267a993d30fa98af54b7159"),
                ("z04", part, "d088ac4e11ba53daf9f7574c11cccac9"),
                ("z05", part, "81356521aa159accd3c35de22da28c7f"),
                ("zip", 2_306_663_327, "c480d119b8f7a7e32fdb58f3ea4d6c5a"),
            ),
            hours=80.4,
        ),
        split_zip(
            EVAL_AUDIO,
            (
                ("z01", part, "3090670eaeecc013ca1ff84fe4442aeb"),
                ("zip", 3_037_675_767, "6fa47636c3a3ad5c7dfeba99f2637982"),
            ),
            hours=27.9,
        ),
    )


class FSD50K(DatasetKind):
    """The published folders `FSD50K.dev_audio`, `FSD50K.eval_audio`, `FSD50K.ground_truth` and, for the uploaders,
    `FSD50K.metadata`.

    A clip has several labels: what is heard, and all classes above it in the hierarchy. `label` is the first of
    them, the most specific one. Every clip is an upload of its own; the uploader stands as its speaker.
    """

    title = "FSD50K"
    official_splits = ("official",)
    licence = "CC BY 4.0; each clip CC0, CC BY, CC BY-NC or CC Sampling+ (FSD50K.metadata says which)"
    citation = (
        "Fonseca, Favory, Pons, Font & Serra 2022, FSD50K: An Open Dataset of Human-Labeled Sound Events"
    )
    url = URL
    storage = "fsd50k"
    published_clips = 51_197
    multi_label = True
    tables = (f"{GROUND_TRUTH}/*.csv", f"{METADATA}/*_clips_info_FSD50K.json")
    # No uploader is in both dev (train and validation) and eval (test), says its read-me; but train and validation
    # share some uploaders, so the three splits as a whole promise nothing.
    claims = frozenset()

    def sources(self) -> tuple[Source, ...]:
        ground_truth = RemoteFile(
            f"{URL}/files/{GROUND_TRUTH}.zip", 334_701, "md5:ca27382c195e37d2269c4c866dd73485"
        )
        metadata = RemoteFile(
            f"{URL}/files/{METADATA}.zip", 6_700_838, "md5:b9ea0c829a411c1d42adb9da539ed237"
        )
        return (
            Source(GROUND_TRUTH, (ground_truth,), unpacked_bytes=5_000_000),
            Source(METADATA, (metadata,), unpacked_bytes=40_000_000),
            *audio_sources(),
        )

    def check(self, root: Path) -> None:
        super().check(root)
        tables = (f"{GROUND_TRUTH}/{name}.csv" for name in ("dev", "eval", "vocabulary"))
        for part in (*tables, DEV_AUDIO, EVAL_AUDIO):
            if not (root / part).exists():
                raise FileNotFoundError(
                    f"{root} is not an FSD50K folder: {part} is not there; unpack the archives of {self.url} (the "
                    "audio's with `zip -s 0`, then `unzip`) and point the dataset's `path` at the folder that holds "
                    f"{DEV_AUDIO}/, {EVAL_AUDIO}/ and {GROUND_TRUTH}/"
                )

    def classes(self, root: Path) -> list[RawClass]:
        """The vocabulary; a parent in the ontology counts where all clips of the child have it as a label too.

        So the hierarchy is the one along which the labels were propagated: where a class has several parents, FSD50K
        did not always follow each of them.
        """
        together: dict[str, set[str]] = {}
        for _, labels, *_ in self._rows(root):
            for label in labels:
                together[label] = together[label] & set(labels) if label in together else set(labels)

        def parents(label: str, below: str) -> Iterator[str]:
            for parent in PARENTS.get(label, ()):
                if below not in together or parent in together[below]:
                    yield parent
                else:
                    yield from parents(parent, below)

        return [
            RawClass(number, label, tuple(dict.fromkeys(parents(label, label))))
            for number, label in enumerate(self._vocabulary(root))
        ]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        vocabulary = self._vocabulary(root)
        numbers = {label: number for number, label in enumerate(vocabulary)}
        files = {folder: by_stem(audio_files(root / folder)) for folder in (DEV_AUDIO, EVAL_AUDIO)}
        uploaders = self._uploaders(root)
        clips = []
        for place, labels, name, folder, split in self._rows(root):
            for label in labels:
                if label not in numbers:
                    known_class(label, vocabulary, place)
            # A clip without its file is a row too: it ends in the rejected table.
            path = files[folder].get(name, root / folder / f"{name}.wav")
            clips.append(
                RawClip(
                    clip_id=name,
                    source=path.relative_to(root).as_posix(),
                    label=labels[0],
                    labels=labels,
                    class_id=numbers[labels[0]],
                    split=split,
                    # The clip's number at Freesound.
                    recording_id=name,
                    speaker_id=uploaders.get(name),
                )
            )
        return clips

    def _rows(self, root: Path) -> Iterator[tuple[str, tuple[str, ...], str, str, str]]:
        """Place, labels, name, folder and split of each clip."""
        for table, folder in (("dev", DEV_AUDIO), ("eval", EVAL_AUDIO)):
            columns = ("fname", "labels", "mids", "split") if table == "dev" else ("fname", "labels", "mids")
            for place, row in read_table(root / GROUND_TRUTH / f"{table}.csv", columns):
                labels = tuple(row["labels"].split(","))
                if len(labels) != len(row["mids"].split(",")) or not all(labels):
                    raise ValueError(f"{place}: labels and mids must be as many, got {row['labels']!r}")
                if table == "eval":
                    split = "test"
                elif row["split"] in SPLITS:
                    split = SPLITS[row["split"]]
                else:
                    raise ValueError(f"{place}: split must be train or val, got {row['split']!r}")
                yield place, labels, row["fname"], folder, split

    def _vocabulary(self, root: Path) -> tuple[str, ...]:
        """The labels in the order of their numbers; the file has no header."""
        path = root / GROUND_TRUTH / "vocabulary.csv"
        labels = []
        with path.open(newline="", encoding="utf-8-sig") as handle:
            for number, row in enumerate(csv.reader(handle)):
                if len(row) != 3 or row[0] != str(number):
                    raise ValueError(
                        f"{path}, line {number + 1}: expected `{number},<label>,<mid>`, got {','.join(row)!r}"
                    )
                labels.append(row[1])
        return tuple(labels)

    def _uploaders(self, root: Path) -> dict[str, str]:
        found = {}
        for part in ("dev", "eval"):
            path = root / METADATA / f"{part}_clips_info_FSD50K.json"
            if not path.is_file():  # optional: nothing but the uploaders is taken from it
                continue
            try:
                for name, clip in json.loads(path.read_text(encoding="utf-8")).items():
                    found[name] = str(clip["uploader"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}: expected `{{<clip>: {{uploader: …}}}}`, got {type(error).__name__}: {error}; "
                    "unpack it again or remove it"
                ) from None
        return found
