"""Kernel audio distance (KAD): the unbiased squared MMD between embeddings of real and synthetic clips.

Chung et al. 2025, "KAD: no more FAD! An effective and efficient evaluation metric for audio generation" (arXiv
2502.15602): Gaussian kernel exp(-|x - y|^2 / (2 bandwidth^2)), the median distance between *real* embeddings for a
bandwidth, times 100 (the factor of its toolkit, kadtk). Unlike FAD it assumes no Gaussians and has no bias in n; for
few clips, or sets that are equally distributed, it may be below zero.

The bandwidth is the one that kadtk documents; some of its releases took it from the synthetic set by mistake (its
issue 9). Values depend on it and on the embedding: a class's KAD has the class's own bandwidth, and is compared
between generators, not between classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foley.metrics.by_class import check_length, everything, on_device, row_groups
from foley.metrics.manifold import pairwise_distances, squared_distances
from foley.metrics.mmd import squared_mmd
from foley.metrics.vector_sets import Vectors, checked_pair

# What kadtk multiplies by, so that values are easy to read.
SCALE = 100.0
# Real vectors whose distances give the bandwidth; of more, evenly spaced ones do.
BANDWIDTH_VECTORS = 5000


@dataclass(frozen=True)
class KernelAudioScore:
    """KAD of one class (or of all: ``class_id`` None); ``value`` is NaN where ``warning`` says it cannot be had."""

    class_id: int | None
    n_real: int
    n_made: int
    bandwidth: float
    value: float
    warning: str


def kernel_audio_distances(
    real: Vectors,
    made: Vectors,
    *,
    real_classes: np.ndarray | None = None,
    made_classes: np.ndarray | None = None,
    bandwidth: float | None = None,
    device: torch.device | None = None,
) -> list[KernelAudioScore]:
    """Real [N, D] and synthetic [M, D] embeddings -> KAD of all, then, given both classes [N] and [M], of each class.

    Args:
        bandwidth: of the kernel; None for the median distance of the real vectors compared.

    Raises:
        ValueError: fewer than two vectors in a set, they do not fit, labels are missing, or the bandwidth is not
            positive; see ``checked_pair``.
    """
    if (real_classes is None) != (made_classes is None):
        raise ValueError("classes of only one of the sets: give real_classes and made_classes, or neither")
    if bandwidth is not None and bandwidth <= 0:
        raise ValueError(f"bandwidth must be positive, not {bandwidth}")
    check_length(real, real_classes, "real")
    check_length(made, made_classes, "synthetic")
    x, y = checked_pair(on_device(real, device), on_device(made, device), least=2)
    if real_classes is None or made_classes is None:
        groups = everything(len(x), len(y))
    else:
        groups = row_groups(real_classes, made_classes)
    scores = []
    for class_id, (a, b) in groups:
        width, value, warning = float("nan"), float("nan"), ""
        if min(len(a), len(b)) < 2:
            warning = f"{len(a)} real and {len(b)} synthetic vectors: KAD needs two of each"
        else:
            width = median_distance(x[a]) if bandwidth is None else bandwidth
            if width == 0:
                warning = "all real vectors are equal, so that there is no bandwidth"
            else:
                value = SCALE * squared_mmd(x[a], y[b], _Gaussian(width)).item()
        scores.append(KernelAudioScore(class_id, len(a), len(b), width, value, warning))
    return scores


def median_distance(x: Tensor) -> float:
    """Median distance between different rows of [N, D], at most ``BANDWIDTH_VECTORS`` of them; 0 if all are equal."""
    if len(x) > BANDWIDTH_VECTORS:
        x = x[torch.linspace(0, len(x) - 1, BANDWIDTH_VECTORS, device=x.device).long()]
    apart = pairwise_distances(x, x)
    above = apart[torch.ones_like(apart, dtype=torch.bool).triu_(1)]
    if not bool((above > 0).all()):
        above = above[above > 0]
    return float(np.median(above.cpu().numpy())) if len(above) else 0.0


@dataclass(frozen=True)
class _Gaussian:
    bandwidth: float

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return squared_distances(a, b).div_(-2 * self.bandwidth**2).exp_()
