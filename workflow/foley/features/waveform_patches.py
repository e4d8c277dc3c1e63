"""Waveform patches: the samples themselves, cut into frames (end-to-end).

Verma & Berger, Audio Transformers (arXiv 2105.00335), whose front end the study `diverse_embeddings` (arXiv
2309.08751) takes up: patches of raw audio side by side, each seen by a dense layer. We take 25 ms at 16 kHz, 40
patches a second; the patch length of 2309.08751 itself could not be verified here.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, empty
from torch.nn import functional

from foley.features.frames import FrameFeature, check_hop


@dataclass(frozen=True)
class WaveformPatchesOptions:
    """``patch`` in samples; patches do not overlap."""

    sample_rate_hz: int = 16_000
    patch: int = 400

    def __post_init__(self) -> None:
        check_hop(self.sample_rate_hz, self.patch)


class WaveformPatches(FrameFeature):
    """Waveforms [B, T] -> patches [B, frames, patch], the last one filled with zeros."""

    Options = WaveformPatchesOptions

    def __init__(self, options: WaveformPatchesOptions | None = None) -> None:
        super().__init__()
        self.options = o = options if options is not None else WaveformPatchesOptions()
        self.sample_rate_hz, self.hop, self.dim = o.sample_rate_hz, o.patch, o.patch
        self.register_buffer("place", empty(0))  # says on which device patches are cut

    def forward(self, waveforms: Tensor) -> Tensor:
        padded = functional.pad(waveforms, (0, -waveforms.shape[1] % self.hop))
        return padded.unflatten(1, (-1, self.hop))
