"""Linear heads on every subset of several embeddings, trained as one batched model.

The embeddings of a chunk stand side by side, and each head sees those of its subset: its weights for the others
are zero and stay so. All heads are then one matrix product. A head's numbers do not depend on the others: initial
weights are zero, all see the same batches, Adam works element by element, the loss is a sum over heads, and each
keeps its own best epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.classifiers.chunk_network import Measure, OneChunkPerClip, Targets
from foley.training.checkpoint import Checkpoint
from foley.training.loop import History, choose_device, fit
from foley.training.scaling import Scaling

_BATCH = 1024  # chunks that are scored at once


@dataclass(frozen=True)
class SubsetHeadsOptions:
    """How the heads are trained: Adam with decoupled weight decay, a chunk of each clip in an epoch."""

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch_size must be at least 1")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError("learning_rate must be positive, weight_decay not negative")


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every subset but the empty one: single ones first, all of them last."""
    return [part for size in range(1, len(names) + 1) for part in combinations(names, size)]


class _Heads(nn.Module):
    mask: Tensor
    best_weight: Tensor
    best_bias: Tensor
    best_value: Tensor
    best_epoch: Tensor
    epochs: Tensor

    def __init__(self, mask: Tensor, classes: int) -> None:
        super().__init__()
        heads, dim = mask.shape
        self.weight = nn.Parameter(torch.zeros(heads, dim, classes))
        self.bias = nn.Parameter(torch.zeros(heads, classes))
        self.register_buffer("mask", mask)
        # Buffers, so that a training that goes on from a checkpoint remembers them.
        self.register_buffer("best_weight", torch.zeros(heads, dim, classes))
        self.register_buffer("best_bias", torch.zeros(heads, classes))
        self.register_buffer("best_value", torch.full((heads,), -torch.inf, dtype=torch.float64))
        self.register_buffer("best_epoch", torch.zeros(heads, dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim] -> scores [B, heads, classes]."""
        heads, dim, classes = self.weight.shape
        weight = (self.weight * self.mask.unsqueeze(2)).transpose(0, 1).reshape(dim, heads * classes)
        return torch.addmm(self.bias.flatten(), x, weight).unflatten(1, (heads, classes))

    @torch.no_grad()
    def keep_best(self, values: np.ndarray) -> None:
        """Note each head's weights where its value [heads] is higher than before."""
        self.epochs += 1
        now = torch.from_numpy(values).to(self.best_value)
        better = now > self.best_value
        self.best_value.copy_(torch.where(better, now, self.best_value))
        self.best_epoch.copy_(torch.where(better, self.epochs, self.best_epoch))
        self.best_weight.copy_(torch.where(better[:, None, None], self.weight, self.best_weight))
        self.best_bias.copy_(torch.where(better[:, None], self.bias, self.best_bias))

    @torch.no_grad()
    def restore_best(self) -> None:
        known = self.best_value > -torch.inf
        self.weight.copy_(torch.where(known[:, None, None], self.best_weight, self.weight))
        self.bias.copy_(torch.where(known[:, None], self.best_bias, self.bias))


class SubsetHeads:
    """One linear head for each subset of ``dims``.

    Args:
        dims: embedding id -> its length, in the order in which they stand side by side.
        chosen: the subsets; every one when left out.
    """

    Options = SubsetHeadsOptions

    def __init__(
        self,
        options: SubsetHeadsOptions,
        dims: Mapping[str, int],
        targets: Targets,
        seed: int,
        chosen: Sequence[tuple[str, ...]] | None = None,
    ) -> None:
        self.options, self.targets, self.seed = options, targets, seed
        self.subsets = list(chosen) if chosen is not None else subsets(list(dims))
        self.device = choose_device()
        mask = torch.tensor(
            [[float(name in own) for name, dim in dims.items() for _ in range(dim)] for own in self.subsets]
        )
        self.model = _Heads(mask, targets.classes).to(self.device)
        self.scaling: Scaling | None = None

    def fit(
        self,
        embeddings: Tensor,
        clip_ids: np.ndarray,
        *,
        training: np.ndarray,
        validation: np.ndarray,
        measure: Measure,
        shares: np.ndarray | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> History:
        """Train on chunks' embeddings [N, sum of dims]; each head keeps its best epoch by the validation clips.

        Args:
            shares: [N] how much of each chunk is real: chunks are drawn, and count, by it.
        """
        o, targets, model = self.options, self.targets, self.model
        self.scaling = Scaling.of("standardise", embeddings[training].to(self.device))
        x = self.scaling.apply(embeddings.to(self.device))
        draws = OneChunkPerClip(clip_ids, training, o.batch_size, self.seed, shares)

        def loss(rows: np.ndarray) -> Tensor:
            scores = model(x[rows])
            wanted = targets.rows(clip_ids[rows]).to(self.device)
            # A sum over heads, so that each one's gradient is that of its own loss.
            if not targets.multi_label:
                spread = wanted[:, None].expand(-1, scores.shape[1])
                return functional.cross_entropy(
                    scores.flatten(0, 1), spread.flatten(), reduction="sum"
                ) / len(rows)
            spread = wanted[:, None, :].expand_as(scores)
            summed = functional.binary_cross_entropy_with_logits(scores, spread, reduction="sum")
            return summed / (len(rows) * targets.classes)

        def validate() -> dict[str, float]:
            names, said = self._clip_scores(x, clip_ids, validation, shares)
            wanted = targets.rows(names).numpy()
            values = np.array([measure.of(wanted, of_head) for of_head in said])
            model.keep_best(values)
            return {f"validation_{measure.name}_mean": float(values.mean())}

        history = fit(
            model,
            torch.optim.AdamW(
                model.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay, fused=True
            ),
            batches=draws.epoch,
            loss=loss,
            epochs=o.epochs,
            seed=self.seed,
            validate=validate if len(validation) else None,
            checkpoint=checkpoint,
            name="subset heads",
        )
        model.restore_best()
        return history

    def linear(self, head: int) -> tuple[Tensor, Tensor]:
        """Weights [classes, sum of dims] and bias [classes] of a head for embeddings as they come, not scaled."""
        if self.scaling is None:
            raise RuntimeError("fit() first")
        own = (self.model.weight[head] * self.model.mask[head].unsqueeze(1)).detach()
        weight = own.T / self.scaling.factor
        return weight, self.model.bias[head].detach() - weight @ self.scaling.shift[0]

    def clip_scores(
        self, embeddings: Tensor, clip_ids: np.ndarray, rows: np.ndarray, shares: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clips of the chunks ``rows``, sorted, and each head's mean probabilities over a clip's chunks
        [heads, clips, classes]."""
        if self.scaling is None:
            raise RuntimeError("fit() first")
        return self._clip_scores(self.scaling.apply(embeddings.to(self.device)), clip_ids, rows, shares)

    @torch.no_grad()
    def _clip_scores(
        self, x: Tensor, clip_ids: np.ndarray, rows: np.ndarray, shares: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        names = np.unique(clip_ids[rows].astype(str))
        totals = np.zeros((len(names), len(self.subsets), self.targets.classes))
        counts = np.zeros(len(names))
        place = np.searchsorted(names, clip_ids[rows].astype(str))
        for begin in range(0, len(rows), _BATCH):
            part = slice(begin, begin + _BATCH)
            said = self.targets.probabilities(self.model(x[rows[part]])).double().cpu().numpy()
            weights = np.ones(len(said)) if shares is None else shares[rows[part]]
            np.add.at(totals, place[part], said * weights[:, None, None])
            np.add.at(counts, place[part], weights)
        return names.astype(object), (totals / counts[:, None, None]).transpose(1, 0, 2).astype(np.float32)
