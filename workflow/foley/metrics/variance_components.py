"""Variance components of balanced nested designs: how much of a spread each source of randomness brings.

The model is y = mean + a + b(a) + c(ab), with independent random effects on every level. Components are estimated
by equating the mean squares of the analysis of variance to their expectations (Searle, Casella & McCulloch,
*Variance Components*, 1992, chapter 4; Henderson's method I, chapter 5, is the same for balanced data). The estimates
are unbiased whatever the effects' distribution, and may be negative.

Intervals take the effects for normal. A component is a linear combination of independent mean squares; the modified
large-sample method (Graybill & Wang, JASA 75, 1980, for sums; Ting, Burdick, Graybill, Jeyaratnam & Lu, J. Statist.
Comput. Simul. 35, 1990, with differences) keeps about the nominal coverage with few degrees of freedom, where
Satterthwaite's approximation doesn't if mean squares are subtracted. With one mean square it is the exact chi-square
interval, and the lower end of a difference of two is zero just where the F test says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Component:
    """A variance as a linear combination of independent mean squares.

    ``coefficients``, ``mean_squares`` and ``degrees`` (of freedom) [terms].
    """

    coefficients: tuple[float, ...]
    mean_squares: tuple[float, ...]
    degrees: tuple[int, ...]

    @property
    def estimate(self) -> float:
        """Unbiased, and negative now and then."""
        return math.fsum(c * m for c, m in zip(self.coefficients, self.mean_squares, strict=True))

    @property
    def variance(self) -> float:
        """The estimate, or zero where that is negative."""
        return max(0.0, self.estimate)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of the variance; ends below zero are reported as zero. See the module."""
        from scipy.special import chdtri, fdtri

        tail = (1 - level) / 2
        terms = np.array(self.coefficients) * np.array(self.mean_squares)
        degrees = np.array(self.degrees, dtype=float)
        # F with infinitely many degrees below is chi-square over its degrees.
        shrink = 1 - degrees / chdtri(degrees, tail)
        stretch = degrees / chdtri(degrees, 1 - tail) - 1
        added, taken = np.flatnonzero(terms > 0), np.flatnonzero(terms < 0)
        below = (shrink[added] * terms[added]) @ (shrink[added] * terms[added])
        below += (stretch[taken] * terms[taken]) @ (stretch[taken] * terms[taken])
        above = (stretch[added] * terms[added]) @ (stretch[added] * terms[added])
        above += (shrink[taken] * terms[taken]) @ (shrink[taken] * terms[taken])
        for q in added:
            for r in taken:
                f = fdtri(degrees[q], degrees[r], 1 - tail)
                factor = ((f - 1) ** 2 - (shrink[q] * f) ** 2 - stretch[r] ** 2) / f
                below += factor * terms[q] * -terms[r]
                f = fdtri(degrees[q], degrees[r], tail)
                factor = ((1 - f) ** 2 - (stretch[q] * f) ** 2 - shrink[r] ** 2) / f
                above += factor * terms[q] * -terms[r]
        below += _pairs(terms[added], degrees[added], shrink[added], tail)
        above += _pairs(terms[taken], degrees[taken], shrink[taken], tail)
        low = self.estimate - math.sqrt(max(0.0, below))
        high = self.estimate + math.sqrt(max(0.0, above))
        return max(0.0, low), max(0.0, high)


def _pairs(terms: np.ndarray, degrees: np.ndarray, shrink: np.ndarray, tail: float) -> float:
    """What terms of one sign add to each other's squared distance (G* and H* of Ting et al. 1990)."""
    from scipy.special import chdtri

    total = 0.0
    for q in range(len(terms)):
        for t in range(q + 1, len(terms)):
            a, b = degrees[q], degrees[t]
            both = 1 - (a + b) / chdtri(a + b, tail)
            factor = both**2 * (a + b) ** 2 / (a * b) - shrink[q] ** 2 * a / b - shrink[t] ** 2 * b / a
            total += factor / (len(terms) - 1) * terms[q] * terms[t]
    return total


@dataclass(frozen=True)
class NestedVariance:
    """Components of the levels, outermost first, and of one observation in all.

    A component is None where nothing tells it: a level of size 1 has no spread to see, and where each unit of a level
    holds a single unit of the next, the two can't be told apart. ``total`` counts these still, except for levels of
    size 1 outside of all others, which don't vary in the data: it is then the spread given that one unit.
    """

    levels: tuple[Component | None, ...]
    total: Component | None


def nested_components(values: np.ndarray) -> NestedVariance:
    """Components of a balanced nested design.

    Args:
        values: [n1, n2, ...], one axis a level, outermost first; a unit of an inner level belongs to one unit of the
            outer ones. Replicates are the innermost level.

    Raises:
        ValueError: an axis is empty, or a value isn't finite.
    """
    if values.ndim < 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"a nested design needs finite values on every level, got shape {values.shape}")
    # Levels of one unit in each unit around them merge with the level around them.
    varying = [level for level, size in enumerate(values.shape) if size > 1]
    y = values.astype(np.float64).reshape([values.shape[level] for level in varying])
    mean_squares, degrees, within = [], [], []
    for axis in range(y.ndim):
        inner = tuple(range(axis + 1, y.ndim))
        means = y.mean(axis=inner, keepdims=True)
        around = y.mean(axis=(axis, *inner), keepdims=True)
        observations = math.prod(y.shape[axis + 1 :])
        freedom = math.prod(y.shape[:axis]) * (y.shape[axis] - 1)
        mean_squares.append(float(observations * ((means - around) ** 2).sum() / freedom))
        degrees.append(freedom)
        within.append(observations)
    levels: list[Component | None] = [None] * values.ndim
    for axis, level in enumerate(varying):
        if level + 1 < values.ndim and values.shape[level + 1] == 1:
            continue
        # E[MS] of a level is that of the next one plus the level's variance times the observations in a unit.
        pair = slice(axis, axis + 2)
        signs = (1.0, -1.0)[: len(mean_squares[pair])]
        levels[level] = Component(
            tuple(sign / within[axis] for sign in signs), tuple(mean_squares[pair]), tuple(degrees[pair])
        )
    if not varying:
        return NestedVariance(tuple(levels), None)
    # The sum of all components, with like mean squares brought together: no negative coefficient remains.
    outer = [math.inf, *within[:-1]]
    shares = tuple(1 / inner - 1 / around for inner, around in zip(within, outer, strict=True))
    return NestedVariance(tuple(levels), Component(shares, tuple(mean_squares), tuple(degrees)))


def mean_component(parts: Sequence[Component]) -> Component:
    """The mean of variances that were measured independently of each other."""
    return Component(
        tuple(c / len(parts) for part in parts for c in part.coefficients),
        tuple(m for part in parts for m in part.mean_squares),
        tuple(d for part in parts for d in part.degrees),
    )
