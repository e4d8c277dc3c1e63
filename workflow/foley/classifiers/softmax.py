"""A linear softmax classifier over seen and unseen classes by number, as CADA-VAE and LisGAN train it.

It knows a class by its examples, not by its vector: real embeddings of seen classes and synthetic ones of unseen
classes, shuffled together. So it needs a generator. Conventional zero-shot accuracy is the argmax of the same
classifier over unseen classes. (The authors train a second one on synthetic examples alone for it; a single one
serves both settings here, as ALE does. Both papers keep the epoch that is best on test clips; here the last counts.)

Published settings: CADA-VAE (Schönfeld et al. 2019) Adam 1e-3, beta1 0.5, batch 32, epochs by dataset (20 to 50 in
the zero-shot study, 23 on ESC-50); LisGAN (Li et al. 2019) the same with 50 epochs, batch twice the samples a class.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from foley.classifiers.protocol import ZeroShotData
from foley.training.batched import Examples, pick
from foley.training.checkpoint import Checkpoint
from foley.training.loop import choose_device
from foley.training.scaling import Scaling, ScalingKind
from foley.training.softmax import SoftmaxRegression, SoftmaxTraining

Cascade = Literal["none", "transductive"]


@dataclass(frozen=True)
class SoftmaxOptions(SoftmaxTraining):
    """``scaling`` of each dimension, learnt from real embeddings of seen classes.

    ``cascade: transductive`` repeats LisGAN's cascade and is off by default: the classifier labels the clips that it
    is to recognise, takes the ``confident_fraction`` with the lowest entropy with those labels into its training
    set, trains as long again, and answers anew for the others. That learns from unlabelled *test* clips and from all
    of them at once, which a method that must answer for a single clip cannot do: under this study's protocol it is a
    defect, and its figures compare with other transductive ones only.
    """

    scaling: ScalingKind = "none"
    cascade: Cascade = "none"
    confident_fraction: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.confident_fraction < 1:
            raise ValueError("confident_fraction must lie between 0 and 1")


class SoftmaxClassifier:
    """See the module. All seeds are one batched model."""

    Options = SoftmaxOptions

    def __init__(self, options: SoftmaxOptions, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.regression: SoftmaxRegression | None = None

    def fit(self, data: ZeroShotData, *, checkpoint: Checkpoint | None = None) -> None:
        if data.synthetic is None and data.seen < len(data.vectors):
            raise ValueError(
                "the softmax classifier knows a class by its examples and got none of the unseen classes: give "
                "its method a generator, or choose the classifier ale or ridge, which read class vectors"
            )
        data = data.to(self.device)
        self.scaling = Scaling.of(self.options.scaling, data.embeddings)
        parts = [data.real] if data.synthetic is None else [data.real, data.made]
        self.examples = [(self.scaling.apply(x), classes) for x, classes in parts]
        self.regression = SoftmaxRegression(self.options, self.seeds, len(data.vectors), "softmax")
        self.regression.fit(Examples(*self.examples), checkpoint=checkpoint)

    def score(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        if self.regression is None:
            raise RuntimeError("fit() first")
        x = self.scaling.apply(embeddings.to(self.device)).expand(len(self.seeds), -1, -1)
        classes = classes.to(self.device)
        scores = self.regression.logits(x)[:, :, classes]
        if self.options.cascade == "transductive":
            scores = self._cascade(x, classes, scores)
        return scores.cpu()

    def _cascade(self, x: Tensor, classes: Tensor, scores: Tensor) -> Tensor:
        """Scores [S, N, C] of the second stage; the clips that it learnt from keep those of the first."""
        assert self.regression is not None
        taken = confident(scores, self.options.confident_fraction)
        labels = classes[pick(scores.argmax(dim=2), taken)]
        again = copy.deepcopy(self.regression)
        again.fit(Examples(*self.examples, (pick(x, taken), labels)), stage="cascade")
        found = again.logits(x)[:, :, classes].clone()
        return found.scatter(1, taken.unsqueeze(2).expand(-1, -1, len(classes)), pick(scores, taken))


def confident(scores: Tensor, fraction: float) -> Tensor:
    """Rows [S, E] of the ``fraction`` of scores [S, N, C] whose softmax has the lowest entropy; at least one."""
    log_p = scores.log_softmax(dim=2)
    entropy = -(log_p.exp() * log_p).sum(dim=2)
    return torch.argsort(entropy, dim=1, stable=True)[:, : max(1, int(fraction * scores.shape[1]))]
