"""Classifiers of clips on one split: the clips of a role, one training for each seed, and what they then say.

The studies that train classifiers differ in what these learn from, and share all of this.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from foley.audio.store import Progress
from foley.studies.audio.clips import named, read_waveforms
from foley.studies.audio.splits import TEST, classes_in, clips_in

if TYPE_CHECKING:
    import torch

    from foley.augment.protocol import Augmentations
    from foley.classifiers.audio_protocol import AudioClassifier, LabelledClips

log = logging.getLogger(__name__)

# All classes have training clips, and all are to be told apart.
CLOSED = "closed"


def label_clips(
    clip_ids: Sequence[str],
    waveforms: list[np.ndarray],
    class_of: Mapping[str, int],
    class_ids: Sequence[int],
    sample_rate_hz: int,
) -> LabelledClips:
    """What a classifier learns from: waveforms padded with zeros to the longest [N, T], and class numbers [N].

    ``waveforms`` is emptied as the tensor fills, so that clips are held once.

    Args:
        class_of: clip id -> class id.
        class_ids: the classes of the study; their order gives the class numbers 0 ... C-1.

    Raises:
        ValueError: no clips, or a clip of another class.
    """
    import torch

    from foley.classifiers.audio_protocol import LabelledClips

    if not waveforms:
        raise ValueError("no clips to learn from; check the split")
    number = {class_id: row for row, class_id in enumerate(class_ids)}
    strange = [clip_id for clip_id in clip_ids if class_of[clip_id] not in number]
    if strange:
        raise ValueError(
            f"clips of classes that the study does not have: {named(strange)}; it has {list(class_ids)}"
        )
    matrix = torch.zeros(len(waveforms), max(map(len, waveforms)))
    for row in reversed(range(len(waveforms))):
        samples = waveforms.pop()
        matrix[row, : len(samples)] = torch.from_numpy(samples)
    labels = torch.tensor([number[class_of[clip_id]] for clip_id in clip_ids], dtype=torch.int64)
    return LabelledClips(matrix, labels, list(clip_ids), sample_rate_hz)


def real_clips(
    role: str,
    audio: Sequence[Path],
    rows: Sequence[Mapping[str, Any]],
    sample_rate_hz: int,
    max_samples: int,
    progress: Progress,
) -> LabelledClips | None:
    """The split's clips of a role, None where it has none."""
    class_of = clips_in(rows, role)
    if not class_of:
        return None
    clip_ids, waveforms = read_waveforms(
        audio, class_of, sample_rate_hz, max_samples=max_samples, progress=progress
    )
    return label_clips(clip_ids, waveforms, class_of, classes_in(rows), sample_rate_hz)


def train_seeds(
    classifier: type[AudioClassifier],
    options: Any,
    seeds: Sequence[int],
    clips: LabelledClips,
    validation: LabelledClips | None,
    changes: Augmentations,
    classes: int,
    checkpoints: Path | None,
    facts: Any,
) -> tuple[dict[int, AudioClassifier], list[dict[str, Any]], list[Any]]:
    """Classifiers by seed, rows of their histories, and the checkpoints to discard once all is written."""
    from foley.training.checkpoint import Checkpoint
    from foley.training.loop import autocast_dtype, choose_device

    device = choose_device()
    # A training begun on one sort of device is not continued on another.
    arithmetic = [device.type, str(autocast_dtype(options.precision, device))]
    # Hashed once, and not for every seed again.
    data = [_digest(part) for part in (clips, validation)] if checkpoints is not None else []
    trained: dict[int, AudioClassifier] = {}
    rounds: list[dict[str, Any]] = []
    kept = []
    for seed in seeds:
        checkpoint = None
        if checkpoints is not None:
            checkpoint = Checkpoint(checkpoints, [facts, arithmetic, data, classes, seed])
            kept.append(checkpoint)
        model = classifier(options, classes, seed)
        started = time.monotonic()
        history = model.fit(clips, augmentations=changes, validation=validation, checkpoint=checkpoint)
        seconds = max(time.monotonic() - started, 1e-9)
        log.info(
            "seed %d: %d steps in %.1f s (%.1f clips/s)",
            seed, options.steps, seconds, options.steps * options.batch_size / seconds,
        )  # fmt: skip
        trained[seed] = model
        prefix = f"seed{seed}_" if len(seeds) > 1 else ""
        rounds += [row | {"quantity": prefix + row["quantity"]} for row in history.as_rows()]
    return trained, rounds, kept


def predict(
    trained: Mapping[int, AudioClassifier],
    clips: LabelledClips,
    class_ids: Sequence[int],
    labels: Mapping[str, str],
    role: str = TEST,
) -> pa.Table:
    """Rows of PREDICTIONS: what each seed's classifier says of ``clips``."""
    scores = {seed: model.score(clips.waveforms, clips.sample_rate_hz) for seed, model in trained.items()}
    return prediction_rows(scores, clips.clip_ids, clips.labels.numpy(), class_ids, labels, role)


def prediction_rows(
    scores: Mapping[int, torch.Tensor],
    clip_ids: Sequence[str],
    truth: np.ndarray,
    class_ids: Sequence[int],
    labels: Mapping[str, str],
    role: str,
) -> pa.Table:
    """Rows of PREDICTIONS from scores [N, C] by seed; ``truth`` [N] are class numbers, places in ``class_ids``."""
    n, ids = len(clip_ids), np.asarray(class_ids)
    parts = []
    for seed, of_seed in scores.items():
        said, margins = best_two(of_seed)
        parts.append(
            pa.table(
                {
                    **{name: pa.array([value] * n, pa.string()) for name, value in labels.items()},
                    "setting": pa.array([CLOSED] * n, pa.string()),
                    "seed": pa.array([seed] * n, pa.int32()),
                    "clip_id": pa.array(clip_ids, pa.string()),
                    "role": pa.array([role] * n, pa.string()),
                    "class_id": pa.array(ids[truth], pa.int32()),
                    "predicted_class_id": pa.array(ids[said], pa.int32()),
                    "margin": pa.array(margins, pa.float32()),
                }
            )
        )
    return pa.concat_tables(parts)


def best_two(scores: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N, C] -> the class number with the highest [N], and how far it lies above the next [N]."""
    best = scores.topk(2, dim=1)
    return best.indices[:, 0].numpy(), (best.values[:, 0] - best.values[:, 1]).numpy()


def options_of(changes: Augmentations) -> list[Any]:
    """What augmentations do, for a hash."""
    parts = [*changes.waveform, *changes.feature, *changes.batch]
    return [(type(part).__name__, getattr(part, "options", None)) for part in parts]


def _digest(clips: LabelledClips | None) -> str:
    """A hash of clips, their ids and their labels."""
    whole = hashlib.sha256()
    if clips is not None:
        whole.update(str((clips.waveforms.shape, clips.sample_rate_hz, list(clips.clip_ids))).encode())
        for part in (clips.waveforms, clips.labels):
            whole.update(part.contiguous().numpy().data)
    return whole.hexdigest()
