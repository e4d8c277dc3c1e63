"""What classifiers that were trained on real clips make of generated ones: the probe of the study ``diffusion``.

Real clips of the same split go through them as well: the test clips say what the probe can recognise at all, the
training clips what its last hidden layer makes of what it has learnt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from foley import tables
from foley.audio.decode import resample
from foley.audio.store import Progress, iter_waveforms
from foley.classifiers.audio_protocol import AudioClassifier
from foley.studies.audio.arms import model_files
from foley.studies.audio.clips import named
from foley.studies.audio.splits import classes_in
from foley.tables.audio_studies import AUDIO_PARTITION, PROBE_EMBEDDINGS, RECOGNISED, SYNTHETIC_CLIPS

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
ROLES = ("test", "train")


def load_classifiers(
    models: Path, kind: Callable[..., AudioClassifier], options: Any, classes: int, seeds: Sequence[int]
) -> list[AudioClassifier]:
    """The classifiers of some seeds, from the folder that their training left.

    Raises:
        ValueError: a seed has no weights there, or a file holds another network.
    """
    files = model_files(models)
    loaded = []
    for seed in seeds:
        if seed not in files:
            raise ValueError(
                f"{models} has no classifier of seed {seed}, only of {list(files)}; train it again"
            )
        classifier = kind(options, classes, seed)
        classifier.load(files[seed])
        loaded.append(classifier)
    return loaded


def recognise_clips(
    recognised: Path,
    embeddings: Path,
    *,
    models: Path,
    kind: Callable[..., AudioClassifier],
    options: Any,
    seeds: Sequence[int],
    synthetic: Sequence[Path],
    audio: Sequence[Path],
    partition: Path,
    batch_size: int = 64,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write what each classifier says of the synthetic clips and of the real test and train clips, and what the first
    one's last hidden layer makes of them.

    Waveforms are held ``batch_size`` at a time. The classes are those of the partition, in the order of their numbers,
    which is how the classifiers were trained.

    Args:
        recognised, embeddings: tables to write.
        models: folder of the classifiers' weights, one file a seed.
        synthetic: tables of synthetic clips; none for the real clips alone.
        audio: shards of the dataset's stored clips.

    Raises:
        ValueError: no seeds, a synthetic clip of another class, a real clip without audio, a clip in two tables, or
            scores that are not finite.
    """
    if not seeds:
        raise ValueError("no classifier to recognise clips: give one seed at least")
    parts = tables.read(partition, AUDIO_PARTITION).to_pylist()
    class_ids = np.array(classes_in(parts))
    real_class = {row["clip_id"]: row["class_id"] for row in parts if row["role"] in ROLES}
    kind_of = {row["clip_id"]: row["role"] for row in parts if row["role"] in ROLES}
    made_class = _classes_of_synthetic(synthetic, class_ids)
    classifiers = load_classifiers(models, kind, options, len(class_ids), seeds)
    first = classifiers[0].trained
    found = _Collected()
    for is_real, shards, class_of in ((True, audio, real_class), (False, synthetic, made_class)):
        for shard in progress(shards):
            batches = iter_waveforms(shard, keep=class_of.keys(), batch_size=batch_size)
            for ids, waveforms, stored_hz in batches:
                clips = _same_length(waveforms, stored_hz, first.sample_rate_hz, first.window_samples)
                scores = torch.stack([one.score(clips, first.sample_rate_hz) for one in classifiers])
                vectors = classifiers[0].embed(clips, first.sample_rate_hz)
                kinds = [kind_of[i] if is_real else SYNTHETIC for i in ids]
                found.add(ids, kinds, [class_of[i] for i in ids], scores.numpy(), vectors.numpy())
        lacking = sorted(class_of.keys() - found.known)
        if lacking:
            places = sorted({str(shard.parent) for shard in shards}) or ["no shards"]
            raise ValueError(f"{len(lacking)} clips have no audio in {', '.join(places)}: {named(lacking)}")
    if not found.clip_ids:
        raise ValueError(f"{partition} has no test or train clips, and there are no synthetic ones")
    clips_by_kind = {k: found.kinds.count(k) for k in (SYNTHETIC, *ROLES)}
    log.info("%d classifiers on clips: %s", len(classifiers), clips_by_kind)
    tables.write(recognised, RECOGNISED, found.recognised(seeds, class_ids), provenance)
    matrix = np.concatenate(found.vectors)
    table = pa.table(
        {
            "clip_id": pa.array(found.clip_ids, pa.string()),
            "kind": pa.array(found.kinds, pa.string()),
            "class_id": pa.array(found.class_ids, pa.int32()),
            "vector": tables.from_matrix(matrix),
        }
    )
    tables.write(embeddings, PROBE_EMBEDDINGS.with_vectors(vector=matrix.shape[1]), table, provenance)


def _classes_of_synthetic(shards: Sequence[Path], class_ids: np.ndarray) -> dict[str, int]:
    class_of: dict[str, int] = {}
    for shard in shards:
        table = tables.read(shard, SYNTHETIC_CLIPS, columns=["clip_id", "class_id"])
        for clip_id, class_id in zip(
            table["clip_id"].to_pylist(), table["class_id"].to_pylist(), strict=True
        ):
            if class_id not in class_ids:
                raise ValueError(
                    f"{shard}: clip `{clip_id}` is of class {class_id}, which the split does not have; generate the "
                    "clips again"
                )
            class_of[clip_id] = class_id
    return class_of


def _same_length(waveforms: Sequence[np.ndarray], stored_hz: int, rate_hz: int, samples: int) -> Tensor:
    """Clips at ``rate_hz``, cut or padded with zeros [N, samples]."""
    clips = torch.zeros(len(waveforms), samples)
    for row, stored in enumerate(waveforms):
        part = torch.from_numpy(np.ascontiguousarray(resample(stored, stored_hz, rate_hz)[:samples]))
        clips[row, : len(part)] = part
    return clips


class _Collected:
    """Answers and embeddings of clips, batch by batch."""

    def __init__(self) -> None:
        self.clip_ids: list[str] = []
        self.known: set[str] = set()
        self.kinds: list[str] = []
        self.class_ids: list[int] = []
        self.scores: list[np.ndarray] = []
        self.vectors: list[np.ndarray] = []

    def add(
        self, ids: list[str], kinds: list[str], class_ids: list[int], scores: np.ndarray, vectors: np.ndarray
    ) -> None:
        """Scores [seeds, N, C] and vectors [N, E] of a batch."""
        twice = sorted(self.known.intersection(ids))
        if twice or len(set(ids)) < len(ids):
            raise ValueError(f"clips that are in two tables: {named(twice or ids)}; ids must be unique")
        if not np.isfinite(scores).all() or not np.isfinite(vectors).all():
            row = int(
                np.flatnonzero(~np.isfinite(scores).all(axis=(0, 2)) | ~np.isfinite(vectors).all(axis=1))[0]
            )
            raise ValueError(
                f"a classifier's scores of clip `{ids[row]}` are not finite; train the classifier again with a lower "
                "learning rate"
            )
        self.known.update(ids)
        self.clip_ids += ids
        self.kinds += kinds
        self.class_ids += class_ids
        self.scores.append(scores)
        self.vectors.append(vectors)

    def recognised(self, seeds: Sequence[int], class_ids: np.ndarray) -> pa.Table:
        """Rows of RECOGNISED, seed after seed."""
        scores = np.concatenate(self.scores, axis=1)
        number = {int(class_id): column for column, class_id in enumerate(class_ids)}
        truth = np.array([number[c] for c in self.class_ids])
        own = np.take_along_axis(scores, truth[None, :, None], axis=2)
        # Classes that are tied with the true one come before it: a classifier that says the same of all is not right.
        rank = (scores >= own).sum(axis=2)
        count = len(seeds)
        return pa.table(
            {
                "clip_id": pa.array(self.clip_ids * count, pa.string()),
                "kind": pa.array(self.kinds * count, pa.string()),
                "class_id": pa.array(self.class_ids * count, pa.int32()),
                "seed": pa.array(np.repeat(np.array(seeds), len(truth)), pa.int32()),
                "predicted_class_id": pa.array(class_ids[scores.argmax(axis=2)].reshape(-1), pa.int32()),
                "rank": pa.array(rank.reshape(-1), pa.int32()),
                "log_probability": pa.array(own.reshape(-1), pa.float32()),
            }
        )
