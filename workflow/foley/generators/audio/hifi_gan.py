"""A neural vocoder, from mel images to audio: HiFi-GAN (Kong et al. 2020) with published weights.

Apart from the mel images themselves, since a model learns those without it: nothing here trains one again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from foley.download.http import is_offline
from foley.generators.audio.mel import MelOptions
from foley.generators.audio.published import pinned

# What AudioLDM's HiFi-GAN was trained on (its vocoder config: 16 kHz, 64 bands up to 8 kHz, n_fft 1024, hop 160);
# 1,024 frames are 10.23 s.
AUDIOLDM_MEL = MelOptions(
    sample_rate_hz=16_000,
    n_fft=1024,
    hop_length=160,
    frames=1024,
    f_max_hz=8000.0,
    power=1,
    top_db=100.0,
    reference="full_scale",
)


def vocoder_differences(
    config: Mapping[str, Any], options: MelOptions, *, n_fft: int, f_min_hz: float, f_max_hz: float
) -> list[str]:
    """In what a HiFi-GAN's mel differs from ``options``, as ``key: its value (not ours)``.

    Args:
        config: its config.json, which says rate, bands and hop.
        n_fft, f_min_hz, f_max_hz: what it doesn't say.
    """
    needed = {
        "sample_rate_hz": (int(config["sampling_rate"]), options.sample_rate_hz),
        "n_mels": (int(config["model_in_dim"]), options.n_mels),
        "hop_length": (math.prod(config["upsample_rates"]), options.hop_length),
        "n_fft": (n_fft, options.n_fft),
        "f_min_hz": (f_min_hz, options.f_min_hz),
        "f_max_hz": (f_max_hz, options.highest_hz),
        "power": (1, options.power),
        "reference": ("full_scale", options.reference),
    }
    return [f"{key}: {theirs} (not {ours})" for key, (theirs, ours) in needed.items() if theirs != ours]


class HifiGan:
    """A neural vocoder: ``SpeechT5HifiGan`` of transformers (AudioLDM's and SpeechT5's are such).

    It takes the logarithm of a magnitude mel: natural for AudioLDM's, base 10 for SpeechT5's. AudioLDM's was trained
    on frames without padding, half a hop from ours. What its files don't say is AudioLDM's by default; SpeechT5's has
    ``log="log10", floor=1e-10, f_min_hz=80, f_max_hz=7600``.

    Args:
        model: a local folder or an id of the Hugging Face hub.
        options: of the mel images that it will be given.
        revision: commit of a hub id.
        subfolder: where in the model it lies, such as ``vocoder``.
        floor: least value that the logarithm is taken of.
        n_fft, f_min_hz, f_max_hz: of the mel that it was trained on.

    Raises:
        FileNotFoundError: no weights or config there, or a hub model that can't be had.
        ValueError: it was trained on another mel than ``options``, a hub id without a commit, or incomplete weights.
    """

    def __init__(
        self,
        model: str | Path,
        options: MelOptions,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        log: Literal["natural", "log10"] = "natural",
        floor: float = 1e-5,
        n_fft: int = 1024,
        f_min_hz: float = 0.0,
        f_max_hz: float = 8000.0,
    ) -> None:
        if log not in ("natural", "log10"):
            raise ValueError(f"log must be `natural` or `log10`, not {log!r}")
        folder = Path(model).expanduser()
        self.name = "/".join(filter(None, [str(model), subfolder]))
        where: dict[str, Any] = {"local_files_only": True}
        if folder.is_dir():
            place = folder / (subfolder or "")
            weights = [place / name for name in ("model.safetensors", "pytorch_model.bin")]
            if not (place / "config.json").is_file() or not any(path.is_file() for path in weights):
                raise FileNotFoundError(
                    f"no vocoder in {place}: it needs config.json and model.safetensors or pytorch_model.bin, for "
                    "example the folder `vocoder` of cvssp/audioldm-m-full"
                )
            source = str(place)
        else:
            commit = pinned(str(model), revision)
            self.name += f"@{commit}"
            source = str(model)
            where = {"revision": commit, "subfolder": subfolder or "", "local_files_only": is_offline()}
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        kind: Any = SpeechT5HifiGan
        try:
            config = SpeechT5HifiGanConfig.from_pretrained(source, **where)
            differences = vocoder_differences(
                config.to_dict(), options, n_fft=n_fft, f_min_hz=f_min_hz, f_max_hz=f_max_hz
            )
            if differences:
                raise ValueError(vocoder_mismatch(self.name, differences))
            network, loading = kind.from_pretrained(source, output_loading_info=True, **where)
        except OSError as error:  # what transformers raises for a missing file as for a missing network
            raise FileNotFoundError(
                f"the vocoder {self.name} can't be loaded: {error}. Give a local folder, or an id of huggingface.co"
            ) from error
        lacking = sorted(loading["missing_keys"])
        if lacking:  # they would stay random numbers
            raise ValueError(
                f"the weights of the vocoder {self.name} lack {len(lacking)} parameters, for example {lacking[0]}; get "
                "the file again"
            )
        self.network = network.eval().requires_grad_(False)
        self.options, self.floor = options, floor
        self.log = torch.log if log == "natural" else torch.log10

    def __call__(self, mel: Tensor, seeds: Sequence[int]) -> Tensor:
        network = self.network.to(mel.device)
        audio = network(self.log(mel.clamp_min(self.floor)).transpose(1, 2))
        return audio.reshape(len(mel), -1)[:, : self.options.samples]


def vocoder_mismatch(name: str, differences: Sequence[str]) -> str:
    """What to tell a user whose generator and vocoder have different mels."""
    return (
        f"the vocoder {name} was trained on another mel than the generator's: {'; '.join(differences)}. Train the "
        "generator on the vocoder's (`options.mel`), or take Griffin-Lim"
    )
