"""How alike two representations of the same clips are, and how often two systems say the same."""

from __future__ import annotations

import numpy as np

_ROUNDING = 1e-12


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of two sets of vectors of the same clips, in float64.

    |Yc' Xc|_F^2 / (|Xc' Xc|_F |Yc' Yc|_F) with centred columns (Kornblith, Norouzi, Lee & Hinton 2019, Similarity of
    Neural Network Representations Revisited, section 3). It is 1 for one that is the other turned, scaled
    and shifted, and about 0 for unrelated ones of many more clips than dimensions.

    Args:
        x: [N, D].
        y: [N, E].

    Returns:
        0 to 1, too high with few clips (`debiased_linear_cka`); NaN where all vectors of one are the same.

    Raises:
        ValueError: not as many vectors in one as in the other, or fewer than two.
    """
    x, y = _centred(x, y)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / scale) if scale > 0 else float("nan")


def debiased_linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA from unbiased estimates of the Hilbert-Schmidt independence criterion, in float64.

    HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)), each by Song et al. 2012 (Feature Selection via Dependence Maximization,
    theorem 2), as Nguyen, Raghu & Kornblith 2021 (Do Wide and Deep Networks Learn the Same Things?, section 2) take
    them. Unrelated vectors have about 0 however few clips there are for their dimensions.

    Args:
        x: [N, D].
        y: [N, E].

    Returns:
        At most about 1, and below 0 by chance; NaN for fewer than four clips, or where all vectors of one are the same.

    Raises:
        ValueError: as `linear_cka`.
    """
    return float(_debiased(x, y, np.zeros(len(x), dtype=np.int64), leave_out=False)[0])


def debiased_linear_cka_without(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """`debiased_linear_cka` of the clips that are left without each group in turn [G]; ``groups`` [N] from 0 to G - 1.

    All that it is made of are sums over clips, so each is had from the whole less a group.
    """
    return _debiased(x, y, groups, leave_out=True)


def _debiased(x: np.ndarray, y: np.ndarray, groups: np.ndarray, leave_out: bool) -> np.ndarray:
    x, y = _centred(x, y)  # a shift changes nothing but rounding
    found = []
    for a, b in ((x, y), (x, x), (y, y)):
        sums = _group_sums(a, b, groups)
        found.append(
            _unbiased_hsic([own.sum(axis=0, keepdims=True) - own if leave_out else own for own in sums])
        )
    between, of_x, of_y = found
    # Of vectors that are all the same rounding leaves next to nothing.
    varied = (of_x > _ROUNDING * _spread(x) ** 2) & (of_y > _ROUNDING * _spread(y) ** 2)
    return np.where(varied, between / np.sqrt(np.where(varied, of_x * of_y, 1)), np.nan)


def _spread(x: np.ndarray) -> float:
    return float(np.square(x).sum() / len(x))


def _group_sums(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Of each group: clips; sums of x y', of x and of y; of x and y times the other's squared length; of the product of
    both, and of each, squared length."""
    count = int(groups.max()) + 1
    k, l_ = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    products = np.zeros((count, x.shape[1], y.shape[1]))
    for number in range(count):
        own = groups == number
        products[number] = x[own].T @ y[own]

    def summed(values: np.ndarray) -> np.ndarray:
        out = np.zeros((count, *values.shape[1:]))
        np.add.at(out, groups, values)
        return out

    columns = (x, y, x * l_[:, None], y * k[:, None], k * l_, k, l_)
    return [np.bincount(groups, minlength=count).astype(np.float64), products, *map(summed, columns)]


def _unbiased_hsic(sums: list[np.ndarray]) -> np.ndarray:
    """The estimator of Song et al. for linear kernels K and L without their diagonals, from sums [G, ...]:

    (tr KL + 1'K1 1'L1 / ((n - 1)(n - 2)) - 2 / (n - 2) 1'KL1) / (n (n - 3)).
    """
    n, products, u, v, p, q, both, of_x, of_y = sums
    trace = np.square(products).sum(axis=(1, 2)) - both
    totals = (np.square(u).sum(axis=1) - of_x) * (np.square(v).sum(axis=1) - of_y)
    rows = np.einsum("gd,gde,ge->g", u, products, v) - (u * p).sum(axis=1) - (q * v).sum(axis=1) + both
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (trace + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * rows) / (n * (n - 3))
    return np.where(n > 3, found, np.nan)


def _centred(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"CKA compares two vectors of each of two clips at least, not {len(x)} and {len(y)}")
    return x - x.mean(axis=0), y - y.mean(axis=0)


def agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Class scores [N, C] of two systems -> whether they put the same class first [N]."""
    return first.argmax(axis=1) == second.argmax(axis=1)
