"""MusicGen: music from sentences, at 32 kHz (see `audiocraft_models.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from foley.generators.audio.audiocraft_models import AudioCraftGenerator, AudioCraftOptions


@dataclass(frozen=True, kw_only=True)
class MusicGenOptions(AudioCraftOptions):
    """The model of the study (PROTOCOLS.md, section 5), which was trained on clips of 30 s."""

    model: str = "facebook/musicgen-medium"
    duration_s: float = 10.0
    extend_stride_s: float = 18.0


class MusicGen(AudioCraftGenerator):
    """MusicGen, loaded."""

    Options = MusicGenOptions
    kind = "MusicGen"
