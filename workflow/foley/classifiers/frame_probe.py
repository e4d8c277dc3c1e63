"""A probe: a linear layer, or one hidden layer, on the mean of a chunk's frames.

On the activations of a pretrained encoder this is the plain way to use it: what an `embedding` plus a small classifier
reaches, with as many trained parameters as the systems beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from foley.classifiers.chunk_network import (
    ChunkNetwork,
    ChunkTraining,
    count_parameters,
    first_that,
    masked_mean,
)


@dataclass(frozen=True)
class FrameProbeOptions(ChunkTraining):
    """``hidden``: units of the hidden layer; 0 for a linear probe."""

    hidden: int = 0
    dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden < 0 or not 0 <= self.dropout < 1:
            raise ValueError("hidden must not be negative, and dropout lie in [0, 1)")


class FrameProbe(ChunkNetwork):
    """Frames [B, T, inputs] -> their mean, through the hidden layer if there is one -> scores [B, classes]."""

    Options = FrameProbeOptions

    def __init__(
        self, inputs: int, frames: int, classes: int, options: FrameProbeOptions | None = None
    ) -> None:
        o = options if options is not None else FrameProbeOptions()
        super().__init__(inputs, o.hidden or inputs, classes)
        self.options = o
        self.dense = nn.Sequential(nn.Linear(inputs, o.hidden), nn.ReLU()) if o.hidden else nn.Identity()
        self.dropout = nn.Dropout(o.dropout)

    def pool(self, x: Tensor, valid: Tensor) -> Tensor:
        return self.dropout(self.dense(masked_mean(x, valid)))

    @classmethod
    def with_parameters(
        cls, least: int, inputs: int, frames: int, classes: int, options: FrameProbeOptions
    ) -> FrameProbeOptions:
        """The options with the smallest hidden layer that gives the probe ``least`` parameters."""

        def enough(units: int) -> bool:
            wide = replace(options, hidden=units + 1)
            return count_parameters(cls, inputs, frames, classes, wide) >= least

        return replace(options, hidden=first_that(enough) + 1)
