"""BC-ResNet: a small network for spoken words, trained from scratch.

B. Kim, S. Chang, J. Lee, D. Sung, "Broadcasted residual learning for efficient keyword spotting", Interspeech 2021
(arXiv 2106.04140). A block works on frequency and time (a depthwise convolution over frequency with sub-spectral
normalisation, Chang et al. 2021), then on the average over frequency (a dilated depthwise convolution over time and a
1 x 1 convolution), and adds the latter to the former at every frequency.

Input is as published: 40 log-mel bands, windows of 30 ms every 10 ms. The paper trains by SGD with a warm-up and a
cosine schedule for 200 epochs, on clips shifted in time, with noise and SpecAugment; here training is that of
``TrainingOptions``, with AdamW and one cycle unless told otherwise, and mel bands are scaled to mean 0 and deviation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from foley.classifiers.audio_protocol import AudioClassifier, ClipNetwork, TrainingOptions
from foley.features.logmel import LogMel, LogMelOptions

# Table 1 of the paper: blocks of each stage, its channels as multiples of the base's, which stages halve frequency.
BLOCKS = (2, 2, 4, 4)
WIDTHS = (1.0, 1.5, 2.0, 2.5)
HALVES = (False, True, True, False)
# Channels of the first convolution and of the last, and the base at tau = 1.
FIRST_WIDTH, LAST_WIDTH, BASE_CHANNELS = 2, 4, 8
SUB_BANDS = 5
# Frequency is halved by the first convolution and two stages, and what is left divides into the sub-bands.
BAND_MULTIPLE = 8 * SUB_BANDS


@dataclass(frozen=True)
class BCResNetOptions(TrainingOptions):
    """``tau``: width; the paper has 1, 1.5, 2, 3, 6 and 8. ``dropout``: of channels, in every block.

    ``window_s``: what the network hears; a word of Speech Commands takes 1 s, an emotional sentence 2 to 4 s. Longer
    clips are cut, shorter ones end in silence. ``n_mels``: a multiple of 40. ``log_offset``: added to the power before
    the logarithm.
    """

    batch_size: int = 100
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    schedule: Literal["constant", "cosine", "one_cycle"] = "one_cycle"
    tau: float = 1.0
    dropout: float = 0.1
    sample_rate_hz: int = 16_000
    window_s: float = 1.0
    n_mels: int = 40
    n_fft: int = 512
    win_length: int = 480
    hop_length: int = 160
    f_min_hz: float = 0.0
    f_max_hz: float = 8_000.0
    log_offset: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau <= 0 or int(BASE_CHANNELS * self.tau) < 1:
            raise ValueError(f"tau must be at least {1 / BASE_CHANNELS}, got {self.tau}")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must lie in [0, 1)")
        if self.n_mels < 1 or self.n_mels % BAND_MULTIPLE:
            raise ValueError(
                f"n_mels must be a multiple of {BAND_MULTIPLE}, got {self.n_mels}: frequency is halved three times and "
                f"then divided into {SUB_BANDS} sub-bands"
            )
        _ = self.log_mel  # which checks its own

    @property
    def log_mel(self) -> LogMelOptions:
        return LogMelOptions(
            sample_rate_hz=self.sample_rate_hz, n_fft=self.n_fft, win_length=self.win_length,
            hop_length=self.hop_length, n_mels=self.n_mels, f_min_hz=self.f_min_hz, f_max_hz=self.f_max_hz,
            power=2.0, log_offset=self.log_offset, window_s=self.window_s,
        )  # fmt: skip


class SubSpectralNorm(nn.Module):
    """Batch norm of each of ``SUB_BANDS`` parts of the frequency axis for itself, [B, C, F, T] -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels * SUB_BANDS)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, bands, frames = x.shape
        parts = x.reshape(batch, channels * SUB_BANDS, bands // SUB_BANDS, frames)
        return self.norm(parts).reshape(x.shape)


class BroadcastBlock(nn.Module):
    """y = x + f2(x) + broadcast(f1(mean of f2(x) over frequency)); where the channels change (a transition block), f2
    begins with a 1 x 1 convolution and x is not added (figure 2 of the paper)."""

    def __init__(self, inputs: int, outputs: int, halve: bool, dilation: int, dropout: float) -> None:
        super().__init__()
        self.is_transition = inputs != outputs
        widen = [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.over_frequency = nn.Sequential(
            *(widen if self.is_transition else ()),
            nn.Conv2d(outputs, outputs, (3, 1), (2 if halve else 1, 1), (1, 0), groups=outputs, bias=False),
            SubSpectralNorm(outputs),
        )
        self.over_time = nn.Sequential(
            nn.Conv2d(
                outputs, outputs, (1, 3), padding=(0, dilation), dilation=(1, dilation), groups=outputs,
                bias=False,
            ),
            nn.BatchNorm2d(outputs), nn.SiLU(inplace=True), nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.Dropout2d(dropout),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.over_frequency(x)
        y = y + self.over_time(y.mean(dim=2, keepdim=True))
        return functional.relu(y if self.is_transition else y + x)


class BCResNetNetwork(ClipNetwork):
    """Scaled log-mel spectrograms [B, frames, mels] -> scores [B, C]."""

    def __init__(self, classes: int, options: BCResNetOptions) -> None:
        super().__init__(options.n_mels)
        self.mel = LogMel(options.log_mel)
        self.sample_rate_hz, self.window_samples = options.sample_rate_hz, self.mel.window_samples
        base = int(BASE_CHANNELS * options.tau)
        channels = FIRST_WIDTH * base
        layers: list[nn.Module] = [
            nn.Conv2d(1, channels, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
        ]  # fmt: skip
        for stage, (blocks, width, halves) in enumerate(zip(BLOCKS, WIDTHS, HALVES, strict=True)):
            outputs = int(width * base)
            for block in range(blocks):
                layers.append(
                    BroadcastBlock(channels, outputs, halves and block == 0, 2**stage, options.dropout)
                )
                channels = outputs
        last = LAST_WIDTH * base
        layers += [
            nn.Conv2d(channels, channels, 5, padding=(0, 2), groups=channels, bias=False),
            nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ]  # fmt: skip
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(last, classes)

    def front_end(self, waveforms: Tensor) -> Tensor:
        return self.mel(waveforms)

    def embed(self, features: Tensor) -> Tensor:
        return self.body(features.transpose(1, 2).unsqueeze(1))

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.embed(features))


class BCResNet(AudioClassifier):
    """See the module."""

    name = "bc_resnet"
    Options = BCResNetOptions

    def build(self) -> ClipNetwork:
        return BCResNetNetwork(self.classes, self.options)
