"""Maximum mean discrepancy between two sets of vectors (Gretton et al. 2012, JMLR 13).

The squared discrepancy in its unbiased form (their equation 3): its expectation is 0 for two sets of one
distribution, whatever their sizes, so single values may be below 0. With the Gaussian kernel it sees any difference
between distributions, with the polynomial one it is the KID of Bińkowski et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from foley.metrics.vector_sets import Vectors, checked_pair, checked_vectors, distances, row_blocks

# Vectors [..., N, D] and [..., M, D] -> [..., N, M].
Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GaussianKernel:
    """exp(-|x - y|^2 / (2 bandwidth^2)); ``bandwidth`` [...] in units of the vectors.

    A bandwidth of 0 is the limit: 1 for equal vectors, 0 for others.
    """

    bandwidth: Tensor

    @classmethod
    def of(cls, real: Vectors, most: int = 2000) -> GaussianKernel:
        """With the median distance between real vectors (Gretton et al., section 8) for a bandwidth.

        Real vectors alone decide, so that all generators are measured by one kernel. Pairs of equal vectors do not
        count. Of more than ``most`` rows evenly spaced ones are taken.

        Raises:
            ValueError: fewer than two vectors.
        """
        x = checked_vectors(real, "real", least=2)
        if x.shape[-2] > most:
            x = x[..., torch.linspace(0, x.shape[-2] - 1, most, device=x.device).long(), :]
        rows, columns = torch.triu_indices(x.shape[-2], x.shape[-2], 1, device=x.device)
        apart = distances(x, x)[..., rows, columns]
        apart = torch.where(apart > 0, apart, torch.full_like(apart, torch.nan))
        # PyTorch's median is the lower of the two in the middle.
        median = (apart.nanmedian(dim=-1).values - (-apart).nanmedian(dim=-1).values) / 2
        return cls(median.nan_to_num(0.0))

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        apart = distances(a, b)
        scaled = apart / self.bandwidth.to(apart.device)[..., None, None]
        return torch.where(apart == 0, 1.0, torch.exp(-scaled.square() / 2))


@dataclass(frozen=True)
class PolynomialKernel:
    """(x.y / D + 1)^degree; degree 3 is that of KID."""

    degree: int = 3

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / a.shape[-1] + 1) ** self.degree


def squared_mmd(real: Vectors, made: Vectors, kernel: Kernel) -> Tensor:
    """Unbiased squared discrepancy of real [..., N, D] and synthetic [..., M, D] vectors -> [...].

    Raises:
        ValueError: a set has fewer than two vectors, or they do not fit; see ``checked_pair``.
    """
    x, y = checked_pair(real, made, least=2)
    return _within(x, kernel) + _within(y, kernel) - 2 * _across(x, y, kernel)


def _within(x: Tensor, kernel: Kernel) -> Tensor:
    """Mean of the kernel over pairs of different rows."""
    n = x.shape[-2]
    total: Tensor | float = 0.0
    for rows in row_blocks(x, x):
        block = kernel(x[..., rows, :], x)
        own = block.diagonal(offset=rows.start, dim1=-2, dim2=-1)
        total = total + block.sum(dim=(-2, -1)) - own.sum(dim=-1)
    return torch.as_tensor(total) / (n * (n - 1))


def _across(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    total: Tensor | float = 0.0
    for rows in row_blocks(x, y):
        total = total + kernel(x[..., rows, :], y).sum(dim=(-2, -1))
    return torch.as_tensor(total) / (x.shape[-2] * y.shape[-2])
