"""Cosine between the means of two sets of vectors, seen from a centre.

Embeddings that are never negative (outputs of a ReLU) all point about the same way: two of different classes may have
a cosine of 0.9 about the origin. About a centre among the classes the cosine says in which direction a class departs
from what is common to all, and a guess that knows nothing of the class has about 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foley.metrics.vector_sets import Vectors, checked_pair


def cosine_of_means(real: Vectors, made: Vectors, centre: Vectors | None = None) -> Tensor:
    """Real [..., N, D] and synthetic [..., M, D] vectors -> cosine [...]; 0 where a mean is the centre itself.

    Args:
        centre: [..., D]; the origin when left out.

    Raises:
        ValueError: a set has no vectors, or they do not fit; see ``checked_pair``.
    """
    x, y = checked_pair(real, made)
    a, b = x.mean(dim=-2), y.mean(dim=-2)
    if centre is not None:
        origin = torch.as_tensor(centre).to(a)
        a, b = a - origin, b - origin
    lengths = a.norm(dim=-1) * b.norm(dim=-1)
    product = (a * b).sum(dim=-1) / torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    return product.clamp(-1, 1)
