"""How far two sets of vectors lie on one manifold: improved precision and recall, density and coverage.

A set's manifold is the union of balls, one about each vector, that reach to its k-th nearest neighbour in the set.

- precision: synthetic vectors on the manifold of the real ones; recall: real vectors on the manifold of the synthetic
  ones (Kynkäänniemi et al. 2019, equations 1 and 2).
- density: how many of the real balls a synthetic vector lies in, over k: 1 is expected of real vectors, more is
  possible; coverage: real balls with a synthetic vector in them (Naeem et al. 2020, equations 2 and 3). An outlier
  among the real vectors, whose ball is large, harms them less than precision.

Vectors on a ball's edge are in it. Values depend on k and on both numbers of vectors: compare only equal ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foley.metrics.vector_sets import Vectors, checked_pair, distances, row_blocks


@dataclass(frozen=True)
class ManifoldScores:
    """Each [...], as the batch; fractions, save that density may be above 1."""

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def neighbour_distances(x: Tensor, k: int) -> Tensor:
    """Distance of each row of [..., N, D] to its k-th nearest other row [..., N]."""
    parts = []
    for rows in row_blocks(x, x):
        block = distances(x[..., rows, :], x)
        block.diagonal(offset=rows.start, dim1=-2, dim2=-1).fill_(torch.inf)
        parts.append(block.kthvalue(k, dim=-1).values)
    return torch.cat(parts, dim=-1)


def compare_manifolds(real: Vectors, made: Vectors, k: int = 3) -> ManifoldScores:
    """Real [..., N, D] against synthetic [..., M, D] vectors.

    Raises:
        ValueError: k is below 1, a set has fewer than k + 1 vectors, or they do not fit; see ``checked_pair``.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    x, y = checked_pair(real, made, least=k + 1)
    x_radius, y_radius = neighbour_distances(x, k), neighbour_distances(y, k)
    precise: Tensor | bool = False
    inside: Tensor | int = 0
    recalled, covered = [], []
    for rows in row_blocks(x, y):
        apart = distances(x[..., rows, :], y)
        in_real = apart <= x_radius[..., rows, None]
        precise = in_real.any(dim=-2) | precise
        inside = in_real.sum(dim=(-2, -1)) + inside
        covered.append(in_real.any(dim=-1))
        recalled.append((apart <= y_radius[..., None, :]).any(dim=-1))
    return ManifoldScores(
        precision=torch.as_tensor(precise).double().mean(dim=-1),
        recall=torch.cat(recalled, dim=-1).double().mean(dim=-1),
        density=torch.as_tensor(inside).double() / (k * y.shape[-2]),
        coverage=torch.cat(covered, dim=-1).double().mean(dim=-1),
    )
