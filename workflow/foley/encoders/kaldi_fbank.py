"""Kaldi's log-mel filter banks in batches: the front end of AST and SSAST.

Steps and constants are those of ``torchaudio.compliance.kaldi.fbank`` with ``window_type="hanning"`` and without
dither, which takes one clip at a time (https://kaldi-asr.org/doc/feat.html): frames of 25 ms every 10 ms that lie
wholly in the clip; in each the mean is taken off, pre-emphasis 0.97, a symmetric Hann window, the power spectrum of
512 points, triangles that are straight in mel from 20 Hz to half the sample rate, and the logarithm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks

FRAME_S, HOP_S = 0.025, 0.010
LOW_HZ = 20.0
PRE_EMPHASIS = 0.97


class KaldiFbank(nn.Module):
    """Waveforms [B, T] float32 in [-1, 1] -> log-mel energies [B, frames, mels].

    There are 1 + (T - frame_samples) // hop_samples frames; what is left behind the last one is not used.
    """

    window: Tensor
    banks: Tensor

    def __init__(self, mels: int = 128, sample_rate_hz: int = 16_000) -> None:
        super().__init__()
        self.frame_samples = round(FRAME_S * sample_rate_hz)
        self.hop_samples = round(HOP_S * sample_rate_hz)
        self.n_fft = 1 << (self.frame_samples - 1).bit_length()
        # In float32, as the published networks saw them: a narrow filter's small weights are off by 0.1 % there.
        banks, _ = get_mel_banks(mels, self.n_fft, float(sample_rate_hz), LOW_HZ, 0.0, 100.0, -500.0, 1.0)
        banks = nn.functional.pad(banks, (0, 1))  # none takes the highest bin
        # Fixed by definition, so no part of the state dict.
        self.register_buffer(
            "window", torch.hann_window(self.frame_samples, periodic=False), persistent=False
        )
        self.register_buffer("banks", banks.T.contiguous(), persistent=False)

    def samples(self, frames: int) -> int:
        """How many samples make so many frames."""
        return (frames - 1) * self.hop_samples + self.frame_samples

    def forward(self, waveforms: Tensor) -> Tensor:
        if waveforms.device.type == "cpu" and len(waveforms) > 1:
            # A clip at a time stays in the cache.
            return torch.cat([self._energies(clip) for clip in waveforms.split(1)])
        return self._energies(waveforms)

    def _energies(self, waveforms: Tensor) -> Tensor:
        frames = waveforms.unfold(1, self.frame_samples, self.hop_samples)
        frames = frames - frames.mean(dim=2, keepdim=True)
        # Kaldi lets a frame's first sample stand for the one before it.
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        spectrum = torch.fft.rfft((frames - PRE_EMPHASIS * before) * self.window, n=self.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ self.banks).clamp_(min=torch.finfo(torch.float32).eps).log_()
