"""VGGish: the audio encoder behind most published Fréchet audio distances, at 16 kHz.

Sources: S. Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017 (arXiv 1609.09430);
layers, front end and post-processing as in Google's release (tensorflow/models, research/audioset/vggish, Apache-2.0).
Parameter names are those of its port to PyTorch, https://github.com/harritaylor/torchvggish (release v0.1), so its
checkpoint `vggish-10086976.pth` loads strictly.

Published figures differ in what they call the embedding. Google's release and fadtk take the last layer as it is (the
default here); torchvggish and older work put a ReLU behind it (``activation=True``). AudioSet's own features are in
addition whitened and quantised to 8 bits (``pca``). The three are different encoders and have different names.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from foley.encoders.efficientat import kaldi_mel_filters
from foley.encoders.state_dict import check_shapes, read_state_dict
from foley.features.logmel import LogMel, LogMelOptions

RELEASES = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
VGGISH_URL = RELEASES + "vggish-10086976.pth"
# The parameters alone; the file is a little larger.
VGGISH_SIZE_BYTES = 288_564_736
PCA_URL = RELEASES + "vggish_pca_params-970ea276.pth"
# The same numbers in Google's own format.
PCA_NPZ_URL = "https://storage.googleapis.com/audioset/vggish_pca_params.npz"

SAMPLE_RATE_HZ = 16_000
DIM = 128
# 96 frames of 25 ms every 10 ms; the next example begins 96 frames later.
EXAMPLE_SAMPLES = 95 * 160 + 400
EXAMPLE_STEP = 96 * 160
MIN_DURATION_S = EXAMPLE_SAMPLES / SAMPLE_RATE_HZ
# The whitened embedding is cut to this range before it becomes 8 bits.
_QUANTISED_RANGE = (-2.0, 2.0)
# Examples in the network at once: each takes 10 MB of activations.
_EXAMPLES_AT_ONCE = {"cpu": 16, "cuda": 512}


class LogMelExamples(LogMel):
    """VGGish's front end: examples [N, 15600] at 16 kHz -> log-mel patches [N, 96, 64].

    It is ``LogMel`` with its default parameters, but for two things. The mel filters are straight in mel, not in Hz.
    And frames begin with the window: TensorFlow pads a window's 400 samples to the 512 of the FFT behind them, PyTorch
    on both sides, which shifts frames by 56 samples.
    """

    def __init__(self) -> None:
        super().__init__(LogMelOptions(window_s=0.96))
        o = self.options
        filters = kaldi_mel_filters(o.n_mels, o.n_fft, o.sample_rate_hz, o.f_min_hz, o.f_max_hz)
        self.banks = torch.from_numpy(filters.T.astype(np.float32).copy())

    def forward(self, examples: Tensor) -> Tensor:
        margin = (self.options.n_fft - self.options.win_length) // 2
        return super().forward(nn.functional.pad(examples, (margin, margin)))


class VGGishNetwork(nn.Module):
    """Log-mel patches [N, 96, 64] -> the last layer's output [N, 128], before any ReLU; 72.1 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for outputs in (64, None, 128, None, 256, 256, None, 512, 512, None):
            if outputs is None:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(6 * 4 * 512, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, DIM),
        )

    def forward(self, patches: Tensor) -> Tensor:
        maps = self.features(patches.unsqueeze(1))
        # TensorFlow has channels last, and the linear layers learned that order.
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))


class VGGish:
    """A `WindowEncoder`: clips in, their examples' embeddings out, or the mean of these.

    Args:
        network: VGGish with weights.
        device: Where it computes; results stay there.
        activation: Put a ReLU behind the last layer.
        pca: The matrix [128, 128] and means [128] of AudioSet's post-processing; None leaves embeddings as they are.
    """

    sample_rate_hz: int = SAMPLE_RATE_HZ
    min_duration_s: float = MIN_DURATION_S
    dim: int = DIM

    def __init__(
        self,
        network: VGGishNetwork,
        device: str | torch.device = "cpu",
        *,
        activation: bool = False,
        pca: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.name = "vggish" + "_relu" * activation + "_pca" * (pca is not None)
        self.device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self.device)
        self._front_end = LogMelExamples().to(self.device).eval()
        self._activation = activation
        self._pca = None if pca is None else tuple(part.float().to(self.device) for part in pca)

    def embed(self, waveforms: Tensor) -> Tensor:
        """Embed float waveforms [B, T] at 16 kHz in [-1, 1]: float32 [B, 128], the mean over examples."""
        return self.embed_windows(waveforms).mean(dim=1)

    @torch.no_grad()
    def embed_windows(self, waveforms: Tensor) -> Tensor:
        """Each 0.96 s of waveforms [B, T] for itself, as Fréchet audio distances want it: float32 [B, E, 128].

        As in Google's release what is left of a clip behind its last whole example is not used; a clip shorter than
        one example is padded with zeros.

        Raises:
            ValueError: they are no float waveforms [B, T].
        """
        if waveforms.ndim != 2 or not waveforms.is_floating_point():
            raise ValueError(
                f"{self.name}: expected float waveforms [B, T] at {SAMPLE_RATE_HZ} Hz, "
                f"got {waveforms.dtype} {list(waveforms.shape)}"
            )
        missing = EXAMPLE_SAMPLES - waveforms.shape[1]
        if missing > 0:
            waveforms = nn.functional.pad(waveforms, (0, missing))
        examples = waveforms.unfold(1, EXAMPLE_SAMPLES, EXAMPLE_STEP)  # a view: a long clip is not copied
        rows, count = examples.shape[:2]
        at_once = _EXAMPLES_AT_ONCE.get(self.device.type, _EXAMPLES_AT_ONCE["cpu"])
        vectors = [torch.zeros(0, DIM, device=self.device)]
        for start in range(0, rows * count, at_once):
            numbers = torch.arange(start, min(start + at_once, rows * count), device=waveforms.device)
            piece = examples[numbers // count, numbers % count].to(self.device, torch.float32)
            vectors.append(self._finish(self._network(self._front_end(piece))))
        return torch.cat(vectors).view(rows, count, DIM)

    def _finish(self, embeddings: Tensor) -> Tensor:
        if self._activation:
            embeddings = embeddings.relu()
        if self._pca is not None:
            return quantise_embeddings((embeddings - self._pca[1]) @ self._pca[0].T)
        return embeddings


def quantise_embeddings(whitened: Tensor) -> Tensor:
    """Whitened embeddings -> whole numbers 0 to 255 in float32: cut to [-2, 2], scaled, cut off below the point.

    That is Google's release, and so AudioSet's published features; torchvggish rounds to the nearest.
    """
    low, high = _QUANTISED_RANGE
    return ((whitened.clamp(low, high) - low) * (255.0 / (high - low))).floor()


def load(
    weights: str | Path, device: str = "cpu", *, activation: bool = False, pca: str | Path | None = None
) -> VGGish:
    """Load VGGish from a checkpoint in torchvggish's format.

    Args:
        weights: A `.pth` state dict, for instance what `weights.resolve(VGGISH_URL, ...)` returns.
        device: Any torch device.
        activation: Put a ReLU behind the last layer, as torchvggish does.
        pca: Parameters of AudioSet's post-processing, `vggish_pca_params` as Google's `.npz` or torchvggish's `.pth`.

    Raises:
        FileNotFoundError: No such file; the message says where to get it.
        ValueError: A file can't be read, or holds something else; says which parameters differ.
    """
    path = _existing(weights, "weights", f"{VGGISH_URL} ({VGGISH_SIZE_BYTES / 1e6:.0f} MB)")
    state = _read_tensors(path)
    # What torchvggish's whole model saves beside the network is the post-processing, which has a file of its own.
    state = {name: value for name, value in state.items() if not name.startswith("pproc.")}
    with torch.device("meta"):  # the weights are about to be replaced, so they aren't initialised
        network = VGGishNetwork()
    _check(state, {name: tuple(value.shape) for name, value in network.state_dict().items()}, path)
    floats = {name: value.float().contiguous() for name, value in state.items()}
    network.load_state_dict(floats, strict=True, assign=True)
    return VGGish(network, device, activation=activation, pca=None if pca is None else read_pca(pca))


def read_pca(parameters: str | Path) -> tuple[Tensor, Tensor]:
    """AudioSet's post-processing: matrix [128, 128] and means [128] from `vggish_pca_params`, `.npz` or `.pth`.

    Raises:
        FileNotFoundError: No such file; the message says where to get it.
        ValueError: It can't be read, or holds something else.
    """
    path = _existing(parameters, "PCA parameters", f"{PCA_NPZ_URL} or {PCA_URL} (73 kB)")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found: dict[str, Any] = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        except (ValueError, OSError, zipfile.BadZipFile, TypeError) as error:
            raise ValueError(f"{path} is no readable .npz file of plain arrays: {error}") from error
    else:
        found = _read_tensors(path)
    if "pca_means" in found:
        found["pca_means"] = found["pca_means"].reshape(-1)  # also published as a column
    _check(found, {"pca_eigen_vectors": (DIM, DIM), "pca_means": (DIM,)}, path)
    return found["pca_eigen_vectors"], found["pca_means"]


def _existing(file: str | Path, what: str, source: str) -> Path:
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"VGGish {what} not found: {path}. Download {source} and put it there")
    return path


def _check(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]], path: Path) -> None:
    check_shapes(state, expected, path, "is not of VGGish", f"Get {VGGISH_URL}")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    # The PCA parameters may be numpy arrays: these, and nothing else beside tensors, are let in.
    reconstruct = np.zeros(0).__reduce__()[0]
    arrays: list[Any] = [
        np.ndarray,
        np.dtype,
        type(np.dtype(np.float32)),
        type(np.dtype(np.float64)),
        (reconstruct, "numpy.core.multiarray._reconstruct"),
        (reconstruct, "numpy._core.multiarray._reconstruct"),
    ]
    return read_state_dict(path, "VGGish", arrays)
