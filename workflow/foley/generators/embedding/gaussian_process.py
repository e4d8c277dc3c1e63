"""A Gaussian-process generator: what a class without audio sounds like, from the classes around it.

The mean embedding of a class is a Gaussian process over its class vector (Rasmussen & Williams 2006, chapter 2), in
embeddings scaled to deviation 1: a radial kernel between class vectors, which are brought to unit length, less the
seen classes' mean, and to unit length again. Around its mean a class has the shape that the seen classes share:
their pooled covariance, shrunk after Ledoit & Wolf (2004). Nothing is trained by gradient steps, the output is not
bounded, and seeds differ in nothing but the noise of the samples.

That noise comes in pairs of opposite sign, one after the other (antithetic variates; Hammersley & Morton 1956), so that
the first n samples, n even, have the class's predicted mean exactly; the last of an odd number is half a pair. The
first n of many are a draw of n. Samples are not independent, though, and their scatter about their own mean is too
large for their number: what takes samples for independent reads ``sample_independent``.

Kernel, length scale and noise are chosen on seen classes alone: some are left out in turn, and their clips
recognised among them, by the cosine to the predicted means in the space where the shared covariance is white, or in
the space as it is, whichever serves the seen classes better.

Each part can be changed or left out by an option; docs/better_generator.md has what each is worth.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import SeedStreams
from foley.training.checkpoint import Checkpoint
from foley.training.covariance import shrunk_covariance, whitening
from foley.training.held_out_classes import class_means, hold_out_classes, part_count
from foley.training.loop import choose_device
from foley.training.scaling import Scaling, ScalingKind

log = logging.getLogger(__name__)

Kernel = Literal["radial", "linear"]
Score = Literal["cosine", "distance"]

# Length scale and noise where too few seen classes are there to choose them.
FALLBACK = (1.0, 1.0)
# Part of the identity in the covariance that whitens. With few clips or classes there is too little to learn it from.
SHRINKAGES = (0.3, 1.0)


@dataclass(frozen=True)
class GaussianProcessOptions:
    """``length_scales`` are multiples of the median squared distance between seen classes' vectors (of no use to the
    linear kernel, which makes the process a ridge regression on class vectors), ``noises`` of the kernel's diagonal.
    Of ``kernels``, ``length_scales`` and ``noises`` those are taken that recognise seen classes best, in
    ``groupings`` of the seen classes into parts of about ``held_out``; one of each fixes them.

    centre: the seen classes' mean vector is taken from the class vectors.
    scaling: of each dimension of the embeddings, learnt from seen classes.
    samples: around its mean a class has the seen classes' ``shared`` covariance, or all samples are the ``mean``.
    score, shrinkages: how clips are recognised while choosing, as in the prototype classifier. The first shrinkage
        gives way to a later one that serves seen classes better by more than the gain's standard error over classes
        (the one-standard-error rule of Breiman et al. 1984); 1 is no whitening.
    uncertainty: how unsure the process is of a class's mean widens its samples.
    """

    kernels: tuple[Kernel, ...] = ("radial",)
    length_scales: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    noises: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0, 3.0)
    held_out: int = 8
    groupings: int = 4
    centre: bool = True
    scaling: ScalingKind = "standardise"
    samples: Literal["shared", "mean"] = "shared"
    score: Score = "cosine"
    shrinkages: tuple[float, ...] = SHRINKAGES
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if not self.length_scales or not self.noises or min(*self.length_scales, *self.noises) <= 0:
            raise ValueError("length_scales and noises must be positive")
        if not self.kernels:
            raise ValueError("kernels must name at least one of radial, linear")
        if self.held_out < 2 or self.groupings < 1:
            raise ValueError("held_out must be at least 2, groupings at least 1")
        if not self.shrinkages or not 0 <= min(self.shrinkages) <= max(self.shrinkages) <= 1:
            raise ValueError("shrinkages must lie in [0, 1]")

    def grid(self) -> list[Setting]:
        """All that is chosen among, the smoother the later."""
        return [
            Setting(kernel, scale, noise)
            for kernel in self.kernels
            for scale in (self.length_scales if kernel == "radial" else (1.0,))
            for noise in self.noises
        ]


@dataclass(frozen=True)
class Setting:
    """One kernel with its numbers."""

    kernel: Kernel
    length_scale: float
    noise: float

    def __str__(self) -> str:
        scale = f", length scale {self.length_scale:g}" if self.kernel == "radial" else ""
        return f"{self.kernel} kernel{scale}, noise {self.noise:g}"


@dataclass(frozen=True)
class Process:
    """The process given the mean embeddings of some classes."""

    setting: Setting
    centre: Tensor  # of the class vectors [A]
    vectors: Tensor  # [C, A]
    distance: Tensor  # unit of length scales
    inverse: Tensor  # [C, C]
    mean: Tensor  # over classes [D]
    weights: Tensor  # [C, D]

    @classmethod
    def of(cls, vectors: Tensor, means: Tensor, setting: Setting, *, centre: bool = True) -> Process:
        """Class vectors [C, A] and mean embeddings [C, D] -> the process."""
        unit = functional.normalize(vectors, dim=1)
        middle = unit.mean(dim=0) if centre else torch.zeros_like(unit[0])
        known = functional.normalize(unit - middle, dim=1)
        rows, columns = torch.triu_indices(len(known), len(known), 1)
        apart = torch.cdist(known, known).square()
        # Classes with one vector between them cannot be told apart; any unit does.
        distance = apart[rows, columns].median().clamp(min=1e-6) if len(rows) else apart.new_ones(())
        noise = setting.noise * torch.eye(len(known), dtype=known.dtype, device=known.device)
        inverse = torch.linalg.inv(_kernel(setting, known, known, distance) + noise)
        mean = means.mean(dim=0)
        return cls(setting, middle, known, distance, inverse, mean, inverse @ (means - mean))

    def predict(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Class vectors [C', A] -> mean embeddings [C', D] and the process's own variance [C'], at most 1."""
        asked = functional.normalize(functional.normalize(vectors, dim=1) - self.centre, dim=1)
        kernel = _kernel(self.setting, asked, self.vectors, self.distance)
        # Vectors have length 1, so that the prior variance is 1 with either kernel.
        variance = 1 - (kernel @ self.inverse * kernel).sum(dim=1)
        return self.mean + kernel @ self.weights, variance.clamp(min=0)


def _kernel(setting: Setting, a: Tensor, b: Tensor, distance: Tensor) -> Tensor:
    if setting.kernel == "linear":
        return a @ b.T
    return torch.exp(-torch.cdist(a, b).square() / (setting.length_scale * distance))


class GaussianProcess:
    """See the module."""

    Options = GaussianProcessOptions

    def __init__(self, options: GaussianProcessOptions, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.process: Process | None = None
        self.chosen = Setting(options.kernels[0], *FALLBACK)
        self.shrinkage = options.shrinkages[0]

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
        self.scaling = Scaling.of(self.options.scaling, x)
        x = self.scaling.apply(x)
        self.chosen, self.shrinkage = self._choose(x, classes, vectors)
        means = class_means(x, classes, len(vectors))
        self.process = Process.of(vectors, means, self.chosen, centre=self.options.centre)
        self.shape = torch.linalg.cholesky(shrunk_covariance(x - means[classes]))
        # Between classes, for the process's own doubt.
        self.spread = torch.linalg.cholesky(shrunk_covariance(means - means.mean(dim=0)))

    @torch.inference_mode()
    def sample(self, vectors: Tensor, count: int) -> Tensor:
        if self.process is None:
            raise RuntimeError("fit() first")
        means, variances = self.process.predict(vectors.to(self.device).double())
        out = []
        for number, (mean, variance) in enumerate(zip(means, variances, strict=True)):
            made = mean.expand(len(self.seeds), count, -1)
            if self.options.samples == "shared":
                streams = SeedStreams(self.seeds, "gaussian process", "sample", number)
                made = made + self._pairs(streams, count, len(mean)) @ self.shape.T
            if self.options.uncertainty:
                streams = SeedStreams(self.seeds, "gaussian process", "doubt", number)
                made = made + variance.sqrt() * (self._pairs(streams, count, len(mean)) @ self.spread.T)
            out.append(self.scaling.undo(made))
        return torch.stack(out, dim=1).float().cpu()

    def sample_independent(self, vectors: Tensor, count: int) -> Tensor:
        """Class vectors [C, A] -> independent samples [S, C, count, D]: the first of each of ``count`` pairs."""
        return self.sample(vectors, 2 * count)[:, :, ::2]

    def _pairs(self, streams: SeedStreams, count: int, dim: int) -> Tensor:
        """Standard normal numbers [S, count, D]: a, -a, b, -b, …"""
        half = streams.normal_rows(-(-count // 2), dim).to(self.device).double()
        return torch.stack([half, -half], dim=2).flatten(1, 2)[:, :count]

    def _choose(self, x: Tensor, classes: Tensor, vectors: Tensor) -> tuple[Setting, float]:
        """The setting and the shrinkage that best recognise seen classes left out, among themselves."""
        o = self.options
        grid = o.grid()
        if len(grid) * len(o.shrinkages) == 1:
            return grid[0], o.shrinkages[0]
        if len(vectors) < 2 * part_count(len(vectors), o.held_out):
            chosen = Setting(o.kernels[0], *FALLBACK) if len(grid) > 1 else grid[0]
            log.warning(
                "gaussian process: %d seen classes are too few to choose by; %s", len(vectors), chosen
            )
            return chosen, o.shrinkages[0]
        recalls = x.new_zeros(len(o.shrinkages), len(grid), len(vectors))
        for part in hold_out_classes(
            classes, len(vectors), held_out=o.held_out, groupings=o.groupings, name="gaussian process"
        ):
            kept, out = x[~part.held], part.out
            means = class_means(kept, part.kept_rows, int((~out).sum()))
            covariance = shrunk_covariance(kept - means[part.kept_rows])
            middle = means.mean(dim=0)
            clips = x[part.held] - middle
            # Of all settings at once: [G, C', D]
            towards = torch.stack(
                [
                    Process.of(vectors[~out], means, setting, centre=o.centre).predict(vectors[out])[0]
                    for setting in grid
                ]
            )
            for row, shrinkage in enumerate(o.shrinkages):
                white = whitening(covariance, shrinkage)
                scores = compare(clips @ white, (towards - middle) @ white, o.score)
                right = (scores.argmax(dim=2) == part.held_rows).double().T
                recalls[row][:, out] += class_means(right, part.held_rows, int(out.sum())).T
        recalls /= o.groupings
        means = recalls.mean(dim=2)
        # For each shrinkage the best setting, of equals the smoothest.
        columns = [int((each == each.max()).nonzero().max()) for each in means]
        row = 0
        for other in range(1, len(o.shrinkages)):
            gain = recalls[other, columns[other]] - recalls[row, columns[row]]
            if gain.mean() > gain.std() / len(gain) ** 0.5:
                row = other
        setting = grid[columns[row]]
        log.info(
            "gaussian process: %s, shrinkage %g, mean recall of seen classes left out %.3f",
            *(setting, o.shrinkages[row], means[row, columns[row]]),
        )
        return setting, o.shrinkages[row]


def compare(x: Tensor, towards: Tensor, score: Score) -> Tensor:
    """Embeddings [N, D] or [S, N, D] and class means [S, C, D] in one space -> scores [S, N, C]."""
    if score == "cosine":
        return functional.normalize(x, dim=-1) @ functional.normalize(towards, dim=-1).mT
    return -torch.cdist(x.expand(len(towards), -1, -1), towards).square()
