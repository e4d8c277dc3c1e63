"""Softmax and ridge classifiers, what they share with ALE, and every method where classes or clips are few."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as PlainRidge
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor

from foley.classifiers.ale import ALE, ALEOptions
from foley.classifiers.protocol import ZeroShotData
from foley.classifiers.prototype import Prototype
from foley.classifiers.ridge import FALLBACK_PENALTY, Ridge, RidgeOptions, solve
from foley.classifiers.softmax import SoftmaxClassifier, SoftmaxOptions, confident
from foley.generators.embedding import lisgan
from foley.generators.embedding.cada_vae import CADAVAE, CADAVAEOptions
from foley.generators.embedding.ddpm import DDPM, DDPMOptions
from foley.generators.embedding.lisgan import LisGAN, LisGANOptions
from foley.generators.embedding.protocol import LatentGenerator, SeenData
from foley.generators.embedding.zerodiffusion import ZeroDiffusion, ZeroDiffusionOptions
from foley.options import ConfigError, parse_options
from foley.training.batched import Examples
from foley.training.checkpoint import Checkpoint
from foley.training.scaling import Scaling
from seen_unseen import World, world

SEEDS = [3, 4]


def with_synthetic(toy: World, spread: float = 0.3, count: int = 12) -> ZeroShotData:
    """Synthetic embeddings of unseen classes around their true mean, other for each seed."""
    generator = torch.Generator().manual_seed(1)
    unseen = len(toy.unseen_vectors)
    centres = torch.stack([toy.unseen_embeddings[toy.unseen_classes == c].mean(0) for c in range(unseen)])
    made = centres[None, :, None] + spread * torch.randn(2, unseen, count, 10, generator=generator)
    return ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, len(toy.seen.vectors), made)


def of_seeds(data: ZeroShotData, numbers: list[int]) -> ZeroShotData:
    """The same for some of the seeds."""
    embeddings = data.embeddings[numbers] if data.embeddings.dim() == 3 else data.embeddings
    synthetic = data.synthetic[numbers] if data.synthetic is not None else None
    return ZeroShotData(embeddings, data.classes, data.vectors, data.seen, synthetic)


def per_seed(data: ZeroShotData) -> ZeroShotData:
    """The real embeddings as a generator with a space of its own hands them over: other for each seed."""
    moved = torch.stack([data.embeddings, 2 * data.embeddings + 1])
    made = data.synthetic * torch.tensor([1.0, 2.0]).view(2, 1, 1, 1) + torch.tensor([0.0, 1.0]).view(
        2, 1, 1, 1
    )
    return ZeroShotData(moved, data.classes, data.vectors, data.seen, made)


def accuracy(scores: Tensor, truth: Tensor) -> Tensor:
    return (scores.argmax(dim=2) == truth).double().mean(dim=1)


CLASSIFIERS = {
    "ale": (ALE, ALEOptions(learning_rate=3e-2, epochs=20)),
    "softmax": (SoftmaxClassifier, SoftmaxOptions(learning_rate=3e-2, epochs=15)),
    "softmax, scaled": (SoftmaxClassifier, SoftmaxOptions(learning_rate=3e-2, epochs=15, scaling="min_max")),
    "softmax, transductive": (
        SoftmaxClassifier,
        SoftmaxOptions(learning_rate=3e-2, epochs=15, cascade="transductive"),
    ),
    "ridge": (Ridge, RidgeOptions()),
}

# What all share


@pytest.mark.parametrize("own_space", [False, True])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_seeds_of_a_batch_are_those_alone(name: str, own_space: bool) -> None:
    kind, options = CLASSIFIERS[name]
    toy = world(seen=6, clips=8)
    data = with_synthetic(toy)
    data = per_seed(data) if own_space else data
    asked = (
        torch.stack([toy.unseen_embeddings, 2 * toy.unseen_embeddings + 1])
        if own_space
        else toy.unseen_embeddings
    )
    classes = torch.arange(9)

    def train(numbers: list[int]) -> Tensor:
        model = kind(options, [SEEDS[n] for n in numbers])
        model.fit(of_seeds(data, numbers))
        return model.score(asked[numbers] if own_space else asked, classes)

    together = train([0, 1])
    assert together.shape == (2, len(toy.unseen_embeddings), 9)
    assert not torch.allclose(together[0], together[1])
    for number in range(2):
        torch.testing.assert_close(together[number], train([number])[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_unseen_classes_are_recognised(name: str) -> None:
    kind, options = CLASSIFIERS[name]
    toy = world(seen=12, clips=8)
    model = kind(options, SEEDS)
    with pytest.raises(RuntimeError, match="fit"):
        model.score(toy.unseen_embeddings, torch.arange(3))
    model.fit(with_synthetic(toy))
    unseen = torch.arange(12, 15)
    scores = model.score(toy.unseen_embeddings, unseen)
    assert accuracy(scores, toy.unseen_classes).min() > 0.8  # chance is 1/3
    # Scores follow the order in which classes are asked for.
    order = torch.tensor([14, 12, 13])
    torch.testing.assert_close(
        model.score(toy.unseen_embeddings, order), scores[:, :, [2, 0, 1]], atol=1e-5, rtol=1e-4
    )
    # And over all classes at once.
    everywhere = model.score(toy.unseen_embeddings, torch.arange(15))
    assert accuracy(everywhere, toy.unseen_classes + 12).min() > 0.5  # chance is 1/15


@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), min_size=1, max_size=4),
    seeds=st.integers(1, 3),
)
@settings(max_examples=40)
def test_examples_number_their_rows_through_all_parts(
    sizes: list[tuple[int, bool, bool]], seeds: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [
        (
            torch.randn(*([seeds] if own else []), n, 2, generator=generator),
            torch.randint(9, (*([seeds] if own_classes else []), n), generator=generator),
        )
        for n, own, own_classes in sizes
    ]
    examples = Examples(*parts)
    whole = torch.cat([x if x.dim() == 3 else x.expand(seeds, -1, -1) for x, _ in parts], dim=1)
    classes = torch.cat([c if c.dim() == 2 else c.expand(seeds, -1) for _, c in parts], dim=1)
    assert len(examples) == whole.shape[1]
    rows = torch.randint(len(examples), (seeds, 7), generator=generator)
    x, wanted = examples.take(rows)
    for seed in range(seeds):
        assert torch.equal(x[seed], whole[seed][rows[seed]])
        assert torch.equal(wanted[seed], classes[seed][rows[seed]])


def test_scaling_is_that_of_scikit_learn() -> None:
    x = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :, 3] = 5.0  # never varies
    for kind, plain in (("min_max", MinMaxScaler()), ("standardise", StandardScaler())):
        scaling = Scaling.of(kind, x)  # type: ignore[arg-type]
        scaled = scaling.apply(x)
        for seed in range(2):
            np.testing.assert_allclose(scaled[seed], plain.fit_transform(x[seed].numpy()), atol=1e-12)
        torch.testing.assert_close(scaling.undo(scaled), x)
    assert torch.equal(Scaling.of("none", x).apply(x), x)


# Softmax


def test_softmax_is_logistic_regression() -> None:
    # Long enough trained it ends where an exact solver ends: the loss with weight decay has one minimum.
    toy = world(seen=3, clips=20, noise=0.6)
    data = ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.seen.vectors, 3)
    decay = 0.1
    model = SoftmaxClassifier(
        SoftmaxOptions(learning_rate=0.02, epochs=500, batch_size=60, weight_decay=decay), [0]
    )
    model.fit(data)
    # Adam's decay also holds the bias, so scikit-learn gets it as a column.
    x = np.hstack([toy.seen.embeddings.double(), np.ones((60, 1))])
    exact = LogisticRegression(C=1 / (60 * decay), fit_intercept=False, tol=1e-10, max_iter=5000)
    exact.fit(x, toy.seen.classes)
    wanted = exact.predict_proba(x)
    found = model.score(toy.seen.embeddings, torch.arange(3)).softmax(dim=2)[0]
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_softmax_needs_examples_of_every_class() -> None:
    toy = world(seen=4)
    data = ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 4)
    with pytest.raises(ValueError, match=r"none of the unseen classes: give its method a generator"):
        SoftmaxClassifier(SoftmaxOptions(), [0]).fit(data)


def test_softmax_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_synthetic(world(seen=4))
    options = SoftmaxOptions(epochs=5)
    whole, broken, again = (SoftmaxClassifier(options, SEEDS) for _ in range(3))
    whole.fit(data)
    monkeypatch.setattr("time.monotonic", itertools.count(0, 60).__next__)
    take, calls = Examples.take, itertools.count()

    def stop(self: Examples, rows: Tensor) -> Any:
        if next(calls) == 6:
            raise KeyboardInterrupt
        return take(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Examples, "take", stop)
        with pytest.raises(KeyboardInterrupt):
            broken.fit(data, checkpoint=Checkpoint(tmp_path, "x"))
    saved = Checkpoint(tmp_path, "x").load()
    assert saved is not None and 0 < saved["epochs_done"] < 5
    again.fit(data, checkpoint=Checkpoint(tmp_path, "x"))
    everything = torch.arange(7)
    assert torch.equal(again.score(data.embeddings, everything), whole.score(data.embeddings, everything))


def test_confidence_is_low_entropy() -> None:
    scores = torch.tensor([[[0.0, 0.0], [9.0, 0.0], [1.0, 0.0], [0.0, 4.0]]])
    assert confident(scores, 0.5).tolist() == [[1, 3]]
    assert confident(scores, 0.01).tolist() == [[1]]


def test_cascade_is_off_and_learns_from_what_it_is_asked_when_on() -> None:
    assert SoftmaxOptions().cascade == "none"
    toy = world(seen=6, clips=12)
    data = with_synthetic(toy, spread=0.8, count=6)
    unseen = torch.arange(6, 9)

    def scores(cascade: str, asked: Tensor) -> Tensor:
        options = SoftmaxOptions(learning_rate=1e-2, cascade=cascade, confident_fraction=0.4)  # type: ignore[arg-type]
        model = SoftmaxClassifier(options, SEEDS)
        model.fit(data)
        first = model.score(asked, unseen)
        assert torch.equal(model.score(asked, unseen), first)  # asking leaves no trace
        return first

    x = toy.unseen_embeddings
    alone, whole = scores("none", x[:6]), scores("none", x)
    torch.testing.assert_close(alone, whole[:, :6])  # inductive: no clip's answer hangs on the others
    changed = scores("transductive", x)
    taken = confident(whole, 0.4)
    for seed in range(2):
        kept = torch.isin(torch.arange(len(x)), taken[seed])
        assert torch.equal(changed[seed][kept], whole[seed][kept])
        assert not torch.isclose(changed[seed][~kept], whole[seed][~kept]).all()
    assert not torch.allclose(scores("transductive", x[:6])[:, :6], changed[:, :6])
    with pytest.raises(ConfigError, match="confident_fraction"):
        parse_options(SoftmaxOptions, {"confident_fraction": 1.0}, "o")
    with pytest.raises(ConfigError, match="cascade"):
        parse_options(SoftmaxOptions, {"cascade": "yes"}, "o")


# Ridge


@pytest.mark.parametrize("penalty", [0.01, 1.0, 50.0])
def test_ridge_is_that_of_scikit_learn(penalty: float) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 40, 6)) + 3, generator.normal(size=(2, 40, 4))
    asked = generator.normal(size=(5, 6))
    found = solve(torch.from_numpy(x), torch.from_numpy(y), [1e9, penalty])
    for seed in range(2):
        centred = x[seed] - x[seed].mean(axis=0)
        # The penalty is a multiple of the mean eigenvalue, which is the trace by the dimensions.
        exact = PlainRidge(alpha=penalty * np.trace(centred.T @ centred) / 6).fit(x[seed], y[seed])
        np.testing.assert_allclose(
            found.predict(torch.from_numpy(asked))[1, seed], exact.predict(asked), rtol=1e-8
        )


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("embeddings", ["none", "standardise", "unit"])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_ridge_scores_by_hand(embeddings: str, score: str, centre: bool) -> None:
    toy = world(seen=6)
    options = RidgeOptions(penalty=0.5, embeddings=embeddings, score=score, centre=centre)  # type: ignore[arg-type]
    model = Ridge(options, SEEDS)
    # Class vectors of any length: only their direction counts.
    model.fit(ZeroShotData(toy.seen.embeddings, toy.seen.classes, 7 * toy.vectors, 6))
    x, asked = toy.seen.embeddings.double().numpy(), toy.unseen_embeddings.double().numpy()
    if embeddings == "standardise":
        asked, x = (asked - x.mean(0)) / x.std(0), (x - x.mean(0)) / x.std(0)
    if embeddings == "unit":
        asked, x = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (asked, x))
    vectors = toy.vectors.double().numpy()
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors - vectors[:6].mean(axis=0) if centre else vectors
    centred = x - x.mean(axis=0)
    exact = PlainRidge(alpha=0.5 * np.trace(centred.T @ centred) / 10).fit(x, vectors[toy.seen.classes])
    wanted = exact.predict(asked)
    if score == "cosine":
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = model.score(toy.unseen_embeddings, torch.arange(9))
    # Nothing is random: all seeds say the same.
    for seed in range(2):
        np.testing.assert_allclose(found[seed], wanted @ vectors.T, atol=1e-5)


def test_ridge_penalty_is_chosen_on_seen_classes_and_well() -> None:
    # More noise wants a stronger penalty, and unseen classes have no say.
    chosen = {}
    for noise in (0.05, 3.0):
        toy = world(seen=20, clips=6, noise=noise)
        model = Ridge(RidgeOptions(), [0])
        model.fit(ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 20))
        other = Ridge(RidgeOptions(), [0])
        vectors = torch.cat([toy.seen.vectors, torch.randn(3, 3, generator=torch.Generator().manual_seed(3))])
        other.fit(ZeroShotData(toy.seen.embeddings, toy.seen.classes, vectors, 20))
        assert other.penalties == model.penalties
        (chosen[noise],) = model.penalties
    assert chosen[0.05] < chosen[3.0]
    with pytest.raises(ConfigError, match="positive"):
        parse_options(RidgeOptions, {"penalties": [1.0, 0.0]}, "o")
    assert parse_options(RidgeOptions, {"penalties": [1, 2]}, "o").penalties == (1.0, 2.0)


@pytest.mark.parametrize("kind", [Ridge, Prototype])
def test_a_seed_with_embeddings_of_its_own_chooses_for_itself(kind: type) -> None:
    """In the space of a generator: what one seed says must not hang on which others share its batch."""
    clear, noisy = (world(seen=20, clips=6, noise=noise) for noise in (0.05, 3.0))
    real = torch.stack([noisy.seen.embeddings, clear.seen.embeddings])
    assert torch.equal(clear.seen.classes, noisy.seen.classes)
    generator = torch.Generator().manual_seed(5)
    made = torch.randn(2, 3, 8, real.shape[2], generator=generator)
    asked = torch.stack([noisy.unseen_embeddings, clear.unseen_embeddings])
    whole = ZeroShotData(real, clear.seen.classes, clear.vectors, 20, made)
    classes = torch.arange(23)

    def scores(numbers: list[int]) -> Tensor:
        model = kind(kind.Options(), numbers)
        model.fit(of_seeds(whole, numbers))
        return model.score(asked[numbers], classes)

    together = scores([0, 1])
    for number in range(2):
        torch.testing.assert_close(together[number], scores([number])[0], atol=1e-6, rtol=1e-5)


def test_ridge_with_few_seen_classes_says_that_it_cannot_choose(caplog: pytest.LogCaptureFixture) -> None:
    toy = world(seen=3)
    model = Ridge(RidgeOptions(), [0])
    with caplog.at_level(logging.WARNING):
        model.fit(ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 3))
    assert model.penalties == [FALLBACK_PENALTY]
    assert "3 seen classes are too few to choose a penalty" in caplog.text


def test_ridge_learns_from_synthetic_embeddings() -> None:
    toy = world(seen=3, clips=10)
    truth, unseen = toy.unseen_classes, torch.arange(3, 6)
    data = with_synthetic(toy, spread=0.1)
    found = {}
    for name, synthetic in (("without", None), ("with", data.synthetic)):
        model = Ridge(RidgeOptions(penalty=0.01), SEEDS)
        model.fit(ZeroShotData(data.embeddings, data.classes, data.vectors, 3, synthetic))
        found[name] = accuracy(model.score(toy.unseen_embeddings, unseen), truth)
    assert found["with"].min() > max(0.9, found["without"].max())


# Every method where there is little

GENERATORS: dict[str, tuple[Any, Any]] = {
    "zerodiffusion": (ZeroDiffusion, ZeroDiffusionOptions(hidden=8, epochs=3)),
    "zerodiffusion, regularised": (
        ZeroDiffusion,
        ZeroDiffusionOptions(form="regularised", hidden=8, epochs=3),
    ),
    "ddpm": (DDPM, DDPMOptions(hidden=8, steps=5, epochs=3)),
    "cada_vae": (CADAVAE, CADAVAEOptions(latent=4, audio_hidden=(8, 8), class_hidden=(8, 8), epochs=3)),
    "lisgan": (LisGAN, LisGANOptions(hidden=8, critic_hidden=8, epochs=3)),
}


def few_classes() -> tuple[SeenData, Tensor, Tensor]:
    """Two seen classes, one unseen."""
    toy = world(seen=2, unseen=1, clips=5)
    return toy.seen, toy.vectors, toy.unseen_embeddings


def one_clip() -> tuple[SeenData, Tensor, Tensor]:
    """A seen class with a single clip."""
    toy = world(seen=4, unseen=2, clips=5)
    first = int((toy.seen.classes == 0).nonzero()[0])
    keep = (toy.seen.classes != 0) | (torch.arange(20) == first)
    return (
        SeenData(toy.seen.embeddings[keep], toy.seen.classes[keep], toy.seen.vectors),
        toy.vectors,
        toy.unseen_embeddings,
    )


def equal_vectors() -> tuple[SeenData, Tensor, Tensor]:
    """Two seen classes with one vector, and two unseen ones."""
    toy = world(seen=4, unseen=3, clips=5)
    vectors = toy.vectors.clone()
    vectors[1], vectors[6] = vectors[0], vectors[5]
    return SeenData(toy.seen.embeddings, toy.seen.classes, vectors[:4]), vectors, toy.unseen_embeddings


def equal_clips() -> tuple[SeenData, Tensor, Tensor]:
    """Clips that are all the same: no dimension varies."""
    toy = world(seen=3, unseen=2, clips=4)
    return (
        SeenData(torch.ones_like(toy.seen.embeddings), toy.seen.classes, toy.seen.vectors),
        toy.vectors,
        toy.unseen_embeddings,
    )


@pytest.mark.parametrize("little", [few_classes, one_clip, equal_vectors, equal_clips])
@pytest.mark.parametrize("name", [None, *GENERATORS])
def test_methods_work_where_there_is_little(
    name: str | None, little: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lisgan, "PRETRAINED", lisgan.SoftmaxTraining(epochs=2))
    seen, vectors, asked = little()
    x, classes, synthetic = seen.embeddings, seen.classes, None
    if name is not None:
        kind, options = GENERATORS[name]
        model = kind(options, SEEDS)
        model.fit(seen)
        synthetic = model.sample(vectors[len(seen.vectors) :], 3)
        assert torch.isfinite(synthetic).all()
        if isinstance(model, LatentGenerator):
            rows, x = model.draw_seen(seen)
            classes, asked = classes[rows], model.project(asked)
            assert torch.isfinite(x).all() and torch.isfinite(asked).all()
    data = ZeroShotData(x, classes, vectors, len(seen.vectors), synthetic)
    unseen = torch.arange(len(seen.vectors), len(vectors))
    for classifier, (kind, options) in CLASSIFIERS.items():
        if synthetic is None and classifier.startswith("softmax"):
            continue
        judge = kind(options, SEEDS)
        judge.fit(data)
        scores = judge.score(asked, unseen)
        assert scores.shape == (2, asked.shape[-2], len(unseen))
        assert torch.isfinite(scores).all(), classifier
        if little is equal_vectors and not classifier.startswith("softmax"):
            # What reads vectors cannot tell the two apart.
            torch.testing.assert_close(scores[:, :, 1], scores[:, :, 2], atol=1e-5, rtol=1e-5)
