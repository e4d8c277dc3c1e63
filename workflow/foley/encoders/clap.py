"""CLAP: audio and text in one space, so that a sound can be compared with a sentence (optional extra `sentence`).

Sources: Y. Wu, K. Chen, T. Zhang, Y. Hui, T. Berg-Kirkpatrick, S. Dubnov, "Large-scale contrastive language-audio
pretraining with feature fusion and keyword-to-caption augmentation", ICASSP 2023 (arXiv 2211.06687): HTSAT for audio,
RoBERTa for text. Model, log-mel front end and tokenizer are those of transformers, from any checkpoint in its format,
such as laion/clap-htsat-unfused. Nothing here is random: the front end's own random crops of long clips and random
choice of a "longer" clip in a batch are not used (see ``ClapEncoder.embed_audio``).
"""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from foley.download.http import is_offline
from foley.training.halving import batches_that_fit
from foley.training.loop import Precision, autocast_dtype, choose_device

log = logging.getLogger(__name__)

# LAION's models were trained on texts cut to this many tokens.
_MAX_TOKENS = 77
_TEXTS_AT_ONCE = 64
# Buffers that follow from the config; old checkpoints hold them, new ones may not.
_COMPUTED = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
# What a folder must hold, each as one of several file names.
_FILES = {
    "config": ("config.json",),
    "front end": ("preprocessor_config.json", "processor_config.json"),
    "weights": (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ),
    "tokenizer": ("tokenizer.json", "vocab.json"),
}


class ClapEncoder:
    """A CLAP checkpoint in the Hugging Face format, ready to embed.

    Args:
        model: A local folder or a model id of the Hugging Face hub.
        revision: Commit, tag or branch on the hub; pin it. Ignored for a folder.
        device: Where it computes; a leased GPU when there is one.
        precision: `auto` and `bfloat16` compute in mixed precision; embeddings are float32 in any case.

    Attributes:
        dim: Length D of an embedding (512 in LAION's models).
        sample_rate_hz: The rate of waveforms; resampling is the caller's job.
        window_s: Longer clips are read in windows of this length (10 s in LAION's models).

    Raises:
        ImportError: The package transformers isn't installed.
        FileNotFoundError: The folder lacks a file, or there is no such model, or it can't be fetched.
        ValueError: It is another kind of model, its weights are damaged or hold more than tensors, or its parts
            don't fit together.
    """

    sample_rate_hz: int = 48_000

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.device = choose_device() if device is None else torch.device(device)
        self.name = str(model)
        self._autocast = autocast_dtype(precision, self.device)
        network, self._front_end, self._tokenizer = _load(self.name, revision)
        _check_front_end(self._front_end, network.config.audio_config, self.name)
        if len(self._tokenizer) > network.config.text_config.vocab_size:
            raise ValueError(
                f"CLAP model {self.name!r}: its tokenizer has {len(self._tokenizer)} tokens, its text encoder "
                f"{network.config.text_config.vocab_size}; take both from one checkpoint"
            )
        self._network = network.eval().requires_grad_(False).to(self.device)
        self.dim: int = network.config.projection_dim
        self._window: int = self._front_end.nb_max_samples
        self.window_s: float = self._window / self.sample_rate_hz
        # RoBERTa counts positions from the padding token's number + 1.
        text = network.config.text_config
        positions = text.max_position_embeddings - (text.pad_token_id or 0) - 1
        self._max_tokens = min(_MAX_TOKENS, positions, self._tokenizer.model_max_length)

    @torch.inference_mode()
    def embed_audio(self, waveforms: Sequence[np.ndarray], *, batch_size: int = 16) -> np.ndarray:
        """Embed mono float waveforms [T_i] at 48 kHz in [-1, 1]: float32 [N, D] of length 1.

        A clip up to a window's length is repeated and padded to it as the checkpoint says. A longer one is read in the
        fewest windows that cover it, evenly spread; its embedding is the mean of theirs, scaled to length 1. So also
        with feature fusion: each window counts as a clip that is not longer than it. Row i depends on waveform i
        alone, but for the last bits.

        Args:
            batch_size: windows that go through the network together; fewer where the device's memory is too small.

        Raises:
            ValueError: a waveform has no samples, more than one channel, or is not finite.
        """
        windows: list[np.ndarray] = []
        owners: list[int] = []
        for number, samples in enumerate(waveforms):
            if samples.ndim != 1 or not len(samples) or not np.issubdtype(samples.dtype, np.floating):
                raise ValueError(
                    f"CLAP embeds mono float waveforms [T], T > 0; number {number} is "
                    f"{samples.dtype} {list(samples.shape)}"
                )
            if not np.isfinite(samples).all():
                raise ValueError(f"waveform number {number} holds values that are NaN or infinite")
            parts = _windows(samples, self._window)
            windows += parts
            owners += [number] * len(parts)
        sums = torch.zeros(len(waveforms), self.dim)
        found = list(
            batches_that_fit(
                lambda part: self._embed_windows(windows[part]), len(windows), batch_size, self.name
            )
        )
        if found:
            sums.index_add_(0, torch.tensor(owners), torch.cat(found))
        return torch.nn.functional.normalize(sums, dim=1).numpy()

    def _embed_windows(self, windows: list[np.ndarray]) -> Tensor:
        made = self._front_end(windows, sampling_rate=self.sample_rate_hz, return_tensors="pt")
        mel = made["input_features"].to(self.device, torch.float32)
        # The front end would mark one window of the batch at random as cut from a longer clip.
        is_longer = torch.zeros(len(windows), 1, dtype=torch.bool, device=self.device)
        with self._mixed():
            found = self._network.get_audio_features(input_features=mel, is_longer=is_longer)
        return _unit(found)

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts: float32 [N, D] of length 1. Texts of more than 77 tokens are cut, as in training."""
        vectors = [torch.zeros(0, self.dim)]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens = self._tokenizer(
                list(texts[start : start + _TEXTS_AT_ONCE]),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            with self._mixed():
                found = self._network.get_text_features(
                    input_ids=tokens["input_ids"].to(self.device),
                    attention_mask=tokens["attention_mask"].to(self.device),
                )
            vectors.append(_unit(found))
        return torch.cat(vectors).numpy()

    def _mixed(self) -> Any:
        return nullcontext() if self._autocast is None else torch.autocast(self.device.type, self._autocast)


def _windows(samples: np.ndarray, length: int) -> list[np.ndarray]:
    """The fewest windows of ``length`` that cover the samples, evenly spread; the samples if they are shorter."""
    if len(samples) <= length:
        return [samples]
    starts = np.linspace(0, len(samples) - length, math.ceil(len(samples) / length)).round().astype(int)
    return [samples[start : start + length] for start in starts]


def _unit(found: Any) -> Tensor:
    # Releases before 5 of transformers return the embeddings themselves.
    vectors = found if isinstance(found, Tensor) else found.pooler_output
    return torch.nn.functional.normalize(vectors.float(), dim=1).cpu()


def _load(model: str, revision: str | None) -> tuple[Any, Any, Any]:
    """Network, front end and tokenizer."""
    try:
        from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel
    except ImportError as error:
        raise ImportError("CLAP needs transformers: pip install 'foley[sentence]'") from error

    folder = Path(model).expanduser()
    if folder.is_dir():
        model = str(folder)
        _check_files(folder)
    source: dict[str, Any] = {"revision": revision, "local_files_only": is_offline()}
    try:
        kind = ClapConfig.get_config_dict(model, **source)[0].get("model_type")
        if kind != "clap":
            raise ValueError(
                f"CLAP model {model!r} is of type {kind!r}; give a CLAP checkpoint in the Hugging Face format, for "
                "example laion/clap-htsat-unfused"
            )
        front_end = ClapFeatureExtractor.from_pretrained(model, **source)
        tokenizer = AutoTokenizer.from_pretrained(model, **source)
        loaded: Any = ClapModel.from_pretrained(
            model, **source, dtype=torch.float32, weights_only=True, output_loading_info=True
        )
    except (
        OSError
    ) as error:  # what transformers raises for everything from a missing file to a missing network
        raise FileNotFoundError(
            f"CLAP model {model!r} (revision {revision or 'default'}) can't be loaded: {error}. "
            "Give a local folder with config, weights, preprocessor_config.json and tokenizer, or a model id of "
            "huggingface.co"
        ) from error
    except (pickle.UnpicklingError, SafetensorError, RuntimeError) as error:
        # Only its first line: PyTorch goes on to say how to run code from the file.
        raise ValueError(
            f"the weights of CLAP model {model!r} are damaged, of another size, or hold more than tensors: "
            f"{str(error).splitlines()[0]}. Get the checkpoint again, if you can as model.safetensors"
        ) from error
    network, loading = loaded
    # transformers fills what a checkpoint lacks with random numbers.
    lacking = sorted(key for key in loading["missing_keys"] if not key.endswith(_COMPUTED))
    if lacking:
        raise ValueError(
            f"the weights of CLAP model {model!r} lack {len(lacking)} parameters, for example {lacking[0]}; "
            "get the checkpoint again, whole"
        )
    return network, front_end, tokenizer


def _check_files(folder: Path) -> None:
    for part, names in _FILES.items():
        if not any((folder / name).is_file() for name in names):
            raise FileNotFoundError(
                f"CLAP model {folder} has no {part}: {' or '.join(names)}. Copy the file from the checkpoint's "
                "repository, for example with `hf download laion/clap-htsat-unfused --local-dir <folder>`"
            )


def _check_front_end(front_end: Any, audio: Any, model: str) -> None:
    wrong = None
    truncation = "fusion" if audio.enable_fusion else "rand_trunc"
    if front_end.sampling_rate != ClapEncoder.sample_rate_hz:
        wrong = f"sampling_rate {front_end.sampling_rate}, expected {ClapEncoder.sample_rate_hz}"
    elif front_end.feature_size != audio.num_mel_bins:
        wrong = f"feature_size {front_end.feature_size}, but the network takes {audio.num_mel_bins} mel bins"
    elif front_end.truncation != truncation:
        # It also decides the mel filters.
        wrong = f"truncation {front_end.truncation!r}, but the network was trained with {truncation!r}"
    if wrong is not None:
        raise ValueError(
            f"CLAP model {model!r}: its preprocessor config has {wrong}; take both from one checkpoint"
        )
