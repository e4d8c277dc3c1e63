"""Small models trained as one batch of seeds: every parameter has a leading seed axis [S, ...].

A seed's numbers do not depend on the others in its batch: initial values, order, noise and dropout come from a
stream of its own, Adam works element by element, and gradients are clipped seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from foley.runtime.seeds import SeedStreams


class BatchedLinear(nn.Module):
    """S linear layers side by side: [S, B, inputs] -> [S, B, outputs].

    Args:
        initialise: fan-in, fan-out and a draw of uniform or normal numbers -> weights; PyTorch's default for
            ``nn.Linear`` when left out.
    """

    def __init__(self, streams: SeedStreams, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter((streams.uniform(inputs, outputs) * 2 - 1) * bound)
        self.bias = nn.Parameter((streams.uniform(1, outputs) * 2 - 1) * bound) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


def xavier_normal_(layer: BatchedLinear, streams: SeedStreams, gain: float) -> BatchedLinear:
    """Glorot & Bengio (2010) initial weights, seed by seed; the bias, if any, becomes zero."""
    _, inputs, outputs = layer.weight.shape
    with torch.no_grad():
        layer.weight.copy_(streams.normal(inputs, outputs) * (gain * math.sqrt(2 / (inputs + outputs))))
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


class BatchedLayerNorm(nn.Module):
    """Layer norm over the last axis with a scale and shift of each seed's own."""

    def __init__(self, seeds: int, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(seeds, 1, features))
        self.shift = nn.Parameter(torch.zeros(seeds, 1, features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps) * self.scale + self.shift


class BatchedBatchNorm(nn.Module):
    """Batch norm with statistics, scale and shift of each seed's own: [S, B, F] -> [S, B, F]."""

    def __init__(self, seeds: int, features: int) -> None:
        super().__init__()
        # Scale and shift lie here, not in BatchNorm1d: every parameter has a seed axis.
        self.norm = nn.BatchNorm1d(seeds * features, affine=False)
        self.scale = nn.Parameter(torch.ones(seeds, 1, features))
        self.shift = nn.Parameter(torch.zeros(seeds, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        seeds, batch, features = x.shape
        flat = self.norm(x.transpose(0, 1).reshape(batch, seeds * features))
        return flat.view(batch, seeds, features).transpose(0, 1) * self.scale + self.shift


def dropout(x: Tensor, keep: Tensor, probability: float) -> Tensor:
    """Zero the cells of ``x`` [S, B, D] whose uniform number in ``keep`` lies below ``probability``; scale the rest."""
    return x * (keep >= probability) / (1 - probability)


def clip_gradients_per_seed(max_norm: float) -> Callable[[Sequence[nn.Parameter]], None]:
    """Clip the gradient norm of each seed's model on its own, as ``clip_grad_norm_`` does for one model."""

    def clip(parameters: Sequence[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
        scale = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))

    return clip


def adam(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    """Adam with its fused kernel: one pass over all parameters of all seeds."""
    return torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)


def shuffled_batches(streams: SeedStreams, rows: int, batch_size: int) -> list[Tensor]:
    """Row numbers [S, B] of one epoch: each seed in an order of its own; the last batch may be smaller."""
    return list(streams.permutations(rows).split(batch_size, dim=1))
