"""Two sets of vectors that are compared: real ones [..., N, D] and made ones [..., M, D].

Leading axes, such as seeds, are a batch and are broadcast against each other. Everything is in float64, on the
device of the real vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Vectors: TypeAlias = Tensor | np.ndarray
# Distances in memory at a time, all of a batch together: 128 MiB.
BLOCK = 2**24


def checked_vectors(values: Vectors, name: str, least: int = 1) -> Tensor:
    """Rows [..., N, D] as float64.

    Raises:
        ValueError: they have no rows and columns, fewer rows than ``least``, or are not finite; names them.
    """
    x = torch.as_tensor(values).double()
    if x.dim() < 2 or not x.shape[-1]:
        raise ValueError(f"{name} vectors must be rows [..., N, D], not of shape {list(x.shape)}")
    if x.shape[-2] < least:
        raise ValueError(
            f"{x.shape[-2]} {name} vectors: this measure needs {least} at least; give more clips"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name} vectors are not finite: look for clips or models that give NaN or infinity")
    return x


def checked_pair(real: Vectors, made: Vectors, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both sets as float64, on one device.

    Raises:
        ValueError: as ``checked_vectors``, or they differ in their dimensions.
    """
    a, b = checked_vectors(real, "real", least), checked_vectors(made, "synthetic", least)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"real vectors have {a.shape[-1]} dimensions, synthetic ones {b.shape[-1]}")
    return a, b.to(a.device)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances [..., N, M]; exactly 0 between equal vectors, which products of matrices do not give."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def row_blocks(a: Tensor, b: Tensor) -> Iterator[slice]:
    """Slices of the rows of ``a`` such that a block against all of ``b`` fits into memory."""
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]).numel()
    size = max(1, BLOCK // (batch * b.shape[-2]))
    for start in range(0, a.shape[-2], size):
        yield slice(start, min(start + size, a.shape[-2]))
