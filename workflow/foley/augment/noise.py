"""White or pink noise, made on the spot, at a drawn signal-to-noise ratio, in dB.

It is mixed as recorded backgrounds are (``augment/background.py``): measured where the clip is active, as a short sound
in a long silence would otherwise drown at a ratio that says it does not, and scaled down with the clip rather than
clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foley.augment.background import active_samples, mix_background
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
    """See the module."""

    Options = NoiseOptions

    def __init__(self, options: NoiseOptions | None = None) -> None:
        self.options = options if options is not None else NoiseOptions()

    def reach(self, samples: int) -> int:
        return samples

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] -> [B, T]. Silent clips stay as they are: no noise has a ratio to them."""
        o = self.options
        u = draws.streams("noise").uniform(2)
        active = active_samples(waveforms, o.frame_samples, o.active_range_db)
        rows = ((u[:, 0] < o.probability) & active.any(dim=1).cpu()).nonzero().squeeze(1)
        out = waveforms.clone()
        if len(rows):
            at = rows.to(waveforms.device)
            ratio_db = o.snr_min_db + (o.snr_max_db - o.snr_min_db) * u[rows, 1]
            noise = self._draw(draws.of(rows.tolist()), waveforms.shape[1]).to(waveforms.device)
            mixed = mix_background(waveforms[at], noise, ratio_db.to(waveforms.device), active[at])
            out[at] = mixed.waveforms
        return out

    def _draw(self, draws: Draws, samples: int) -> Tensor:
        """Noise [B, samples] of any power."""
        white = draws.streams("noise", "samples").normal(samples)
        return white if self.options.colour == "white" else _pink(white)


def _pink(white: Tensor) -> Tensor:
    """White noise [B, T] -> power falling as 1/f, without a constant part."""
    spectrum = torch.fft.rfft(white)
    frequency = torch.arange(spectrum.shape[1], dtype=white.dtype, device=white.device)
    scale = frequency.clamp(min=1).rsqrt()
    scale[0] = 0.0
    return torch.fft.irfft(spectrum * scale, n=white.shape[1])
