"""The YAMNet-like network on chunks of log-mel frames: what a neuralogram is made of where nothing is pretrained.

It is that of `foley.encoders.yamnet` (Sims et al., arXiv 2412.03771), trained on the study's own training clips with
one label or several. Its batch norms average the first steps evenly: with PyTorch's running average alone their
statistics are the initial ones for nine tenths after a step, and next to nothing of a clip is left behind fourteen
layers until some forty steps are done; a short training, or one whose best epoch is an early one, would end in a
network that says the same of every clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.classifiers.chunk_network import ChunkNetwork, ChunkTraining, mean_of_real_cells, settle
from foley.encoders.yamnet import YAMNet, YAMNetOptions

# PyTorch's: the share of a new batch in the running statistics.
_MOMENTUM = 0.1
# Frames to a cell of the last maps.
_STRIDE = 16


@dataclass(frozen=True)
class ChunkYAMNetOptions(ChunkTraining):
    """``window_frames``: log-mel frames that the network sees at once (0.96 s); ``dim``: activations it has."""

    dim: int = 128
    window_frames: int = 96
    dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim < 1 or self.window_frames < 16 or not 0 <= self.dropout < 1:
            raise ValueError(
                "dim must be at least 1, window_frames at least 16 (the network halves time four times), dropout in "
                "[0, 1)"
            )


class ChunkYAMNet(ChunkNetwork):
    """Log-mel frames [B, T, mels], cut or filled to the window -> activations [B, dim] -> class scores [B, classes].

    What fills it is the training clips' mean; the maps are averaged over the share that is real.
    """

    Options = ChunkYAMNetOptions

    def __init__(
        self, inputs: int, frames: int, classes: int, options: ChunkYAMNetOptions | None = None
    ) -> None:
        o = options if options is not None else ChunkYAMNetOptions()
        super().__init__(inputs, o.dim, classes)
        self.options = o
        network = YAMNet(1, YAMNetOptions(dim=o.dim, dropout=o.dropout))
        self.body, self.neck = network.body, network.neck
        self.norms = [part for part in self.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]

    def pool(self, x: Tensor, valid: Tensor) -> Tensor:
        if self.training:
            settle(self.norms, _MOMENTUM)
        # Always as long as the window, so that what else is in the batch changes nothing.
        window = self.options.window_frames
        x = functional.pad(x[:, :window], (0, 0, 0, max(0, window - x.shape[1])))
        maps = self.body(x.unsqueeze(1).contiguous(memory_format=torch.channels_last))
        return self.neck(mean_of_real_cells(maps, valid[:, :window], _STRIDE))
