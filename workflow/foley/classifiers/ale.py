"""ALE, the non-linear attribute label embedding of the zero-shot study.

Akata et al. 2016 (label embedding), in the form of ZeroDiffusion's code (arXiv 2412.03771): an embedding goes
through linear d -> d, tanh, linear d -> class-vector size, without bias; its score for a class is the dot product
with the class's vector; softmax cross-entropy. With synthetic embeddings an epoch shows them first and the real
ones after, over seen and unseen classes; without, only seen classes compete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.classifiers.protocol import ZeroShotData
from foley.runtime.seeds import SeedStreams
from foley.training.batched import BatchedLinear, adam, shuffled_batches, xavier_normal_
from foley.training.checkpoint import Checkpoint
from foley.training.loop import History, choose_device, fit

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


class ALE:
    """See the module. All seeds are one batched model."""

    Options = ALEOptions

    def __init__(self, options: ALEOptions, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.model: _Compatibility | None = None
        self.history = History()

    def fit(self, data: ZeroShotData, *, checkpoint: Checkpoint | None = None) -> None:
        """Train on real embeddings of seen classes and, if given, synthetic ones of unseen classes."""
        o = self.options
        x, classes, vectors = (t.to(self.device) for t in (data.embeddings, data.classes, data.vectors))
        dim, condition = x.shape[1], vectors.shape[1]
        synthetic, made_classes = None, None
        if data.synthetic is not None:
            seeds, unseen, count, _ = data.synthetic.shape
            synthetic = data.synthetic.to(self.device).reshape(seeds, unseen * count, dim)
            made_classes = torch.arange(data.seen, data.seen + unseen, device=self.device).repeat_interleave(
                count
            )
        else:
            vectors = vectors[: data.seen]
        model = _Compatibility(SeedStreams(self.seeds, "ale", "initialise"), dim, condition).to(self.device)
        self.model = model

        def batches(epoch: int) -> list[tuple[Tensor, bool]]:
            streams = SeedStreams(self.seeds, "ale", "epoch", epoch)
            made = (
                [(rows, True) for rows in shuffled_batches(streams, synthetic.shape[1], o.batch_size)]
                if synthetic is not None
                else []
            )
            return made + [(rows, False) for rows in shuffled_batches(streams, len(x), o.batch_size)]

        def loss(batch: tuple[Tensor, bool]) -> Tensor:
            rows, is_synthetic = batch[0].to(self.device), batch[1]
            if is_synthetic:
                assert synthetic is not None and made_classes is not None
                inputs = synthetic.gather(1, rows.unsqueeze(2).expand(-1, -1, dim))
                wanted = made_classes[rows]
            else:
                inputs, wanted = x[rows], classes[rows]
            scores = model(inputs, vectors)
            # Mean over a seed's batch, summed over seeds: each seed's gradient is that of its own loss.
            return (
                functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), reduction="sum")
                / rows.shape[1]
            )

        self.history = fit(
            model,
            adam(model, o.learning_rate, o.weight_decay),
            batches=batches,
            loss=loss,
            epochs=o.epochs,
            seed=0,
            checkpoint=checkpoint,
            name="ale",
        )

    @torch.inference_mode()
    def score(self, embeddings: Tensor, vectors: Tensor) -> Tensor:
        if self.model is None:
            raise RuntimeError("fit() first")
        x = embeddings.to(self.device).expand(len(self.seeds), -1, -1)
        return self.model(x, vectors.to(self.device)).cpu()
