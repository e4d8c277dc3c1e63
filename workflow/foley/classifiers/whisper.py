"""Whisper's encoder under a linear layer.

A. Radford, J. W. Kim, T. Xu, G. Brockman, C. McLeavey, I. Sutskever, "Robust speech recognition via large-scale weak
supervision", 2022 (arXiv 2212.04356). The encoder is transformers' ``WhisperEncoder`` (optional extra ``sentence``),
and any checkpoint of ``WhisperForConditionalGeneration`` does, from tiny to large; its decoder is left behind.

As in SUPERB (Yang et al. 2021, "SUPERB: speech processing universal performance benchmark"), the encoder's hidden
states (what enters the first layer, and what leaves each) are averaged with learned weights, a softmax over as many
numbers, and then over time. SUPERB goes through a projection to 256 dimensions before its output layer; here there is
none. The average over time takes the frames that hold the clip and not the silence behind it, which is most of
Whisper's 30 s for a word; or, with ``pool: window``, all of them. The latter is for clips behind which a noise may go
on: where such a clip ends cannot be told, so the average would be over another stretch with noise than without.

Whisper was trained on 30 s of audio at a time. A shorter window takes the first of its position embeddings, which are
sinusoids, and costs that much less; the encoder then sees less silence than it was trained with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from foley.classifiers.audio_protocol import AudioClassifier, ClipNetwork, TrainingOptions
from foley.classifiers.hub_models import from_transformers, read_checkpoint

NAME = "Whisper"
SAMPLE_RATE_HZ = 16_000
N_FFT, HOP_LENGTH = 400, 160
# Samples that one position of the encoder takes: its second convolution joins two frames.
POSITION_SAMPLES = 2 * HOP_LENGTH
# Log-mel powers are bounded: from below at 1e-10, and at 8 decades below the loudest of the window.
FLOOR, RANGE_DECADES = 1e-10, 8.0
CHECKPOINT = "openai/whisper-tiny"
CHECKPOINT_REVISION = "169d4a4341b33bc18d8881c4b69c2e104e1cc0af"
POSITIONS = "embed_positions.weight"
# What decides the shape of an encoder; kept with saved weights.
_ARCHITECTURE = (
    "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins", "activation_function",
    "scale_embedding", "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop",
    "max_source_positions",
)  # fmt: skip


@dataclass(frozen=True)
class WhisperOptions(TrainingOptions):
    """model: local folder, or id on the Hugging Face hub; revision: commit there, which a hub id needs.

    frozen: train the layers' weights and the linear layer only; otherwise all but the position embeddings.
    window_s: what the network hears, up to the checkpoint's 30 s; whole positions of 20 ms.
    pool: average over the frames that hold the ``clip``, or over the whole ``window``.
    gradient_checkpointing: compute activations twice rather than keep them; for a GPU with little memory.
    """

    batch_size: int = 32
    learning_rate: float = 1e-3
    model: str = CHECKPOINT
    revision: str | None = CHECKPOINT_REVISION
    frozen: bool = True
    window_s: float = 30.0
    pool: Literal["clip", "window"] = "clip"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.positions < 1:
            raise ValueError(
                f"window_s must be at least {POSITION_SAMPLES / SAMPLE_RATE_HZ}, got {self.window_s}"
            )

    @property
    def positions(self) -> int:
        return round(self.window_s * SAMPLE_RATE_HZ / POSITION_SAMPLES)


class WhisperLogMel(nn.Module):
    """Waveforms [B, T] -> log-mel features [B, T // 160, mels] as ``WhisperFeatureExtractor`` has them."""

    window: Tensor
    banks: Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT))
        half = SAMPLE_RATE_HZ / 2
        banks = melscale_fbanks(
            N_FFT // 2 + 1, 0.0, half, mels, SAMPLE_RATE_HZ, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("banks", banks)

    def forward(self, waveforms: Tensor) -> Tensor:
        spectrum = torch.stft(waveforms, N_FFT, HOP_LENGTH, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        levels = (power.transpose(1, 2) @ self.banks).clamp(min=FLOOR).log10()
        loudest = levels.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(levels, loudest - RANGE_DECADES) + 4.0) / 4.0


class WhisperNetwork(ClipNetwork):
    """Log-mel features [B, frames, mels] -> class scores [B, C].

    Args:
        encoder: a transformers ``WhisperEncoder`` with its weights.
    """

    def __init__(self, classes: int, encoder: Any, options: WhisperOptions) -> None:
        config = encoder.config
        super().__init__(config.num_mel_bins)
        self.mel = WhisperLogMel(config.num_mel_bins)
        self.sample_rate_hz = SAMPLE_RATE_HZ
        self.window_samples = config.max_source_positions * POSITION_SAMPLES
        self.frozen = options.frozen
        self.pool = options.pool
        self.encoder = encoder
        if options.frozen:
            encoder.requires_grad_(False)
        elif options.gradient_checkpointing:
            # The other way asks that all parameters get gradients, which the training loop does not.
            enable = getattr(
                encoder, "activation_checkpointing_enable", encoder.gradient_checkpointing_enable
            )
            enable({"use_reentrant": False})  # its name from transformers 6 on
        # One for each layer, and one for what enters the first. Equal at first.
        self.layer_weights = nn.Parameter(torch.zeros(config.encoder_layers + 1))
        self.head = nn.Linear(config.d_model, classes)

    @property
    def facts(self) -> dict[str, str]:
        config = {name: getattr(self.encoder.config, name) for name in _ARCHITECTURE}
        return {"architecture": json.dumps(config)}

    def train(self, mode: bool = True) -> WhisperNetwork:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()  # without dropout: nothing in it is learned
        return self

    def front_end(self, waveforms: Tensor) -> Tensor:
        return self.mel(waveforms)

    def embed(self, features: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            states = self.encoder(features.transpose(1, 2), output_hidden_states=True).hidden_states
        held = positions_held(features).unsqueeze(1)
        if self.pool == "window":
            held = torch.ones_like(held)
        # Over time first: the layers' weights do not depend on it, so only [B, layers, D] is kept.
        over_time = torch.stack([(held @ state.float()).squeeze(1) for state in states], dim=1)
        pooled = over_time / held.sum(dim=2, keepdim=True)
        return torch.einsum("l,bld->bd", self.layer_weights.softmax(0), pooled)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.embed(features))


def positions_held(features: Tensor) -> Tensor:
    """Log-mel features [B, frames, mels] -> 1 for positions of the encoder [B, frames / 2] that hold the clip, 0 for
    the silence behind it.

    Silence is the run of equal frames at the end. A clip that fills the window has none, and of one that is nothing
    but silence the first position counts.
    """
    frames = features.shape[1]
    differs = (features != features[:, -1:]).any(dim=2)
    number = torch.arange(1, frames + 1, device=features.device)
    length = (differs * number).amax(dim=1)
    # The last frame always equals itself; alone it is no silence.
    length = torch.where(length == frames - 1, frames, length)
    positions = ((length + 1) // 2).clamp(min=1)
    return (torch.arange(frames // 2, device=features.device) < positions.unsqueeze(1)).float()


class Whisper(AudioClassifier):
    """See the module."""

    name = "whisper"
    Options = WhisperOptions
    # Of up to 1,500 positions each.
    clips_at_once = 16

    def standardises(self) -> bool:
        return False

    def hears(self) -> tuple[int, int]:
        return SAMPLE_RATE_HZ, self.options.positions * POSITION_SAMPLES

    def build(self) -> ClipNetwork:
        config, state = _read_encoder(self.options.model, self.options.revision)
        positions = self.options.positions
        if positions > config["max_source_positions"]:
            longest = config["max_source_positions"] * POSITION_SAMPLES / SAMPLE_RATE_HZ
            raise ValueError(
                f"window_s {self.options.window_s:g}: Whisper model {self.options.model!r} hears {longest:g} s at most"
            )
        config["max_source_positions"] = positions
        state[POSITIONS] = state[POSITIONS][:positions].clone()
        encoder = empty_encoder(config)
        trained = {name: value.requires_grad for name, value in encoder.named_parameters()}
        encoder.load_state_dict(state, strict=True, assign=True)
        for name, value in encoder.named_parameters():
            value.requires_grad_(trained[name])
        return WhisperNetwork(self.classes, encoder, self.options)

    def rebuild(self, facts: Mapping[str, str]) -> ClipNetwork:
        try:
            config = json.loads(facts["architecture"])
        except (KeyError, ValueError):
            raise ValueError("it does not say how large the encoder is") from None
        if config["max_source_positions"] != self.options.positions:
            seconds = config["max_source_positions"] * POSITION_SAMPLES / SAMPLE_RATE_HZ
            raise ValueError(f"it was trained on {seconds:g} s, not on {self.options.window_s:g} s")
        encoder = empty_encoder(config).to_empty(device="cpu")
        return WhisperNetwork(self.classes, encoder, self.options)


def empty_encoder(config: Mapping[str, Any]) -> Any:
    """A ``WhisperEncoder`` of these sizes on the meta device: shapes and names, no numbers.

    Raises:
        ImportError: transformers isn't installed.
    """
    (WhisperConfig,) = from_transformers(NAME, "WhisperConfig")
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    with torch.device("meta"):
        return WhisperEncoder(WhisperConfig(**config)).eval()


def _read_encoder(model: str, revision: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Sizes and weights of a checkpoint's encoder; the decoder is left behind.

    Raises: as ``read_checkpoint``.
    """
    config_class, model_class = from_transformers(NAME, "WhisperConfig", "WhisperForConditionalGeneration")
    network = read_checkpoint(
        NAME,
        config_class,
        model_class,
        model,
        revision,
        files="config.json and model.safetensors",
        example=CHECKPOINT,
    )
    config = {name: getattr(network.config, name) for name in _ARCHITECTURE}
    return config, dict(network.model.encoder.state_dict())
