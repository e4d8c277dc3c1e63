"""A random SSAST in the published layout: its names, shapes and file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# 0.655 s; in pretraining 8 x 4 patches.
FRAMES = 64


def published_names(depth: int) -> list[str]:
    """Names in SSAST-*-Patch-*.pth: `DataParallel`, the pretraining layers, timm 0.4.5's distilled transformer."""
    names = ["p_input_fdim", "p_input_tdim", "mask_embed", "v.cls_token", "v.dist_token", "v.pos_embed"]
    layers = ["cpredlayer.0", "cpredlayer.2", "gpredlayer.0", "gpredlayer.2", "v.patch_embed.proj", "v.norm"]
    layers += ["v.head", "v.head_dist"]
    for block in range(depth):
        parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        layers += [f"v.blocks.{block}.{part}" for part in parts]
    return [
        f"module.{name}" for name in [*names, *(f"{x}.{kind}" for x in layers for kind in ("weight", "bias"))]
    ]


def published_state(hidden: int = 32, depth: int = 2, tdim: int = FRAMES, seed: int = 0) -> dict[str, Tensor]:
    """Random weights in the published layout. A matrix repeats its numbers along its diagonals, so that even the real
    size is a small file."""
    generator = torch.Generator().manual_seed(seed)
    patches = 8 * (tdim // 16)
    shapes = {
        "mask_embed": (1, 1, hidden), "v.cls_token": (1, 1, hidden), "v.dist_token": (1, 1, hidden),
        "v.pos_embed": (1, patches + 2, hidden), "v.patch_embed.proj": (hidden, 1, 16, 16), "v.norm": (hidden,),
        "v.head": (1000, hidden), "v.head_dist": (1000, hidden), "norm1": (hidden,), "norm2": (hidden,),
        "attn.qkv": (3 * hidden, hidden), "attn.proj": (hidden, hidden), "mlp.fc1": (4 * hidden, hidden),
        "mlp.fc2": (hidden, 4 * hidden), "0": (hidden, hidden), "2": (256, hidden),
    }  # fmt: skip
    state = {}
    for name in published_names(depth):
        plain = name.removeprefix("module.")
        if plain.startswith("p_input"):
            state[name] = torch.tensor(128 if "fdim" in plain else tdim)
            continue
        layer, _, kind = plain.rpartition(".")
        shape = shapes[plain] if plain in shapes else next(s for n, s in shapes.items() if layer.endswith(n))
        if kind == "bias":
            shape = shape[:1]
        rows, rest = shape[0], int(np.prod(shape[1:]))
        numbers = torch.randn(rows + rest, generator=generator) * (2 / (rows + rest)) ** 0.5
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(1, len(shape))]
        value = numbers.as_strided(shape, (1, *strides))
        state[name] = (
            1 + 0.1 * value if plain.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else value
        )
    return state


def write_tiny_ssast(path: Path, *, seed: int = 0) -> Path:
    """``SSAST-Tiny-Patch-400.pth``, or whatever ``path`` is called; two heads of 16 dimensions fit it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(published_state(seed=seed), path)
    return path
