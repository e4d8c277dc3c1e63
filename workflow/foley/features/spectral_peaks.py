"""Binary spectral peaks: where in frequency a frame has its peaks, and nothing of how high they are (pitch).

Verma, Diverse Audio Embeddings (arXiv 2309.08751) describes binary peaks of the spectrum as the representation of
pitch. Its text was not at hand here beyond what PROTOCOLS says (peaks, binary, one-second chunks), so window, hop,
number of bins and what counts as a peak are ours and options. The rule is the plain one of sinusoidal analysis (Smith &
Serra 1987, PARSHL): a bin above both neighbours, within ``range_db`` of the frame's highest bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foley.features.frames import FrameFeature, check_hop, power_spectrum


@dataclass(frozen=True)
class SpectralPeaksOptions:
    """Parameters of the peaks.

    range_db: peaks this far below the highest bin of their frame count; lower ones are noise.
    floor_db: nothing below counts, in dB re the power of a full-scale sine in its bin.
    max_peaks: of a frame, the highest ones; 0 for all.
    """

    sample_rate_hz: int = 16_000
    n_fft: int = 1024
    win_length: int = 1024
    hop_length: int = 160
    range_db: float = 60.0
    floor_db: float = -90.0
    max_peaks: int = 0

    def __post_init__(self) -> None:
        check_hop(self.sample_rate_hz, self.hop_length)
        if not 2 < self.win_length <= self.n_fft or self.hop_length > self.n_fft:
            raise ValueError("win_length and hop_length must not exceed n_fft")
        if self.range_db <= 0 or self.floor_db >= 0 or self.max_peaks < 0:
            raise ValueError("range_db must be positive, floor_db negative, max_peaks not negative")


class SpectralPeaks(FrameFeature):
    """Waveforms [B, T] -> 1 where the spectrum has a peak, else 0: [B, frames, n_fft // 2 + 1]."""

    Options = SpectralPeaksOptions
    storage = "bit"
    standardise = False
    window: Tensor

    def __init__(self, options: SpectralPeaksOptions | None = None) -> None:
        super().__init__()
        self.options = o = options if options is not None else SpectralPeaksOptions()
        self.sample_rate_hz, self.hop, self.dim = o.sample_rate_hz, o.hop_length, o.n_fft // 2 + 1
        window = torch.hann_window(o.win_length)
        self.register_buffer("window", window)
        # A sine of full scale has the power (sum of the window / 2)^2 in its bin.
        self.floor = float(window.sum() / 2) ** 2 * 10 ** (o.floor_db / 10)

    def forward(self, waveforms: Tensor) -> Tensor:
        o = self.options
        power = power_spectrum(waveforms, self.window, o.n_fft, o.hop_length)
        lowest = (power.amax(dim=2, keepdim=True) * 10 ** (-o.range_db / 10)).clamp_min(self.floor)
        middle = power[..., 1:-1]
        # Of two equal neighbours the lower one counts, so that a flat top has one peak.
        peak = (middle > power[..., :-2]) & (middle >= power[..., 2:]) & (middle >= lowest)
        if o.max_peaks:
            heights = middle.where(peak, 0.0)
            rank = heights.topk(min(o.max_peaks, heights.shape[-1]), dim=2)
            kept = torch.zeros_like(peak).scatter_(2, rank.indices, True)
            peak &= kept
        out = torch.zeros_like(power)
        out[..., 1:-1] = peak
        return out
