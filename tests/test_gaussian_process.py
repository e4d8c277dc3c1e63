"""The Gaussian-process generator and the prototype classifier, against references and on a small world."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from torch.nn import functional

from foley.classifiers.protocol import ZeroShotData
from foley.classifiers.prototype import Prototype, PrototypeOptions
from foley.generators.embedding.gaussian_process import GaussianProcess, GaussianProcessOptions, _Process
from foley.generators.embedding.protocol import SeenData
from foley.training.covariance import shrunk_covariance, whitening
from seen_unseen import seeds_alone_equal_seeds_together, world


def fixed(scale: float = 1.0, noise: float = 0.1, **more: object) -> GaussianProcessOptions:
    return GaussianProcessOptions(length_scales=(scale,), noises=(noise,), **more)  # type: ignore[arg-type]


def test_process_is_the_textbooks() -> None:
    """Mean and variance are scikit-learn's."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    means = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    asked = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    process = _Process.of(vectors, means, 0.7, 0.2)
    found, variance = process.predict(asked)

    unit = functional.normalize(vectors, dim=1)
    known = functional.normalize(unit - unit.mean(dim=0), dim=1).numpy()
    there = functional.normalize(functional.normalize(asked, dim=1) - unit.mean(dim=0), dim=1).numpy()
    apart = np.square(known[:, None] - known[None]).sum(-1)[np.triu_indices(9, 1)]
    # The kernel is exp(-d^2 / (s m)), scikit-learn's exp(-d^2 / (2 l^2)).
    kernel = RBF(np.sqrt(0.7 * torch.tensor(apart).median().item() / 2))
    centred = means.numpy() - means.numpy().mean(axis=0)
    reference = GaussianProcessRegressor(kernel, alpha=0.2, optimizer=None).fit(known, centred)
    mean, deviation = reference.predict(there, return_std=True)
    np.testing.assert_allclose(found.numpy(), mean + means.numpy().mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(variance.numpy(), deviation[:, 0] ** 2, atol=1e-9)


@pytest.mark.parametrize(("rows", "dim"), [(200, 5), (8, 30)])
def test_covariance_is_ledoit_and_wolfs(rows: int, dim: int) -> None:
    x = np.random.default_rng(0).normal(size=(rows, dim)) * np.arange(1, dim + 1)
    x -= x.mean(axis=0)
    expected, _ = ledoit_wolf(x, assume_centered=True)
    found = shrunk_covariance(torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)
    white = whitening(found).numpy()
    np.testing.assert_allclose(white.T @ expected @ white, np.eye(dim), atol=1e-5)


def test_covariance_of_rows_that_do_not_vary() -> None:
    assert torch.isfinite(whitening(shrunk_covariance(torch.zeros(3, 4, dtype=torch.float64)))).all()


def test_samples_have_the_predicted_mean_and_the_seen_classes_shape() -> None:
    toy = world(seen=12, clips=200, noise=0.3)
    model = GaussianProcess(fixed(), [0, 1])
    model.fit(toy.seen)
    made = model.sample(toy.unseen_vectors, 400)
    assert made.shape == (2, 3, 400, toy.seen.embeddings.shape[1])
    assert model.process is not None
    mean = model.scaling.undo(model.process.predict(toy.unseen_vectors.double())[0]).float()
    # Pairs of opposite sign: the mean is exact, with every seed, and seeds differ all the same.
    torch.testing.assert_close(made.mean(dim=2), mean.expand(2, -1, -1), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(made[0], made[1])
    of_class = torch.stack([toy.seen.embeddings[toy.seen.classes == c].mean(0) for c in range(12)])
    expected = torch.cov((toy.seen.embeddings - of_class[toy.seen.classes]).T)
    for samples in made[0]:
        assert (torch.cov(samples.T) - expected).norm() < 0.35 * expected.norm()
    # A class further from all seen ones is less sure, and wider where that is asked for.
    wide = GaussianProcess(fixed(uncertainty=True), [0])
    wide.fit(toy.seen)
    assert (wide.sample(toy.unseen_vectors, 400).var(dim=2).sum(-1) > made[:1].var(dim=2).sum(-1)).all()


def test_an_odd_number_of_samples() -> None:
    toy = world()
    model = GaussianProcess(fixed(), [0])
    model.fit(toy.seen)
    made = model.sample(toy.unseen_vectors, 1)
    assert made.shape[2] == 1 and torch.isfinite(made).all()


def test_seeds_alone_equal_seeds_together() -> None:
    seeds_alone_equal_seeds_together(GaussianProcess, fixed(), world())


def test_settings_are_chosen_on_seen_classes() -> None:
    """Vectors that say nothing of the sound: the smoothest process is chosen; vectors that say all: not that one."""
    telling = world(seen=24, clips=12, noise=0.05)
    options = GaussianProcessOptions(noises=(0.01, 100.0), length_scales=(1.0,))
    model = GaussianProcess(options, [0])
    model.fit(telling.seen)
    assert model.chosen == (1.0, 0.01)


def test_unseen_classes_are_recognised_by_what_was_made_of_them() -> None:
    toy = world(seen=24, clips=12, noise=0.2)
    model = GaussianProcess(GaussianProcessOptions(), [0, 1])
    model.fit(toy.seen)
    data = ZeroShotData(
        toy.seen.embeddings, toy.seen.classes, toy.vectors, 24, model.sample(toy.unseen_vectors, 20)
    )
    for score in ("cosine", "distance"):
        classifier = Prototype(PrototypeOptions(score=score), [0, 1])
        classifier.fit(data)
        conventional = classifier.score(toy.unseen_embeddings, torch.arange(24, 27))
        assert conventional.shape == (2, len(toy.unseen_embeddings), 3)
        accuracy = (conventional.argmax(2) == toy.unseen_classes).float().mean()
        assert accuracy > 0.8  # chance is 0.33
        seen = classifier.score(toy.seen.embeddings, torch.arange(27)).argmax(2)
        assert (seen == toy.seen.classes).float().mean() > 0.8


def test_prototype_is_linear_discriminant_analysis() -> None:
    """With distances and no further shrinkage: the class with the nearest mean in Mahalanobis distance."""
    toy = world(seen=6, clips=40, noise=0.3)
    made = toy.unseen_embeddings.reshape(1, 3, -1, toy.unseen_embeddings.shape[1])
    classifier = Prototype(PrototypeOptions(score="distance", shrinkage=0.0), [0])
    classifier.fit(ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 6, made))
    found = classifier.score(toy.unseen_embeddings, torch.arange(9))[0]

    x = toy.seen.embeddings.double().numpy()
    shift, factor = x.mean(axis=0), x.std(axis=0)
    x, classes = (x - shift) / factor, toy.seen.classes.numpy()
    means = np.stack([x[classes == c].mean(axis=0) for c in range(6)])
    covariance, _ = ledoit_wolf(x - means[classes], assume_centered=True)
    means = np.concatenate([means, (made[0].double().mean(dim=1).numpy() - shift) / factor])
    clips = (toy.unseen_embeddings.double().numpy() - shift) / factor
    apart = clips[:, None] - means[None]
    expected = -np.einsum("ncd,de,nce->nc", apart, np.linalg.inv(covariance), apart)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_embeddings_of_each_seed_its_own() -> None:
    toy = world(seen=6, clips=20)
    made = toy.unseen_embeddings.reshape(1, 3, -1, toy.unseen_embeddings.shape[1])
    shared = Prototype(PrototypeOptions(), [0, 1])
    shared.fit(
        ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 6, made.expand(2, -1, -1, -1))
    )
    own = Prototype(PrototypeOptions(), [0, 1])
    # The second seed lives in a space of another scale; standardised, both say the same.
    scale = torch.tensor([1.0, 3.0]).view(2, 1, 1)
    own.fit(
        ZeroShotData(toy.seen.embeddings * scale, toy.seen.classes, toy.vectors, 6, made * scale.unsqueeze(3))
    )
    expected = shared.score(toy.unseen_embeddings, torch.arange(9))
    found = own.score(toy.unseen_embeddings * scale, torch.arange(9))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_edge_cases() -> None:
    toy = world(seen=2, unseen=1, clips=3)
    few = GaussianProcess(GaussianProcessOptions(), [0])
    few.fit(toy.seen)  # too few classes to choose by: fixed settings
    made = few.sample(toy.unseen_vectors, 4)
    assert torch.isfinite(made).all()
    classifier = Prototype(PrototypeOptions(), [0])
    classifier.fit(ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 2, made))
    assert torch.isfinite(classifier.score(toy.unseen_embeddings, torch.arange(3))).all()

    # One clip a class, and class vectors that are all the same: nothing to tell by, but numbers.
    same = SeenData(toy.seen.embeddings[:2], torch.arange(2), torch.ones(2, 3))
    blind = GaussianProcess(GaussianProcessOptions(), [0])
    blind.fit(same)
    assert torch.isfinite(blind.sample(torch.ones(1, 3), 4)).all()

    with pytest.raises(ValueError, match=r"seen classes in rows \[1\] have no embedding"):
        GaussianProcess(GaussianProcessOptions(), [0]).fit(
            SeenData(toy.seen.embeddings[:1], torch.zeros(1, dtype=torch.long), torch.ones(2, 3))
        )
    with pytest.raises(ValueError, match="give the method a generator"):
        Prototype(PrototypeOptions(), [0]).fit(
            ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 2)
        )
    for wrong in ({"noises": ()}, {"held_out": 1}, {"shrinkage": 1.0}):
        with pytest.raises(ValueError, match="must"):
            GaussianProcessOptions(**wrong)
    with pytest.raises(ValueError, match="shrinkage"):
        PrototypeOptions(shrinkage=1.5)
