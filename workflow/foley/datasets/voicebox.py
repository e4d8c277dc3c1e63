"""`voicebox`: embedded speech. Ten words that mean nothing, said by synthetic speakers, or four emotions of them.

Made by rule (`voicebox_models`), because no recording may be shipped. A speaker has a pitch, a vocal tract, a tempo, a
voice and a microphone; folds keep speakers apart. Length and level of a clip are drawn alike for all words, so they do
not tell which it is; of an emotion they do, as in people.
"""

# numpy and scipy are imported where audio is made: whoever only plans a run reads this module too.
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files
from foley.datasets.soundbox import SAMPLE_RATE_HZ, write_clip

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EMOTIONS", "FOLDS", "SAMPLE_RATE_HZ", "WORDS", "Voicebox", "VoiceboxOptions", "synthesise"]

# A class's id is its place here. Words share their sounds: no vowel and no consonant tells one from all others.
WORDS = ("bami", "dosu", "fewa", "gusha", "kela", "lupi", "mashe", "nito", "sako", "tubi")
EMOTIONS = ("neutral", "happy", "sad", "angry")
FOLDS = 4
# Fewer would leave a fold without a low or without a high voice.
FEWEST_SPEAKERS = 2 * FOLDS
NAME = re.compile(r"(?:(?P<emotion>[a-z]+)-)?(?P<word>[a-z]+)-s(?P<speaker>\d+)-t\d+")


@dataclass(frozen=True)
class VoiceboxOptions:
    """task: what the classes are, words or emotions. speakers: half of them with low voices, half with high ones.

    takes: of each class by each speaker; those of an emotion go through the words in turn. seed: another seed is
    another set of speakers.
    """

    task: Literal["words", "emotions"] = "words"
    speakers: int = 16
    takes: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.speakers < FEWEST_SPEAKERS or self.speakers % 2:
            raise ValueError(
                f"voicebox: speakers must be even and at least {FEWEST_SPEAKERS}, got {self.speakers}: each of "
                f"{FOLDS} folds has low and high voices"
            )
        if self.takes < 1 or self.seed < 0:
            raise ValueError("voicebox: takes must be at least 1, and seed not negative")

    @property
    def labels(self) -> tuple[str, ...]:
        return WORDS if self.task == "words" else EMOTIONS


class Voicebox(DatasetKind):
    """`<root>/<word>/<word>-s<speaker>-t<take>.wav`, or `<root>/<emotion>/<emotion>-<word>-s<speaker>-t<take>.wav`."""

    title = "Voicebox (synthesised)"
    official_splits = tuple(f"fold{fold}" for fold in range(1, FOLDS + 1))
    licence = "Apache-2.0"
    claims = frozenset({("speaker", "fold")})
    Options = VoiceboxOptions
    generated = True

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label) for number, label in enumerate(self.options.labels)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        labels = self.options.labels
        clips = []
        for path in audio_files(root):
            match = NAME.fullmatch(path.stem)
            if match is None:
                raise ValueError(f"{path} is no clip of voicebox; remove it")
            label = path.parent.name
            clips.append(
                RawClip(
                    clip_id=path.stem,
                    source=path.relative_to(root).as_posix(),
                    label=label,
                    class_id=labels.index(label) if label in labels else None,
                    recording_id=path.stem,
                    speaker_id=f"s{match['speaker']}",
                    fold=fold_of(int(match["speaker"])),
                )
            )
        return clips

    def generate(self, root: Path, progress: Any) -> None:
        write_tree(root, self.options, progress)


def fold_of(speaker: int) -> int:
    """From 1. Speakers 2n and 2n + 1, a low voice and a high one, share a fold."""
    return speaker // 2 % FOLDS + 1


def synthesise(word: str, emotion: str, speaker: int, take: int, seed: int) -> np.ndarray:
    """One clip, float32 [T] at `SAMPLE_RATE_HZ`, peak below 1, T at most 1.2 s.

    The same arguments give the same samples, whatever else was synthesised before.

    Raises:
        ValueError: no such word or emotion.
    """
    import numpy as np

    from foley.datasets.voicebox_models import draw_speaker, render

    if word not in WORDS or emotion not in EMOTIONS:
        raise ValueError(
            f"voicebox does not say {word!r} in the emotion {emotion!r}; its words are {', '.join(WORDS)}, its "
            f"emotions {', '.join(EMOTIONS)}"
        )
    # SeedSequence pads with zeros, so the speaker takes slot 0 and takes count from 1.
    voice, place = map(np.random.default_rng, np.random.SeedSequence((seed, speaker, 0)).spawn(2))
    key = (seed, speaker, take + 1, WORDS.index(word), EMOTIONS.index(emotion))
    performance, capture = map(np.random.default_rng, np.random.SeedSequence(key).spawn(2))
    return render(word, emotion, draw_speaker(voice, high=bool(speaker % 2)), place, performance, capture)


def clip_keys(options: VoiceboxOptions) -> Iterator[tuple[str, str, str, int, int]]:
    """(label, word, emotion, speaker, take) of every clip, class by class."""
    for label in options.labels:
        for speaker in range(options.speakers):
            for take in range(options.takes):
                if options.task == "words":
                    yield label, label, EMOTIONS[0], speaker, take
                else:
                    # The same words in all emotions, and others of another speaker.
                    yield label, WORDS[(take + speaker * options.takes) % len(WORDS)], label, speaker, take


def write_tree(
    root: Path, options: VoiceboxOptions, progress: Callable[..., Iterable[Any]] | None = None
) -> None:
    """Write the dataset as a folder of clips, 16-bit PCM; each file appears whole or not at all.

    `progress(iterable, total=...)` may wrap the loop, as tqdm does.
    """
    keys = list(clip_keys(options))
    for label in options.labels:
        (root / label).mkdir(parents=True, exist_ok=True)
    for label, word, emotion, speaker, take in keys if progress is None else progress(keys, total=len(keys)):
        what = word if options.task == "words" else f"{emotion}-{word}"
        path = root / label / f"{what}-s{speaker:02d}-t{take}.wav"
        write_clip(path, synthesise(word, emotion, speaker, take, options.seed))
