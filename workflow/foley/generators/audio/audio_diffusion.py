"""Unconditional checkpoints of the audio-diffusion library, such as ``teticio/audio-diffusion-ddim-256``.

Trained by others on mel images (R. D. Smith, github.com/teticio/audio-diffusion): 256 x 256 cells of 22,050 Hz audio,
n_fft 2048, hop 512, 80 dB, 5.9 s. They know no classes, so no clip of a class can be asked of them; what lies between
two clips of a class they can tell (study ``interpolation``). That library rounds images to 8 bits; here they keep their
precision.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foley.download.http import is_offline
from foley.generators.audio.mel import MelOptions
from foley.generators.audio.mel_diffusion import MelDiffusion, MelDiffusionOptions, read_unet
from foley.generators.audio.prompted import folder_of
from foley.generators.audio.protocol import LabelledClips
from foley.generators.audio.published import pinned
from foley.training.checkpoint import Checkpoint

# Of a repository that may hold a demo and weights in several formats.
FILES = ("model_index.json", "mel/*", "scheduler/*", "unet/config.json", "unet/diffusion_pytorch_model.*")


@dataclass(frozen=True)
class AudioDiffusionOptions:
    """Which checkpoint.

    Args:
        model: a folder, downloaded whole, or an id of the Hugging Face hub.
        revision: commit of a hub id.
    """

    model: str = ""
    revision: str | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model must be a folder or a hub id, such as teticio/audio-diffusion-ddim-256")
        if not Path(self.model).expanduser().is_dir():
            pinned(self.model, self.revision)


class AudioDiffusion(MelDiffusion):
    """See the module.

    Args:
        seed: of no concern; nothing is trained.

    Raises:
        FileNotFoundError: no such model, or a part of it is missing.
        ValueError: a latent model (it has a ``vqvae``), or one whose parts do not fit together.
    """

    Options: ClassVar[type] = AudioDiffusionOptions
    name = "audio_diffusion"

    def __init__(self, options: AudioDiffusionOptions, seed: int = 0) -> None:
        folder, _ = folder_of(options.model, options.revision, _fetch)
        settings, network = _read(folder)
        super().__init__(settings, seed)
        self.network = network.to(self.device).eval()

    def fit(self, data: LabelledClips, *, checkpoint: Checkpoint | None = None) -> None:
        """Raises ValueError: it is trained already, and knows no classes."""
        raise ValueError(
            f"a generator of kind `{self.name}` is not trained here; take its checkpoint as it is, or `mel_diffusion`"
        )


def _fetch(model: str, commit: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(model, revision=commit, allow_patterns=list(FILES), local_files_only=is_offline())
    )


def _read(folder: Path) -> tuple[MelDiffusionOptions, Any]:
    """Settings and network of a checkpoint."""
    if (folder / "vqvae").exists():
        raise ValueError(
            f"{folder} is a latent model (it has a vqvae); only models on mel images can be read"
        )
    for part in ("unet/config.json", "scheduler/scheduler_config.json", "mel/mel_config.json"):
        if not (folder / part).is_file():
            raise FileNotFoundError(f"{folder} lacks {part}; download the whole checkpoint")
    mel = json.loads((folder / "mel" / "mel_config.json").read_text())
    schedule = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    if schedule.get("beta_schedule", "linear") != "linear" or schedule.get("trained_betas") is not None:
        raise ValueError(f"{folder}: its noise schedule is not linear, which is all that can be read")
    if schedule.get("prediction_type", "epsilon") != "epsilon":
        raise ValueError(f"{folder}: its network predicts {schedule['prediction_type']}, not noise")
    # Those on the hub have weights in the older format.
    safe = (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    network = read_unet(folder / "unet", use_safetensors=safe)
    config = network.config
    if config.in_channels != 1 or network.class_embedding is not None:
        raise ValueError(f"{folder}: expected an unconditional network on images of one channel")
    settings = MelDiffusionOptions(
        # What a checkpoint leaves out is as the library has it.
        mel=MelOptions(
            sample_rate_hz=int(mel.get("sample_rate", 22_050)),
            n_fft=int(mel.get("n_fft", 2048)),
            hop_length=int(mel.get("hop_length", 512)),
            n_mels=int(mel.get("y_res", 256)),
            frames=int(mel.get("x_res", 256)),
            top_db=float(mel.get("top_db", 80)),
            griffin_lim_iterations=int(mel.get("n_iter", 32)),
        ),
        channels=tuple(config.block_out_channels),
        layers_per_block=int(config.layers_per_block),
        norm_groups=int(config.norm_num_groups),
        attention_head_dim=int(config.attention_head_dim or 1),
        train_steps=int(schedule.get("num_train_timesteps", 1000)),
        beta_start=float(schedule.get("beta_start", 1e-4)),
        beta_end=float(schedule.get("beta_end", 0.02)),
        class_dropout=0.0,
        # Such images are 16 times those of the default model.
        sampling_batch=16,
    )
    return settings, network
