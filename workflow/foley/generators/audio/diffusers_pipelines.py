"""Text-to-audio pipelines of diffusers: what AudioLDM, AudioLDM 2 and Stable Audio Open share.

diffusers loads and generates; around it stand here: the pinned snapshot, a stream of random numbers for each clip,
batches, and errors that say what to do.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from foley.download.http import is_offline
from foley.generators.audio.prompted import (
    Precision,
    PretrainedGenerator,
    PromptedOptions,
    check_files,
    content_of,
    dtype_of,
    first_line,
    folder_of,
    streams,
    versions_of,
    without_bars,
)

log = logging.getLogger(__name__)

INDEX = "model_index.json"


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(PromptedOptions):
    """How a pipeline samples.

    model: hub id, or folder as `save_pretrained` writes it.
    revision: commit of a hub id; None takes the one pinned in `published.py`.
    steps: of denoising.
    guidance: scale of classifier-free guidance; 1 is none.
    negative_prompt: what to lead away from.
    precision: ``auto`` is float16 on CUDA and float32 on the CPU.
    compile: compile the denoising network. It pays after some hundred clips of one length; each other number of clips
        in a batch compiles anew.
    """

    model: str
    revision: str | None = None
    steps: int = 50
    guidance: float = 3.5
    negative_prompt: str | None = None
    precision: Precision = "auto"
    compile: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.guidance < 0:
            raise ValueError(
                f"steps {self.steps} must be at least 1, guidance {self.guidance:g} not negative"
            )


class PipelineGenerator(PretrainedGenerator):
    """A pipeline of diffusers, loaded."""

    options: PipelineOptions
    kind: str  # of diffusers
    network: str  # the part that denoises

    def __init__(self, options: PipelineOptions) -> None:
        super().__init__(options)
        import diffusers

        without_bars()
        self._dtype = dtype_of(options.precision, self.device, torch.float16)
        kind: Any = getattr(diffusers, self.kind)

        def fetch(model: str, commit: str) -> Path:
            return Path(kind.download(model, revision=commit, local_files_only=is_offline()))

        self._folder, self._commit = folder_of(options.model, options.revision, fetch)
        check_files(options.model, self._folder, INDEX)
        try:
            pipeline = kind.from_pretrained(
                self._folder, dtype=self._dtype, local_files_only=True, **self.parts(self._folder)
            )
        except (
            OSError,
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
            UnpicklingError,
            SafetensorError,
        ) as error:
            raise ValueError(
                f"model {options.model!r} is no whole {self.kind} of diffusers: {first_line(error)}"
            ) from error
        self._pipeline = pipeline.to(self.device)
        self._pipeline.set_progress_bar_config(disable=True)
        if options.compile:
            getattr(self._pipeline, self.network).compile()

    def parts(self, folder: Path) -> dict[str, Any]:
        """Parts that are loaded in another way than diffusers would."""
        return {}

    def identity(self) -> dict[str, Any]:
        """What clips depend on beside prompt, seed, duration and options."""
        return {
            "weights": content_of(self._folder, self._commit, ("*.json", "*/*")),
            "dtype": str(self._dtype),
            "device": self.device.type,
            "versions": versions_of("torch", "diffusers", "transformers"),
        }

    def facts(self) -> dict[str, Any]:
        sampler = type(self._pipeline.scheduler).__name__.removesuffix("Scheduler")
        return {"sampler": sampler, "steps": self.options.steps, "guidance": self.options.guidance}

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        # Most pipelines pad each prompt to one length, whatever the others.
        return [0] * len(prompts)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> Tensor:
        negative = self.options.negative_prompt
        audio = self.run(
            duration_s,
            prompt=list(prompts),
            negative_prompt=None if negative is None else [negative] * len(prompts),
            num_inference_steps=self.options.steps,
            guidance_scale=self.options.guidance,
            generator=streams(seeds),
            output_type="pt",
        )
        return audio[:, None] if audio.ndim == 2 else audio

    @abstractmethod
    def run(self, duration_s: float, **how: Any) -> Tensor:
        """What the pipeline makes: [N, T] or [N, C, T]."""
