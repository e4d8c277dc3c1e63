"""ZeroDiffusion in its published forms (Sims et al., arXiv 2412.03771).

A small conditional denoiser: noisy audio embedding and class vector in, clean embedding out. The noise grows with
the epoch. An embedding of a class without audio is one forward pass from noise with the class's vector.

Forms, all MSE-trained with Adam, weight decay 1e-4 and gradients clipped at 1:

- ``interpolation``: the authors' newest code. (1-p) x + p n |x|/|n| with p = epoch/epochs; sampled from noise of the
  real embeddings' mean norm; 80 epochs, hidden 64, dropout 0.3.
- ``regularised``: second version of the paper. x + N(0, (0.1 p)^2), class vectors jittered by 0.1, and MSE + MMD +
  0.1 variance + 0.2 mean + 2 (1 - cos); sampled from N(0, 0.1^2); 50 epochs, hidden 128, dropout 0.3, batch norm
  before the activation; its ALE has batches of 64.
- ``additive``: first version. x + N(0, (0.1 p)^2); sampled from N(0, 0.1^2); 2,000 epochs, hidden 128, batch norm, no
  dropout. (The authors' loop of the last two forms stays in evaluation mode after its first epoch, so that their
  batch norm keeps that epoch's statistics and dropout is off from then on; here it trains throughout.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import SeedStreams
from foley.training.batched import (
    BatchedBatchNorm,
    BatchedLinear,
    BatchedModel,
    adam,
    clip_gradients_per_seed,
    dropout,
)
from foley.training.checkpoint import Checkpoint

Form = Literal["interpolation", "regularised", "additive"]
# hidden units, epochs, batch size and dropout of each published form
PUBLISHED: dict[str, tuple[int, int, int, float]] = {
    "interpolation": (64, 80, 128, 0.3),
    "regularised": (128, 50, 32, 0.3),
    "additive": (128, 2000, 64, 0.0),
}
CLASS_JITTER = 0.1
NOISE_SCALE = 0.1


@dataclass(frozen=True)
class ZeroDiffusionOptions:
    """``hidden``, ``epochs``, ``batch_size`` and ``dropout`` are the form's published ones when left out."""

    form: Form = "interpolation"
    hidden: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    dropout: float | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or left out for the published value")
        if self.learning_rate <= 0 or not 0 <= (self.dropout or 0) < 1:
            raise ValueError("learning_rate must be positive, dropout in [0, 1)")

    def resolved(self) -> ZeroDiffusionOptions:
        hidden, epochs, batch_size, p_drop = PUBLISHED[self.form]
        return replace(
            self,
            hidden=self.hidden or hidden,
            epochs=self.epochs or epochs,
            batch_size=self.batch_size or batch_size,
            dropout=p_drop if self.dropout is None else self.dropout,
        )


class _Denoiser(nn.Module):
    """S denoisers: linear, (batch norm), leaky ReLU, dropout, linear, tanh."""

    def __init__(self, streams: SeedStreams, dim: int, condition: int, hidden: int, batch_norm: bool) -> None:
        super().__init__()
        self.inner = BatchedLinear(streams, dim + condition, hidden)
        self.outer = BatchedLinear(streams, hidden, dim)
        self.norm = BatchedBatchNorm(len(streams), hidden) if batch_norm else None

    def forward(
        self, x: Tensor, condition: Tensor, keep: Tensor | None = None, p_drop: float = 0.0
    ) -> Tensor:
        """[S, B, D], [S, B, A] -> [S, B, D]; ``keep`` [S, B, hidden] are uniform numbers for dropout."""
        h = self.inner(torch.cat([x, condition], dim=2))
        if self.norm is not None:
            h = self.norm(h)
        h = functional.leaky_relu(h)
        if keep is not None:
            h = dropout(h, keep, p_drop)
        return torch.tanh(self.outer(h))


def interpolate_noise(x: Tensor, noise: Tensor, progress: float) -> Tensor:
    """(1 - p) x + p n, with each noise vector scaled to the norm of its embedding."""
    scaled = noise / (noise.norm(dim=-1, keepdim=True) + 1e-8) * x.norm(dim=-1, keepdim=True)
    return (1 - progress) * x + progress * scaled


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    """Biased squared MMD with a Gaussian kernel of width 1, seed by seed [S]."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / 2).mean(dim=(1, 2))

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def reconstruction_loss(generated: Tensor, real: Tensor, form: Form) -> Tensor:
    """Loss of each seed [S] for [S, B, D] embeddings."""
    mse = (generated - real).square().mean(dim=(1, 2))
    if form != "regularised":
        return mse
    variance = (generated.var(dim=1) - real.var(dim=1)).square().mean(dim=1)
    mean = (generated.mean(dim=1) - real.mean(dim=1)).square().mean(dim=1)
    cosine = 1 - functional.cosine_similarity(generated, real, dim=2).mean(dim=1)
    return mse + _mmd(generated, real) + 0.1 * variance + 0.2 * mean + 2 * cosine


@dataclass
class _Batch:
    rows: Tensor
    noise: Tensor
    keep: Tensor
    jitter: Tensor | None
    progress: float


class ZeroDiffusion(BatchedModel[_Denoiser]):
    """See the module. All seeds are one batched model."""

    Options = ZeroDiffusionOptions
    name = "zerodiffusion"

    def __init__(self, options: ZeroDiffusionOptions, seeds: Sequence[int]) -> None:
        super().__init__(options.resolved(), seeds)
        self.noise_norm = 0.0

    def fit(self, data: SeenData, *, checkpoint: Checkpoint | None = None) -> None:
        o = self.options
        x, classes, vectors = self.on_device(data.embeddings, data.classes, data.vectors)
        rows, dim = x.shape
        condition = vectors.shape[1]
        regularised, batch_norm = o.form == "regularised", o.form != "interpolation"
        network = _Denoiser(self.streams("initialise"), dim, condition, o.hidden, batch_norm).to(self.device)
        # The norm of generated noise: the mean norm of the real embeddings.
        self.noise_norm = float(x.norm(dim=1).mean())

        def batches(epoch: int) -> Iterator[_Batch]:
            streams = self.streams("epoch", epoch)
            for part in self.shuffled(streams, rows, o.batch_size):
                size = part.shape[1]
                if batch_norm and size < 2:  # batch norm and variances need two
                    continue
                yield _Batch(
                    part,
                    streams.normal(size, dim).to(self.device),
                    streams.uniform(size, o.hidden).to(self.device),
                    streams.normal(size, condition).to(self.device) if regularised else None,
                    epoch / o.epochs,
                )

        def loss(batch: _Batch) -> Tensor:
            real = x[batch.rows]
            wanted = vectors[classes[batch.rows]]
            if batch.jitter is not None:
                wanted = wanted + CLASS_JITTER * batch.jitter
            if o.form == "interpolation":
                noisy = interpolate_noise(real, batch.noise, batch.progress)
            else:
                noisy = real + NOISE_SCALE * batch.progress * batch.noise
            generated = network(noisy, wanted, batch.keep, o.dropout)
            return reconstruction_loss(generated, real, o.form).sum()

        self.train(
            network,
            adam(network, o.learning_rate, o.weight_decay),
            batches=batches,
            loss=loss,
            epochs=o.epochs,
            before_step=clip_gradients_per_seed(o.max_grad_norm),
            checkpoint=checkpoint,
            name=f"{self.name} ({o.form})",
        )

    @torch.inference_mode()
    def sample(self, vectors: Tensor, count: int) -> Tensor:
        network = self.trained
        dim = network.outer.weight.shape[2]

        def draw(streams: SeedStreams, vector: Tensor) -> Tensor:
            # A sample's jitter follows its noise, so that no number depends on how many samples there are.
            jitter = len(vector) if self.options.form == "regularised" else 0
            noise, jitters = (
                streams.normal_rows(count, dim + jitter).to(self.device).split([dim, jitter], dim=2)
            )
            if self.options.form == "interpolation":
                noise = noise / (noise.norm(dim=2, keepdim=True) + 1e-8) * self.noise_norm
            else:
                noise = noise * NOISE_SCALE
            condition = vector.expand(len(self.seeds), count, -1)
            if self.options.form == "regularised":
                condition = condition + CLASS_JITTER * jitters
            return network(noise, condition)

        return self.draw_by_class(vectors, draw)
