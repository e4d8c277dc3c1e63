"""Training: interrupted runs go on to the same result, and seeds trained together are those trained alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from foley.classifiers.ale import ALE, ALEOptions, _Compatibility
from foley.classifiers.protocol import ZeroShotData
from foley.generators.embedding import ddpm
from foley.generators.embedding.cada_vae import CADAVAE, CADAVAEOptions
from foley.generators.embedding.ddpm import DDPM, DDPMOptions
from foley.generators.embedding.lisgan import LisGAN, LisGANOptions
from foley.generators.embedding.protocol import SeenData
from foley.generators.embedding.zerodiffusion import ZeroDiffusion, ZeroDiffusionOptions
from foley.runtime.seeds import SeedStreams, derive
from foley.training import batched, loop
from foley.training.batched import (
    BatchedBatchNorm,
    BatchedLayerNorm,
    BatchedLinear,
    clip_gradients_per_seed,
    dropout,
    seed_groups,
    shuffled_batches,
    xavier_normal_,
)
from foley.training.checkpoint import Checkpoint
from foley.training.loop import EarlyStopping, History, NonFiniteLoss, autocast_dtype, fit

# The loop

X = torch.from_numpy(np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32))
Y = (X[:, :1] * X[:, 1:2]).tanh()
EPOCHS = 8


class Interrupted(Exception):
    """Stands for the end of a machine."""


@dataclass
class Run:
    """One training of a small network with dropout, batch norm and a schedule."""

    checkpoint: Checkpoint | None = None
    stop_at: int | None = None
    best_is_early: bool = False

    def __call__(self) -> tuple[dict[str, Tensor], History]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=4 * EPOCHS)

        def batches(epoch: int) -> Iterator[Tensor]:
            order = torch.randperm(24, generator=torch.Generator().manual_seed(derive(1, epoch)))
            for number, rows in enumerate(order.split(6)):
                if epoch == self.stop_at and number == 2:
                    raise Interrupted
                yield rows

        history = fit(
            model, optimiser, batches=batches, loss=lambda rows: (model(X[rows]) - Y[rows]).square().mean(),
            epochs=EPOCHS, seed=3, validate=lambda: {"error": (model(X) - Y).abs().mean().item()},
            early_stopping=EarlyStopping("error", 100, higher_is_better=self.best_is_early), scheduler=scheduler,
            checkpoint=self.checkpoint, checkpoint_every_s=0,
        )  # fmt: skip
        return {name: value.clone() for name, value in model.state_dict().items()}, history


def assert_same(a: tuple[dict[str, Tensor], History], b: tuple[dict[str, Tensor], History]) -> None:
    assert a[1] == b[1]
    for name, value in a[0].items():
        assert torch.equal(value, b[0][name]), name


@pytest.mark.parametrize("stop_at", [0, 1, 4, EPOCHS - 1])
@pytest.mark.parametrize("best_is_early", [False, True])
def test_an_interrupted_training_goes_on_to_the_same_result(
    tmp_path: Path, stop_at: int, best_is_early: bool
) -> None:
    whole = Run(best_is_early=best_is_early)()
    assert (whole[1].best_epoch <= 4) == best_is_early
    checkpoint = Checkpoint(tmp_path, {"lr": 0.05}, X.numpy())
    with pytest.raises(Interrupted):
        Run(checkpoint, stop_at, best_is_early)()
    assert checkpoint.path.exists() == (stop_at > 0)
    assert_same(Run(checkpoint, None, best_is_early)(), whole)
    # Finished, but killed before its outputs were written: nothing is trained again.
    assert_same(Run(checkpoint, 0, best_is_early)(), whole)
    checkpoint.discard()
    checkpoint.discard()
    assert not checkpoint.path.exists()


def test_a_damaged_checkpoint_starts_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    with pytest.raises(Interrupted):
        Run(checkpoint, 4)()
    whole = checkpoint.path.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        checkpoint.path.write_bytes(damaged)
        assert_same(Run(checkpoint)(), Run()())
    assert "starting anew" in caplog.text


def test_a_long_training_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[str]:
        return [record.message for record in caplog.records if " of at most " in record.message]

    caplog.set_level("INFO")
    _, history = Run()()
    assert not lines()  # it took less than a minute
    monkeypatch.setattr(loop, "SAY_EVERY_S", 0.0)
    Run()()
    losses = [value for _, quantity, value in history.rows if quantity == "loss"]
    assert lines() == [
        f"training: epoch {number} of at most {EPOCHS}, loss {loss:.4g}"
        for number, loss in enumerate(losses, start=1)
    ]


def test_a_checkpoint_belongs_to_one_configuration_and_data(tmp_path: Path) -> None:
    data = np.arange(6.0)
    paths = [
        Checkpoint(tmp_path, facts, *arrays).path
        for facts, arrays in [
            ({"lr": 1}, [data]), ({"lr": 2}, [data]), ({"lr": 1}, [data + 1]), ({"lr": 1}, [data.astype("f4")]),
            ({"lr": 1}, [data.reshape(2, 3)]), ({"lr": 1}, []),
        ]
    ]  # fmt: skip
    assert len(set(paths)) == len(paths)
    assert Checkpoint(tmp_path, {"lr": 1}, data.copy()).path == paths[0]
    assert Checkpoint(tmp_path, {"lr": 1}, data).load() is None


def train_weight(values: list[float], **options: Any) -> tuple[float, History]:
    """A single weight that grows by one an epoch, and a validation that gives ``values``."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    measured = iter(values)
    history = fit(
        model, torch.optim.SGD(model.parameters(), lr=1), batches=lambda epoch: [None],
        loss=lambda _: -model.weight.sum(), epochs=len(values), seed=0,
        validate=lambda: {"quantity": next(measured)}, **options,
    )  # fmt: skip
    return model.weight.item(), history


def test_early_stopping_keeps_the_best_epoch() -> None:
    lower = EarlyStopping("quantity", patience=3)
    weight, history = train_weight([5, 3, 4, 2, 6, 6, 6, 1], early_stopping=lower)
    assert (weight, history.best_epoch) == (4.0, 4)
    assert history.rows[-1][0] == 7  # three epochs without a better one
    assert history.last("quantity") == 6
    higher = EarlyStopping("quantity", patience=100, higher_is_better=True)
    assert train_weight([0.1, 0.9, 0.9, 0.5], early_stopping=higher)[0] == 2.0
    weight, history = train_weight([5, 3, 4])
    assert (weight, history.best_epoch) == (3.0, 3)
    assert history.as_rows()[:2] == [
        {"epoch": 1, "quantity": "loss", "value": 0.0},
        {"epoch": 1, "quantity": "quantity", "value": 5},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error(value: float) -> None:
    model = nn.Linear(1, 1)
    losses = iter([1.0, 1.0, 1.0, value])
    with pytest.raises(
        NonFiniteLoss, match=r"toy: the loss is (nan|-?inf) in epoch 2, batch 1; lower the learning"
    ):
        fit(
            model, torch.optim.SGD(model.parameters(), lr=0.1), batches=lambda epoch: range(2),
            loss=lambda _: model.weight.sum() * next(losses), epochs=3, seed=0, name="toy",
        )  # fmt: skip


def test_parts_of_a_model_take_turns() -> None:
    # A game of two: one wants the product large, the other small; each moves by its own gradient alone.
    model = nn.ParameterDict({"max": torch.tensor(2.0), "min": torch.tensor(5.0)})
    optimisers = {name: torch.optim.SGD([part], lr=0.1) for name, part in model.items()}

    def loss(name: str) -> Tensor:
        return model["max"] * model["min"] * (-1 if name == "max" else 1)

    turns = ["max", "max", "min"]
    history = fit(
        model, optimisers, turn=lambda name: name, batches=lambda epoch: turns, loss=loss, epochs=1, seed=0
    )
    # 2 + 0.1 * 5 twice, then 5 - 0.1 * 3.
    assert (model["max"].item(), model["min"].item()) == pytest.approx((3.0, 4.7))
    assert history.last("loss_max") == pytest.approx(-(10 + 12.5) / 2)
    assert history.last("loss_min") == pytest.approx(15.0)
    with pytest.raises(TypeError, match="several optimisers need `turn`"):
        fit(model, optimisers, batches=lambda epoch: turns, loss=loss, epochs=1, seed=0)


def test_precision() -> None:
    assert autocast_dtype("float32", torch.device("cuda")) is None
    assert autocast_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert autocast_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16


# Layers of many seeds


def test_batched_linear_is_linear() -> None:
    layer = BatchedLinear(SeedStreams([4, 5], "x"), 3, 2)
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    for seed in range(2):
        one = nn.Linear(3, 2)
        with torch.no_grad():
            one.weight.copy_(layer.weight[seed].T)
            one.bias.copy_(layer.bias[seed, 0])
        torch.testing.assert_close(layer(x)[seed], one(x[seed]))
    # nn.Linear's initial numbers: uniform within 1 / sqrt(inputs).
    wide = BatchedLinear(SeedStreams([0], "x"), 400, 200)
    assert wide.weight.abs().max().item() == pytest.approx(0.05, rel=1e-3)
    assert wide.weight.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.01)
    assert BatchedLinear(SeedStreams([0], "x"), 3, 2, bias=False).bias is None


def test_batched_layer_norm_is_layer_norm() -> None:
    layer = BatchedLayerNorm(2, 5)
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.scale[1], layer.shift[1] = 2.0, 0.5
    plain = nn.LayerNorm(5)
    torch.testing.assert_close(layer(x)[0], plain(x[0]))
    torch.testing.assert_close(layer(x)[1], 2 * plain(x[1]) + 0.5)


def test_batched_batch_norm_is_batch_norm() -> None:
    layer, plain = BatchedBatchNorm(2, 5), [nn.BatchNorm1d(5) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.scale[1], layer.shift[1] = 2.0, 0.5
        plain[1].weight.fill_(2.0)
        plain[1].bias.fill_(0.5)
    for part in (layer, *plain):
        part.train()
    for _ in range(3):
        x = torch.randn(2, 7, 5, generator=generator)
        together = layer(x)
        for seed in range(2):
            torch.testing.assert_close(together[seed], plain[seed](x[seed]))
    for part in (layer, *plain):
        part.eval()
    for seed in range(2):
        torch.testing.assert_close(layer(x)[seed], plain[seed](x[seed]))


def test_xavier_spread() -> None:
    streams = SeedStreams([0, 1], "x")
    layer = xavier_normal_(BatchedLinear(streams, 300, 200), streams, gain=0.1)
    # Glorot & Bengio 2010, equation 12.
    assert layer.weight.std().item() == pytest.approx(0.1 * math.sqrt(2 / 500), rel=0.01)
    assert not layer.bias.any()


def test_dropout_keeps_the_mean() -> None:
    keep = torch.rand(2, 500, 40, generator=torch.Generator().manual_seed(0))
    dropped = dropout(torch.ones(2, 500, 40), keep, 0.3)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(dropped == 0, keep < 0.3)


@given(st.integers(1, 4), st.floats(0.01, 100), st.floats(0.01, 100), st.integers(0, 100))
def test_gradients_are_clipped_as_for_one_model(seeds: int, max_norm: float, size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(seeds, 3, 4), (seeds, 1, 4), (seeds, 5)]
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)
    alone = []
    for number in range(seeds):
        own = [nn.Parameter(torch.zeros(shape[1:])) for shape in shapes]
        for one, many in zip(own, parameters, strict=True):
            one.grad = many.grad[number].clone()
        nn.utils.clip_grad_norm_(own, max_norm)
        alone.append(own)
    clip_gradients_per_seed(max_norm)([*parameters, nn.Parameter(torch.zeros(seeds, 2))])
    for number, own in enumerate(alone):
        for one, many in zip(own, parameters, strict=True):
            torch.testing.assert_close(many.grad[number], one.grad)


@given(st.integers(1, 20), st.integers(1, 8))
def test_an_epoch_shows_every_row_once_to_each_seed(rows: int, batch_size: int) -> None:
    batches = shuffled_batches(SeedStreams([0, 1], "x"), rows, batch_size)
    assert all(batch.shape[1] <= batch_size for batch in batches)
    for order in torch.cat(batches, dim=1):
        assert sorted(order.tolist()) == list(range(rows))


# Models of many seeds

SEEDS = [0, 1, 2]
DIM, CONDITION, CLASSES = 6, 4, 3


@pytest.fixture(scope="module")
def seen() -> SeenData:
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(17) % CLASSES
    vectors = torch.randn(CLASSES, CONDITION, generator=generator)
    embeddings = (vectors[classes] @ torch.randn(CONDITION, DIM, generator=generator)).tanh() * 0.8
    return SeenData(embeddings + 0.05 * torch.randn(17, DIM, generator=generator), classes, vectors)


GENERATORS = {
    form: (ZeroDiffusion, ZeroDiffusionOptions(form=form, hidden=8, epochs=6, batch_size=8, dropout=0.3))
    for form in ("interpolation", "regularised", "additive")
} | {
    "ddpm": (DDPM, DDPMOptions(hidden=8, layers=2, steps=20, epochs=6, batch_size=8, learning_rate=1e-3, dropout=0.2))
}  # fmt: skip


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_of_many_seeds_is_that_of_each(name: str, seen: SeenData) -> None:
    kind, options = GENERATORS[name]
    unseen = torch.randn(2, CONDITION, generator=torch.Generator().manual_seed(1))

    def train(seeds: list[int]) -> Tensor:
        model = kind(options, seeds)
        model.fit(seen)
        assert len(model.history.rows) == options.epochs
        return model.sample(unseen, 5)

    together = train(SEEDS)
    assert together.shape == (3, 2, 5, DIM)
    assert not torch.allclose(together[0], together[1])
    for number, seed in enumerate(SEEDS):
        torch.testing.assert_close(together[number], train([seed])[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("with_synthetic", [False, True])
def test_ale_of_many_seeds_is_that_of_each(with_synthetic: bool, seen: SeenData) -> None:
    generator = torch.Generator().manual_seed(2)
    vectors = torch.cat([seen.vectors, torch.randn(2, CONDITION, generator=generator)])
    synthetic = torch.randn(3, 2, 5, DIM, generator=generator)
    options = ALEOptions(learning_rate=1e-3, batch_size=4, epochs=5)

    def train(rows: list[int]) -> Tensor:
        model = ALE(options, [SEEDS[row] for row in rows])
        made = synthetic[rows] if with_synthetic else None
        model.fit(ZeroShotData(seen.embeddings, seen.classes, vectors, CLASSES, made))
        return model.score(seen.embeddings, torch.arange(CLASSES + 2))

    together = train([0, 1, 2])
    assert together.shape == (3, 17, 5)
    assert not torch.allclose(together[0], together[1])
    for row in range(3):
        torch.testing.assert_close(together[row], train([row])[0], atol=1e-6, rtol=1e-4)


def test_without_synthetic_embeddings_only_seen_classes_compete(seen: SeenData) -> None:
    def train(unseen: Tensor) -> Tensor:
        model = ALE(ALEOptions(learning_rate=1e-2, epochs=3), [0])
        vectors = torch.cat([seen.vectors, unseen])
        model.fit(ZeroShotData(seen.embeddings, seen.classes, vectors, CLASSES, None))
        return model.score(seen.embeddings, torch.arange(CLASSES))

    assert torch.equal(train(torch.zeros(2, CONDITION)), train(torch.ones(2, CONDITION)))


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_goes_on_where_it_was_interrupted(
    name: str, seen: SeenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, options = GENERATORS[name]
    # Every epoch leaves a checkpoint.
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**6, 60)).__next__)
    model, again = kind(options, [0]), kind(options, [0])
    model.fit(seen, checkpoint=Checkpoint(tmp_path, "x"))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    again.fit(seen, checkpoint=Checkpoint(tmp_path, "x"))
    assert torch.equal(again.sample(seen.vectors, 2), model.sample(seen.vectors, 2))


# Groups of seeds

CADA_VAE = CADAVAEOptions(
    latent=3, audio_hidden=(5, 3), class_hidden=(4, 6), epochs=5, batch_size=8, learning_rate=1e-3, kl_epochs=(0, 3),
    cross_epochs=(1, 3), distance_epochs=(0, 2), seen_draws=4,
)  # fmt: skip
LIS_GAN = LisGANOptions(
    hidden=5, critic_hidden=4, noise=2, epochs=5, batch_size=8, critic_steps=2, learning_rate=1e-3,
    mean_soul_samples=2,
)  # fmt: skip
IN_GROUPS = {"ddpm": GENERATORS["ddpm"], "cada_vae": (CADAVAE, CADA_VAE), "lisgan": (LisGAN, LIS_GAN)}


@given(st.integers(1, 40), st.integers(1, 10**6), st.integers(1, 10**6))
def test_groups_take_each_seed_once_and_keep_to_the_limit(seeds: int, own: int, limit: int) -> None:
    parts = seed_groups(seeds, own, limit)
    assert [seed for part in parts for seed in range(seeds)[part]] == list(range(seeds))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == 1 or max(sizes) * own <= limit
    # One group fewer would not do.
    assert len(parts) == 1 or -(-seeds // (len(parts) - 1)) * own > limit


def one_seed_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "CACHE_BYTES", 1)
    monkeypatch.setattr(batched, "HEAP_BYTES", 1)


def drawn(
    kind: Any, options: Any, seen: SeenData, checkpoint: Checkpoint | None = None
) -> tuple[Tensor, History]:
    model = kind(options, SEEDS)
    model.fit(seen, checkpoint=checkpoint)
    return model.sample(seen.vectors.flip(1), 4), model.history


@pytest.mark.parametrize("name", IN_GROUPS)
def test_seeds_in_groups_are_those_of_one_batch(
    name: str, seen: SeenData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kind, options = IN_GROUPS[name]
    samples, history = drawn(kind, options, seen)
    one_seed_a_group(monkeypatch)
    monkeypatch.setattr(ddpm, "SAMPLING_BYTES", 1)
    caplog.set_level("INFO")
    in_groups, of_groups = drawn(kind, options, seen)
    # The DDPM samples in groups and trains as one.
    if kind is not DDPM:
        assert f"{kind.name} (seeds 2 to 2 of {len(SEEDS)}): {options.epochs} epochs in" in caplog.text
    torch.testing.assert_close(in_groups, samples, atol=1e-5, rtol=1e-4)
    # The loss is a sum over seeds, whatever their groups.
    assert [row[:2] for row in of_groups.rows] == [row[:2] for row in history.rows]
    assert [row[2] for row in of_groups.rows] == pytest.approx(
        [row[2] for row in history.rows], rel=1e-4, abs=1e-6
    )
    assert of_groups.best_epoch == history.best_epoch == options.epochs


@pytest.mark.parametrize("stop_in", [(0, 2), (1, 0), (1, 3), (2, 4)])
def test_a_training_in_groups_goes_on_where_it_was_interrupted(
    stop_in: tuple[int, int], seen: SeenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_seed_a_group(monkeypatch)
    whole = drawn(CADAVAE, CADA_VAE, seen)
    # Every epoch, and every group, leaves a checkpoint.
    monkeypatch.setattr("time.monotonic", itertools.count(0, 60).__next__)
    streams, trained = CADAVAE.streams, []

    def watched(self: CADAVAE, *names: object) -> SeedStreams:
        if names[0] == "epoch":
            at = (SEEDS.index(*self.seeds), names[1])
            if at == stop_in and at not in trained:
                trained.append(at)
                raise Interrupted
            trained.append(at)
        return streams(self, *names)

    monkeypatch.setattr(CADAVAE, "streams", watched)
    with pytest.raises(Interrupted):
        drawn(CADAVAE, CADA_VAE, seen, Checkpoint(tmp_path, "x"))
    again = drawn(CADAVAE, CADA_VAE, seen, Checkpoint(tmp_path, "x"))
    assert torch.equal(again[0], whole[0])
    assert again[1] == whole[1]
    # Nothing was trained twice but the epoch that was cut short.
    every = [(group, epoch) for group in range(3) for epoch in range(5)]
    assert sorted(trained) == sorted([*every, stop_in])


def test_a_checkpoint_of_other_groups_starts_anew(
    seen: SeenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("time.monotonic", itertools.count(0, 60).__next__)
    drawn(CADAVAE, CADA_VAE, seen, Checkpoint(tmp_path, "x"))
    one_seed_a_group(monkeypatch)
    found = drawn(CADAVAE, CADA_VAE, seen, Checkpoint(tmp_path, "x"))
    assert "of other groups of seeds: starting anew" in caplog.text
    assert torch.equal(found[0], drawn(CADAVAE, CADA_VAE, seen)[0])


@pytest.mark.parametrize("with_synthetic", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_ale_is_autograd_and_adam(
    with_synthetic: bool, batch_size: int, seen: SeenData, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The network as it is published, one seed at a time, by torch.nn and torch.optim alone; in groups here.
    monkeypatch.setattr(batched, "CACHE_BYTES", 16 * 2 * DIM * (DIM + CONDITION))
    generator = torch.Generator().manual_seed(2)
    vectors = torch.cat([seen.vectors, torch.randn(2, CONDITION, generator=generator)])
    synthetic = torch.randn(3, 2, 5, DIM, generator=generator) if with_synthetic else None
    o = ALEOptions(learning_rate=1e-3, weight_decay=1e-2, batch_size=batch_size, epochs=15)
    model = ALE(o, SEEDS)
    model.fit(ZeroShotData(seen.embeddings, seen.classes, vectors, CLASSES, synthetic))
    competing = vectors if with_synthetic else vectors[:CLASSES]
    steps, losses = 0, torch.zeros(15, dtype=torch.float64)
    for number, seed in enumerate(SEEDS):
        streams = SeedStreams([seed], "ale", "initialise")
        begun = _Compatibility(streams, DIM, CONDITION)
        plain = nn.Sequential(
            nn.Linear(DIM, DIM, bias=False), nn.Tanh(), nn.Linear(DIM, CONDITION, bias=False)
        )
        plain[0].weight.data = begun.inner.weight.data[0].T.clone()
        plain[2].weight.data = begun.outer.weight.data[0].T.clone()
        plain.double()
        adam = torch.optim.Adam(plain.parameters(), lr=1e-3, weight_decay=1e-2)
        shown = [(seen.embeddings, seen.classes)]
        if synthetic is not None:
            shown.insert(
                0, (synthetic[number].flatten(0, 1), torch.tensor([CLASSES] * 5 + [CLASSES + 1] * 5))
            )
        for epoch in range(o.epochs):
            order, count = SeedStreams([seed], "ale", "epoch", epoch), 0
            total = torch.zeros((), dtype=torch.float64)
            for x, classes in shown:
                for rows in order.permutations(len(x))[0].split(batch_size):
                    loss = nn.functional.cross_entropy(
                        plain(x[rows].double()) @ competing.double().T, classes[rows]
                    )
                    adam.zero_grad()
                    loss.backward()
                    adam.step()
                    total += loss.detach()
                    count += 1
            losses[epoch] += total / count
            steps += count
        for layer, own in ((plain[0], model.trained.inner), (plain[2], model.trained.outer)):
            torch.testing.assert_close(own.weight[number], layer.weight.T.float(), atol=1e-5, rtol=1e-4)
    assert steps >= 3 * 15 * 5
    assert [value for *_, value in model.history.rows] == pytest.approx(losses.tolist(), rel=1e-4)
