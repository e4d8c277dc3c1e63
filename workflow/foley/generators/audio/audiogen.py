"""AudioGen: sounds from sentences, at 16 kHz (see `audiocraft_models.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from foley.generators.audio.audiocraft_models import AudioCraftGenerator, AudioCraftOptions


@dataclass(frozen=True, kw_only=True)
class AudioGenOptions(AudioCraftOptions):
    """The model of the study (PROTOCOLS.md, section 5), which was trained on clips of 10 s."""

    model: str = "facebook/audiogen-medium"


class AudioGen(AudioCraftGenerator):
    """AudioGen, loaded."""

    Options = AudioGenOptions
    kind = "AudioGen"
