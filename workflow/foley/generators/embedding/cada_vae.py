"""CADA-VAE: aligned variational autoencoders of embeddings and class vectors (Schönfeld et al., CVPR 2019).

One autoencoder for audio embeddings and one for class vectors share a latent space. Loss of a batch, in sums over its
rows and dimensions, with weights that grow over the epochs:

    L1 of both reconstructions + beta KL of both + gamma L1 of both cross-reconstructions (one's latent decoded as the
    other) + delta Wasserstein-2 distance between the two diagonal Gaussians of a clip and its class.

Classifiers work in the latent space: seen classes are draws from the audio encoder, unseen ones draws from the class
encoder, and a clip to be recognised is its mean. Sizes, weights, warm-ups, counts and Adam 1.5e-4
with AMSGrad are those of ZeroDiffusion's study (arXiv 2412.03771) and its code: for either space 1450 hidden units in
the encoder and 665 in the decoder, 100 draws of each seen class and 200 of each unseen one (``samples_per_class``)
where both compete. The study trains a second classifier on 100 draws of each unseen class alone for the conventional
setting; here one serves both.

Three settings are those of CADA-VAE's paper and authors, who scale embeddings to [0, 1], bring class vectors to unit
length and, in the paper, draw a number for each latent dimension. The study's code takes embeddings and vectors as
they are, so that reconstruction weighs more, and draws one number a row, scaled by the variance: ``scaling: none``,
``unit_vectors: false``, ``noise: shared``, the method ``cada_vae_study`` of config.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import SeedStreams, derive
from foley.training.batched import AMSGRAD_BYTES, BatchedLinear, BatchedModel, adam, pick, xavier_normal_
from foley.training.checkpoint import Checkpoint
from foley.training.scaling import Scaling, ScalingKind

INITIAL_GAIN = 0.5
# Rows encoded at a time outside training, so that memory does not grow with the clips.
CHUNK = 1024
Noise = Literal["per_dimension", "shared"]


@dataclass(frozen=True)
class CADAVAEOptions:
    """The published settings; see the module.

    ``audio_hidden``, ``class_hidden``: hidden units of the encoder and of the decoder. A weight grows linearly from 0
    to its value between the two epochs of its warm-up. ``noise``: ``per_dimension``
    is the paper's, a normal number for each latent dimension, scaled by the deviation; ``shared`` is what the
    authors' code does, one number for all dimensions of a row, scaled by the variance.
    """

    latent: int = 64
    audio_hidden: tuple[int, int] = (1450, 665)
    class_hidden: tuple[int, int] = (1450, 665)
    epochs: int = 80
    batch_size: int = 52
    learning_rate: float = 1.5e-4
    kl_weight: float = 0.25
    kl_epochs: tuple[int, int] = (0, 93)
    cross_weight: float = 2.37
    cross_epochs: tuple[int, int] = (21, 75)
    distance_weight: float = 5.13
    distance_epochs: tuple[int, int] = (6, 22)
    noise: Noise = "per_dimension"
    seen_draws: int = 100
    scaling: ScalingKind = "min_max"
    unit_vectors: bool = True

    def __post_init__(self) -> None:
        if min(self.latent, *self.audio_hidden, *self.class_hidden, self.epochs, self.batch_size) < 1:
            raise ValueError("latent, audio_hidden, class_hidden, epochs and batch_size must be at least 1")
        if self.learning_rate <= 0 or self.seen_draws < 1:
            raise ValueError("learning_rate must be positive, seen_draws at least 1")
        for first, last in (self.kl_epochs, self.cross_epochs, self.distance_epochs):
            if not first < last:
                raise ValueError("the epochs of a warm-up are its first and its last, for example [21, 75]")


def warm_up(epoch: int, weight: float, epochs: tuple[int, int]) -> float:
    """0 up to the first of ``epochs``, ``weight`` from the last on, linear between."""
    first, last = epochs
    return weight * min(max((epoch - first) / (last - first), 0.0), 1.0)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, diag(exp(log_variance))) from the standard normal [..., L] -> [...]."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1)


def wasserstein_distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """2-Wasserstein distance between Gaussians with diagonal covariance, (mean, log variance) [..., L] -> [...]."""
    means = (a[0] - b[0]).square().sum(dim=-1)
    deviations = ((a[1] / 2).exp() - (b[1] / 2).exp()).square().sum(dim=-1)
    # The root has no gradient at 0.
    return (means + deviations).clamp_min(1e-12).sqrt()


class _Autoencoder(nn.Module):
    """S variational autoencoders with one hidden layer on each side, of sizes of its own."""

    def __init__(self, streams: SeedStreams, inputs: int, hidden: tuple[int, int], latent: int) -> None:
        super().__init__()

        def linear(inputs: int, outputs: int) -> BatchedLinear:
            return xavier_normal_(BatchedLinear(streams, inputs, outputs), streams, INITIAL_GAIN)

        encoder, decoder = hidden
        self.hidden = linear(inputs, encoder)
        self.mean, self.log_variance = linear(encoder, latent), linear(encoder, latent)
        self.inner, self.outer = linear(latent, decoder), linear(decoder, inputs)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[S, B, D] -> mean and log variance [S, B, L]."""
        h = self.hidden(x).relu()
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Tensor) -> Tensor:
        """[S, B, L] -> [S, B, D]."""
        return self.outer(self.inner(z).relu())


class _Pair(nn.Module):
    def __init__(self, streams: SeedStreams, dim: int, condition: int, o: CADAVAEOptions) -> None:
        super().__init__()
        self.audio = _Autoencoder(streams, dim, o.audio_hidden, o.latent)
        self.classes = _Autoencoder(streams, condition, o.class_hidden, o.latent)


@dataclass
class _Batch:
    rows: Tensor
    noise: Tensor  # of the audio latents and of the class latents [2, S, B, L or 1]
    kl: float
    cross: float
    distance: float


class CADAVAE(BatchedModel[_Pair]):
    """See the module. All seeds are one batched model."""

    Options = CADAVAEOptions
    name = "cada_vae"

    def fit(self, data: SeenData, *, checkpoint: Checkpoint | None = None) -> None:
        o = self.options
        x, classes, vectors = self.on_device(data.embeddings, data.classes, self._class_vectors(data.vectors))
        self.scaling = Scaling.of(o.scaling, x)
        x = self.scaling.apply(x)
        dim, condition = x.shape[1], vectors.shape[1]

        def train(model: CADAVAE, _: slice, checkpoint: Checkpoint | None) -> None:
            network = _Pair(model.streams("initialise"), dim, condition, o).to(self.device)

            def batches(epoch: int) -> Iterator[_Batch]:
                streams = model.streams("epoch", epoch)
                weights = (
                    warm_up(epoch, o.kl_weight, o.kl_epochs),
                    warm_up(epoch, o.cross_weight, o.cross_epochs),
                    warm_up(epoch, o.distance_weight, o.distance_epochs),
                )
                for rows in model.shuffled(streams, len(x), o.batch_size):
                    noise = [self._noise(streams, rows.shape[1]) for _ in range(2)]
                    yield _Batch(rows, torch.stack(noise), *weights)

            def loss(batch: _Batch) -> Tensor:
                real, of_class = x[batch.rows], classes[batch.rows]
                wanted = vectors[of_class]
                audio = network.audio.encode(real)
                # Each class is encoded once, not once for each of its rows.
                encoded = network.classes.encode(vectors.expand(len(model.seeds), -1, -1))
                named = (pick(encoded[0], of_class), pick(encoded[1], of_class))
                z = self._draw(*audio, batch.noise[0]), self._draw(*named, batch.noise[1])
                total = batch.kl * (kl_divergence(*audio).sum() + kl_divergence(*named).sum())
                for decoder, target, own, other in (
                    (network.audio, real, *z),
                    (network.classes, wanted, *z[::-1]),
                ):
                    if batch.cross:
                        # One decoding of both latents, so that each weight is read and has its gradient once.
                        made, crossed = decoder.decode(torch.cat([own, other], dim=1)).chunk(2, dim=1)
                        total = total + _l1(made, target) + batch.cross * _l1(crossed, target)
                    else:
                        total = total + _l1(decoder.decode(own), target)
                if batch.distance:
                    total = total + batch.distance * wasserstein_distance(audio, named).sum()
                return total

            model.train(
                network,
                adam(network, o.learning_rate, amsgrad=True),
                batches=batches,
                loss=loss,
                epochs=o.epochs,
                checkpoint=checkpoint,
            )

        weights = sum(
            encoder * (inputs + 2 * o.latent) + decoder * (inputs + o.latent)
            for inputs, (encoder, decoder) in ((dim, o.audio_hidden), (condition, o.class_hidden))
        )
        self.train_in_groups(train, bytes_per_seed=AMSGRAD_BYTES * weights, checkpoint=checkpoint)

    @torch.inference_mode()
    def sample(self, vectors: Tensor, count: int) -> Tensor:
        """Latents of each class from the class encoder [S, C, count, L]."""

        def draw(streams: SeedStreams, vector: Tensor) -> Tensor:
            mean, log_variance = self.trained.classes.encode(vector.expand(len(self.seeds), 1, -1))
            noise = streams.normal_rows(count, self._noise_size).to(self.device)
            return self._draw(mean, log_variance, noise)

        return self.draw_by_class(self._class_vectors(vectors), draw)

    @torch.inference_mode()
    def project(self, embeddings: Tensor) -> Tensor:
        """Means of the audio encoder [S, N, L]."""
        return self._encode(embeddings)[0].cpu()

    @torch.inference_mode()
    def draw_seen(self, data: SeenData) -> tuple[Tensor, Tensor]:
        """``seen_draws`` latents of each class from the audio encoder, its clips taken in turn."""
        rows = []
        for number in data.classes.unique():
            own = (data.classes == number).nonzero().flatten()
            # The same clips for all seeds. Clips have an order that means something, such as the place.
            stream = torch.Generator().manual_seed(derive(0, self.name, "seen", int(number)))
            own = own[torch.randperm(len(own), generator=stream)]
            rows.append(own.repeat(-(-self.options.seen_draws // len(own)))[: self.options.seen_draws])
        drawn = torch.cat(rows)
        mean, log_variance = (part[:, drawn.to(self.device)] for part in self._encode(data.embeddings))
        noise = self._noise(self.streams("seen"), len(drawn))
        return drawn, self._draw(mean, log_variance, noise).cpu()

    def _encode(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        scaled = self.scaling.apply(embeddings.to(self.device)).expand(len(self.seeds), -1, -1)
        parts = [self.trained.audio.encode(part) for part in scaled.split(CHUNK, dim=1)]
        return torch.cat([mean for mean, _ in parts], dim=1), torch.cat(
            [spread for _, spread in parts], dim=1
        )

    def _class_vectors(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=1) if self.options.unit_vectors else vectors

    def _noise(self, streams: SeedStreams, rows: int) -> Tensor:
        return streams.normal(rows, self._noise_size).to(self.device)

    @property
    def _noise_size(self) -> int:
        return 1 if self.options.noise == "shared" else self.options.latent

    def _draw(self, mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
        """Latents from their Gaussians [S, B, L]."""
        spread = log_variance if self.options.noise == "shared" else log_variance / 2
        return mean + spread.exp() * noise


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().sum()
