"""LisGAN: its losses against autograd and by hand, its souls, and that it makes embeddings of unseen classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foley.generators.embedding import lisgan
from foley.generators.embedding.lisgan import (
    LisGAN,
    LisGANOptions,
    critic_loss,
    gradient_norms,
    nearest_soul,
    soul_samples,
)
from foley.generators.embedding.protocol import LatentGenerator, SeenData
from foley.options import ConfigError, parse_options
from foley.runtime.seeds import SeedStreams
from foley.training.checkpoint import Checkpoint
from seen_unseen import (
    first_of_many_are_a_smaller_draw,
    resumed_equals_uninterrupted,
    seeds_alone_equal_seeds_together,
    world,
)

SMALL = LisGANOptions(
    hidden=48, critic_hidden=48, noise=4, epochs=12, batch_size=24, critic_steps=3, learning_rate=2e-3,
    classification_weight=0.1, soul_weight=0.5, mean_soul_weight=0.5, mean_soul_samples=6,
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        lisgan, "PRETRAINED", lisgan.SoftmaxTraining(epochs=10, batch_size=50, learning_rate=0.02)
    )


def critic(seeds: int = 2, dim: int = 5, condition: int = 3, hidden: int = 8) -> lisgan._Conditional:
    made = lisgan._Conditional(SeedStreams(list(range(seeds)), "critic"), dim, condition, hidden, 1).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


def plain(network: lisgan._Conditional, seed: int, x: Tensor, vectors: Tensor) -> Tensor:
    """The network as it is published: linear layers on the concatenation [B, D + A]."""
    weight = torch.cat([network.of_x.weight[seed], network.of_class.weight[seed]])
    h = torch.cat([x, vectors], dim=1) @ weight + network.of_class.bias[seed]
    return nn.functional.leaky_relu(h, 0.2) @ network.last.weight[seed] + network.last.bias[seed]


def test_critic_loss_and_its_gradients_are_those_of_backpropagating_twice() -> None:
    network = critic()
    generator = torch.Generator().manual_seed(1)
    real, fake = torch.randn(2, 2, 7, 5, generator=generator, dtype=torch.float64)
    mix = torch.rand(2, 7, 1, generator=generator, dtype=torch.float64)
    vectors = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    of_class = torch.randint(4, (2, 7), generator=generator)
    part = lisgan.pick(network.class_part(vectors), of_class)
    found = critic_loss(network, real, fake, mix, part, 10.0)
    found.sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for seed in range(2):
        a = vectors[of_class[seed]]
        between = (mix[seed] * real[seed] + (1 - mix[seed]) * fake[seed]).requires_grad_()
        (slope,) = torch.autograd.grad(plain(network, seed, between, a).sum(), between, create_graph=True)
        own = plain(network, seed, fake[seed], a).mean() - plain(network, seed, real[seed], a).mean()
        own = own + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
        torch.testing.assert_close(found[seed], own)
        hidden = network.hidden(between.unsqueeze(0).expand(2, -1, -1), part)
        torch.testing.assert_close(gradient_norms(network, hidden)[seed], slope.norm(dim=1))
        total = total + own
    total.backward()
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_nearest_soul() -> None:
    souls = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-1.0, 0.0]])
    x = torch.tensor([[0.0, 1.0], [3.0, 3.0], [-3.0, 0.0]])
    assert nearest_soul(x, souls).tolist() == [1.0, 1.0, 4.0]


def test_souls_are_the_centres_of_a_class_s_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    many = centres.repeat_interleave(8, dim=0) + 0.1 * torch.randn(24, 2, generator=generator)
    few = torch.tensor([[5.0, 5], [7, 7]])
    x = torch.cat([many, few, torch.full((4, 2), 2.0)])
    classes = torch.tensor([0] * 24 + [1] * 2 + [2] * 4)
    order = torch.randperm(len(x), generator=generator)
    souls = soul_samples(x[order], classes[order], 3, 3)
    assert souls.shape == (3, 3, 2)
    for centre, members in zip(centres, many.split(8), strict=True):
        assert torch.cdist(centre[None], souls[0]).min() < 0.2
        assert torch.cdist(members.mean(0)[None], souls[0]).min() < 1e-4
    # Two clips are two souls, equal clips are one.
    assert sorted({tuple(soul) for soul in souls[1].tolist()}) == [(5.0, 5.0), (7.0, 7.0)]
    assert souls[2].tolist() == [[2.0, 2.0]] * 3
    assert torch.equal(soul_samples(x[order], classes[order], 3, 3), souls)


@pytest.mark.parametrize("output", ["relu", "linear"])
def test_generator_loss_by_hand(output: Literal["relu", "linear"]) -> None:
    # One epoch of one batch and one critic step, at a learning rate that changes nothing.
    toy = world(seen=4, clips=6)
    o = LisGANOptions(
        hidden=6, critic_hidden=7, noise=2, epochs=1, batch_size=99, critic_steps=1, learning_rate=1e-12,
        classification_weight=0.3, soul_weight=0.7, mean_soul_weight=1.1, mean_soul_samples=5, output=output,
    )  # fmt: skip
    model = LisGAN(o, [4])
    model.fit(toy.seen)
    streams = model.streams("epoch", 0)
    (rows,) = streams.permutations(24)
    streams.normal(24, 2), streams.uniform(24, 1)
    noise, mean_noise = streams.normal(24, 2)[0].double(), streams.normal(20, 2)[0].double()
    players = model.trained.double()
    low, high = toy.seen.embeddings.min(0).values, toy.seen.embeddings.max(0).values
    x = ((toy.seen.embeddings - low) / (high - low)).double()
    vectors = nn.functional.normalize(toy.seen.vectors, dim=1).double()
    of_class = toy.seen.classes[rows]
    fake = plain(players.generator, 0, noise, vectors[of_class])
    if output == "relu":
        fake = fake.relu()
    recogniser = lisgan.SoftmaxRegression(lisgan.PRETRAINED, [4], 4, "lisgan classifier")
    recogniser.fit(lisgan.Examples((x.float(), toy.seen.classes)))
    log_p = recogniser.trained.double()(fake[None])[0].log_softmax(dim=1)
    souls = soul_samples(x.float(), toy.seen.classes, 4, 3).double()
    many = plain(players.generator, 0, mean_noise, vectors.repeat_interleave(5, dim=0))
    if output == "relu":
        many = many.relu()
    wanted = -plain(players.critic, 0, fake, vectors[of_class]).mean()
    wanted += 0.3 * -log_p[torch.arange(24), of_class].mean()
    wanted += (
        0.7
        * torch.stack(
            [((f - souls[c]) ** 2).sum(1).min() for f, c in zip(fake, of_class, strict=True)]
        ).mean()
    )
    wanted += (
        1.1
        * torch.stack(
            [((many[5 * c : 5 * c + 5].mean(0) - souls[c]) ** 2).sum(1).min() for c in range(4)]
        ).mean()
    )
    assert model.history.last("loss_generator") == pytest.approx(wanted.item(), rel=1e-4)


def test_seeds_of_a_batch_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = world(seen=5, clips=8)
    options = LisGANOptions(
        hidden=9, critic_hidden=8, noise=2, epochs=4, batch_size=15, critic_steps=2, learning_rate=1e-3,
        mean_soul_samples=3,
    )  # fmt: skip
    seeds_alone_equal_seeds_together(LisGAN, options, toy)
    resumed_equals_uninterrupted(LisGAN, options, toy, Checkpoint(tmp_path, "x"), monkeypatch)
    first_of_many_are_a_smaller_draw(LisGAN, dataclasses.replace(options, noise=7), toy)


def test_each_player_takes_its_turns() -> None:
    toy = world(seen=5, clips=8)
    model = LisGAN(LisGANOptions(hidden=9, critic_hidden=8, epochs=2, batch_size=15, critic_steps=5), [0])
    taken: list[str] = []
    train = model.train

    def watch(*given: object, turn, **more: object) -> None:  # type: ignore[no-untyped-def]
        train(*given, turn=lambda batch: taken.append(turn(batch)) or turn(batch), **more)  # type: ignore[arg-type, func-returns-value]

    model.train = watch  # type: ignore[method-assign]
    model.fit(toy.seen)
    # 40 clips in batches of 15 are three batches a shuffle.
    assert taken == ([*["critic"] * 5, "generator"] * 3) * 2
    quantities = {quantity for _, quantity, _ in model.history.rows}
    assert quantities == {"loss", "loss_critic", "loss_generator"}


def test_embeddings_of_unseen_classes_lie_near_them() -> None:
    toy = world(seen=24, clips=6)
    model = LisGAN(SMALL, [0, 1])
    with pytest.raises(RuntimeError, match="fit"):
        model.sample(toy.unseen_vectors, 1)
    model.fit(toy.seen)
    made = model.sample(toy.unseen_vectors, 30)
    assert made.shape == (2, 3, 30, 10)
    assert not isinstance(model, LatentGenerator)
    assert torch.equal(model.sample(toy.unseen_vectors, 30), made)
    torch.testing.assert_close(model.sample(toy.unseen_vectors[:1], 30), made[:, :1])
    centres = torch.stack([toy.unseen_embeddings[toy.unseen_classes == c].mean(0) for c in range(3)])
    nearest = torch.cdist(made.flatten(0, 2), centres).argmin(1).view(2, 3, 30)
    right = (nearest == torch.arange(3).view(1, 3, 1)).double().mean(dim=(1, 2))
    assert right.min() > 0.75, right  # chance is 1/3


@pytest.mark.parametrize(
    ("output", "shift", "may_be_lower"),
    [("auto", 0.0, False), ("auto", -1.0, True), ("relu", -1.0, False), ("linear", 0.0, True)],
)
def test_output_fits_the_embeddings(output: str, shift: float, may_be_lower: bool) -> None:
    # Embeddings are ReLU outputs of one encoder and unbounded ones of another.
    toy = world(seen=4, clips=5)
    seen = SeenData(toy.seen.embeddings + shift, toy.seen.classes, toy.seen.vectors)
    model = LisGAN(LisGANOptions(hidden=8, critic_hidden=8, epochs=1, output=output), [0])  # type: ignore[arg-type]
    model.fit(seen)
    made = model.sample(toy.vectors, 50)
    lowest = seen.embeddings.min(0).values
    assert bool((made < lowest - 1e-5).any()) == may_be_lower


def test_published_settings() -> None:
    o = LisGANOptions()
    # The authors' code and its command for CUB.
    assert (o.hidden, o.critic_hidden, o.critic_steps, o.penalty, o.souls, o.epochs) == (
        4096,
        4096,
        5,
        10,
        3,
        70,
    )
    toy = world(seen=4, clips=5)
    model = LisGAN(LisGANOptions(hidden=8, critic_hidden=8, epochs=1), [0])
    model.fit(toy.seen)
    assert model.noise == 3  # as long as the class vector
    network = lisgan._Conditional(SeedStreams([0], "x"), 100, 20, 300, 50)
    assert [tuple(layer.weight.shape) for layer in (network.of_x, network.of_class)] == [
        (1, 100, 300),
        (1, 20, 300),
    ]
    for weights in (network.of_x.weight, network.of_class.weight):
        assert weights.std().item() == pytest.approx(0.02, rel=0.03)
    with pytest.raises(ConfigError, match="souls"):
        parse_options(LisGANOptions, {"souls": 0}, "o")
    assert np.isfinite(model.history.last("loss_critic"))
