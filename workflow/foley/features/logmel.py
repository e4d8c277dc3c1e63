"""Log-mel spectrograms, in batches, on CPU or GPU.

Defaults are YAMNet's front end as the ZeroDiffusion study uses it (arXiv 2412.03771): 16 kHz, magnitude STFT of
25 ms every 10 ms, 64 mel bands from 125 to 7500 Hz, log(mel + 0.01), the first 4.8 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from foley.audio.decode import resample


@dataclass(frozen=True)
class LogMelOptions:
    """Parameters of a log-mel spectrogram; frequencies in Hz, times in seconds."""

    sample_rate_hz: int = 16_000
    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 64
    f_min_hz: float = 125.0
    f_max_hz: float = 7500.0
    power: float = 1.0
    log_offset: float = 0.01
    window_s: float = 4.8
    max_windows: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"mel bands from {self.f_min_hz} to {self.f_max_hz} Hz do not fit {self.sample_rate_hz} Hz audio"
            )
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} exceeds n_fft {self.n_fft}")
        if self.max_windows < 1 or self.window_s <= 0 or self.log_offset <= 0:
            raise ValueError("max_windows, window_s and log_offset must be positive")


class LogMel(nn.Module):
    """Waveforms -> log-mel windows."""

    Options = LogMelOptions
    window: Tensor
    banks: Tensor

    def __init__(self, options: LogMelOptions | None = None) -> None:
        super().__init__()
        self.options = o = options if options is not None else LogMelOptions()
        self.frames = max(1, round(o.window_s * o.sample_rate_hz / o.hop_length))
        # Just enough samples for that many frames without padding at the edges.
        self.window_samples = (self.frames - 1) * o.hop_length + o.n_fft
        self.register_buffer("window", torch.hann_window(o.win_length))
        banks = melscale_fbanks(o.n_fft // 2 + 1, o.f_min_hz, o.f_max_hz, o.n_mels, o.sample_rate_hz)
        self.register_buffer("banks", banks)

    @property
    def shape(self) -> tuple[int, int]:
        """(frames, mel bands) of one window."""
        return self.frames, self.options.n_mels

    def windows(self, samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
        """One clip [T] at any rate -> its windows [W, window_samples], the last one padded with zeros."""
        o = self.options
        if sample_rate_hz != o.sample_rate_hz:
            samples = resample(samples, sample_rate_hz, o.sample_rate_hz)
        step = self.frames * o.hop_length
        count = min(o.max_windows, max(1, -(-len(samples) // step)))
        if count == 1 and len(samples) >= self.window_samples:
            return samples[None, : self.window_samples]  # no copy
        out = np.zeros((count, self.window_samples), dtype=np.float32)
        for number in range(count):
            part = samples[number * step : number * step + self.window_samples]
            out[number, : len(part)] = part
        return out

    def forward(self, windows: Tensor) -> Tensor:
        """[B, window_samples] float32 -> [B, frames, n_mels]."""
        o = self.options
        spectrum = torch.stft(
            windows, o.n_fft, o.hop_length, o.win_length, self.window, center=False, return_complex=True
        )
        # Not abs(): it guards against overflow, which audio cannot reach, at several times the cost.
        energy = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
        if o.power == 1.0:
            magnitude = energy.sqrt_()
        else:
            magnitude = energy if o.power == 2.0 else energy.pow_(o.power / 2)
        mel = magnitude.transpose(1, 2) @ self.banks
        return (mel + o.log_offset).log_()

    @torch.inference_mode()
    def extract(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
        """Clips [T_i] -> (features [N, frames * n_mels] float32, number of windows of each clip [clips])."""
        if self.banks.device.type != "cpu":
            parts = [self.windows(samples, sample_rate_hz) for samples in waveforms]
            batch = torch.from_numpy(np.concatenate(parts)).to(self.banks.device)
            return self(batch).flatten(1).cpu().numpy(), np.array([len(part) for part in parts])
        # One clip at a time: its spectrum stays in the cache (32 at once take 1.7 times as long).
        parts = [self.windows(samples, sample_rate_hz) for samples in waveforms]
        return np.concatenate([self._on_cpu(part) for part in parts]), np.array([len(p) for p in parts])

    def _on_cpu(self, windows: np.ndarray) -> np.ndarray:
        """`forward` in half the time: [B, window_samples] -> [B, frames * n_mels].

        numpy takes the magnitude of complex numbers several times faster than torch, and of a mel filter bank's
        weights nearly all are zero.
        """
        o = self.options
        spectrum = torch.stft(
            torch.from_numpy(windows),
            *(o.n_fft, o.hop_length, o.win_length, self.window),
            center=False,
            return_complex=True,
        )
        magnitude = np.abs(spectrum.transpose(1, 2).numpy())
        if o.power == 2.0:
            np.square(magnitude, out=magnitude)
        elif o.power != 1.0:
            np.power(magnitude, o.power, out=magnitude)
        mel = self._sparse_banks @ magnitude.reshape(-1, magnitude.shape[-1]).T
        mel += np.float32(o.log_offset)
        np.log(mel, out=mel)
        return np.ascontiguousarray(mel.T).reshape(len(windows), -1)

    @cached_property
    def _sparse_banks(self) -> csr_matrix:
        return csr_matrix(self.banks.T.numpy())
