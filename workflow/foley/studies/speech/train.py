"""Train a recogniser of speech in one arm: the same clips, steps, seeds and validation clips in each.

Arms differ in what the training clips go through, and in nothing else. Validation clips are clean in all of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foley import tables
from foley.audio.store import Progress
from foley.studies.audio.arms import save_models
from foley.studies.audio.splits import TRAIN, VALIDATION, classes_in
from foley.studies.audio.training import options_of, real_clips, train_seeds
from foley.studies.speech.backgrounds import read_recordings
from foley.studies.speech.names import is_classic
from foley.studies.speech.speakers import read_speech_partition
from foley.tables.features import HISTORY

if TYPE_CHECKING:
    from foley.augment.background import BackgroundOptions
    from foley.augment.protocol import Augmentations
    from foley.classifiers.audio_protocol import AudioClassifier, LabelledClips

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MixedIn:
    """Backgrounds of an arm or of a test: their table (BACKGROUNDS), and the shards that hold their audio."""

    table: Path
    audio: Sequence[Path]


def train_speech(
    models: Path,
    history: Path,
    *,
    arm: str,
    audio: Sequence[Path],
    partition: Path,
    split: str,
    classifier: type[AudioClassifier],
    options: Any,
    seeds: Sequence[int],
    backgrounds: MixedIn | None = None,
    mixing: BackgroundOptions | None = None,
    augmentations: Augmentations | None = None,
    threads: int = 1,
    progress: Progress = iter,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train the recogniser once for each seed; ``models`` becomes a folder with their weights.

    In memory are the training and validation clips, each as far as the recogniser can hear it, and the backgrounds.

    Args:
        audio: clip-store shards of the dataset of speech.
        partition: SPEECH_PARTITION of ``split``.
        backgrounds, mixing: of an arm that mixes backgrounds into the training clips; both or neither.
        augmentations: of an arm of classic augmentation.
        checkpoints: folder to continue an interrupted training from.
        facts: what the result depends on beside data, options and seeds.

    Raises:
        ValueError: a speaker or a recording of speech or of a background on both sides, an arm of classic augmentation
            without any, one for another sample rate, or a clip that is silent where a background is to be mixed in.
    """
    import torch

    from foley.augment.background import Background
    from foley.augment.protocol import Augmentations

    torch.set_num_threads(threads)
    changes = augmentations if augmentations is not None else Augmentations()
    if is_classic(arm) and changes == Augmentations():
        raise ValueError(
            f"arm `{arm}` has no augmentations, so it would repeat the arm without any; configure some, or leave "
            "the arm out"
        )
    rows = read_speech_partition(partition, split)
    class_ids = classes_in(rows)
    rate, window = classifier(options, len(class_ids), seeds[0]).hears()
    _refuse_other_rate(changes, rate)
    heard: list[Any] = []
    if backgrounds is not None:
        names, recordings = read_recordings(backgrounds.table, TRAIN, backgrounds.audio, rate, progress)
        mixer = Background(mixing, recordings, rate, names)
        changes = Augmentations.of([*changes.waveform, *changes.feature, *changes.batch, mixer])
        heard = [names, hashlib.sha256(mixer.bank.numpy().data).hexdigest()]
    clips = real_clips(TRAIN, audio, rows, rate, changes.reach(window), progress)
    assert clips is not None  # a partition without training clips is never written
    validation = real_clips(VALIDATION, audio, rows, rate, window, progress)
    if validation is not None:
        validation = fill_window(validation, window)
    log.info(
        "%s: %d clips to learn from, %d to validate on", arm, len(clips), len(validation) if validation else 0
    )
    trained, rounds, kept = train_seeds(
        classifier, options, seeds, fill_window(clips, window), validation, changes, len(class_ids), checkpoints,
        [facts, repr(options), [repr(part) for part in options_of(changes)], heard],
    )  # fmt: skip
    save_models(models, trained)
    tables.write(history, HISTORY, rounds, provenance)
    for checkpoint in kept:
        checkpoint.discard()


def _refuse_other_rate(changes: Augmentations, sample_rate_hz: int) -> None:
    """
    Raises:
        ValueError: an augmentation was set up for other clips than the recogniser hears.
    """
    for part in changes.waveform:
        theirs = getattr(getattr(part, "options", None), "sample_rate_hz", sample_rate_hz)
        if theirs != sample_rate_hz:
            raise ValueError(
                f"augmentation {type(part).__name__} is for {theirs} Hz, and the recogniser hears {sample_rate_hz} Hz: "
                f"set its option `sample_rate_hz: {sample_rate_hz}`"
            )


def fill_window(clips: LabelledClips, samples: int) -> LabelledClips:
    """The clips [N, T] with zeros behind them up to the window: a background goes on where a short clip has ended.

    Training, validation and test clips are filled alike, with a background or without one.
    """
    from torch.nn import functional

    missing = samples - clips.waveforms.shape[1]
    if missing <= 0:
        return clips
    return replace(clips, waveforms=functional.pad(clips.waveforms, (0, missing)))
