"""What an audio generator is: it learns from labelled clips, or comes trained, and makes clips of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from foley.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class LabelledClips:
    """Training clips: ids, class ids and mono waveforms ([T_i] float32 in [-1, 1]), in one order.

    Raises:
        ValueError: the parts differ in length, or there is no clip.
    """

    clip_ids: Sequence[str]
    classes: Sequence[str]
    waveforms: Sequence[np.ndarray]
    sample_rate_hz: int

    def __post_init__(self) -> None:
        counts = len(self.clip_ids), len(self.classes), len(self.waveforms)
        if len(set(counts)) > 1:
            raise ValueError(
                f"{counts[0]} clip ids, {counts[1]} classes and {counts[2]} waveforms: not alike"
            )
        if not counts[0]:
            raise ValueError("no clips to learn from; check the split and the class filter")


class AudioGenerator(Protocol):
    """A generator of mono clips of ``sample_rate_hz``."""

    Options: ClassVar[type]

    def __init__(self, options: Any, seed: int) -> None: ...

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def class_ids(self) -> tuple[str, ...]:
        """The classes that it knows."""

    def fit(self, data: LabelledClips, *, checkpoint: Checkpoint | None = None) -> None:
        """Train, continuing from ``checkpoint`` if an interrupted training left it."""

    def generate(self, classes: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """One clip for each (class, seed): [N, T] float32 on the CPU.

        A clip depends on its own class and seed, not on its place or on the other clips.

        Raises:
            ValueError: an unknown class, or as many seeds as classes are not given.
        """
