"""CLAP's audio half as an encoder like any other, for distances, manifolds, diversity and probes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from foley.encoders.clap import ClapEncoder


class ClapAudio:
    """An `AudioEncoder`: clips in, CLAP's embeddings out, of length 1; see `ClapEncoder.embed_audio`.

    Args:
        encoder: CLAP with weights.
    """

    sample_rate_hz: int = ClapEncoder.sample_rate_hz
    min_duration_s: float = 0.0  # a shorter clip than a window is repeated, as the checkpoint says

    def __init__(self, encoder: ClapEncoder) -> None:
        self.name = "clap"
        self.dim = encoder.dim
        self._encoder = encoder

    def embed(self, waveforms: Tensor) -> Tensor:
        """Embed float waveforms [B, T] at 48 kHz in [-1, 1]: float32 [B, dim] on the CPU.

        Raises:
            ValueError: they are no float waveforms [B, T], or not finite.
        """
        if waveforms.ndim != 2 or not waveforms.is_floating_point():
            raise ValueError(
                f"{self.name}: expected float waveforms [B, T] at {self.sample_rate_hz} Hz, "
                f"got {waveforms.dtype} {list(waveforms.shape)}"
            )
        return torch.from_numpy(self._encoder.embed_audio(list(waveforms.float().cpu().numpy())))


def load(weights: str | Path, device: str = "cpu") -> ClapAudio:
    """Load CLAP from a folder in the format of the Hugging Face hub.

    Raises:
        ImportError, FileNotFoundError, ValueError: as `ClapEncoder`.
    """
    return ClapAudio(ClapEncoder(Path(weights).expanduser(), device=device))
