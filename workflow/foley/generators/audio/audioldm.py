"""AudioLDM: sounds from sentences, at 16 kHz.

Source: H. Liu et al., "AudioLDM: text-to-audio generation with latent diffusion models", ICML 2023 (arXiv 2301.12503).
Latent diffusion on log-mel spectrograms, conditioned on a CLAP embedding of the sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from foley.generators.audio.diffusers_pipelines import PipelineGenerator, PipelineOptions


@dataclass(frozen=True, kw_only=True)
class AudioLDMOptions(PipelineOptions):
    """Steps and guidance are the paper's; diffusers' own default is 10 steps."""

    model: str = "cvssp/audioldm-m-full"
    steps: int = 200
    guidance: float = 2.5


class AudioLDM(PipelineGenerator):
    """AudioLDM, loaded."""

    Options = AudioLDMOptions
    kind = "AudioLDMPipeline"
    network = "unet"

    @property
    def sample_rate_hz(self) -> int:
        return int(self._pipeline.vocoder.config.sampling_rate)

    def run(self, duration_s: float, **how: Any) -> Tensor:
        return self._pipeline(audio_length_in_s=duration_s, **how).audios
