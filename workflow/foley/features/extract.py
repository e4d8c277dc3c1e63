"""One shard of clips -> one shard of features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from foley import tables
from foley.audio.store import Progress, iter_waveforms
from foley.features.frames import FrameFeature, pack
from foley.tables.features import FEATURES, FRAMES

log = logging.getLogger(__name__)


def extract_shard(
    output: Path,
    *,
    audio: Path,
    feature: Any,
    batch_size: int = 32,
    threads: int = 1,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Extract ``feature`` (a kind of this room) from every clip of an audio shard.

    Memory stays that of one batch. The array shape of a window goes into the table's provenance (``shape``); a
    feature of frames is stored in chunks (FRAMES).
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    feature = feature.to(device)
    if isinstance(feature, FrameFeature):
        facts = {**(provenance or {}), **feature.facts()}
        with tables.writer(output, FRAMES, facts) as out:
            for ids, waveforms, rate in progress(iter_waveforms(audio, batch_size=batch_size)):
                out.write(
                    chunk_rows(
                        ids,
                        [pack(frames, feature.storage) for frames in feature.extract(waveforms, rate)],
                        feature.chunk_frames,
                    )
                )
        return
    dim = int(np.prod(feature.shape))
    facts = {**(provenance or {}), "shape": list(feature.shape)}
    with tables.writer(output, FEATURES.with_vectors(vector=dim), facts) as out:
        for ids, waveforms, rate in progress(iter_waveforms(audio, batch_size=batch_size)):
            vectors, counts = feature.extract(waveforms, rate)
            out.write(
                pa.table(
                    {
                        "clip_id": pa.array(np.repeat(np.array(ids, dtype=object), counts), pa.string()),
                        "window": pa.array(np.concatenate([np.arange(n) for n in counts]), pa.int32()),
                        "vector": tables.from_matrix(vectors),
                    }
                )
            )


def chunk_rows(clip_ids: Sequence[str], packed: Sequence[np.ndarray], chunk_frames: int) -> pa.Table:
    """Packed frames [F_i, bytes] of some clips -> rows of FRAMES, ``chunk_frames`` frames a row, the last one fewer."""
    parts = [
        (clip_id, window, frames[begin : begin + chunk_frames])
        for clip_id, frames in zip(clip_ids, packed, strict=True)
        for window, begin in enumerate(range(0, len(frames), chunk_frames))
    ]
    return pa.table(
        {
            "clip_id": pa.array([clip_id for clip_id, _, _ in parts], pa.string()),
            "window": pa.array([window for _, window, _ in parts], pa.int32()),
            "frames": pa.array([len(part) for _, _, part in parts], pa.int32()),
            "values": pa.array([part.tobytes() for _, _, part in parts], pa.binary()),
        }
    )
