"""The Gaussian-process generator and the prototype classifier, against references and on a small world."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.covariance import ledoit_wolf
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from torch.nn import functional

from foley.classifiers.protocol import ZeroShotData
from foley.classifiers.prototype import Prototype, PrototypeOptions, best_constant
from foley.classifiers.registry import ZERO_SHOT_KINDS
from foley.generators.embedding.gaussian_process import (
    GaussianProcess,
    GaussianProcessOptions,
    Process,
    Setting,
)
from foley.generators.embedding.protocol import SeenData
from foley.generators.registry import EMBEDDING_KINDS
from foley.metrics.classification import harmonic_mean
from foley.options import parse_options
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.selection import held_out_accuracy
from foley.training.covariance import shrunk_covariance, whitening
from foley.training.held_out_classes import class_means, hold_out_classes
from seen_unseen import seeds_alone_equal_seeds_together, world

REPOSITORY = Path(__file__).resolve().parents[1]


def fixed(scale: float = 1.0, noise: float = 0.1, **more: object) -> GaussianProcessOptions:
    return GaussianProcessOptions(length_scales=(scale,), noises=(noise,), **more)  # type: ignore[arg-type]


def test_process_is_the_textbooks() -> None:
    """Mean and variance are scikit-learn's."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    means = torch.randn(9, 6, generator=generator, dtype=torch.float64)
    asked = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    process = Process.of(vectors, means, Setting("radial", 0.7, 0.2))
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


@pytest.mark.parametrize("uncertainty", [False, True])
def test_the_first_of_many_samples_are_a_draw_of_fewer(uncertainty: bool) -> None:
    """Learning curves read them so. Seven dimensions: no block of random numbers ends at a round number."""
    toy = world()
    seen = SeenData(toy.seen.embeddings[:, :7], toy.seen.classes, toy.seen.vectors)
    model = GaussianProcess(fixed(uncertainty=uncertainty), [0, 1])
    model.fit(seen)
    many = model.sample(toy.unseen_vectors, 12)
    for count in range(1, 12):
        torch.testing.assert_close(model.sample(toy.unseen_vectors, count), many[:, :, :count])
    # One sample is a draw as any other, with the classes' shape and not their mean.
    assert (many[:, :, 0] - many[:, :, :2].mean(dim=2)).norm(dim=-1).min() > 0.05


def test_independent_samples_scatter_about_their_mean_as_independent_ones_do() -> None:
    """Of few samples in many dimensions: the sum of variances is that of the shape, as pairs' is not, and no two of
    them are opposite."""
    toy = world(seen=8, clips=120, noise=0.3)
    model = GaussianProcess(fixed(), list(range(60)))
    model.fit(toy.seen)
    wanted = float(
        (toy.seen.embeddings - class_means(toy.seen.embeddings, toy.seen.classes, 8)[toy.seen.classes])
        .var(dim=0)
        .sum()
    )
    few = model.sample_independent(toy.unseen_vectors, 4)
    spread = float(few.var(dim=2).sum(dim=-1).mean())
    assert spread == pytest.approx(wanted, rel=0.1)
    paired = float(model.sample(toy.unseen_vectors, 4).var(dim=2).sum(dim=-1).mean())
    assert paired > 1.2 * spread  # 4/3 in expectation
    means = model.sample(toy.unseen_vectors, 2).mean(dim=2)
    # Their own mean is off by what four independent draws are off by.
    off = float((few.mean(dim=2) - means).square().sum(dim=-1).mean())
    assert off == pytest.approx(wanted / 4, rel=0.15)


def test_any_even_number_of_first_samples_has_the_mean() -> None:
    toy = world()
    model, bare = GaussianProcess(fixed(), [0, 1]), GaussianProcess(fixed(samples="mean"), [0, 1])
    model.fit(toy.seen)
    bare.fit(toy.seen)
    made, means = model.sample(toy.unseen_vectors, 9), bare.sample(toy.unseen_vectors, 1)[:, :, 0]
    for count in (2, 4, 8):
        torch.testing.assert_close(made[:, :, :count].mean(dim=2), means, atol=1e-5, rtol=1e-5)
    assert (made[:, :, 1] - means).norm() > 0.1
    assert torch.equal(bare.sample(toy.unseen_vectors, 3), means.unsqueeze(2).expand(-1, -1, 3, -1))


def test_linear_kernel_is_ridge_regression_on_class_vectors() -> None:
    """The primal solution: weights (V'V + noise I)^-1 V'(M - mean)."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    means = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    asked = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    found, _ = Process.of(vectors, means, Setting("linear", 1.0, 0.4), centre=False).predict(asked)
    v, a = functional.normalize(vectors, dim=1).numpy(), functional.normalize(asked, dim=1).numpy()
    mean = means.numpy().mean(axis=0)
    weights = np.linalg.solve(v.T @ v + 0.4 * np.eye(4), v.T @ (means.numpy() - mean))
    np.testing.assert_allclose(found.numpy(), mean + a @ weights, atol=1e-9)


def test_centring_forgets_what_all_class_vectors_share() -> None:
    """A part common to all vectors, of equal length, changes nothing where they are centred."""
    generator = torch.Generator().manual_seed(2)
    vectors = functional.normalize(torch.randn(9, 4, generator=generator, dtype=torch.float64), dim=1)
    means = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    shared = torch.cat([vectors, torch.full((9, 1), 3.0, dtype=torch.float64)], dim=1)
    setting = Setting("radial", 1.0, 0.1)

    def predicted(known: torch.Tensor, centre: bool) -> torch.Tensor:
        return Process.of(known[:7], means[:7], setting, centre=centre).predict(known[7:])[0]

    torch.testing.assert_close(predicted(shared, True), predicted(vectors, True))
    assert not torch.allclose(predicted(vectors, False), predicted(vectors, True))


def test_classes_held_out_are_each_out_once_in_a_grouping() -> None:
    rows = torch.arange(11).repeat_interleave(3)
    parts = list(hold_out_classes(rows, 11, held_out=4, groupings=2, name="test"))
    assert len(parts) == 4
    assert torch.stack([part.out for part in parts]).sum(dim=0).tolist() == [2] * 11
    for part in parts:
        kept, held = (~part.out).nonzero().flatten(), part.out.nonzero().flatten()
        assert torch.equal(kept[part.kept_rows], rows[~part.held])
        assert torch.equal(held[part.held_rows], rows[part.held])
    other = list(hold_out_classes(rows, 11, held_out=4, groupings=2, name="another"))
    assert not all(torch.equal(a.out, b.out) for a, b in zip(parts, other, strict=True))


def test_class_means_are_means() -> None:
    x, classes = torch.randn(2, 7, 3), torch.tensor([0, 2, 2, 0, 0, 2, 0])
    found = class_means(x, classes, 3)
    torch.testing.assert_close(found[:, 2], x[:, classes == 2].mean(dim=1))
    assert found[:, 1].eq(0).all()
    torch.testing.assert_close(class_means(x[1], classes, 3), found[1])


def test_whitening_is_chosen_by_seen_classes() -> None:
    """Dropped where it blows up quiet directions in which classes differ at random; kept where it quietens loud ones
    that say nothing."""
    generator = torch.Generator().manual_seed(0)
    vectors = functional.normalize(torch.randn(32, 6, generator=generator), dim=1)
    classes = torch.arange(32).repeat_interleave(8)
    signal, noise = vectors[classes], torch.randn(256, 12, generator=generator)

    def chosen(told: float, other: float, whim: float) -> float:
        """Noise along the directions that the vectors tell of, along the others, and the classes' own ways there."""
        own = whim * torch.randn(32, 6, generator=generator)[classes]
        x = torch.cat([signal + told * noise[:, :6], own + other * noise[:, 6:]], dim=1)
        options = GaussianProcessOptions(length_scales=(1.0,), noises=(0.1,), scaling="none")
        model = GaussianProcess(options, [0])
        model.fit(SeenData(x, classes, vectors))
        return model.shrinkage

    assert chosen(told=0.3, other=0.001, whim=0.3) == 1.0
    assert chosen(told=0.1, other=3.0, whim=0.0) == 0.3


def test_best_constant_is_the_one_of_all() -> None:
    """Against trying every constant."""
    rng = np.random.default_rng(0)
    leads, right, unseen = rng.normal(size=60), rng.random(60) < 0.7, rng.random(60) < 0.4
    leads[unseen] -= 0.8

    def harmonic(constant: float) -> float:
        to_unseen = leads < constant
        sides = [(right & to_unseen)[unseen].mean(), (right & ~to_unseen)[~unseen].mean()]
        return float(harmonic_mean(np.array(sides[:1]), np.array(sides[1:]))[0])

    found = float(best_constant(*map(torch.from_numpy, (leads, right, unseen))))
    assert harmonic(found) == pytest.approx(max(map(harmonic, np.linspace(-4, 4, 4001))))
    nothing = torch.zeros(60, dtype=torch.bool)
    assert best_constant(torch.from_numpy(leads), nothing, torch.from_numpy(unseen)) == 0


def test_calibration_gives_unseen_classes_their_share() -> None:
    toy = world(seen=24, clips=12, noise=0.3)
    model = GaussianProcess(fixed(), [0])
    model.fit(toy.seen)
    made = model.sample(toy.unseen_vectors, 20)
    data = ZeroShotData(toy.seen.embeddings, toy.seen.classes, toy.vectors, 24, made)
    found = {}
    for name in ("none", "held_out"):
        classifier = Prototype(PrototypeOptions(shrinkage=0.3, calibration=name), [0])  # type: ignore[arg-type]
        classifier.fit(data)
        alone = classifier.score(toy.unseen_embeddings, torch.arange(24, 27))
        every = classifier.score(toy.unseen_embeddings, torch.arange(27))
        torch.testing.assert_close(every[:, :, 24:], alone)  # among unseen classes nothing changes
        found[name] = float((every.argmax(2) - 24 == toy.unseen_classes).float().mean())
        if name == "none":
            plain = every
    assert classifier.constant.item() > 0
    torch.testing.assert_close(every[:, :, :24] + classifier.constant.float(), plain[:, :, :24])
    assert found["held_out"] > found["none"]


def experiment_of(seen: int = 16, informative: bool = True) -> Experiment:
    toy = world(seen=seen, clips=8)
    clips = len(toy.seen.classes)
    vectors = toy.vectors if informative else torch.randn(toy.vectors.shape)
    return Experiment(
        clip_ids=np.arange(clips).astype(str).astype(object),
        embeddings=toy.seen.embeddings.numpy(),
        class_ids=toy.seen.classes.numpy(),
        recordings=np.arange(clips).astype(str).astype(object),
        roles=np.full(clips, "seen_train", dtype=object),
        seen=tuple(range(seen)),
        unseen=(seen, seen + 1, seen + 2),
        vectors=vectors.numpy(),
    )


def test_held_out_accuracy_sees_no_unseen_class() -> None:
    def accuracy(experiment: Experiment) -> np.ndarray:
        return held_out_accuracy(
            experiment,
            generator=GaussianProcess,
            generator_options=fixed(),
            classifier=Prototype,
            classifier_options=PrototypeOptions(shrinkage=0.3, calibration="none"),
            seeds=[0],
        ).recalls

    telling = experiment_of()
    found = accuracy(telling)
    assert found.shape == (16,) and found.mean() > 0.6  # chance is 1/8
    # Whatever the unseen classes' vectors are.
    changed = telling.vectors.copy()
    changed[16:] = np.nan
    np.testing.assert_array_equal(accuracy(dataclasses.replace(telling, vectors=changed)), found)
    assert accuracy(experiment_of(informative=False)).mean() < found.mean() - 0.2
    with pytest.raises(ValueError, match="too few to hold out"):
        accuracy(experiment_of(seen=3))


def test_presets_options_are_known() -> None:
    preset = yaml.safe_load((REPOSITORY / "experiments/zero_shot_ablation.yaml").read_text())
    assert set(preset["methods"]) <= set(preset["zero_shot"]["methods"])
    for name, method in preset["methods"].items():
        for kind, known in (("generator", EMBEDDING_KINDS), ("classifier", ZERO_SHOT_KINDS)):
            module, _, attribute = known[method[kind]].partition(":")
            options = getattr(importlib.import_module(module), attribute).Options
            parse_options(options, method.get(f"{kind}_options", {}), f"methods.{name}.{kind}_options")


def test_seeds_alone_equal_seeds_together() -> None:
    seeds_alone_equal_seeds_together(GaussianProcess, fixed(), world())


def test_settings_are_chosen_on_seen_classes() -> None:
    """Vectors that say all of the sound: the sharper process; where all do equally well: the smoothest one."""
    telling = world(seen=24, clips=12, noise=0.05)
    options = GaussianProcessOptions(noises=(0.01, 100.0), length_scales=(1.0,))
    model = GaussianProcess(options, [0])
    model.fit(telling.seen)
    assert model.chosen == Setting("radial", 1.0, 0.01)
    silent = dataclasses.replace(telling.seen, vectors=telling.seen.vectors[:1].expand(24, -1))
    model = GaussianProcess(options, [0])
    model.fit(silent)
    assert model.chosen == Setting("radial", 1.0, 100.0)


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
    classifier = Prototype(PrototypeOptions(score="distance", shrinkage=0.0, calibration="none"), [0])
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
    for wrong in ({"noises": ()}, {"held_out": 1}, {"shrinkages": (1.1,)}, {"kernels": ()}):
        with pytest.raises(ValueError, match="must"):
            GaussianProcessOptions(**wrong)
    with pytest.raises(ValueError, match="shrinkage"):
        PrototypeOptions(shrinkage=1.5)
