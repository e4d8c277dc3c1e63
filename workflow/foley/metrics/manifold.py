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

from foley.metrics.vector_sets import BLOCK, Vectors, checked_pair, distances, row_blocks

# Squares of distances below this part of those of the vectors themselves have lost too many digits.
NEAR = 1e-3
# A ball is larger by this part, so that rounding puts nothing on its edge outside.
EDGE = 1e-9


@dataclass(frozen=True)
class ManifoldScores:
    """Each [...], as the batch; fractions, save that density may be above 1."""

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [..., N, M] of rows, to 1e-10 of each; exactly 0 between equal vectors."""
    return squared_distances(a, b).sqrt_()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Their squares [..., N, M], a new tensor.

    |a|^2 + |b|^2 - 2 a.b is a product of matrices, and ten times as fast as differences. It loses digits where two
    vectors lie much nearer to each other than to the middle: those pairs are computed again, from their difference.
    """
    middle = b.mean(dim=-2, keepdim=True)
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x, y = ((part - middle).expand(*batch, part.shape[-2], -1) for part in (a, b))
    of_x, of_y = (part.square().sum(dim=-1) for part in (x, y))
    squares = (x @ y.mT).mul_(-2).add_(of_x[..., :, None]).add_(of_y[..., None, :])
    near = squares <= NEAR * (of_x[..., :, None] + of_y.amax(dim=-1)[..., None, None])
    *where, rows, columns = near.nonzero(as_tuple=True)
    if len(rows) > squares.numel() // 16:
        return distances(a, b).square_()
    a, b = a.expand_as(x), b.expand_as(y)
    for part in torch.arange(len(rows), device=a.device).split(max(1, BLOCK // a.shape[-1])):
        place = tuple(index[part] for index in where)
        i, j = rows[part], columns[part]
        squares[(*place, i, j)] = (a[(*place, i)] - b[(*place, j)]).square().sum(dim=-1)
    return squares


def neighbour_distances(x: Tensor, k: int) -> Tensor:
    """Distance of each row of [..., N, D] to its k-th nearest other row [..., N]."""
    parts = []
    for rows in row_blocks(x, x):
        block = pairwise_distances(x[..., rows, :], x)
        block.diagonal(offset=rows.start, dim1=-2, dim2=-1).fill_(torch.inf)
        # Six times as fast as kthvalue for a few of many.
        parts.append(block.topk(k, dim=-1, largest=False).values[..., -1])
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
    x_reach, y_reach = x_radius * (1 + EDGE), y_radius * (1 + EDGE)
    precise: Tensor | bool = False
    inside: Tensor | int = 0
    recalled, covered = [], []
    for rows in row_blocks(x, y):
        apart = pairwise_distances(x[..., rows, :], y)
        in_real = apart <= x_reach[..., rows, None]
        balls = in_real.sum(dim=-2)
        precise = (balls > 0) | precise
        inside = balls.sum(dim=-1) + inside
        covered.append(in_real.any(dim=-1))
        recalled.append((apart <= y_reach[..., None, :]).any(dim=-1))
    return ManifoldScores(
        precision=torch.as_tensor(precise).double().mean(dim=-1),
        recall=torch.cat(recalled, dim=-1).double().mean(dim=-1),
        density=torch.as_tensor(inside).double() / (k * y.shape[-2]),
        coverage=torch.cat(covered, dim=-1).double().mean(dim=-1),
    )
