"""Reverberation: clips convolved with room impulse responses that are drawn for each clip.

``stochastic``: the direct sound, then Gaussian noise under an exponential decay (Moorer 1979, "About this
reverberation business"; Polack 1988) of a drawn reverberation time and a drawn direct-to-reverberant ratio.

``image_source``: shoebox rooms by the image method (Allen & Berkley 1979, "Image method for efficiently simulating
small-room acoustics"): size, places of source and microphone, and reverberation time are drawn; all six walls reflect
alike, by Eyring's formula; arrivals are rounded to samples, as in the paper. Simulating a room takes far longer than
using it, so clips draw from ``rooms`` rooms, which follow from their numbers alone.

``recorded``: the responses in the folder ``path``.

A response begins with its direct sound, so that a clip stays where it was; what rings on past the clip's end is cut.
The clip keeps its level: root mean square over what is given. Whoever wants nothing beyond full scale mixes a
background afterwards, which scales down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.signal import lfilter
from torch import Tensor

from foley.audio.decode import decode
from foley.augment.protocol import Draws, check_probability
from foley.runtime.seeds import derive

SPEED_OF_SOUND_M_S = 343.0
# No source or microphone stands nearer to a wall than this, nor the two to each other.
CLEARANCE_M = 0.5
# What arrives so soon after the direct sound counts as direct where the ratio of the two is measured (ISO 3382-1
# speaks of clarity instead; 2.5 ms is usual for direct-to-reverberant ratios).
DIRECT_S = 0.0025
RECORDED_SUFFIXES = frozenset([".wav", ".flac", ".ogg", ".aif", ".aiff"])


@dataclass(frozen=True)
class ReverbOptions:
    """``method``: see the module. ``probability``: that a clip is put into a room at all.

    ``rt60_min_s`` to ``rt60_max_s``: reverberation time, uniform (stochastic, image_source).
    ``drr_min_db`` to ``drr_max_db``: direct-to-reverberant ratio, uniform in dB (stochastic).
    ``room_min_m`` to ``room_max_m``: length, width and height, uniform (image_source); ``rooms``: how many.
    ``path``: a folder of recorded responses (recorded). ``sample_rate_hz``: of the clips.
    """

    method: Literal["stochastic", "image_source", "recorded"] = "stochastic"
    probability: float = 0.5
    sample_rate_hz: int = 16_000
    rt60_min_s: float = 0.1
    rt60_max_s: float = 0.6
    drr_min_db: float = -3.0
    drr_max_db: float = 12.0
    room_min_m: tuple[float, float, float] = (3.0, 3.0, 2.4)
    room_max_m: tuple[float, float, float] = (8.0, 6.0, 3.5)
    rooms: int = 64
    path: str | None = None

    def __post_init__(self) -> None:
        check_probability(self.probability)
        if self.sample_rate_hz < 1 or self.rooms < 1:
            raise ValueError("sample_rate_hz and rooms must be positive")
        if not 0 < self.rt60_min_s <= self.rt60_max_s < math.inf:
            raise ValueError("rt60_min_s must be positive and not exceed rt60_max_s")
        if not -math.inf < self.drr_min_db <= self.drr_max_db < math.inf:
            raise ValueError("drr_min_db must not exceed drr_max_db")
        if any(low > high for low, high in zip(self.room_min_m, self.room_max_m, strict=True)):
            raise ValueError("room_min_m must not exceed room_max_m")
        # Between the clearances there must be room for both, a clearance apart.
        if min(self.room_min_m) < 2 * CLEARANCE_M or max(self.room_min_m) < 4 * CLEARANCE_M:
            raise ValueError(
                f"room_min_m must be {2 * CLEARANCE_M} at least, and {4 * CLEARANCE_M} along one side"
            )
        if (self.method == "recorded") != (self.path is not None):
            raise ValueError("path belongs to `method: recorded`, which needs it")


class Reverb:
    """See the module.

    Raises:
        FileNotFoundError: ``path`` holds no responses.
    """

    Options = ReverbOptions

    def __init__(self, options: ReverbOptions | None = None) -> None:
        self.options = options if options is not None else ReverbOptions()
        if self.options.method == "recorded":
            _ = self._recorded  # so that a missing folder is known before the training

    def reach(self, samples: int) -> int:
        """A response is causal; the level is that of what is given."""
        return samples

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] -> [B, T]. Silent clips stay silent."""
        u = draws.streams("reverb").uniform(4).double()
        rows = (u[:, 0] < self.options.probability).nonzero().squeeze(1)
        out = waveforms.clone()
        if len(rows):
            at = rows.to(waveforms.device)
            responses = self._responses(draws.of(rows.tolist()), u[rows, 1:], waveforms.shape[1])
            out[at] = reverberate(waveforms[at], responses.to(waveforms.device))
        return out

    def _responses(self, draws: Draws, u: Tensor, samples: int) -> Tensor:
        """Responses [B, L] with L up to ``samples``."""
        o = self.options
        if o.method == "stochastic":
            rt60_s = o.rt60_min_s + (o.rt60_max_s - o.rt60_min_s) * u[:, 0]
            drr_db = o.drr_min_db + (o.drr_max_db - o.drr_min_db) * u[:, 1]
            length = min(samples, math.ceil(o.rt60_max_s * o.sample_rate_hz))
            # As many numbers as the longest response takes, so that a clip's are the same whatever its width.
            noise = draws.streams("reverb", "tail").normal(math.ceil(o.rt60_max_s * o.sample_rate_hz))
            return stochastic_response(noise, rt60_s, drr_db, o.sample_rate_hz)[:, :length]
        if o.method == "image_source":
            chosen = [self._room(number) for number in (u[:, 0] * o.rooms).long().tolist()]
        else:
            chosen = [self._recorded[number] for number in (u[:, 0] * len(self._recorded)).long().tolist()]
        return torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)[:, :samples]

    def _room(self, number: int) -> Tensor:
        """The response [L] of a room, computed when it is first asked for."""
        if number not in self._rooms:
            self._rooms[number] = draw_room(self.options, number)
        return self._rooms[number]

    @cached_property
    def _rooms(self) -> dict[int, Tensor]:
        return {}

    @cached_property
    def _recorded(self) -> list[Tensor]:
        folder = Path(self.options.path or "").expanduser()
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in RECORDED_SUFFIXES)
        if not paths:
            raise FileNotFoundError(
                f"no impulse responses ({', '.join(sorted(RECORDED_SUFFIXES))}) in the folder `{folder}`"
            )
        responses = []
        for path in paths:
            samples = torch.from_numpy(np.array(decode(path, self.options.sample_rate_hz).samples))
            responses.append(samples[int(samples.abs().argmax()) :])
        return responses


def reverberate(waveforms: Tensor, responses: Tensor) -> Tensor:
    """Clips [B, T] convolved with responses [B, L], cut to [B, T] and brought back to each clip's level."""
    samples = waveforms.shape[1]
    size = next_fast_len(samples + responses.shape[1] - 1, real=True)
    wet = torch.fft.irfft(torch.fft.rfft(waveforms, size) * torch.fft.rfft(responses, size), size)[
        :, :samples
    ]
    before, after = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (waveforms, wet))
    gain = torch.where(after > 0, before / after.clamp(min=torch.finfo(wet.dtype).tiny), 0.0)
    return wet * gain


def stochastic_response(noise: Tensor, rt60_s: Tensor, drr_db: Tensor, sample_rate_hz: int) -> Tensor:
    """Standard normal numbers [B, L], reverberation times [B] and direct-to-reverberant ratios [B] -> responses [B, L].

    The direct sound is 1 and first; the tail begins ``DIRECT_S`` later, falls by 60 dB in the reverberation time,
    where it ends, and has the energy that the ratio says.
    """
    samples = noise.shape[1]
    first = math.ceil(DIRECT_S * sample_rate_hz)
    number = torch.arange(samples, device=noise.device)
    ends = (rt60_s.double() * sample_rate_hz).unsqueeze(1)
    rate = (-3 * math.log(10) / ends).to(noise.dtype)
    response = (rate * number).exp_().mul_(noise).masked_fill_(number > ends, 0.0)
    response[:, :first] = 0.0
    norm = torch.linalg.vector_norm(response, dim=1, keepdim=True).clamp(min=torch.finfo(noise.dtype).tiny)
    response.mul_(10 ** (-drr_db.to(noise.dtype).unsqueeze(1) / 20) / norm)
    response[:, 0] = 1.0
    return response


def draw_room(options: ReverbOptions, number: int) -> Tensor:
    """The response [L] of room ``number``, beginning with the direct sound, which is 1."""
    rng = np.random.default_rng(derive(0, "reverb", "room", number))
    size = rng.uniform(options.room_min_m, options.room_max_m)
    rt60_s = rng.uniform(options.rt60_min_s, options.rt60_max_s)
    while True:
        source, microphone = rng.uniform(CLEARANCE_M, size - CLEARANCE_M, (2, 3))
        distance = float(np.linalg.norm(source - microphone))
        if distance >= CLEARANCE_M:
            break
    samples = math.ceil(rt60_s * options.sample_rate_hz)
    direct = round(distance / SPEED_OF_SOUND_M_S * options.sample_rate_hz)
    response = image_source_response(
        size, source, microphone, reflection(size, rt60_s), samples + direct, options.sample_rate_hz
    )[direct:]
    response = high_pass(response / response[0], options.sample_rate_hz)
    return torch.from_numpy(response.astype(np.float32))


def high_pass(response: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The paper's high-pass at 100 Hz (in its program): all reflections have one sign, so they add up to an offset that
    real rooms lack, and that rings longer than the formula says."""
    angle = 2 * math.pi * 100 / sample_rate_hz
    radius = math.exp(-angle)
    return lfilter([1, -1 - radius, radius], [1, -2 * radius * math.cos(angle), radius**2], response)


def reflection(size_m: np.ndarray, rt60_s: float) -> float:
    """The walls' reflection coefficient (of pressure) with which a room of ``size_m`` [3] has a reverberation time, by
    Eyring's formula: RT60 = 24 ln 10 V / (-c S ln(1 - α)), with 1 - α = β²."""
    length, width, height = size_m
    volume, surface = length * width * height, 2 * (length * width + length * height + width * height)
    return math.exp(-12 * math.log(10) * volume / (SPEED_OF_SOUND_M_S * surface * rt60_s))


def image_source_response(
    size_m: np.ndarray,
    source_m: np.ndarray,
    microphone_m: np.ndarray,
    reflection: float,
    samples: int,
    sample_rate_hz: int,
) -> np.ndarray:
    """A shoebox room's response [samples] (Allen & Berkley 1979, equation 10): all images whose sound arrives in time.

    Args:
        size_m, source_m, microphone_m: [3] each. reflection: of all walls, of pressure.
    """
    reach_m = samples / sample_rate_hz * SPEED_OF_SOUND_M_S
    # Along each axis: an image's distance from the microphone, and how often its sound met a wall.
    offsets, bounces = [], []
    for size, source, microphone in zip(size_m, source_m, microphone_m, strict=True):
        order = math.ceil(reach_m / (2 * size)) + 1
        n = np.arange(-order, order + 1)
        offsets.append(np.concatenate([2 * n * size + source, 2 * n * size - source]) - microphone)
        # Mirrored images (the second half) met one wall less or more on one side: |n - 1| + |n|.
        bounces.append(np.concatenate([2 * np.abs(n), np.abs(n - 1) + np.abs(n)]))
    response = np.zeros(samples)
    # A slice of the room's images at a time, so that memory stays small.
    across = offsets[1][:, None] ** 2 + offsets[2][None, :] ** 2
    met = bounces[1][:, None] + bounces[2][None, :]
    for x, hits in zip(offsets[0], bounces[0], strict=True):
        distance = np.sqrt(across + x * x)
        arrival = np.rint(distance / SPEED_OF_SOUND_M_S * sample_rate_hz).astype(np.int64)
        heard = arrival < samples
        gain = reflection ** (met[heard] + hits) / (4 * math.pi * distance[heard])
        response += np.bincount(arrival[heard], gain, minlength=samples)
    return response
