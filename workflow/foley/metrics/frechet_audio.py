"""Fréchet audio distance (FAD), with what is needed to believe it: n, shrinkage, and its limit for many clips.

FAD is the squared Fréchet distance between Gaussians fitted to embeddings of real and synthetic clips (Kilgour et al.
2019, "Fréchet audio distance: a reference-free metric for evaluating music enhancement algorithms"). Its estimate is
too high, by about slope / n: so the distance of a few clips measures their number as much as their sound. FAD∞ is the
intercept of a line through the distances of subsamples over 1 / n (Chong & Forsyth 2020, "Effectively unbiased FID and
inception score and where to find them"; for audio Gui et al. 2024, "Adapting Fréchet audio distance for
generative music evaluation").

Details, and where they depart from published code:

- Subsamples are drawn *without* replacement, as Chong & Forsyth do. fadtk draws with replacement: its line then ends
  at the distance of the very set at hand, not of the distribution behind it.
- Both sets shrink in the same proportion (``vary="both"``), so that the bias of either is extrapolated away. The papers
  keep the real set whole (``vary="made"``), which is as good when it is huge; but 2,000 vectors against 2,000 of the
  same Gaussian in 128 dimensions have FAD 4.2 and then still FAD∞ 1.8.
- Sizes run evenly from a tenth of the set (Chong & Forsyth: 5,000 to 50,000), but from twice the dimensions where
  that is more, and from half the set where that in turn is less. Below the dimensions, where covariances are
  singular, the line does not hold: then there is a warning.
- The interval is a delete-a-group jackknife over clips (Kott 2001, "The delete-a-group jackknife"): the whole
  extrapolation is repeated without each of ``groups`` random parts of a varied set, theta ± t (groups - 1) * SE.
  The regression's own interval would be far too narrow, since its points share their clips; a bootstrap repeats
  clips, which looks like less variance and shifts the distance itself. It says how much another draw of clips would
  change the value. In simulations (Gaussians, 100 clips, 8 dimensions) it covered 92 to 100 % of the true values, and
  was the wider the fewer ``repeats``.
- Clips that give several vectors (VGGish: one for each 0.96 s) are drawn and left out whole.

FAD∞ may be a little below zero for sets that are equally distributed: that is what an unbiased estimate must do.

A line with its interval is hundreds of distances, so each is had from eigenvalues alone where a bound says that
rounding does no harm, else from singular values; there is no matrix root (see ``distance_of_sets``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from foley.metrics.by_class import check_length, everything, on_device, row_groups
from foley.metrics.frechet import covariance_of, frechet_distance
from foley.metrics.vector_sets import BLOCK, Vectors, checked_pair
from foley.runtime.seeds import derive

# Below this a set has no halves to draw from.
LEAST_CLIPS = 8
# A sum of roots that rounding may have changed by this part is computed again by singular values. The bound is wide: in
# trials with spectra from flat to steep, what it let pass was off by 1e-10 of the distance at most.
ROUNDING = 1e-9
# Below this part of the largest variance, a pivot of Cholesky's factor is mostly rounding.
LEAST_PIVOT = 1e-11


@dataclass(frozen=True)
class ExtrapolationOptions:
    """How FAD∞ is found.

    points: subsample sizes, the whole set among them.
    repeats: subsamples of each size; their mean is one point of the line.
    groups: parts of the jackknife; 0 gives no interval.
    vary: which sets are subsampled; ``made`` is the published way.
    least: synthetic clips in the smallest subsample; None for the rule above.
    """

    points: int = 15
    repeats: int = 1
    groups: int = 10
    vary: Literal["made", "both"] = "both"
    least: int | None = None

    def __post_init__(self) -> None:
        if self.points < 2 or self.repeats < 1 or self.groups == 1 or self.groups < 0:
            raise ValueError("points must be at least 2, repeats at least 1, groups 0 or at least 2")
        if self.least is not None and self.least < 2:
            raise ValueError(f"least must be at least 2 clips, not {self.least}")


@dataclass(frozen=True)
class Extrapolation:
    """FAD∞ = ``value`` with its 95 % interval; ``slope`` is the bias times n, ``r_squared`` the fit of the line.

    ``sizes`` [points] numbers of synthetic vectors and ``distances`` [points] the FAD of each. ``low`` and ``high``
    are NaN without a jackknife.
    """

    value: float
    low: float
    high: float
    slope: float
    r_squared: float
    sizes: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class FrechetAudioScore:
    """FAD of one class (or of all: ``class_id`` None); values are NaN where ``warning`` says they cannot be had.

    sample: with sample covariances, as published; shrunk: with Ledoit & Wolf's; infinite: FAD∞.
    n_real, n_made: numbers of vectors.
    """

    class_id: int | None
    n_real: int
    n_made: int
    dim: int
    sample: float
    shrunk: float
    infinite: float
    low: float
    high: float
    r_squared: float
    warning: str


def frechet_audio_distances(
    real: Vectors,
    made: Vectors,
    *,
    real_classes: np.ndarray | None = None,
    made_classes: np.ndarray | None = None,
    real_clips: np.ndarray | None = None,
    made_clips: np.ndarray | None = None,
    seed: int = 0,
    options: ExtrapolationOptions | None = None,
    device: torch.device | None = None,
) -> list[FrechetAudioScore]:
    """Real [N, D] and synthetic [M, D] embeddings -> FAD of all, then, given both classes [N] and [M], of each class.

    Published tables (PROTOCOLS: `diffusion`) average the classes' FADs; that of all vectors together is another
    figure, which does not see sounds in the wrong class.

    Args:
        real_clips, made_clips: [N] and [M] which clip a vector comes from; left out, each is a clip of its own.
        seed: of the subsamples.

    Raises:
        ValueError: fewer than two vectors in a set, they do not fit, or labels are missing; see ``checked_pair``.
    """
    if (real_classes is None) != (made_classes is None):
        raise ValueError("classes of only one of the sets: give real_classes and made_classes, or neither")
    for labels, vectors, name in (
        (real_classes, real, "real"),
        (real_clips, real, "real"),
        (made_classes, made, "synthetic"),
        (made_clips, made, "synthetic"),
    ):
        check_length(vectors, labels, name)
    x, y = checked_pair(on_device(real, device), on_device(made, device), least=2)
    clips = [
        np.arange(len(part)) if ids is None else np.asarray(ids)
        for part, ids in ((x, real_clips), (y, made_clips))
    ]
    if real_classes is None or made_classes is None:
        groups = everything(len(x), len(y))
    else:
        groups = row_groups(real_classes, made_classes)
    o = options or ExtrapolationOptions()
    return [_score(class_id, x[a], y[b], clips[0][a], clips[1][b], seed, o) for class_id, (a, b) in groups]


def _score(
    class_id: int | None,
    x: Tensor,
    y: Tensor,
    x_clips: np.ndarray,
    y_clips: np.ndarray,
    seed: int,
    options: ExtrapolationOptions,
) -> FrechetAudioScore:
    dim, warnings = x.shape[1], []
    sample = shrunk = float("nan")
    line = None
    if min(len(x), len(y)) < 2:
        warnings.append(f"{len(x)} real and {len(y)} synthetic vectors: a covariance needs two of each")
    else:
        sample = distance_of_sets(x, y).item()
        shrunk = _shrunk_distance(x, y).item()
        for n, name in ((len(x), "real"), (len(y), "synthetic")):
            if n <= dim:
                warnings.append(f"{n} {name} vectors in {dim} dimensions: the sample covariance is singular")
        try:
            line = extrapolate(x, y, real_clips=x_clips, made_clips=y_clips, seed=seed, options=options)
        except ValueError as error:
            warnings.append(str(error))
    if line is not None:
        smallest = int(line.sizes.min())
        if options.vary == "both":
            smallest = min(smallest, round(smallest * len(x) / len(y)))
        if smallest <= dim:
            warnings.append(
                f"FAD∞ comes from subsamples of {smallest} vectors in {dim} dimensions: it is too high, and its "
                "interval does not hold"
            )
    nan = float("nan")
    return FrechetAudioScore(
        class_id=class_id,
        n_real=len(x),
        n_made=len(y),
        dim=dim,
        sample=sample,
        shrunk=shrunk,
        infinite=nan if line is None else line.value,
        low=nan if line is None else line.low,
        high=nan if line is None else line.high,
        r_squared=nan if line is None else line.r_squared,
        warning="; ".join(warnings),
    )


def extrapolate(
    real: Vectors,
    made: Vectors,
    *,
    real_clips: np.ndarray | None = None,
    made_clips: np.ndarray | None = None,
    seed: int = 0,
    options: ExtrapolationOptions | None = None,
) -> Extrapolation:
    """FAD∞ of real [N, D] and synthetic [M, D] embeddings; see the module.

    Raises:
        ValueError: a set that is subsampled has fewer than eight clips, or ``least`` is no less than their number.
    """
    o = options or ExtrapolationOptions()
    check_length(real, real_clips, "real")
    check_length(made, made_clips, "synthetic")
    x, y = checked_pair(real, made, least=2)
    sets = [_Clips.of(x, real_clips), _Clips.of(y, made_clips)]
    varied = [1] if o.vary == "made" else [0, 1]
    for number in varied:
        if len(sets[number].rows) < LEAST_CLIPS:
            raise ValueError(
                f"{len(sets[number].rows)} {('real', 'synthetic')[number]} clips: FAD∞ needs {LEAST_CLIPS} at least; "
                "give more clips"
            )
    fractions = _fractions(sets, x.shape[1], varied, o)
    orders = [
        _orders(part, fractions, o, seed, name) for part, name in zip(sets, ("real", "made"), strict=True)
    ]
    everything = [np.ones(len(part.rows), bool) for part in sets]
    sizes, distances = _distances_of_sizes(x, y, sets, orders, fractions, everything, varied)
    value, slope, r_squared = _line(sizes, distances)
    error = 0.0
    for number in varied if o.groups else ():
        error += _jackknife_variance(x, y, sets, orders, fractions, number, varied, o.groups, seed)
    half = float("nan")
    if o.groups:
        # The set with the fewer groups knows its variance least.
        freedom = min(o.groups, *(len(sets[number].rows) for number in varied)) - 1
        half = float(student.ppf(0.975, freedom) * np.sqrt(error))
    return Extrapolation(value, value - half, value + half, slope, r_squared, sizes, distances)


@dataclass(frozen=True)
class _Clips:
    """The rows of each clip of a set."""

    rows: list[np.ndarray]

    @classmethod
    def of(cls, vectors: Tensor, clips: np.ndarray | None) -> _Clips:
        if clips is None:
            return cls(list(np.arange(len(vectors))[:, None]))
        owner = np.unique(clips, return_inverse=True)[1]
        order = np.argsort(owner, kind="stable")
        return cls(np.split(order, np.cumsum(np.bincount(owner))[:-1]))


def _fractions(sets: list[_Clips], dim: int, varied: Sequence[int], o: ExtrapolationOptions) -> np.ndarray:
    """Parts of the sets that are drawn [points], rising to 1."""
    if o.least is not None:
        first = o.least / len(sets[1].rows)
        if first >= 1:
            raise ValueError(
                f"least {o.least} is no less than the {len(sets[1].rows)} synthetic clips; lower it"
            )
    else:
        vectors = min(sum(map(len, sets[number].rows)) for number in varied)
        clips = min(len(sets[number].rows) for number in varied)
        first = max(min(max(0.1, 2 * dim / vectors), 0.5), LEAST_CLIPS / 2 / clips)
    return np.linspace(first, 1, o.points)


def _orders(part: _Clips, fractions: np.ndarray, o: ExtrapolationOptions, seed: int, name: str) -> np.ndarray:
    """A random order of the clips for each subsample [points, repeats, clips].

    Also the jackknife draws by these, less what it leaves out: so its values differ by the clips, not by the draw.
    """
    generator = np.random.default_rng(derive(seed, "frechet subsamples", name))
    plain = np.broadcast_to(np.arange(len(part.rows)), (len(fractions), o.repeats, len(part.rows)))
    return generator.permuted(plain, axis=2)


def _distances_of_sizes(
    x: Tensor,
    y: Tensor,
    sets: list[_Clips],
    orders: list[np.ndarray],
    fractions: np.ndarray,
    kept: list[np.ndarray],
    varied: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean number of synthetic vectors and mean FAD of the subsamples of each size: [points], [points]."""
    repeats = orders[1].shape[1]
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    for point, fraction in enumerate(fractions):
        # All subsamples of the whole set are the same one.
        for repeat in range(repeats if fraction < 1 else 1):
            pair = []
            for number, (part, mask) in enumerate(zip(sets, kept, strict=True)):
                order = orders[number][point, repeat]
                order = order[mask[order]]
                if number in varied:
                    order = order[: max(2, round(fraction * len(order)))]
                pair.append(np.sort(np.concatenate([part.rows[clip] for clip in order])))
            drawn.append((pair[0], pair[1]))
    found = _frechet_of_rows(x, y, drawn)
    owner = np.array([p for p, f in enumerate(fractions) for _ in range(repeats if f < 1 else 1)])
    counts = np.bincount(owner)
    sizes = np.bincount(owner, [len(b) for _, b in drawn]) / counts
    return sizes, np.bincount(owner, found) / counts


def _frechet_of_rows(x: Tensor, y: Tensor, drawn: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """FAD of each pair of rows [draws]; draws of equal sizes go through together, as many as fit into memory."""
    together: dict[tuple[bool, int, int], list[int]] = defaultdict(list)
    for number, (a, b) in enumerate(drawn):
        together[len(a) == len(x), len(a), len(b)].append(number)
    found = np.empty(len(drawn))
    for (whole, n, m), numbers in together.items():
        at_once = max(1, BLOCK // ((m + (0 if whole else n) + 4 * x.shape[1]) * x.shape[1]))
        for start in range(0, len(numbers), at_once):
            part = numbers[start : start + at_once]
            made = y[torch.from_numpy(np.stack([drawn[k][1] for k in part])).to(y.device)]
            if whole:
                real = x
            else:
                real = x[torch.from_numpy(np.stack([drawn[k][0] for k in part])).to(x.device)]
            found[part] = distance_of_sets(real, made).cpu().numpy()
    return found


def distance_of_sets(real: Tensor, made: Tensor) -> Tensor:
    """Squared Fréchet distance of float64 rows [..., N, D] and [..., M, D] with sample covariances A and B -> [...].

    With any factors A = X^T X and B = Y^T Y, tr((A B)^(1/2)) is the sum of the singular values of X Y^T: X and Y are
    the centred rows themselves where they are few, else triangular factors of the covariances.
    """
    x, y = (_scaled_residuals(part) for part in (real, made))
    between = (real.mean(dim=-2) - made.mean(dim=-2)).square().sum(dim=-1)
    spread = x.square().sum(dim=(-2, -1)) + y.square().sum(dim=(-2, -1))
    # Centred rows have one rank less than they are.
    deficient = int(min(x.shape[-2], y.shape[-2]) <= x.shape[-1])
    root = _nuclear_norm(_triangle(x) @ _triangle(y).mT, deficient)
    return (between + spread - 2 * root).clamp(min=0)


def _shrunk_distance(x: Tensor, y: Tensor) -> Tensor:
    """``frechet_distance`` with shrunk covariances, of [N, D] and [M, D] float64, without a matrix root."""
    a, b = (covariance_of(part, "shrunk") for part in (x, y))
    (left, failed), (right, failed_too) = torch.linalg.cholesky_ex(a), torch.linalg.cholesky_ex(b)
    # Few rows in many dimensions have a form of their own there.
    if failed or failed_too or len(x) + len(y) < x.shape[1]:
        return frechet_distance(x, y, covariance="shrunk")
    between = (x.mean(dim=0) - y.mean(dim=0)).square().sum()
    return (between + a.trace() + b.trace() - 2 * _nuclear_norm(left.mT @ right)).clamp(min=0)


def _scaled_residuals(x: Tensor) -> Tensor:
    """Rows whose products with themselves add up to the sample covariance."""
    return (x - x.mean(dim=-2, keepdim=True)).div_((x.shape[-2] - 1) ** 0.5)


def _triangle(rows: Tensor) -> Tensor:
    """The upper triangle R of X^T X = R^T R for many rows X [..., N, D]; few ones (N up to D) as they are."""
    if rows.shape[-2] <= rows.shape[-1]:
        return rows
    square = rows.mT @ rows
    factor, failed = torch.linalg.cholesky_ex(square)
    pivots = factor.diagonal(dim1=-2, dim2=-1).square().amin(dim=-1)
    least = LEAST_PIVOT * square.diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    if bool(((failed == 0) & (pivots > least)).all()):
        return factor.mT
    return torch.linalg.qr(rows, mode="r").R


def _nuclear_norm(matrix: Tensor, deficient: int = 0) -> Tensor:
    """Sum of the singular values of [..., P, Q] -> [...].

    Their squares are eigenvalues of a symmetric matrix G, found several times as fast; but the root of a small one
    keeps few digits. What is computed are the eigenvalues of G + E, with |E| a few unit roundoffs of |G| in Frobenius'
    norm. To first order that moves the sum of roots by tr(G^(-1/2) E) / 2, at most by |G^(-1/2)| |E| / 2. Where that is
    too much the singular values themselves are computed.

    Args:
        deficient: so many of the singular values are zero.
    """
    few_rows = matrix.shape[-2] <= matrix.shape[-1]
    values = torch.linalg.eigvalsh(matrix @ matrix.mT if few_rows else matrix.mT @ matrix)[..., deficient:]
    if not values.shape[-1]:
        return values.sum(dim=-1)
    error = 8 * torch.finfo(values.dtype).eps * values.norm(dim=-1)
    sound = values[..., 0] > 10 * error
    roots = torch.where(sound[..., None], values, 1.0).sqrt()
    total = roots.sum(dim=-1)
    sound &= error / 2 * roots.reciprocal().norm(dim=-1) <= ROUNDING * total
    if not sound.all():
        total[~sound] = torch.linalg.svdvals(matrix[~sound]).sum(dim=-1)
    return total


def _line(sizes: np.ndarray, distances: np.ndarray) -> tuple[float, float, float]:
    """Least squares of distances over 1 / sizes: intercept, slope and R²."""
    x = 1 / sizes
    slope, intercept = np.polyfit(x, distances, 1)
    residual = distances - intercept - slope * x
    spread = ((distances - distances.mean()) ** 2).sum()
    return float(intercept), float(slope), float(1 - (residual**2).sum() / spread) if spread > 0 else 1.0


def _jackknife_variance(
    x: Tensor,
    y: Tensor,
    sets: list[_Clips],
    orders: list[np.ndarray],
    fractions: np.ndarray,
    number: int,
    varied: Sequence[int],
    groups: int,
    seed: int,
) -> float:
    """Variance of FAD∞ over draws of the clips of one of the sets."""
    clips = len(sets[number].rows)
    groups = min(groups, clips)
    order = np.random.default_rng(derive(seed, "frechet jackknife", number)).permutation(clips)
    values = []
    for left_out in np.array_split(order, groups):
        kept = [np.ones(len(part.rows), bool) for part in sets]
        kept[number][left_out] = False
        values.append(_line(*_distances_of_sizes(x, y, sets, orders, fractions, kept, varied))[0])
    return float((groups - 1) / groups * np.square(np.array(values) - np.mean(values)).sum())
