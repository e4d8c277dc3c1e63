"""Clips between two training clips of one class, from different recordings (study ``interpolation``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.audio.store import Progress
from foley.generators.audio.interpolation import draw_pairs, interpolate
from foley.generators.audio.mel_diffusion import MelDiffusion
from foley.runtime.seeds import derive
from foley.studies.audio.clips import named, read_waveforms
from foley.studies.audio.generate import (
    INTERPOLATED,
    Origin,
    as_finite,
    in_order_of_ids,
    is_silent,
    synthetic_row,
)
from foley.studies.audio.train_generator import RoleClips, clips_of_role
from foley.tables.audio_studies import SYNTHETIC_CLIPS

log = logging.getLogger(__name__)

# Training clips in memory: each reading of the shards brings the classes that make up as many.
CLIPS_IN_MEMORY = 1000


def interpolate_clips(
    output: Path,
    *,
    model: MelDiffusion,
    origin: Origin,
    audio: Sequence[Path],
    partition: Path,
    classes: Path,
    clips_per_class: int,
    seed: int,
    weight: float = 0.5,
    steps: int = 50,
    refinements: int = 0,
    batch_size: int = 32,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write ``clips_per_class`` clips of each class, each between two of its ``train`` clips.

    Training clips that are silent as far as the model hears them are no sources, since what lies between silence and
    sound has no level. Which pairs a class has depends on its own clips and the seed.

    Args:
        model: a mel diffusion model, trained here or read from elsewhere.
        audio: shards of the dataset's stored clips.
        partition: the split's roles.
        classes: the dataset's class table.
        weight: 0 is the first clip of a pair, 1 the second.
        steps, refinements: of the deterministic sampler, there and back; see ``DDIMPath``.
        batch_size: pairs in the network at once.

    Raises:
        ValueError: a class whose clips are of one recording, a clip that is too short, or a clip that comes out silent
            or not finite; names it.
    """
    if clips_per_class < 1 or batch_size < 1:
        raise ValueError(f"clips_per_class {clips_per_class} and batch_size {batch_size} must be at least 1")
    clips = clips_of_role(partition, classes)
    class_of = dict(zip(clips.labels, clips.class_ids, strict=True))
    started = time.monotonic()
    errors: list[float] = []
    with tables.writer(output, SYNTHETIC_CLIPS, provenance) as out:
        order = in_order_of_ids(class_of, origin.generator, INTERPOLATED)
        for label, rows, waveforms in progress(_class_by_class(clips, order, audio, model)):
            ids = [clips.clip_ids[row] for row in rows]
            pairs = draw_pairs(
                [label] * len(rows), [clips.recording_ids[row] for row in rows], clips_per_class, seed, ids
            )
            for start in range(0, len(pairs), batch_size):
                part = pairs[start : start + batch_size]
                seeds = [derive(seed, INTERPOLATED, label, start + n) for n in range(len(part))]
                made = interpolate(
                    model,
                    [waveforms[pair.first] for pair in part],
                    [waveforms[pair.second] for pair in part],
                    [label] * len(part),
                    seeds,
                    sample_rate_hz=model.sample_rate_hz,
                    weight=weight,
                    steps=steps,
                    refinements=refinements,
                    batch_size=2 * batch_size,
                )
                between = [f"`{ids[pair.first]}` and `{ids[pair.second]}`" for pair in part]
                places = [
                    f"class `{label}`, between {pair}, seed {own}"
                    for pair, own in zip(between, seeds, strict=True)
                ]
                found = as_finite(made.audio, places.__getitem__)
                silent = [place for place, samples in zip(places, found, strict=True) if is_silent(samples)]
                if silent:
                    raise ValueError(
                        f"{silent[0]}: the clip is silent; train the generator for longer, or take more steps"
                    )
                round_trips = made.round_trip_db.mean(dim=1).tolist()
                errors += round_trips
                out.write(
                    [
                        synthetic_row(
                            origin, INTERPOLATED, label, class_of[label], start + n, seeds[n], found[n],
                            model.sample_rate_hz, sources=[ids[pair.first], ids[pair.second]], sampler="ddim",
                            steps=steps, guidance=1.0 if model.is_conditional else None,
                            round_trip_db=round_trips[n],
                        )
                        for n, pair in enumerate(part)
                    ]
                )  # fmt: skip
        seconds = time.monotonic() - started
        log.info(
            "%d clips of %d classes in %.1f s (%.2f a second); a round trip is off by %.2f dB on average",
            *(out.rows, len(order), seconds, out.rows / max(seconds, 1e-9), np.mean(errors)),
        )


def _class_by_class(
    clips: RoleClips, order: Sequence[str], audio: Sequence[Path], model: MelDiffusion
) -> Iterator[tuple[str, list[int], list[np.ndarray]]]:
    """Each class of ``order`` with the rows of its clips that are not silent, and their waveforms as the model hears
    them."""
    rows_of: dict[str, list[int]] = {label: [] for label in order}
    for row, label in enumerate(clips.labels):
        rows_of[label].append(row)
    for group in _groups({label: len(rows) for label, rows in rows_of.items()}):
        wanted = [clips.clip_ids[row] for label in group for row in rows_of[label]]
        found = dict(
            zip(
                *read_waveforms(audio, wanted, model.sample_rate_hz, max_samples=model.options.mel.samples),
                strict=True,
            )
        )
        for label in group:
            ids = [clips.clip_ids[row] for row in rows_of[label]]
            heard = list(model.mel.cut([found[i] for i in ids], model.sample_rate_hz, ids).numpy())
            silent = [clip_id for clip_id, samples in zip(ids, heard, strict=True) if is_silent(samples)]
            if silent:
                log.warning(
                    "class `%s`: %d clips are silent in the first %.2f s, which is all that the model hears, and are "
                    "no sources: %s",
                    *(label, len(silent), model.options.mel.samples / model.sample_rate_hz, named(silent)),
                )
            kept = [n for n, clip_id in enumerate(ids) if clip_id not in set(silent)]
            if not kept:
                raise ValueError(
                    f"class `{label}`: all its training clips are silent as far as the model hears them, so there is "
                    "nothing to interpolate; leave the class out or take more `mel.frames`"
                )
            yield label, [rows_of[label][n] for n in kept], [heard[n] for n in kept]


def _groups(counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Classes in their order, parted so that each group has few clips enough for memory, or is a single class."""
    group: list[str] = []
    held = 0
    for label, count in counts.items():
        if group and held + count > CLIPS_IN_MEMORY:
            yield group
            group, held = [], 0
        group.append(label)
        held += count
    if group:
        yield group
