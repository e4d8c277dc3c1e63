"""EfficientAT: MobileNetV3 audio taggers distilled from transformers on AudioSet, at 32 kHz.

Sources: F. Schmid, K. Koutini, G. Widmer, "Efficient large-scale audio tagging via transformer-to-CNN
knowledge distillation", ICASSP 2023 (arXiv 2211.04772); layer table from A. Howard et al., "Searching for
MobileNetV3", 2019 (arXiv 1905.02244), table 1. Parameter names match the checkpoints published at
https://github.com/fschmid56/EfficientAT/releases (MIT licence), so they load strictly. Supported are the
plain models `mn01_as` to `mn40_as` (strides 2, 2, 2, 2, mlp head, squeeze-and-excitation over channels).

Checkpoints of the `hop_*` and `mels_*` variants have the very same shapes but expect another front end: they
load here and give wrong figures, so don't use them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from foley.encoders.state_dict import check_shapes, read_state_dict
from foley.encoders.weights import PINNED

RELEASES = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
MN04_URL = RELEASES + "mn04_as_mAP_432.pt"
MN04_SHA256, MN04_SIZE_BYTES = PINNED[MN04_URL]

SAMPLE_RATE_HZ = 32_000
# The network halves time five times: below 32 frames of 10 ms its last map is a single, mostly padded column.
MIN_DURATION_S = 0.32
# A CPU is up to twice as fast on pieces whose maps fit its caches; 20 s of audio at once measured best.
_CPU_SAMPLES_AT_ONCE = 640_000


class LogMel(nn.Module):
    """The front end of all EfficientAT models, as when evaluated: [B, T] at 32 kHz -> [B, 1, 128, frames].

    Pre-emphasis 0.97 (which shortens the signal by one sample), power STFT of 1024 with a symmetric
    800-sample Hann window and hop 320, 128 Kaldi mel bins over 0 to 15,000 Hz, (log(mel + 1e-5) + 4.5) / 5.
    There are 1 + (T - 1) // 320 frames. Needs T > 513, since the STFT reflects 512 samples at either end.
    """

    N_FFT, WINDOW, HOP = 1024, 800, 320
    N_MELS, LOW_HZ, HIGH_HZ = 128, 0.0, 15_000.0
    PRE_EMPHASIS = 0.97

    def __init__(self) -> None:
        super().__init__()
        self.window: Tensor
        self.filters: Tensor
        # Fixed by definition, so no part of the state dict.
        self.register_buffer("window", torch.hann_window(self.WINDOW, periodic=False), persistent=False)
        filters = kaldi_mel_filters(self.N_MELS, self.N_FFT, SAMPLE_RATE_HZ, self.LOW_HZ, self.HIGH_HZ)
        self.register_buffer("filters", torch.from_numpy(filters.astype(np.float32)), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        emphasised = waveforms[:, 1:] - self.PRE_EMPHASIS * waveforms[:, :-1]
        spectrum = torch.stft(
            emphasised,
            self.N_FFT,
            hop_length=self.HOP,
            win_length=self.WINDOW,
            window=self.window,
            center=True,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        # Half precision would lose the quiet bins, whose power is far below 1e-5.
        with torch.autocast(power.device.type, enabled=False):
            mel = self.filters @ power
        return (((mel + 1e-5).log() + 4.5) / 5.0).unsqueeze(1)


def kaldi_mel_filters(
    n_mels: int, n_fft: int, sample_rate_hz: int, low_hz: float, high_hz: float
) -> np.ndarray:
    """Triangular filters in Kaldi's mel scale, 1127 ln(1 + f / 700): float64 [n_mels, n_fft // 2 + 1].

    The triangles are straight in mel, not in Hz, and not normalised by area; the Nyquist bin gets no weight
    (https://kaldi-asr.org/doc/mel-computations_8h.html).
    """

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hz, dtype=np.float64) / 700.0)

    edges = np.linspace(mel(low_hz), mel(high_hz), n_mels + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = mel(np.arange(n_fft // 2) * sample_rate_hz / n_fft)[None, :]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.pad(triangles, ((0, 0), (0, 1)))


class _Block(NamedTuple):
    """One row of the MobileNetV3-large table at width 1."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hardswish: bool
    stride: int


_STEM_CHANNELS = 16
_LAST_CHANNELS = 1280
_BLOCKS = (
    _Block(3, 16, 16, False, False, 1),
    _Block(3, 64, 24, False, False, 2),
    _Block(3, 72, 24, False, False, 1),
    _Block(5, 72, 40, True, False, 2),
    _Block(5, 120, 40, True, False, 1),
    _Block(5, 120, 40, True, False, 1),
    _Block(3, 240, 80, False, True, 2),
    _Block(3, 200, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 184, 80, False, True, 1),
    _Block(3, 480, 112, True, True, 1),
    _Block(3, 672, 112, True, True, 1),
    _Block(5, 672, 160, True, True, 2),
    _Block(5, 960, 160, True, True, 1),
    _Block(5, 960, 160, True, True, 1),
)


def _channels(count: float) -> int:
    """Round to a multiple of 8, at least 8, but never down by more than a tenth (MobileNet's rule)."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * count else rounded + 8


def _conv(
    inputs: int,
    outputs: int,
    kernel: int,
    activation: type[nn.Module] | None,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class _ChannelGate(nn.Module):
    """Squeeze-and-excitation: scale each channel by a gate in (0, 1) made from all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = _channels(channels // 4)
        self.fc1 = nn.Linear(channels, narrow)
        self.fc2 = nn.Linear(narrow, channels)

    def forward(self, maps: Tensor) -> Tensor:
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(maps.mean((2, 3))))))
        return maps * scale[:, :, None, None]


class _SqueezeExcitation(nn.Module):
    # The authors can gate several axes at once and keep the gates in a list. The published models gate
    # channels only, but the list is part of the parameter names.
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([_ChannelGate(channels)])

    def forward(self, maps: Tensor) -> Tensor:
        return self.conc_se_layers[0](maps)


class _InvertedResidual(nn.Module):
    """Expand by 1x1 convolution, filter each channel alone, gate, project back; add the input if it fits."""

    def __init__(self, inputs: int, row: _Block, width: float) -> None:
        super().__init__()
        expanded, outputs = _channels(row.expanded * width), _channels(row.out * width)
        activation = nn.Hardswish if row.hardswish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(_conv(inputs, expanded, 1, activation))
        layers.append(_conv(expanded, expanded, row.kernel, activation, row.stride, groups=expanded))
        if row.squeeze:
            layers.append(_SqueezeExcitation(expanded))
        layers.append(_conv(expanded, outputs, 1, None))
        self.block = nn.Sequential(*layers)
        self.residual = row.stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        filtered = self.block(maps)
        return filtered + maps if self.residual else filtered


class MobileNet(nn.Module):
    """MobileNetV3-large on log-mel spectrograms, all channel counts scaled by `width`.

    `forward` maps [B, 1, mel, frames] to (logits [B, n_classes], features [B, dim]); the features are the
    last maps averaged over time and frequency, and the logits come from them through a two-layer head.
    """

    def __init__(self, width: float, n_classes: int = 527) -> None:
        super().__init__()
        channels = _channels(_STEM_CHANNELS * width)
        layers: list[nn.Module] = [_conv(1, channels, 3, nn.Hardswish, stride=2)]
        for row in _BLOCKS:
            layers.append(_InvertedResidual(channels, row, width))
            channels = _channels(row.out * width)
        self.dim = 6 * channels
        self.n_classes = n_classes
        layers.append(_conv(channels, self.dim, 1, nn.Hardswish))
        self.features = nn.Sequential(*layers)
        last = _channels(_LAST_CHANNELS * width)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(self.dim, last),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(last, n_classes),
        )

    def pooled(self, mel: Tensor) -> Tensor:
        """Features [B, dim] of log-mel spectrograms [B, 1, mel, frames]."""
        return self.features(mel).mean((2, 3))

    def logits(self, pooled: Tensor) -> Tensor:
        """Class logits [B, n_classes] of features [B, dim]."""
        return self.classifier(pooled[:, :, None, None])

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.pooled(mel)
        return self.logits(pooled), pooled


class EfficientAT:
    """An `AudioEncoder` that is an AudioSet tagger too. Make it with `load`.

    Attributes:
        name: `efficientat_mn04` and the like.
        dim: 960 x width: 384 for mn04, 960 for mn10.
        n_classes: 527 for the AudioSet models, in the order of AudioSet's `class_labels_indices.csv`.
        device: Where it computes; results stay there.
    """

    sample_rate_hz: int = SAMPLE_RATE_HZ
    min_duration_s: float = MIN_DURATION_S

    def __init__(self, network: MobileNet, width: float, device: str | torch.device = "cpu") -> None:
        self.name = f"efficientat_mn{round(width * 10):02d}"
        self.device = torch.device(device)
        self.dim: int = network.dim
        self.n_classes: int = network.n_classes
        self._network = _for_inference(network).to(self.device)
        self._front_end = LogMel().to(self.device).eval()

    def embed(self, waveforms: Tensor) -> Tensor:
        """Embed float waveforms [B, T] at 32 kHz in [-1, 1]: float32 [B, dim], the pooled last maps."""
        return self._pooled(waveforms)

    @torch.no_grad()
    def tag(self, waveforms: Tensor) -> Tensor:
        """Score float waveforms [B, T] at 32 kHz: [B, n_classes] in (0, 1), each class for itself."""
        return torch.sigmoid(self._network.logits(self._pooled(waveforms)))

    @torch.no_grad()
    def embed_and_tag(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """`embed` and `tag` for the price of one."""
        pooled = self._pooled(waveforms)
        return pooled, torch.sigmoid(self._network.logits(pooled))

    @torch.no_grad()
    def _pooled(self, waveforms: Tensor) -> Tensor:
        if waveforms.ndim != 2 or not waveforms.is_floating_point():
            raise ValueError(
                f"{self.name}: expected float waveforms [B, T] at {SAMPLE_RATE_HZ} Hz, "
                f"got {waveforms.dtype} {list(waveforms.shape)}"
            )
        if not len(waveforms):
            return torch.zeros(0, self.dim, device=self.device)
        missing = round(MIN_DURATION_S * SAMPLE_RATE_HZ) - waveforms.shape[1]
        if missing > 0:
            waveforms = nn.functional.pad(waveforms, (0, missing))
        on_cpu = self.device.type == "cpu"
        rows = max(1, _CPU_SAMPLES_AT_ONCE // waveforms.shape[1] if on_cpu else len(waveforms))
        pieces = [piece.to(self.device, torch.float32) for piece in waveforms.split(rows)]
        return torch.cat([self._network.pooled(self._front_end(piece)) for piece in pieces])


def _for_inference(network: MobileNet) -> MobileNet:
    """Fold batch norms into convolutions and store channels last: same function, half the time on a CPU."""
    network.eval()
    for stage in network.modules():
        if not isinstance(stage, nn.Sequential) or len(stage) < 2:
            continue
        convolution, norm = stage[0], stage[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            stage[0], stage[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    network.requires_grad_(False)
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


def load(weights: str | Path, device: str = "cpu") -> EfficientAT:
    """Load a published EfficientAT checkpoint; its width and number of classes follow from its shapes.

    Args:
        weights: A `.pt` state dict, for instance what `weights.resolve(MN04_URL, MN04_SHA256, ...)` returns.
        device: Any torch device.

    Raises:
        FileNotFoundError: No such file; the message says where to get it.
        ValueError: The file is no readable checkpoint, or holds another model; says which parameters differ.
    """
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(
            f"EfficientAT weights not found: {path}. Download {MN04_URL} "
            f"({MN04_SIZE_BYTES / 1e6:.1f} MB) and put it there, or any other mnXX_as_*.pt from that release."
        )
    state = read_state_dict(path, "an EfficientAT model")
    width = _width_of(state, path)
    with torch.device("meta"):  # the weights are about to be replaced, so they aren't initialised
        network = MobileNet(width, n_classes=len(state["classifier.5.bias"]))
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    check_shapes(state, shapes, path, f"is no EfficientAT model of width {width:g}")
    network.load_state_dict(state, strict=True, assign=True)
    return EfficientAT(network.float(), width, device)


def _width_of(state: dict[str, Tensor], path: Path) -> float:
    # The head's hidden layer tells all widths apart; narrow models round most other layers to 8 channels.
    for key, ndim in (("classifier.2.weight", 2), ("classifier.5.bias", 1)):
        if key not in state or state[key].ndim != ndim or not len(state[key]):
            found = (
                ", ".join(k for k in state if k.startswith("classifier"))
                or ", ".join(list(state)[:4])
                or "nothing"
            )
            raise ValueError(
                f"{path} is no EfficientAT model with an mlp head: it lacks a {ndim}-d {key} (found: {found})"
            )
    return len(state["classifier.2.weight"]) / _LAST_CHANNELS
