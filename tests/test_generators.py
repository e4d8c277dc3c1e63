"""Generators of embeddings: their formulas against independent ones, and that what they make resembles the class."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from foley.generators.embedding.ddpm import (
    DDPM,
    STREAM_ROWS,
    DDPMOptions,
    NoiseSchedule,
    time_embedding,
)
from foley.generators.embedding.protocol import SeenData
from foley.generators.embedding.zerodiffusion import (
    Form,
    ZeroDiffusion,
    ZeroDiffusionOptions,
    interpolate_noise,
    reconstruction_loss,
)
from foley.options import ConfigError, parse_options
from foley.runtime.seeds import SeedStreams

# ZeroDiffusion


@given(st.floats(0, 1), st.integers(0, 1000))
def test_noise_is_interpolated_at_the_norm_of_the_embedding(progress: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, noise = generator.normal(size=(2, 3, 4, 7))
    scaled = noise * np.linalg.norm(x, axis=-1, keepdims=True) / np.linalg.norm(noise, axis=-1, keepdims=True)
    mixed = interpolate_noise(torch.from_numpy(x), torch.from_numpy(noise), progress)
    np.testing.assert_allclose(mixed, (1 - progress) * x + progress * scaled, atol=1e-6)
    whole = interpolate_noise(torch.from_numpy(x), torch.from_numpy(noise), 1.0)
    np.testing.assert_allclose(whole.norm(dim=-1), np.linalg.norm(x, axis=-1), rtol=1e-6)
    still = interpolate_noise(torch.from_numpy(x), torch.from_numpy(noise), 0.0)
    np.testing.assert_array_equal(still, x)


def regularised_loss(generated: np.ndarray, real: np.ndarray) -> float:
    """MSE + MMD + 0.1 variance + 0.2 mean + 2 (1 - cos) of one seed's batch, in float64, element by element."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([[np.exp(-((u - v) ** 2).sum() / 2) for v in b] for u in a]))

    mse = ((generated - real) ** 2).mean()
    mmd = kernel(generated, generated) + kernel(real, real) - 2 * kernel(generated, real)
    variance = ((generated.var(axis=0, ddof=1) - real.var(axis=0, ddof=1)) ** 2).mean()
    mean = ((generated.mean(axis=0) - real.mean(axis=0)) ** 2).mean()
    cosines = [u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in zip(generated, real, strict=True)]
    return mse + mmd + 0.1 * variance + 0.2 * mean + 2 * (1 - float(np.mean(cosines)))


@pytest.mark.parametrize("batch", [4, 40])  # torch.cdist changes its method above 25 rows
def test_regularised_loss(batch: int) -> None:
    generated, real = np.random.default_rng(0).normal(size=(2, 3, batch, 6)) * 0.5
    tensor = torch.from_numpy(generated).float().requires_grad_()
    losses = reconstruction_loss(tensor, torch.from_numpy(real).float(), "regularised")
    wanted = [regularised_loss(g, r) for g, r in zip(generated, real, strict=True)]
    np.testing.assert_allclose(losses.detach(), wanted, rtol=1e-4)
    losses.sum().backward()
    assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("form", ["interpolation", "additive"])
def test_plain_loss_is_the_mean_squared_error(form: Form) -> None:
    generated, real = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
    losses = reconstruction_loss(torch.from_numpy(generated), torch.from_numpy(real), form)
    np.testing.assert_allclose(losses, ((generated - real) ** 2).mean(axis=(1, 2)))


def test_published_settings_unless_told_otherwise() -> None:
    # arXiv 2412.03771 and the authors' code.
    published = ZeroDiffusionOptions().resolved()
    assert (published.hidden, published.epochs, published.batch_size, published.dropout) == (64, 80, 128, 0.3)
    assert ZeroDiffusionOptions(form="additive").resolved().epochs == 2000
    assert ZeroDiffusionOptions(form="additive", epochs=5).resolved().epochs == 5
    assert ZeroDiffusionOptions(dropout=0.0).resolved().dropout == 0.0
    with pytest.raises(ConfigError, match="form"):
        parse_options(ZeroDiffusionOptions, {"form": "other"}, "o")
    with pytest.raises(ConfigError, match="hidden must be even"):
        parse_options(DDPMOptions, {"hidden": 7}, "o")


# DDPM


def test_schedule() -> None:
    beta = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - beta)
    schedule = NoiseSchedule(DDPMOptions())
    np.testing.assert_allclose(schedule.signal, np.sqrt(alpha_bar), rtol=1e-6)
    np.testing.assert_allclose(schedule.noise, np.sqrt(1 - alpha_bar), rtol=1e-6)
    # What is left of the signal after all steps of Ho et al.'s schedule.
    assert float(schedule.signal[-1]) ** 2 == pytest.approx(4.0358e-5, rel=1e-4)
    assert float(schedule.deviation[0]) == 0
    torch.testing.assert_close(schedule.signal**2 + schedule.noise**2, torch.ones(1000))


def test_time_embedding() -> None:
    steps = torch.tensor([[0, 1], [10, 999]])
    made = time_embedding(steps, 8)
    assert made.shape == (2, 2, 8)
    for at in ((0, 0), (0, 1), (1, 0), (1, 1)):
        angles = float(steps[at]) * 10_000.0 ** (-np.arange(4) / 3)
        np.testing.assert_allclose(made[at], [*np.sin(angles), *np.cos(angles)], atol=1e-4)


def toy(rows: int = 240, dim: int = 8) -> tuple[SeenData, Tensor]:
    """Two clusters with their class vectors, and the clusters' centres [2, dim]."""
    generator = torch.Generator().manual_seed(0)
    centres = 0.6 * torch.sign(torch.randn(2, dim, generator=generator))
    classes = torch.arange(rows) % 2
    embeddings = centres[classes] + 0.1 * torch.randn(rows, dim, generator=generator)
    return SeenData(embeddings, classes, torch.eye(2)), centres


def predict(network: nn.Module, x: torch.Tensor, steps: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """The noise predictor as it is published: one first layer on (embedding ‖ time ‖ condition)."""
    t = network.time_out(leaky_relu(network.time_in(time_embedding(steps, network.hidden))))
    c = network.condition_out(leaky_relu(network.condition_in(vector.expand(*x.shape[:2], -1))))
    h = torch.cat([x, t, c], dim=2)
    for layer, norm in zip([network.first, *network.deeper], network.norms, strict=True):
        h = leaky_relu(norm(layer(h)))
    return network.out(h)


@pytest.mark.parametrize("clamp", [False, True])
def test_sampling_follows_the_reverse_process(clamp: bool) -> None:
    # Ho et al. 2020, algorithm 2, with the posterior's variance, in float64 and step by step.
    options = DDPMOptions(hidden=8, steps=4, epochs=2, beta_start=0.05, beta_end=0.4, clamp=clamp)
    model = DDPM(options, [5, 6])
    data, _ = toy(rows=20)
    model.fit(data)
    assert model.model is not None
    model.model.eval()
    vector = torch.tensor([0.3, 0.7])
    beta = np.linspace(0.05, 0.4, 4)
    alpha, bar = 1 - beta, np.cumprod(1 - beta)
    streams = SeedStreams([5, 6], "ddpm", "sample", 0, 0)
    x = streams.normal(STREAM_ROWS, 8)[:, :3].double().numpy()
    for t in (3, 2, 1, 0):
        with torch.no_grad():
            at = torch.full((2, 3), t)
            noise = predict(model.model, torch.from_numpy(x).float(), at, vector).numpy()
        x = (x - beta[t] / np.sqrt(1 - bar[t]) * noise) / np.sqrt(alpha[t])
        if t:
            variance = beta[t] * (1 - bar[t - 1]) / (1 - bar[t])
            x = x + np.sqrt(variance) * streams.normal(STREAM_ROWS, 8)[:, :3].numpy()
        x = np.clip(x, -1, 1) if clamp else x
    np.testing.assert_allclose(model.sample(vector[None], 3)[:, 0], x, atol=1e-5)


# Both

GENERATORS = {
    "interpolation": (ZeroDiffusion, ZeroDiffusionOptions(hidden=32, batch_size=32)),
    "regularised": (ZeroDiffusion, ZeroDiffusionOptions(form="regularised", hidden=32)),
    "additive": (ZeroDiffusion, ZeroDiffusionOptions(form="additive", hidden=32, epochs=40)),
    "ddpm": (
        DDPM,
        DDPMOptions(hidden=32, steps=40, beta_end=0.2, epochs=60, batch_size=32, learning_rate=5e-3),
    ),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_samples_lie_near_their_class(name: str) -> None:
    kind, options = GENERATORS[name]
    data, centres = toy()
    model = kind(options, [0, 1])
    with pytest.raises(RuntimeError, match="fit"):
        model.sample(data.vectors, 1)
    model.fit(data)
    losses = [value for _, quantity, value in model.history.rows if quantity == "loss"]
    assert len(losses) == model.options.epochs
    assert all(math.isfinite(value) for value in losses)
    made = model.sample(data.vectors, 30)
    assert made.shape == (2, 2, 30, 8)
    assert made.abs().max() <= 1  # tanh, or the published clamp
    nearest = torch.cdist(made.flatten(0, 2), centres).argmin(1).view(2, 2, 30)
    right = (nearest == torch.arange(2).view(1, 2, 1)).float().mean(dim=(1, 2))
    # The older forms see nearly clean embeddings in training, and so lean less on the class vector.
    assert right.mean() > (0.6 if name in ("regularised", "additive") else 0.9), right
    # Drawing again gives the same; a class's numbers depend on its row and vector alone.
    assert torch.equal(model.sample(data.vectors, 30), made)
    torch.testing.assert_close(model.sample(data.vectors[:1], 30)[:, 0], made[:, 0], atol=1e-5, rtol=1e-4)
    assert not torch.equal(made[:, :, 0], made[:, :, 1])


@pytest.mark.parametrize("name", GENERATORS)
def test_the_first_of_many_samples_are_those_of_a_smaller_draw(name: str) -> None:
    """A method's figures must not move with the number of samples that a learning curve asks for."""
    kind, options = GENERATORS[name]
    data, _ = toy(dim=7)
    model = kind(dataclasses.replace(options, epochs=1), [0, 1])
    model.fit(data)
    many = model.sample(data.vectors, 23)
    for count in (1, 10, 12):
        torch.testing.assert_close(
            model.sample(data.vectors, count), many[:, :, :count], atol=1e-4, rtol=1e-4
        )
    assert not torch.allclose(many[:, :, 0], many[:, :, 10], atol=1e-2)


def test_generated_noise_has_the_norm_of_the_embeddings() -> None:
    data, _ = toy()
    model = ZeroDiffusion(ZeroDiffusionOptions(epochs=1), [0])
    model.fit(data)
    assert model.noise_norm == pytest.approx(np.linalg.norm(data.embeddings, axis=1).mean(), rel=1e-5)
