"""Fréchet distance between Gaussians fitted to two sets of vectors: FID of images, FAD of audio.

Dowson & Landau 1982, "The Fréchet distance between multivariate normal distributions", equation 4; as a measure of
generators Heusel et al. 2017, equation 6. As there, the *squared* distance is what is reported:

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2))

It grows with the dimensions and their units, and its estimate is biased upwards, the more so the fewer the vectors:
compare only values of equal numbers of vectors.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from foley.metrics.vector_sets import Vectors, checked_pair
from foley.training.covariance import shrunk_covariance

CovarianceKind = Literal["sample", "shrunk"]


def covariance_of(x: Tensor, kind: CovarianceKind = "sample") -> Tensor:
    """Covariance [..., D, D] of rows [..., N, D].

    ``sample`` divides by N - 1. ``shrunk`` draws that of few rows in many dimensions towards a multiple of the
    identity (Ledoit & Wolf 2004), which has far less error when N is not much larger than D.
    """
    residuals = x - x.mean(dim=-2, keepdim=True)
    if kind == "sample":
        return residuals.mT @ residuals / (x.shape[-2] - 1)
    flat = residuals.reshape(-1, *residuals.shape[-2:])
    shrunk = torch.stack([shrunk_covariance(part) for part in flat])
    return shrunk.view(*x.shape[:-2], x.shape[-1], x.shape[-1])


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semi-definite matrix, singular or not."""
    values, vectors = torch.linalg.eigh(covariance)
    # What is zero comes out as a little less or more, whose root would be no longer little.
    least = values[..., -1:].clamp(min=0) * values.shape[-1] * torch.finfo(values.dtype).eps
    roots = torch.where(values > least, values, torch.zeros_like(values)).sqrt()
    return (vectors * roots.unsqueeze(-2)) @ vectors.mT


def trace_of_root(a: Tensor, b: Tensor) -> Tensor:
    """tr((A B)^(1/2)) of covariances [..., D, D] -> [...].

    It is the sum of the singular values of A^(1/2) B^(1/2): their squares are the eigenvalues of A^(1/2) B A^(1/2),
    which are those of A B. Nothing is inverted, so singular covariances do no harm.
    """
    return torch.linalg.svdvals(_root(a) @ _root(b)).sum(dim=-1)


def frechet_of_moments(mean_a: Tensor, a: Tensor, mean_b: Tensor, b: Tensor) -> Tensor:
    """Squared distance of Gaussians with means [..., D] and covariances [..., D, D] -> [...]."""
    return _combine(mean_a - mean_b, a, b, trace_of_root(a, b))


def frechet_distance(real: Vectors, made: Vectors, *, covariance: CovarianceKind = "sample") -> Tensor:
    """Squared Fréchet distance of real [..., N, D] and synthetic [..., M, D] vectors -> [...].

    Args:
        covariance: ``shrunk`` for sets that are small for their dimensions; see ``covariance_of``.

    Raises:
        ValueError: a set has fewer than two vectors, or they do not fit; see ``checked_pair``.
    """
    x, y = checked_pair(real, made, least=2)
    a, b = covariance_of(x, covariance), covariance_of(y, covariance)
    between = x.mean(dim=-2) - y.mean(dim=-2)
    dim, rank = x.shape[-1], x.shape[-2] + y.shape[-2]
    if rank >= dim:
        return _combine(between, a, b, trace_of_root(a, b))
    # Few vectors vary in few directions. In all others both covariances are a multiple of the identity (or zero), so
    # that only a small matrix is left to take the root of.
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    residuals = [(part - part.mean(dim=-2, keepdim=True)).expand(*batch, *part.shape[-2:]) for part in (x, y)]
    basis = torch.linalg.qr(torch.cat(residuals, dim=-2).mT).Q
    inner = [basis.mT @ part @ basis for part in (a, b)]
    outer = [
        ((_trace(w) - _trace(i)) / (dim - rank)).clamp(min=0) for w, i in zip((a, b), inner, strict=True)
    ]
    return _combine(between, a, b, trace_of_root(*inner) + (dim - rank) * outer[0].sqrt() * outer[1].sqrt())


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(dim=-1)


def _combine(between: Tensor, a: Tensor, b: Tensor, root: Tensor) -> Tensor:
    # Of equal sets rounding may leave a little less than zero.
    return (between.square().sum(dim=-1) + _trace(a) + _trace(b) - 2 * root).clamp(min=0)
