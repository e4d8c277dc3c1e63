"""What a zero-shot classifier is: it scores embeddings against classes, seen and unseen alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from foley.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class ZeroShotData:
    """What a zero-shot classifier learns from.

    ``embeddings`` [N, D] real, of seen classes, the same for all seeds, or [S, N, L] where a generator has taken
    them into a space of its own (``LatentGenerator``); ``classes`` [N] rows into ``vectors`` [C, A], which holds the
    seen classes first and the unseen ones from row ``seen`` on; ``synthetic`` [S, C - seen, K, D or L], one set per
    seed, or None for a classifier without a generator.
    """

    embeddings: Tensor
    classes: Tensor
    vectors: Tensor
    seen: int
    synthetic: Tensor | None = None

    @property
    def real(self) -> tuple[Tensor, Tensor]:
        """Real embeddings and their classes."""
        return self.embeddings, self.classes

    @property
    def made(self) -> tuple[Tensor, Tensor]:
        """Synthetic embeddings [S, (C - seen) K, D] and their classes [(C - seen) K]."""
        assert self.synthetic is not None
        unseen, count = self.synthetic.shape[1:3]
        rows = torch.arange(self.seen, self.seen + unseen, device=self.synthetic.device)
        return self.synthetic.flatten(1, 2), rows.repeat_interleave(count)

    def to(self, device: torch.device) -> ZeroShotData:
        return replace(
            self,
            embeddings=self.embeddings.to(device),
            classes=self.classes.to(device),
            vectors=self.vectors.to(device),
            synthetic=self.synthetic.to(device) if self.synthetic is not None else None,
        )


class ZeroShotClassifier(Protocol):
    """All seeds are one batched model (leading axis S)."""

    Options: ClassVar[type]

    def __init__(self, options: Any, seeds: Sequence[int]) -> None: ...

    def fit(self, data: ZeroShotData, *, checkpoint: Checkpoint | None = None) -> None:
        """Learn, continuing from ``checkpoint`` if an interrupted training left it.

        Raises:
            ValueError: a classifier that knows a class by examples only was given none of unseen classes.
        """

    def score(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """[N, D] or [S, N, L], and the classes that compete [C'], rows into ``vectors`` of what was learnt from
        -> scores [S, N, C']; higher is likelier. A classifier without randomness gives each seed the same."""
