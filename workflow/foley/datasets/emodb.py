"""EmoDB: 535 German sentences, acted by ten speakers in seven emotions.

Burkhardt, Paeschke, Rolfes, Sendlmeier & Weiss, "A Database of German Emotional Speech", Interspeech 2005.
"""

from __future__ import annotations

import re
from pathlib import Path

from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem
from foley.download.sources import RemoteFile, Source

# The letter is the emotion's first in German: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}
LABELS = tuple(sorted(EMOTIONS.values()))
SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
# Speaker, text, emotion, version: `03a01Fa`.
NAME = re.compile(r"(?P<speaker>\d{2})(?P<text>[ab]\d{2})(?P<emotion>[A-Z])(?P<version>[a-z])")


class EmoDB(DatasetKind):
    """`wav/03a01Fa.wav`; the file's name says it all.

    There are no official folds. A fold here is a speaker (1 to 10, by ascending number): leave one speaker out.
    """

    title = "EmoDB"
    official_splits = tuple(f"fold{number}" for number in range(1, 11))
    licence = "CC0 1.0"
    citation = "Burkhardt, Paeschke, Rolfes, Sendlmeier & Weiss 2005, A Database of German Emotional Speech"
    url = "http://emodb.bilderbar.info/"
    published_clips = 535
    # The folds are made from the speakers.
    claims = frozenset({("speaker", "fold")})

    def sources(self) -> tuple[Source, ...]:
        # Its publisher gives no checksum. (The Zenodo record 16273947 is EmoDB 2.0: 816 files, of which those that
        # the listeners did not recognise are new.)
        archive = RemoteFile("http://emodb.bilderbar.info/download/download.zip", 40_567_066)
        return (Source("emodb", (archive,), unpacked_bytes=60_000_000),)

    def check(self, root: Path) -> None:
        super().check(root)
        if not (root / "wav").is_dir():
            raise FileNotFoundError(
                f"{root} is not an EmoDB folder: wav/ is not there; unpack download.zip from {self.url} into it"
            )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, label) for number, label in enumerate(LABELS)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        clips = []
        for stem, path in sorted(by_stem(audio_files(root / "wav")).items()):
            match = NAME.fullmatch(stem)
            if match is None:
                raise ValueError(
                    f"{path}: files are named speaker, text, emotion, version, such as 03a01Fa.wav; remove it"
                )
            if match["emotion"] not in EMOTIONS:
                raise ValueError(
                    f"{path}: emotion {match['emotion']!r} is not one of the letters {', '.join(EMOTIONS)}"
                )
            if match["speaker"] not in SPEAKERS:
                raise ValueError(
                    f"{path}: speaker {match['speaker']} is not one of the ten, {', '.join(SPEAKERS)}"
                )
            label = EMOTIONS[match["emotion"]]
            clips.append(
                RawClip(
                    clip_id=stem,
                    source=path.relative_to(root).as_posix(),
                    label=label,
                    class_id=LABELS.index(label),
                    recording_id=stem,
                    fold=SPEAKERS.index(match["speaker"]) + 1,
                    speaker_id=match["speaker"],
                )
            )
        return clips
