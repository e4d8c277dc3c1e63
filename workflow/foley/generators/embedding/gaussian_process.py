"""A Gaussian-process generator: what a class without audio sounds like, from the classes around it.

The mean embedding of a class is a Gaussian process over its class vector (Rasmussen & Williams 2006, chapter 2), in
embeddings scaled to deviation 1: a radial kernel between class vectors, which are brought to unit length, less the
seen classes' mean, and to unit length again. Around its mean a class has the shape that the seen classes share:
their pooled covariance, shrunk after Ledoit & Wolf (2004). Nothing is trained by gradient steps, the output is not
bounded, and seeds differ in nothing but the noise of the samples.

That noise comes in pairs of opposite sign, so that an even number of samples has the class's predicted mean exactly.

Length scale and noise of the kernel are chosen on seen classes alone: some are left out in turn, and their clips
recognised among them, by the cosine to the predicted means in the space where the shared covariance is white.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import SeedStreams, derive
from foley.training.checkpoint import Checkpoint
from foley.training.covariance import shrunk_covariance, whitening
from foley.training.loop import choose_device
from foley.training.scaling import Scaling

log = logging.getLogger(__name__)

# Where too few seen classes are there to choose them.
FALLBACK = (1.0, 1.0)


@dataclass(frozen=True)
class GaussianProcessOptions:
    """``length_scales`` are multiples of the median squared distance between seen classes' vectors, ``noises`` of the
    kernel's diagonal. The pair is chosen in ``groupings`` of the seen classes into parts of about ``held_out``.

    shrinkage: part of the identity (of equal trace) in the covariance that whitens while choosing.
    uncertainty: how unsure the process is of a class's mean widens its samples.
    """

    length_scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    noises: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    held_out: int = 8
    groupings: int = 4
    shrinkage: float = 0.3
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if not self.length_scales or not self.noises or min(*self.length_scales, *self.noises) <= 0:
            raise ValueError("length_scales and noises must be positive")
        if self.held_out < 2 or self.groupings < 1 or not 0 <= self.shrinkage < 1:
            raise ValueError("held_out must be at least 2, groupings at least 1, shrinkage in [0, 1)")


@dataclass(frozen=True)
class _Process:
    """The process given the means of some classes."""

    centre: Tensor  # of the class vectors [A]
    vectors: Tensor  # [C, A]
    distance: Tensor  # unit of length scales
    scale: float
    inverse: Tensor  # [C, C]
    mean: Tensor  # over classes [D]
    weights: Tensor  # [C, D]

    @classmethod
    def of(cls, vectors: Tensor, means: Tensor, scale: float, noise: float) -> _Process:
        """Class vectors [C, A] and mean embeddings [C, D] -> the process."""
        unit = functional.normalize(vectors, dim=1)
        centre = unit.mean(dim=0)
        known = functional.normalize(unit - centre, dim=1)
        apart = torch.cdist(known, known).square()
        rows, columns = torch.triu_indices(len(known), len(known), 1)
        # Classes with one vector between them cannot be told apart; any unit does.
        distance = apart[rows, columns].median().clamp(min=1e-6) if len(rows) else apart.new_ones(())
        kernel = torch.exp(-apart / (scale * distance))
        inverse = torch.linalg.inv(
            kernel + noise * torch.eye(len(known), dtype=kernel.dtype, device=kernel.device)
        )
        mean = means.mean(dim=0)
        return cls(centre, known, distance, scale, inverse, mean, inverse @ (means - mean))

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Class vectors [C', A] -> mean embeddings [C', D] and the process's own variance [C'], at most 1."""
        asked = functional.normalize(functional.normalize(vectors, dim=1) - self.centre, dim=1)
        kernel = torch.exp(-torch.cdist(asked, self.vectors).square() / (self.scale * self.distance))
        variance = 1 - (kernel @ self.inverse * kernel).sum(dim=1)
        return self.mean + kernel @ self.weights, variance.clamp(min=0)


def _class_means(x: Tensor, classes: Tensor, count: int) -> Tensor:
    """[N, D] and rows [N] -> [count, D]."""
    sums = x.new_zeros(count, x.shape[1]).index_add_(0, classes, x)
    return sums / torch.bincount(classes, minlength=count).clamp(min=1).unsqueeze(1)


class GaussianProcess:
    """See the module."""

    Options = GaussianProcessOptions

    def __init__(self, options: GaussianProcessOptions, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.process: _Process | None = None
        self.chosen = FALLBACK

    def fit(self, data: SeenData, *, checkpoint: Checkpoint | None = None) -> None:
        """Solve; there is nothing to continue from a checkpoint.

        Raises:
            ValueError: a seen class has no embedding.
        """
        x, classes = data.embeddings.to(self.device).double(), data.classes.to(self.device)
        vectors = data.vectors.to(self.device).double()
        empty = (torch.bincount(classes, minlength=len(vectors)) == 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(f"seen classes in rows {empty} have no embedding to learn from")
        self.scaling = Scaling.of("standardise", x)
        x = self.scaling.apply(x)
        self.chosen = self._choose(x, classes, vectors)
        means = _class_means(x, classes, len(vectors))
        self.process = _Process.of(vectors, means, *self.chosen)
        covariance = shrunk_covariance(x - means[classes])
        self.shape = torch.linalg.cholesky(covariance)
        # Between classes, for the process's own doubt.
        self.spread = torch.linalg.cholesky(shrunk_covariance(means - means.mean(dim=0)))

    @torch.inference_mode()
    def sample(self, vectors: Tensor, count: int) -> Tensor:
        if self.process is None:
            raise RuntimeError("fit() first")
        means, variances = self.process.predict(vectors.to(self.device).double())
        out = []
        for number, (mean, variance) in enumerate(zip(means, variances, strict=True)):
            streams = SeedStreams(self.seeds, "gaussian process", "sample", number)
            noise = self._pairs(streams, count, len(mean)) @ self.shape.T
            if self.options.uncertainty:
                noise = noise + variance.sqrt() * (self._pairs(streams, count, len(mean)) @ self.spread.T)
            out.append(self.scaling.undo(mean + noise))
        return torch.stack(out, dim=1).float().cpu()

    def _pairs(self, streams: SeedStreams, count: int, dim: int) -> Tensor:
        """Standard normal numbers [S, count, D] in pairs of opposite sign; an odd one out is zero."""
        half = streams.normal(count // 2, dim).to(self.device).double()
        odd = half.new_zeros(len(half), count % 2, dim)
        return torch.cat([half, -half, odd], dim=1)

    def _choose(self, x: Tensor, classes: Tensor, vectors: Tensor) -> tuple[float, float]:
        """The length scale and noise that best recognise seen classes left out, among themselves."""
        o = self.options
        parts = max(2, len(vectors) // o.held_out)
        if len(vectors) < 2 * parts or len(o.length_scales) * len(o.noises) == 1:
            chosen = FALLBACK if len(vectors) < 2 * parts else (o.length_scales[0], o.noises[0])
            log.warning("gaussian process: length scale %g and noise %g, not chosen by seen classes", *chosen)
            return chosen
        grid = [(scale, noise) for scale in o.length_scales for noise in o.noises]
        recalls = torch.zeros(len(grid), dtype=torch.float64, device=self.device)
        for grouping in range(o.groupings):
            stream = torch.Generator().manual_seed(derive(0, "gaussian process", grouping))
            of_class = torch.randperm(len(vectors), generator=stream).to(self.device) % parts
            for part in range(parts):
                out = of_class == part
                held = out[classes]
                # Row numbers among the classes that stay, and among those left out.
                renumbered = torch.where(out, out.cumsum(0), (~out).cumsum(0)) - 1
                kept, truth = renumbered[classes[~held]], renumbered[classes[held]]
                means = _class_means(x[~held], kept, int((~out).sum()))
                white = whitening(shrunk_covariance(x[~held] - means[kept]), o.shrinkage)
                middle = means.mean(dim=0)
                clips = functional.normalize((x[held] - middle) @ white, dim=1)
                for row, (scale, noise) in enumerate(grid):
                    predicted, _ = _Process.of(vectors[~out], means, scale, noise).predict(vectors[out])
                    towards = functional.normalize((predicted - middle) @ white, dim=1)
                    right = ((clips @ towards.T).argmax(dim=1) == truth).double()
                    recalls[row] += _class_means(right.unsqueeze(1), truth, int(out.sum())).sum()
        recalls /= o.groupings * len(vectors)
        best = int((recalls == recalls.max()).nonzero().max())  # of equals the smoothest
        log.info(
            "gaussian process: length scale %g, noise %g, mean recall of seen classes left out %.3f",
            *(*grid[best], recalls[best]),
        )
        return grid[best]
