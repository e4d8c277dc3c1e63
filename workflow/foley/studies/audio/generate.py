"""Clips sampled from noise by a trained generator, for some of its classes.

A clip follows from the model and its seed, and the seed from the generator's seed, the split, the class's label and the
clip's number in its class: no clip of one split is one of another. Clips go through the model class by class, so that
they are the same to the bit however classes are put into shards.

**Silent clips** (no sample above -80 dB of full scale) hold nothing to learn from or to measure. Such a clip is
drawn again from the next seed of its own row of seeds, three times at most; the table has the seed that it was made
from, and the log says how many were drawn again. A generator that gives silence four times in a row, or samples that
are no finite numbers, is broken: generating stops.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from foley import tables
from foley.audio.decode import SILENCE_PEAK, encode_flac, to_pcm16
from foley.audio.store import Progress
from foley.generators.audio.mel import GriffinLim, Vocoder
from foley.runtime.seeds import derive
from foley.tables.audio_studies import SYNTHETIC_CLIPS

log = logging.getLogger(__name__)

# How often a silent clip is drawn again.
REDRAWS = 3
SAMPLED, INTERPOLATED = "sampled", "interpolated"


@dataclass(frozen=True)
class Sampling:
    """How a diffusion model samples; what is None is as its own options say."""

    sampler: Literal["ddpm", "ddim", "dpm_solver"] | None = None
    steps: int | None = None
    guidance: float | None = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Origin:
    """Whose clips they are, as the table names it.

    generator: id in the config.
    model_id: kind of a model that was trained here, or hub id or folder of another.
    model_revision: pinned revision of a hub id.
    """

    generator: str
    model_id: str
    model_revision: str | None = None


def generate_shard(
    output: Path,
    *,
    model: Any,
    origin: Origin,
    class_of: Mapping[str, int],
    clips_per_class: int,
    split: str,
    seed: int,
    sampling: Sampling | None = None,
    vocoder: Vocoder | None = None,
    batch_size: int = 64,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write ``clips_per_class`` clips of each class of one shard; memory stays that of ``batch_size`` clips.

    Args:
        model: an ``AudioGenerator`` whose classes are labels.
        class_of: label -> class number, of the shard's classes.
        split: whose training clips the model has learnt.
        seed: of all clips; in a split, the clips of two generators with equal seeds start from equal noise.
        sampling: for diffusion models.
        vocoder: for generators of mel images; Griffin-Lim when left out.

    Raises:
        ValueError: a class that the model has not learnt, or clips that are silent again and again or not finite; names
            class and seed.
    """
    if clips_per_class < 1 or batch_size < 1:
        raise ValueError(f"clips_per_class {clips_per_class} and batch_size {batch_size} must be at least 1")
    how = sampling or Sampling()
    facts = _sampling_facts(model, how) | {"vocoder": vocoder_name(model, vocoder)}
    started = time.monotonic()
    redrawn = 0
    with tables.writer(output, SYNTHETIC_CLIPS, provenance) as out:
        for label in progress(in_order_of_ids(class_of, origin.generator, SAMPLED)):
            for start in range(0, clips_per_class, batch_size):
                numbers = range(start, min(start + batch_size, clips_per_class))
                waveforms, seeds, again = _draw_audible(model, label, numbers, (seed, split), how, vocoder)
                redrawn += again
                out.write(
                    [
                        synthetic_row(
                            origin, SAMPLED, label, class_of[label], number, clip_seed, samples,
                            model.sample_rate_hz, **facts,
                        )
                        for number, clip_seed, samples in zip(numbers, seeds, waveforms, strict=True)
                    ]
                )  # fmt: skip
        seconds = time.monotonic() - started
        rate = out.rows / max(seconds, 1e-9)
        log.info("%d clips of %d classes in %.1f s (%.2f a second)", out.rows, len(class_of), seconds, rate)
    if redrawn:
        log.warning("%d clips came out silent and were drawn again", redrawn)


def _draw_audible(
    model: Any,
    label: str,
    numbers: range,
    seed_and_split: tuple[int, str],
    how: Sampling,
    vocoder: Vocoder | None,
) -> tuple[list[np.ndarray], list[int], int]:
    """Waveforms and seeds of the clips ``numbers`` of a class, and how often one was drawn again."""
    seed, split = seed_and_split
    seeds = [derive(seed, split, SAMPLED, label, number) for number in numbers]
    given = how.given() | ({"vocoder": vocoder} if vocoder is not None else {})

    def draw(wanted: Sequence[int]) -> list[np.ndarray]:
        own = [seeds[row] for row in wanted]
        try:
            made = model.generate([label] * len(own), own, **given)
        except ValueError as error:
            raise ValueError(f"class `{label}`, seeds {own[0]} to {own[-1]}: {error}") from error
        return as_finite(made, lambda row: f"class `{label}`, seed {own[row]}")

    waveforms = draw(range(len(seeds)))
    again = 0
    for attempt in range(1, REDRAWS + 1):
        silent = [row for row, samples in enumerate(waveforms) if is_silent(samples)]
        if not silent:
            return waveforms, seeds, again
        again += len(silent)
        for row in silent:
            seeds[row] = derive(seed, split, SAMPLED, label, numbers[row], "again", attempt)
        for row, samples in zip(silent, draw(silent), strict=True):
            waveforms[row] = samples
    for row, samples in enumerate(waveforms):
        if is_silent(samples):
            raise ValueError(
                f"class `{label}`, clip {numbers[row]}: silent with {1 + REDRAWS} seeds in a row, the last of them "
                f"{seeds[row]}; train the generator for longer, or lower its guidance"
            )
    return waveforms, seeds, again


def is_silent(samples: np.ndarray) -> bool:
    """Whether no sample reaches -80 dB of full scale, which the ingest refuses in real clips."""
    return float(np.abs(samples).max(initial=0.0)) < SILENCE_PEAK


def as_finite(audio: Tensor, name: Callable[[int], str]) -> list[np.ndarray]:
    """Audio [N, T] as arrays.

    Raises:
        ValueError: a row is not finite; ``name`` says which one it is.
    """
    found = audio.numpy()
    broken = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(broken):
        raise ValueError(
            f"{name(int(broken[0]))}: samples that are NaN or infinite; the generator has diverged, train it anew with "
            "a lower learning rate"
        )
    return list(found)


def in_order_of_ids(labels: Mapping[str, int], generator: str, method: str) -> list[str]:
    """Labels in the order of their clips' ids, which is that of the table's rows."""
    return sorted(labels, key=lambda label: clip_id_of(generator, method, label, 0))


def clip_id_of(generator: str, method: str, label: str, number: int) -> str:
    return f"{generator}:{method}:{label}:{number:05d}"


def synthetic_row(
    origin: Origin,
    method: str,
    label: str,
    class_id: int,
    number: int,
    seed: int,
    samples: np.ndarray,
    sample_rate_hz: int,
    **more: Any,
) -> dict[str, Any]:
    """A row of SYNTHETIC_CLIPS; ``more`` are columns of some methods alone."""
    clip_id = clip_id_of(origin.generator, method, label, number)
    return {
        **asdict(origin),
        "clip_id": clip_id,
        "class_id": class_id,
        "label": label,
        "method": method,
        "sources": [],
        "seed": seed,
        "duration_s": len(samples) / sample_rate_hz,
        "sample_rate_hz": sample_rate_hz,
        "audio": {
            "bytes": encode_flac(to_pcm16(samples), sample_rate_hz),
            # A label may hold what a file name must not.
            "path": clip_id.replace("/", "_").replace(":", "-") + ".flac",
        },
        **more,
    }


def vocoder_name(model: Any, vocoder: Vocoder | None) -> str | None:
    """What tables call what made the audio; None for generators that make no mel images."""
    if not hasattr(model, "mel"):
        return None
    return GriffinLim.name if vocoder is None else vocoder.name


def _sampling_facts(model: Any, how: Sampling) -> dict[str, Any]:
    """Sampler, steps and guidance that a diffusion model takes; nothing for other kinds."""
    options = model.options
    sampler = how.sampler or getattr(options, "sampler", None)
    if sampler is None:
        return {}
    steps = how.steps
    if steps is None:
        steps = options.train_steps if sampler == "ddpm" else options.sampling_steps
    guidance = options.guidance if how.guidance is None else how.guidance
    return {"sampler": sampler, "steps": steps, "guidance": guidance}
