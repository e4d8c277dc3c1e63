"""Ridge regression from embeddings onto class vectors: the simple baseline of zero-shot recognition.

Closed form, no generator, no randomness: every seed has the same scores. A clip's predicted class vector is compared
with each class's. Class vectors are brought to unit length and the mean of the seen classes is taken away: word
vectors share a large common part that says nothing about the class. Synthetic embeddings, where a generator made
some, join the real ones, so that ridge can also be the classifier that a generator is judged by.

The penalty is chosen on seen classes alone: some of them are left out in turn, and their clips recognised among
them, as unseen classes will be.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from foley.classifiers.protocol import ZeroShotData
from foley.runtime.seeds import derive
from foley.training.checkpoint import Checkpoint
from foley.training.loop import choose_device
from foley.training.scaling import Scaling

log = logging.getLogger(__name__)

# Where too few seen classes are there to choose it.
FALLBACK_PENALTY = 1.0


@dataclass(frozen=True)
class RidgeOptions:
    """``penalty`` is a multiple of the mean eigenvalue of the embeddings' scatter matrix, so that it does not hang
    on their scale; left out, it is the one of ``penalties`` with the best mean recall over ``folds`` of seen
    classes, in ``groupings`` of the classes into folds. ``embeddings``: scaled to deviation 1 in each dimension, to
    length 1, or as they are. ``centre``: the seen classes' mean vector is taken away.
    """

    penalty: float | None = None
    penalties: tuple[float, ...] = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    folds: int = 5
    groupings: int = 5
    embeddings: Literal["standardise", "unit", "none"] = "standardise"
    centre: bool = True
    score: Literal["cosine", "dot"] = "cosine"

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0 or (self.penalty is not None and self.penalty <= 0):
            raise ValueError("penalty and penalties must be positive")
        if self.folds < 2 or self.groupings < 1:
            raise ValueError("folds must be at least 2, groupings at least 1")


@dataclass(frozen=True)
class _Solution:
    """Weights [P, S, D, A] for P penalties, with the means that they were learnt around [S, 1, D] and [S, 1, A]."""

    weights: Tensor
    x_mean: Tensor
    y_mean: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """[S, N, D] -> class vectors [P, S, N, A]."""
        return (x - self.x_mean) @ self.weights + self.y_mean


def solve(x: Tensor, y: Tensor, penalties: Sequence[float | Tensor]) -> _Solution:
    """Ridge regression with intercept of y [S, N, A] on x [S, N, D], for all penalties by one decomposition.

    A penalty is a number, or one for each seed [S, 1].
    """
    x_mean, y_mean = x.mean(dim=1, keepdim=True), y.mean(dim=1, keepdim=True)
    centred = x - x_mean
    values, basis = torch.linalg.eigh(centred.mT @ centred)
    values = values.clamp(min=0)
    projected = basis.mT @ (centred.mT @ (y - y_mean))
    # With no variance at all the weights are zero, whatever the penalty.
    unit = values.mean(dim=1, keepdim=True).clamp(min=1e-12)
    weights = [basis @ (projected / (values + penalty * unit).unsqueeze(2)) for penalty in penalties]
    return _Solution(torch.stack(weights), x_mean, y_mean)


class Ridge:
    """See the module."""

    Options = RidgeOptions

    def __init__(self, options: RidgeOptions, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.solution: _Solution | None = None
        # Of each seed where embeddings are each seed's own, else one for all.
        self.penalties: list[float] = [options.penalty] if options.penalty is not None else []

    def fit(self, data: ZeroShotData, *, checkpoint: Checkpoint | None = None) -> None:
        """Solve; there is nothing to continue from a checkpoint."""
        data = data.to(self.device)
        real = data.embeddings if data.embeddings.dim() == 3 else data.embeddings.unsqueeze(0)
        self.scaling = Scaling.of(
            "standardise" if self.options.embeddings == "standardise" else "none", real.double()
        )
        x, classes = self._scaled(real), data.classes
        vectors = functional.normalize(data.vectors.double(), dim=1)
        if self.options.penalty is None:
            self.penalties = self._choose_penalties(x, classes, vectors[: data.seen])
        penalty = x.new_tensor(self.penalties).unsqueeze(1)
        if data.synthetic is not None:
            made, made_classes = data.made
            x = torch.cat([x.expand(len(made), -1, -1), self._scaled(made)], dim=1)
            classes = torch.cat([classes, made_classes])
        self.vectors = vectors - self._centre(vectors[: data.seen])
        y = self.vectors[classes].expand(len(x), -1, -1)
        self.solution = solve(x, y, [penalty])

    def score(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        if self.solution is None:
            raise RuntimeError("fit() first")
        x = embeddings.to(self.device)
        x = self._scaled(x if x.dim() == 3 else x.unsqueeze(0))
        scores = self._compare(self.solution.predict(x)[0], self.vectors[classes.to(self.device)])
        return scores.float().expand(len(self.seeds), -1, -1).cpu()

    def _choose_penalties(self, x: Tensor, classes: Tensor, vectors: Tensor) -> list[float]:
        """For each of the embeddings [S, N, D] the penalty that best recognises seen classes left out, among
        themselves."""
        o = self.options
        folds = min(o.folds, len(vectors) // 2)  # at least two classes left out, or there is no choice
        if folds < 2:
            log.warning(
                "ridge: %d seen classes are too few to choose a penalty; it is %g",
                len(vectors),
                FALLBACK_PENALTY,
            )
            return [FALLBACK_PENALTY] * len(x)
        recalls = torch.zeros(len(o.penalties), len(x), dtype=torch.float64, device=self.device)
        parts = []
        for grouping in range(o.groupings):
            stream = torch.Generator().manual_seed(derive(0, "ridge", grouping))
            of_class = torch.randperm(len(vectors), generator=stream).to(self.device) % folds
            parts += [of_class == fold for fold in range(folds)]
        for out in parts:
            held = out[classes]
            targets = vectors - self._centre(vectors[~out])
            kept = targets[classes[~held]].expand(len(x), -1, -1)
            predicted = solve(x[:, ~held], kept, o.penalties).predict(x[:, held])
            said = self._compare(predicted, targets[out]).argmax(dim=-1)
            truth = (out.cumsum(0) - 1)[classes[held]]
            right = (said == truth).double()  # [P, S, N]
            for number in truth.unique():
                recalls += right[:, :, truth == number].mean(dim=2)
        recalls /= o.groupings * len(classes.unique())
        chosen = []
        for own in recalls.T:
            best = int((own == own.max()).nonzero().max())  # of equals the strongest penalty
            log.info(
                "ridge: penalty %g, mean recall of seen classes left out %.3f", o.penalties[best], own[best]
            )
            chosen.append(o.penalties[best])
        return chosen

    def _scaled(self, x: Tensor) -> Tensor:
        x = self.scaling.apply(x.double())
        return functional.normalize(x, dim=-1) if self.options.embeddings == "unit" else x

    def _centre(self, vectors: Tensor) -> Tensor | float:
        return vectors.mean(dim=0) if self.options.centre else 0.0

    def _compare(self, predicted: Tensor, vectors: Tensor) -> Tensor:
        """[..., N, A] with [C, A] -> [..., N, C]."""
        if self.options.score == "cosine":
            predicted, vectors = (
                functional.normalize(predicted, dim=-1),
                functional.normalize(vectors, dim=-1),
            )
        return predicted @ vectors.T
