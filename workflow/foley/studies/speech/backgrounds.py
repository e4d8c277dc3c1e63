"""Which clips are mixed under speech: as many recordings as generated clips of every class, in training and test.

Recordings that train come from the training part of the background's split, those of the test from its test part. Of
generated clips some serve the test alone. A generator that was trained here learnt from training recordings, so what
the test mixes in was neither mixed into a training clip nor shown to a generator.

Draws are nested: with one seed, the 5 test clips of a class and its first 10 training clips stay when 20 train.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foley import tables
from foley.audio.store import Progress
from foley.options import did_you_mean
from foley.runtime.seeds import derive
from foley.studies.audio.clips import named, read_waveforms
from foley.studies.audio.splits import TEST, TRAIN, clips_in, leaking, read_partition
from foley.studies.foundation.mixes import read_pool
from foley.studies.speech.names import REAL
from foley.tables.audio_studies import SYNTHETIC_CLIPS
from foley.tables.clips import CLIPS
from foley.tables.speech import BACKGROUNDS

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

# Steps in which the loudest stretch of a clip is looked for, seconds.
STRETCH_STEP_S = 0.01


@dataclass(frozen=True)
class Wanted:
    """How many clips of each class serve, which classes don't, and how long clips are at most (None: as they are)."""

    clips_per_class: int
    test_clips_per_class: int
    exclude: Sequence[str] = ()
    max_duration_s: float | None = None
    seed: int = 0


def draw_backgrounds(
    output: Path,
    *,
    background: str,
    partition: Path,
    split: str,
    clips: Path,
    synthetic: Sequence[Path] = (),
    wanted: Wanted,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write which clips serve training and which the test (BACKGROUNDS).

    Args:
        background: ``real``, or the source of generated clips.
        partition: AUDIO_PARTITION of the background dataset in ``split``.
        clips: CLIPS of the background dataset.
        synthetic: SYNTHETIC_CLIPS of the source; none for recordings.

    Raises:
        ValueError: an excluded label that is no class, no class left, too few clips of a class, or generated clips that
            were made from others than training recordings, or by a generator that was trained on another split.
    """
    rows = read_partition(partition, split)
    table = tables.read(clips, CLIPS, columns=["clip_id", "class_id", "label", "recording_id", "duration_s"])
    known = {row["clip_id"]: row for row in table.to_pylist()}
    label_of = {row["class_id"]: row["label"] for row in known.values()}
    for label in wanted.exclude:
        if label not in label_of.values():
            raise ValueError(
                f"speech.background.exclude names `{label}`, which is no class of the backgrounds; "
                f"{did_you_mean(label, label_of.values())}"
            )
    classes = sorted({row["class_id"] for row in rows if label_of[row["class_id"]] not in wanted.exclude})
    if not classes:
        raise ValueError("speech.background.exclude leaves no class of backgrounds; leave some in")
    if background == REAL:
        pools = {role: clips_in(rows, role) for role in (TRAIN, TEST)}
        drawn = {
            TRAIN: _draw(pools[TRAIN], classes, wanted.clips_per_class, background, TRAIN, wanted.seed),
            TEST: _draw(pools[TEST], classes, wanted.test_clips_per_class, background, TEST, wanted.seed),
        }
        durations = {clip_id: row["duration_s"] for clip_id, row in known.items()}
    else:
        _refuse_other_split(synthetic, split)
        pool = read_pool(synthetic, label_of, clips_in(rows, TRAIN))
        drawn = _draw_held_out(pool, classes, background, wanted)
        made = tables.read(list(synthetic), SYNTHETIC_CLIPS, columns=["clip_id", "duration_s"])
        durations = dict(zip(made["clip_id"].to_pylist(), made["duration_s"].to_pylist(), strict=True))
    found = [
        {
            "background": background,
            "clip_id": clip_id,
            "class_id": class_id,
            "label": label_of[class_id],
            "recording_id": known[clip_id]["recording_id"] if background == REAL else None,
            "role": role,
            "duration_s": min(durations[clip_id], wanted.max_duration_s or np.inf),
        }
        for role, of_role in drawn.items()
        for clip_id, class_id in of_role.items()
    ]
    _refuse_shared(found, background)
    seconds = {r: sum(row["duration_s"] for row in found if row["role"] == r) for r in (TRAIN, TEST)}
    log.info(
        "%s: %d clips of %d classes (%.0f s) to train with, %d (%.0f s) for the test alone",
        background, len(drawn[TRAIN]), len(classes), seconds[TRAIN], len(drawn[TEST]), seconds[TEST],
    )  # fmt: skip
    tables.write(output, BACKGROUNDS, found, provenance)


def read_backgrounds(path: Path) -> list[dict[str, Any]]:
    """The clips of a background, class by class.

    Raises:
        ValueError: none, or a clip or recording that serves both training and test.
    """
    rows = tables.read(path, BACKGROUNDS).to_pylist()
    if not rows:
        raise ValueError(f"{path}: holds no backgrounds; delete it so that it is made again")
    _refuse_shared(rows, str(path))
    return rows


def read_recordings(
    path: Path, role: str, audio: Sequence[Path], sample_rate_hz: int, progress: Progress = iter
) -> tuple[list[str], list[Tensor]]:
    """Ids and waveforms ([T] float32) of the backgrounds of a role, class by class, each as long as the table says.

    A longer clip gives its loudest stretch: a recording of a short sound is often silent at its beginning or end.

    Args:
        audio: shards that hold the clips, of the background dataset or of the source.

    Raises:
        ValueError: see :func:`read_backgrounds`; no clip of the role, or one without audio.
    """
    import torch

    rows = [row for row in read_backgrounds(path) if row["role"] == role]
    if not rows:
        raise ValueError(f"{path}: no backgrounds for the {role} part; delete it so that it is made again")
    ids, waveforms = read_waveforms(
        audio, [row["clip_id"] for row in rows], sample_rate_hz, progress=progress
    )
    found = dict(zip(ids, waveforms, strict=True))
    cut = [
        loudest_stretch(found[row["clip_id"]], round(row["duration_s"] * sample_rate_hz), sample_rate_hz)
        for row in rows
    ]
    return [row["clip_id"] for row in rows], [torch.from_numpy(samples) for samples in cut]


def loudest_stretch(samples: np.ndarray, length: int, sample_rate_hz: int) -> np.ndarray:
    """The ``length`` samples in a row with the most energy [length], of starts 10 ms apart; all of a shorter clip."""
    if len(samples) <= length:
        return samples
    step = max(1, round(STRETCH_STEP_S * sample_rate_hz))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(0, len(samples) - length + 1, step)
    best = starts[np.argmax(energy[starts + length] - energy[starts])]
    return samples[best : best + length].copy()


def _refuse_other_split(synthetic: Sequence[Path], split: str) -> None:
    """
    Raises:
        ValueError: clips of a generator that learnt from another split, and so maybe from what is tested.
    """
    for path in synthetic:
        theirs = tables.provenance(path).get("wildcards", {}).get("split", split)
        if theirs != split:
            raise ValueError(
                f"{path}: made by a generator that learnt from the training part of {theirs}, which may hold "
                f"recordings that {split} tests; delete the table so that it is made again"
            )


def _draw(
    pool: Mapping[str, int], classes: Sequence[int], count: int, background: str, role: str, seed: int
) -> dict[str, int]:
    """Clip id -> class id of ``count`` recordings of each class."""
    of_class = _by_class(pool, classes)
    _refuse_few(of_class, count, f"{background} backgrounds for the {role} part", role)
    return {
        clip_id: class_id
        for class_id, ids in of_class.items()
        for clip_id in _shuffled(ids, seed, background, role, class_id)[:count]
    }


def _draw_held_out(
    pool: Mapping[str, int], classes: Sequence[int], background: str, wanted: Wanted
) -> dict[str, dict[str, int]]:
    """Generated clips by role: of each class first those of the test, then those that train."""
    of_class = _by_class(pool, classes)
    held_out, count = wanted.test_clips_per_class, wanted.clips_per_class
    _refuse_few(of_class, held_out + count, f"clips of `{background}` for training and test", TRAIN)
    drawn: dict[str, dict[str, int]] = {TRAIN: {}, TEST: {}}
    for class_id, ids in of_class.items():
        order = _shuffled(ids, wanted.seed, background, class_id)
        drawn[TEST] |= dict.fromkeys(order[:held_out], class_id)
        drawn[TRAIN] |= dict.fromkeys(order[held_out : held_out + count], class_id)
    return drawn


def _by_class(pool: Mapping[str, int], classes: Collection[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for clip_id in sorted(pool):
        found[pool[clip_id]].append(clip_id)
    return {class_id: found[class_id] for class_id in classes}


def _shuffled(ids: Sequence[str], seed: int, *names: object) -> list[str]:
    order = np.random.default_rng(derive(seed, "backgrounds", *names)).permutation(len(ids))
    return [ids[row] for row in order]


def _refuse_few(of_class: Mapping[int, Sequence[str]], count: int, what: str, role: str) -> None:
    counts = Counter({class_id: len(ids) for class_id, ids in of_class.items()})
    short = [f"{class_id} ({there})" for class_id, there in sorted(counts.items()) if there < count]
    if short:
        key = "test_clips_per_class" if role == TEST else "clips_per_class"
        raise ValueError(
            f"{count} {what} are wanted of each class, and these have fewer: {', '.join(short)}; lower "
            f"speech.background.{key}, leave these classes out by speech.background.exclude, or add clips"
        )


def _refuse_shared(rows: Sequence[Mapping[str, Any]], where: str) -> None:
    for key, what in (("clip_id", "clips"), ("recording_id", "recordings")):
        shared = sorted(leaking(rows, key))
        if shared:
            raise ValueError(
                f"{where}: background {what} that serve both training and test: {named(shared)}; delete the table so "
                "that it is made again"
            )
