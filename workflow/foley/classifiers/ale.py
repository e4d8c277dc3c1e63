"""ALE, the non-linear attribute label embedding of the zero-shot study.

Akata et al. 2016 (label embedding), in the form of ZeroDiffusion's code (arXiv 2412.03771): an embedding goes
through linear d -> d, tanh, linear d -> class-vector size, without bias; its score for a class is the dot product
with the class's vector; softmax cross-entropy. With synthetic embeddings an epoch shows them first and the real
ones after, over seen and unseen classes; without, only seen classes compete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foley.classifiers.protocol import ZeroShotData
from foley.runtime.seeds import SeedStreams
from foley.training.batched import (
    BatchedLinear,
    BatchedModel,
    Examples,
    adam,
    cross_entropy,
    xavier_normal_,
)
from foley.training.checkpoint import Checkpoint

# The authors' initial weights: Glorot normal, shrunk.
INITIAL_GAIN = 0.1


@dataclass(frozen=True)
class ALEOptions:
    """The published settings with synthetic data. Without: weight decay 1e-4, 50 epochs, batch 1."""

    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    batch_size: int = 16
    epochs: int = 20

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.epochs < 1:
            raise ValueError("batch_size and epochs must be at least 1")


class _Compatibility(nn.Module):
    def __init__(self, streams: SeedStreams, dim: int, condition: int) -> None:
        super().__init__()
        self.inner = xavier_normal_(BatchedLinear(streams, dim, dim, bias=False), streams, INITIAL_GAIN)
        self.outer = xavier_normal_(BatchedLinear(streams, dim, condition, bias=False), streams, INITIAL_GAIN)

    def forward(self, x: Tensor, vectors: Tensor) -> Tensor:
        """[S, B, D], [C, A] -> scores [S, B, C]."""
        return self.outer(torch.tanh(self.inner(x))) @ vectors.T


class ALE(BatchedModel[_Compatibility]):
    """See the module. All seeds are one batched model."""

    Options = ALEOptions
    name = "ale"

    def fit(self, data: ZeroShotData, *, checkpoint: Checkpoint | None = None) -> None:
        """Train on real embeddings of seen classes and, if given, synthetic ones of unseen classes."""
        o = self.options
        data = data.to(self.device)
        self.vectors = data.vectors
        competing = data.vectors if data.synthetic is not None else data.vectors[: data.seen]
        real, made = Examples(data.real), Examples(data.made) if data.synthetic is not None else None
        network = _Compatibility(self.streams("initialise"), real.dim, data.vectors.shape[1]).to(self.device)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            streams = self.streams("epoch", epoch)
            for examples in (made, real):
                if examples is not None:
                    for rows in self.shuffled(streams, len(examples), o.batch_size):
                        yield examples.take(rows)

        def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
            x, wanted = batch
            return cross_entropy(network(x, competing), wanted)

        self.train(
            network,
            adam(network, o.learning_rate, o.weight_decay),
            batches=batches,
            loss=loss,
            epochs=o.epochs,
            checkpoint=checkpoint,
        )

    @torch.inference_mode()
    def score(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        x = embeddings.to(self.device).expand(len(self.seeds), -1, -1)
        return self.trained(x, self.vectors[classes.to(self.device)]).cpu()
