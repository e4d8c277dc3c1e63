"""Backgrounds under speech, on the fly: Foley against audiomentations on the same clips and recordings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from audiomentations import AddBackgroundNoise, ApplyImpulseResponse
from measure import Table, interleaved, one_core, times

from foley.augment.background import Background, BackgroundOptions
from foley.augment.protocol import Draws
from foley.augment.reverb import Reverb, ReverbOptions, draw_room
from foley.runtime.memory import keep_freed_memory

TITLE = "Augmentation: backgrounds and rooms"
RATE_HZ, CLIP_S, RECORDING_S, BATCH = 16_000, 1, 5, 128
SNR_DB = (3.0, 30.0)
NOISE_PEER, ROOM_PEER = "audiomentations.AddBackgroundNoise", "audiomentations.ApplyImpulseResponse"
BOTH_PEERS = f"{ROOM_PEER}, then AddBackgroundNoise"


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

        rooms = folder / "rooms"
        rooms.mkdir()
        simulated = ReverbOptions("image_source", 1.0, RATE_HZ)
        for number in range(simulated.rooms):
            response = draw_room(simulated, number).numpy()
            soundfile.write(rooms / f"{number}.wav", response, RATE_HZ, subtype="FLOAT")
        noise = AddBackgroundNoise(str(folder), min_snr_db=SNR_DB[0], max_snr_db=SNR_DB[1], p=1.0)
        room = ApplyImpulseResponse(str(rooms), p=1.0, leave_length_unchanged=True)
        recorded = Reverb(ReverbOptions("recorded", 1.0, RATE_HZ, path=str(rooms)))

        def one_by_one(*changes: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[], None]:
            def all_clips() -> None:
                for clip in speech:
                    for change in changes:
                        clip = change(clip, RATE_HZ)

            return all_clips

        runs = {
            "Background": batched(background.change_waveforms),
            NOISE_PEER: one_by_one(noise),
            "Reverb, recorded": batched(recorded.change_waveforms),
            "Reverb, image_source": batched(Reverb(simulated).change_waveforms),
            "Reverb, stochastic": batched(Reverb(ReverbOptions("stochastic", 1.0, RATE_HZ)).change_waveforms),
            ROOM_PEER: one_by_one(room),
            "Reverb, recorded, then Background": batched(
                lambda batch, of: background.change_waveforms(recorded.change_waveforms(batch, of), of)
            ),
            BOTH_PEERS: one_by_one(room, noise),
        }
        with one_core():
            found = interleaved(runs, repeats)
    hours = {name: clips * CLIP_S / 3600 / seconds for name, seconds in found.items()}
    names = list(hours)
    peers = (NOISE_PEER, ROOM_PEER, BOTH_PEERS)
    # A row's peer is the next one below it, with the same responses and recordings.
    peer_of = {name: next(n for n in names[names.index(name) :] if n in peers) for name in names}
    rows = [
        (name, f"{value:.2f}", f"{3600 * value:,.0f}", times(value / hours[peer_of[name]]))
        for name, value in hours.items()
    ]
    caption = (
        f"{clips:,} clips of {CLIP_S} s at {RATE_HZ // 1000} kHz, {count} recordings of {RECORDING_S} s, "
        f"{SNR_DB[0]:g} to {SNR_DB[1]:g} dB; one core, batches of {BATCH} for Foley, clip by clip for "
        "audiomentations"
    )
    columns = ("what", "hours of audio a second", "times real time", "the speed of the peer below")
    return [Table(caption, columns, rows)]
