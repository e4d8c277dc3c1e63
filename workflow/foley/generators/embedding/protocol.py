"""What an embedding generator is: trained on real embeddings of seen classes, it draws embeddings of any class.

Most draw in the space of the real embeddings. A ``LatentGenerator`` draws in a space of its own, and takes real
embeddings there, too: classifiers then learn and decide in that space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

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

        A class's numbers depend on its vector and its row, not on the order of drawing. The first n of many are a
        draw of n, up to rounding: learning curves read them so.
        """


@runtime_checkable
class CoupledGenerator(Protocol):
    """What a generator has on top when the samples that ``sample`` draws of a class are not independent.

    A classifier may learn the better from such samples; measures that compare distributions need independent ones.
    """

    def sample_independent(self, vectors: Tensor, count: int) -> Tensor:
        """As ``sample``, but all samples are independent."""


@runtime_checkable
class LatentGenerator(Protocol):
    """What a generator has on top when ``sample`` draws in a space of its own, of L dimensions.

    The study keeps both in the table ``projected_embeddings``; a generator without them leaves it empty.
    """

    def project(self, embeddings: Tensor) -> Tensor:
        """Real embeddings [N, D] -> where each lies in the space of ``sample`` [S, N, L], without randomness.

        Clips are recognised there.
        """

    def draw_seen(self, data: SeenData) -> tuple[Tensor, Tensor]:
        """What classifiers learn seen classes from, in place of the real embeddings of ``data``.

        Returns:
            Rows into ``data.embeddings`` [M], any number of times each, and a draw for each [S, M, L].
        """
