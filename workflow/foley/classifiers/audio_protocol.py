"""What a classifier of audio is, and how all of them are trained: from waveforms, through the one training loop, for
a fixed number of optimiser steps.

Steps, not epochs: an arm of a study that adds clips would otherwise train longer, too, and its gain would not be the
clips'. Every step sees a full batch. Clips come in an endless row of shuffled epochs, and a batch may hold the end of
one epoch and the beginning of the next.

Seeds are trained one after another. A convolutional network fills a device with one seed, unlike the small models of
``training/batched.py``, and as many activations more would not fit beside it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from foley.augment.protocol import Augmentations, Draws
from foley.runtime.seeds import SeedStreams, derive
from foley.tables import atomic_file
from foley.training.checkpoint import Checkpoint
from foley.training.halving import batches_that_fit
from foley.training.loop import (
    EarlyStopping,
    History,
    NonFiniteLoss,
    Precision,
    autocast_dtype,
    choose_device,
    fit,
)

# Fewer steps leave nothing to warm up.
FEWEST_SCHEDULED_STEPS = 10
# Clips whose front end is computed at once where nothing is trained.
FRONT_END_BATCH = 64
# Clip ids that an error names.
NAMED_CLIPS = 8


@dataclass(frozen=True)
class TrainingOptions:
    """How a classifier of audio is trained.

    steps: optimiser steps, the same whatever the number of clips.
    validate_every_steps: steps between two looks at the validation clips; the history has a row for each.
    schedule: of the learning rate: ``constant``, ``cosine`` (down to zero), or ``one_cycle`` (linear warm-up over a
    fifth of the steps, then cosine down to zero).
    keep: weights of the ``last`` step, or those of the ``best`` validation accuracy. All steps are taken either way.
    optimiser: ``adamw`` takes weight decay off the weights, ``adam`` adds it to the gradient as an L2 penalty does;
    they are one without weight decay.
    betas: decay of the mean of gradients and of that of their squares; ``one_cycle`` moves the first by itself.
    """

    steps: int = 3_100
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    label_smoothing: float = 0.0
    validate_every_steps: int = 62
    keep: Literal["last", "best"] = "last"
    precision: Precision = "auto"
    optimiser: Literal["adamw", "adam"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        for name in ("steps", "validate_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch norm has no variance over one clip")
        if self.learning_rate <= 0 or self.weight_decay < 0 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                "learning_rate must be positive, weight_decay not negative, label_smoothing in [0, 1)"
            )
        if not 0 <= min(self.betas) <= max(self.betas) < 1:
            raise ValueError("betas must lie in [0, 1)")


@dataclass(frozen=True)
class LabelledClips:
    """``waveforms`` [N, T] float32 in [-1, 1], shorter clips padded with zeros; ``labels`` [N] class numbers.

    ``clip_ids`` are unique: a clip's random numbers follow from its id, so a duplicate that is to be augmented in
    another way needs an id of its own.
    """

    waveforms: Tensor
    labels: Tensor
    clip_ids: Sequence[str]
    sample_rate_hz: int

    def __post_init__(self) -> None:
        if self.waveforms.dim() != 2 or self.waveforms.dtype != torch.float32:
            raise ValueError(
                f"waveforms must be [N, T] float32, not {list(self.waveforms.shape)} {self.waveforms.dtype}"
            )
        count = len(self.waveforms)
        if self.labels.shape != (count,) or len(self.clip_ids) != count or not count:
            raise ValueError(
                f"{count} waveforms, labels {list(self.labels.shape)} and {len(self.clip_ids)} clip ids: each clip "
                "needs one of each, and there must be one clip at least"
            )
        if len(set(self.clip_ids)) < count:
            twice = next(c for number, c in enumerate(self.clip_ids) if c in self.clip_ids[:number])
            raise ValueError(f"clip `{twice}` is there twice: give each copy an id of its own")
        # A sum is finite only if its terms are, and needs no mask as large as the audio.
        broken = (~self.waveforms.sum(1).isfinite()).nonzero().squeeze(1).tolist()
        if broken:
            raise ValueError(
                f"clips with samples that are no finite numbers: {_named([self.clip_ids[r] for r in broken])}; "
                "leave them out"
            )

    def __len__(self) -> int:
        return len(self.waveforms)


class ClipNetwork(nn.Module, ABC):
    """Waveforms -> spectrogram (``front_end``) -> last hidden layer (``embed``) -> class scores (``forward``).

    ``front_end`` maps [B, window_samples] to [B, frames, mels]; ``mean`` and ``deviation`` [mels] scale what it gives,
    and lie in the model so that a clip needs nothing else to be recognised.
    """

    mean: Tensor
    deviation: Tensor
    sample_rate_hz: int
    window_samples: int

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(mels))
        self.register_buffer("deviation", torch.ones(mels))

    @property
    def facts(self) -> dict[str, str]:
        """What stands beside the saved weights: all that the network's size follows from, where options do not say."""
        return {}

    @abstractmethod
    def front_end(self, waveforms: Tensor) -> Tensor:
        """[B, window_samples] float32 -> [B, frames, mels]."""

    @abstractmethod
    def embed(self, features: Tensor) -> Tensor:
        """Scaled features [B, frames, mels] -> what the last linear layer sees [B, E]."""

    def features(self, waveforms: Tensor) -> Tensor:
        """Clips [B, T], cut or padded with zeros to the window -> scaled features [B, frames, mels] float32."""
        samples = waveforms.shape[1]
        if samples >= self.window_samples:
            waveforms = waveforms[:, : self.window_samples]
        else:
            waveforms = functional.pad(waveforms, (0, self.window_samples - samples))
        # Half precision has too few digits for spectra.
        with torch.autocast(waveforms.device.type, enabled=False):
            return (self.front_end(waveforms) - self.mean) / self.deviation


@dataclass(frozen=True)
class _Batch:
    rows: Tensor
    draws: Draws
    step: int


class EndlessShuffle:
    """Rows of the batch of any step: shuffled epochs over ``count`` clips, one after another, cut into full batches."""

    def __init__(self, seed: int, count: int, batch_size: int) -> None:
        self.seed, self.count, self.batch_size = seed, count, batch_size
        self._orders: dict[int, Tensor] = {}

    def batch(self, step: int) -> tuple[Tensor, list[int]]:
        """The step's rows [B], and how often each clip was seen before."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = [place // self.count for place in places]
        wanted = range(epochs[0], epochs[-1] + 1)
        self._orders = {e: self._orders[e] if e in self._orders else self._order(e) for e in wanted}
        rows = [self._orders[e][place % self.count] for e, place in zip(epochs, places, strict=True)]
        return torch.stack(rows), epochs

    def _order(self, epoch: int) -> Tensor:
        return SeedStreams([self.seed], "order", epoch).permutations(self.count)[0]


class AudioClassifier(ABC):
    """A network with its training, of one seed.

    Args:
        options: the kind's ``Options``.
        classes: how many there are.
        seed: of the initial weights, the order of clips, dropout and augmentation.
    """

    name: ClassVar[str]
    Options: ClassVar[type]
    # Clips that a trained network looks at together, unless the caller says otherwise.
    clips_at_once: ClassVar[int] = 256

    def __init__(self, options: Any, classes: int, seed: int) -> None:
        if classes < 2:
            raise ValueError(f"{classes} classes: a classifier needs two at least")
        self.options = options
        self.classes = classes
        self.seed = seed
        self.device = choose_device()
        self.model: ClipNetwork | None = None

    @abstractmethod
    def build(self) -> ClipNetwork:
        """The network with its initial weights, drawn from torch's global stream."""

    def rebuild(self, facts: Mapping[str, str]) -> ClipNetwork:
        """A network for weights that were saved with these ``ClipNetwork.facts``; its own are overwritten.

        Raises:
            ValueError: the facts are of another kind of network.
        """
        return self.build()

    def hears(self) -> tuple[int, int]:
        """Sample rate in Hz, and the samples of a clip that reach the network."""
        network = self.build()
        return network.sample_rate_hz, network.window_samples

    def standardises(self) -> bool:
        """Whether features are scaled to mean 0 and deviation 1 in each mel band, measured on the training clips."""
        return True

    @property
    def trained(self) -> ClipNetwork:
        if self.model is None:
            raise RuntimeError("fit() or load() first")
        return self.model

    def fit(
        self,
        clips: LabelledClips,
        *,
        augmentations: Augmentations | None = None,
        validation: LabelledClips | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> History:
        """Train for ``options.steps`` optimiser steps, continuing from ``checkpoint`` if it was left.

        The history's epochs are rounds of ``validate_every_steps`` steps: mean loss, and validation loss and
        accuracy where there are validation clips.

        Raises:
            ValueError: another sample rate than the network's, a label that is no class, ``keep: best`` without
                validation clips.
            NonFiniteLoss: with the clips of the first batch that gave one.
        """
        o = self.options
        changes = augmentations if augmentations is not None else Augmentations()
        if o.keep == "best" and validation is None:
            raise ValueError(
                "`keep: best` selects by validation accuracy: give validation clips, or keep the last"
            )
        torch.manual_seed(derive(self.seed, "initialise"))
        model = self._on_device(self.build())
        for part in (clips, validation):
            if part is not None:
                self._check(part, model)
        self.model = model
        if self.standardises():
            self._measure(model, clips)
        optimiser = _optimiser(model, o)
        shuffle = EndlessShuffle(self.seed, len(clips), o.batch_size)
        # Not more of a clip than its window can depend on.
        samples = min(changes.reach(model.window_samples), clips.waveforms.shape[1])
        first_broken = torch.full((), -1, dtype=torch.int64, device=self.device)

        def batch_of(step: int) -> _Batch:
            rows, visits = shuffle.batch(step)
            return _Batch(
                rows, Draws(self.seed, [clips.clip_ids[row] for row in rows.tolist()], visits), step
            )

        def batches(round_number: int) -> Iterator[_Batch]:
            begin = round_number * o.validate_every_steps
            for step in range(begin, min(begin + o.validate_every_steps, o.steps)):
                yield batch_of(step)

        def loss(batch: _Batch) -> Tensor:
            with torch.no_grad():
                waveforms = clips.waveforms[batch.rows, :samples].to(self.device, non_blocking=True)
                x = model.features(changes.change_waveforms(waveforms, batch.draws))
                x = changes.change_features(x, batch.draws)
                targets = functional.one_hot(clips.labels[batch.rows], self.classes).float().to(self.device)
                x, targets = changes.change_batch(x, targets, batch.draws)
            value = functional.cross_entropy(model(x).float(), targets, label_smoothing=o.label_smoothing)
            # Noted on the device, so that it need not be asked at every step.
            broken = ~value.detach().isfinite() & (first_broken < 0)
            first_broken.copy_(torch.where(broken, batch.step, first_broken))
            return value

        try:
            return fit(
                model,
                optimiser,
                batches=batches,
                loss=loss,
                epochs=-(-o.steps // o.validate_every_steps),
                seed=self.seed,
                validate=(lambda: self._validate(model, validation)) if validation is not None else None,
                # As patient as the training is long: it only keeps the best weights.
                early_stopping=(
                    EarlyStopping("validation_accuracy", o.steps + 1, higher_is_better=True)
                    if o.keep == "best"
                    else None
                ),
                scheduler=_schedule(optimiser, o),
                autocast=autocast_dtype(o.precision, self.device),
                checkpoint=checkpoint,
                name=self.name,
            )
        except NonFiniteLoss as error:
            step = int(first_broken)
            if step < 0:
                raise
            ids = ", ".join(f"`{clip}`" for clip in batch_of(step).draws.clip_ids)
            raise NonFiniteLoss(f"{error}. First in step {step + 1}, with clips {ids}") from error
        except torch.cuda.OutOfMemoryError as error:
            raise RuntimeError(
                f"{self.name}: the device's memory holds no batch of {o.batch_size} clips: lower `batch_size` for "
                "all arms of the study alike"
            ) from error

    @torch.inference_mode()
    def score(self, waveforms: Tensor, sample_rate_hz: int, batch_size: int | None = None) -> Tensor:
        """Clips [N, T] float32 -> log-probabilities of the classes [N, C], on the CPU, in float32 arithmetic.

        Batches are of ``clips_at_once`` unless ``batch_size`` says otherwise. Where the device's memory is too small
        for a batch, batches are halved.

        Raises:
            ValueError: another sample rate than the network's.
        """
        model = self.trained
        return self._in_batches(
            lambda x: model(x).float().log_softmax(1), waveforms, sample_rate_hz, batch_size, self.classes
        )

    @torch.inference_mode()
    def embed(self, waveforms: Tensor, sample_rate_hz: int, batch_size: int | None = None) -> Tensor:
        """Clips [N, T] float32 -> the network's last hidden layer [N, E], on the CPU; batches as in ``score``.

        Raises:
            ValueError: another sample rate than the network's.
        """
        return self._in_batches(
            lambda x: self.trained.embed(x).float(), waveforms, sample_rate_hz, batch_size, 0
        )

    def _in_batches(
        self,
        run: Callable[[Tensor], Tensor],
        waveforms: Tensor,
        sample_rate_hz: int,
        batch_size: int | None,
        width: int,
    ) -> Tensor:
        """``run`` on the features of parts of the clips, joined; [0, width] for no clips."""
        model = self.trained
        batch_size = self.clips_at_once if batch_size is None else batch_size
        self._check_rate(sample_rate_hz, model)
        model.eval()

        def run_part(rows: slice) -> Tensor:
            part = waveforms[rows, : model.window_samples]
            return run(model.features(part.to(self.device))).cpu()

        done = list(batches_that_fit(run_part, len(waveforms), batch_size, self.name))
        return torch.cat(done) if done else torch.empty(0, width)

    def save(self, path: Path) -> None:
        """Weights as safetensors, whole or not at all."""
        state = {name: value.contiguous() for name, value in self.trained.state_dict().items()}
        with atomic_file(path) as temporary:
            save_file(state, temporary, metadata=self.trained.facts or None)

    def load(self, path: Path) -> None:
        """Take the weights that a classifier of the same options and classes saved.

        Raises:
            ValueError: the file holds another network.
        """
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        try:
            model = self.rebuild(facts)
            model.load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no `{self.name}` of {self.classes} classes with these options: {error}"
            ) from error
        self.model = self._on_device(model).eval()

    def _on_device(self, model: ClipNetwork) -> ClipNetwork:
        # Convolutions run faster with the channels innermost.
        return model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _check(self, clips: LabelledClips, model: ClipNetwork) -> None:
        self._check_rate(clips.sample_rate_hz, model)
        low, high = int(clips.labels.min()), int(clips.labels.max())
        if low < 0 or high >= self.classes:
            raise ValueError(
                f"labels from {low} to {high}, but {self.classes} classes: they are numbered from 0"
            )

    def _check_rate(self, sample_rate_hz: int, model: ClipNetwork) -> None:
        if sample_rate_hz != model.sample_rate_hz:
            raise ValueError(
                f"{self.name} expects audio at {model.sample_rate_hz} Hz, not {sample_rate_hz} Hz: resample it"
            )

    @torch.inference_mode()
    def _measure(self, model: ClipNetwork, clips: LabelledClips) -> None:
        """Mean and deviation of each mel band over the training clips, in float64."""
        total = square = torch.zeros(len(model.mean), dtype=torch.float64, device=self.device)
        count = 0
        for part in clips.waveforms.split(FRONT_END_BATCH):
            x = model.features(part[:, : model.window_samples].to(self.device)).double().flatten(0, 1)
            total, square, count = total + x.sum(0), square + x.square().sum(0), count + len(x)
        mean = total / count
        # A band that never changes has nothing to scale.
        deviation = (square / count - mean.square()).clamp(min=0).sqrt()
        model.mean.copy_(mean)
        model.deviation.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def _validate(self, model: ClipNetwork, clips: LabelledClips) -> dict[str, float]:
        total, right = 0.0, 0
        at_once = min(FRONT_END_BATCH, self.clips_at_once)
        parts = (clips.waveforms.split(at_once), clips.labels.split(at_once))
        for waveforms, labels in zip(*parts, strict=True):
            waveforms = waveforms[:, : model.window_samples]
            scores, wanted = model(model.features(waveforms.to(self.device))).float(), labels.to(self.device)
            total += functional.cross_entropy(scores, wanted, reduction="sum").item()
            right += int((scores.argmax(1) == wanted).sum())
        return {"validation_loss": total / len(clips), "validation_accuracy": right / len(clips)}


def steps_of_epochs(epochs: int, clips: int, batch_size: int) -> int:
    """Optimiser steps that ``epochs`` over ``clips`` clips take when each ends in a smaller batch, if need be.

    For a study that gives every arm as many steps as the published training took on the real clips.
    """
    return epochs * math.ceil(clips / batch_size)


def _optimiser(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """Of the parameters that are trained."""
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[options.optimiser]
    return kind(
        [value for value in model.parameters() if value.requires_grad],
        lr=options.learning_rate, betas=options.betas, weight_decay=options.weight_decay,
    )  # fmt: skip


def _schedule(
    optimiser: torch.optim.Optimizer, options: TrainingOptions
) -> torch.optim.lr_scheduler.LRScheduler | None:
    if options.schedule == "constant" or options.steps < FEWEST_SCHEDULED_STEPS:
        return None
    if options.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.steps, pct_start=0.2
    )


def _named(clip_ids: Sequence[str]) -> str:
    """The first ids for an error message."""
    more = f" and {len(clip_ids) - NAMED_CLIPS} more" if len(clip_ids) > NAMED_CLIPS else ""
    return ", ".join(f"`{clip}`" for clip in clip_ids[:NAMED_CLIPS]) + more
