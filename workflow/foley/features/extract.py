"""One shard of clips -> one shard of features."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from foley import tables
from foley.audio.store import Progress, iter_waveforms
from foley.tables.features import FEATURES

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

    Memory stays that of one batch. The array shape of a window goes into the table's provenance (``shape``).
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    feature = feature.to(device)
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
