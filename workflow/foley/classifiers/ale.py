"""ALE, the non-linear attribute label embedding of the zero-shot study.

Akata et al. 2016 (label embedding), in the form of ZeroDiffusion's code (arXiv 2412.03771): an embedding goes
through linear d -> d, tanh, linear d -> class-vector size, without bias; its score for a class is the dot product
with the class's vector; softmax cross-entropy. With synthetic embeddings an epoch shows them first and the real
ones after, over seen and unseen classes; without, only seen classes compete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foley.classifiers.protocol import ZeroShotData
from foley.runtime.seeds import SeedStreams
from foley.training.batched import ADAM_BYTES, BatchedLinear, BatchedModel, Examples, adam, xavier_normal_
from foley.training.checkpoint import Checkpoint

# The authors' initial weights: Glorot normal, shrunk.
INITIAL_GAIN = 0.1
# Rows that are looked up at once, so that a batch of one row costs no look-up of its own.
LOOKED_UP = 128


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

    def loss(self, x: Tensor, wanted: Tensor, vectors: Tensor) -> Tensor:
        """Softmax cross-entropy of [S, B, D] against class rows [S, B]: mean over a seed's batch, sum over seeds."""
        return _Loss.apply(x, wanted, vectors, self.inner.weight, self.outer.weight)


class _Loss(torch.autograd.Function):
    """The loss with its gradients in closed form.

    A step on one clip is little work for each of many small operations, and most of its time would go into
    recording and replaying them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, wanted: Tensor, vectors: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
        hidden = torch.bmm(x, inner).tanh_()
        log_p = (torch.bmm(hidden, outer) @ vectors.T).log_softmax(dim=2)
        wanted = wanted.unsqueeze(2)
        ctx.save_for_backward(x, wanted, vectors, outer, hidden, log_p)
        return log_p.gather(2, wanted).sum() / -wanted.shape[1]

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        x, wanted, vectors, outer, hidden, log_p = ctx.saved_tensors
        # p - 1 for the right class, p for the others.
        d_scores = log_p.exp().scatter_add_(2, wanted, log_p.new_full((1, 1, 1), -1.0).expand_as(wanted))
        d_embedded = d_scores.mul_(scale / wanted.shape[1]) @ vectors
        d_hidden = torch.bmm(d_embedded, outer.mT)
        d_inner = torch.addcmul(d_hidden, d_hidden, hidden.square(), value=-1)
        return None, None, None, _outer_product(x, d_inner), _outer_product(hidden, d_embedded)


def _outer_product(a: Tensor, b: Tensor) -> Tensor:
    """[S, B, M], [S, B, N] -> [S, M, N], summed over B."""
    return a.mT * b if a.shape[1] == 1 else torch.bmm(a.mT, b)


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
        shown = (
            [Examples(data.real)] if data.synthetic is None else [Examples(data.made), Examples(data.real)]
        )
        dim, condition = shown[0].dim, data.vectors.shape[1]

        def train(model: ALE, part: slice, checkpoint: Checkpoint | None) -> None:
            network = _Compatibility(model.streams("initialise"), dim, condition).to(self.device)
            own = [examples.of_seeds(part) for examples in shown]

            def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
                streams = model.streams("epoch", epoch)
                for examples in own:
                    several = max(1, LOOKED_UP // o.batch_size) * o.batch_size
                    for rows in model.shuffled(streams, len(examples), several):
                        parts = (values.split(o.batch_size, dim=1) for values in examples.take(rows))
                        yield from zip(*parts, strict=True)

            model.train(
                network,
                adam(network, o.learning_rate, o.weight_decay),
                batches=batches,
                loss=lambda batch: network.loss(batch[0], batch[1], competing),
                epochs=o.epochs,
                checkpoint=checkpoint,
            )

        self.train_in_groups(
            train, bytes_per_seed=ADAM_BYTES * dim * (dim + condition), checkpoint=checkpoint
        )

    @torch.inference_mode()
    def score(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        x = embeddings.to(self.device).expand(len(self.seeds), -1, -1)
        return self.trained(x, self.vectors[classes.to(self.device)]).cpu()
