"""Small models trained as one batch of seeds: every parameter has a leading seed axis [S, ...].

A seed's numbers do not depend on the others in its batch: initial values, order, noise and dropout come from a
stream of its own, Adam works element by element, and gradients are clipped seed by seed.
"""

from __future__ import annotations

import copy
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.runtime.seeds import SeedStreams
from foley.training.checkpoint import Checkpoint
from foley.training.loop import History, choose_device, fit

log = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)

# What the seeds that are trained at once may hold on a CPU: a step passes over all of it, so it should stay in the
# cache. Where not even two seeds fit, what the allocator keeps from one step to the next, so that gradients need no
# fresh pages.
CACHE_BYTES, HEAP_BYTES = 24 * 2**20, 128 * 2**20
# A parameter in float32, its gradient and Adam's two moments; AMSGrad has a third.
ADAM_BYTES, AMSGRAD_BYTES = 16, 20
GROUP_CHECKPOINT_EVERY_S = 30.0


class BatchedLinear(nn.Module):
    """S linear layers side by side: [S, B, inputs] -> [S, B, outputs].

    Args:
        initialise: fan-in, fan-out and a draw of uniform or normal numbers -> weights; PyTorch's default for
            ``nn.Linear`` when left out.
    """

    def __init__(self, streams: SeedStreams, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter((streams.uniform(inputs, outputs) * 2 - 1) * bound)
        self.bias = nn.Parameter((streams.uniform(1, outputs) * 2 - 1) * bound) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return torch.bmm(x, self.weight)
        return torch.baddbmm(self.bias, x, self.weight)


def normal_(layer: BatchedLinear, streams: SeedStreams, deviation: float) -> BatchedLinear:
    """Normal initial weights, seed by seed; the bias, if any, becomes zero."""
    with torch.no_grad():
        layer.weight.copy_(streams.normal(*layer.weight.shape[1:]) * deviation)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def xavier_normal_(layer: BatchedLinear, streams: SeedStreams, gain: float) -> BatchedLinear:
    """Glorot & Bengio (2010) initial weights, seed by seed; the bias, if any, becomes zero."""
    _, inputs, outputs = layer.weight.shape
    return normal_(layer, streams, gain * math.sqrt(2 / (inputs + outputs)))


class BatchedLayerNorm(nn.Module):
    """Layer norm over the last axis with a scale and shift of each seed's own."""

    def __init__(self, seeds: int, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(seeds, 1, features))
        self.shift = nn.Parameter(torch.zeros(seeds, 1, features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps) * self.scale + self.shift


class BatchedBatchNorm(nn.Module):
    """Batch norm with statistics, scale and shift of each seed's own: [S, B, F] -> [S, B, F]."""

    def __init__(self, seeds: int, features: int) -> None:
        super().__init__()
        # Scale and shift lie here, not in BatchNorm1d: every parameter has a seed axis.
        self.norm = nn.BatchNorm1d(seeds * features, affine=False)
        self.scale = nn.Parameter(torch.ones(seeds, 1, features))
        self.shift = nn.Parameter(torch.zeros(seeds, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        seeds, batch, features = x.shape
        flat = self.norm(x.transpose(0, 1).reshape(batch, seeds * features))
        return flat.view(batch, seeds, features).transpose(0, 1) * self.scale + self.shift


def dropout(x: Tensor, keep: Tensor, probability: float) -> Tensor:
    """Zero the cells of ``x`` [S, B, D] whose uniform number in ``keep`` lies below ``probability``; scale the rest."""
    return x * (keep >= probability) / (1 - probability)


def clip_gradients_per_seed(max_norm: float) -> Callable[[Sequence[nn.Parameter]], None]:
    """Clip the gradient norm of each seed's model on its own, as ``clip_grad_norm_`` does for one model."""

    def clip(parameters: Sequence[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)
        scale = (max_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))

    return clip


def adam(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    *,
    beta1: float = 0.9,
    amsgrad: bool = False,
) -> torch.optim.Adam:
    """Adam with its fused kernel: one pass over all parameters of all seeds."""
    return torch.optim.Adam(
        model.parameters(),
        lr=learning_rate,
        betas=(beta1, 0.999),
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        fused=True,
    )


def shuffled_batches(streams: SeedStreams, rows: int, batch_size: int) -> list[Tensor]:
    """Row numbers [S, B] of one epoch: each seed in an order of its own; the last batch may be smaller."""
    return list(streams.permutations(rows).split(batch_size, dim=1))


def pick(values: Tensor, rows: Tensor) -> Tensor:
    """Rows [S, B] of each seed's own values [S, N, ...], or of values shared by all [1, N, ...] -> [S, B, ...]."""
    if len(values) == 1:
        return values[0][rows]
    return values[torch.arange(len(values), device=rows.device).unsqueeze(1), rows]


def cross_entropy(scores: Tensor, wanted: Tensor) -> Tensor:
    """Softmax cross-entropy of [S, B, C] against class numbers [S, B]: mean over a seed's batch, summed over seeds."""
    # A sum, so that each seed's gradient is that of its own loss.
    return functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), reduction="sum") / wanted.shape[1]


class Examples:
    """Labelled vectors to learn from, in parts that are shared by all seeds or each seed's own.

    Args:
        parts: (vectors [N, D] or [S, N, D], class numbers [N] or [S, N]); rows are numbered through all parts.
    """

    def __init__(self, *parts: tuple[Tensor, Tensor]) -> None:
        self.parts = [
            (x if x.dim() == 3 else x.unsqueeze(0), classes if classes.dim() == 2 else classes.unsqueeze(0))
            for x, classes in parts
        ]
        self.dim = self.parts[0][0].shape[2]

    def __len__(self) -> int:
        return sum(x.shape[1] for x, _ in self.parts)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [S, B] -> vectors [S, B, D] and class numbers [S, B]."""
        x, classes = (pick(values, rows.clamp(max=values.shape[1] - 1)) for values in self.parts[0])
        first = self.parts[0][0].shape[1]
        for more, more_classes in self.parts[1:]:
            own = rows - first
            at = own.clamp(0, more.shape[1] - 1)
            here = own >= 0
            x = torch.where(here.unsqueeze(2), pick(more, at), x)
            classes = torch.where(here, pick(more_classes, at), classes)
            first += more.shape[1]
        return x, classes

    def of_seeds(self, part: slice) -> Examples:
        """What some of the seeds learn from."""
        return Examples(
            *((x if len(x) == 1 else x[part], c if len(c) == 1 else c[part]) for x, c in self.parts)
        )


def seed_groups(seeds: int, bytes_per_seed: int, limit: int) -> list[slice]:
    """Groups of ``seeds`` seeds, alike in size; none takes more than ``limit`` bytes, but for a group of one."""
    at_once = max(1, limit // bytes_per_seed)
    groups = -(-seeds // at_once)
    edges = [seeds * number // groups for number in range(groups + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def join_seeds(networks: Sequence[Network]) -> Network:
    """One network of all seeds from networks of some of them, in their order.

    The seeds are the first axis of every parameter, and of every buffer of floating-point numbers.
    """
    joined = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    for name, value in joined.state_dict(keep_vars=True).items():
        if value.is_floating_point():
            value.data = torch.cat([state[name] for state in states])
    return joined


def network_of_seeds(network: Network, part: slice, seeds: int) -> Network:
    """The network of some of the ``seeds`` that :func:`join_seeds` joined, for use, not for training."""
    own = copy.deepcopy(network)
    for value in own.state_dict(keep_vars=True).values():
        if value.is_floating_point():
            # Where an axis holds seeds and features, the seeds come first.
            value.data = value.detach().unflatten(0, (seeds, -1))[part].flatten(0, 1)
    return own


class _GroupCheckpoint(Checkpoint):
    """The checkpoint of a training in groups of seeds: in one file, where each group that was begun left off."""

    def __init__(self, whole: Checkpoint, groups: list[list[int]]) -> None:
        self.path = whole.path
        self.whole = whole
        self.groups = groups
        self.current = 0
        saved = whole.load() or {}
        if saved and saved.get("groups") != groups:
            log.warning("checkpoint %s is of other groups of seeds: starting anew", self.path)
            saved = {}
        self.finished: list[dict[str, Any]] = saved.pop("finished", [])
        self.begun = saved if "model" in saved else None
        self.last_save = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        if self.current < len(self.finished):
            return self.finished[self.current]
        return self.begun if self.current == len(self.finished) else None

    def save(self, state: dict[str, Any]) -> None:
        self.whole.save({**state, "groups": self.groups, "finished": self.finished})
        self.last_save = time.monotonic()

    def finish(
        self,
        network: nn.Module,
        optimisers: Mapping[str, torch.optim.Optimizer],
        history: History,
        epochs: int,
    ) -> None:
        """The current group has been trained to its end."""
        if self.current == len(self.finished):
            state = {
                "model": network.state_dict(),
                # Nothing is left to do for them.
                "optimisers": {part: {**one.state_dict(), "state": {}} for part, one in optimisers.items()},
                "scheduler": None,
                "rows": history.rows,
                "best": None,
                "best_value": math.nan,
                "best_epoch": history.best_epoch,
                "epochs_done": epochs,
            }
            self.finished.append(state)
            self.begun = None
            if time.monotonic() - self.last_save >= GROUP_CHECKPOINT_EVERY_S:
                self.save({})
        self.current += 1


class BatchedModel(Generic[Network]):
    """What models of many seeds share: the seeds and their streams, the device, the trained network, its history.

    ``name`` is the first name of every random stream, and stands in the log. ``model`` is the network, once there is
    one.
    """

    name: ClassVar[str]

    def __init__(self, options: Any, seeds: Sequence[int]) -> None:
        self.options = options
        self.seeds = list(seeds)
        self.device = choose_device()
        self.model: Network | None = None
        self.history = History()
        self.group = ""  # which of the seeds these are, in the log

    @property
    def trained(self) -> Network:
        if self.model is None:
            raise RuntimeError("fit() first")
        return self.model

    def on_device(self, *tensors: Tensor) -> Iterator[Tensor]:
        return (tensor.to(self.device) for tensor in tensors)

    def streams(self, *names: object) -> SeedStreams:
        """The random streams of a purpose, one per seed."""
        return SeedStreams(self.seeds, self.name, *names)

    def shuffled(self, streams: SeedStreams, rows: int, batch_size: int) -> Iterator[Tensor]:
        """One epoch's row numbers [S, B] on the device."""
        return self.on_device(*shuffled_batches(streams, rows, batch_size))

    def train(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
        *,
        batches: Callable[[int], Iterable[Any]],
        loss: Callable[[Any], Tensor],
        epochs: int,
        checkpoint: Checkpoint | None = None,
        name: str = "",
        **more: Any,
    ) -> None:
        """Train ``network`` by the one loop and keep it; see :func:`foley.training.loop.fit`.

        ``loss`` is a sum over seeds, so that each seed's gradient is that of its own loss. Nothing may draw from
        torch's global stream: random numbers come from ``streams``.
        """
        self.model = network
        self.history = fit(
            network, optimiser, batches=batches, loss=loss, epochs=epochs, seed=0, checkpoint=checkpoint,
            name=(name or self.name) + self.group, **more,
        )  # fmt: skip
        if isinstance(checkpoint, _GroupCheckpoint):
            optimisers = {"": optimiser} if isinstance(optimiser, torch.optim.Optimizer) else optimiser
            checkpoint.finish(network, optimisers, self.history, epochs)

    def train_in_groups(
        self,
        train: Callable[[Self, slice, Checkpoint | None], None],
        *,
        bytes_per_seed: int,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Train the seeds in groups whose state a CPU keeps at hand, and keep one network of all.

        A seed's numbers do not depend on its group. A GPU takes all seeds at once. Worth it where a step does little
        but pass over the weights (ALE on single clips) or where they fill the memory of a whole batch.

        Args:
            train: trains a model of some of the seeds by :meth:`train`, once; gets their places and where to leave
                off. The model is a shallow copy of this one.
            bytes_per_seed: what a step reads and writes: :data:`ADAM_BYTES` for each parameter, activations.
        """
        limit = CACHE_BYTES if 2 * bytes_per_seed <= CACHE_BYTES else HEAP_BYTES
        if self.device.type != "cpu":
            limit = len(self.seeds) * bytes_per_seed
        parts = seed_groups(len(self.seeds), bytes_per_seed, limit)
        if checkpoint is not None:
            checkpoint = _GroupCheckpoint(checkpoint, [self.seeds[part] for part in parts])
        models = []
        for part in parts:
            model = copy.copy(self) if len(parts) > 1 else self
            model.seeds = self.seeds[part]
            if len(parts) > 1:
                model.group = f" (seeds {part.start + 1} to {part.stop} of {len(self.seeds)})"
            train(model, part, checkpoint)
            models.append(model)
        if len(parts) > 1:
            self.model = join_seeds([model.trained for model in models])
            self.history = _total([model.history for model in models])

    def draw_by_class(self, vectors: Tensor, draw: Callable[[SeedStreams, Tensor], Tensor]) -> Tensor:
        """Class vectors [C, A], and what draws samples [S, count, D] for one of them -> [S, C, count, D].

        Each class has streams of its own: its numbers depend on its row and vector alone.
        """
        drawn = [
            draw(self.streams("sample", number), vector)
            for number, vector in enumerate(vectors.to(self.device))
        ]
        return torch.stack(drawn, dim=1).cpu()


def _total(histories: Sequence[History]) -> History:
    """The history of all seeds: a loss is a sum over them."""
    rows = [
        (*alike[0][:2], math.fsum(value for *_, value in alike))
        for alike in zip(*(history.rows for history in histories), strict=True)
    ]
    return History(rows, histories[0].best_epoch)
