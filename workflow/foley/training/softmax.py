"""Softmax regression of many seeds: the linear classifier that CADA-VAE and LisGAN train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foley.training.batched import (
    BatchedLinear,
    BatchedModel,
    Examples,
    adam,
    cross_entropy,
    xavier_normal_,
)
from foley.training.checkpoint import Checkpoint

# CADA-VAE's initial weights: Glorot, halved. The loss is convex, so little hangs on it.
INITIAL_GAIN = 0.5


@dataclass(frozen=True)
class SoftmaxTraining:
    """Adam's settings, as CADA-VAE's code has them."""

    epochs: int = 23
    batch_size: int = 32
    learning_rate: float = 1e-3
    beta1: float = 0.5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0 or not 0 <= self.beta1 < 1:
            raise ValueError(
                "epochs and batch_size must be at least 1, learning_rate positive, beta1 in [0, 1)"
            )


class SoftmaxRegression(BatchedModel[BatchedLinear]):
    """One linear layer and a softmax over ``classes``; all seeds are one batched model.

    Args:
        name: of its random streams.
    """

    Options = SoftmaxTraining

    def __init__(self, options: SoftmaxTraining, seeds: Sequence[int], classes: int, name: str) -> None:
        super().__init__(options, seeds)
        self.classes = classes
        self.name = name  # type: ignore[misc]

    def fit(self, examples: Examples, *, checkpoint: Checkpoint | None = None, stage: str = "epoch") -> None:
        """Train on ``examples``, going on from what an earlier ``stage`` has learnt."""
        o = self.options
        network = self.model
        if network is None:
            streams = self.streams("initialise")
            network = xavier_normal_(
                BatchedLinear(streams, examples.dim, self.classes), streams, INITIAL_GAIN
            )
            network = network.to(self.device)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            for rows in self.shuffled(self.streams(stage, epoch), len(examples), o.batch_size):
                yield examples.take(rows)

        def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
            x, wanted = batch
            return cross_entropy(network(x), wanted)

        self.train(
            network,
            adam(network, o.learning_rate, o.weight_decay, beta1=o.beta1),
            batches=batches,
            loss=loss,
            epochs=o.epochs,
            checkpoint=checkpoint,
        )

    @torch.inference_mode()
    def logits(self, x: Tensor) -> Tensor:
        """[N, D] or [S, N, D] -> [S, N, classes]."""
        return self.trained(x.expand(len(self.seeds), -1, -1))
