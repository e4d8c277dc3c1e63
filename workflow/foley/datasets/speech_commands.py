"""Google Speech Commands v2: 105,829 utterances of 35 English words, 1 s at most.

Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", arXiv 1804.03209, 2018.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from foley.datasets.metadata import known_class
from foley.datasets.protocol import AUDIO_SUFFIXES, DatasetKind, RawClass, RawClip, audio_files
from foley.download.sources import RemoteFile, Source
from foley.options import did_you_mean
from foley.runtime.seeds import derive

log = logging.getLogger(__name__)

# fmt: off
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy",
    "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop",
    "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)
# fmt: on
# The words of the task with twelve classes; its other two are all other words and silence.
CORE_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
NOISE = "_background_noise_"
# Its two other classes, numbered after the words; a silence is as long as a word's clip.
UNKNOWN, SILENCE = "unknown", "silence"
SILENCE_S = 1.0
SPLITS = ("train", "validation", "test")
NAME = re.compile(r"(?P<speaker>[^_]+)_nohash_\d+")
LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}

# The hashing rule of the dataset's README: SHA-1 of the speaker, modulo the most clips that a class may have.
MOST_CLIPS_A_CLASS = 2**27 - 1
VALIDATION_PERCENT = 10
TEST_PERCENT = 10


@dataclass(frozen=True)
class SpeechCommandsOptions:
    """words: only these of the 35, for example the ten of `CORE_WORDS`; None takes all. Class numbers stay the same.

    classes: 35 words, or the task with 12: the ten words of `CORE_WORDS`, `unknown` (drawn from the other 25) and
    `silence` (stretches of `_background_noise_`). unknown_percent, silence_percent: of the ten words' clips in a
    split; seed: of the draw.
    parts: `none` forgets the official parts, so that folds are drawn, speakers whole: for a sample of the dataset that
    lies in one of them.
    """

    words: tuple[str, ...] | None = None
    classes: Literal[35, 12] = 35
    unknown_percent: float = 10.0
    silence_percent: float = 10.0
    seed: int = 0
    parts: Literal["official", "none"] = "official"

    def __post_init__(self) -> None:
        for word in self.words or ():
            if word not in WORDS:
                raise ValueError(f"words: {word!r} is not one of the 35; {did_you_mean(word, WORDS)}")
        if self.words is not None and not self.words:
            raise ValueError("words is empty; name at least one word, or leave it out for all 35")
        if self.words is not None and self.classes == 12:
            raise ValueError("words and `classes: 12` exclude each other: that task has its own ten words")
        if self.parts == "none" and self.classes == 12:
            raise ValueError(
                "`classes: 12` draws others and silences by official part; leave `parts: none` out"
            )
        if min(self.unknown_percent, self.silence_percent) < 0:
            raise ValueError("unknown_percent and silence_percent must not be negative")


class SpeechCommands(DatasetKind):
    """`<word>/<speaker>_nohash_<n>.wav`, `validation_list.txt` and `testing_list.txt`.

    Where the lists are missing, the official hashing rule (`which_set`) stands in for them. What lies in
    `_background_noise_` is no word and is left out.

    `classes: 12` is the task of the paper and of TensorFlow's example: in each split, as many clips of other words and
    of silence as the options say (10 % each, rounded up). Which they are follows from the seed. Every recording of
    noise gives silence to one split only, where the example cuts the silences of all splits from the same recordings.
    """

    title = "Speech Commands v2"
    official_splits = ("official",)
    licence = "CC BY 4.0"
    citation = "Warden 2018, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition"
    url = "https://arxiv.org/abs/1804.03209"
    Options = SpeechCommandsOptions
    published_clips = 105_829
    claims = frozenset({("speaker", "split")})
    tables = tuple(LISTS)

    def __init__(self, options: SpeechCommandsOptions | None = None) -> None:
        super().__init__(options)
        if self.options.classes == 12:
            self.claims = frozenset({("speaker", "split"), ("recording", "split")})  # type: ignore[misc]
        if self.options.words is not None or self.options.classes == 12:
            self.published_clips = None  # type: ignore[misc, assignment]  # of this instance, not of the class
        if self.options.parts == "none":
            self.official_splits, self.claims = (), frozenset()  # type: ignore[misc, assignment]

    def sources(self) -> tuple[Source, ...]:
        archive = RemoteFile(
            "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            2_428_923_189,
            "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        )
        return (Source("speech_commands_v0.02", (archive,), unpacked_bytes=3_600_000_000),)

    def check(self, root: Path) -> None:
        super().check(root)
        wanted = self.options.words or WORDS
        if not any((root / word).is_dir() for word in wanted):
            raise FileNotFoundError(
                f"{root} is not a Speech Commands folder: none of {', '.join(wanted[:5])}, … is there; unpack "
                "speech_commands_v0.02.tar.gz into it"
            )
        lists = [name for name in LISTS if (root / name).is_file()]
        if len(lists) == 1:
            raise FileNotFoundError(
                f"{root} has {lists[0]} but not the other of {' and '.join(LISTS)}; unpack "
                "speech_commands_v0.02.tar.gz again, or remove both to split by the official hashing rule"
            )

        if self.options.classes == 12 and self.options.silence_percent:
            found = len(audio_files(root / NOISE)) if (root / NOISE).is_dir() else 0
            if found < len(SPLITS):
                raise FileNotFoundError(
                    f"`classes: 12` cuts silence for {len(SPLITS)} splits from as many recordings at least, and "
                    f"{root / NOISE} has {found}: unpack speech_commands_v0.02.tar.gz again (it has six), or set "
                    "`silence_percent: 0`"
                )

    def classes(self, root: Path) -> list[RawClass]:
        if self.options.classes == 12:
            labels = (*CORE_WORDS, *(UNKNOWN,) * (self.options.unknown_percent > 0))
            labels = (*labels, *(SILENCE,) * (self.options.silence_percent > 0))
            return sorted((RawClass(_class_id(label), label) for label in labels), key=lambda c: c.class_id)
        return [
            RawClass(number, word)
            for number, word in enumerate(WORDS)
            if self.options.words is None or word in self.options.words
        ]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        listed = dict(_read_lists(root))
        if not listed:
            log.info("no lists in %s; clips are split by the official hashing rule", root)
        files: dict[str, Path] = {}
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if folder.name.startswith("."):
                continue
            if folder.name == NOISE:
                if self.options.classes == 12:
                    continue
                log.info("%s: %d recordings of noise are no words, left out", NOISE, len(audio_files(folder)))
                continue
            known_class(folder.name, WORDS, str(folder))
            if self.options.words is not None and folder.name not in self.options.words:
                continue
            for path in audio_files(folder):
                clip_id = f"{folder.name}/{path.stem}"
                if clip_id in files:
                    raise ValueError(f"two files for one clip: {files[clip_id]} and {path}; remove one")
                files[clip_id] = path
            # A listed clip without its file is a row too: it ends in the rejected table.
            for clip_id in listed:
                if clip_id.startswith(f"{folder.name}/"):
                    files.setdefault(clip_id, root / f"{clip_id}.wav")
        clips = []
        for clip_id, path in sorted(files.items()):
            word, _, stem = clip_id.partition("/")
            match = NAME.fullmatch(stem)
            if match is None:
                raise ValueError(
                    f"{path}: files are named <speaker>_nohash_<number>.wav; remove or rename it"
                )
            clips.append(
                RawClip(
                    clip_id=clip_id,
                    source=path.relative_to(root).as_posix(),
                    label=word,
                    class_id=WORDS.index(word),
                    recording_id=clip_id,
                    speaker_id=match["speaker"],
                    split=listed.get(clip_id, "train") if listed else which_set(path.name),
                )
            )
        if self.options.parts == "none":
            clips = [replace(clip, split=None) for clip in clips]
        return clips if self.options.classes == 35 else self._twelve(root, clips)

    def _twelve(self, root: Path, clips: list[RawClip]) -> list[RawClip]:
        """The ten words, and in each split the drawn others and silences."""
        o = self.options
        core = [clip for clip in clips if clip.label in CORE_WORDS]
        others = [clip for clip in clips if clip.label not in CORE_WORDS]
        counts = Counter(clip.split for clip in core)
        if o.unknown_percent and not others:
            raise FileNotFoundError(
                f"`classes: 12` draws `{UNKNOWN}` from the other 25 words, and {root} has none of them: unpack "
                "speech_commands_v0.02.tar.gz into it, or set `unknown_percent: 0`"
            )
        # Ordered by what hangs on the clip alone, so that a clip more changes little.
        others.sort(key=lambda clip: derive(o.seed, "speech_commands", UNKNOWN, clip.clip_id))
        found = core
        for split in SPLITS:
            own = [clip for clip in others if clip.split == split]
            wanted = math.ceil(counts[split] * o.unknown_percent / 100)
            found += [
                dataclasses.replace(clip, label=UNKNOWN, class_id=_class_id(UNKNOWN)) for clip in own[:wanted]
            ]
        if o.silence_percent:
            found += self._silences(root, counts)
        return sorted(found, key=lambda clip: clip.clip_id)

    def _silences(self, root: Path, counts: Mapping[str | None, int]) -> Iterator[RawClip]:
        """Stretches of the recordings of noise, each of which belongs to one split."""
        # Only where silence is cut: whoever plans a run reads this module too.
        import soundfile

        o = self.options
        recordings = sorted(
            audio_files(root / NOISE), key=lambda p: derive(o.seed, "speech_commands", NOISE, p.name)
        )
        for number, split in enumerate(SPLITS):
            own = recordings[number :: len(SPLITS)]
            latest = {}
            for path in own:
                try:
                    duration_s = soundfile.info(path).duration
                except (soundfile.LibsndfileError, OSError) as error:
                    raise ValueError(
                        f"{path} can't be read as audio: {error}; unpack the archive again"
                    ) from error
                latest[path] = max(0.0, duration_s - SILENCE_S)
            stream = random.Random(derive(o.seed, "speech_commands", SILENCE, split))
            for take in range(math.ceil(counts[split] * o.silence_percent / 100)):
                path = own[take % len(own)]
                start_s = round(stream.uniform(0, latest[path]), 3)
                yield RawClip(
                    clip_id=f"{SILENCE}/{split}-{take:04d}",
                    source=path.relative_to(root).as_posix(),
                    label=SILENCE,
                    class_id=_class_id(SILENCE),
                    recording_id=f"{NOISE}/{path.stem}",
                    split=split,
                    start_s=start_s,
                    end_s=start_s + SILENCE_S,
                )


def _class_id(label: str) -> int:
    return (*WORDS, UNKNOWN, SILENCE).index(label)


def which_set(name: str) -> str:
    """The split of a file by the official rule: train, validation or test, from the speaker in its name alone."""
    speaker = re.sub(r"_nohash_.*$", "", Path(name).name)
    number = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (MOST_CLIPS_A_CLASS + 1)
    percent = number * (100.0 / MOST_CLIPS_A_CLASS)
    if percent < VALIDATION_PERCENT:
        return "validation"
    if percent < VALIDATION_PERCENT + TEST_PERCENT:
        return "test"
    return "train"


def _read_lists(root: Path) -> Iterator[tuple[str, str]]:
    """Clip ids of the official lists, each with its split."""
    seen: dict[str, str] = {}
    for name, split in LISTS.items():
        path = root / name
        if not path.is_file():
            continue
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not text.strip():
                continue
            place = f"{path}, line {number}"
            word, _, file = text.strip().partition("/")
            known_class(word, WORDS, place)
            if Path(file).suffix.lower() not in AUDIO_SUFFIXES or not NAME.fullmatch(Path(file).stem):
                raise ValueError(f"{place}: expected <word>/<speaker>_nohash_<number>.wav, got {text!r}")
            clip_id = f"{word}/{Path(file).stem}"
            if seen.setdefault(clip_id, split) != split:
                raise ValueError(f"{place}: {clip_id} is in both lists")
            yield clip_id, split
