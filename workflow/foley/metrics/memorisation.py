"""Is a synthetic clip a copy of a training clip? And do the clips of a class differ among themselves?

**Memorisation.** The distance of a synthetic clip to its nearest training clip says little alone: some sounds are all
alike. It is held against how near real clips lie to *their* nearest other training clip (of another recording, where
recordings are known: two cuts of one recording are not two sounds). The share of real clips that lie at least as near,
(1 + number) / (n + 1), is the p-value of "this clip is as new as a real one" (Vovk et al. 2005, conformal prediction;
Meehan, Chaudhuri & Dasgupta 2020, "A non-parametric test to detect data-copying in generative models", compare the
same distances over whole sets). A clip is flagged where it is at most ``level``. So of new real clips, too, about
that part is flagged with many recordings, and more with few (training clips look for a neighbour among one recording
fewer than new clips do): what speaks of memorisation is a flagged part well above that of real clips that no generator
has heard, and each flagged clip wants to be heard.
With fewer than 1 / ``level`` - 1 real clips to compare with no clip can be flagged, however near; a class of so few has
no flagged part, and takes no part in that of all classes.

**Diversity** within a class: the mean cosine distance of its pairs, and the Vendi score, exp of the entropy of the
eigenvalues of K / n, K the cosine similarities (Friedman & Dieng 2023, "The Vendi score"): the number of
clips that differ, from 1 to n. It grows with n: compare equal numbers.

A vector of zeros has no direction; it counts as equal to others of its kind and orthogonal to the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from foley.metrics.by_class import check_length, everything, on_device, row_groups
from foley.metrics.manifold import EDGE, pairwise_distances
from foley.metrics.vector_sets import Vectors, checked_pair, checked_vectors, row_blocks

Distance = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class Nearest:
    """Of each of N vectors: ``distance`` [N] to the nearest other (infinite if there is none) and its ``row`` [N]."""

    distance: np.ndarray
    row: np.ndarray


@dataclass(frozen=True)
class Memorised:
    """Of each synthetic clip [M]: the nearest training clip's distance and row, p-value, and the flag.

    ``real`` is what the training clips themselves have: distance to the nearest other one [N].
    """

    nearest: Nearest
    real: Nearest
    p_value: np.ndarray
    flagged: np.ndarray


@dataclass(frozen=True)
class MemorisationScore:
    """Of one class (or all: ``class_id`` None): median nearest distances, and the part that is flagged.

    ``level`` is the part that would be flagged of new real clips, were there many recordings. ``judged`` counts the
    clips that the flagged part is of: those of classes with enough real clips for a flag; NaN where there are none.
    """

    class_id: int | None
    n_real: int
    n_made: int
    judged: int
    median_distance: float
    median_real_distance: float
    flagged: float
    level: float
    warning: str


@dataclass(frozen=True)
class DiversityScore:
    """Of one class (``class_id`` None: mean over classes): NaN with fewer than two clips."""

    class_id: int | None
    n: int
    cosine_distance: float
    vendi: float


def nearest_vectors(
    vectors: Vectors,
    others: Vectors,
    *,
    distance: Distance = "cosine",
    groups: np.ndarray | None = None,
    other_groups: np.ndarray | None = None,
    device: torch.device | None = None,
) -> Nearest:
    """The nearest of ``others`` [M, D] to each of ``vectors`` [N, D], block by block; of equal ones the first.

    Args:
        groups, other_groups: [N] and [M]; vectors of one group are not held against each other.

    Raises:
        ValueError: they do not fit, or only one of the groups is given; see ``checked_pair``.
    """
    if (groups is None) != (other_groups is None):
        raise ValueError("groups of only one of the sets: give both or neither")
    check_length(vectors, groups, "real")
    check_length(others, other_groups, "other")
    x, y = checked_pair(on_device(vectors, device), on_device(others, device))
    if distance == "cosine":
        x, y = unit_vectors(x), unit_vectors(y)
    mine = theirs = None
    if groups is not None and other_groups is not None:
        both = np.unique(np.concatenate([groups, other_groups]), return_inverse=True)[1]
        mine, theirs = (torch.from_numpy(g).to(x.device) for g in (both[: len(x)], both[len(x) :]))
    found, rows = [], []
    for block in row_blocks(x, y):
        apart = pairwise_distances(x[block], y)
        if mine is not None and theirs is not None:
            apart.masked_fill_(mine[block, None] == theirs, torch.inf)
        least = apart.amin(dim=1)
        first = (apart <= least[:, None] * (1 + EDGE)).to(torch.uint8).argmax(dim=1)
        # From the difference, to all digits.
        exact = (x[block] - y[first]).norm(dim=1)
        found.append(torch.where(torch.isinf(least), least, exact))
        rows.append(first)
    nearest = torch.cat(found)
    if distance == "cosine":
        nearest = nearest.square() / 2  # of unit vectors: 1 - cos, exactly 0 for equal ones
    return Nearest(nearest.cpu().numpy(), torch.cat(rows).cpu().numpy())


def find_memorised(
    real: Vectors,
    made: Vectors,
    *,
    real_recordings: np.ndarray | None = None,
    real_classes: np.ndarray | None = None,
    made_classes: np.ndarray | None = None,
    distance: Distance = "cosine",
    level: float = 0.05,
    device: torch.device | None = None,
) -> Memorised:
    """Training clips' [N, D] and synthetic clips' [M, D] embeddings -> which of the latter lie suspiciously near.

    Neighbours are sought among all training clips. With classes a synthetic clip is held against the real clips of its
    own class, since classes differ in how alike their sounds are.

    Args:
        real: the clips that the generator was trained on.
        real_recordings: [N] clips of one recording are not held against each other; left out, each is its own.
        level: part of new real clips that would be flagged, about, with many recordings.

    Raises:
        ValueError: fewer than two training clips, they do not fit, or ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    if (real_classes is None) != (made_classes is None):
        raise ValueError("classes of only one of the sets: give real_classes and made_classes, or neither")
    check_length(real, real_classes, "real")
    check_length(made, made_classes, "synthetic")
    x = checked_vectors(on_device(real, device), "real", least=2)
    recordings = np.arange(len(x)) if real_recordings is None else real_recordings
    among = nearest_vectors(
        x, x, distance=distance, groups=recordings, other_groups=recordings, device=x.device
    )
    nearest = nearest_vectors(made, x, distance=distance, device=x.device)
    p_value = np.ones(len(nearest.distance))
    if real_classes is None or made_classes is None:
        groups = [(np.arange(len(x)), np.arange(len(p_value)))]
    else:
        groups = [
            (a, b) for class_id, (a, b) in row_groups(real_classes, made_classes) if class_id is not None
        ]
    for a, b in groups:
        compared = np.sort(among.distance[a][np.isfinite(among.distance[a])])
        nearer = np.searchsorted(compared, nearest.distance[b], side="right")
        p_value[b] = (1 + nearer) / (1 + len(compared))
    return Memorised(nearest, among, p_value, p_value <= level)


def memorisation_scores(
    found: Memorised,
    *,
    level: float = 0.05,
    real_classes: np.ndarray | None = None,
    made_classes: np.ndarray | None = None,
) -> list[MemorisationScore]:
    """Over all synthetic clips, then, given the classes that ``find_memorised`` had, over those of each class."""
    if real_classes is None or made_classes is None:
        groups = list(everything(len(found.real.distance), len(found.p_value)))
    else:
        groups = list(row_groups(real_classes, made_classes))
    compared_with = {class_id: int(np.isfinite(found.real.distance[a]).sum()) for class_id, (a, _) in groups}
    of_classes = [(class_id, b) for class_id, (_, b) in groups[1:] if len(b)]
    few = [class_id for class_id, _ in of_classes if (1 + compared_with[class_id]) * level < 1]
    scores = []
    for class_id, (a, b) in groups:
        compared = found.real.distance[a][np.isfinite(found.real.distance[a])]
        warning, judged = "", b
        if not len(b):
            warning = "no synthetic clips"
        elif class_id is None and few:
            warning = (
                f"{len(few)} of {len(of_classes)} classes have too few real clips for any flag at level {level:g}: "
                "their clips are not counted"
            )
            rest = [rows for its, rows in of_classes if its not in few]
            judged = np.concatenate([np.empty(0, dtype=np.int64), *rest])
        elif (1 + len(compared)) * level < 1:
            warning = f"{len(compared)} real clips to compare with: too few for any flag at level {level:g}"
            judged = b[:0]
        scores.append(
            MemorisationScore(
                class_id=class_id,
                n_real=len(a),
                n_made=len(b),
                judged=len(judged),
                median_distance=float(np.median(found.nearest.distance[b])) if len(b) else float("nan"),
                median_real_distance=float(np.median(compared)) if len(compared) else float("nan"),
                flagged=float(found.flagged[judged].mean()) if len(judged) else float("nan"),
                level=level,
                warning=warning,
            )
        )
    return scores


def unit_vectors(x: Tensor) -> Tensor:
    """Rows [..., N, D] scaled to length 1 [..., N, D + 1]; a row of zeros gets a direction of its own, the last."""
    length = x.norm(dim=-1, keepdim=True)
    zero = length == 0
    return torch.cat([x / torch.where(zero, 1.0, length), zero.to(x.dtype)], dim=-1)


def pairwise_cosine_distance(vectors: Vectors) -> Tensor:
    """Mean of 1 - cos over pairs of different rows of [..., N, D] -> [...]; no pair is formed.

    Raises:
        ValueError: fewer than two vectors.
    """
    x = unit_vectors(checked_vectors(vectors, "clips'", least=2))
    n = x.shape[-2]
    # |sum of all|^2 is the sum of all products, those of rows with themselves included.
    pairs = x.sum(dim=-2).square().sum(dim=-1) - x.square().sum(dim=(-2, -1))
    return (1 - pairs / (n * (n - 1))).clamp(min=0)


def vendi_score(vectors: Vectors) -> Tensor:
    """Effective number of different rows of [..., N, D] by cosine similarity -> [...], from 1 to N.

    The eigenvalues of K / N [N, N] are those of U^T U / N [D + 1, D + 1] of the unit rows U, and zeros: the smaller of
    the two is taken.
    """
    x = unit_vectors(checked_vectors(vectors, "clips'"))
    n, dim = x.shape[-2:]
    values = torch.linalg.eigvalsh((x @ x.mT if n <= dim else x.mT @ x) / n).clamp(min=0)
    return torch.special.entr(values).sum(dim=-1).exp()


def diversity_scores(
    vectors: Vectors, classes: np.ndarray | None = None, *, device: torch.device | None = None
) -> list[DiversityScore]:
    """Embeddings [N, D] -> mean over classes (those with two clips at least), then each class; all one class without.

    Raises:
        ValueError: no vectors, or labels are missing; see ``checked_vectors``.
    """
    check_length(vectors, classes, "clips'")
    x = checked_vectors(on_device(vectors, device), "clips'")
    labels = np.zeros(len(x), int) if classes is None else classes
    scores = []
    for class_id, (rows,) in row_groups(labels):
        if class_id is not None:
            many = len(rows) > 1
            scores.append(
                DiversityScore(
                    class_id,
                    len(rows),
                    pairwise_cosine_distance(x[rows]).item() if many else float("nan"),
                    vendi_score(x[rows]).item() if many else float("nan"),
                )
            )
    valid = [score for score in scores if score.n > 1]
    mean = DiversityScore(
        None,
        len(x),
        float(np.mean([s.cosine_distance for s in valid])) if valid else float("nan"),
        float(np.mean([s.vendi for s in valid])) if valid else float("nan"),
    )
    return [mean] if classes is None else [mean, *scores]
