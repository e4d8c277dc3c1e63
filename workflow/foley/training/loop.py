"""The one training loop: epochs over batches, validation, early stopping, mixed precision, resume.

Random numbers of an epoch depend on the seed and the epoch alone, so a run that continues from a checkpoint
gives the numbers of a run that was never interrupted.
"""

from __future__ import annotations

import copy
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foley.runtime.seeds import derive
from foley.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16"]
# How often a long training says in the log how far it is.
SAY_EVERY_S = 60.0


class NonFiniteLoss(FloatingPointError):
    """The loss became NaN or infinite; training stops rather than go on with a broken model."""


@dataclass
class EarlyStopping:
    """Stop after ``patience`` epochs without a better ``quantity``, and keep the best weights."""

    quantity: str
    patience: int
    higher_is_better: bool = False


@dataclass
class History:
    """What was measured: ``rows`` of (epoch from 1, quantity, value), and the epoch whose weights were kept."""

    rows: list[tuple[int, str, float]] = field(default_factory=list)
    best_epoch: int = 0

    def as_rows(self) -> list[dict[str, Any]]:
        return [{"epoch": e, "quantity": q, "value": v} for e, q, v in self.rows]

    def last(self, quantity: str) -> float:
        return next(value for _, name, value in reversed(self.rows) if name == quantity)


def choose_device() -> torch.device:
    """CUDA when a device was leased, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The dtype of mixed precision, or None for plain float32.

    ``auto`` takes bfloat16 where the hardware multiplies it natively: on CUDA and on CPUs with AMX tiles.
    """
    if precision == "float32":
        return None
    if precision == "bfloat16" or device.type == "cuda":
        return torch.bfloat16
    return torch.bfloat16 if getattr(torch.cpu, "_is_amx_tile_supported", bool)() else None


def fit(
    model: nn.Module,
    optimiser: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer],
    *,
    batches: Callable[[int], Iterable[Any]],
    loss: Callable[[Any], Tensor],
    epochs: int,
    seed: int,
    turn: Callable[[Any], str] | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    validate_every: int = 1,
    early_stopping: EarlyStopping | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    before_step: Callable[[Sequence[nn.Parameter]], None] | None = None,
    autocast: torch.dtype | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_every_s: float = 30.0,
    name: str = "training",
) -> History:
    """Train ``model`` in place.

    Args:
        optimiser: of the model's parameters; or several by name, of parts of the model that take turns, as in
            adversarial training.
        batches: epoch (from 0) -> its batches, the same whenever it is asked.
        loss: batch -> scalar. The model is in training mode, under autocast.
        seed: of everything that draws from torch's global stream (dropout), anew for each epoch.
        turn: batch -> name of the optimiser whose parameters it trains, where there are several. The others get no
            gradient. The history then has the mean loss of each turn, too (``loss_<name>``).
        validate: measured after each epoch, in evaluation mode without gradients.
        validate_every: epochs from one measurement to the next; the last epoch is always measured.
        early_stopping: keeps the weights of the best epoch; without it the last epoch's stay.
        scheduler: stepped after each batch.
        before_step: sees the parameters with their gradients before each step, to clip them for example.
        autocast: dtype of mixed precision or None.
        checkpoint: where to continue from, and where to leave off every ``checkpoint_every_s``.

    Raises:
        NonFiniteLoss: with the epoch and batch.
    """
    optimisers = {"": optimiser} if isinstance(optimiser, torch.optim.Optimizer) else dict(optimiser)
    if (turn is None) != isinstance(optimiser, torch.optim.Optimizer):
        raise TypeError("several optimisers need `turn`, and one has no use for it")
    parameters = {
        part: [p for group in one.param_groups for p in group["params"]] for part, one in optimisers.items()
    }
    device = next(iter(parameters.values()))[0].device
    history = History()
    best: dict[str, Tensor] | None = None
    best_value = math.nan
    first = 0
    saved = checkpoint.load() if checkpoint is not None else None
    if saved is not None:
        model.load_state_dict(saved["model"])
        for part, one in optimisers.items():
            one.load_state_dict(saved["optimisers"][part])
        if scheduler is not None:
            scheduler.load_state_dict(saved["scheduler"])
        history = History([(int(e), str(q), float(v)) for e, q, v in saved["rows"]], int(saved["best_epoch"]))
        best, best_value, first = saved["best"], float(saved["best_value"]), int(saved["epochs_done"])
        log.info("%s: continues after epoch %d", name, first)
    mixed = torch.autocast(device.type, dtype=autocast) if autocast is not None else nullcontext()
    started = last_save = last_said = time.monotonic()
    for epoch in _progress(range(first, epochs), epochs, name):
        if early_stopping is not None and epoch - history.best_epoch >= early_stopping.patience:
            log.info("%s: no better %s since epoch %d", name, early_stopping.quantity, history.best_epoch)
            break
        torch.manual_seed(derive(seed, "epoch", epoch))
        model.train()
        totals = {part: torch.zeros((), device=device) for part in optimisers}
        counts = dict.fromkeys(optimisers, 0)
        for number, batch in enumerate(batches(epoch)):
            part = turn(batch) if turn is not None else ""
            optimisers[part].zero_grad(set_to_none=True)
            with mixed:
                value = loss(batch)
            value.backward(inputs=parameters[part])
            if before_step is not None:
                before_step(parameters[part])
            # A CUDA device is asked now and then only: each question waits for it.
            if (device.type == "cpu" or number % 50 == 0) and not torch.isfinite(value):
                raise NonFiniteLoss(
                    f"{name}: the loss is {value.item()} in epoch {epoch + 1}, batch {number}; lower the "
                    "learning rate or use precision float32"
                )
            optimisers[part].step()
            if scheduler is not None:
                scheduler.step()
            totals[part] += value.detach()
            counts[part] += 1
        mean = float(sum(totals.values()) / max(sum(counts.values()), 1))
        if not math.isfinite(mean):
            raise NonFiniteLoss(
                f"{name}: the mean loss is {mean} in epoch {epoch + 1}; lower the learning rate"
            )
        history.rows.append((epoch + 1, "loss", mean))
        if turn is not None:
            history.rows += [
                (epoch + 1, f"loss_{part}", float(totals[part]) / max(counts[part], 1)) for part in optimisers
            ]
        if validate is not None and ((epoch + 1) % validate_every == 0 or epoch + 1 == epochs):
            model.eval()
            with torch.no_grad(), mixed:
                measured = validate()
            history.rows += [(epoch + 1, quantity, number) for quantity, number in measured.items()]
            if early_stopping is not None:
                now = measured[early_stopping.quantity]
                better = now > best_value if early_stopping.higher_is_better else now < best_value
                # A measurement that is not a number counts as the worst.
                if best is None or better or (math.isnan(best_value) and not math.isnan(now)):
                    best_value, history.best_epoch = now, epoch + 1
                    best = copy.deepcopy(model.state_dict())
        if time.monotonic() - last_said >= SAY_EVERY_S:
            last_said = time.monotonic()
            log.info("%s: epoch %d of at most %d, loss %.4g", name, epoch + 1, epochs, mean)
        if checkpoint is not None and time.monotonic() - last_save >= checkpoint_every_s:
            checkpoint.save(
                {
                    "model": model.state_dict(),
                    "optimisers": {part: one.state_dict() for part, one in optimisers.items()},
                    "scheduler": scheduler.state_dict() if scheduler is not None else None,
                    "rows": history.rows,
                    "best": best,
                    "best_value": best_value,
                    "best_epoch": history.best_epoch,
                    "epochs_done": epoch + 1,
                }
            )
            last_save = time.monotonic()
    if best is not None:
        model.load_state_dict(best)
    elif early_stopping is None:
        history.best_epoch = epochs
    model.eval()
    log.info("%s: %d epochs in %.1f s", name, epochs - first, time.monotonic() - started)
    return history


def _progress(epochs: range, total: int, name: str) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(
        epochs, total=total, initial=epochs.start, desc=name, unit="epoch", leave=False,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
