"""Mel-frequency cepstral coefficients frame by frame (timbre).

Davis & Mermelstein 1980: the orthonormal DCT-II of a log-mel spectrum in dB. The study `diverse_embeddings` (arXiv
2309.08751) uses twelve; which twelve could not be verified here, so they are the usual ones, 1 to 12, without the level
(coefficient 0). Mel bands and DCT are librosa's (`librosa.feature.mfcc`, Slaney's scale and area norm).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from foley.features.frames import FrameFeature, check_hop, power_spectrum


@dataclass(frozen=True)
class MFCCOptions:
    """``first`` is the number of the first coefficient that is kept; 0 keeps the level as well."""

    sample_rate_hz: int = 16_000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 40
    f_min_hz: float = 20.0
    f_max_hz: float = 8000.0
    coefficients: int = 12
    first: int = 1
    floor: float = 1e-10

    def __post_init__(self) -> None:
        check_hop(self.sample_rate_hz, self.hop_length)
        if not 2 < self.win_length <= self.n_fft or self.hop_length > self.n_fft:
            raise ValueError("win_length and hop_length must not exceed n_fft")
        if not 0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2:
            raise ValueError(f"mel bands up to {self.f_max_hz} Hz do not fit {self.sample_rate_hz} Hz audio")
        if self.coefficients < 1 or self.first < 0 or self.first + self.coefficients > self.n_mels:
            raise ValueError("first + coefficients must not exceed n_mels")
        if self.floor <= 0:
            raise ValueError("floor must be positive")


class MFCC(FrameFeature):
    """Waveforms [B, T] -> coefficients [B, frames, coefficients]."""

    Options = MFCCOptions
    window: Tensor
    banks: Tensor
    cosines: Tensor

    def __init__(self, options: MFCCOptions | None = None) -> None:
        super().__init__()
        self.options = o = options if options is not None else MFCCOptions()
        self.sample_rate_hz, self.hop, self.dim = o.sample_rate_hz, o.hop_length, o.coefficients
        self.register_buffer("window", torch.hann_window(o.win_length))
        banks = melscale_fbanks(
            *(o.n_fft // 2 + 1, o.f_min_hz, o.f_max_hz, o.n_mels, o.sample_rate_hz),
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("banks", banks)
        band = torch.arange(o.n_mels, dtype=torch.float64) + 0.5
        number = torch.arange(o.first, o.first + o.coefficients, dtype=torch.float64)
        cosines = torch.cos(math.pi / o.n_mels * band[:, None] * number) * math.sqrt(2 / o.n_mels)
        if o.first == 0:
            cosines[:, 0] /= math.sqrt(2)
        self.register_buffer("cosines", cosines.float())

    def forward(self, waveforms: Tensor) -> Tensor:
        o = self.options
        mel = power_spectrum(waveforms, self.window, o.n_fft, o.hop_length) @ self.banks
        return 10 * mel.clamp_min(o.floor).log10() @ self.cosines
