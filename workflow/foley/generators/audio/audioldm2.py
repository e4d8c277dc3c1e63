"""AudioLDM 2: sounds and music from sentences, at 16 kHz.

Source: H. Liu et al., "AudioLDM 2: learning holistic audio generation with self-supervised pretraining", IEEE/ACM TASLP
2024 (arXiv 2308.05734). Latent diffusion, conditioned on a T5 encoding and on what a GPT-2 makes of T5 and CLAP.

**Candidates.** The library's ``num_waveforms_per_prompt`` ranks by CLAP without saying so, and among the clips of all
prompts of a batch, so that a prompt may get another one's clip. Here the clips of each prompt are ranked among
themselves, by the CLAP that the pipeline holds; rank, number and similarity are recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foley.audio.decode import resample
from foley.generators.audio.diffusers_pipelines import PipelineGenerator, PipelineOptions

_SCORED_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class AudioLDM2Options(PipelineOptions):
    """The model and steps of the study (PROTOCOLS.md, section 5).

    candidates: clips that are drawn for each prompt and seed, of which the one nearest to the prompt by CLAP stays.
    """

    model: str = "cvssp/audioldm2-large"
    candidates: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise ValueError(f"candidates {self.candidates} must be at least 1")


class AudioLDM2(PipelineGenerator):
    """AudioLDM 2, loaded."""

    Options = AudioLDM2Options
    options: AudioLDM2Options
    kind = "AudioLDM2Pipeline"
    network = "unet"

    def parts(self, folder: Path) -> dict[str, Any]:
        from transformers import GPT2LMHeadModel

        # Published checkpoints name GPT2Model, which transformers 5 gives no `generate`; the weights are the same.
        return {
            "language_model": GPT2LMHeadModel.from_pretrained(
                folder / "language_model", dtype=self._dtype, local_files_only=True
            )
        }

    @property
    def sample_rate_hz(self) -> int:
        return int(self._pipeline.vocoder.config.sampling_rate)

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of T5. GPT-2 counts padded ones as positions, so that what it makes depends on them."""
        tokenizer = self._pipeline.tokenizer_2
        most = tokenizer.model_max_length
        return [len(tokenizer(prompt, truncation=True, max_length=most).input_ids) for prompt in prompts]

    def run(self, duration_s: float, **how: Any) -> Tensor:
        return self._pipeline(audio_length_in_s=duration_s, **how).audios

    def candidates(self) -> int:
        return self.options.candidates

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], audio: Tensor) -> list[float]:
        """Cosine of each clip [N, C, T] and its prompt in CLAP's space; of longer clips the first 10 s are heard."""
        pipeline = self._pipeline
        front_end, clap = pipeline.feature_extractor, pipeline.text_encoder
        found: list[float] = []
        for start in range(0, len(prompts), _SCORED_AT_ONCE):
            part = slice(start, start + _SCORED_AT_ONCE)
            clips = [
                # Cut here, since the front end would cut longer clips at random.
                resample(np.ascontiguousarray(clip), self.sample_rate_hz, front_end.sampling_rate)[
                    : front_end.nb_max_samples
                ]
                for clip in audio[part].mean(1).numpy()
            ]
            heard = front_end(clips, sampling_rate=front_end.sampling_rate, return_tensors="pt")
            read = pipeline.tokenizer(
                list(prompts[part]), padding="max_length", truncation=True, return_tensors="pt",
                max_length=pipeline.tokenizer.model_max_length,
            )  # fmt: skip
            of_audio = clap.get_audio_features(
                input_features=heard["input_features"].to(self.device, self._dtype),
                is_longer=torch.zeros(len(clips), 1, dtype=torch.bool, device=self.device),
            ).pooler_output
            of_text = clap.get_text_features(
                input_ids=read["input_ids"].to(self.device),
                attention_mask=read["attention_mask"].to(self.device),
            ).pooler_output
            found += torch.cosine_similarity(of_audio.float(), of_text.float()).tolist()
        return found
