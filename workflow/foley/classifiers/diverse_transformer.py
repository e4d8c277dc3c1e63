"""One small transformer for frames of any kind: peaks, cepstra, patches of audio, or a network's activations.

Verma, Diverse Audio Embeddings (arXiv 2309.08751): each representation goes through a transformer of its own, 6
layers of width 64 with 12 heads as stated, is averaged over time to 64 numbers, and a linear layer names the
class. 64 is no multiple of 12, so the size of a head is an option of its own: 64 by default, as in a layer whose
head size is free (Keras' MultiHeadAttention with ``key_dim`` = the width), which makes 12 heads possible at any
width. The paper's own head size, feed-forward width, position code and dropout could not be verified here; ours
are those of pre-norm transformers (Vaswani et al. 2017; Xiong et al. 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.classifiers.chunk_network import (
    ChunkNetwork,
    ChunkTraining,
    count_parameters,
    first_that,
    masked_mean,
)

# Widths are tried in steps of so many where a network must have a certain number of parameters.
_WIDTH_STEP = 2


@dataclass(frozen=True)
class DiverseTransformerOptions(ChunkTraining):
    """Architecture and training.

    front_end: units of a ReLU layer between frames and tokens; 0 for none. Audio Transformers (arXiv 2105.00335) reads
    raw audio through one.
    """

    layers: int = 6
    width: int = 64
    heads: int = 12
    head_dim: int = 64
    feed_forward: int = 256
    front_end: int = 0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "width", "heads", "head_dim", "feed_forward"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.front_end < 0 or not 0 <= self.dropout < 1:
            raise ValueError("front_end must not be negative, and dropout lie in [0, 1)")


class _Attention(nn.Module):
    """Self-attention whose head size is free."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(width, 3 * heads * head_dim)
        self.write = nn.Linear(heads * head_dim, width)

    def forward(self, x: Tensor, readable: Tensor | None) -> Tensor:
        queries, keys, values = self.read(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # No dropout of attention weights: it would shut out the fused kernels, at more than twice the time.
        if queries.device.type == "cpu" and queries.dtype == torch.bfloat16:
            # The fused kernel's way back is many times slower there in bfloat16 than in float32.
            with torch.autocast("cpu", enabled=False):
                mixed = functional.scaled_dot_product_attention(
                    queries.float(), keys.float(), values.float(), attn_mask=readable
                )
        else:
            mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=readable)
        return self.write(mixed.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, o: DiverseTransformerOptions) -> None:
        super().__init__()
        self.attention_norm, self.dense_norm = nn.LayerNorm(o.width), nn.LayerNorm(o.width)
        self.attention = _Attention(o.width, o.heads, o.head_dim)
        self.dense = nn.Sequential(
            nn.Linear(o.width, o.feed_forward), nn.GELU(), nn.Linear(o.feed_forward, o.width)
        )
        self.dropout = nn.Dropout(o.dropout)

    def forward(self, x: Tensor, readable: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), readable))
        return x + self.dropout(self.dense(self.dense_norm(x)))


class DiverseTransformer(ChunkNetwork):
    """Frames [B, T, inputs] -> their mean embedding [B, width], over real frames -> scores [B, classes]."""

    Options = DiverseTransformerOptions

    def __init__(
        self,
        inputs: int,
        frames: int,
        classes: int,
        options: DiverseTransformerOptions | None = None,
    ) -> None:
        o = options if options is not None else DiverseTransformerOptions()
        super().__init__(inputs, o.width, classes)
        self.options = o
        self.project = (
            nn.Sequential(nn.Linear(inputs, o.front_end), nn.ReLU(), nn.Linear(o.front_end, o.width))
            if o.front_end
            else nn.Linear(inputs, o.width)
        )
        self.position = nn.Parameter(0.02 * torch.randn(frames, o.width))
        self.layers = nn.ModuleList(_Layer(o) for _ in range(o.layers))
        self.norm = nn.LayerNorm(o.width)
        self.dropout = nn.Dropout(o.dropout)

    def pool(self, x: Tensor, valid: Tensor) -> Tensor:
        x = self.dropout(self.project(x) + self.position[: x.shape[1]])
        # Where all is real, attention needs no mask, and takes its fast path.
        readable = None if bool(valid.all()) else valid[:, None, None, :]
        for layer in self.layers:
            x = layer(x, readable)
        return masked_mean(self.norm(x), valid)

    @classmethod
    def with_parameters(
        cls, least: int, inputs: int, frames: int, classes: int, options: DiverseTransformerOptions
    ) -> DiverseTransformerOptions:
        """The options with the smallest width at which the network has ``least`` parameters; the feed-forward and
        front-end layers grow in proportion, heads stay as they are."""

        def wider(steps: int) -> DiverseTransformerOptions:
            width = options.width + _WIDTH_STEP * steps
            scale = width / options.width
            return replace(
                options,
                width=width,
                feed_forward=round(options.feed_forward * scale),
                front_end=round(options.front_end * scale),
            )

        def enough(steps: int) -> bool:
            return count_parameters(cls, inputs, frames, classes, wider(steps)) >= least

        return wider(first_that(enough))
