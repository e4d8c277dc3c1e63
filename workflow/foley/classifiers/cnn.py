"""Convolutional networks on mel spectrograms: the small one of the interpolation study, and a modern baseline.

``SmallCNN`` is the published form: three 5x5 convolutions with ReLU, 1 -> 64 -> 128 -> 256 channels, adaptive average
pooling, two linear layers 256 -> 256 -> classes; on the power mel spectrogram, 64 bands, of the first second at
22,050 Hz; Adam 1e-3, batches of 128, 50 epochs. Neither logarithm, nor scaling, nor normalisation between layers.

``LogMelCNN`` is after CNN10 of PANNs (Kong et al. 2020, "PANNs: large-scale pretrained audio neural networks for audio
pattern recognition"): blocks of two 3x3 convolutions with batch norm, average pooling, and the mean over frequency
and mean plus maximum over time. It has log-mel input scaled band by band, decoupled weight decay, a one-cycle
schedule and label smoothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.transforms import MelSpectrogram

from foley.classifiers.audio_protocol import AudioClassifier, ClipNetwork, TrainingOptions
from foley.features.logmel import LogMel, LogMelOptions
from foley.training.loop import Precision


@dataclass(frozen=True)
class SmallCNNOptions(TrainingOptions):
    """The published settings; ``steps`` are 50 epochs over the 7,859 training clips of UrbanSound8K (official fold 1
    and the random tenth both hold out 873), ``validate_every_steps`` is one epoch.

    The source says nothing of padding and stride: here they are PyTorch's defaults, none and 1.
    """

    precision: Precision = "float32"
    sample_rate_hz: int = 22_050
    window_s: float = 1.0
    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 64
    channels: tuple[int, ...] = (64, 128, 256)
    kernel: int = 5
    hidden: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(*self.channels, self.hidden, self.kernel) < 1:
            raise ValueError("channels, hidden and kernel must be at least 1")
        if self.window_samples < self.n_fft or self.hop_length < 1:
            raise ValueError(
                f"a window of {self.window_samples} samples is too short for n_fft {self.n_fft}: raise window_s"
            )
        lost = len(self.channels) * (self.kernel - 1)
        frames = 1 + self.window_samples // self.hop_length
        if min(frames, self.n_mels) <= lost:
            raise ValueError(
                f"{frames} frames x {self.n_mels} mels: the convolutions take {lost} of each, so none is left; "
                "raise window_s or n_mels, or lower hop_length"
            )

    @property
    def window_samples(self) -> int:
        return round(self.window_s * self.sample_rate_hz)


class SmallCNNNetwork(ClipNetwork):
    """Power mel spectrograms [B, frames, mels] -> scores [B, C]."""

    def __init__(self, classes: int, options: SmallCNNOptions) -> None:
        super().__init__(options.n_mels)
        o = options
        self.sample_rate_hz, self.window_samples = o.sample_rate_hz, o.window_samples
        self.mel = MelSpectrogram(o.sample_rate_hz, n_fft=o.n_fft, hop_length=o.hop_length, n_mels=o.n_mels)
        layers: list[nn.Module] = []
        inputs = 1
        for outputs in o.channels:
            layers += [nn.Conv2d(inputs, outputs, o.kernel), nn.ReLU(inplace=True)]
            inputs = outputs
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(inputs, o.hidden), nn.ReLU(), nn.Linear(o.hidden, classes))

    def front_end(self, waveforms: Tensor) -> Tensor:
        return self.mel(waveforms).transpose(1, 2)

    def embed(self, features: Tensor) -> Tensor:
        x = self.body(_as_image(features))
        for layer in list(self.head)[:-1]:
            x = layer(x)
        return x

    def forward(self, features: Tensor) -> Tensor:
        return self.head[-1](self.embed(features))


class SmallCNN(AudioClassifier):
    """The published form; see the module."""

    name = "small_cnn"
    Options = SmallCNNOptions

    def build(self) -> ClipNetwork:
        return SmallCNNNetwork(self.classes, self.options)

    def standardises(self) -> bool:
        return False


@dataclass(frozen=True)
class LogMelCNNOptions(TrainingOptions):
    """The baseline's settings: architecture and dropout are those of CNN10, the rest is our choice.

    channels: of the blocks, each of which halves frames and mels. head_dropout: before and after the hidden layer.
    window_s: 4 s is the longest clip of UrbanSound8K. log_offset: added to the power before the logarithm.
    """

    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    label_smoothing: float = 0.1
    channels: tuple[int, ...] = (64, 128, 256, 512)
    hidden: int = 512
    block_dropout: float = 0.2
    head_dropout: float = 0.5
    sample_rate_hz: int = 22_050
    window_s: float = 4.0
    n_fft: int = 1024
    hop_length: int = 512
    n_mels: int = 64
    f_min_hz: float = 50.0
    f_max_hz: float = 11_025.0
    log_offset: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(*self.channels, self.hidden) < 1:
            raise ValueError("channels and hidden must be at least 1")
        if not 0 <= self.block_dropout < 1 or not 0 <= self.head_dropout < 1:
            raise ValueError("block_dropout and head_dropout must lie in [0, 1)")
        _ = self.log_mel  # which checks its own

    @property
    def log_mel(self) -> LogMelOptions:
        return LogMelOptions(
            sample_rate_hz=self.sample_rate_hz, n_fft=self.n_fft, win_length=self.n_fft,
            hop_length=self.hop_length, n_mels=self.n_mels, f_min_hz=self.f_min_hz, f_max_hz=self.f_max_hz,
            power=2.0, log_offset=self.log_offset, window_s=self.window_s,
        )  # fmt: skip


class LogMelCNNNetwork(ClipNetwork):
    """Scaled log-mel spectrograms [B, frames, mels] -> scores [B, C]."""

    def __init__(self, classes: int, options: LogMelCNNOptions) -> None:
        super().__init__(options.n_mels)
        o = options
        self.mel = LogMel(o.log_mel)
        self.sample_rate_hz, self.window_samples = o.sample_rate_hz, self.mel.window_samples
        self.blocks = nn.ModuleList()
        inputs = 1
        for outputs in o.channels:
            self.blocks.append(nn.Sequential(*_normalised(inputs, outputs), *_normalised(outputs, outputs)))
            inputs = outputs
        self.block_dropout = nn.Dropout(o.block_dropout)
        self.head = nn.Sequential(
            nn.Dropout(o.head_dropout), nn.Linear(inputs, o.hidden), nn.ReLU(), nn.Dropout(o.head_dropout),
            nn.Linear(o.hidden, classes),
        )  # fmt: skip
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def front_end(self, waveforms: Tensor) -> Tensor:
        return self.mel(waveforms)

    def embed(self, features: Tensor) -> Tensor:
        x = _as_image(features)
        for block in self.blocks:
            # Rounded up, so that a short or narrow spectrogram keeps a cell.
            x = self.block_dropout(functional.avg_pool2d(block(x), 2, ceil_mode=True))
        over_time = x.mean(dim=3)
        x = over_time.mean(dim=2) + over_time.amax(dim=2)
        for layer in list(self.head)[:-1]:
            x = layer(x)
        return x

    def forward(self, features: Tensor) -> Tensor:
        return self.head[-1](self.embed(features))


class LogMelCNN(AudioClassifier):
    """The modern baseline; see the module."""

    name = "log_mel_cnn"
    Options = LogMelCNNOptions

    def build(self) -> ClipNetwork:
        return LogMelCNNNetwork(self.classes, self.options)


def _as_image(features: Tensor) -> Tensor:
    """[B, frames, mels] -> [B, 1, frames, mels] with the channels innermost in memory."""
    return features.unsqueeze(1).contiguous(memory_format=torch.channels_last)


def _normalised(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def multiply_adds(network: nn.Module, frames: int, mels: int) -> int:
    """Multiply-add operations of one clip's forward pass through convolutions and linear layers, counted on a run.

    For the stated cost of a preset; a training step takes about three times as many for each clip.
    """
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            per_value = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        else:
            assert isinstance(layer, nn.Linear)
            per_value = layer.in_features
        total += per_value * output.numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was_training = network.training
    try:
        network.eval()
        with torch.inference_mode():
            network(torch.zeros(1, frames, mels, device=next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
    return total
