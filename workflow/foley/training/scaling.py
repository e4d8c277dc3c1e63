"""Scaling of each dimension by what training data look like, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ScalingKind = Literal["none", "min_max", "standardise"]


@dataclass(frozen=True)
class Scaling:
    """x -> (x - shift) / factor, dimension by dimension; ``shift`` and ``factor`` are [1, D] or [S, 1, D]."""

    shift: Tensor
    factor: Tensor

    @classmethod
    def of(cls, kind: ScalingKind, x: Tensor) -> Scaling:
        """Learnt from rows [N, D] or [S, N, D].

        ``min_max`` takes what was seen to [0, 1], ``standardise`` to mean 0 and deviation 1. A dimension that never
        varies is shifted only.
        """
        if kind == "none":
            return cls(torch.zeros_like(x[..., :1, :]), torch.ones_like(x[..., :1, :]))
        if kind == "min_max":
            shift = x.amin(dim=-2, keepdim=True)
            factor = x.amax(dim=-2, keepdim=True) - shift
        else:
            shift = x.mean(dim=-2, keepdim=True)
            factor = x.std(dim=-2, keepdim=True, correction=0)
        return cls(shift, torch.where(factor > 1e-8, factor, torch.ones_like(factor)))

    def apply(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.factor

    def undo(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift
