"""Stored clips, real or generated, as waveforms in memory: what generators and classifiers of audio learn from.

Nothing here knows of classifiers: a change to one must not train generators again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from foley.audio.decode import resample
from foley.audio.store import Progress, iter_waveforms

NAMED_CLIPS = 8  # that an error names


def read_waveforms(
    shards: Sequence[Path],
    keep: Collection[str] | None,
    sample_rate_hz: int,
    *,
    max_samples: int | None = None,
    progress: Progress = iter,
) -> tuple[list[str], list[np.ndarray]]:
    """Clip ids and their waveforms ([T_i] float32 in [-1, 1] at ``sample_rate_hz``), ordered by id.

    The order does not depend on how the clips were put into shards. All waveforms are held at once: 4 bytes a sample,
    so 2,000 clips of 5 s at 22,050 Hz are 0.9 GB; of each, ``max_samples`` at most.

    Args:
        shards: clip stores of a dataset, or tables of synthetic clips.
        keep: the wanted clip ids; None for all.

    Raises:
        ValueError: a wanted clip is in none of the shards, or in two.
    """
    wanted = None if keep is None else frozenset(keep)
    found: dict[str, np.ndarray] = {}
    for shard in progress(shards):
        for ids, waveforms, stored_hz in iter_waveforms(shard, keep=wanted):
            for clip_id, samples in zip(ids, waveforms, strict=True):
                if clip_id in found:
                    raise ValueError(
                        f"{shard}: clip `{clip_id}` is in another table, too; ids must be unique"
                    )
                whole = resample(samples, stored_hz, sample_rate_hz)
                # A copy, since a view would keep all of the clip in memory.
                short = max_samples is None or len(whole) <= max_samples
                found[clip_id] = whole if short else whole[:max_samples].copy()
    lacking = sorted(wanted - found.keys()) if wanted is not None else []
    if lacking:
        places = ", ".join(sorted({str(shard.parent) for shard in shards})) or "no shards"
        raise ValueError(
            f"{len(lacking)} clips have no audio in {places}: {named(lacking)}; ingest them again"
        )
    order = sorted(found)
    return order, [found[clip_id] for clip_id in order]


def named(clip_ids: Sequence[str]) -> str:
    """The first ids, for an error message."""
    more = f" and {len(clip_ids) - NAMED_CLIPS} more" if len(clip_ids) > NAMED_CLIPS else ""
    return ", ".join(f"`{clip_id}`" for clip_id in clip_ids[:NAMED_CLIPS]) + more
