"""Does a clip sound like its prompt? Accuracy @k and mAP@10 of audio and text embeddings in one space (CLAP).

A clip ranks the texts by cosine. Accuracy @k: a text of the clip is among the first k. Average precision at 10: the
mean, over the clip's texts (10 of them at most), of the precision at each one's rank, 0 for those behind the tenth;
mAP is its mean over clips. With one text a clip it is the reciprocal of the text's rank, 0 behind the tenth. Texts that
are tied with a wrong one come after it: an encoder that says the same of everything is not rewarded.

The text's wording ("This is a sound of …") moves these figures: keep the template beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foley.metrics.by_class import check_length, on_device
from foley.metrics.vector_sets import Vectors, checked_vectors, row_blocks

RANKS = (1, 5, 10)
PRECISION_DEPTH = 10


@dataclass(frozen=True)
class PromptHits:
    """Of each clip: ``correct`` [ranks, N], a text of its own is among the first k; ``average_precision`` [N].

    Kept per clip so that intervals and paired tests can be had from them.
    """

    ranks: tuple[int, ...]
    correct: np.ndarray
    average_precision: np.ndarray


@dataclass(frozen=True)
class PromptScore:
    """Of one class (or all clips: ``class_id`` None): accuracy [ranks] and mAP, NaN for a class without clips."""

    class_id: int | None
    n: int
    accuracy: tuple[float, ...]
    mean_average_precision: float


def prompt_hits(
    audio: Vectors,
    text: Vectors,
    truth: np.ndarray,
    *,
    ranks: Sequence[int] = RANKS,
    depth: int = PRECISION_DEPTH,
    device: torch.device | None = None,
) -> PromptHits:
    """Audio [N, D] and text [C, D] embeddings of any length, and the truth, which is either the number of each clip's
    text [N] or, with several texts a clip, which texts are its own [N, C] (boolean).

    A rank beyond the number of texts counts as that number.

    Raises:
        ValueError: they do not fit, a clip has no text, or a rank is below 1.
    """
    if not ranks or min(ranks) < 1 or depth < 1:
        raise ValueError(f"ranks {tuple(ranks)} and depth {depth} must be at least 1")
    a, b = (
        checked_vectors(on_device(audio, device), "audio"),
        checked_vectors(on_device(text, device), "text"),
    )
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"audio vectors have {a.shape[-1]} dimensions, text vectors {b.shape[-1]}")
    check_length(a, truth, "audio")
    own = _membership(np.asarray(truth), len(b))
    a, b = (torch.nn.functional.normalize(part, dim=-1) for part in (a, b))
    correct: list[Tensor] = []
    precision: list[Tensor] = []
    for rows in row_blocks(a, b):
        member = torch.from_numpy(own[rows]).to(a.device)
        right = _ranked(a[rows] @ b.T, member)
        hits = right.cumsum(dim=1)
        correct.append(torch.stack([hits[:, min(k, len(b)) - 1] > 0 for k in ranks]))
        first = slice(0, min(depth, len(b)))
        places = torch.arange(1, first.stop + 1, device=a.device)
        wanted = member.sum(dim=1).clamp(max=depth)
        precision.append((hits[:, first] / places * right[:, first]).sum(dim=1) / wanted)
    return PromptHits(
        tuple(ranks), torch.cat(correct, dim=1).cpu().numpy(), torch.cat(precision).double().cpu().numpy()
    )


def prompt_scores(hits: PromptHits, truth: np.ndarray) -> list[PromptScore]:
    """Means over all clips, then over those of each class, in the order of the texts' numbers that occur.

    Args:
        truth: as for ``prompt_hits``; a clip with several texts counts in each of their classes.
    """
    truth = np.asarray(truth)
    if len(truth) != len(hits.average_precision):
        raise ValueError(f"hits of {len(hits.average_precision)} clips, but the truth of {len(truth)}")
    everything = np.ones(len(truth), bool)
    if truth.ndim == 1:
        groups = [(int(k), truth == k) for k in np.unique(truth)]
    else:
        groups = [(k, truth[:, k].astype(bool)) for k in range(truth.shape[1])]
    scores = []
    for class_id, clips in [(None, everything), *groups]:
        n = int(clips.sum())
        if n:
            accuracy = tuple(float(row[clips].mean()) for row in hits.correct)
            precision = float(hits.average_precision[clips].mean())
        else:
            accuracy, precision = (float("nan"),) * len(hits.ranks), float("nan")
        scores.append(PromptScore(class_id, n, accuracy, precision))
    return scores


def _membership(truth: np.ndarray, texts: int) -> np.ndarray:
    """[N, C] which texts are a clip's own."""
    if truth.ndim == 2 and truth.shape[1] == texts and truth.dtype == bool:
        own = truth
    elif truth.ndim == 1 and np.issubdtype(truth.dtype, np.integer):
        if len(truth) and not 0 <= truth.min() <= truth.max() < texts:
            raise ValueError(f"truth names texts {truth.min()} to {truth.max()}, but there are {texts}")
        own = truth[:, None] == np.arange(texts)
    else:
        raise ValueError(
            f"truth must be whole numbers [N] or booleans [N, {texts}], not {truth.dtype} {list(truth.shape)}"
        )
    without = np.flatnonzero(~own.any(axis=1))
    if len(without):
        raise ValueError(f"{len(without)} clips have no text of their own, the first is number {without[0]}")
    return own


def _ranked(scores: Tensor, own: Tensor) -> Tensor:
    """Scores and membership [N, C] -> membership in falling order of the scores, own texts last among equals."""
    order = own.to(torch.uint8).argsort(dim=1, stable=True)
    order = order.gather(1, (-scores.gather(1, order)).argsort(dim=1, stable=True))
    return own.gather(1, order).long()
