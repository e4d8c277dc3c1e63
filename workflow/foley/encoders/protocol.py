"""What every audio encoder with weights offers, so that features, metrics and studies can use any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:  # torch takes a second to import; the protocol itself doesn't need it
    from torch import Tensor


@runtime_checkable
class AudioEncoder(Protocol):
    """Waveforms in, one vector a waveform out.

    Attributes:
        name: Identifies architecture and size in tables, e.g. `efficientat_mn04`.
        sample_rate_hz: The rate `embed` expects; resampling is the caller's job.
        dim: Length D of one embedding.
        min_duration_s: Shorter input is zero-padded to this length before it is encoded.
    """

    name: str
    sample_rate_hz: int
    dim: int
    min_duration_s: float

    def embed(self, waveforms: Tensor) -> Tensor:
        """Embed mono float waveforms [B, T] in [-1, 1]: float32 [B, dim], no gradient, eval mode.

        Row i depends on waveform i alone, not on its neighbours in the batch.
        """
        ...


@runtime_checkable
class WindowEncoder(AudioEncoder, Protocol):
    """An encoder that hears short windows: tables hold a vector of each, and `embed` is their mean."""

    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Embed each window of waveforms [B, T] for itself, in the order of time: float32 [B, W, dim], W at least 1."""
        ...
