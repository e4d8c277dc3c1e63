"""What an embedding generator is: trained on real embeddings of seen classes, it draws embeddings of any class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from foley.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class SeenData:
    """Training data: ``embeddings`` [N, D], ``classes`` [N] rows into ``vectors`` [C, A] (seen classes only)."""

    embeddings: Tensor
    classes: Tensor
    vectors: Tensor


class EmbeddingGenerator(Protocol):
    """All seeds are one batched model (leading axis S)."""

    Options: ClassVar[type]

    def __init__(self, options: Any, seeds: Sequence[int]) -> None: ...

    def fit(self, data: SeenData, *, checkpoint: Checkpoint | None = None) -> None:
        """Train on seen classes, continuing from ``checkpoint`` if an interrupted training left it."""

    def sample(self, vectors: Tensor, count: int) -> Tensor:
        """Class vectors [C, A] -> ``count`` embeddings of each class [S, C, count, D].

        A class's numbers depend on its vector and its row, not on the order of drawing.
        """
