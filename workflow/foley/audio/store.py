"""Reading stored clips back, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.audio.decode import decode_flac

# Wraps a loop over many clips, as `Job.progress` does.
Progress = Callable[[Iterable[Any]], Iterable[Any]]


def iter_waveforms(
    shard: Path, *, keep: Collection[str] | None = None, batch_size: int = 32
) -> Iterator[tuple[list[str], list[np.ndarray], int]]:
    """Batches of (clip ids, float32 waveforms [T_i], sample rate) from an audio shard, in its order.

    ``keep`` restricts to some clip ids. Memory stays that of one row group.
    """
    columns = ["clip_id", "sample_rate_hz", "audio"]
    for batch in tables.iter_batches(shard, columns=columns, batch_size=batch_size):
        ids: list[str] = []
        waveforms: list[np.ndarray] = []
        for clip_id, audio in zip(batch["clip_id"], batch["audio"], strict=True):
            name = clip_id.as_py()
            if keep is None or name in keep:
                ids.append(name)
                waveforms.append(decode_flac(audio["bytes"].as_py()))
        if ids:
            # One rate a shard: the ingest resamples all clips of a dataset to one.
            yield ids, waveforms, batch["sample_rate_hz"][0].as_py()
