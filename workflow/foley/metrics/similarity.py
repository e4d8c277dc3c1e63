"""How alike two representations of the same clips are, and how often two systems say the same."""

from __future__ import annotations

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of two sets of vectors of the same clips, in float64.

    |Yc' Xc|_F^2 / (|Xc' Xc|_F |Yc' Yc|_F) with centred columns (Kornblith, Norouzi, Lee & Hinton 2019, Similarity of
    Neural Network Representations Revisited, section 3). It is 1 for one that is the other turned, scaled
    and shifted, and about 0 for unrelated ones of many more clips than dimensions.

    Args:
        x: [N, D].
        y: [N, E].

    Returns:
        0 to 1; NaN where all vectors of one are the same.

    Raises:
        ValueError: not as many vectors in one as in the other, or fewer than two.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"CKA compares two vectors of each of two clips at least, not {len(x)} and {len(y)}")
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(y.T @ x) ** 2 / scale) if scale > 0 else float("nan")


def agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Class scores [N, C] of two systems -> whether they put the same class first [N]."""
    return first.argmax(axis=1) == second.argmax(axis=1)
