"""Clips -> embeddings: by an encoder trained on a split's seen classes, or by a pretrained one."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from foley import tables
from foley.audio.decode import resample
from foley.audio.store import Progress, iter_waveforms
from foley.encoders.protocol import AudioEncoder, WindowEncoder
from foley.tables.features import EMBEDDINGS, HISTORY
from foley.tables.zero_shot import PARTITION
from foley.training.checkpoint import Checkpoint
from foley.training.halving import batches_that_fit
from foley.training.loop import autocast_dtype, choose_device

log = logging.getLogger(__name__)


def _embedding_table(clip_ids: Any, windows: Any, vectors: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "clip_id": pa.array(clip_ids, pa.string()),
            "window": pa.array(windows, pa.int32()),
            "vector": tables.from_matrix(vectors),
        }
    )


def _arithmetic() -> list[str]:
    """What `precision: auto` depends on: a training begun on one sort of device is not continued on another."""
    device = choose_device()
    return [device.type, str(autocast_dtype("auto", device))]


def train_and_embed(
    embeddings_path: Path,
    weights_path: Path,
    history_path: Path,
    *,
    features: Sequence[Path],
    partition: Path,
    encoder: Any,
    threads: int = 1,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train ``encoder`` on the seen classes of one split and embed every clip of the dataset.

    Unseen classes stay unseen: their clips are embedded, but neither trained nor validated on.

    Args:
        features: shards of one stored feature.
        partition: the split's roles.
        facts: what the result depends on beside the data, for resuming.
    """
    torch.set_num_threads(threads)
    shape = tables.provenance(features[0])["shape"]
    table = tables.read(list(features), columns=["clip_id", "window", "vector"])
    matrix = tables.to_matrix(table["vector"]).reshape(table.num_rows, *shape)
    clip_ids, windows = table["clip_id"].to_pylist(), table["window"].to_numpy()
    # Shards come one after the other; the order of clips must not depend on their number.
    order = np.lexsort((windows, np.array(clip_ids, dtype=object)))
    clip_ids, windows, matrix = [clip_ids[i] for i in order], windows[order], matrix[order]
    parts = tables.read(partition, PARTITION)
    role = dict(zip(parts["clip_id"].to_pylist(), parts["role"].to_pylist(), strict=True))
    class_of = dict(zip(parts["clip_id"].to_pylist(), parts["class_id"].to_pylist(), strict=True))
    seen = sorted({class_of[c] for c, r in role.items() if r.startswith("seen")})
    number = {class_id: row for row, class_id in enumerate(seen)}
    labels = np.array([number.get(class_of.get(c, -1), -1) for c in clip_ids])
    roles = np.array([role.get(c, "excluded") for c in clip_ids])
    train, validation = (np.flatnonzero(roles == name) for name in ("seen_train", "seen_validation"))
    checkpoint = None
    if checkpoints is not None:
        checkpoint = Checkpoint(
            checkpoints, [facts, list(seen), *_arithmetic()], matrix, labels, train, validation
        )
    history = encoder.fit(matrix, labels, train, validation, classes=len(seen), checkpoint=checkpoint)
    log.info("kept epoch %d of %d", history.best_epoch, history.rows[-1][0])
    # Clips that no table knows (rejected as duplicates after ingest) are left out.
    known = np.array([c in role for c in clip_ids])
    vectors = encoder.embed(matrix[known])
    encoder.save(weights_path)
    tables.write(history_path, HISTORY, history.as_rows(), provenance)
    table = _embedding_table([c for c, k in zip(clip_ids, known, strict=True) if k], windows[known], vectors)
    tables.write(embeddings_path, EMBEDDINGS.with_vectors(vector=vectors.shape[1]), table, provenance)
    if checkpoint is not None:
        checkpoint.discard()


def embed_shard(
    output: Path,
    *,
    audio: Path,
    target: str,
    weights: Path,
    batch_size: int = 16,
    threads: int = 1,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Embed one shard of clips with a pretrained encoder (``target``, ``module:Class``, its module has ``load``).

    A row is a clip, or one of its windows where the encoder is a ``WindowEncoder``. Clips of one length go through
    together, so that no clip's embedding depends on padding; where a device's memory is too small, fewer at once.
    """
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = import_module(target.partition(":")[0]).load(weights, device)
    with tables.writer(output, EMBEDDINGS.with_vectors(vector=encoder.dim), provenance) as out:
        for ids, waveforms, rate in progress(iter_waveforms(audio, batch_size=batch_size)):
            by_length: dict[int, list[int]] = defaultdict(list)
            resampled = [resample(samples, rate, encoder.sample_rate_hz) for samples in waveforms]
            for row, samples in enumerate(resampled):
                by_length[len(samples)].append(row)
            of_clip: dict[int, np.ndarray] = {}
            for rows in by_length.values():
                batch = torch.from_numpy(np.stack([resampled[row] for row in rows]))
                run = partial(_embed_rows, encoder, batch, device)
                parts = list(batches_that_fit(run, len(rows), batch_size, encoder.name))
                of_clip.update(zip(rows, np.concatenate(parts), strict=True))
            found = [of_clip[row] for row in range(len(ids))]
            names = [name for name, own in zip(ids, found, strict=True) for _ in own]
            windows = np.concatenate([np.arange(len(own), dtype=np.int32) for own in found])
            out.write(_embedding_table(names, windows, np.concatenate(found)))


def _embed_rows(encoder: AudioEncoder, waveforms: torch.Tensor, device: str, rows: slice) -> np.ndarray:
    """Waveforms [B, T] -> vectors [rows, W, D]; of an encoder that hears a clip as a whole, W is 1."""
    batch = waveforms[rows].to(device)
    if isinstance(encoder, WindowEncoder):
        vectors = encoder.embed_windows(batch)
    else:
        vectors = encoder.embed(batch)[:, None]
    return vectors.float().cpu().numpy()
