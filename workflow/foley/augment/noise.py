"""Additive noise at a drawn signal-to-noise ratio, in dB.

Signal and noise are measured where the clip is active: a short sound in a long silence would otherwise drown at a
ratio that says it does not. Where the sum leaves [-1, 1] the whole clip is scaled down, which changes no ratio and
clips nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foley.augment.protocol import Draws, check_probability


@dataclass(frozen=True)
class NoiseOptions:
    """``snr_min_db`` to ``snr_max_db``: bounds of the ratio, uniform in dB. ``colour``: white, or pink (power 1/f).

    ``active_range_db``: a frame of ``frame_samples`` is active when its power lies at most this far below the
    loudest frame's. ``probability``: that a clip gets noise at all.
    """

    snr_min_db: float = 3.0
    snr_max_db: float = 30.0
    colour: Literal["white", "pink"] = "white"
    active_range_db: float = 40.0
    frame_samples: int = 512
    probability: float = 0.5

    def __post_init__(self) -> None:
        if self.snr_min_db > self.snr_max_db:
            raise ValueError(f"snr_min_db {self.snr_min_db} exceeds snr_max_db {self.snr_max_db}")
        if self.frame_samples < 1 or self.active_range_db <= 0:
            raise ValueError("frame_samples and active_range_db must be positive")
        check_probability(self.probability)


class Noise:
    """See the module.

    Args:
        recordings: [K, T'] recorded noise to draw from in place of ``colour``: a recording and where it starts, from
            its end it goes on at its beginning.
    """

    Options = NoiseOptions

    def __init__(self, options: NoiseOptions | None = None, recordings: Tensor | None = None) -> None:
        self.options = options if options is not None else NoiseOptions()
        if recordings is not None and (recordings.dim() != 2 or not recordings.numel()):
            raise ValueError(f"recordings of noise must be [K, T], not {list(recordings.shape)}")
        self.recordings = recordings

    def reach(self, samples: int) -> int:
        return samples

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] -> [B, T]. Silent clips stay as they are: no noise has a ratio to them."""
        o = self.options
        u = draws.streams("noise").uniform(2)
        rows = (u[:, 0] < o.probability).nonzero().squeeze(1)
        out = waveforms.clone()
        if len(rows):
            at = rows.to(waveforms.device)
            ratio_db = o.snr_min_db + (o.snr_max_db - o.snr_min_db) * u[rows, 1]
            clean = waveforms[at]
            noise = self._draw(draws.of(rows.tolist()), waveforms.shape[1]).to(waveforms.device)
            active = active_samples(clean, o.frame_samples, o.active_range_db)
            out[at] = add_noise(clean, noise, ratio_db.to(waveforms.device), active)
        return out

    def _draw(self, draws: Draws, samples: int) -> Tensor:
        """Noise [B, samples] of any power."""
        streams = draws.streams("noise", "samples")
        if self.recordings is not None:
            count, length = self.recordings.shape
            u = streams.uniform(2).double()
            which, start = (u[:, 0] * count).long(), (u[:, 1] * length).long()
            places = (start.unsqueeze(1) + torch.arange(samples)) % length
            device = self.recordings.device
            return self.recordings[which.unsqueeze(1).to(device), places.to(device)]
        white = streams.normal(samples)
        return white if self.options.colour == "white" else _pink(white)


def active_samples(waveforms: Tensor, frame_samples: int, range_db: float) -> Tensor:
    """Where clips are active: [B, T] -> bool [B, T]; nowhere in a silent one."""
    batch, samples = waveforms.shape
    frames = -(-samples // frame_samples)
    padded = torch.nn.functional.pad(waveforms.square(), (0, frames * frame_samples - samples))
    energy = padded.view(batch, frames, frame_samples).sum(2)
    lengths = torch.full((frames,), frame_samples, device=waveforms.device)
    lengths[-1] = samples - (frames - 1) * frame_samples
    power = energy / lengths
    active = (power >= power.amax(1, keepdim=True) * 10 ** (-range_db / 10)) & (power > 0)
    return active.repeat_interleave(frame_samples, dim=1)[:, :samples]


def add_noise(waveforms: Tensor, noise: Tensor, ratio_db: Tensor, active: Tensor) -> Tensor:
    """The sum [B, T] of clips and noise, whose powers have the wanted ratios [B] over the ``active`` samples.

    A clip without active samples, or with noise that is silent there, stays as it is. Where the sum exceeds full
    scale, both are scaled down.
    """
    signal_power = (waveforms.square() * active).sum(1, keepdim=True)
    noise_power = (noise.square() * active).sum(1, keepdim=True)
    wanted = signal_power / 10 ** (ratio_db.unsqueeze(1) / 10)
    possible = (signal_power > 0) & (noise_power > 0)
    gain = torch.where(possible, (wanted / noise_power.clamp(min=torch.finfo(noise.dtype).tiny)).sqrt(), 0.0)
    out = waveforms + gain * noise
    peak = out.abs().amax(1, keepdim=True)
    return torch.where(possible, out / peak.clamp(min=1.0), waveforms)


def _pink(white: Tensor) -> Tensor:
    """White noise [B, T] -> power falling as 1/f, without a constant part."""
    spectrum = torch.fft.rfft(white)
    frequency = torch.arange(spectrum.shape[1], dtype=white.dtype, device=white.device)
    scale = frequency.clamp(min=1).rsqrt()
    scale[0] = 0.0
    return torch.fft.irfft(spectrum * scale, n=white.shape[1])
