"""Backgrounds under speech, on the fly: Foley against audiomentations on the same clips and recordings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from audiomentations import AddBackgroundNoise
from measure import Table, interleaved, one_core, times

from foley.augment.background import Background, BackgroundOptions
from foley.augment.protocol import Draws
from foley.augment.reverb import Reverb, ReverbOptions
from foley.runtime.memory import keep_freed_memory

TITLE = "Augmentation: backgrounds and rooms"
RATE_HZ, CLIP_S, RECORDING_S, BATCH = 16_000, 1, 5, 128
SNR_DB = (3.0, 30.0)
PEER = "audiomentations.AddBackgroundNoise"


def make_speech(clips: int) -> np.ndarray:
    """Bursts of noise in silence, as words are in their clips, float32 [N, T]."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE_HZ * CLIP_S) / RATE_HZ
    start, length = rng.uniform(0.05, 0.3, (clips, 1)), rng.uniform(0.3, 0.6, (clips, 1))
    inside = np.clip(1 - np.abs((time - start) / length - 0.5) * 2, 0, 1)
    return (0.1 * inside * rng.standard_normal((clips, len(time)))).astype(np.float32)


def make_recordings(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (0.05 * rng.standard_normal((count, RATE_HZ * RECORDING_S))).astype(np.float32)


def check_ratio(background: Background, speech: torch.Tensor, draws: Draws) -> None:
    """Refuse to measure a mix that has not the ratio that it should."""
    found = background.mix(speech, draws).snr_db
    if not bool(((found >= SNR_DB[0] - 0.05) & (found <= SNR_DB[1] + 0.05)).all()):
        raise AssertionError(f"ratios from {float(found.min()):g} to {float(found.max()):g} dB")


def run(quick: bool) -> list[Table]:
    clips, count, repeats = (BATCH, 4, 2) if quick else (16 * BATCH, 50, 7)
    keep_freed_memory()  # for both sides, as jobs do
    speech, recordings = make_speech(clips), make_recordings(count)
    batches = torch.from_numpy(speech).split(BATCH)
    draws = [
        Draws(0, [f"{batch}-{row}" for row in range(BATCH)], [0] * BATCH) for batch in range(len(batches))
    ]
    background = Background(BackgroundOptions(*SNR_DB), list(torch.from_numpy(recordings)), RATE_HZ)
    rooms = {
        "Reverb, stochastic": Reverb(ReverbOptions("stochastic", 1.0, RATE_HZ)),
        "Reverb, image_source": Reverb(ReverbOptions("image_source", 1.0, RATE_HZ)),
    }
    check_ratio(background, batches[0], draws[0])

    def batched(change: Callable[[torch.Tensor, Draws], torch.Tensor]) -> Callable[[], None]:
        def all_batches() -> None:
            for batch, of in zip(batches, draws, strict=True):
                change(batch, of)

        return all_batches

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, recording in enumerate(recordings):
            soundfile.write(folder / f"{number}.wav", recording, RATE_HZ, subtype="FLOAT")

        change = AddBackgroundNoise(str(folder), min_snr_db=SNR_DB[0], max_snr_db=SNR_DB[1], p=1.0)

        def clip_by_clip() -> None:
            for clip in speech:
                change(clip, RATE_HZ)

        runs = {
            "Background": batched(background.change_waveforms),
            PEER: clip_by_clip,
            **{name: batched(room.change_waveforms) for name, room in rooms.items()},
            "Reverb, stochastic, then Background": batched(
                lambda batch, of: background.change_waveforms(
                    rooms["Reverb, stochastic"].change_waveforms(batch, of), of
                )
            ),
        }
        with one_core():
            found = interleaved(runs, repeats)
    hours = {name: clips * CLIP_S / 3600 / seconds for name, seconds in found.items()}
    rows = [
        (name, f"{value:.2f}", f"{3600 * value:,.0f}", times(value / hours[PEER]))
        for name, value in hours.items()
    ]
    caption = (
        f"{clips:,} clips of {CLIP_S} s at {RATE_HZ // 1000} kHz, {count} recordings of {RECORDING_S} s, "
        f"{SNR_DB[0]:g} to {SNR_DB[1]:g} dB; one core, batches of {BATCH} for Foley, clip by clip for "
        "audiomentations"
    )
    columns = ("what", "hours of audio a second", "times real time", "the speed of audiomentations")
    return [Table(caption, columns, rows)]
