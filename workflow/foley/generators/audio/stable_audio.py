"""Stable Audio Open: sounds and music from sentences, stereo, at 44.1 kHz.

Source: Z. Evans et al., "Stable Audio Open", 2024 (arXiv 2407.14358). A diffusion transformer on the latents of an
autoencoder of waveforms, conditioned on T5 and on the wanted length. It always computes all of its 47 s; what is
longer than the wanted length is cut off. Its weights are gated: accept their licence on the hub first.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from foley.generators.audio.diffusers_pipelines import PipelineGenerator, PipelineOptions


@dataclass(frozen=True, kw_only=True)
class StableAudioOptions(PipelineOptions):
    """Steps and guidance are diffusers' defaults for this model."""

    model: str = "stabilityai/stable-audio-open-1.0"
    steps: int = 100
    guidance: float = 7.0
    batch_size: int = 8


class StableAudio(PipelineGenerator):
    """Stable Audio Open, loaded."""

    Options = StableAudioOptions
    kind = "StableAudioPipeline"
    network = "transformer"

    @property
    def sample_rate_hz(self) -> int:
        return int(self._pipeline.vae.sampling_rate)

    def run(self, duration_s: float, **how: Any) -> Tensor:
        with warnings.catch_warnings():
            # Of each step, that its ends lie outside of the tree by a rounding.
            warnings.filterwarnings("ignore", module="torchsde")
            return self._pipeline(audio_end_in_s=duration_s, **how).audios
