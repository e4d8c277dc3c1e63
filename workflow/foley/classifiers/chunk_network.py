"""Networks that read chunks of frames: how they are trained, and how a clip is scored by its chunks.

Training draws one chunk of each clip in an epoch, so that a clip of 30 s counts no more than one of 1 s. A clip's
score is the mean over all its chunks of what the network says of each (arXiv 2309.08751): class probabilities of a
softmax where a clip has one label, of a sigmoid for each class where it has several. In both a chunk counts by its
share of real frames, so that the last hundredth of a second counts no more than any other.
"""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.features.chunks import Chunks
from foley.runtime.seeds import SeedStreams, derive
from foley.training.checkpoint import Checkpoint
from foley.training.loop import EarlyStopping, History, Precision, autocast_dtype, choose_device, fit

log = logging.getLogger(__name__)

FEWEST_SCHEDULED_STEPS = 11  # with ten, the warm-up over a tenth would end as it begins
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class ChunkTraining:
    """How a network of chunks is trained.

    epochs: each sees every clip once, by one chunk of it.
    patience: epochs without a better validation score before training stops; the best measured epoch's weights stay.
    validate_every: epochs from one look at the validation clips to the next. A look scores all their chunks, an epoch
    learns one chunk of each training clip, so that with long clips looking may cost more than learning.
    schedule: ``one_cycle`` (linear warm-up over a tenth, then cosine down to zero) or ``constant``.
    """

    epochs: int = 100
    patience: int = 100
    validate_every: int = 1
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    label_smoothing: float = 0.0
    gradient_clip: float = 1.0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "validate_every", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.patience < self.validate_every:
            raise ValueError("patience must not be below validate_every: nothing would have been measured")
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.gradient_clip <= 0:
            raise ValueError("learning_rate and gradient_clip must be positive, weight_decay not negative")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must lie in [0, 1)")


class ChunkNetwork(nn.Module, ABC):
    """Frames [B, T, inputs], of which ``valid`` [B, T] are real -> ``embed`` [B, E] -> class scores [B, classes].

    ``mean`` and ``deviation`` [inputs] scale what comes in; they lie in the model, so that a chunk needs nothing else.
    """

    Options: ClassVar[type]
    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, embedding: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(embedding, classes)
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))

    @abstractmethod
    def pool(self, x: Tensor, valid: Tensor) -> Tensor:
        """Scaled frames [B, T, inputs] -> one embedding a chunk [B, E], whatever padding holds."""

    def embed(self, x: Tensor, valid: Tensor) -> Tensor:
        scaled = (x - self.mean) / self.deviation
        # Padding may hold anything, also what is no number.
        return self.pool(scaled.masked_fill(~valid.unsqueeze(2), 0.0), valid)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return self.head(self.embed(x, valid))


@dataclass(frozen=True)
class Targets:
    """What clips are: clip id -> numbers of its classes in [0, classes)."""

    classes_of: Mapping[str, Sequence[int]]
    classes: int
    multi_label: bool

    def rows(self, clip_ids: Sequence[str] | np.ndarray) -> Tensor:
        """[N] class numbers, or [N, classes] of zeros and ones where clips have several labels."""
        if not self.multi_label:
            return torch.tensor([self.classes_of[c][0] for c in clip_ids], dtype=torch.int64)
        out = torch.zeros(len(clip_ids), self.classes)
        for row, clip_id in enumerate(clip_ids):
            out[row, list(self.classes_of[clip_id])] = 1.0
        return out

    def loss(self, scores: Tensor, wanted: Tensor, smoothing: float = 0.0) -> Tensor:
        """Softmax cross-entropy, or binary cross-entropy averaged over classes; mean over the batch."""
        if not self.multi_label:
            return functional.cross_entropy(scores, wanted, label_smoothing=smoothing)
        wanted = wanted * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(scores, wanted)

    def probabilities(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() if self.multi_label else scores.softmax(dim=-1)


@dataclass(frozen=True)
class Measure:
    """What validation clips are measured by; higher is better.

    of: what clips are (`Targets.rows`) and their scores [N, classes] -> the value.
    """

    name: str
    of: Callable[[np.ndarray, np.ndarray], float]


# What a network is shown of some chunks: its positional arguments.
Take = Callable[[np.ndarray], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Examples:
    """Chunks of clips by number: ``clip_ids`` [N] of each, ``take`` for what a network sees of some of them, and
    ``shares`` [N], how much of each is real, from 0 to 1; all of it when left out."""

    clip_ids: np.ndarray
    take: Take
    shares: np.ndarray | None = None

    @classmethod
    def of(cls, chunks: Chunks, device: torch.device) -> Examples:
        return cls(chunks.clip_ids, lambda rows: chunks.take(rows, device), chunks.shares)


class OneChunkPerClip:
    """Batches of chunk numbers: an epoch has one chunk of each clip, drawn anew, the likelier the more of it is real.

    Args:
        clip_ids: [N] clip of each chunk.
        rows: numbers of the chunks that are drawn from.
        shares: [N] real share of each; chunks of a clip that are all alike are equally likely.
    """

    def __init__(
        self,
        clip_ids: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        seed: int,
        shares: np.ndarray | None = None,
    ) -> None:
        of_clip: dict[str, list[int]] = {}
        for row in rows.tolist():
            of_clip.setdefault(clip_ids[row], []).append(row)
        parts = list(of_clip.values())
        self.flat = np.array([row for part in parts for row in part])
        self.counts = np.array([len(part) for part in parts])
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.seed = seed
        own = np.ones(len(self.flat)) if shares is None else shares[self.flat].astype(np.float64)
        self.ends = np.cumsum(own)
        self.totals = np.add.reduceat(own, self.starts) if len(own) else own
        first = np.repeat(own[self.starts], self.counts)
        self.uneven = np.bincount(np.repeat(np.arange(len(self.counts)), self.counts), own != first) > 0

        # A single last clip joins the batch before it: batch norm has no variance over one.
        full, rest = divmod(len(self.counts), batch_size)
        self.edges = [batch_size * k for k in range(full + (rest > 1 or full == 0))] + [len(self.counts)]

    def __len__(self) -> int:
        return len(self.edges) - 1

    def epoch(self, number: int) -> Iterator[np.ndarray]:
        streams = SeedStreams([self.seed], "chunks", number)
        order = streams.permutations(len(self.counts))[0].numpy()
        uniform = streams.uniform(len(self.counts))[0].double().numpy()
        drawn = (uniform * self.counts).astype(np.int64)
        if self.uneven.any():
            before = np.concatenate([[0.0], self.ends])[self.starts]
            place = np.searchsorted(self.ends, before + uniform * self.totals, side="right")
            drawn = np.where(self.uneven, np.maximum(place - self.starts, 0), drawn)
        rows = self.flat[self.starts + np.minimum(drawn, self.counts - 1)][order]
        for begin, end in itertools.pairwise(self.edges):
            yield rows[begin:end]


def train(
    network: nn.Module,
    options: ChunkTraining,
    examples: Examples,
    targets: Targets,
    *,
    training: np.ndarray,
    validation: np.ndarray,
    measure: Measure,
    seed: int,
    checkpoint: Checkpoint | None = None,
    name: str = "network",
) -> History:
    """Train ``network`` on the chunks ``training`` (row numbers); keep the epoch that is best on ``validation``.

    Without validation chunks the last epoch stays.

    Raises:
        ValueError: no training chunks.
        NonFiniteLoss: with the epoch.
    """
    if not len(training):
        raise ValueError("no clip is left to train on; add clips")
    o, device = options, choose_device()
    network.to(device)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay, fused=True
    )
    draws = OneChunkPerClip(examples.clip_ids, training, o.batch_size, seed, examples.shares)
    steps = len(draws) * o.epochs
    scheduler = (
        torch.optim.lr_scheduler.OneCycleLR(optimiser, o.learning_rate, total_steps=steps, pct_start=0.1)
        if o.schedule == "one_cycle" and steps >= FEWEST_SCHEDULED_STEPS
        else None
    )

    def loss(rows: np.ndarray) -> Tensor:
        scores = network(*examples.take(rows)).float()
        return targets.loss(scores, targets.rows(examples.clip_ids[rows]).to(device), o.label_smoothing)

    def clip(parameters: Sequence[nn.Parameter]) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, o.gradient_clip)

    quantity = f"validation_{measure.name}"

    def validate() -> dict[str, float]:
        clip_ids, scores = clip_scores(network, examples, targets, validation)
        return {quantity: measure.of(targets.rows(clip_ids).numpy(), scores)}

    has_validation = len(validation) > 0
    return fit(
        network,
        optimiser,
        batches=draws.epoch,
        loss=loss,
        epochs=o.epochs,
        seed=seed,
        validate=validate if has_validation else None,
        validate_every=o.validate_every,
        early_stopping=EarlyStopping(quantity, o.patience, higher_is_better=True) if has_validation else None,
        scheduler=scheduler,
        before_step=clip,
        autocast=autocast_dtype(o.precision, device),
        checkpoint=checkpoint,
        name=name,
    )


def standardise(network: ChunkNetwork, chunks: Chunks, training: np.ndarray) -> None:
    """Scale a network's input by the mean and deviation of each dimension over the real frames of training chunks."""
    if not chunks.facts.standardise:
        return
    total = torch.zeros(chunks.facts.dim, dtype=torch.float64)
    squares, count = torch.zeros_like(total), 0
    for begin in range(0, len(training), EVALUATION_BATCH):
        x, valid = chunks.take(training[begin : begin + EVALUATION_BATCH], torch.device("cpu"))
        real = x[valid].double()
        total += real.sum(0)
        squares += real.square().sum(0)
        count += len(real)
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    network.mean.copy_(mean.float())
    # A dimension that never varies is shifted only.
    network.deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)).float())


def initialise(seed: int, *names: object) -> None:
    """Seed torch's global stream, from which initial weights are drawn."""
    torch.manual_seed(derive(seed, "initialise", *names))


@torch.inference_mode()
def run_in_batches(
    run: Callable[..., Tensor], examples: Examples, rows: np.ndarray, batch_size: int = EVALUATION_BATCH
) -> np.ndarray:
    """``run`` on chunks, in batches: [N, ...] float32."""
    parts = [
        run(*examples.take(rows[begin : begin + batch_size])).float().cpu().numpy()
        for begin in range(0, len(rows), batch_size)
    ]
    return np.concatenate(parts)


def clip_scores(
    network: nn.Module, examples: Examples, targets: Targets, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clips of the chunks ``rows``, sorted [C], and the mean probabilities over each one's chunks [C, classes]."""
    network.eval()
    said = run_in_batches(lambda *x: targets.probabilities(network(*x).float()), examples, rows)
    shares = None if examples.shares is None else examples.shares[rows]
    return clip_means(examples.clip_ids[rows], said, shares)


def clip_means(
    clip_ids: np.ndarray, values: np.ndarray, shares: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Values of chunks [N, ...] -> sorted clip ids [C] and the mean over each clip's chunks [C, ...].

    A chunk counts by its real share [N]; all alike when left out. Sums are in float64 and in the order of the values,
    so that a clip's score does not depend on that order beyond the last bits of a float64.
    """
    names, place = np.unique(clip_ids.astype(str), return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    weights = np.ones(len(values)) if shares is None else np.asarray(shares, dtype=np.float64)
    each = weights.reshape(-1, *[1] * (values.ndim - 1))
    np.add.at(sums, place, values.astype(np.float64) * each)
    counts = np.bincount(place, weights, minlength=len(names)).reshape(-1, *[1] * (values.ndim - 1))
    return names.astype(object), (sums / counts).astype(np.float32)


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean of [B, T, D] over the frames that are real [B, T]."""
    weights = valid.to(x.dtype).unsqueeze(2)
    return (x * weights).sum(dim=1) / weights.sum(dim=1)


def mean_of_real_cells(maps: Tensor, valid: Tensor, stride: int) -> Tensor:
    """Mean over time and frequency of a convolutional network's maps [B, C, T, F] -> [B, C].

    Args:
        valid: [B, frames] which frames are real, the first ones of each chunk.
        stride: frames to a cell of T. Cells that begin behind the last real frame are left out; where there is none,
            the mean is the plain one, to the last bit.
    """
    cells = -(-valid.sum(dim=1) // stride)
    whole, full = maps.mean(dim=(2, 3)), cells >= maps.shape[2]
    if bool(full.all()):
        return whole
    real = (torch.arange(maps.shape[2], device=maps.device) < cells[:, None]).to(maps.dtype)
    part = (maps.mean(dim=3) * real[:, None]).sum(dim=2) / real.sum(dim=1, keepdim=True)
    return torch.where(full[:, None], whole, part)


def settle(norms: Sequence[nn.BatchNorm1d | nn.BatchNorm2d], momentum: float) -> None:
    """Let running statistics be the mean over the first steps, and from then on the running average.

    With the running average alone they are the initial ones for a long while, and next to nothing of a chunk is left
    behind a dozen layers.
    """
    # A buffer, so that a training that goes on from a checkpoint knows it.
    seen = norms[0].num_batches_tracked
    steps = 0 if seen is None else int(seen)
    for norm in norms:
        norm.momentum = max(momentum, 1 / (steps + 1))


def count_parameters(
    kind: Callable[[int, int, int, Any], nn.Module], inputs: int, frames: int, classes: int, options: Any
) -> int:
    """Trainable parameters of a network of that size; nothing is stored for it."""
    with torch.device("meta"):
        network = kind(inputs, frames, classes, options)
    return sum(p.numel() for p in network.parameters())


def first_that(enough: Callable[[int], bool]) -> int:
    """The least number from 0 that is enough, if all above it are."""
    high = 1
    while not enough(high):
        high *= 2
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
