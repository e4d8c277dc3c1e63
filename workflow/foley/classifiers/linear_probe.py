"""Linear probes: multinomial logistic regressions on stored embeddings, many of them solved as one batch.

A study asks the same embeddings many questions: other training clips (arms, seeds) and other L2 penalties. Each
question is a problem of its own with a convex objective,

    sum_i w_i CE(y_i, softmax(W z_i + b)) / sum_i w_i + strength / 2 * |W|^2,

where z are the embeddings, scaled to mean 0 and deviation 1 in each dimension over the problem's own training clips,
and the offset b bears no penalty. It is scikit-learn's ``LogisticRegression(C=1 / (strength * sum_i w_i))``.

Problems that share training clips share one rotation of z to its principal axes, which changes no penalty. There the
Hessian is nearly diagonal, so L-BFGS (Nocedal & Wright 2006, algorithm 7.4) starts with its inverse and needs few
steps; and an arm of 16 clips has 15 dimensions, not 384. They are solved from the strongest penalty to the weakest,
each from where the one before it ended. Training sets of about one size take their steps together: two batched matrix
products, the gradient, and the scores along the direction, from which any step length can be judged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from foley.training.loop import choose_device
from foley.training.scaling import Scaling

log = logging.getLogger(__name__)

# Pairs of steps and gradient changes that L-BFGS remembers.
MEMORY = 8
# Sufficient decrease (Armijo), and halvings of a step before the problem counts as solved to rounding.
SUFFICIENT, HALVINGS = 1e-4, 12
# Principal axes with less than this part of the largest variance hold rounding errors.
NO_VARIANCE = {torch.float32: 1e-10, torch.float64: 1e-20}
# Bytes that problems solved together may take: on a CPU about its cache.
BATCH_BYTES = {"cpu": 32 * 2**20, "cuda": 8 * 2**30}
# Least mean of p (1 - p) that is believed: where all clips are told apart it vanishes.
FLATTEST = 1e-6


@dataclass(frozen=True)
class LinearProbeOptions:
    """strengths: L2 penalties to choose from, per problem on its validation clips. max_steps: of L-BFGS.
    tolerance: largest component of the gradient at which a problem counts as solved.
    """

    strengths: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
    max_steps: int = 300
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0 or len(set(self.strengths)) < len(self.strengths):
            raise ValueError("strengths must be positive numbers, each once")
        if self.max_steps < 1 or self.tolerance <= 0:
            raise ValueError("max_steps must be at least 1, tolerance positive")


@dataclass(frozen=True)
class ProbeSet:
    """Solved problems: ``weight`` [P, D, C] and ``bias`` [P, C] on stored embeddings less ``centre`` [D] (one for all
    problems, against rounding), ``present`` [P, C] the classes that a problem had training clips of, ``clips`` [P] its
    training weight, ``strengths`` [P], ``converged`` [P].
    """

    centre: Tensor
    weight: Tensor
    bias: Tensor
    present: Tensor
    clips: Tensor
    strengths: Tensor
    converged: Tensor

    def __len__(self) -> int:
        return len(self.weight)

    def of(self, rows: Sequence[int] | Tensor) -> ProbeSet:
        """Some of the problems."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self.weight.device)
        names = ("weight", "bias", "present", "clips", "strengths", "converged")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    @torch.no_grad()
    def score(self, x: Tensor) -> Tensor:
        """Embeddings [N, D] -> log-probabilities [P, N, C]; each row's probabilities sum to 1.

        A class without training clips has no probability that the data could tell. Minus infinity would outlive any
        average over seeds, so a problem that lacks classes mixes in one clip's worth of the uniform distribution:
        p' = (n p + 1 / C) / (n + 1) for n training clips. Absent classes come last in every row, and the order of the
        others stays. A problem that has all classes is left as it is.
        """
        centred = x.to(self.weight) - self.centre
        logits = torch.baddbmm(self.bias.unsqueeze(1), centred.expand(len(self), -1, -1), self.weight)
        absent = ~self.present.unsqueeze(1)
        scores = logits.masked_fill(absent, -torch.inf).log_softmax(2)
        if not absent.any():
            return scores
        n = self.clips.view(-1, 1, 1)
        mixed = torch.logaddexp(scores + (n / (n + 1)).log(), -((n + 1) * scores.shape[2]).log())
        return torch.where(absent.any(2, keepdim=True), mixed, scores)


class LinearProbe:
    """Probes with a strength chosen on validation clips.

    Args:
        classes: how many there are.
    """

    name = "linear_probe"
    Options = LinearProbeOptions

    def __init__(self, options: LinearProbeOptions, classes: int) -> None:
        self.options = options
        self.classes = classes

    def fit(self, x: Tensor, y: Tensor, membership: Tensor, validation: Tensor) -> ProbeSet:
        """Fit every strength to every row of ``membership`` and keep the one with the lowest validation loss.

        Args:
            x: embeddings [N, D], windows averaged. y: class numbers [N].
            membership: [P, N] training weight of each clip in each problem; 0 or False leaves it out.
            validation: [N] or [P, N], likewise. Its clips must be in no training set of the problem.

        Returns:
            P problems. Of strengths that are equally good the largest wins.

        Raises:
            ValueError: see :func:`fit_probes`; a problem without validation clips, or with one that it trains on.
        """
        o, problems = self.options, len(membership)
        held_out = validation.expand(problems, -1).to(x.dtype)
        _refuse("has no validation clips", ~(held_out > 0).any(1))
        _refuse("validates on clips that it trains on", ((held_out > 0) & (membership > 0)).any(1))
        strengths = torch.tensor(sorted(o.strengths, reverse=True), dtype=x.dtype)
        probes = fit_probes(
            x, y, membership.repeat_interleave(len(strengths), 0), strengths.repeat(problems),
            classes=self.classes, max_steps=o.max_steps, tolerance=o.tolerance,
        )  # fmt: skip
        rows = (held_out > 0).any(0).nonzero().squeeze(1)
        wanted = y[rows].to(probes.weight.device)
        losses = torch.empty(len(probes), dtype=x.dtype)
        weights = held_out[:, rows].repeat_interleave(len(strengths), 0)
        at_once = max(1, BATCH_BYTES["cpu"] // (4 * self.classes * len(rows) * x.element_size()))
        for part in torch.arange(len(probes)).split(at_once):
            scores = probes.of(part).score(x[rows])
            own = -scores.gather(2, wanted.view(1, -1, 1).expand(len(part), -1, 1)).squeeze(2).cpu()
            losses[part] = (own * weights[part]).sum(1) / weights[part].sum(1)
        # The first of equal losses: strengths descend.
        best = losses.view(problems, -1).argmin(1)
        return probes.of(torch.arange(problems) * len(strengths) + best)


def fit_probes(
    x: Tensor,
    y: Tensor,
    membership: Tensor,
    strengths: Tensor,
    *,
    classes: int,
    max_steps: int = 300,
    tolerance: float = 1e-5,
    device: torch.device | None = None,
) -> ProbeSet:
    """Solve P logistic regressions on shared embeddings; see the module for the objective.

    Problems with equal ``membership`` share their preparation, so give all strengths of a training set at once.

    Args:
        x: embeddings [N, D], float32 or float64; the arithmetic is that of ``x``.
        y: class numbers [N], below ``classes``.
        membership: [P, N] bool or weights (not negative); 0 leaves a clip out.
        strengths: L2 penalties [P], positive.
        max_steps: of L-BFGS. A problem that is not solved by then is logged, and ``converged`` tells.
        tolerance: largest component of the gradient at which a problem counts as solved.
        device: where it computes; a leased GPU when there is one.

    Raises:
        ValueError: shapes that don't fit, numbers that are not finite, a class number out of range, or a problem with
            clips of fewer than two classes; names the problem.
    """
    _check(x, y, membership, strengths, classes)
    device = choose_device() if device is None else device
    x, y = x.to(device), y.to(device)
    centre = x.mean(0)
    x = x - centre
    weights = membership.to(device, x.dtype)
    strengths = strengths.to(device, x.dtype)
    _, set_of = torch.unique(weights, dim=0, return_inverse=True)
    one_hot = functional.one_hot(y, classes).to(x.dtype)
    present = (weights > 0).to(x.dtype) @ one_hot > 0
    # Problems with equal training clips.
    sets = [(set_of == number).nonzero().squeeze(1) for number in range(int(set_of.max()) + 1)]
    out = ProbeSet(
        centre, x.new_zeros(len(weights), x.shape[1], classes), x.new_zeros(len(weights), classes), present,
        weights.sum(1), strengths, torch.zeros(len(weights), dtype=torch.bool, device=device),
    )  # fmt: skip
    clips = [int((weights[rows[0]] > 0).sum()) for rows in sets]
    for group in _groups(clips, x, classes):
        _solve_group([sets[number] for number in group], x, one_hot, weights, out, max_steps, tolerance)
    left = int((~out.converged).sum())
    if left:
        log.warning(
            "linear probe: %d of %d problems not solved to %g within %d steps: the weakest strengths are too weak for "
            "this data, or embeddings hold values of very different size", left, len(out), tolerance, max_steps,
        )  # fmt: skip
    return out


def _check(x: Tensor, y: Tensor, membership: Tensor, strengths: Tensor, classes: int) -> None:
    count = len(x)
    if x.ndim != 2 or not x.is_floating_point() or not count or y.shape != (count,):
        raise ValueError(
            f"embeddings must be float [N, D] and labels [N], not {list(x.shape)} and {list(y.shape)}"
        )
    if membership.ndim != 2 or membership.shape[1] != count or strengths.shape != (len(membership),):
        raise ValueError(
            f"membership must be [P, {count}] and strengths [P], not {list(membership.shape)} and "
            f"{list(strengths.shape)}"
        )
    if not x.isfinite().all():
        rows = (~x.isfinite().all(1)).nonzero().squeeze(1).tolist()
        raise ValueError(
            f"embeddings of rows {rows[:8]} hold values that are NaN or infinite: leave the clips out"
        )
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise ValueError(f"labels from {int(y.min())} to {int(y.max())}, but {classes} classes")
    weights = membership.to(x.dtype)
    _refuse("has a weight that is negative or no number", ~((weights >= 0) & weights.isfinite()).all(1))
    _refuse("has a strength that is not positive", ~((strengths > 0) & strengths.isfinite()))
    taken = (weights > 0).to(x.dtype) @ functional.one_hot(y, classes).to(x.dtype)
    _refuse("has training clips of fewer than two classes", (taken > 0).sum(1) < 2)


def _refuse(what: str, bad: Tensor) -> None:
    if bad.any():
        raise ValueError(f"linear probe: problem {int(bad.nonzero()[0])} {what}")


def _groups(clips: Sequence[int], x: Tensor, classes: int) -> list[list[int]]:
    """Training sets to solve together, alike in size, so that little of a batch is padding, and not too much memory."""
    limit = BATCH_BYTES.get(x.device.type, BATCH_BYTES["cpu"])
    groups: list[list[int]] = []
    smallest = 0
    for number in sorted(range(len(clips)), key=lambda n: clips[n]):
        count, rank = clips[number], min(clips[number], x.shape[1]) + 1
        # Rotated clips; scores and probabilities, now and along a direction; L-BFGS's vectors.
        cost = (count * rank + 5 * count * classes + (2 * MEMORY + 8) * rank * classes) * x.element_size()
        if not groups or (len(groups[-1]) + 1) * cost > limit or count > 1.25 * smallest + 8:
            groups.append([])
            smallest = count
        groups[-1].append(number)
    return groups


def _solve_group(
    sets: Sequence[Tensor],
    x: Tensor,
    one_hot: Tensor,
    weights: Tensor,
    out: ProbeSet,
    max_steps: int,
    tolerance: float,
) -> None:
    """Solve all problems of some training sets and put the results into ``out``.

    From the strongest penalty to the weakest, each from where the one before it ended.
    """
    classes = one_hot.shape[1]
    prepared = [_prepare(x, weights[rows[0]]) for rows in sets]
    count, rank = max(len(p.rows) for p in prepared), max(p.rotated.shape[1] for p in prepared)
    # Training sets [M, n, r + 1]; the last column is that of the offsets.
    z = x.new_zeros(len(sets), count, rank + 1)
    variance = x.new_zeros(len(sets), rank + 1)
    targets, part = x.new_zeros(len(sets), count, classes), x.new_zeros(len(sets), count)
    for number, p in enumerate(prepared):
        z[number, : len(p.rows), : p.rotated.shape[1]] = p.rotated
        variance[number, : p.rotated.shape[1]] = p.variance
        targets[number, : len(p.rows)] = one_hot[p.rows]
        part[number, : len(p.rows)] = weights[sets[number][0]][p.rows] / weights[sets[number][0]].sum()
    z[..., -1], variance[..., -1] = 1.0, 1.0
    loss = _Loss(z, targets, part, out.present[torch.stack([rows[0] for rows in sets])])
    ordered = [rows[out.strengths[rows].argsort(descending=True)] for rows in sets]
    theta = z.new_zeros(len(sets), rank + 1, classes)
    for stage in range(max(len(rows) for rows in ordered)):
        # A set with fewer strengths stays at its last one.
        problems = torch.stack([rows[min(stage, len(rows) - 1)] for rows in ordered])
        theta, solved = _minimise(loss, variance, out.strengths[problems], theta, max_steps, tolerance)
        for number, (problem, p) in enumerate(zip(problems.tolist(), prepared, strict=True)):
            w = theta[number, : p.rotated.shape[1]]
            out.weight[problem] = p.axes @ w / p.scaling.factor.squeeze(0).unsqueeze(1)
            out.bias[problem] = theta[number, -1] - p.scaling.shift.squeeze(0) @ out.weight[problem]
            out.converged[problem] = solved[number]


@dataclass(frozen=True)
class _Prepared:
    """A training set: its clips' ``rows`` [n], scaled and ``rotated`` [n, r] to ``axes`` [D, r] of ``variance`` [r]."""

    rows: Tensor
    scaling: Scaling
    axes: Tensor
    rotated: Tensor
    variance: Tensor


def _prepare(x: Tensor, weights: Tensor) -> _Prepared:
    rows = weights.nonzero().squeeze(1)
    part = (weights[rows] / weights[rows].sum()).double().unsqueeze(1)
    own = x[rows].double()
    shift = (part * own).sum(0, keepdim=True)
    deviation = (part * (own - shift).square()).sum(0, keepdim=True).sqrt()
    # A dimension that never varies is shifted only, as by Scaling.of.
    scaling = Scaling(shift, torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation)))
    z = scaling.apply(own)
    weighted = z * part.sqrt()
    if len(rows) < x.shape[1]:
        # Of fewer clips than dimensions, the smaller matrix.
        variance, sides = torch.linalg.eigh(weighted @ weighted.T)
        kept = variance > NO_VARIANCE[x.dtype] * variance[-1].clamp(min=1e-300)
        variance = variance[kept]
        axes = weighted.T @ sides[:, kept] / variance.sqrt()
    else:
        variance, axes = torch.linalg.eigh(weighted.T @ weighted)
        kept = variance > NO_VARIANCE[x.dtype] * variance[-1].clamp(min=1e-300)
        variance, axes = variance[kept], axes[:, kept]
    single = Scaling(scaling.shift.to(x.dtype), scaling.factor.to(x.dtype))
    return _Prepared(rows, single, axes.to(x.dtype), (z @ axes).to(x.dtype), variance.to(x.dtype))


class _Loss:
    """Cross-entropy of M training sets: clips ``z`` [M, n, r], one-hot ``targets`` [M, n, C], ``part`` of each clip in
    the mean [M, n], ``present`` [M, C] classes that take part."""

    def __init__(self, z: Tensor, targets: Tensor, part: Tensor, present: Tensor) -> None:
        self.z, self.targets, self.part = z, targets, part.unsqueeze(2)
        self.absent = ~present.unsqueeze(1)
        self.all_present = bool(present.all())

    def scores(self, theta: Tensor) -> Tensor:
        """[M, r, C] -> [M, n, C]."""
        return torch.bmm(self.z, theta)

    def _present(self, scores: Tensor) -> Tensor:
        return scores if self.all_present else scores.masked_fill(self.absent, -torch.inf)

    def value(self, scores: Tensor) -> Tensor:
        """[M, n, C] -> [M]."""
        own = self._present(scores).logsumexp(2) - (scores * self.targets).sum(2)
        return (own * self.part.squeeze(2)).sum(1)

    def gradient(self, scores: Tensor) -> Tensor:
        """[M, n, C] -> [M, r, C]."""
        error = (self._present(scores).softmax(2) - self.targets) * self.part
        return torch.bmm(self.z.transpose(1, 2), error)

    def slope(self, scores: Tensor, along: Tensor) -> Tensor:
        """How fast the loss changes where scores move ``along`` [M, n, C] -> [M]."""
        error = (self._present(scores).softmax(2) - self.targets) * self.part
        return (error * along).sum((1, 2))

    def curvature(self, scores: Tensor) -> Tensor:
        """Mean of p (1 - p) in each class [M, 1, C]: what the loss's second derivative has beside the clips' own."""
        p = self._present(scores).softmax(2)
        return (p * (1 - p) * self.part).sum(1, keepdim=True)


def _minimise(
    loss: _Loss, variance: Tensor, strengths: Tensor, theta: Tensor, max_steps: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """L-BFGS on M problems at once, from ``theta`` [M, r, C] -> solutions alike, and which are solved [M].

    Args:
        variance: of the clips along each axis [M, r]. The last axis is that of the offsets, without penalty.
        strengths: [M].
    """
    penalty = strengths.view(-1, 1, 1).expand(-1, theta.shape[1], 1).clone()
    penalty[:, -1] = 0.0
    scores = loss.scores(theta)

    def whole(scores: Tensor, theta: Tensor) -> Tensor:
        return loss.value(scores) + 0.5 * (penalty * theta.square()).sum((1, 2))

    # Axes are uncorrelated, so the Hessian is nearly diagonal, as far as p (1 - p) is alike for all clips.
    inverse = 1 / (variance.unsqueeze(2) * loss.curvature(scores).clamp(min=FLATTEST) + penalty)
    value, slope = whole(scores, theta), loss.gradient(scores) + penalty * theta
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    solved = slope.abs().amax((1, 2)) <= tolerance
    stuck = torch.zeros_like(solved)
    for _ in range(max_steps):
        if bool((solved | stuck).all()):
            break
        direction = -_times_inverse_hessian(slope, steps, inverse)
        downhill = _dot(direction, slope).flatten()
        along = loss.scores(direction)
        length = torch.where(solved | stuck, 0.0, 1.0).to(theta.dtype)
        rounding = 4 * torch.finfo(theta.dtype).eps * scores.abs().amax((1, 2))
        for halving in range(HALVINGS + 1):
            t = length.view(-1, 1, 1)
            new_theta, new_scores = theta + t * direction, scores + t * along
            new_value = whole(new_scores, new_theta)
            good = new_value <= value + SUFFICIENT * length * downhill
            if not bool(good.all()):
                # Near the minimum the decrease is lost in rounding, but not the slope (Hager & Zhang 2005, section 3).
                still = loss.slope(new_scores, along) + (penalty * new_theta * direction).sum((1, 2))
                good = good | ((new_value <= value + rounding) & (still <= (2 * SUFFICIENT - 1) * downhill))
            if bool(good.all()):
                break
            length = torch.where(good, length, length / 2 if halving < HALVINGS - 1 else 0.0)
        stuck = stuck | (length == 0)
        new_slope = loss.gradient(new_scores) + penalty * new_theta
        move, change = new_theta - theta, new_slope - slope
        curve = _dot(move, change)
        # A pair without curvature (a problem that stands still, or rounding) says nothing.
        floor = torch.finfo(theta.dtype).eps * _dot(change, change)
        steps = [*steps[1 - MEMORY :], (move, change, torch.where(curve > floor, 1 / curve, 0.0))]
        theta, scores, value, slope = new_theta, new_scores, new_value, new_slope
        solved = slope.abs().amax((1, 2)) <= tolerance
    return theta, solved


def _times_inverse_hessian(
    slope: Tensor, steps: Sequence[tuple[Tensor, Tensor, Tensor]], inverse: Tensor
) -> Tensor:
    """What L-BFGS takes for the inverse Hessian, times ``slope`` (two-loop recursion).

    Args:
        steps: moves, changes of the gradient, and 1 / their product (0 where a pair says nothing), latest last.
        inverse: the diagonal that it starts from.
    """
    q = slope
    parts = []
    for move, change, per_curve in reversed(steps):
        part = per_curve * _dot(move, q)
        q = torch.addcmul(q, part, change, value=-1)
        parts.append(part)
    r = inverse * q
    if steps:
        # As large as the latest pair says.
        _, change, per_curve = steps[-1]
        r = r / torch.where(per_curve > 0, per_curve * _dot(change, inverse * change), 1.0)
    for (move, change, per_curve), part in zip(steps, reversed(parts), strict=True):
        r = torch.addcmul(r, move, part - per_curve * _dot(change, r))
    return r


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of each problem: [M, r, C] twice -> [M, 1, 1]."""
    return torch.bmm(a.flatten(1).unsqueeze(1), b.flatten(1).unsqueeze(2))
