"""Nearest class mean: real embeddings of seen classes, synthetic ones of unseen classes, no training.

Embeddings are scaled to deviation 1 and whitened by the covariance that seen classes share around their means
(shrunk after Ledoit & Wolf 2004, then mixed with the identity), as in linear discriminant analysis; a clip's score
for a class is the cosine between both, seen from the middle of the seen classes' means, or less the squared distance.
Needs a generator, since a class is known by examples only. The mean over many samples cancels their noise, so that
seeds of a generator without training noise agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from foley.classifiers.protocol import ZeroShotData
from foley.training.checkpoint import Checkpoint
from foley.training.covariance import shrunk_covariance, whitening
from foley.training.loop import choose_device
from foley.training.scaling import Scaling


@dataclass(frozen=True)
class PrototypeOptions:
    """``shrinkage``: part of the identity in the covariance that whitens; 1 leaves the directions as they are."""

    score: Literal["cosine", "distance"] = "cosine"
    shrinkage: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.shrinkage <= 1:
            raise ValueError("shrinkage must lie in [0, 1]")


class Prototype:
    """See the module."""

    Options = PrototypeOptions

    def __init__(self, options: PrototypeOptions, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.prototypes: Tensor | None = None

    def fit(self, data: ZeroShotData, *, checkpoint: Checkpoint | None = None) -> None:
        """Take means; there is nothing to continue from a checkpoint.

        Raises:
            ValueError: there are no synthetic embeddings of the unseen classes.
        """
        if data.synthetic is None:
            raise ValueError(
                "the prototype classifier knows a class by examples: give the method a generator, or take "
                "`ale` or `ridge`, which know it by its class vector"
            )
        data = data.to(self.device)
        real = (data.embeddings if data.embeddings.dim() == 3 else data.embeddings.unsqueeze(0)).double()
        assert data.synthetic is not None
        self.scaling = Scaling.of("standardise", real)
        real = self.scaling.apply(real)
        made = self.scaling.apply(data.synthetic.double().flatten(1, 2)).unflatten(
            1, data.synthetic.shape[1:3]
        )
        counts = torch.bincount(data.classes, minlength=data.seen).clamp(min=1)
        seen = real.new_zeros(len(real), data.seen, real.shape[2]).index_add_(1, data.classes, real)
        seen = seen / counts.view(1, -1, 1)
        residuals = real - seen[:, data.classes]
        self.white = torch.stack(
            [whitening(shrunk_covariance(part), self.options.shrinkage) for part in residuals]
        )
        self.middle = seen.mean(dim=1, keepdim=True)
        both = torch.cat([seen.expand(len(made), -1, -1), made.mean(dim=2)], dim=1)
        self.prototypes = self._placed(both)

    def score(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        if self.prototypes is None:
            raise RuntimeError("fit() first")
        x = embeddings.to(self.device).double()
        x = self._placed(self.scaling.apply(x if x.dim() == 3 else x.unsqueeze(0)))
        towards = self.prototypes[:, classes.to(self.device)]
        if self.options.score == "cosine":
            scores = functional.normalize(x, dim=2) @ functional.normalize(towards, dim=2).mT
        else:
            scores = -torch.cdist(x.expand(len(towards), -1, -1), towards).square()
        return scores.float().expand(len(self.seeds), -1, -1).cpu()

    def _placed(self, x: Tensor) -> Tensor:
        """[S, N, D] -> [S, N, D], whitened around the middle of the seen classes."""
        return (x - self.middle) @ self.white
