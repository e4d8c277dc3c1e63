"""IEMOCAP: acted dialogues of ten speakers in five sessions, cut into utterances with emotion labels.

Busso et al., "IEMOCAP: interactive emotional dyadic motion capture database", Language Resources and Evaluation
42(4), 2008.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from foley.datasets.protocol import DatasetKind, RawClass, RawClip, audio_files, by_stem

log = logging.getLogger(__name__)

EMOTIONS = ("neu", "hap", "ang", "sad")
# What the evaluators could choose, and `xxx` where they did not agree.
KNOWN = (*EMOTIONS, "exc", "fru", "sur", "fea", "dis", "oth", "xxx")
SESSIONS = (1, 2, 3, 4, 5)
# `[6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5000, 2.5000, 2.5000]`
TURN = re.compile(r"\[[^\]]*\]\t(?P<utterance>\S+)\t(?P<emotion>\w+)\t\[[^\]]*\]\s*")
# The first letter is the actor with the markers on, the last the one who speaks.
UTTERANCE = re.compile(r"(?P<dialog>Ses(?P<session>0[1-5])[FM]_\w+)_(?P<speaker>[FM])\d{3}")


@dataclass(frozen=True)
class IEMOCAPOptions:
    """merge_excited: `exc` counts as `hap`, as usual with four classes (5,531 utterances); else it is left out."""

    merge_excited: bool = True


class IEMOCAP(DatasetKind):
    """`Session<n>/sentences/wav/<dialog>/<utterance>.wav` and `Session<n>/dialog/EmoEvaluation/<dialog>.txt`.

    Four classes; other emotions and utterances without agreement are left out. A session is a fold: its two actors
    are in no other one. Of a dialogue's two letters for F and M the utterance's says who speaks (the dialogue's says
    who wears the markers, and some published lists take it for the speaker).
    """

    title = "IEMOCAP"
    official_splits = ("fold1", "fold2", "fold3", "fold4", "fold5")
    licence = "USC release form (research use, no redistribution)"
    citation = "Busso et al. 2008, IEMOCAP: interactive emotional dyadic motion capture database"
    url = "https://sail.usc.edu/iemocap/"
    by_hand = (
        "IEMOCAP is licensed: fill in the release form at https://sail.usc.edu/iemocap/ and wait for the link that USC "
        "sends; unpack IEMOCAP_full_release.tar.gz and point the dataset's `path` at the folder that holds Session1 "
        "to Session5"
    )
    Options = IEMOCAPOptions
    published_clips = 5531
    claims = frozenset({("speaker", "fold"), ("recording", "fold")})
    tables = ("Session?/dialog/EmoEvaluation/*.txt",)

    def __init__(self, options: IEMOCAPOptions | None = None) -> None:
        super().__init__(options)
        if not self.options.merge_excited:
            self.published_clips = 5531 - 1041  # type: ignore[misc]  # of this instance, not of the class

    def check(self, root: Path) -> None:
        super().check(root)
        for session in SESSIONS:
            for part in (f"Session{session}/sentences/wav", f"Session{session}/dialog/EmoEvaluation"):
                if not (root / part).is_dir():
                    raise FileNotFoundError(
                        f"{root} is not an IEMOCAP folder: {part} is not there. {self.by_hand}"
                    )

    def classes(self, root: Path) -> list[RawClass]:
        return [RawClass(number, emotion) for number, emotion in enumerate(EMOTIONS)]

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        clips: list[RawClip] = []
        left_out: Counter[str] = Counter()
        for session in SESSIONS:
            folder = root / f"Session{session}"
            files = by_stem(audio_files(folder / "sentences" / "wav"))
            labels = _read_session(folder / "dialog" / "EmoEvaluation")
            for utterance, (emotion, place) in sorted(labels.items()):
                label = "hap" if emotion == "exc" and self.options.merge_excited else emotion
                if label not in EMOTIONS:
                    left_out[emotion] += 1
                    continue
                match = UTTERANCE.fullmatch(utterance)
                if match is None or int(match["session"]) != session:
                    raise ValueError(
                        f"{place}: {utterance!r} is no utterance of session {session}, such as "
                        f"Ses{session:02d}F_impro01_F000"
                    )
                # An utterance without its file is a row too: it ends in the rejected table.
                expected = folder / "sentences" / "wav" / match["dialog"] / f"{utterance}.wav"
                clips.append(
                    RawClip(
                        clip_id=utterance,
                        source=files.get(utterance, expected).relative_to(root).as_posix(),
                        label=label,
                        class_id=EMOTIONS.index(label),
                        recording_id=match["dialog"],
                        fold=session,
                        speaker_id=f"Ses{match['session']}{match['speaker']}",
                    )
                )
            left_out["without a label"] += len(files.keys() - labels)
        log.info("left out, by label: %s", {name: count for name, count in sorted(left_out.items()) if count})
        return clips


def _read_session(folder: Path) -> dict[str, tuple[str, str]]:
    """Utterance -> (emotion, place for messages), of a session's evaluation files."""
    labels: dict[str, tuple[str, str]] = {}
    # The release has macOS's ._ files among them.
    for path in sorted(path for path in folder.glob("*.txt") if not path.name.startswith(".")):
        for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
            # Headers start with %, the evaluators' single votes with C- or A-.
            if not line.startswith("["):
                continue
            place = f"{path}, line {number}"
            match = TURN.fullmatch(line)
            if match is None:
                raise ValueError(
                    f"{place}: expected `[start - end]`, utterance, emotion and `[v, a, d]` with tabs "
                    f"between, got {line!r}"
                )
            if match["emotion"] not in KNOWN:
                raise ValueError(
                    f"{place}: emotion {match['emotion']!r} is not one of {', '.join(KNOWN)}; the file was changed "
                    "or belongs to another release"
                )
            before = labels.setdefault(match["utterance"], (match["emotion"], place))
            if before[0] != match["emotion"]:
                raise ValueError(
                    f"{place}: {match['utterance']} is {match['emotion']} here and {before[0]} in {before[1]}"
                )
    if not labels:
        raise ValueError(f"{folder}: no labels in its *.txt files; unpack IEMOCAP_full_release.tar.gz again")
    return labels
