"""Features of any length: a clip becomes frames, and its frames are stored in chunks of one second.

The study `diverse_embeddings` (arXiv 2309.08751) sees a clip as one-second chunks. Frame k of a clip is centred at
k x hop and reads past the edges of its chunk, but never past the clip, whose outside counts as silence. The last chunk
of a clip holds fewer frames; how many is stored with it, so that models can leave padding out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.audio.decode import resample

CHUNK_S = 1.0
# How a number is stored: a bit of a byte, or two bytes of floating point.
Storage = Literal["bit", "float16"]


class FrameFeature(nn.Module, ABC):
    """A feature whose frames follow one another at a fixed rate; a kind has an ``Options`` dataclass.

    Attributes:
        dim: numbers in a frame.
        hop: samples from one frame to the next, a whole part of a chunk.
        storage: how numbers are stored.
        standardise: whether a model should scale each dimension by what its training clips look like.
    """

    Options: ClassVar[type]
    storage: ClassVar[Storage] = "float16"
    standardise: ClassVar[bool] = True
    dim: int
    hop: int
    sample_rate_hz: int

    @property
    def chunk_frames(self) -> int:
        """Frames of a whole chunk."""
        return round(CHUNK_S * self.sample_rate_hz) // self.hop

    @abstractmethod
    def forward(self, waveforms: Tensor) -> Tensor:
        """[B, T] float32 at the feature's rate -> [B, ceil(T / hop), dim]."""

    @torch.inference_mode()
    def extract(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int) -> list[np.ndarray]:
        """Clips [T_i] at any rate -> their frames [F_i, dim] float32, at least one each."""
        parts = [
            np.ascontiguousarray(resample(samples, sample_rate_hz, self.sample_rate_hz), dtype=np.float32)
            for samples in waveforms
        ]
        counts = [max(1, -(-len(part) // self.hop)) for part in parts]
        device = next(self.buffers(), torch.empty(0)).device
        if device.type == "cpu":
            # One clip at a time: its spectrum stays in the cache (see LogMel).
            return [self(torch.from_numpy(_filled(part))[None])[0].numpy() for part in parts]
        longest = max(map(len, parts))
        batch = torch.stack(
            [functional.pad(torch.from_numpy(part), (0, max(1, longest) - len(part))) for part in parts]
        )
        frames = self(batch.to(device)).cpu().numpy()
        return [own[:count] for own, count in zip(frames, counts, strict=True)]

    def facts(self) -> dict[str, Any]:
        """What a reader of the stored chunks needs to know."""
        return frame_facts(self.dim, self.chunk_frames, self.storage, self.standardise)


def frame_facts(dim: int, chunk_frames: int, storage: Storage, standardise: bool) -> dict[str, Any]:
    """Provenance of a FRAMES table."""
    return {"dim": dim, "chunk_frames": chunk_frames, "storage": storage, "standardise": standardise}


def _filled(samples: np.ndarray) -> np.ndarray:
    return samples if len(samples) else np.zeros(1, dtype=np.float32)


def check_hop(sample_rate_hz: int, hop: int) -> None:
    """Raises ValueError unless a chunk is a whole number of hops."""
    samples = round(CHUNK_S * sample_rate_hz)
    if hop < 1 or samples % hop:
        raise ValueError(
            f"a hop of {hop} samples does not divide a chunk of {CHUNK_S:g} s at {sample_rate_hz} Hz "
            f"({samples} samples)"
        )


def power_spectrum(waveforms: Tensor, window: Tensor, n_fft: int, hop: int) -> Tensor:
    """[B, T] -> power [B, ceil(T / hop), n_fft // 2 + 1]; frame k is centred at k x hop, silence lies outside."""
    samples = waveforms.shape[1]
    frames = max(1, -(-samples // hop))
    behind = (frames - 1) * hop + n_fft - n_fft // 2 - samples
    padded = functional.pad(waveforms, (n_fft // 2, max(behind, 0)))
    spectrum = torch.stft(padded, n_fft, hop, len(window), window, center=False, return_complex=True)
    parts = torch.view_as_real(spectrum[:, :, :frames].transpose(1, 2))
    return parts[..., 0].square() + parts[..., 1].square()


def row_bytes(dim: int, storage: Storage) -> int:
    """Bytes of one stored frame."""
    return -(-dim // 8) if storage == "bit" else 2 * dim


def pack(frames: np.ndarray, storage: Storage) -> np.ndarray:
    """Frames [F, dim] -> bytes [F, row_bytes].

    Raises:
        ValueError: numbers that are not finite, or too large for two bytes (65,504).
    """
    if storage == "bit":
        return np.packbits(frames.astype(bool), axis=1)
    with np.errstate(over="ignore"):
        short = np.ascontiguousarray(frames, dtype="<f2")
    if not np.isfinite(short).all():
        raise ValueError(
            "a feature has numbers that are not finite, or too large to be stored (65,504 at most)"
        )
    return short.view(np.uint8).reshape(len(frames), -1)


def unpack(packed: Tensor, dim: int, storage: Storage) -> Tensor:
    """Bytes [..., row_bytes] uint8 -> numbers [..., dim] float32, on the device of ``packed``."""
    if storage == "float16":
        return packed.contiguous().view(torch.float16).float()
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    bits = (packed.unsqueeze(-1) >> shifts) & 1
    return bits.flatten(-2)[..., :dim].float()
