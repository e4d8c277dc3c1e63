"""Covariances of few vectors in many dimensions, and the space where they are white."""

from __future__ import annotations

import torch
from torch import Tensor


def shrunk_covariance(residuals: Tensor) -> Tensor:
    """The covariance [D, D] of centred rows [N, D], shrunk towards a multiple of the identity.

    Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices", equation 14. With
    fewer rows than dimensions, or none that vary, it stays invertible.
    """
    n, dim = residuals.shape
    sample = residuals.T @ residuals / n
    mean = sample.diagonal().mean()
    target = mean * torch.eye(dim, dtype=sample.dtype, device=sample.device)
    distance = (sample - target).square().sum()
    # Mean squared distance of one row's outer product from the sample covariance.
    error = ((residuals.square().sum(dim=1).square()).sum() / n - sample.square().sum()) / n
    weight = (error / distance).clamp(0, 1) if distance > 0 else torch.ones_like(mean)
    shrunk = (1 - weight) * sample + weight * target
    # Rows that do not vary at all have no covariance; a tiny one keeps what follows finite.
    return shrunk + 1e-9 * (mean + 1e-3) * torch.eye(dim, dtype=sample.dtype, device=sample.device)


def whitening(covariance: Tensor, shrinkage: float = 0.0) -> Tensor:
    """W [D, D] such that rows times W have the identity for a covariance.

    Args:
        shrinkage: part of the identity, of equal trace, that is mixed in first.
    """
    dim = len(covariance)
    identity = torch.eye(dim, dtype=covariance.dtype, device=covariance.device)
    mixed = (1 - shrinkage) * covariance + shrinkage * covariance.diagonal().mean() * identity
    return torch.linalg.cholesky(torch.linalg.inv(mixed))
