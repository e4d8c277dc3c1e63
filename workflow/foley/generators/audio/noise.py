"""A control: coloured noise of a random spectrum, whatever the prompt says. It must not help any classifier.

Its labels mean nothing, so a study in which it gains something measures something else, such as the larger number of
training steps. Noise is drawn in the frequency domain: a random power law (-6 to +6 dB an octave around white) times a
smooth random envelope over bands of an octave, at random loudness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foley.generators.audio.prompted import PretrainedGenerator, PromptedOptions, streams, versions_of

# Of the loudest and quietest clip, in dB of full scale (root mean square).
LOUDEST_DB, QUIETEST_DB = -14.0, -34.0
# Standard deviation of the level of an octave, dB.
BAND_DB = 6.0
LOWEST_HZ = 31.25


@dataclass(frozen=True, kw_only=True)
class NoiseOptions(PromptedOptions):
    """Of the clips; nothing is learnt."""

    sample_rate_hz: int = 16_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_rate_hz < 1000:
            raise ValueError(f"sample_rate_hz {self.sample_rate_hz} must be at least 1000")


class Noise(PretrainedGenerator):
    """Coloured noise; prompts are not read."""

    Options = NoiseOptions

    @property
    def sample_rate_hz(self) -> int:
        return self.options.sample_rate_hz

    @property
    def model_id(self) -> str:
        return "noise"

    @property
    def model_revision(self) -> str | None:
        return None

    def identity(self) -> dict[str, Any]:
        return {"versions": versions_of("torch")}

    def facts(self) -> dict[str, Any]:
        return {}

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [0] * len(prompts)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], duration_s: float) -> Tensor:
        samples = round(duration_s * self.sample_rate_hz)
        return torch.stack([self._clip(stream, samples) for stream in streams(seeds)])[:, None]

    def _clip(self, stream: torch.Generator, samples: int) -> Tensor:
        """[T], clip by clip, since a transform of one clip does not depend on the others."""
        frequency = torch.fft.rfftfreq(samples, 1 / self.sample_rate_hz).clamp_min(LOWEST_HZ)
        octave = torch.log2(frequency / LOWEST_HZ)
        slope_db, loudness = torch.rand(2, generator=stream).tolist()
        bands = BAND_DB * torch.randn(math.ceil(float(octave[-1])) + 2, generator=stream)
        low = octave.floor().long()
        envelope_db = torch.lerp(bands[low], bands[low + 1], octave - low)
        # -6 to +6 dB an octave, of which +-6 are a factor of two in amplitude.
        level = 10 ** ((envelope_db + (12 * slope_db - 6) * (octave - octave[-1] / 2)) / 20)
        spectrum = level * torch.complex(
            torch.randn(len(frequency), generator=stream), torch.randn(len(frequency), generator=stream)
        )
        spectrum[0] = 0  # no direct current
        clip = torch.fft.irfft(spectrum, n=samples)
        wanted = 10 ** ((QUIETEST_DB + (LOUDEST_DB - QUIETEST_DB) * loudness) / 20)
        return clip * (wanted / clip.square().mean().sqrt())
