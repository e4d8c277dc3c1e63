"""RAVDESS: two sentences, spoken (1,440 clips) and sung (1,012 clips) by 24 actors in up to eight emotions.

Livingstone & Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)", PLoS ONE 13(5),
e0196391, 2018.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from foley.datasets.protocol import AUDIO_SUFFIXES, DatasetKind, RawClass, RawClip, audio_files
from foley.download.sources import RemoteFile, Source

log = logging.getLogger(__name__)

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
ACTORS = 24
# Modality, channel, emotion, intensity, statement, repetition, actor: `03-01-06-01-02-01-12`.
NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>\d\d)-(?P<intensity>0[12])-(?P<statement>0[12])"
    r"-(?P<repetition>0[12])-(?P<actor>\d\d)"
)
AUDIO_ONLY = "03"
SPEECH, SONG = "01", "02"

# Actors of each fold: the split without common speakers of Luna-Jiménez et al., "Multimodal Emotion Recognition on
# RAVDESS Dataset Using Transfer Learning", Sensors 21(22), 7665, 2021, which later papers follow.
FOLDS = {
    1: (2, 5, 14, 15, 16),
    2: (3, 6, 7, 13, 18),
    3: (10, 11, 12, 19, 20),
    4: (8, 17, 21, 23, 24),
    5: (1, 4, 9, 22),
}
FOLD_OF_ACTOR = {actor: fold for fold, actors in FOLDS.items() for actor in actors}


@dataclass(frozen=True)
class RAVDESSOptions:
    """song: the sung clips as well (six of the eight emotions, no actor 18)."""

    song: bool = False


class RAVDESS(DatasetKind):
    """`Actor_01/03-01-06-01-02-01-01.wav`; the file's name says it all.

    There are no official folds; the five of `FOLDS` keep actors apart. Sound tracks of the videos (modality 01 and
    02), and sung clips without the option `song`, are left out.
    """

    title = "RAVDESS"
    official_splits = ("fold1", "fold2", "fold3", "fold4", "fold5")
    licence = "CC BY-NC-SA 4.0"
    citation = (
        "Livingstone & Russo 2018, The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS)"
    )
    url = "https://zenodo.org/records/1188976"
    Options = RAVDESSOptions
    published_clips = 1440
    # The folds are made from the speakers.
    claims = frozenset({("speaker", "fold")})
    # The videos of the full set bear the same names.
    media = AUDIO_SUFFIXES - {".mp4"}

    def __init__(self, options: RAVDESSOptions | None = None) -> None:
        super().__init__(options)
        if self.options.song:
            self.published_clips = 1440 + 1012  # type: ignore[misc]  # of this instance, not of the class

    def sources(self) -> tuple[Source, ...]:
        base = "https://zenodo.org/records/1188976/files"
        speech = RemoteFile(
            f"{base}/Audio_Speech_Actors_01-24.zip", 208_468_073, "md5:bc696df654c87fed845eb13823edef8a"
        )
        song = RemoteFile(
            f"{base}/Audio_Song_Actors_01-24.zip", 225_505_317, "md5:5411230427d67a21e18aa4d466e6d1b9"
        )
        sources = [Source("speech", (speech,), unpacked_bytes=620_000_000)]
        if self.options.song:
            sources.append(Source("song", (song,), unpacked_bytes=520_000_000))
        return tuple(sources)

    def check(self, root: Path) -> None:
        super().check(root)
        if not any(path.is_dir() for path in root.glob("Actor_[0-2][0-9]")):
            raise FileNotFoundError(
                f"{root} is not a RAVDESS folder: Actor_01/, … are not there; unpack Audio_Speech_Actors_01-24.zip "
                f"from {self.url} into it"
            )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label) for number, label in enumerate(EMOTIONS)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        files: dict[str, Path] = {}
        left_out: Counter[str] = Counter()
        for folder in sorted(root.glob("Actor_[0-2][0-9]")):
            for path in audio_files(folder, self.media):
                match = NAME.fullmatch(path.stem)
                if match is None:
                    raise ValueError(
                        f"{path}: names have seven parts, such as 03-01-06-01-02-01-12.wav; remove or rename it"
                    )
                if match["modality"] != AUDIO_ONLY:
                    left_out["of a video"] += 1
                    continue
                if match["channel"] == SONG and not self.options.song:
                    left_out["sung"] += 1
                    continue
                if not 1 <= int(match["emotion"]) <= len(EMOTIONS):
                    raise ValueError(f"{path}: emotion {match['emotion']} is not one of 01 to 08")
                if int(match["actor"]) not in FOLD_OF_ACTOR or folder.name != f"Actor_{match['actor']}":
                    raise ValueError(
                        f"{path}: actor {match['actor']} is not the one of the folder, or not one of 01 to {ACTORS}"
                    )
                if path.stem in files:
                    raise ValueError(f"two files for one clip: {files[path.stem]} and {path}; remove one")
                files[path.stem] = path
        if left_out:
            log.info("left out: %s", dict(left_out))
        clips = []
        for stem, path in sorted(files.items()):
            emotion, actor = int(stem[6:8]), int(stem[-2:])
            clips.append(
                RawClip(
                    clip_id=stem,
                    source=path.relative_to(root).as_posix(),
                    label=EMOTIONS[emotion - 1],
                    class_id=emotion - 1,
                    recording_id=stem,
                    fold=FOLD_OF_ACTOR[actor],
                    speaker_id=f"{actor:02d}",
                )
            )
        return clips
