"""Tests of paired differences: is one method better than another, or is it noise?

Two tests and one adjustment. Over several splits, the corrected resampled t-test asks whether the difference would
hold with other splits. Over one split, the bootstrap asks whether it would hold with other recordings of the same
classes. Holm's adjustment keeps the chance of a single false claim among all pairs below the level.
"""

from __future__ import annotations

import math

import numpy as np

# Differences are of fractions whose steps are far larger: what is smaller comes from the order of a sum.
ROUNDING = 1e-12


def corrected_t_test(differences: np.ndarray, test_train_ratio: float) -> float:
    """Two-sided p of the mean of paired differences over splits that share training data.

    The corrected resampled t-test of Nadeau & Bengio 2003 (Inference for the generalization error, Machine Learning
    52, section 4): splits that train on the same data give correlated differences d_1 ... d_J, so the variance of
    their mean is estimated as (1/J + n_test/n_train) s^2 instead of s^2/J, where s^2 is their sample variance; t has
    J - 1 degrees of freedom. The correction takes n_test / (n_test + n_train) for the correlation. That is a rule
    of thumb and no theorem: the true correlation can't be estimated from the splits themselves.

    Args:
        differences: [J] one difference per split, each a mean over seeds.
        test_train_ratio: n_test / n_train, in units that a split draws; 0 is the plain t-test.

    Returns:
        p; 1 where every difference is zero; NaN where there is no such test: with fewer than two splits, and where
        all splits differ by the same amount, which says nothing of how much splits vary.

    Raises:
        ValueError: a difference that is not finite, or a negative ratio.
    """
    from scipy.special import stdtr  # as slow to load as all the rest of a comparison

    differences = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(differences).all():
        raise ValueError(f"differences must be finite, got {differences.tolist()}")
    if not test_train_ratio >= 0:
        raise ValueError(f"test_train_ratio must be zero or more, got {test_train_ratio}")
    count = len(differences)
    if count < 2:
        return math.nan
    if np.abs(differences).max() <= ROUNDING:
        return 1.0
    deviation = differences.std(ddof=1)
    if deviation <= ROUNDING:
        return math.nan
    t = differences.mean() / (deviation * math.sqrt(1 / count + test_train_ratio))
    return float(2 * stdtr(count - 1, -abs(t)))


def bootstrap_p(draws: np.ndarray) -> float:
    """Two-sided p of a difference from its bootstrap draws: the level at which its percentile interval reaches zero.

    Twice the smaller of the shares of draws at or below zero and at or above it. Each share counts one draw more,
    (1 + count) / (1 + draws), since a p of zero can't come from finitely many draws (Phipson & Smyth 2010,
    Statistical Applications in Genetics and Molecular Biology 9:39). So p is 2 / (1 + draws) at least, and 1 for
    draws that are all zero.

    Args:
        draws: [draws]; draws without a value are left out.

    Raises:
        ValueError: no draw has a value.
    """
    valid = draws[np.isfinite(draws)]
    if not len(valid):
        raise ValueError("a bootstrap p needs draws, and none has a value")
    below, above = (valid <= ROUNDING).sum(), (valid >= -ROUNDING).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(valid))))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a family of p values (Holm 1979, Scandinavian Journal of Statistics 6).

    The i-th smallest of m is multiplied by m - i + 1, is never below the one before it, and is 1 at most. Claims with
    an adjusted p below a level are all true with a probability of at least one minus that level, whatever the
    dependence between the tests.

    Args:
        p: [m] in any order.

    Returns:
        [m] adjusted p values in the order of ``p``.

    Raises:
        ValueError: a value outside [0, 1], or NaN.
    """
    p = np.asarray(p, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values lie between 0 and 1, got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
