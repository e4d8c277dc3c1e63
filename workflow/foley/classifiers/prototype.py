"""Nearest class mean: real embeddings of seen classes, synthetic ones of unseen classes, no training.

Embeddings are scaled to deviation 1 and whitened by the covariance that seen classes share around their means
(shrunk after Ledoit & Wolf 2004, then mixed with the identity), as in linear discriminant analysis, unless seen
classes that play unseen ones are recognised better without. A clip's score for a class is the cosine between both,
seen from the middle of the seen classes' means, or less the squared distance. Needs a generator, since a class is
known by examples only. The mean over many samples cancels their noise, so that seeds of a generator without training
noise agree.

Where seen and unseen classes compete, seen ones win too often: their means are real, those of unseen classes are
guessed. Calibrated stacking (Chao et al. 2016, "An empirical study and analysis of generalized zero-shot learning
for object recognition in the wild", equation 3) takes a constant from the seen classes' scores. It is chosen on seen
classes alone, see ``calibration``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foley.classifiers.protocol import ZeroShotData
from foley.generators.embedding.gaussian_process import (
    SHRINKAGES,
    GaussianProcess,
    GaussianProcessOptions,
    Score,
    compare,
)
from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import derive
from foley.training.checkpoint import Checkpoint
from foley.training.covariance import shrunk_covariance, whitening
from foley.training.held_out_classes import class_means, hold_out_classes, part_count
from foley.training.loop import choose_device
from foley.training.scaling import Scaling, ScalingKind

log = logging.getLogger(__name__)

# While calibrating: parts that the clips of the kept classes are cut into, and classes left out at a time.
CLIP_PARTS = 5
HELD_OUT = 8
GROUPINGS = 2


@dataclass(frozen=True)
class PrototypeOptions:
    """``scaling`` of each dimension, learnt from real embeddings of seen classes. ``shrinkage``: part of the identity
    in the covariance that whitens; 1 leaves the directions as they are. Left out, seen classes choose between 0.3 and
    1: some are left out, and a Gaussian process over the class vectors guesses their means, whatever generator the
    method has.

    ``calibration: held_out`` takes the constant from the seen classes' scores that gives the best harmonic mean where
    some seen classes play unseen ones in the same way, and their clips compete with clips of the other seen classes
    that are left out of these classes' means. It changes nothing where unseen classes compete alone.
    """

    scaling: ScalingKind = "standardise"
    score: Score = "cosine"
    shrinkage: float | None = None
    calibration: Literal["none", "held_out"] = "held_out"

    def __post_init__(self) -> None:
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise ValueError("shrinkage must lie in [0, 1]")


@dataclass(frozen=True)
class _Space:
    """Where classes are compared: around the middle of the seen classes' means [S, 1, D], whitened by [S, D, D]."""

    middle: Tensor
    white: Tensor

    @classmethod
    def of(cls, x: Tensor, classes: Tensor, means: Tensor, shrinkages: Sequence[float]) -> _Space:
        """Embeddings [S, N, D] of classes [N], the classes' means [S, C, D], and a shrinkage for each seed [S]."""
        residuals = x - means[:, classes]
        white = torch.stack(
            [
                whitening(shrunk_covariance(part), shrinkage)
                for part, shrinkage in zip(residuals, shrinkages, strict=True)
            ]
        )
        return cls(means.mean(dim=1, keepdim=True), white)

    def scores(self, x: Tensor, towards: Tensor, score: Score) -> Tensor:
        """[S, N, D] and class means [S, C, D] -> [S, N, C]."""
        return compare((x - self.middle) @ self.white, (towards - self.middle) @ self.white, score)


class Prototype:
    """See the module."""

    Options = PrototypeOptions

    def __init__(self, options: PrototypeOptions, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.prototypes: Tensor | None = None
        self.constant = torch.zeros(1, dtype=torch.float64, device=self.device)

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
        self.scaling = Scaling.of(self.options.scaling, real)
        real = self.scaling.apply(real)
        made = self.scaling.apply(data.synthetic.double().flatten(1, 2)).unflatten(
            1, data.synthetic.shape[1:3]
        )
        self.seen = data.seen
        means = class_means(real, data.classes, data.seen)
        guides = []
        if self.options.shrinkage is None or self.options.calibration == "held_out":
            # Where embeddings are each seed's own, so is what they choose.
            guides = [self._guide(SeenData(x, data.classes, data.vectors[: data.seen])) for x in real]
        shrinkages = (
            [self.options.shrinkage] * len(real)
            if self.options.shrinkage is not None
            else [guide.shrinkage for guide in guides]
        )
        self.space = _Space.of(real, data.classes, means, shrinkages)
        self.prototypes = torch.cat([means.expand(len(made), -1, -1), made.mean(dim=2)], dim=1)
        if self.options.calibration == "held_out":
            vectors = data.vectors[: data.seen].double()
            self.constant = torch.stack(
                [
                    self._calibrate(x, data.classes, vectors, guide)
                    for x, guide in zip(real, guides, strict=True)
                ]
            )

    def score(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        if self.prototypes is None:
            raise RuntimeError("fit() first")
        x = embeddings.to(self.device).double()
        x = self.scaling.apply(x if x.dim() == 3 else x.unsqueeze(0))
        classes = classes.to(self.device)
        scores = self.space.scores(x, self.prototypes[:, classes], self.options.score)
        scores = scores - self.constant.view(-1, 1, 1) * (classes < self.seen)
        return scores.float().expand(len(self.seeds), -1, -1).cpu()

    def _guide(self, data: SeenData) -> GaussianProcess:
        """A process over the class vectors, with what seen classes choose. Embeddings are scaled already."""
        o = self.options
        shrinkages = SHRINKAGES if o.shrinkage is None else (o.shrinkage,)
        guide = GaussianProcess(
            GaussianProcessOptions(scaling="none", score=o.score, shrinkages=shrinkages), [0]
        )
        guide.fit(data)
        return guide

    def _calibrate(self, x: Tensor, classes: Tensor, vectors: Tensor, guide: GaussianProcess) -> Tensor:
        """Scaled embeddings [N, D] of seen classes -> the constant that seen classes' scores lose, a scalar."""
        if len(vectors) < 2 * part_count(len(vectors), HELD_OUT):
            log.warning("prototype: %d seen classes are too few to calibrate by", len(vectors))
            return x.new_zeros(())
        o, setting = self.options, guide.chosen
        fixed = GaussianProcessOptions(
            kernels=(setting.kernel,),
            length_scales=(setting.length_scale,),
            noises=(setting.noise,),
            shrinkages=(guide.shrinkage,),
            scaling="none",
            samples="mean",
        )
        leads, rights, unseen = [], [], []
        for number, part in enumerate(
            hold_out_classes(classes, len(vectors), held_out=HELD_OUT, groupings=GROUPINGS, name="prototype")
        ):
            kept = int((~part.out).sum())
            away = self._clips_away(part.kept_rows, number)
            # A class all of whose clips went away would have no mean.
            stays = torch.bincount(part.kept_rows[~away], minlength=kept) > 0
            away &= stays[part.kept_rows]
            learnt, rows = x[~part.held][~away], part.kept_rows[~away]
            guess = GaussianProcess(fixed, [0])
            guess.fit(SeenData(learnt, rows, vectors[~part.out]))
            means = class_means(learnt, rows, kept)
            space = _Space.of(learnt.unsqueeze(0), rows, means.unsqueeze(0), [guide.shrinkage])
            towards = torch.cat([means, guess.sample(vectors[part.out], 1)[0, :, 0].to(x)])
            for clips, truth, first, last in (
                (x[~part.held][away], part.kept_rows[away], 0, kept),
                (x[part.held], part.held_rows, kept, len(towards)),
            ):
                scores = space.scores(clips.unsqueeze(0), towards.unsqueeze(0), o.score)[0]
                leads.append(scores[:, :kept].amax(dim=1) - scores[:, kept:].amax(dim=1))
                rights.append(scores[:, first:last].argmax(dim=1) == truth)
                unseen.append(torch.full_like(truth, first > 0, dtype=torch.bool))
        constant = best_constant(torch.cat(leads), torch.cat(rights), torch.cat(unseen))
        log.info("prototype: seen classes' scores lose %.3f", constant)
        return constant

    def _clips_away(self, rows: Tensor, number: int) -> Tensor:
        """About one clip in CLIP_PARTS [N], at random."""
        stream = torch.Generator().manual_seed(derive(0, "prototype", "clips", number))
        return (torch.randperm(len(rows), generator=stream) % CLIP_PARTS == 0).to(rows.device)


def best_constant(leads: Tensor, right: Tensor, unseen: Tensor) -> Tensor:
    """The constant with the best harmonic mean of the accuracies on clips of seen and of unseen classes.

    Args:
        leads: best score of a seen class less the best of an unseen one [N].
        right: the best class of the clip's own kind is its class [N].
        unseen: the clip's class is an unseen one [N].

    Returns:
        A scalar, half way between the two leads around it; zero where a kind has no clip that can be right.
    """
    order = leads.argsort()
    # After the k-th clip in this order: clips up to it are given to unseen classes, the others to seen ones.
    gained = (right & unseen)[order].double().cumsum(0) / unseen.sum().clamp(min=1)
    kept = (right & ~unseen).double()
    kept = (kept.sum() - kept[order].cumsum(0)) / (~unseen).sum().clamp(min=1)
    harmonic = 2 * gained * kept / (gained + kept).clamp(min=1e-12)
    if len(leads) < 2 or harmonic.max() == 0:
        return leads.new_zeros(())
    best = int(harmonic[:-1].argmax())
    return leads[order[best : best + 2]].mean()
