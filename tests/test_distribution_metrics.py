"""Distances between sets of vectors, each against an independent reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cosine as scipy_cosine
from scipy.spatial.distance import pdist
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from foley.metrics import vector_sets
from foley.metrics.cosine import cosine_of_means
from foley.metrics.frechet import covariance_of, frechet_distance, frechet_of_moments
from foley.metrics.manifold import compare_manifolds, neighbour_distances
from foley.metrics.mmd import GaussianKernel, PolynomialKernel, squared_mmd


def sets(real: int, made: int, dim: int, seed: int = 0, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Correlated vectors of unlike spread, the second set moved."""
    generator = np.random.default_rng(seed)
    mixes = [generator.normal(size=(dim, dim)) / math.sqrt(dim) for _ in range(2)]
    a = generator.normal(size=(real, dim)) @ mixes[0]
    return a, generator.normal(size=(made, dim)) @ mixes[1] + shift


def gaussian_mmd(x: Tensor, y: Tensor) -> Tensor:
    return squared_mmd(x, y, GaussianKernel.of(x))


def polynomial_mmd(x: Tensor, y: Tensor) -> Tensor:
    return squared_mmd(x, y, PolynomialKernel())


def frechet_shrunk(x: Tensor, y: Tensor) -> Tensor:
    return frechet_distance(x, y, covariance="shrunk")


def manifolds(x: Tensor, y: Tensor) -> Tensor:
    found = compare_manifolds(x, y)
    return torch.stack([found.precision, found.recall, found.density, found.coverage], dim=-1)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "frechet": frechet_distance,
    "frechet, shrunk": frechet_shrunk,
    "mmd, gaussian": gaussian_mmd,
    "mmd, polynomial": polynomial_mmd,
    "manifolds": manifolds,
    "cosine": cosine_of_means,
}

# Fréchet distance


def plain_frechet(a: np.ndarray, cov_a: np.ndarray, b: np.ndarray, cov_b: np.ndarray) -> float:
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


@pytest.mark.parametrize("shape", [(60, 50, 8), (9, 9, 8), (200, 30, 25)])
def test_frechet_distance_is_that_by_a_matrix_root(shape: tuple[int, int, int]) -> None:
    x, y = sets(*shape)
    wanted = plain_frechet(x, np.cov(x.T), y, np.cov(y.T))
    assert frechet_distance(x, y).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("shape", [(60, 50, 8), (6, 9, 40), (12, 5, 17), (2, 2, 30)])
def test_shrunk_covariances_are_those_of_scikit_learn(shape: tuple[int, int, int]) -> None:
    x, y = sets(*shape)
    shrunk = [ledoit_wolf(part)[0] for part in (x, y)]
    np.testing.assert_allclose(covariance_of(torch.from_numpy(x), "shrunk"), shrunk[0], atol=1e-7)
    wanted = plain_frechet(x, shrunk[0], y, shrunk[1])
    assert frechet_distance(x, y, covariance="shrunk").item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("shape", [(5, 7, 20), (12, 10, 20), (5, 60, 20)])
def test_frechet_distance_of_singular_covariances(shape: tuple[int, int, int]) -> None:
    # tr((A B)^(1/2)) is the sum of the singular values of the product of the centred rows: no matrix root at all.
    x, y = sets(*shape)
    rows = [(part - part.mean(0)) / math.sqrt(len(part) - 1) for part in (x, y)]
    root = np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum()
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum((part**2).sum() for part in rows) - 2 * root
    assert frechet_distance(x, y).item() == pytest.approx(wanted, rel=1e-8)


def test_frechet_distance_of_known_gaussians() -> None:
    # Covariances that commute: the squared difference of deviations, dimension by dimension.
    a, b = torch.tensor([4.0, 9.0, 0.0]).double(), torch.tensor([1.0, 16.0, 25.0]).double()
    means = torch.tensor([1.0, 2.0, 3.0]).double(), torch.zeros(3).double()
    wanted = 14 + 1 + 1 + 25
    assert frechet_of_moments(means[0], a.diag(), means[1], b.diag()).item() == pytest.approx(wanted)


# Maximum mean discrepancy


def looped_mmd(x: np.ndarray, y: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], float]) -> float:
    n, m = len(x), len(y)
    total = 0.0
    for i in range(n):
        for j in range(n):
            total += kernel(x[i], x[j]) / (n * (n - 1)) if i != j else 0
    for i in range(m):
        for j in range(m):
            total += kernel(y[i], y[j]) / (m * (m - 1)) if i != j else 0
    for i in range(n):
        for j in range(m):
            total -= 2 * kernel(x[i], y[j]) / (n * m)
    return total


@pytest.mark.parametrize("block", [1, 30, 10_000])
def test_discrepancy_is_the_double_sum(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_sets, "BLOCK", block)  # rows at a time change nothing
    x, y = sets(9, 12, 5)
    width = np.median(pdist(x))
    kernel = GaussianKernel.of(x)
    assert kernel.bandwidth.item() == pytest.approx(width, rel=1e-12)
    wanted = looped_mmd(x, y, lambda a, b: math.exp(-((a - b) ** 2).sum() / (2 * width**2)))
    assert squared_mmd(x, y, kernel).item() == pytest.approx(wanted, rel=1e-10)
    wanted = looped_mmd(x, y, lambda a, b: (a @ b / 5 + 1) ** 3)
    assert squared_mmd(x, y, PolynomialKernel()).item() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("measure", [gaussian_mmd, polynomial_mmd])
def test_discrepancy_is_unbiased(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    # Of one distribution its mean is 0 even for sets of 5 and 9, where the biased form has well above 0.
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 5, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(4000, 9, 3, generator=generator, dtype=torch.float64)
    kernel = PolynomialKernel() if measure is polynomial_mmd else GaussianKernel(torch.tensor(2.0))
    values = squared_mmd(x, y, kernel)
    error = values.std().item() / math.sqrt(4000)
    assert abs(values.mean().item()) < 4 * error
    assert values.min() < 0 < values.max()


def test_bandwidth_of_many_vectors_is_that_of_some() -> None:
    x, _ = sets(500, 2, 4)
    some = GaussianKernel.of(x, most=60).bandwidth.item()
    assert some == pytest.approx(np.median(pdist(x[np.linspace(0, 499, 60).astype(int)])))
    assert some == pytest.approx(np.median(pdist(x)), rel=0.1)


def test_kernel_of_vectors_that_do_not_vary_is_the_limit() -> None:
    x = np.ones((4, 3))
    assert GaussianKernel.of(x).bandwidth.item() == 0
    y = np.array([[1.0, 1, 1], [1, 1, 1], [0, 0, 0], [2, 2, 2]])
    # 1 within the real ones, 1 of 6 pairs within the others, half of the pairs across.
    assert gaussian_mmd(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(1 + 1 / 6 - 1)
    assert gaussian_mmd(torch.from_numpy(x), torch.from_numpy(x)).item() == 0
    # One doubled vector does not count.
    doubled = np.concatenate([y[1:], y[1:2]])
    assert GaussianKernel.of(doubled).bandwidth.item() == pytest.approx(
        np.median(pdist(doubled)[pdist(doubled) > 0])
    )


# Manifolds


@pytest.mark.parametrize("block", [1, 40, 10_000])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_manifolds_are_those_by_nearest_neighbours(
    k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_sets, "BLOCK", block)
    x, y = sets(30, 22, 3, seed=3)

    def tree(of: np.ndarray) -> tuple[NearestNeighbors, np.ndarray]:
        found = NearestNeighbors(algorithm="kd_tree").fit(of)
        return found, found.kneighbors(of, k + 1)[0][:, k]

    (x_tree, x_radius), (y_tree, y_radius) = tree(x), tree(y)
    np.testing.assert_allclose(neighbour_distances(torch.from_numpy(x), k), x_radius)
    # For each ball the vectors of the other set in it.
    in_real = [set(y_tree.radius_neighbors([c], r)[1][0]) for c, r in zip(x, x_radius, strict=True)]
    in_made = [set(x_tree.radius_neighbors([c], r)[1][0]) for c, r in zip(y, y_radius, strict=True)]
    found = compare_manifolds(x, y, k)
    assert found.precision.item() == pytest.approx(len(set().union(*in_real)) / 22)
    assert found.recall.item() == pytest.approx(len(set().union(*in_made)) / 30)
    assert found.density.item() == pytest.approx(sum(map(len, in_real)) / (k * 22))
    assert found.coverage.item() == pytest.approx(np.mean([bool(ball) for ball in in_real]))
    assert 0 < found.recall < 1 and 0 < found.precision < 1  # or nothing was tested


def test_density_and_coverage_expected_of_one_distribution() -> None:
    # Naeem et al. 2020, lemmas 1 and 2: density 1; coverage 1 - (M - 1)…(M - k) / (M + N - 1)…(M + N - k), N real ones.
    generator = torch.Generator().manual_seed(0)
    n, k, trials = 16, 3, 1500
    x, y = (torch.randn(trials, n, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    found = compare_manifolds(x, y, k)
    wanted = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    for values, expected in ((found.density, 1.0), (found.coverage, wanted)):
        assert abs(values.mean().item() - expected) < 4 * values.std().item() / math.sqrt(trials)


def test_manifolds_tell_invention_from_monotony() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(200, 2, generator=generator)
    few = 0.05 * torch.randn(200, 2, generator=generator)  # always the same, and right
    wide = 6 * torch.randn(200, 2, generator=generator)  # everything, and mostly wrong
    assert compare_manifolds(real, few).precision > 0.95
    assert compare_manifolds(real, few).recall < 0.05 and compare_manifolds(real, few).coverage < 0.2
    assert compare_manifolds(real, wide).precision < 0.3 < 0.7 < compare_manifolds(real, wide).recall


# Cosine


def test_cosine_of_means_is_that_of_scipy() -> None:
    x, y = sets(7, 4, 6)
    centre = np.arange(6.0)
    wanted = 1 - scipy_cosine(x.mean(0) - centre, y.mean(0) - centre)
    assert cosine_of_means(x, y, centre).item() == pytest.approx(wanted)
    assert cosine_of_means(x, y).item() == pytest.approx(1 - scipy_cosine(x.mean(0), y.mean(0)))


def test_cosine_of_a_mean_that_is_the_centre_is_zero() -> None:
    x = np.array([[1.0, 0.0], [3.0, 0.0]])
    assert cosine_of_means(x, x + 1, np.array([2.0, 0.0])).item() == 0
    assert cosine_of_means(x, x, np.zeros(2)).item() == 1


# What all share


@given(
    sizes=st.tuples(st.integers(4, 12), st.integers(4, 12), st.integers(1, 20)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25)
def test_order_and_place_of_vectors_do_not_matter(sizes: tuple[int, int, int], seed: int) -> None:
    x, y = map(torch.from_numpy, sets(*sizes, seed))
    generator = torch.Generator().manual_seed(seed)
    turned = torch.linalg.qr(torch.randn(sizes[2], sizes[2], generator=generator, dtype=torch.float64)).Q
    for name, measure in MEASURES.items():
        value = measure(x, y)
        mixed = measure(
            x[torch.randperm(len(x), generator=generator)], y[torch.randperm(len(y), generator=generator)]
        )
        torch.testing.assert_close(mixed, value, rtol=1e-6, atol=1e-6, msg=name)
        if name != "manifolds":  # whose edges a rotation's rounding may cross
            torch.testing.assert_close(measure(x @ turned, y @ turned), value, rtol=1e-6, atol=1e-6, msg=name)
        if name.startswith("frechet"):
            torch.testing.assert_close(measure(x + 3, y + 3), value, rtol=1e-6, atol=1e-6, msg=name)
        if name not in ("manifolds", "mmd, gaussian"):  # the kernel is that of the real ones
            torch.testing.assert_close(measure(y, x), value, rtol=1e-6, atol=1e-6, msg=name)
    kernel = GaussianKernel.of(x)
    torch.testing.assert_close(squared_mmd(x, y, kernel), squared_mmd(y, x, kernel))
    here, there = compare_manifolds(x, y), compare_manifolds(y, x)
    assert (here.precision, here.recall) == (there.recall, there.precision)


@given(
    n=st.integers(4, 12),
    dim=st.integers(1, 20),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25)
def test_a_set_is_like_itself(n: int, dim: int, scale: float, seed: int) -> None:
    x, other = (scale * torch.from_numpy(part) for part in sets(n, n, dim, seed))
    for covariance in ("sample", "shrunk"):
        itself = frechet_distance(x, x, covariance=covariance).item()  # type: ignore[arg-type]
        assert 0 <= itself < 1e-6 * x.var(dim=0).sum().item()
        assert itself < frechet_distance(x, other + scale, covariance=covariance).item()  # type: ignore[arg-type]
    found = compare_manifolds(x, x)
    assert found.precision == found.recall == found.coverage == 1
    assert found.density >= 1  # each vector lies in its own ball and k - 1 others or more, on average
    assert cosine_of_means(x, x, x.mean(dim=0) + 1).item() == pytest.approx(1)
    # Unbiased: a set against itself is at most 0, by what its equal pairs add.
    assert gaussian_mmd(x, x).item() <= 1e-12
    assert gaussian_mmd(x, x + 100 * scale).item() > 0.5


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("dim", [3, 40])
def test_a_batch_is_its_parts(name: str, dim: int) -> None:
    measure = MEASURES[name]
    x = torch.from_numpy(np.stack([sets(8, 5, dim, seed)[0] for seed in range(3)]))
    y = torch.from_numpy(np.stack([sets(8, 5, dim, seed)[1] for seed in range(3)]))
    together = measure(x, y)
    shared = measure(x[0], y)
    for number in range(3):
        torch.testing.assert_close(together[number], measure(x[number], y[number]), rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(shared[number], measure(x[0], y[number]), rtol=1e-7, atol=1e-7)
    # Single precision in, double inside.
    assert measure(x.float(), y.float()).dtype == torch.float64


@pytest.mark.parametrize("name", MEASURES)
def test_vectors_that_do_not_vary(name: str) -> None:
    x, y = torch.ones(5, 3), torch.full((6, 3), 3.0)
    wanted = {
        "frechet": 12.0,
        "frechet, shrunk": 12.0,
        "mmd, gaussian": 2.0,
        "mmd, polynomial": 2.0**3 + 10.0**3 - 2 * 4.0**3,
        "manifolds": [0.0, 0.0, 0.0, 0.0],
        "cosine": 1.0,
    }[name]
    torch.testing.assert_close(
        MEASURES[name](x, y), torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("name", MEASURES)
def test_bad_vectors_are_refused(name: str) -> None:
    measure = MEASURES[name]
    good = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    if name != "cosine":
        with pytest.raises(ValueError, match="1 real vectors: this measure needs"):
            measure(good[:1], good)
        with pytest.raises(ValueError, match="1 synthetic vectors: this measure needs"):
            measure(good, good[:1])
    else:
        with pytest.raises(ValueError, match="0 synthetic vectors: this measure needs 1"):
            measure(good, good[:0])
    with pytest.raises(ValueError, match="3 dimensions, synthetic ones 2"):
        measure(good, good[:, :2])
    with pytest.raises(ValueError, match="synthetic vectors are not finite"):
        measure(good, good.where(good < good.max(), torch.inf))
    with pytest.raises(ValueError, match=r"not of shape \[6\]"):
        measure(good[:, 0], good)


def test_k_must_fit() -> None:
    x, y = sets(4, 9, 2)
    assert compare_manifolds(x, y, 3).precision.shape == ()
    with pytest.raises(ValueError, match="needs 5"):
        compare_manifolds(x, y, 4)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        compare_manifolds(x, y, 0)
