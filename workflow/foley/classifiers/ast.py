"""Audio spectrogram transformers: AST, trained from an AudioSet checkpoint, and what SSAST shares with it.

Y. Gong, Y.-A. Chung, J. Glass, "AST: audio spectrogram transformer", Interspeech 2021 (arXiv 2104.01778). Kaldi log-mel
features with 128 bands become patches of 16 x 16 cells that overlap by 6; a vision transformer reads them, and a layer
norm and a linear layer give the class scores. The transformer is transformers' ``ASTModel`` (optional extra
``sentence``), so a checkpoint in the layout of ``ASTForAudioClassification`` loads as it is.

Position embeddings belong to a grid of patches. Where a network is to see another number of frames, or patches that lie
closer together, they are cut from the middle (a shorter axis) or interpolated (a longer one), time first, as in the
authors' code.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.classifiers.audio_protocol import AudioClassifier, ClipNetwork, TrainingOptions
from foley.classifiers.hub_models import from_transformers, read_checkpoint, source
from foley.encoders.kaldi_fbank import KaldiFbank

NAME = "AST"
SAMPLE_RATE_HZ = 16_000
# Class and distillation token stand before the patches.
EXTRA_TOKENS = 2
# MIT's checkpoint: trained on AudioSet from ImageNet weights, mAP 0.459, strides of 10, 1,024 frames.
CHECKPOINT = "MIT/ast-finetuned-audioset-10-10-0.4593"
CHECKPOINT_REVISION = "f826b80d28226b62986cc218e5cec390b1096902"
POSITIONS = "embeddings.position_embeddings"
# What decides the shape of a network, beside the options; kept with saved weights.
_ARCHITECTURE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
    "qkv_bias", "patch_size", "frequency_stride", "time_stride", "max_length", "num_mel_bins",
    "hidden_dropout_prob", "attention_probs_dropout_prob",
)  # fmt: skip


@dataclass(frozen=True)
class TransformerOptions(TrainingOptions):
    """What all spectrogram transformers can be told.

    frames: of 10 ms that the network sees; what is longer is cut.
    frozen: train the layer norm and the linear layer on top only.
    gradient_checkpointing: compute activations twice rather than keep them; for a GPU with little memory.
    padding: what follows a clip that is shorter than ``frames``: ``silence``, so that its score depends on nothing but
    the clip; or ``zeros`` in the log-mel features, as in the published code, behind the longest clip of a set (a
    shorter one ends in silence). The two agree where all clips are as long as the network hears.
    """

    batch_size: int = 32
    learning_rate: float = 1e-4
    frames: int = 1024
    frozen: bool = False
    gradient_checkpointing: bool = False
    padding: Literal["silence", "zeros"] = "silence"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 16:
            raise ValueError("frames must be at least 16: a patch takes as many")


class SpectrogramTransformer(ClipNetwork):
    """Scaled log-mel features [B, frames, mels] -> class scores [B, C].

    Args:
        backbone: a transformers ``ASTModel`` with its weights.
        pool: ``patches``: mean over the patches' tokens; ``tokens``: mean of class and distillation token.
    """

    def __init__(
        self,
        classes: int,
        backbone: Any,
        *,
        pool: Literal["patches", "tokens"],
        mean: float,
        deviation: float,
        options: TransformerOptions,
    ) -> None:
        config = backbone.config
        super().__init__(config.num_mel_bins)
        self.mel = KaldiFbank(config.num_mel_bins, SAMPLE_RATE_HZ)
        self.sample_rate_hz = SAMPLE_RATE_HZ
        self.window_samples = self.mel.samples(config.max_length)
        self.frames = config.max_length
        self.pool = pool
        self.padding = options.padding
        self.frozen = options.frozen
        self.mean.fill_(mean)
        self.deviation.fill_(deviation)
        self.backbone = backbone
        if options.frozen:
            backbone.requires_grad_(False)
        elif options.gradient_checkpointing:
            # The other way asks that all parameters get gradients, which the training loop does not.
            enable = getattr(
                backbone, "activation_checkpointing_enable", backbone.gradient_checkpointing_enable
            )  # its name from transformers 6 on
            enable({"use_reentrant": False})
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, classes)

    @property
    def facts(self) -> dict[str, str]:
        config = {name: getattr(self.backbone.config, name) for name in _ARCHITECTURE}
        return {"architecture": json.dumps(config)}

    def front_end(self, waveforms: Tensor) -> Tensor:
        return self.mel(waveforms)

    def features(self, waveforms: Tensor) -> Tensor:
        # The published code also takes off the waveform's mean, which Kaldi does frame by frame anyway.
        samples = waveforms.shape[1]
        if self.padding == "silence" or samples >= self.window_samples:
            return super().features(waveforms)
        waveforms = functional.pad(waveforms, (0, max(0, self.mel.frame_samples - samples)))
        with torch.autocast(waveforms.device.type, enabled=False):
            x = self.mel(waveforms)
            return (functional.pad(x, (0, 0, 0, self.frames - x.shape[1])) - self.mean) / self.deviation

    def embed(self, features: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = self.backbone(features).last_hidden_state
        if self.pool == "patches":
            pooled = tokens[:, EXTRA_TOKENS:].mean(1)
        else:
            pooled = tokens[:, :EXTRA_TOKENS].mean(1)
        return self.norm(pooled)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.embed(features))


class TransformerClassifier(AudioClassifier):
    """A spectrogram transformer with its training. Features are scaled by published constants."""

    # Of 600 tokens and more each.
    clips_at_once = 32
    pool: ClassVar[Literal["patches", "tokens"]]

    @abstractmethod
    def backbone(self) -> Any:
        """A transformers ``ASTModel`` with pretrained weights, for ``options.frames`` frames."""

    @abstractmethod
    def scaling(self) -> tuple[float, float]:
        """What is taken off the features, and what they are then divided by."""

    def standardises(self) -> bool:
        return False

    def hears(self) -> tuple[int, int]:
        return SAMPLE_RATE_HZ, KaldiFbank(sample_rate_hz=SAMPLE_RATE_HZ).samples(self.options.frames)

    def build(self) -> ClipNetwork:
        mean, deviation = self.scaling()
        return self._network(self.backbone(), mean, deviation)

    def rebuild(self, facts: Mapping[str, str]) -> ClipNetwork:
        try:
            config = json.loads(facts["architecture"])
        except (KeyError, ValueError):
            raise ValueError("it does not say how large the transformer is") from None
        if config["max_length"] != self.options.frames:
            raise ValueError(f"it was trained on {config['max_length']} frames, not on {self.options.frames}")
        # The scaling is among the saved weights.
        return self._network(empty_model(config).to_empty(device="cpu"), 0.0, 1.0)

    def _network(self, backbone: Any, mean: float, deviation: float) -> SpectrogramTransformer:
        return SpectrogramTransformer(
            self.classes, backbone, pool=self.pool, mean=mean, deviation=deviation, options=self.options
        )


@dataclass(frozen=True)
class ASTOptions(TransformerOptions):
    """model: local folder or id on the Hugging Face hub, in the layout of ``ASTForAudioClassification``.

    revision: commit on the hub, which a hub id needs. mean, deviation: of the log-mel features; None takes the
    checkpoint's (preprocessor_config.json). Features are divided by twice the deviation, as AST was trained.
    """

    model: str = CHECKPOINT
    revision: str | None = CHECKPOINT_REVISION
    mean: float | None = None
    deviation: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.mean is None) != (self.deviation is None) or (self.deviation or 1.0) <= 0:
            raise ValueError("give mean and deviation (positive), or neither")


class AST(TransformerClassifier):
    """AST from an AudioSet checkpoint; see the module."""

    name = "ast"
    Options = ASTOptions
    pool = "tokens"

    def scaling(self) -> tuple[float, float]:
        o = self.options
        mean, deviation = o.mean, o.deviation
        if mean is None:
            found = _front_end_of(o.model, o.revision)
            mean, deviation = found["mean"], found["std"]
        return mean, 2 * deviation

    def backbone(self) -> Any:
        config, state = _read_checkpoint(self.options.model, self.options.revision)
        return model_for(config, state, self.options.frames)


def empty_model(config: Mapping[str, Any]) -> Any:
    """An ``ASTModel`` of these sizes on the meta device: shapes and names, no numbers.

    Raises:
        ImportError: transformers isn't installed.
    """
    ASTConfig, ASTModel = from_transformers("AST and SSAST", "ASTConfig", "ASTModel")
    with torch.device("meta"):
        return ASTModel(ASTConfig(**config)).eval()


def grid(config: Mapping[str, Any]) -> tuple[int, int]:
    """Patches along frequency and along time."""
    patch = config["patch_size"]
    return (
        (config["num_mel_bins"] - patch) // config["frequency_stride"] + 1,
        (config["max_length"] - patch) // config["time_stride"] + 1,
    )


def model_for(
    pretrained: Mapping[str, Any],
    state: Mapping[str, Tensor],
    frames: int,
    *,
    frequency_stride: int | None = None,
    time_stride: int | None = None,
) -> Any:
    """An ``ASTModel`` for ``frames`` frames, with weights of one that was pretrained with another grid of patches.

    Args:
        pretrained: sizes as ``ASTConfig`` names them; ``state`` fits them.
        frequency_stride, time_stride: of the patches; those of ``pretrained`` when left out.
    """
    config = {**pretrained, "max_length": frames}
    if frequency_stride is not None:
        config["frequency_stride"] = frequency_stride
    if time_stride is not None:
        config["time_stride"] = time_stride
    model = empty_model(config)
    fitted = {name: value.float().contiguous() for name, value in state.items()}
    fitted[POSITIONS] = fit_positions(fitted[POSITIONS], grid(pretrained), grid(config))
    model.load_state_dict(fitted, strict=True, assign=True)
    return model.requires_grad_(True)


def fit_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Position embeddings [1, 2 + F * T, D] of one grid of patches (F, T) for another [1, 2 + F' * T', D].

    Time first, then frequency: a shorter axis is the middle of the old one, a longer one its bilinear interpolation.
    """
    extra, patches = positions[:, :EXTRA_TOKENS], positions[:, EXTRA_TOKENS:]
    x = patches.transpose(1, 2).unflatten(2, old)
    for axis in (3, 2):
        had, wanted = x.shape[axis], new[axis - 2]
        if wanted < had:
            x = x.narrow(axis, had // 2 - wanted // 2, wanted)
        elif wanted > had:
            size = (x.shape[2], wanted) if axis == 3 else (wanted, x.shape[3])
            x = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return torch.cat([extra, x.flatten(2).transpose(1, 2)], dim=1).contiguous()


def _front_end_of(model: str, revision: str | None) -> dict[str, float]:
    """Mean and deviation of log-mel features from the checkpoint's preprocessor config."""
    (ASTFeatureExtractor,) = from_transformers(NAME, "ASTFeatureExtractor")
    where, options = source(NAME, model, revision)
    try:
        found, _ = ASTFeatureExtractor.get_feature_extractor_dict(where, **options)
        front = {name: float(found[name]) for name in ("mean", "std")}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FileNotFoundError(
            f"AST model {model!r} has no preprocessor_config.json with mean and std ({error}): get that file, or give "
            "the options `mean` and `deviation`"
        ) from error
    if found.get("sampling_rate", SAMPLE_RATE_HZ) != SAMPLE_RATE_HZ:
        raise ValueError(
            f"AST model {model!r} hears {found['sampling_rate']} Hz; only {SAMPLE_RATE_HZ} Hz is supported"
        )
    return front


def _read_checkpoint(model: str, revision: str | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Sizes and weights of the transformer in a checkpoint; the AudioSet classes' head is left behind.

    Raises: as ``read_checkpoint``.
    """
    config_class, model_class = from_transformers(NAME, "ASTConfig", "ASTForAudioClassification")
    network = read_checkpoint(
        NAME, config_class, model_class, model, revision,
        files="config.json, preprocessor_config.json and model.safetensors", example=CHECKPOINT,
    )  # fmt: skip
    config = {name: getattr(network.config, name) for name in _ARCHITECTURE}
    return config, network.audio_spectrogram_transformer.state_dict()
