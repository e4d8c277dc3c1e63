"""Mean average precision of multi-label scores, as FSD50K's evaluation computes it, and its bootstrap draws.

Average precision of a class is the sum over thresholds of (R_n - R_{n-1}) P_n, clips with equal scores being one
threshold (`sklearn.metrics.average_precision_score`); mAP is its unweighted mean over classes (Fonseca et al. 2022,
section V-B: macro-averaged, all classes alike). A class without a positive clip has no average precision.
"""

from __future__ import annotations

import numpy as np


def average_precisions(
    truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Average precision of each class.

    Args:
        truth: [N, C] zeros and ones.
        scores: [N, C], higher is surer.
        weights: [B, N] how often each clip counts in each of B draws; once when left out.

    Returns:
        [C], or [B, C] with weights; NaN for a class without a positive clip (in a draw).
    """
    truth = np.asarray(truth, dtype=bool)
    if truth.shape != np.shape(scores):
        raise ValueError(f"truth is {truth.shape}, scores are {np.shape(scores)}: they must be alike")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite numbers")
    counts = np.ones((1, len(truth))) if weights is None else np.asarray(weights, dtype=np.float64)
    found = np.full((len(counts), truth.shape[1]), np.nan)
    for number in range(truth.shape[1]):
        found[:, number] = _of_class(truth[:, number], np.asarray(scores)[:, number], counts)
    return found[0] if weights is None else found


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """The mean over classes with a positive clip; NaN where there is none."""
    each = average_precisions(truth, scores)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def _of_class(truth: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average precision in each draw [B]."""
    if not truth.any():
        return np.full(len(counts), np.nan)
    order = np.argsort(-scores, kind="stable")
    ordered, positive = scores[order], truth[order]
    # A threshold takes in all clips of one score; only those with a positive clip among them add anything.
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    group = np.searchsorted(last, np.arange(len(ordered)))
    ends = last[np.unique(group[positive])]
    begins = np.concatenate([[0], ends[:-1] + 1])
    # Clips up to each of these thresholds, and positive ones between them.
    drawn = counts[:, order]
    up_to = np.add.reduceat(drawn, begins, axis=1)
    if ends[-1] + 1 < drawn.shape[1]:
        up_to[:, -1] = drawn[:, begins[-1] : ends[-1] + 1].sum(axis=1)
    right = np.add.reduceat(drawn[:, positive], _firsts(positive, begins), axis=1)
    found, hits = np.cumsum(up_to, axis=1), np.cumsum(right, axis=1)
    precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
    total = hits[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (right * precision).sum(axis=1) / total, np.nan)


def _firsts(positive: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Where among the positive clips each stretch begins."""
    before = np.concatenate([[0], np.cumsum(positive)])
    return before[begins]
