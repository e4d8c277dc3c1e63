"""EfficientAT's MobileNet on chunks of log-mel frames, from scratch: a pretrained neuralogram's network, untrained.

It is that of `foley.encoders.efficientat` (Schmid, Koutini & Widmer 2023), trained on the study's own training clips.
A set with it differs from one with the pretrained network by the pretraining: architecture, width and window are the
same, and with `logmel_frames` of 32 kHz, 128 bands up to 15 kHz and a hop of 320 so are band and rate of its input.
What differs beside the weights: frames are scaled band by band by the training clips instead of by a fixed rule with
pre-emphasis, and a linear layer takes the place of the tagger's two. Weights are drawn as MobileNetV3's are (He
initialisation by what a layer puts out). Batch norms average their first steps evenly, as in
`foley.classifiers.chunk_yamnet`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.classifiers.chunk_network import ChunkNetwork, ChunkTraining, mean_of_real_cells, settle
from foley.encoders.efficientat import MobileNet

# EfficientAT's: the share of a new batch in the running statistics.
_MOMENTUM = 0.01
# Frames to a cell of the last maps.
_STRIDE = 32


@dataclass(frozen=True)
class ChunkEfficientATOptions(ChunkTraining):
    """``width``: of mn04 0.4, of mn10 1; ``window_frames``: log-mel frames that the network sees at once (0.96 s)."""

    width: float = 0.4
    window_frames: int = 96
    dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width <= 0 or self.window_frames < _STRIDE or not 0 <= self.dropout < 1:
            raise ValueError(
                "width must be positive, window_frames at least 32 (the network halves time five times), dropout in "
                "[0, 1)"
            )

    @property
    def dim(self) -> int:
        """Activations that it has: 384 at width 0.4."""
        with torch.device("meta"):
            return MobileNet(self.width, n_classes=1).dim


class ChunkEfficientAT(ChunkNetwork):
    """Log-mel frames [B, T, mels], cut or filled to the window -> activations [B, dim] -> class scores [B, classes].

    What fills it is the training clips' mean; the maps are averaged over the share that is real.
    """

    Options = ChunkEfficientATOptions

    def __init__(
        self, inputs: int, frames: int, classes: int, options: ChunkEfficientATOptions | None = None
    ) -> None:
        o = options if options is not None else ChunkEfficientATOptions()
        network = MobileNet(o.width, n_classes=1)
        super().__init__(inputs, network.dim, classes)
        self.options = o
        self.body, self.dropout = network.features, nn.Dropout(o.dropout)
        for part in self.body.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")
            elif isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, 0, 0.01)
                nn.init.zeros_(part.bias)
        self.norms = [part for part in self.modules() if isinstance(part, nn.BatchNorm2d)]

    def pool(self, x: Tensor, valid: Tensor) -> Tensor:
        if self.training:
            settle(self.norms, _MOMENTUM)
        # Always as long as the window, so that what else is in the batch changes nothing.
        window = self.options.window_frames
        x = functional.pad(x[:, :window], (0, 0, 0, max(0, window - x.shape[1])))
        # [B, 1, mels, T], as the encoder reads spectrograms.
        spectrograms = x.transpose(1, 2).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        maps = self.body(spectrograms).transpose(2, 3)
        return self.dropout(mean_of_real_cells(maps, valid[:, :window], _STRIDE))
