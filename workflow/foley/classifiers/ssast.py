"""SSAST: the self-supervised audio spectrogram transformer, the recogniser of the study `foundation`.

Y. Gong, C.-I. Lai, Y.-A. Chung, J. Glass, "SSAST: self-supervised audio spectrogram transformer", AAAI 2022 (arXiv
2110.09784), pretrained on AudioSet and LibriSpeech by masked patches that do not overlap; fine-tuned as in arXiv
2406.08800: patches of 16 x 16 every 10 cells, the mean over the patches' tokens, Adam 1e-4 (0.9, 0.98) with an L2
penalty of 1e-4, batches of 32, 30 epochs.

Read are the authors' own checkpoints (``SSAST-{Tiny,Small,Base}-Patch-*.pth``, https://github.com/YuanGongND/ssast,
BSD 3-Clause): the state dict of a ``DataParallel`` around timm's distilled vision transformer. Its weights get the
names that transformers' ``ASTModel`` gives them; queries, keys and values, which timm keeps in one matrix, are split.
What only pretraining needs is left behind.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from foley.classifiers.ast import (
    TransformerClassifier,
    TransformerOptions,
    empty_model,
    model_for,
)
from foley.classifiers.hub_models import refuse_names
from foley.encoders.weights import resolve

SSAST_URL = "https://www.dropbox.com/s/ewrzpco95n9jdz6/SSAST-Base-Patch-400.pth?dl=1"
# timm's vision transformers.
LAYER_NORM_EPS = 1e-6
HEAD_WIDTH = 64
_PREFIX = "module."
# Of timm's blocks -> of transformers' layers; each has weight and bias.
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.o_proj",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_FUSED = "attn.qkv"
_SPLIT = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
_OUTSIDE = {
    "v.cls_token": "embeddings.cls_token",
    "v.dist_token": "embeddings.distillation_token",
    "v.pos_embed": "embeddings.position_embeddings",
    "v.patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "v.patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "v.norm.weight": "layernorm.weight",
    "v.norm.bias": "layernorm.bias",
}
# Size of the spectrogram in pretraining, as numbers among the weights.
_INPUT_SIZE = ("p_input_fdim", "p_input_tdim")
# ImageNet heads of timm's network, which were never trained here, and the layers that predict masked patches.
_LEFT_BEHIND = re.compile(r"v\.head(_dist)?\.(weight|bias)|[cg]predlayer\.[02]\.(weight|bias)|mask_embed")


@dataclass(frozen=True)
class SSASTOptions(TransformerOptions):
    """The published settings for ESC-50; ``steps`` are 30 epochs over four folds (1,600 clips).

    weights: path or URL of a published patch checkpoint. sha256: of that file; None checks nothing. cache: where a
    download is kept. heads: attention heads; None for timm's, one for 64 dimensions. mean, deviation: of the dataset's
    log-mel features; they are divided by twice the deviation. frames: 512 for clips of 5 s; the paper takes 1,000 for
    GTZAN (mean -2.4507537, deviation 2.7830634) and 128 for Speech Commands (-6.845978, 5.5654526). The paper's code
    also halves the learning rate where the loss on the *test* clips stays; here it is constant, unless ``schedule``
    says otherwise.
    """

    steps: int = 1_500
    validate_every_steps: int = 50
    weight_decay: float = 1e-4
    optimiser: Literal["adamw", "adam"] = "adam"
    betas: tuple[float, float] = (0.9, 0.98)
    frames: int = 512
    weights: str = SSAST_URL
    sha256: str | None = None
    cache: str = ".foley/weights"
    frequency_stride: int = 10
    time_stride: int = 10
    heads: int | None = None
    mean: float = -6.6268077
    deviation: float = 5.358466

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.frequency_stride, self.time_stride) < 1 or (self.heads or 1) < 1 or self.deviation <= 0:
            raise ValueError("frequency_stride, time_stride, heads and deviation must be positive")


class SSAST(TransformerClassifier):
    """See the module."""

    name = "ssast"
    Options = SSASTOptions
    pool = "patches"

    def scaling(self) -> tuple[float, float]:
        return self.options.mean, 2 * self.options.deviation

    def backbone(self) -> Any:
        o = self.options
        path = resolve(o.weights, o.sha256, Path(o.cache).expanduser())
        pretrained, state = convert(read_state(path), o.heads, str(path))
        return model_for(
            pretrained, state, o.frames, frequency_stride=o.frequency_stride, time_stride=o.time_stride
        )


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file.

    Raises:
        ValueError: it can't be read, or holds more than tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        # Only its first line: PyTorch goes on to say how to run code from the file.
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) is no readable PyTorch state dict: it may be truncated, a web "
            f"page saved under that name, or hold more than tensors. PyTorch says: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds a {type(state).__name__}, not the flat state dict of SSAST")
    return state


def convert(
    published: dict[str, Tensor], heads: int | None = None, name: str = "the checkpoint"
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A published state dict -> (sizes as ``ASTConfig`` names them, weights as ``ASTModel`` does).

    Args:
        heads: of attention; no shape tells them. None for one in 64 dimensions, as in all published sizes.
        name: of the checkpoint, for errors.

    Raises:
        ValueError: weights are lacking, unknown or of wrong shape (they are named), or patches are not square.
    """
    found = {key.removeprefix(_PREFIX): value for key, value in published.items()}
    wanted = [*_OUTSIDE, *_INPUT_SIZE]
    refuse_names(
        f"{name} is no pretrained SSAST: it", lacking=[key for key in wanted if key not in found], unknown=[]
    )
    config = _sizes(found, heads, name)
    state = {ours: found.pop(theirs) for theirs, ours in _OUTSIDE.items()}
    for key in _INPUT_SIZE:
        del found[key]
    lacking = []
    for layer in range(config["num_hidden_layers"]):
        for kind in ("weight", "bias"):
            for theirs, ours in _IN_BLOCK.items():
                key = f"v.blocks.{layer}.{theirs}.{kind}"
                if key in found:
                    state[f"layers.{layer}.{ours}.{kind}"] = found.pop(key)
                else:
                    lacking.append(key)
            key = f"v.blocks.{layer}.{_FUSED}.{kind}"
            if key in found:
                parts = found.pop(key).chunk(3)
                state.update({f"layers.{layer}.{o}.{kind}": p for o, p in zip(_SPLIT, parts, strict=False)})
            else:
                lacking.append(key)
    unknown = [key for key in found if not _LEFT_BEHIND.fullmatch(key)]
    refuse_names(f"{name} is no pretrained SSAST: it", lacking=lacking, unknown=unknown)
    expected = {key: tuple(value.shape) for key, value in empty_model(config).state_dict().items()}
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    wrong = [
        f"{key} is {list(shapes.get(key, ()))}, expected {list(shape)}"
        for key, shape in expected.items()
        if shapes.get(key) != shape
    ]
    if wrong:
        raise ValueError(f"{name} is no pretrained SSAST: {'; '.join(wrong[:5])}")
    return config, state


def _sizes(found: dict[str, Tensor], heads: int | None, name: str) -> dict[str, Any]:
    kernel = found["v.patch_embed.proj.weight"]
    if kernel.ndim != 4 or kernel.shape[1] != 1 or kernel.shape[2] != kernel.shape[3]:
        raise ValueError(
            f"{name}: its patches are {list(kernel.shape[2:])} cells of {kernel.shape[1]} channel(s); only the patch "
            "models (16 x 16) are supported: take an SSAST-*-Patch-* checkpoint"
        )
    hidden, patch = len(kernel), kernel.shape[2]
    depth = len({match[1] for key in found if (match := re.match(r"v\.blocks\.(\d+)\.", key))})
    first = found.get("v.blocks.0.mlp.fc1.weight")
    refuse_names(
        f"{name} is no pretrained SSAST: it",
        lacking=["v.blocks.0.mlp.fc1.weight"] if first is None else [],
        unknown=[],
    )
    assert first is not None
    heads = heads if heads is not None else max(1, hidden // HEAD_WIDTH)
    if hidden % heads:
        raise ValueError(f"{name}: {hidden} dimensions do not divide into {heads} attention heads")
    mels, frames = (int(found[key]) for key in _INPUT_SIZE)
    return {
        "hidden_size": hidden, "num_hidden_layers": depth, "num_attention_heads": heads,
        "intermediate_size": len(first), "hidden_act": "gelu", "layer_norm_eps": LAYER_NORM_EPS, "qkv_bias": True,
        "patch_size": patch, "frequency_stride": patch, "time_stride": patch, "max_length": frames,
        "num_mel_bins": mels,
    }  # fmt: skip
