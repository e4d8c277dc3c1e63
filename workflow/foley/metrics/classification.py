"""Accuracy, recall, precision and the generalised zero-shot harmonic mean, for many seeds at once."""

from __future__ import annotations

import numpy as np

from foley.metrics.bootstrap import Resamples


def one_hot(classes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Class ids [N] -> membership [N, C] in the order of ``known``."""
    return classes[:, None] == known[None, :]


def accuracy(correct: np.ndarray) -> np.ndarray:
    """Correct [seeds, N] -> accuracy of each seed [seeds]."""
    return correct.mean(axis=1)


def recalls(correct: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Correct [seeds, N] and true ids [N] -> recall of each class [seeds, C]; NaN for a class without clips."""
    member = one_hot(truth, known).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return (correct @ member) / member.sum(axis=0)


def precisions(correct: np.ndarray, predicted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Correct and predicted ids [seeds, N] -> precision of each class [seeds, C]; NaN where it was never said."""
    said = predicted[:, :, None] == known[None, None, :]  # [seeds, N, C]
    with np.errstate(invalid="ignore"):
        return (correct[:, :, None].astype(bool) & said).sum(axis=1) / said.sum(axis=1)


def harmonic_mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """2ab / (a + b), zero where both are, NaN where either is."""
    total = a + b
    return np.divide(2 * a * b, total, out=np.zeros_like(total, dtype=np.float64), where=total != 0)


def accuracy_draws(correct: np.ndarray, resamples: Resamples) -> np.ndarray:
    """Correct [seeds, N] -> accuracy in each draw, averaged over seeds [draws]; NaN where no clip was drawn."""
    per_clip = correct.mean(axis=0)
    with np.errstate(invalid="ignore"):
        return resamples.sums(per_clip) / resamples.sums(np.ones_like(per_clip))


def recall_draws(
    correct: np.ndarray, truth: np.ndarray, known: np.ndarray, resamples: Resamples
) -> np.ndarray:
    """Recall of each class in each draw, averaged over seeds [draws, C]; NaN where no clip of it was drawn."""
    member = one_hot(truth, known).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return resamples.sums(member * correct.mean(axis=0)[:, None]) / resamples.sums(member)


def macro_draws_per_seed(
    correct: np.ndarray, truth: np.ndarray, known: np.ndarray, resamples: Resamples
) -> np.ndarray:
    """Mean recall over classes in each draw, seed by seed [seeds, draws]; classes without a drawn clip left out."""
    draws = len(resamples.weights)
    total, drawn = np.zeros((len(correct), draws)), np.zeros(draws)
    for class_id in known:
        clips = truth == class_id
        # Only the class's own recordings count: a product of all with all would be mostly zeros.
        own, recording = np.unique(resamples.recording[clips], return_inverse=True)
        part = Resamples(resamples.weights[:, own], recording)
        right, counts = part.sums(correct[:, clips].T), part.sums(np.ones(int(clips.sum())))
        total += np.divide(right.T, counts, out=np.zeros_like(total), where=counts > 0)
        drawn += counts > 0
    with np.errstate(invalid="ignore"):
        return total / drawn


def class_recalls(truth: np.ndarray, said: np.ndarray, known: np.ndarray) -> np.ndarray:
    """True ids [N] and ids that each seed said [seeds, N] -> recall of each class [seeds, C]; NaN without clips."""
    return recalls(said == truth, truth, known)


def uar(truth: np.ndarray, said: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Unweighted average recall of each seed [seeds]: the mean over classes that have clips (Schuller et al. 2009).

    Args:
        truth: [N] class ids. said: [seeds, N] class ids. known: [C] the classes.
    """
    found = class_recalls(truth, said, known)
    has_clips = np.isin(known, truth)
    if not has_clips.any():
        return np.full(len(said), np.nan)
    return found[:, has_clips].mean(axis=1)


def weighted_f1(truth: np.ndarray, said: np.ndarray, known: np.ndarray) -> np.ndarray:
    """F1 of each class, weighted by its true clips, of each seed [seeds]; arguments as for ``uar``.

    A class that has clips and was never said has an F1 of 0.
    """
    return _weighted_f1(*(x.sum(axis=0) for x in _counted(truth, said, known)))


def uar_draws_per_seed(
    truth: np.ndarray, said: np.ndarray, known: np.ndarray, resamples: Resamples
) -> np.ndarray:
    """Unweighted average recall in each draw, seed by seed [seeds, draws]; classes without a drawn clip left out."""
    return macro_draws_per_seed(said == truth, truth, known, resamples)


def weighted_f1_draws_per_seed(
    truth: np.ndarray, said: np.ndarray, known: np.ndarray, resamples: Resamples
) -> np.ndarray:
    """Weighted F1 in each draw, seed by seed [seeds, draws]."""
    return _weighted_f1(*map(resamples.sums, _counted(truth, said, known))).T


def _counted(
    truth: np.ndarray, said: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each clip whether it is of a class and was called that, was called that, is that: each [N, seeds, C]."""
    called = said.T[:, :, None] == known
    member = np.broadcast_to(one_hot(truth, known)[:, None, :], called.shape)
    return member & called, called, member


def _weighted_f1(hits: np.ndarray, called: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Sums over clips, each [..., C] -> [...]; NaN where no clip is of any class."""
    total = np.asarray(called + members, dtype=np.float64)
    f1 = np.divide(2.0 * hits, total, out=np.zeros_like(total), where=total > 0)
    with np.errstate(invalid="ignore"):
        return (f1 * members).sum(axis=-1) / members.sum(axis=-1)
