"""LisGAN: a conditional Wasserstein GAN led by soul samples (Li et al., CVPR 2019).

The generator takes noise and a class vector to an embedding; the critic scores an embedding with a class vector
(WGAN-GP, Gulrajani et al. 2017). The generator's loss adds, to the critic's, (1) the cross-entropy of a softmax
classifier trained before on real embeddings of seen classes, (2) R1, the squared distance of each generated embedding
to the nearest soul sample of its class, and (3) R2, the same of each class's mean generated embedding. The soul
samples of a class are the centres of k clusters of its real embeddings.

Sizes are those of the authors' code, weights and epochs those of its command for CUB: hidden 4096, noise as long as
the class vector, batch 64, five critic steps to one of the generator, Adam 1e-4 with beta1 0.5, gradient penalty 10,
three souls a class, 20 embeddings a class for R2, weights from N(0, 0.02). As there, embeddings are scaled to [0, 1]
and class vectors have unit length. The output is a ReLU as there, which keeps each dimension above the least value
that was seen; embeddings that may be negative get a linear one (``output: auto``). A critic step shows a batch of one
of five shuffles of the clips, where the authors draw each batch from all.

The paper's cascade belongs to the classifier: see ``foley.classifiers.softmax``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional

from foley.generators.embedding.protocol import SeenData
from foley.runtime.seeds import SeedStreams, derive
from foley.training.batched import (
    ADAM_BYTES,
    BatchedLinear,
    BatchedModel,
    Examples,
    adam,
    cross_entropy,
    normal_,
    pick,
)
from foley.training.checkpoint import Checkpoint
from foley.training.scaling import Scaling, ScalingKind
from foley.training.softmax import SoftmaxRegression, SoftmaxTraining

INITIAL_DEVIATION = 0.02
SLOPE = 0.2  # of the leaky ReLU below zero
# The classifier behind the classification loss.
PRETRAINED = SoftmaxTraining(epochs=100, batch_size=100)


@dataclass(frozen=True)
class LisGANOptions:
    """The published settings; see the module. ``noise``: its length, that of the class vectors when left out."""

    hidden: int = 4096
    critic_hidden: int = 4096
    noise: int | None = None
    epochs: int = 70
    batch_size: int = 64
    critic_steps: int = 5
    learning_rate: float = 1e-4
    beta1: float = 0.5
    penalty: float = 10.0
    classification_weight: float = 0.01
    souls: int = 3
    soul_weight: float = 0.001
    mean_soul_weight: float = 0.01
    mean_soul_samples: int = 20
    output: Literal["auto", "relu", "linear"] = "auto"
    scaling: ScalingKind = "min_max"
    unit_vectors: bool = True

    def __post_init__(self) -> None:
        sizes = (self.hidden, self.critic_hidden, self.epochs, self.batch_size, self.critic_steps, self.souls)
        if min(*sizes, self.mean_soul_samples, self.noise or 1) < 1:
            raise ValueError(
                "hidden, critic_hidden, noise, epochs, batch_size, critic_steps, souls and mean_soul_samples "
                "must be at least 1"
            )
        if self.learning_rate <= 0 or not 0 <= self.beta1 < 1:
            raise ValueError("learning_rate must be positive, beta1 in [0, 1)")


class _Conditional(nn.Module):
    """S networks on (vector ‖ class vector): linear, leaky ReLU, linear.

    The first layer is linear in both, so a class's part is computed once for each class, not once for each row. Its
    weights are kept in two parts, of which slices would have gradients full of zeros.
    """

    def __init__(self, streams: SeedStreams, inputs: int, condition: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.of_class = normal_(BatchedLinear(streams, condition, hidden), streams, INITIAL_DEVIATION)
        self.of_x = normal_(BatchedLinear(streams, inputs, hidden, bias=False), streams, INITIAL_DEVIATION)
        self.last = normal_(BatchedLinear(streams, hidden, outputs), streams, INITIAL_DEVIATION)

    def class_part(self, vectors: Tensor) -> Tensor:
        """Class vectors [C, A] -> what they add to the first layer, with its bias [S, C, hidden]."""
        return self.of_class(vectors.expand(len(self.of_class.weight), -1, -1))

    def hidden(self, x: Tensor, class_part: Tensor) -> Tensor:
        """[S, B, inputs] and the class's part [S, B, hidden] -> the first layer, before its leaky ReLU."""
        return torch.baddbmm(class_part, x, self.of_x.weight)

    def finish(self, hidden: Tensor) -> Tensor:
        return self.last(functional.leaky_relu(hidden, SLOPE))

    def forward(self, x: Tensor, class_part: Tensor) -> Tensor:
        return self.finish(self.hidden(x, class_part))


def gradient_norms(critic: _Conditional, hidden: Tensor) -> Tensor:
    """Norm of the critic's gradient with respect to the embeddings [S, B], from its first layer [S, B, hidden].

    A leaky ReLU is linear on either side, so the gradient is a product of the weights and of its slopes, and needs no
    second run of backpropagation.
    """
    # [S, 1, hidden]: the last layer has one output.
    slopes = torch.where(hidden > 0, 1.0, SLOPE) * critic.last.weight.mT
    gradient = torch.bmm(slopes, critic.of_x.weight.mT)
    # The root has no gradient at 0.
    return gradient.square().sum(dim=2).clamp_min(1e-24).sqrt()


def nearest_soul(x: Tensor, souls: Tensor) -> Tensor:
    """Squared distance of each x [..., D] to the nearest of its souls [..., k, D] -> [...]."""
    return (x.unsqueeze(-2) - souls).square().sum(dim=-1).amin(dim=-1)


def soul_samples(embeddings: Tensor, classes: Tensor, count: int, souls: int) -> Tensor:
    """Centres of the clusters of each of ``count`` classes [count, souls, D], the same for all seeds.

    A class with fewer distinct clips than ``souls`` repeats one.
    """
    found = []
    for number in range(count):
        own = embeddings[classes == number].double().cpu().numpy()
        k = min(souls, len(np.unique(own, axis=0)))
        stream = np.random.default_rng(derive(0, "lisgan", "souls", number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which is left out below
            label = kmeans2(own, k, minit="++", iter=100, rng=stream)[1]
        centres = [own[label == cluster].mean(axis=0) for cluster in np.unique(label)]
        found.append(np.stack([centres[soul % len(centres)] for soul in range(souls)]))
    return torch.from_numpy(np.stack(found)).to(embeddings)


class _Players(nn.Module):
    def __init__(self, streams: SeedStreams, dim: int, condition: int, noise: int, o: LisGANOptions) -> None:
        super().__init__()
        self.generator = _Conditional(streams, noise, condition, o.hidden, dim)
        self.critic = _Conditional(streams, dim, condition, o.critic_hidden, 1)


@dataclass
class _Batch:
    turn: Literal["critic", "generator"]
    rows: Tensor
    noise: Tensor  # [S, B, noise]
    mix: Tensor | None = None  # critic: where between real and generated the penalty is taken [S, B, 1]
    mean_noise: Tensor | None = None  # generator: of the embeddings behind R2 [S, C K, noise]


class LisGAN(BatchedModel[_Players]):
    """See the module. All seeds are one batched model."""

    Options = LisGANOptions
    name = "lisgan"

    def fit(self, data: SeenData, *, checkpoint: Checkpoint | None = None) -> None:
        o = self.options
        x, classes, vectors = self.on_device(data.embeddings, data.classes, self._class_vectors(data.vectors))
        self.is_rectified = o.output == "relu" or (o.output == "auto" and bool((x >= 0).all()))
        self.scaling = Scaling.of(o.scaling, x)
        x = self.scaling.apply(x)
        rows, dim = x.shape
        self.noise = o.noise or vectors.shape[1]
        condition = vectors.shape[1]
        souls = soul_samples(x, classes, len(vectors), o.souls)

        def train(model: LisGAN, _: slice, checkpoint: Checkpoint | None) -> None:
            network = _Players(model.streams("initialise"), dim, condition, self.noise, o).to(self.device)
            generator, critic = network.generator, network.critic
            # Trained anew when an interrupted training goes on: it takes seconds.
            recogniser = SoftmaxRegression(PRETRAINED, model.seeds, len(vectors), "lisgan classifier")
            recogniser.fit(Examples((x, classes)))
            recogniser.trained.requires_grad_(False)

            def batches(epoch: int) -> Iterator[_Batch]:
                streams = model.streams("epoch", epoch)
                shown = [
                    part
                    for _ in range(o.critic_steps)
                    for part in model.shuffled(streams, rows, o.batch_size)
                ]
                for number, part in enumerate(shown):
                    size = part.shape[1]
                    noise, mix = streams.normal(size, self.noise), streams.uniform(size, 1)
                    yield _Batch("critic", part, noise.to(self.device), mix.to(self.device))
                    if (number + 1) % o.critic_steps == 0:
                        noise = streams.normal(size, self.noise).to(self.device)
                        mean_noise = streams.normal(len(vectors) * o.mean_soul_samples, self.noise)
                        yield _Batch("generator", part, noise, mean_noise=mean_noise.to(self.device))

            # The generator's class part while it waits for its turn.
            waiting: Tensor | None = None

            def loss(batch: _Batch) -> Tensor:
                nonlocal waiting
                of_class = classes[batch.rows]
                if batch.mix is not None:
                    with torch.no_grad():
                        if waiting is None:
                            waiting = generator.class_part(vectors)
                        fake = self._generate(generator, batch.noise, pick(waiting, of_class))
                    return critic_loss(
                        critic,
                        x[batch.rows],
                        fake,
                        batch.mix,
                        pick(critic.class_part(vectors), of_class),
                        o.penalty,
                    ).sum()
                waiting = None
                fake, means = self._generate_with_means(
                    generator, batch, generator.class_part(vectors), of_class
                )
                judged = critic(fake, pick(critic.class_part(vectors), of_class))
                total = -judged.mean(dim=(1, 2)).sum()
                total = total + o.classification_weight * cross_entropy(recogniser.trained(fake), of_class)
                total = total + o.soul_weight * nearest_soul(fake, souls[of_class]).mean(dim=1).sum()
                return total + o.mean_soul_weight * nearest_soul(means, souls).mean(dim=1).sum()

            model.train(
                network,
                {
                    "critic": adam(critic, o.learning_rate, beta1=o.beta1),
                    "generator": adam(generator, o.learning_rate, beta1=o.beta1),
                },
                turn=lambda batch: batch.turn,
                batches=batches,
                loss=loss,
                epochs=o.epochs,
                checkpoint=checkpoint,
            )

        weights = o.hidden * (self.noise + condition + dim) + o.critic_hidden * (dim + condition)
        self.train_in_groups(train, bytes_per_seed=ADAM_BYTES * weights, checkpoint=checkpoint)

    @torch.inference_mode()
    def sample(self, vectors: Tensor, count: int) -> Tensor:
        generator = self.trained.generator

        def draw(streams: SeedStreams, vector: Tensor) -> Tensor:
            part = generator.class_part(vector.unsqueeze(0)).expand(-1, count, -1)
            made = self._generate(generator, streams.normal_rows(count, self.noise).to(self.device), part)
            return self.scaling.undo(made)

        return self.draw_by_class(self._class_vectors(vectors), draw)

    def _generate(self, generator: _Conditional, noise: Tensor, class_part: Tensor) -> Tensor:
        """Scaled embeddings [S, B, D]."""
        made = generator(noise, class_part)
        return made.relu() if self.is_rectified else made

    def _generate_with_means(
        self, generator: _Conditional, batch: _Batch, class_part: Tensor, of_class: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scaled embeddings of a batch [S, B, D] and the mean embedding of every class [S, C, D]."""
        assert batch.mean_noise is not None
        rows, count = of_class.shape[1], self.options.mean_soul_samples
        # One pass for both, so that each weight is read and has its gradient once.
        parts = torch.cat([pick(class_part, of_class), class_part.repeat_interleave(count, dim=1)], dim=1)
        hidden = generator.hidden(torch.cat([batch.noise, batch.mean_noise], dim=1), parts)
        if self.is_rectified:
            made = generator.finish(hidden).relu()
            return made[:, :rows], made[:, rows:].unflatten(1, (-1, count)).mean(dim=2)
        # The mean of a linear layer's outputs is the output at the mean of its inputs.
        hidden = functional.leaky_relu(hidden, SLOPE)
        means = hidden[:, rows:].unflatten(1, (-1, count)).mean(dim=2)
        made = generator.last(torch.cat([hidden[:, :rows], means], dim=1))
        return made[:, :rows], made[:, rows:]

    def _class_vectors(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=1) if self.options.unit_vectors else vectors


def critic_loss(
    critic: _Conditional, real: Tensor, fake: Tensor, mix: Tensor, class_part: Tensor, penalty: float
) -> Tensor:
    """Wasserstein loss with gradient penalty of each seed [S]: critic of fake - critic of real + penalty.

    ``mix`` [S, B, 1]: the penalty is taken at mix real + (1 - mix) fake.
    """
    # One pass for both, as in the generator's turn.
    hidden = critic.hidden(torch.cat([real, fake], dim=1), torch.cat([class_part, class_part], dim=1))
    hidden_real, hidden_fake = hidden.chunk(2, dim=1)
    judged_real, judged_fake = critic.finish(hidden).chunk(2, dim=1)
    difference = (judged_fake - judged_real).mean(dim=(1, 2))
    # The first layer is linear, so its value between two points lies between theirs.
    norms = gradient_norms(critic, mix * hidden_real + (1 - mix) * hidden_fake)
    return difference + penalty * (norms - 1).square().mean(dim=1)
