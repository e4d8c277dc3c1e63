"""`soundbox`: the embedded dataset. Twelve everyday sounds, synthesised, because no recording may be shipped.

A class has recordings (one source, one room, one microphone) of a few takes each (another onset,
performance and noise). Clips of one recording differ in little but performance, as they do in real
collections, so a split that ignores `recording_id` leaks and one that respects it does not.

Loudness and length tell nothing about the class: duration, RMS level and crest factor are drawn from
distributions that all classes share (see `soundbox_models.render`).
"""

# numpy, scipy and soundfile are imported where audio is made: whoever only plans a run reads this module too.
from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foley.datasets.protocol import DatasetKind, RawClip, audio_files

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE_HZ = 16_000
# A class's id is its place here.
CLASSES: tuple[str, ...] = (
    "rain",
    "wind",
    "siren",
    "church_bell",
    "engine",
    "footsteps",
    "door_knock",
    "bird_song",
    "clock_tick",
    "dog_bark",
    "glass_breaking",
    "helicopter",
)


@dataclass(frozen=True)
class SoundboxOptions:
    """How much to synthesise.

    clips_per_class: takes of each class.
    takes_per_recording: how many of them share a recording.
    seed: another seed is another set of recordings.
    """

    clips_per_class: int = 40
    takes_per_recording: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips_per_class", "takes_per_recording"):
            if getattr(self, name) < 1:
                raise ValueError(f"soundbox: {name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"soundbox: seed must not be negative, got {self.seed}")


class Soundbox(DatasetKind):
    """`<root>/<label>/<label>-r<recording>-t<take>.wav`, written by `generate`."""

    title = "Soundbox (synthesised)"
    official_splits = ()
    licence = "Apache-2.0"
    Options = SoundboxOptions
    generated = True

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        return [
            RawClip(
                clip_id=path.stem,
                source=path.relative_to(root).as_posix(),
                label=path.parent.name,
                class_id=CLASSES.index(path.parent.name) if path.parent.name in CLASSES else None,
                recording_id=re.sub(r"-t\d+$", "", path.stem),
            )
            for path in audio_files(root)
        ]

    def generate(self, root: Path, progress: Any) -> None:
        write_tree(root, self.options, progress)


def synthesise(class_label: str, recording: int, take: int, seed: int) -> np.ndarray:
    """One clip, float32 [T] at `SAMPLE_RATE_HZ`, peak below 1, T between 2 and 4 s.

    The same four arguments give the same samples, whatever else was synthesised before.

    Raises:
        ValueError: no such class.
    """
    import numpy as np

    from foley.datasets.soundbox_models import render

    if class_label not in CLASSES:
        raise ValueError(f"soundbox has no class {class_label!r}; it has {', '.join(CLASSES)}")
    # SeedSequence pads with zeros, so the recording itself takes slot 0 and takes count from 1.
    key = (seed, CLASSES.index(class_label), recording)
    source, place = map(np.random.default_rng, np.random.SeedSequence((*key, 0)).spawn(2))
    performance, capture = map(np.random.default_rng, np.random.SeedSequence((*key, take + 1)).spawn(2))
    return render(class_label, source, place, performance, capture)


def recording_id(class_label: str, recording: int) -> str:
    """Name of a recording; the names of its files start with it."""
    return f"{class_label}-r{recording:02d}"


def clip_keys(options: SoundboxOptions) -> Iterator[tuple[str, int, int]]:
    """(class label, recording, take) of every clip, class by class."""
    for label in CLASSES:
        for number in range(options.clips_per_class):
            recording, take = divmod(number, options.takes_per_recording)
            yield label, recording, take


def write_tree(
    root: Path, options: SoundboxOptions, progress: Callable[..., Iterable[Any]] | None = None
) -> None:
    """Write the dataset as a folder of clips: `root/<label>/<label>-r<recording>-t<take>.wav`, 16-bit PCM.

    Each file appears whole or not at all. `progress(iterable, total=...)` may wrap the loop, as tqdm does.
    """
    keys = list(clip_keys(options))
    for label in CLASSES:
        (root / label).mkdir(parents=True, exist_ok=True)
    for label, recording, take in keys if progress is None else progress(keys, total=len(keys)):
        path = root / label / f"{recording_id(label, recording)}-t{take}.wav"
        write_clip(path, synthesise(label, recording, take, options.seed))


def write_clip(path: Path, clip: np.ndarray) -> None:
    """Write a clip [T] as 16-bit WAV through a temporary file in the same folder and an atomic rename."""
    import soundfile

    # Hidden while unfinished: a scan leaves hidden files alone.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        soundfile.write(temporary, clip, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
