"""What a zero-shot classifier is: it scores embeddings against class vectors, seen and unseen alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from foley.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class ZeroShotData:
    """What a zero-shot classifier learns from.

    ``embeddings`` [N, D] real, of seen classes; ``classes`` [N] rows into ``vectors`` [C, A], which holds the seen
    classes first and the unseen ones from row ``seen`` on; ``synthetic`` [S, C - seen, K, D], one set per seed, or
    None for a classifier without a generator.
    """

    embeddings: Tensor
    classes: Tensor
    vectors: Tensor
    seen: int
    synthetic: Tensor | None = None


class ZeroShotClassifier(Protocol):
    """All seeds are one batched model (leading axis S)."""

    Options: ClassVar[type]

    def __init__(self, options: Any, seeds: Sequence[int]) -> None: ...

    def fit(self, data: ZeroShotData, *, checkpoint: Checkpoint | None = None) -> None: ...

    def score(self, embeddings: Tensor, vectors: Tensor) -> Tensor:
        """[N, D] and class vectors [C, A] -> scores [S, N, C]; higher is likelier."""
