"""CADA-VAE: its losses against their formulas, its latent space, and that classes are found in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl

from foley.generators.embedding.cada_vae import (
    CADAVAE,
    CADAVAEOptions,
    kl_divergence,
    warm_up,
    wasserstein_distance,
)
from foley.generators.embedding.ddpm import DDPM, DDPMOptions
from foley.generators.embedding.protocol import LatentGenerator
from foley.options import ConfigError, parse_options
from foley.training.checkpoint import Checkpoint
from seen_unseen import (
    World,
    first_of_many_are_a_smaller_draw,
    resumed_equals_uninterrupted,
    seeds_alone_equal_seeds_together,
    world,
)

SMALL = CADAVAEOptions(
    latent=6, audio_hidden=(32, 28), class_hidden=(24, 20), epochs=50, batch_size=16, learning_rate=3e-3, seen_draws=25,
    kl_weight=0.05, kl_epochs=(0, 50), cross_epochs=(5, 20), distance_epochs=(3, 10),
)  # fmt: skip


def gaussians(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log variance [3, 4, 5] in float64."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64))  # type: ignore[return-value]


def test_divergence_is_that_of_the_distributions() -> None:
    mean, log_variance = gaussians()
    own = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    standard = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), torch_kl(own, standard))
    assert not kl_divergence(torch.zeros(2, 5), torch.zeros(2, 5)).any()


def test_wasserstein_distance_is_that_of_full_covariances() -> None:
    # Dowson & Landau 1982: |m1 - m2|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), by matrix roots.
    def root(matrix: np.ndarray) -> np.ndarray:
        values, basis = np.linalg.eigh(matrix)
        return basis @ np.diag(np.sqrt(values)) @ basis.T

    a, b = gaussians(1), gaussians(2)
    found = wasserstein_distance(a, b)
    for at in np.ndindex(3, 4):
        (m1, v1), (m2, v2) = ((mean[at].numpy(), np.diag(log_v[at].exp().numpy())) for mean, log_v in (a, b))
        squared = ((m1 - m2) ** 2).sum() + np.trace(v1 + v2 - 2 * root(root(v1) @ v2 @ root(v1)))
        assert found[at].item() == pytest.approx(np.sqrt(squared), rel=1e-9)
    # Equal distributions: no distance, and a gradient that is a number.
    mean, log_variance = (part.clone().requires_grad_() for part in a)
    wasserstein_distance((mean, log_variance), (mean.detach(), log_variance.detach())).sum().backward()
    assert torch.isfinite(mean.grad).all() and torch.isfinite(log_variance.grad).all()


def test_weights_grow_as_published() -> None:
    # arXiv 2412.03771: distribution distance to 5.13 over epochs 6 to 22, the other two likewise.
    o = CADAVAEOptions()
    assert [warm_up(e, o.distance_weight, o.distance_epochs) for e in (0, 6, 14, 22, 80)] == pytest.approx(
        [0, 0, 5.13 / 2, 5.13, 5.13]
    )
    assert warm_up(79, o.kl_weight, o.kl_epochs) == pytest.approx(0.25 * 79 / 93)
    assert warm_up(48, o.cross_weight, o.cross_epochs) == pytest.approx(2.37 / 2)
    with pytest.raises(ConfigError, match="warm-up"):
        parse_options(CADAVAEOptions, {"kl_epochs": [5, 5]}, "o")
    assert parse_options(CADAVAEOptions, {"kl_epochs": [1, 5]}, "o").kl_epochs == (1, 5)


@pytest.mark.parametrize("noise", ["per_dimension", "shared"])
def test_loss_of_an_epoch_is_the_published_sum(noise: str) -> None:
    # The first epoch's loss of a whole-data batch with all weights on, from the formula, in float64.
    toy = world()
    o = CADAVAEOptions(
        latent=3, audio_hidden=(5, 3), class_hidden=(4, 6), epochs=1, batch_size=999, noise=noise, learning_rate=1e-9,
        kl_weight=0.3, kl_epochs=(-1, 0), cross_weight=0.7, cross_epochs=(-1, 0), distance_weight=1.3,
        distance_epochs=(-1, 0),
    )  # fmt: skip
    model = CADAVAE(o, [4])
    model.fit(toy.seen)
    streams = model.streams("epoch", 0)
    (rows,) = streams.permutations(len(toy.seen.embeddings))
    draws = [streams.normal(len(rows), 1 if noise == "shared" else 3)[0].double() for _ in range(2)]
    x = toy.seen.embeddings.double()
    x = ((x - x.min(0).values) / (x.max(0).values - x.min(0).values))[rows]
    a = nn.functional.normalize(toy.seen.vectors.double(), dim=1)[toy.seen.classes[rows]]

    def run(layer: nn.Module, value: torch.Tensor) -> torch.Tensor:
        return value @ layer.weight[0].double() + layer.bias[0].double()

    pair = model.trained
    latent, gauss = [], []
    for encoder, value, draw in ((pair.audio, x, draws[0]), (pair.classes, a, draws[1])):
        h = run(encoder.hidden, value).relu()
        mean, log_variance = run(encoder.mean, h), run(encoder.log_variance, h)
        spread = log_variance.exp() if noise == "shared" else log_variance.exp().sqrt()
        latent.append(mean + spread * draw)
        gauss.append((mean, log_variance))
    total = torch.zeros((), dtype=torch.float64)
    for decoder, target, own, other in ((pair.audio, x, *latent), (pair.classes, a, *latent[::-1])):
        for z, weight in ((own, 1.0), (other, 0.7)):
            total += weight * (run(decoder.outer, run(decoder.inner, z).relu()) - target).abs().sum()
    for mean, log_variance in gauss:
        normal = MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double())
        own_normal = MultivariateNormal(mean, log_variance.exp().diag_embed())
        total += 0.3 * torch_kl(own_normal, normal).sum()
    (m1, l1), (m2, l2) = gauss
    squared = (m1 - m2).square().sum(1) + (l1.exp().sqrt() - l2.exp().sqrt()).square().sum(1)
    total += 1.3 * squared.sqrt().sum()
    assert model.history.last("loss") == pytest.approx(total.item(), rel=1e-5)


@pytest.fixture(scope="module")
def fitted() -> tuple[World, CADAVAE]:
    toy = world(seen=24, clips=6)
    model = CADAVAE(SMALL, [0, 1])
    with pytest.raises(RuntimeError, match="fit"):
        model.sample(toy.unseen_vectors, 1)
    model.fit(toy.seen)
    return toy, model


def test_it_has_a_space_of_its_own(fitted: tuple[World, CADAVAE]) -> None:
    toy, model = fitted
    assert isinstance(model, LatentGenerator)
    assert not isinstance(DDPM(DDPMOptions(), [0]), LatentGenerator)
    made = model.sample(toy.unseen_vectors, 9)
    assert made.shape == (2, len(toy.unseen_vectors), 9, 6)
    assert torch.equal(model.sample(toy.unseen_vectors, 9), made)
    torch.testing.assert_close(model.sample(toy.unseen_vectors[:1], 9), made[:, :1])
    assert not torch.equal(made[:, :, 0], made[:, :, 1])
    whole = model.project(toy.seen.embeddings)
    assert whole.shape == (2, len(toy.seen.embeddings), 6)
    # No randomness, and no clip depends on another.
    torch.testing.assert_close(model.project(toy.seen.embeddings[5:9]), whole[:, 5:9])


def test_seen_draws_are_balanced_and_around_their_clip(fitted: tuple[World, CADAVAE]) -> None:
    toy, model = fitted
    rows, drawn = model.draw_seen(toy.seen)
    assert drawn.shape == (2, len(rows), 6)
    assert torch.bincount(toy.seen.classes[rows]).tolist() == [25] * len(toy.seen.vectors)
    # Each clip of a class as often as the others, give or take one.
    for number in range(len(toy.seen.vectors)):
        own = (toy.seen.classes == number).nonzero().flatten()
        counts = torch.bincount(rows[toy.seen.classes[rows] == number], minlength=len(toy.seen.classes))[own]
        assert counts.max() - counts.min() <= 1
    means = model.project(toy.seen.embeddings)
    with torch.no_grad():
        x = model.scaling.apply(toy.seen.embeddings).expand(2, -1, -1)
        spread = (model.trained.audio.encode(x)[1] / 2).exp()
    off = (drawn - means[:, rows]) / spread[:, rows]
    assert off.std().item() == pytest.approx(1, abs=0.05)
    assert off.mean().item() == pytest.approx(0, abs=0.05)


def test_seeds_of_a_batch_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = world()
    options = CADAVAEOptions(
        latent=4, audio_hidden=(8, 7), class_hidden=(6, 5), epochs=5, batch_size=16, learning_rate=1e-3,
        kl_epochs=(0, 4), cross_epochs=(1, 3), distance_epochs=(0, 2),
    )  # fmt: skip
    seeds_alone_equal_seeds_together(CADAVAE, options, toy)
    resumed_equals_uninterrupted(CADAVAE, options, toy, Checkpoint(tmp_path, "x"), monkeypatch)
    for noise in ("per_dimension", "shared"):
        first_of_many_are_a_smaller_draw(CADAVAE, dataclasses.replace(options, noise=noise), toy)  # type: ignore[arg-type]


def test_unseen_classes_are_found_in_the_latent_space(fitted: tuple[World, CADAVAE]) -> None:
    toy, model = fitted
    centres = model.sample(toy.unseen_vectors, 60).mean(dim=2)
    nearest = torch.cdist(model.project(toy.unseen_embeddings), centres).argmin(dim=2)
    right = (nearest == toy.unseen_classes).double().mean(dim=1)
    assert right.min() > 0.75, right  # chance is 1/3
