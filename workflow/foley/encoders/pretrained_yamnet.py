"""YAMNet with its AudioSet weights: 521 scores and 1,024-d embeddings of every 0.48 s, at 16 kHz.

Source: Google's release (tensorflow/models, research/audioset/yamnet, Apache-2.0), by M. Plakal and D. Ellis: MobileNet
v1 (A. Howard et al. 2017, arXiv 1704.04861) on log-mel patches of 0.96 s. ``encoders/yamnet.py`` is the smaller network
that the zero-shot study trains from scratch; this one is fixed.

Weights are read in four layouts:

- the state dict of the PyTorch port https://github.com/w-hc/torch_audioset (``yamnet.pth``), as ``.pth``, ``.pt`` or
  ``.safetensors``;
- Keras' ``yamnet.h5`` as Google publishes it (needs h5py);
- an ``.npz`` of TensorFlow's variables, for machines without h5py: named as in the ``.h5``, or as Keras names the
  variables themselves (``layer1/conv/kernel:0``);
- Google's ``yamnet.tflite`` (4 MB). Its batch norms are folded into the convolutions, and most of its weights are
  rounded to 8 bits, so its embeddings differ a little from the others' and bear another name.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from foley.encoders.state_dict import DAMAGE, check_shapes, damaged, read_state_dict
from foley.encoders.tflite import Layer, read_layers
from foley.encoders.vggish import LogMelExamples
from foley.encoders.yamnet import BATCH_NORM_EPS

KERAS_URL = "https://storage.googleapis.com/audioset/yamnet.h5"
PORT_URL = "https://github.com/w-hc/torch_audioset/releases/download/v0.1/yamnet.pth"

SAMPLE_RATE_HZ = 16_000
DIM = 1024
N_CLASSES = 521
PATCH_FRAMES, HOP_FRAMES = 96, 48
# 96 frames of 25 ms every 10 ms.
PATCH_SAMPLES = 95 * 160 + 400
HOP_SAMPLES = HOP_FRAMES * 160
MIN_DURATION_S = PATCH_SAMPLES / SAMPLE_RATE_HZ
# Added to mel magnitudes; VGGish, whose front end is otherwise the same, has ten times as much.
LOG_OFFSET = 0.001
# Channels and strides of the depthwise-separable convolutions, YAMNet's layers 2 to 14.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
# Patches in the network at once: a CPU keeps the maps of a few in its cache.
_PATCHES_AT_ONCE = {"cpu": 16, "cuda": 1024}
_NORM = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class LogMelFrames(LogMelExamples):
    """YAMNet's front end: waveforms [B, T] at 16 kHz -> log-mel frames [B, 1 + (T - 400) // 160, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.options = replace(self.options, log_offset=LOG_OFFSET)


class _Same(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: where the number of cells to add is odd, the last goes behind."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for axis in (1, 0):
            size, step, kernel = x.shape[2 + axis], self.stride[axis], self.kernel_size[axis]
            total = max((-(-size // step) - 1) * step + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads) if any(pads) else x)


class _ConvNormReLU(nn.Module):
    # The names are those of the port's weights.
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = _Same(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


class _First(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fused = _ConvNormReLU(1, 32, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fused(x)


class _Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise_conv = _ConvNormReLU(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise_conv = _ConvNormReLU(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class YAMNetNetwork(nn.Module):
    """Log-mel patches [N, 96, 64] -> embeddings [N, 1024] (``forward``) and their class logits [N, 521]
    (``classifier``); 3.7 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _First()
        channels = 32
        for number, (outputs, stride) in enumerate(BLOCKS, start=2):
            self.add_module(f"layer{number}", _Separable(channels, outputs, stride))
            channels = outputs
        self.classifier = nn.Linear(channels, N_CLASSES)

    def forward(self, patches: Tensor) -> Tensor:
        x = patches.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        for number in range(1, len(BLOCKS) + 2):
            x = getattr(self, f"layer{number}")(x)
        return x.mean((2, 3))


class PretrainedYAMNet:
    """A `WindowEncoder`: clips in, their patches' embeddings out, or the mean of these. Make it with `load`.

    Attributes:
        n_classes: 521, in the order of YAMNet's `yamnet_class_map.csv`, which is not that of EfficientAT.
        device: Where it computes; results stay there.
    """

    sample_rate_hz: int = SAMPLE_RATE_HZ
    min_duration_s: float = MIN_DURATION_S
    dim: int = DIM
    n_classes: int = N_CLASSES
    window_s: float = PATCH_FRAMES * 0.01
    hop_s: float = HOP_FRAMES * 0.01

    def __init__(
        self, network: YAMNetNetwork, device: str | torch.device = "cpu", name: str = "yamnet_audioset"
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        network = network.eval().requires_grad_(False).to(self.device)
        # Depthwise convolutions run faster with the channels innermost.
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._front_end = LogMelFrames().to(self.device).eval()

    def embed(self, waveforms: Tensor) -> Tensor:
        """Embed float waveforms [B, T] at 16 kHz in [-1, 1]: float32 [B, 1024], the mean over patches."""
        return self.embed_windows(waveforms).mean(1)

    @torch.no_grad()
    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Every patch of 0.96 s, one each 0.48 s, of waveforms [B, T] for itself: float32 [B, W, 1024], not negative.

        That matrix is a clip's neuralogram. As in Google's release the end is padded with zeros to a whole patch, so
        that no sample is lost: W = 1 + ceil((T - 15600) / 7680), at least 1.

        Raises:
            ValueError: they are no float waveforms [B, T].
        """
        if waveforms.ndim != 2 or not waveforms.is_floating_point():
            raise ValueError(
                f"{self.name}: expected float waveforms [B, T] at {SAMPLE_RATE_HZ} Hz, "
                f"got {waveforms.dtype} {list(waveforms.shape)}"
            )
        samples = waveforms.shape[1]
        windows = 1 + max(0, -(-(samples - PATCH_SAMPLES) // HOP_SAMPLES))
        missing = PATCH_SAMPLES + (windows - 1) * HOP_SAMPLES - samples
        at_once = _PATCHES_AT_ONCE.get(self.device.type, _PATCHES_AT_ONCE["cpu"])
        if not len(waveforms):
            return torch.zeros(0, windows, DIM, device=self.device)
        found = []
        for clips in waveforms.split(max(1, at_once // windows)):
            # Patches overlap by half, their frames are computed once.
            frames = self._front_end(functional.pad(clips.to(self.device, torch.float32), (0, missing)))
            patches = frames.unfold(1, PATCH_FRAMES, HOP_FRAMES).transpose(2, 3).flatten(0, 1)
            found += [self._network(part) for part in patches.split(at_once)]
        return torch.cat(found).view(len(waveforms), windows, DIM)

    @torch.no_grad()
    def score_windows(self, waveforms: Tensor) -> Tensor:
        """AudioSet's classes in every patch of waveforms [B, T]: [B, W, 521] in (0, 1), each class for itself."""
        return self._network.classifier(self.embed_windows(waveforms)).sigmoid()

    def tag(self, waveforms: Tensor) -> Tensor:
        """The mean of ``score_windows`` over patches, as Google's example has it: [B, 521]."""
        return self.score_windows(waveforms).mean(1)


def load(weights: str | Path, device: str = "cpu") -> PretrainedYAMNet:
    """Load YAMNet from published weights; see the module for the layouts that are read.

    Raises:
        FileNotFoundError: No such file; the message says where to get it.
        ImportError: An `.h5` file, and h5py isn't installed.
        ValueError: The file can't be read, or holds something else; says which arrays differ.
    """
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(
            f"YAMNet weights not found: {path}. Download {PORT_URL} or {KERAS_URL} (15 MB each) and put it there"
        )
    name = "yamnet_audioset"
    if path.suffix == ".tflite":
        name += "_tflite"
        state = from_tflite(read_layers(path), path)
    else:
        state = _read(path)
        if any("/" in key for key in state):
            state = from_keras(state)
    with torch.device("meta"):  # the weights are about to be replaced, so they aren't initialised
        network = YAMNetNetwork()
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    # Counters of batch norm, which only training needs.
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    state = {key: value for key, value in state.items() if key not in counters}
    shapes = {key: shape for key, shape in expected.items() if key not in counters}
    check_shapes(state, shapes, path, "is not of YAMNet", f"Get {PORT_URL}")
    floats = {key: value.float().contiguous() for key, value in state.items()}
    floats |= {key: torch.zeros((), dtype=torch.int64) for key in counters}
    network.load_state_dict(floats, strict=True, assign=True)
    return PretrainedYAMNet(network, device, name)


def from_keras(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """TensorFlow's variables by name -> PyTorch's weights; names that are not YAMNet's stay as they are.

    Kernels change from [height, width, in, out] to [out, in, height, width], and depthwise ones, whose outputs are
    numbered by the third axis, from [height, width, channels, 1] to [channels, 1, height, width].
    """
    state = {}
    for given, value in arrays.items():
        # An .h5 file repeats the layer's name: `layer1/conv/layer1/conv/kernel:0`.
        name = re.sub(r"^(.+)/\1/", r"\1/", given).removesuffix(":0")
        *layer, part = name.split("/")
        if layer == ["logits"] and part in ("kernel", "bias"):
            state[f"classifier.{'weight' if part == 'kernel' else 'bias'}"] = (
                value.T if value.ndim == 2 else value
            )
            continue
        place = layer[0] + (".fused" if layer[0] == "layer1" else f".{layer[1]}") if len(layer) > 1 else ""
        if len(layer) == 3 and layer[2] == "bn" and part in _NORM:
            state[f"{place}.bn.{_NORM[part]}"] = value
            # Keras' batch norms here don't scale.
            state[f"{place}.bn.weight"] = torch.ones_like(value)
        elif len(layer) == 2 and part == "kernel" and value.ndim == 4:
            state[f"{place}.conv.weight"] = value.permute(3, 2, 0, 1)
        elif len(layer) == 2 and part == "depthwise_kernel" and value.ndim == 4:
            state[f"{place}.conv.weight"] = value.permute(2, 3, 0, 1)
        else:
            state[given] = value
    return state


def from_tflite(layers: list[Layer], path: Path) -> dict[str, Tensor]:
    """The layers of ``yamnet.tflite`` -> PyTorch's weights: norms that do nothing but add what is left of them.

    Args:
        path: of the model, for errors.

    Raises:
        ValueError: it is another model.
    """
    places = ["layer1.fused"]
    for number in range(2, len(BLOCKS) + 2):
        places += [f"layer{number}.depthwise_conv", f"layer{number}.pointwise_conv"]
    convolutions = [layer for layer in layers if layer.kind != "dense"]
    dense = [layer for layer in layers if layer.kind == "dense"]
    kinds = ["conv"] + ["depthwise", "conv"] * len(BLOCKS)
    biases = [layer.bias for layer in [*convolutions, *dense[-1:]]]
    if [layer.kind for layer in convolutions] != kinds or not dense or any(bias is None for bias in biases):
        raise ValueError(
            f"{path} is no YAMNet: its {len(convolutions)} convolutions and {len(dense)} dense layers are not those"
        )
    state = {}
    for place, layer in zip(places, convolutions, strict=True):
        weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        order = (3, 0, 1, 2) if layer.kind == "depthwise" else (0, 3, 1, 2)
        state[f"{place}.conv.weight"] = weight.permute(order)
        state[f"{place}.bn.weight"] = torch.ones_like(bias)
        state[f"{place}.bn.bias"] = bias
        state[f"{place}.bn.running_mean"] = torch.zeros_like(bias)
        state[f"{place}.bn.running_var"] = torch.full_like(bias, 1 - BATCH_NORM_EPS)
    # The dense layers before it are the front end's Fourier transform and mel filters.
    state["classifier.weight"] = torch.from_numpy(dense[-1].weight)
    state["classifier.bias"] = torch.from_numpy(dense[-1].bias)
    return state


def _read(path: Path) -> dict[str, Tensor]:
    """All arrays of a file by name."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if path.suffix in (".h5", ".hdf5"):
            return _read_h5(path)
    except (*DAMAGE, SafetensorError, zipfile.BadZipFile, TypeError) as error:
        raise damaged(path, f"{path.suffix} file of arrays", error) from error
    return read_state_dict(path, "YAMNet")


def _read_h5(path: Path) -> dict[str, Tensor]:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{path} needs h5py: pip install h5py, or take {PORT_URL}, which needs nothing"
        ) from error
    arrays: dict[str, Tensor] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = torch.from_numpy(item[()])

    with h5py.File(path, "r") as file:
        file.visititems(keep)
    return arrays
