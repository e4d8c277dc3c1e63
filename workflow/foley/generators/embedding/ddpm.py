"""A denoising diffusion model on embeddings, ZeroDiffusion's second generator.

Ho et al. 2020 with a linear schedule from 1e-4 to 0.02 over 1,000 steps; the network is the authors' (an MLP on
the noisy embedding, a sinusoidal time embedding and an embedded class vector, predicting the noise; layer norm,
leaky ReLU). Published settings: hidden 64, one layer, no dropout, Adam 1e-5 with weight decay 1e-4, batch 128, 200
epochs, samples clamped to [-1, 1] at each step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import SeedStreams
from foley.training.batched import (
    BatchedLayerNorm,
    BatchedLinear,
    BatchedModel,
    adam,
    clip_gradients_per_seed,
    dropout,
    network_of_seeds,
    seed_groups,
)
from foley.training.checkpoint import Checkpoint

# What the samples that are drawn at once on a CPU may hold with their activations: a step does little else than pass
# over them.
SAMPLING_BYTES = 4 * 2**20
# Samples of a class that share a random stream. It is drawn whole at each step, whatever number of samples is asked
# for, so that the first n of many samples are n samples.
STREAM_ROWS = 10


@dataclass(frozen=True)
class DDPMOptions:
    """The published settings. ``clamp``: samples are held in [-1, 1] at each step, as published."""

    hidden: int = 64
    layers: int = 1
    steps: int = 1000
    dropout: float = 0.0
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 1e-5
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    beta_start: float = 1e-4
    beta_end: float = 0.02
    clamp: bool = True

    def __post_init__(self) -> None:
        if self.hidden < 4 or self.hidden % 2 or self.layers < 1 or self.steps < 2:
            raise ValueError("hidden must be even and at least 4, layers at least 1, steps at least 2")
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                "epochs and batch_size must be at least 1, learning_rate positive, dropout in [0, 1)"
            )


class NoiseSchedule(nn.Module):
    """The constants of a linear schedule [steps]."""

    signal: Tensor
    noise: Tensor
    scale: Tensor
    remove: Tensor
    deviation: Tensor

    def __init__(self, options: DDPMOptions) -> None:
        super().__init__()
        betas = torch.linspace(options.beta_start, options.beta_end, options.steps, dtype=torch.float64)
        alphas = 1 - betas
        bar = alphas.cumprod(0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
        for name, value in {
            "signal": bar.sqrt(),
            "noise": (1 - bar).sqrt(),
            # Mean and deviation of a reverse step: equation 11 of Ho et al., and the posterior's variance.
            "scale": 1 / alphas.sqrt(),
            "remove": betas / (1 - bar).sqrt(),
            "deviation": (betas * (1 - previous) / (1 - bar)).sqrt(),
        }.items():
            self.register_buffer(name, value.float())


def time_embedding(steps: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of step numbers [...] -> [..., dim] (Vaswani et al. 2017)."""
    half = dim // 2
    rates = torch.exp(torch.arange(half, device=steps.device) * (-math.log(10_000) / (half - 1)))
    angles = steps.unsqueeze(-1).float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class _NoisePredictor(nn.Module):
    def __init__(self, streams: SeedStreams, dim: int, condition: int, options: DDPMOptions) -> None:
        super().__init__()
        hidden, wide = options.hidden, 2 * options.hidden
        self.hidden = hidden
        self.time_in, self.time_out = BatchedLinear(streams, hidden, wide), BatchedLinear(streams, wide, wide)
        self.condition_in = BatchedLinear(streams, condition, hidden)
        self.condition_out = BatchedLinear(streams, hidden, wide)
        self.first = BatchedLinear(streams, dim + 2 * wide, hidden)
        self.deeper = nn.ModuleList(
            [BatchedLinear(streams, hidden, hidden) for _ in range(options.layers - 1)]
        )
        self.norms = nn.ModuleList([BatchedLayerNorm(len(streams), hidden) for _ in range(options.layers)])
        self.out = BatchedLinear(streams, hidden, dim)

    # The first layer is linear in (noisy embedding ‖ time ‖ condition), so the parts of time and condition are
    # computed once for each step and class instead of once for each row; the sum is the layer on the concatenation.

    def time_part(self, steps: Tensor) -> Tensor:
        """Steps [S, B] -> what they add to the first layer [S, B, hidden]."""
        wide = 2 * self.hidden
        t = self.time_out(functional.leaky_relu(self.time_in(time_embedding(steps, self.hidden))))
        return t @ self.first.weight[:, -2 * wide : -wide]

    def condition_part(self, vectors: Tensor) -> Tensor:
        """Class vectors [C, A] -> what they add to the first layer, with its bias [S, C, hidden]."""
        assert self.first.bias is not None
        c = self.condition_in(vectors.expand(self.out.weight.shape[0], -1, -1))
        c = self.condition_out(functional.leaky_relu(c))
        return torch.baddbmm(self.first.bias, c, self.first.weight[:, -2 * self.hidden :])

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, keep: Tensor | None = None, p_drop: float = 0.0
    ) -> Tensor:
        """[S, B, D] and its parts of time and condition [S, B (or 1), hidden] -> predicted noise [S, B, D].

        ``keep`` [S, layers, B, hidden] are uniform numbers for dropout.
        """
        h = x @ self.first.weight[:, : x.shape[2]] + time + condition
        for number, norm in enumerate(self.norms):
            if number:
                h = self.deeper[number - 1](h)
            h = functional.leaky_relu(norm(h))
            if keep is not None:
                h = dropout(h, keep[:, number], p_drop)
        return self.out(h)


@dataclass
class _Batch:
    rows: Tensor
    steps: Tensor
    noise: Tensor
    keep: Tensor | None


class DDPM(BatchedModel[_NoisePredictor]):
    """See the module. All seeds are one batched model."""

    Options = DDPMOptions
    name = "ddpm"

    def __init__(self, options: DDPMOptions, seeds: Sequence[int]) -> None:
        super().__init__(options, seeds)
        self.schedule = NoiseSchedule(options).to(self.device)
        self.dim = 0

    def fit(self, data: SeenData, *, checkpoint: Checkpoint | None = None) -> None:
        o = self.options
        x, classes, vectors = self.on_device(data.embeddings, data.classes, data.vectors)
        rows, self.dim = x.shape
        network = _NoisePredictor(self.streams("initialise"), self.dim, vectors.shape[1], o).to(self.device)

        def batches(epoch: int) -> Iterator[_Batch]:
            streams = self.streams("epoch", epoch)
            for part in self.shuffled(streams, rows, o.batch_size):
                size = part.shape[1]
                steps, noise = streams.integers(o.steps, size), streams.normal(size, self.dim)
                keep = streams.uniform(o.layers, size, o.hidden).to(self.device) if o.dropout else None
                yield _Batch(part, steps.to(self.device), noise.to(self.device), keep)

        def loss(batch: _Batch) -> Tensor:
            signal = self.schedule.signal[batch.steps].unsqueeze(2)
            spread = self.schedule.noise[batch.steps].unsqueeze(2)
            noisy = signal * x[batch.rows] + spread * batch.noise
            of_class = network.condition_part(vectors)
            wanted = classes[batch.rows].unsqueeze(2).expand(-1, -1, o.hidden)
            predicted = network(
                noisy, network.time_part(batch.steps), of_class.gather(1, wanted), batch.keep, o.dropout
            )
            return (predicted - batch.noise).square().mean(dim=(1, 2)).sum()

        self.train(
            network,
            adam(network, o.learning_rate, o.weight_decay),
            batches=batches,
            loss=loss,
            epochs=o.epochs,
            before_step=clip_gradients_per_seed(o.max_grad_norm),
            checkpoint=checkpoint,
        )

    @torch.inference_mode()
    def sample(self, vectors: Tensor, count: int) -> Tensor:
        vectors = vectors.to(self.device)
        seeds = len(self.seeds)
        bytes_per_seed = 4 * len(vectors) * count * (4 * self.dim + 4 * self.options.hidden)
        limit = SAMPLING_BYTES if self.device.type == "cpu" else seeds * bytes_per_seed
        parts = seed_groups(seeds, bytes_per_seed, limit)
        return torch.cat([self._sample(part, vectors, count) for part in parts])

    def _sample(self, part: slice, vectors: Tensor, count: int) -> Tensor:
        """Samples of some of the seeds [S, C, count, D]."""
        network = network_of_seeds(self.trained, part, len(self.seeds))
        seeds, classes = self.seeds[part], len(vectors)
        blocks = -(-count // STREAM_ROWS)
        fresh = torch.empty(len(seeds), classes, blocks * STREAM_ROWS, self.dim)
        drawn = [
            (fresh[seed, number, block * STREAM_ROWS : (block + 1) * STREAM_ROWS], generator)
            for number in range(classes)
            for block in range(blocks)
            for seed, generator in enumerate(
                SeedStreams(seeds, self.name, "sample", number, block).generators
            )
        ]

        def draw() -> Tensor:
            for rows, generator in drawn:
                rows.normal_(generator=generator)
            return fresh[:, :, :count].flatten(1, 2).to(self.device)

        every = torch.arange(self.options.steps, device=self.device).expand(len(seeds), -1)
        times = network.time_part(every)
        condition = network.condition_part(vectors).repeat_interleave(count, dim=1)
        x = draw().clone()
        scale, remove, deviation = (
            values.tolist() for values in (self.schedule.scale, self.schedule.remove, self.schedule.deviation)
        )
        for step in reversed(range(self.options.steps)):
            noise = network(x, times[:, step : step + 1], condition)
            x.sub_(noise, alpha=remove[step]).mul_(scale[step])
            if step:
                x.add_(draw(), alpha=deviation[step])
            if self.options.clamp:
                x.clamp_(-1, 1)
        return x.view(len(seeds), classes, count, self.dim).cpu()
