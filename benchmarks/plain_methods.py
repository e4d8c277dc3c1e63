"""The study's trained methods in plain PyTorch, one seed at a time, as published code is written.

``nn.Module``, ``DataLoader`` over a shuffled ``TensorDataset``, autograd, ``torch.optim.Adam`` with its defaults. What
the batched models are measured against: the same networks, losses, steps and random numbers as many, and no trick of
theirs. A function trains for ``epochs`` and gives its network back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from foley.generators.embedding import cada_vae, zerodiffusion
from foley.generators.embedding.lisgan import PRETRAINED, SLOPE, nearest_soul, soul_samples


def shuffled(batch_size: int, *tensors: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size, shuffle=True)


# Classifiers: options, real embeddings and classes, class vectors, synthetic ones or None, epochs


def ale(o: Any, real: tuple[Tensor, Tensor], vectors: Tensor, made: Any, epochs: int) -> nn.Module:
    dim, condition = real[0].shape[1], vectors.shape[1]
    net = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.Tanh(), nn.Linear(dim, condition, bias=False))
    for layer in (net[0], net[2]):
        nn.init.xavier_normal_(layer.weight, 0.1)
    optimiser = torch.optim.Adam(net.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay)
    loaders = [shuffled(o.batch_size, *part) for part in (made, real) if part is not None]
    for _ in range(epochs):
        for loader in loaders:
            for x, wanted in loader:
                loss = functional.cross_entropy(net(x) @ vectors.T, wanted)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return net


def softmax(o: Any, real: tuple[Tensor, Tensor], vectors: Tensor, made: Any, epochs: int) -> nn.Module:
    net = nn.Linear(real[0].shape[1], len(vectors))
    optimiser = torch.optim.Adam(net.parameters(), lr=o.learning_rate, betas=(o.beta1, 0.999))
    both = [torch.cat(pair) for pair in zip(real, made, strict=True)] if made is not None else real
    loader = shuffled(o.batch_size, *both)
    for _ in range(epochs):
        for x, wanted in loader:
            loss = functional.cross_entropy(net(x), wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net


# Generators: options, real embeddings, classes, class vectors of seen classes, epochs


class Denoiser(nn.Module):
    def __init__(self, o: Any, dim: int, condition: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim + condition, o.hidden), nn.Linear(o.hidden, dim)
        self.norm = nn.Identity() if o.form == "interpolation" else nn.BatchNorm1d(o.hidden)
        self.drop = nn.Dropout(o.dropout)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = functional.leaky_relu(self.norm(self.inner(torch.cat([x, condition], dim=1))))
        return torch.tanh(self.outer(self.drop(h)))


def train_zerodiffusion(o: Any, x: Tensor, classes: Tensor, vectors: Tensor, epochs: int) -> nn.Module:
    net = Denoiser(o, x.shape[1], vectors.shape[1])
    optimiser = torch.optim.Adam(net.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay)
    loader = shuffled(o.batch_size, x, classes)
    for epoch in range(epochs):
        progress = epoch / epochs
        for real, of_class in loader:
            wanted, noise = vectors[of_class], torch.randn_like(real)
            if o.form == "regularised":
                wanted = wanted + zerodiffusion.CLASS_JITTER * torch.randn_like(wanted)
            if o.form == "interpolation":
                noisy = zerodiffusion.interpolate_noise(real, noise, progress)
            else:
                noisy = real + zerodiffusion.NOISE_SCALE * progress * noise
            loss = zerodiffusion.reconstruction_loss(net(noisy, wanted)[None], real[None], o.form)[0]
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), o.max_grad_norm)
            optimiser.step()
    return net


class NoisePredictor(nn.Module):
    def __init__(self, o: Any, dim: int, condition: int) -> None:
        super().__init__()
        wide, self.width = 2 * o.hidden, o.hidden
        self.time = nn.Sequential(nn.Linear(o.hidden, wide), nn.LeakyReLU(), nn.Linear(wide, wide))
        self.condition = nn.Sequential(
            nn.Linear(condition, o.hidden), nn.LeakyReLU(), nn.Linear(o.hidden, wide)
        )
        layers: list[nn.Module] = []
        for number in range(o.layers):
            layers += [nn.Linear(o.hidden if number else dim + 2 * wide, o.hidden), nn.LayerNorm(o.hidden)]
            layers += [nn.LeakyReLU(), nn.Dropout(o.dropout)]
        self.body = nn.Sequential(*layers, nn.Linear(o.hidden, dim))

    def forward(self, x: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        half = self.width // 2
        angles = steps[:, None] * torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        return self.body(torch.cat([x, time, self.condition(condition)], dim=1))


def _schedule(o: Any) -> tuple[Tensor, Tensor]:
    betas = torch.linspace(o.beta_start, o.beta_end, o.steps)
    return betas, (1 - betas).cumprod(0)


def train_ddpm(o: Any, x: Tensor, classes: Tensor, vectors: Tensor, epochs: int) -> nn.Module:
    net = NoisePredictor(o, x.shape[1], vectors.shape[1])
    optimiser = torch.optim.Adam(net.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay)
    loader = shuffled(o.batch_size, x, classes)
    _, bar = _schedule(o)
    for _ in range(epochs):
        for real, of_class in loader:
            steps, noise = torch.randint(o.steps, (len(real),)), torch.randn_like(real)
            noisy = bar[steps].sqrt()[:, None] * real + (1 - bar[steps]).sqrt()[:, None] * noise
            loss = functional.mse_loss(net(noisy, steps, vectors[of_class]), noise)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), o.max_grad_norm)
            optimiser.step()
    return net


@torch.no_grad()
def sample_ddpm(o: Any, net: nn.Module, vectors: Tensor, dim: int, count: int) -> Tensor:
    """Class after class [C, count, D]."""
    betas, bar = _schedule(o)
    made = []
    for vector in vectors:
        x = torch.randn(count, dim)
        for step in reversed(range(o.steps)):
            noise = net(x, torch.full((count,), step), vector.expand(count, -1))
            x = (x - betas[step] / (1 - bar[step]).sqrt() * noise) / (1 - betas[step]).sqrt()
            if step:
                x = x + (betas[step] * (1 - bar[step - 1]) / (1 - bar[step])).sqrt() * torch.randn_like(x)
            if o.clamp:
                x = x.clamp(-1, 1)
        made.append(x)
    return torch.stack(made)


class Autoencoder(nn.Module):
    def __init__(self, inputs: int, hidden: tuple[int, int], latent: int) -> None:
        super().__init__()
        encoder, decoder = hidden
        self.hidden = nn.Sequential(nn.Linear(inputs, encoder), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(encoder, latent), nn.Linear(encoder, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, decoder), nn.ReLU(), nn.Linear(decoder, inputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.hidden(x)
        return self.mean(h), self.log_variance(h)


def train_cada_vae(o: Any, x: Tensor, classes: Tensor, vectors: Tensor, epochs: int) -> nn.Module:
    audio = Autoencoder(x.shape[1], o.audio_hidden, o.latent)
    named = Autoencoder(vectors.shape[1], o.class_hidden, o.latent)
    pair = nn.ModuleList([audio, named])
    optimiser = torch.optim.Adam(pair.parameters(), lr=o.learning_rate, amsgrad=True)
    low, high = x.amin(0), x.amax(0)
    loader = shuffled(o.batch_size, (x - low) / (high - low).clamp_min(1e-12), classes)
    vectors = functional.normalize(vectors, dim=1)
    for epoch in range(epochs):
        kl = cada_vae.warm_up(epoch, o.kl_weight, o.kl_epochs)
        cross = cada_vae.warm_up(epoch, o.cross_weight, o.cross_epochs)
        distance = cada_vae.warm_up(epoch, o.distance_weight, o.distance_epochs)
        for real, of_class in loader:
            wanted = vectors[of_class]
            a, b = audio(real), named(wanted)
            z_a, z_b = (mean + (spread / 2).exp() * torch.randn_like(mean) for mean, spread in (a, b))
            loss = (audio.decoder(z_a) - real).abs().sum() + (named.decoder(z_b) - wanted).abs().sum()
            crossed = (audio.decoder(z_b) - real).abs().sum() + (named.decoder(z_a) - wanted).abs().sum()
            loss = loss + kl * sum(cada_vae.kl_divergence(*own).sum() for own in (a, b)) + cross * crossed
            loss = loss + distance * cada_vae.wasserstein_distance(a, b).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return pair


def _conditional(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, outputs))


def train_lisgan(o: Any, x: Tensor, classes: Tensor, vectors: Tensor, epochs: int) -> nn.Module:
    low, high = x.amin(0), x.amax(0)
    x, vectors = (x - low) / (high - low).clamp_min(1e-12), functional.normalize(vectors, dim=1)
    dim, condition = x.shape[1], vectors.shape[1]
    noise = o.noise or condition
    generator = nn.Sequential(*_conditional(noise + condition, o.hidden, dim), nn.ReLU())
    critic = _conditional(dim + condition, o.critic_hidden, 1)
    adams = [
        torch.optim.Adam(net.parameters(), lr=o.learning_rate, betas=(o.beta1, 0.999))
        for net in (critic, generator)
    ]
    souls = soul_samples(x, classes, len(vectors), o.souls)
    recogniser = softmax(PRETRAINED, (x, classes), vectors, None, PRETRAINED.epochs)
    recogniser.requires_grad_(False)
    loader = shuffled(o.batch_size, x, classes)

    def make(of_class: Tensor) -> Tensor:
        return generator(torch.cat([torch.randn(len(of_class), noise), vectors[of_class]], dim=1))

    def judge(embedding: Tensor, of_class: Tensor) -> Tensor:
        return critic(torch.cat([embedding, vectors[of_class]], dim=1))

    many = torch.arange(len(vectors)).repeat_interleave(o.mean_soul_samples)
    for number, (real, of_class) in enumerate(b for _ in range(epochs * o.critic_steps) for b in loader):
        critic.requires_grad_(True)
        fake = make(of_class).detach()
        mix = torch.rand(len(real), 1)
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(judge(between, of_class).sum(), between, create_graph=True)
        loss = judge(fake, of_class).mean() - judge(real, of_class).mean()
        loss = loss + o.penalty * (slope.norm(dim=1) - 1).square().mean()
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()
        if (number + 1) % o.critic_steps:
            continue
        critic.requires_grad_(False)
        fake = make(of_class)
        loss = -judge(fake, of_class).mean()
        loss = loss + o.classification_weight * functional.cross_entropy(recogniser(fake), of_class)
        loss = loss + o.soul_weight * nearest_soul(fake, souls[of_class]).mean()
        means = make(many).view(len(vectors), o.mean_soul_samples, dim).mean(dim=1)
        loss = loss + o.mean_soul_weight * nearest_soul(means, souls).mean()
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
    return generator


CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {"ale": ale, "softmax": softmax}
GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "zerodiffusion": train_zerodiffusion,
    "ddpm": train_ddpm,
    "cada_vae": train_cada_vae,
    "lisgan": train_lisgan,
}
