"""Log-mel frames of a whole clip: what a neuralogram network that is trained from scratch reads.

The numbers are those of `LogMel` (YAMNet's front end), but frames run through the clip, centred like all frames of
`foley.features.frames`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from foley.features.frames import FrameFeature, check_hop, power_spectrum


@dataclass(frozen=True)
class LogMelFramesOptions:
    """Parameters of the spectrogram; frequencies in Hz."""

    sample_rate_hz: int = 16_000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 64
    f_min_hz: float = 125.0
    f_max_hz: float = 7500.0
    log_offset: float = 0.01

    def __post_init__(self) -> None:
        check_hop(self.sample_rate_hz, self.hop_length)
        if not 2 < self.win_length <= self.n_fft or self.hop_length > self.n_fft:
            raise ValueError("win_length and hop_length must not exceed n_fft")
        if not 0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2 or self.log_offset <= 0:
            raise ValueError("mel bands must fit the sample rate, and log_offset be positive")


class LogMelFrames(FrameFeature):
    """Waveforms [B, T] -> log(mel + offset) [B, frames, n_mels]."""

    Options = LogMelFramesOptions
    window: Tensor
    banks: Tensor

    def __init__(self, options: LogMelFramesOptions | None = None) -> None:
        super().__init__()
        self.options = o = options if options is not None else LogMelFramesOptions()
        self.sample_rate_hz, self.hop, self.dim = o.sample_rate_hz, o.hop_length, o.n_mels
        self.register_buffer("window", torch.hann_window(o.win_length))
        banks = melscale_fbanks(o.n_fft // 2 + 1, o.f_min_hz, o.f_max_hz, o.n_mels, o.sample_rate_hz)
        self.register_buffer("banks", banks)

    def forward(self, waveforms: Tensor) -> Tensor:
        o = self.options
        magnitude = power_spectrum(waveforms, self.window, o.n_fft, o.hop_length).sqrt_()
        return (magnitude @ self.banks + o.log_offset).log_()
