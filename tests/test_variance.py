"""Variance components, the grid of seeds, and the spread split by source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foley import tables
from foley.classifiers.ale import ALE, ALEOptions
from foley.classifiers.protocol import ZeroShotData
from foley.classifiers.prototype import Prototype, PrototypeOptions
from foley.classifiers.ridge import Ridge, RidgeOptions
from foley.metrics.variance_components import Component, mean_component, nested_components
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.generate import Projected
from foley.studies.zero_shot.seed_grid import cross_seeds
from foley.studies.zero_shot.variance import split_variance
from foley.tables.scores import SCORES
from foley.tables.variance import SEED_GRID


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for one another on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Variance components


def nested_normal(
    generator: np.random.Generator, sizes: tuple[int, int, int], deviations: Sequence[float]
) -> np.ndarray:
    """One draw of a balanced nested design with these standard deviations."""
    a, b, c = sizes
    return (
        5
        + deviations[0] * generator.normal(size=(a, 1, 1))
        + deviations[1] * generator.normal(size=(a, b, 1))
        + deviations[2] * generator.normal(size=(a, b, c))
    )


def some(component: Component | None) -> Component:
    assert component is not None
    return component


def test_components_of_a_hand_computed_example() -> None:
    # Two networks, two generators each, two classifiers each. Cell means 11, 15 | 21, 27; network means 13, 24; 18.5.
    values = np.array([[[10.0, 12], [14, 16]], [[20, 22], [26, 28]]])
    # Sums of squares: classifiers 4 cells x (1 + 1) = 8, generators 2 (4 + 4 + 9 + 9) = 52, networks 8 x 5.5^2 = 242.
    found = nested_components(values)
    embedding, generator, classifier = (some(level) for level in found.levels)
    assert classifier.mean_squares == (2.0,) and classifier.degrees == (4,)
    assert generator.mean_squares == (26.0, 2.0) and generator.degrees == (2, 4)
    assert embedding.mean_squares == (242.0, 26.0) and embedding.degrees == (1, 2)
    assert classifier.estimate == pytest.approx(2)
    assert generator.estimate == pytest.approx((26 - 2) / 2)
    assert embedding.estimate == pytest.approx((242 - 26) / 4)
    assert some(found.total).estimate == pytest.approx(2 + 12 + 54)


def test_one_level_is_the_analysis_of_variance_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6)) + np.arange(4)[:, None]
    outer, inner = (some(level) for level in nested_components(values).levels)
    f, _ = stats.f_oneway(*values)
    assert outer.mean_squares[0] / outer.mean_squares[1] == pytest.approx(f)
    assert inner.estimate == pytest.approx(values.var(axis=1, ddof=1).mean())
    single = some(nested_components(values[0]).levels[0])
    assert single.estimate == pytest.approx(values[0].var(ddof=1))


@pytest.mark.parametrize("deviations", [(2.0, 1.0, 0.5), (0.3, 2.0, 1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 2.0)])
def test_estimates_are_unbiased(deviations: tuple[float, float, float]) -> None:
    generator = np.random.default_rng(1)
    found = [nested_components(nested_normal(generator, (3, 4, 2), deviations)) for _ in range(1500)]
    estimates = np.array([[some(level).estimate for level in one.levels] for one in found])
    expected = np.square(deviations)
    error = estimates.std(axis=0, ddof=1) / math.sqrt(len(estimates))
    assert (np.abs(estimates.mean(axis=0) - expected) < 4 * error).all()
    totals = np.array([some(one.total).estimate for one in found])
    np.testing.assert_allclose(totals, estimates.sum(axis=1))
    # A level without variance is below zero about as often as above, and then reported as zero.
    for level, deviation in enumerate(deviations):
        if deviation == 0:
            assert 0.3 < (estimates[:, level] < 0).mean() < 0.8
    reported = [some(level).variance for one in found for level in one.levels]
    assert min(reported) >= 0


def test_intervals_hold_what_they_promise() -> None:
    """Coverage of 95 % intervals over designs as small as the study's, within Monte-Carlo error."""
    generator = np.random.default_rng(2)
    deviations, draws = (1.0, 0.7, 0.5), 700
    hits = np.zeros((draws, 5))
    for number in range(draws):
        splits = [nested_components(nested_normal(generator, (3, 5, 5), deviations)) for _ in range(3)]
        parts = [*(some(level) for level in splits[0].levels), some(splits[0].total)]
        parts.append(mean_component([some(split.levels[1]) for split in splits]))
        truths = [*np.square(deviations), sum(np.square(deviations)), deviations[1] ** 2]
        for at, (part, truth) in enumerate(zip(parts, truths, strict=True)):
            low, high = part.interval()
            hits[number, at] = low <= truth <= high
    coverage = hits.mean(axis=0)
    assert (coverage > 0.93).all() and (coverage < 0.985).all(), coverage


def test_interval_of_one_mean_square_is_the_exact_one() -> None:
    low, high = Component((0.5,), (3.0,), (7,)).interval(0.9)
    assert low == pytest.approx(0.5 * 7 * 3 / stats.chi2.ppf(0.95, 7))
    assert high == pytest.approx(0.5 * 7 * 3 / stats.chi2.ppf(0.05, 7))


@pytest.mark.parametrize(("outer", "inner"), [(2, 12), (4, 60), (1, 4)])
def test_interval_of_a_difference_leaves_zero_where_the_f_test_rejects(outer: int, inner: int) -> None:
    critical = stats.f.ppf(0.975, outer, inner)
    for factor in (0.98, 1.02):
        low, _ = Component((1.0, -1.0), (critical * factor, 1.0), (outer, inner)).interval()
        assert (low > 0) == (factor > 1)
    # And the upper end is zero where the other tail does.
    critical = stats.f.ppf(0.025, outer, inner)
    for factor in (0.98, 1.02):
        _, high = Component((1.0, -1.0), (critical * factor, 1.0), (outer, inner)).interval()
        assert (high > 0) == (factor > 1)


def test_a_spread_of_nothing_has_an_interval_of_nothing() -> None:
    found = nested_components(np.full((3, 2, 2), 0.25))
    for part in (*found.levels, found.total):
        assert (some(part).variance, some(part).interval()) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ((3, 4, 2), [True, True, True]),
        ((1, 4, 2), [False, True, True]),  # one network: nothing of its spread
        ((3, 1, 2), [False, False, True]),  # a network's spread is mixed with its one generator's
        ((3, 4, 1), [True, False, False]),
        ((1, 4, 1), [False, False, False]),
        ((3, 1, 1), [False, False, False]),
        ((1, 1, 5), [False, False, True]),
    ],
)
def test_what_can_be_told_of_which_design(sizes: tuple[int, int, int], told: list[bool]) -> None:
    values = nested_normal(np.random.default_rng(0), sizes, (1.0, 1.0, 1.0))
    found = nested_components(values)
    assert [level is not None for level in found.levels] == told
    varying = [size for size in sizes if size > 1]
    if len(varying) == 1:
        assert some(found.total).estimate == pytest.approx(values.var(ddof=1))


def test_a_design_of_one_value_tells_nothing() -> None:
    found = nested_components(np.ones((1, 1, 1)))
    assert found.levels == (None, None, None) and found.total is None


@pytest.mark.parametrize("values", [np.zeros((2, 0)), np.array([[1.0, math.nan]]), np.array(1.0)])
def test_values_that_are_no_design(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="needs finite values on every level"):
        nested_components(values)


@given(
    sizes=st.tuples(st.integers(2, 4), st.integers(2, 4), st.integers(2, 4)),
    shift=st.floats(-10, 10),
    scale=st.floats(0.1, 10),
    seed=st.integers(0, 1000),
)
def test_components_follow_scale_and_ignore_order(
    sizes: tuple[int, int, int], shift: float, scale: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    values = nested_normal(generator, sizes, (1.0, 1.0, 1.0))
    moved = generator.permutation(shift + scale * values, axis=0)
    moved = generator.permuted(moved, axis=2)
    for before, after in zip(nested_components(values).levels, nested_components(moved).levels, strict=True):
        assert some(after).estimate == pytest.approx(some(before).estimate * scale**2, rel=1e-6, abs=1e-7)
        low, high = some(after).interval()
        assert 0 <= low <= some(after).variance + 1e-12 and some(after).variance <= high + 1e-12


# The grid of seeds

UNSEEN, DIM, COUNT = 3, 8, 6
GENERATORS = [0, 1, 2]
LABELS = {"dataset": "toy", "split": "fold0", "method": "made", "variant": "e/v"}


def toy() -> Experiment:
    """Five seen and three unseen classes, embeddings an image of their class's vector plus noise."""
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(5 + UNSEEN), 12)
    vectors = generator.normal(size=(5 + UNSEEN, 4)).astype(np.float32)
    image = generator.normal(size=(4, DIM))
    embeddings = np.tanh(vectors[classes] @ image) + 0.4 * generator.normal(size=(len(classes), DIM))
    ids = np.array([f"clip-{number:03d}" for number in range(len(classes))], dtype=object)
    roles = np.where(classes < 5, "seen_train", "unseen")
    return Experiment(
        ids, embeddings.astype(np.float32), classes, ids, roles, tuple(range(5)), tuple(range(5, 8)), vectors
    )


def synthetic_of(experiment: Experiment, generators: int) -> np.ndarray:
    """Embeddings around the unseen classes' true means, each generator wrong in its own way."""
    generator = np.random.default_rng(1)
    means = np.stack(
        [experiment.embeddings[experiment.class_ids == c].mean(axis=0) for c in experiment.unseen]
    )
    wrong = generator.normal(size=(generators, UNSEEN, 1, DIM))
    noise = 0.3 * generator.normal(size=(generators, UNSEEN, COUNT, DIM))
    return (means[None, :, None] + wrong + noise).astype(np.float32)


FAST = ALEOptions(learning_rate=1e-2, epochs=3)


def grid(path: Path, **changed: Any) -> list[dict[str, Any]]:
    experiment = toy()
    arguments: dict[str, Any] = {
        "experiment": experiment, "synthetic": synthetic_of(experiment, len(GENERATORS)), "projected": None,
        "classifier": ALE, "options": FAST, "generator_seeds": GENERATORS, "classifier_seeds": 4,
        "embedding_seed": 7, "labels": LABELS,
    }  # fmt: skip
    cross_seeds(path, **(arguments | changed))
    return tables.read(path, SEED_GRID).to_pylist()


def test_a_grid_has_every_classifier_with_a_seed_of_its_own(tmp_path: Path) -> None:
    rows = grid(tmp_path / "grid.parquet")
    assert [row["generator_seed"] for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert len({row["classifier_seed"] for row in rows}) == 12
    assert {row["embedding_seed"] for row in rows} == {7}
    assert {row["n"] for row in rows} == {UNSEEN * 12}
    elsewhere = grid(tmp_path / "other.parquet", embedding_seed=8)
    assert not {row["classifier_seed"] for row in rows} & {row["classifier_seed"] for row in elsewhere}
    accuracies = np.array([row["accuracy"] for row in rows]).reshape(3, 4)
    assert (accuracies.std(axis=1) > 0).all()


def test_an_accuracy_of_the_grid_is_that_of_its_classifier_trained_alone(tmp_path: Path) -> None:
    rows = grid(tmp_path / "grid.parquet")
    experiment = toy()
    made = synthetic_of(experiment, len(GENERATORS))
    for number in (0, 5, 11):
        row = rows[number]
        model = ALE(FAST, [row["classifier_seed"]])
        train = experiment.rows("seen_train")
        model.fit(
            ZeroShotData(
                torch.from_numpy(experiment.embeddings[train]), torch.from_numpy(experiment.class_rows(train)),
                torch.from_numpy(experiment.vectors), 5, torch.from_numpy(made[[row["generator_seed"]]]),
            )
        )  # fmt: skip
        unseen = experiment.rows("unseen")
        scores = model.score(torch.from_numpy(experiment.embeddings[unseen]), torch.arange(5, 8))
        right = scores[0].argmax(dim=1).numpy() + 5 == experiment.class_ids[unseen]
        assert row["accuracy"] == pytest.approx(right.mean())


def test_a_grid_in_small_batches_is_the_same(tmp_path: Path) -> None:
    whole = grid(tmp_path / "whole.parquet")
    # Room for two classifiers: batches that cross from one generator to the next.
    cell = UNSEEN * COUNT * DIM * 4
    assert grid(tmp_path / "parts.parquet", batch_bytes=5 * cell, checkpoints=tmp_path) == whole
    assert grid(tmp_path / "single.parquet", batch_bytes=1) == whole
    assert not list(tmp_path.glob("checkpoints/*.pt"))


def test_a_grid_in_a_space_of_the_generators_own(tmp_path: Path) -> None:
    experiment = toy()
    made = synthetic_of(experiment, len(GENERATORS))
    train = experiment.rows("seen_train")
    # Each generator's space is the plain one turned over: nothing changes if real and synthetic ones turn alike.
    turns = np.stack(
        [np.linalg.qr(np.random.default_rng(s).normal(size=(DIM, DIM)))[0] for s in range(len(GENERATORS))]
    ).astype(np.float32)
    clips = np.stack([experiment.embeddings @ turn for turn in turns])
    turned = np.stack([part @ turn for part, turn in zip(made, turns, strict=True)])
    plain = grid(tmp_path / "plain.parquet", classifier=Ridge, options=RidgeOptions(embeddings="none"))
    found = grid(
        tmp_path / "turned.parquet", synthetic=turned, projected=Projected(clips, train, clips[:, train]),
        classifier=Ridge, options=RidgeOptions(embeddings="none"), batch_bytes=40_000,
    )  # fmt: skip
    assert [row["accuracy"] for row in found] == [row["accuracy"] for row in plain]


def test_a_method_without_generator_has_none_in_its_grid(tmp_path: Path) -> None:
    rows = grid(tmp_path / "grid.parquet", synthetic=None, embedding_seed=None)
    assert [(row["embedding_seed"], row["generator_seed"]) for row in rows] == [(None, None)] * 4
    assert len({row["classifier_seed"] for row in rows}) == 4


def test_a_grid_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 generator seeds for embeddings of 3 generators"):
        grid(tmp_path / "grid.parquet", generator_seeds=[0, 1])
    with pytest.raises(ValueError, match="classifier_seeds must be at least 1"):
        grid(tmp_path / "grid.parquet", classifier_seeds=0)
    assert not list(tmp_path.iterdir())


# The spread, split


def write_grid(
    path: Path, values: np.ndarray, split: str, *, networks: Sequence[int | None], generator: bool = True
) -> Path:
    """A grid of accuracies [networks, generators, classifiers]."""
    rows = [
        LABELS
        | {
            "split": split, "embedding_seed": networks[a], "generator_seed": b if generator else None,
            "classifier_seed": 100 * a + 10 * b + c, "accuracy": float(value), "n": 80,
        }
        for (a, b, c), value in np.ndenumerate(values)
    ]  # fmt: skip
    tables.write(path, SEED_GRID, rows)
    return path


def spreads(folder: Path, *grids: Path) -> dict[tuple[str, str], dict[str, Any]]:
    split_variance(folder / "variance.parquet", grids=grids)
    rows = tables.read(folder / "variance.parquet", SCORES).to_pylist()
    assert {row["study"] for row in rows} == {"zero_shot"}
    return {(row["split"], row["metric"]): row for row in rows}


def test_spread_of_a_hand_computed_grid(tmp_path: Path) -> None:
    values = np.array([[[10.0, 12], [14, 16]], [[20, 22], [26, 28]]]) / 100
    # One file a network, as the workflow writes them.
    paths = [write_grid(tmp_path / f"{a}.parquet", values[[a]], "fold0", networks=[a]) for a in (0, 1)]
    # Classifiers 8 in variance, generators (0 - 8) / 2 below zero, networks 0 below zero.
    flat = np.array([[[10.0, 14], [10, 14]], [[10, 14], [10, 14]]]) / 100
    paths.append(write_grid(tmp_path / "flat.parquet", flat, "fold1", networks=[0, 1]))
    rows = spreads(tmp_path, *paths)
    expected = {
        "fold0": {"embedding": 54, "generator": 12, "classifier": 2, "total": 68},
        "fold1": {"embedding": 0, "generator": 0, "classifier": 8, "total": 4},
        "mean": {"embedding": 27, "generator": 4, "classifier": 5, "total": 36},
    }
    assert len(rows) == 12
    for split, of_split in expected.items():
        for name, variance in of_split.items():
            row = rows[split, f"spread_{name}"]
            assert row["value"] == pytest.approx(math.sqrt(variance) / 100, abs=1e-9), (split, name)
            assert 0 <= row["low"] <= row["value"] + 1e-9 and row["value"] <= row["high"] + 1e-9
            assert row["high"] <= 0.5
    units = [rows["fold0", f"spread_{name}"]["n"] for name in expected["fold0"]]
    assert units == [2, 4, 8, 8]
    assert rows["mean", "spread_embedding"]["n"] == 4


def test_spread_recovers_what_was_put_in(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    deviations = (0.02, 0.04, 0.01)
    paths = []
    for split in range(6):
        values = 0.5 + nested_normal(generator, (6, 8, 5), deviations) - 5
        paths.append(
            write_grid(tmp_path / f"{split}.parquet", values, f"fold{split}", networks=list(range(6)))
        )
    rows = spreads(tmp_path, *paths)
    for name, deviation in zip(("embedding", "generator", "classifier"), deviations, strict=True):
        row = rows["mean", f"spread_{name}"]
        assert row["value"] == pytest.approx(deviation, rel=0.3)
        assert row["low"] < deviation < row["high"]


def test_what_was_not_varied_has_no_spread(tmp_path: Path) -> None:
    values = np.random.default_rng(4).uniform(0.3, 0.5, size=(1, 4, 3))
    pretrained = spreads(tmp_path, write_grid(tmp_path / "grid.parquet", values, "fold0", networks=[None]))
    assert {name for _, name in pretrained} == {"spread_generator", "spread_classifier", "spread_total"}
    # No generator: two levels, of which the networks' is told by their means.
    values = np.random.default_rng(5).uniform(0.3, 0.5, size=(3, 1, 4))
    plain = spreads(
        tmp_path,
        write_grid(tmp_path / "grid.parquet", values, "fold0", networks=[0, 1, 2], generator=False),
    )
    assert {name for _, name in plain} == {"spread_embedding", "spread_classifier", "spread_total"}
    assert plain["fold0", "spread_classifier"]["value"] == pytest.approx(
        math.sqrt(values[:, 0].var(axis=1, ddof=1).mean())
    )
    assert plain["fold0", "spread_classifier"]["n"] == 12
    # One split of two: no mean.
    write_grid(tmp_path / "grid.parquet", values, "fold0", networks=[0, 1, 2], generator=False)
    other = [
        row | {"method": "other", "split": "fold1"}
        for row in tables.read(tmp_path / "grid.parquet").to_pylist()
    ]
    tables.write(tmp_path / "other.parquet", SEED_GRID, other)
    both = spreads(tmp_path, tmp_path / "grid.parquet", tmp_path / "other.parquet")
    assert {split for split, _ in both} == {"fold0", "fold1"}


def test_a_deterministic_classifier_brings_no_spread(tmp_path: Path) -> None:
    path = tmp_path / "grid.parquet"
    rows = grid(path, classifier=Prototype, options=PrototypeOptions())
    per_generator = [row["accuracy"] for row in rows][::4]
    assert len(set(per_generator)) > 1
    found = spreads(tmp_path, path)
    assert found["fold0", "spread_classifier"]["value"] == pytest.approx(0, abs=1e-12)
    assert found["fold0", "spread_generator"]["value"] == pytest.approx(np.std(per_generator, ddof=1))


def test_a_grid_that_lacks_cells_is_named(tmp_path: Path) -> None:
    values = np.full((2, 3, 2), 0.5)
    write_grid(tmp_path / "grid.parquet", values, "fold0", networks=[0, 1])
    rows = tables.read(tmp_path / "grid.parquet").to_pylist()[:-1]
    tables.write(tmp_path / "grid.parquet", SEED_GRID, rows)
    with pytest.raises(ValueError, match=r"the seed grid of .*'fold0'.* isn't balanced .*2: 1"):
        spreads(tmp_path, tmp_path / "grid.parquet")
