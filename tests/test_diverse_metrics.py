"""Average precision against scikit-learn, CKA against its formula with kernels, agreement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from foley.metrics.average_precision import average_precisions, mean_average_precision
from foley.metrics.similarity import agreement, debiased_linear_cka, debiased_linear_cka_without, linear_cka


@given(st.integers(0, 400), st.integers(2, 40), st.integers(1, 4), st.booleans())
def test_average_precision_is_that_of_scikit_learn(seed: int, clips: int, classes: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((clips, classes)) < 0.3
    truth[rng.integers(clips), :] = True
    scores = rng.integers(0, 4, (clips, classes)) / 4 if ties else rng.normal(size=(clips, classes))
    wanted = [average_precision_score(truth[:, c], scores[:, c]) for c in range(classes)]
    np.testing.assert_allclose(average_precisions(truth, scores), wanted, rtol=1e-12)
    assert mean_average_precision(truth, scores) == pytest.approx(
        average_precision_score(truth, scores, average="macro")
    )


@given(st.integers(0, 400), st.booleans())
def test_weighted_average_precision_is_that_of_repeated_clips(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((25, 3)) < 0.4
    scores = rng.integers(0, 6, (25, 3)) / 6 if ties else rng.normal(size=(25, 3))
    weights = rng.multinomial(25, np.full(25, 1 / 25), size=4)
    made = average_precisions(truth, scores, weights)
    for draw, counts in enumerate(weights):
        rows = np.repeat(np.arange(25), counts)
        for c in range(3):
            if truth[rows, c].any():
                wanted = average_precision_score(truth[rows, c], scores[rows, c])
                assert made[draw, c] == pytest.approx(wanted, rel=1e-12)
            else:
                assert np.isnan(made[draw, c])


def test_a_class_without_clips_takes_no_part() -> None:
    truth, scores = np.array([[1, 0], [0, 0]]), np.array([[0.1, 0.5], [0.9, 0.4]])
    assert average_precisions(truth, scores)[0] == 0.5
    assert mean_average_precision(truth, scores) == 0.5
    assert np.isnan(mean_average_precision(truth[:, 1:], scores[:, 1:]))
    with pytest.raises(ValueError, match="scores must be finite"):
        average_precisions(truth, np.array([[np.nan, 0], [0, 0]]))
    with pytest.raises(ValueError, match="they must be alike"):
        average_precisions(truth, scores[:, :1])


def kernel_cka(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with linear kernels, in float64."""
    centre = np.eye(len(x)) - 1 / len(x)
    k, l_ = centre @ (x @ x.T) @ centre, centre @ (y @ y.T) @ centre
    return float(np.trace(k @ l_) / np.sqrt(np.trace(k @ k) * np.trace(l_ @ l_)))


@given(st.integers(0, 100), st.integers(2, 30), st.integers(1, 12), st.integers(1, 12))
def test_cka_is_its_kernel_formula(seed: int, clips: int, one: int, other: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(clips, one)) + 5
    y = rng.normal(size=(clips, other)) + x[:, :1]
    assert linear_cka(x, y) == pytest.approx(kernel_cka(x, y), rel=1e-9)
    assert linear_cka(x.astype(np.float32), y) == pytest.approx(linear_cka(x, y), rel=1e-4)


def test_cka_knows_turned_scaled_and_shifted_vectors() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6))
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert linear_cka(x, 3 * x @ turned + 7) == pytest.approx(1)
    assert linear_cka(x, rng.normal(size=(50, 6))) < 0.4
    assert np.isnan(linear_cka(x, np.ones((50, 2))))
    with pytest.raises(ValueError, match="two vectors of each of two clips"):
        linear_cka(x, x[:3])


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kernels without their diagonals, as the formula of Song et al. 2012 is written, in float64."""
    n, one = len(x), np.ones(len(x))
    k, l_ = (own @ own.T * (1 - np.eye(n)) for own in (x, y))

    def hsic(k: np.ndarray, l_: np.ndarray) -> float:
        means = (one @ k @ one) * (one @ l_ @ one) / ((n - 1) * (n - 2))
        return float((np.trace(k @ l_) + means - 2 / (n - 2) * (one @ k @ l_ @ one)) / (n * (n - 3)))

    return hsic(k, l_) / np.sqrt(hsic(k, k) * hsic(l_, l_))


@given(st.integers(0, 100), st.integers(6, 30), st.integers(1, 12), st.integers(1, 12))
def test_debiased_cka_is_its_kernel_formula(seed: int, clips: int, one: int, other: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(clips, one)) + 5
    y = rng.normal(size=(clips, other)) + x[:, :1]
    assert debiased_linear_cka(x, y) == pytest.approx(unbiased_cka(x, y), rel=1e-7, abs=1e-9)
    groups = np.arange(clips) % 2 if clips > 9 else np.arange(clips)
    wanted = [unbiased_cka(x[groups != n], y[groups != n]) for n in range(int(groups.max()) + 1)]
    np.testing.assert_allclose(debiased_linear_cka_without(x, y, groups), wanted, rtol=1e-7, atol=1e-9)


def test_debiased_cka_of_unrelated_vectors_is_about_nothing() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(400, 64)), rng.normal(size=(400, 64))) for _ in range(20)]
    assert np.mean([linear_cka(*pair) for pair in pairs]) > 0.1
    assert abs(np.mean([debiased_linear_cka(*pair) for pair in pairs])) < 0.003
    x = pairs[0][0][:50, :6]
    turned = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert debiased_linear_cka(x, 3 * x @ turned + 7) == pytest.approx(1)
    for constant in (1.0, 1e6 + 0.1):
        assert np.isnan(debiased_linear_cka(x, np.full((50, 2), constant)))
    assert np.isnan(debiased_linear_cka(x[:3], x[:3]))
    with pytest.raises(ValueError, match="two vectors of each of two clips"):
        debiased_linear_cka(x, x[:3])


def test_agreement_is_of_first_classes() -> None:
    one = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    other = np.array([[0.6, 0.4], [0.7, 0.3], [0.9, 0.1]])
    assert agreement(one, other).tolist() == [True, False, True]
