"""What an augmentation is: it changes a batch of clips by random numbers that belong to the clips.

A clip's numbers depend on the seed, the clip and how often it was seen before, on nothing else: not on its place in
the batch, not on the batch's other clips, not on the device. So an interrupted training goes on to the same result,
and two arms of a study give a clip that both hold the same changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from foley.runtime.seeds import SeedStreams, derive


@dataclass(frozen=True)
class Draws:
    """Whose random numbers a batch gets: its ``clip_ids``, and for each the ``visits`` before this one.

    No clip may stand in a batch twice at the same visit: both would get the same numbers.
    """

    seed: int
    clip_ids: Sequence[str]
    visits: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.clip_ids) != len(self.visits):
            raise ValueError(f"{len(self.clip_ids)} clips, but visits of {len(self.visits)}")

    def __len__(self) -> int:
        return len(self.clip_ids)

    def streams(self, *names: object) -> SeedStreams:
        """One random stream per clip for the purpose called ``names``; what it gives is [B, ...] on the CPU."""
        pairs = zip(self.clip_ids, self.visits, strict=True)
        return SeedStreams([derive(self.seed, clip, visit) for clip, visit in pairs], *names)

    def of(self, rows: Iterable[int]) -> Draws:
        """Those of some rows of the batch."""
        rows = list(rows)
        return Draws(self.seed, [self.clip_ids[row] for row in rows], [self.visits[row] for row in rows])


@runtime_checkable
class WaveformAugmentation(Protocol):
    """Changes waveforms [B, T], before features are taken from them."""

    Options: ClassVar[type]

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] float32 -> [B, T], a new tensor; the argument stays as it is."""

    def reach(self, samples: int) -> int:
        """How many samples of input the first ``samples`` of the output can depend on (at least ``samples``)."""


@runtime_checkable
class FeatureAugmentation(Protocol):
    """Changes spectrograms [B, frames, mels], as the network is to see them."""

    Options: ClassVar[type]

    def change_features(self, features: Tensor, draws: Draws) -> Tensor:
        """[B, frames, mels] float32 -> the same shape, a new tensor."""


@runtime_checkable
class BatchAugmentation(Protocol):
    """Changes spectrograms and what the network should say of them."""

    Options: ClassVar[type]

    def change_batch(self, features: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """[B, frames, mels] and class probabilities [B, C] -> both changed, new tensors."""


@dataclass(frozen=True)
class Augmentations:
    """Several augmentations: waveforms first, then features, then batches; within each in the given order."""

    waveform: Sequence[WaveformAugmentation] = field(default=())
    feature: Sequence[FeatureAugmentation] = field(default=())
    batch: Sequence[BatchAugmentation] = field(default=())

    @classmethod
    def of(cls, parts: Iterable[Any]) -> Augmentations:
        """Each part put where it belongs.

        Raises:
            TypeError: a part is no augmentation.
        """
        parts = list(parts)
        for part in parts:
            if not isinstance(part, WaveformAugmentation | FeatureAugmentation | BatchAugmentation):
                raise TypeError(
                    f"{type(part).__name__} is no augmentation: it needs change_waveforms and reach, "
                    "change_features, or change_batch"
                )
        return cls(
            [part for part in parts if isinstance(part, WaveformAugmentation)],
            [part for part in parts if isinstance(part, FeatureAugmentation)],
            [part for part in parts if isinstance(part, BatchAugmentation)],
        )

    def reach(self, samples: int) -> int:
        """How many samples of a clip are needed for the first ``samples`` of what leaves the waveform stage."""
        for part in reversed(self.waveform):
            samples = part.reach(samples)
        return samples

    def change_waveforms(self, waveforms: Tensor, draws: Draws) -> Tensor:
        """[B, T] -> [B, T]."""
        for part in self.waveform:
            waveforms = part.change_waveforms(waveforms, draws)
        return waveforms

    def change_features(self, features: Tensor, draws: Draws) -> Tensor:
        """[B, frames, mels] -> [B, frames, mels]."""
        for part in self.feature:
            features = part.change_features(features, draws)
        return features

    def change_batch(self, features: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """[B, frames, mels], [B, C] -> the same shapes."""
        for part in self.batch:
            features, targets = part.change_batch(features, targets, draws)
        return features, targets


def check_probability(probability: float) -> None:
    """
    Raises:
        ValueError: not a probability.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], not {probability}")
