"""YAMNet with AudioSet weights: its front end, its layers against plain numpy, and every layout that is read."""

from __future__ import annotations

import csv
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from foley.encoders import pretrained_yamnet
from foley.encoders.protocol import AudioEncoder
from foley.encoders.tflite import read_layers

# Layer -> channels, stride; from the table in Google's yamnet.py.
LAYERS = {
    1: (32, 2), 2: (64, 1), 3: (128, 2), 4: (128, 1), 5: (256, 2), 6: (256, 1), 7: (512, 2), 8: (512, 1), 9: (512, 1),
    10: (512, 1), 11: (512, 1), 12: (512, 1), 13: (1024, 2), 14: (1024, 1),
}  # fmt: skip


def tensorflow_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Random variables with TensorFlow's names and shapes: kernels [height, width, in, out], norms without a scale."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int, fan_in: int) -> None:
        arrays[f"{name}:0"] = (generator.normal(size=shape) * (2 / fan_in) ** 0.5).astype(np.float32)

    def norm(name: str, channels: int) -> None:
        for part, low, high in (
            ("beta", -0.1, 0.3),
            ("moving_mean", -0.1, 0.1),
            ("moving_variance", 0.5, 1.5),
        ):
            arrays[f"{name}/bn/{part}:0"] = generator.uniform(low, high, channels).astype(np.float32)

    add("layer1/conv/kernel", 3, 3, 1, 32, fan_in=9)
    norm("layer1/conv", 32)
    before = 32
    for number, (channels, _) in list(LAYERS.items())[1:]:
        add(f"layer{number}/depthwise_conv/depthwise_kernel", 3, 3, before, 1, fan_in=9)
        norm(f"layer{number}/depthwise_conv", before)
        add(f"layer{number}/pointwise_conv/kernel", 1, 1, before, channels, fan_in=before)
        norm(f"layer{number}/pointwise_conv", channels)
        before = channels
    add("logits/kernel", 1024, 521, fan_in=1024)
    add("logits/bias", 521, fan_in=2)
    return arrays


def as_in_h5(name: str) -> str:
    """`layer1/conv/kernel:0` -> `layer1/conv/layer1/conv/kernel:0`."""
    layer, _, part = name.rpartition("/")
    return f"{layer}/{layer}/{part}"


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return tensorflow_arrays()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]) -> Path:
    path = tmp_path_factory.mktemp("weights") / "yamnet.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> pretrained_yamnet.PretrainedYAMNet:
    return pretrained_yamnet.load(weights)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32))


def tensorflow_frames(samples: np.ndarray) -> np.ndarray:
    """The release's log-mel frames in float64, by a sum over samples for each frequency: [T] -> [F, 64]."""
    count = 1 + (len(samples) - 400) // 160
    frames = np.stack([samples[k * 160 : k * 160 + 400].astype(np.float64) for k in range(count)])
    window = np.sin(np.pi * np.arange(400) / 400) ** 2  # the periodic Hann window
    spectrum = (frames * window) @ np.exp(-2j * np.pi * np.outer(np.arange(400), np.arange(257)) / 512)
    mel_of = np.vectorize(lambda hertz: 1127 * np.log(1 + hertz / 700))
    corners = np.linspace(mel_of(125.0), mel_of(7500.0), 66)
    bands = np.stack(
        [np.interp(mel_of(np.arange(257) * 31.25), corners[band : band + 3], [0, 1, 0]) for band in range(64)]
    )
    return np.log(np.abs(spectrum) @ bands.T + 0.001)


def tensorflow_network(arrays: dict[str, np.ndarray], patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[96, 64] -> embedding [1024] and scores [521], in float64 with channels last."""

    def norm_relu(name: str, x: np.ndarray) -> np.ndarray:
        get = {
            part: arrays[f"{name}/bn/{part}:0"].astype(np.float64)
            for part in ("beta", "moving_mean", "moving_variance")
        }
        return np.maximum((x - get["moving_mean"]) / np.sqrt(get["moving_variance"] + 1e-4) + get["beta"], 0)

    def windows(x: np.ndarray, stride: int) -> list[np.ndarray]:
        # SAME: of even sizes a stride of 2 needs one more cell, behind; a stride of 1 one on either side.
        before = 0 if stride == 2 else 1
        assert stride == 1 or x.shape[0] % 2 == x.shape[1] % 2 == 0
        x = np.pad(x, ((before, 1), (before, 1), (0, 0)))
        height, width = x.shape[0] - 2, x.shape[1] - 2
        return [x[r : r + height : stride, c : c + width : stride] for r in range(3) for c in range(3)]

    kernel = arrays["layer1/conv/kernel:0"].reshape(9, 1, 32)
    x = norm_relu(
        "layer1/conv", sum(w @ k for w, k in zip(windows(patch[..., None], 2), kernel, strict=True))
    )
    for number, (_, stride) in list(LAYERS.items())[1:]:
        name = f"layer{number}/depthwise_conv"
        kernel = arrays[f"{name}/depthwise_kernel:0"].reshape(9, -1)
        x = norm_relu(name, sum(w * k for w, k in zip(windows(x, stride), kernel, strict=True)))
        name = f"layer{number}/pointwise_conv"
        x = norm_relu(name, x @ arrays[f"{name}/kernel:0"][0, 0].astype(np.float64))
    embedding = x.mean((0, 1))
    logits = embedding @ arrays["logits/kernel:0"] + arrays["logits/bias:0"]
    return embedding, 1 / (1 + np.exp(-logits))


def test_it_is_tensorflows_network(
    encoder: pretrained_yamnet.PretrainedYAMNet, arrays: dict[str, np.ndarray]
) -> None:
    assert isinstance(encoder, AudioEncoder)
    assert (encoder.dim, encoder.n_classes, encoder.sample_rate_hz) == (1024, 521, 16_000)
    clips = noise(2, 20_000)
    clips[1] *= 0.01
    embeddings, scores = encoder.embed_windows(clips), encoder.score_windows(clips)
    assert embeddings.shape == (2, 2, 1024) and scores.shape == (2, 2, 521)
    for clip in range(2):
        # The second patch begins after 0.48 s; its end is padded with silence.
        frames = tensorflow_frames(np.pad(clips[clip].numpy(), (0, 15_600 + 7_680 - 20_000)))
        for window in range(2):
            embedding, score = tensorflow_network(arrays, frames[48 * window : 48 * window + 96])
            np.testing.assert_allclose(embeddings[clip, window], embedding, rtol=2e-3, atol=2e-4)
            np.testing.assert_allclose(scores[clip, window], score, atol=1e-3)
    assert embeddings.std((0, 1)).mean() > 1e-3  # windows and clips differ
    torch.testing.assert_close(encoder.embed(clips), embeddings.mean(1))
    torch.testing.assert_close(encoder.tag(clips), scores.mean(1))
    torch.testing.assert_close(encoder.embed(clips[1:]), encoder.embed(clips)[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "windows"), [(0, 1), (1, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3), (80_000, 10)]
)
def test_number_of_windows(encoder: pretrained_yamnet.PretrainedYAMNet, samples: int, windows: int) -> None:
    seen = []
    network = encoder._network
    encoder._network = lambda patches: seen.append(patches.shape) or patches.new_zeros(len(patches), 1024)  # type: ignore
    try:
        assert encoder.embed_windows(torch.zeros(3, samples)).shape == (3, windows, 1024)
    finally:
        encoder._network = network
    assert sum(shape[0] for shape in seen) == 3 * windows and {shape[1:] for shape in seen} == {(96, 64)}


def test_size_and_names(encoder: pretrained_yamnet.PretrainedYAMNet, arrays: dict[str, np.ndarray]) -> None:
    state = encoder._network.state_dict()
    # Google's summary: 3,751,369 parameters with the moving averages, of which 3,729,481 are trained.
    assert sum(value.size for value in arrays.values()) == 3_751_369
    trained = sum(v.numel() for n, v in encoder._network.named_parameters() if not n.endswith("bn.weight"))
    assert trained == 3_729_481
    assert len(arrays) == 110
    # The port's names: each norm also has a scale, which is 1, and a counter.
    assert len(state) == 110 + 2 * 27
    assert {
        "layer1.fused.conv.weight", "layer1.fused.bn.running_mean", "layer14.depthwise_conv.conv.weight",
        "layer2.pointwise_conv.bn.bias", "layer9.pointwise_conv.bn.num_batches_tracked", "classifier.bias",
    } <= set(state)  # fmt: skip
    assert encoder.embed(noise(0, 16_000)).shape == (0, 1024)


@pytest.mark.parametrize("layout", ["pth", "safetensors", "npz named as in h5", "h5"])
def test_every_layout_gives_the_same(
    layout: str, encoder: pretrained_yamnet.PretrainedYAMNet, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / f"yamnet.{layout.split()[0]}"
    state = {name: value.contiguous() for name, value in encoder._network.state_dict().items()}
    if layout == "pth":
        torch.save(state, path)
    elif layout == "safetensors":
        save_file({n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}, path)
    elif layout == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[as_in_h5(name)] = value
    else:
        np.savez(path, **{as_in_h5(name): value for name, value in arrays.items()})
    clip = noise(1, 15_600)
    assert torch.equal(pretrained_yamnet.load(path).embed(clip), encoder.embed(clip))


# TFLite

# Places of fields in the schema, and codes of operators and types.
CONVOLUTION, DEPTHWISE, DEQUANTIZE, DENSE = 3, 4, 6, 9
FLOAT32, INT8 = 0, 9


def flatbuffer(root: dict[int, Any]) -> bytes:
    """A table as FlatBuffers keeps it: fields are whole numbers, arrays, lists of tables, or tables."""
    out = bytearray(b"\0\0\0\0TFL3")

    def put(node: Any) -> int:
        if isinstance(node, np.ndarray):
            place = len(out)
            out.extend(struct.pack("<I", node.size) + node.tobytes())
            return place
        children: list[tuple[int, Any]] = []
        if isinstance(node, list):
            place = len(out)
            out.extend(struct.pack("<I", len(node)) + bytes(4 * len(node)))
            children = [(place + 4 + 4 * number, child) for number, child in enumerate(node)]
        else:
            fields = sorted(node)
            index = len(out)
            slots = {field: 4 + 4 * number for number, field in enumerate(fields)}
            width = max(fields, default=-1) + 1
            out.extend(
                struct.pack(
                    f"<{2 + width}H",
                    4 + 2 * width,
                    4 + 4 * len(fields),
                    *(slots.get(f, 0) for f in range(width)),
                )
            )
            place = len(out)
            out.extend(struct.pack("<i", place - index) + bytes(4 * len(fields)))
            for field in fields:
                if isinstance(node[field], int):
                    out[place + slots[field] : place + slots[field] + 4] = struct.pack("<i", node[field])
                else:
                    children.append((place + slots[field], node[field]))
        for slot, child in children:
            out[slot : slot + 4] = struct.pack("<I", put(child) - slot)
        return place

    out[:4] = struct.pack("<I", put(root))
    return bytes(out)


def tflite_model(layers: list[tuple[int, np.ndarray, np.ndarray | None]], coded: str = "") -> bytes:
    """Layers of (operator, weight, bias), one after the other. ``coded``: weights are kept as 8 bits with one scale for
    each ``slice`` of the first axis, or with one for all and an operator of its own that undoes it (``graph``)."""
    codes = [CONVOLUTION, DEPTHWISE, DEQUANTIZE, DENSE]
    tensors: list[dict[int, Any]] = [{0: np.array([1], np.int32), 2: 0}]
    buffers: list[dict[int, Any]] = [{}]
    operators: list[dict[int, Any]] = []

    def constant(values: np.ndarray, quantisation: dict[int, Any] | None = None) -> int:
        buffers.append({0: np.frombuffer(values.tobytes(), np.uint8)})
        kind = INT8 if values.dtype == np.int8 else FLOAT32
        more = {4: quantisation} if quantisation else {}
        tensors.append({0: np.array(values.shape, np.int32), 1: kind, 2: len(buffers) - 1, **more})
        return len(tensors) - 1

    for operator, weight, bias in layers:
        if coded == "slice":
            scale = np.abs(weight).reshape(len(weight), -1).max(1).astype(np.float32) / 127
            rounded = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
            number = constant(rounded, {2: scale, 3: np.zeros(len(scale), np.int64), 6: 0})
        elif coded == "graph":
            zero, scale = 5, np.float32(np.abs(weight).max() / 120)
            shifted = np.round(weight / scale + zero).astype(np.int8)
            stored = constant(shifted, {2: np.array([scale]), 3: np.array([zero], np.int64)})
            tensors.append({0: np.array(weight.shape, np.int32), 2: 0})
            number = len(tensors) - 1
            operators.append({0: 2, 1: np.array([stored], np.int32), 2: np.array([number], np.int32)})
        else:
            number = constant(weight.astype(np.float32))
        inputs = [0, number] + ([constant(bias.astype(np.float32))] if bias is not None else [])
        operators.append(
            {0: codes.index(operator), 1: np.array(inputs, np.int32), 2: np.array([0], np.int32)}
        )
    graph = {0: tensors, 3: operators}
    return flatbuffer({1: [{0: code, 3: code} for code in codes], 2: [graph], 4: buffers})


@pytest.fixture(scope="module")
def folded(arrays: dict[str, np.ndarray]) -> list[tuple[int, np.ndarray, np.ndarray | None]]:
    """The layers of yamnet.tflite: the front end's matrices, then convolutions with their norms folded in."""

    def fold(name: str, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance, beta = (
            arrays[f"{name}/bn/{p}:0"] for p in ("moving_mean", "moving_variance", "beta")
        )
        return kernel / np.sqrt(variance + 1e-4), beta - mean / np.sqrt(variance + 1e-4)

    layers: list[tuple[int, np.ndarray, np.ndarray | None]] = [(DENSE, np.ones((257, 512)), None)]
    kernel, bias = fold("layer1/conv", arrays["layer1/conv/kernel:0"])
    layers.append((CONVOLUTION, kernel.transpose(3, 0, 1, 2), bias))
    for number in range(2, 15):
        name = f"layer{number}/depthwise_conv"
        kernel, bias = fold(name, arrays[f"{name}/depthwise_kernel:0"][..., 0])
        layers.append((DEPTHWISE, kernel[None], bias))
        name = f"layer{number}/pointwise_conv"
        kernel, bias = fold(name, arrays[f"{name}/kernel:0"])
        layers.append((CONVOLUTION, kernel.transpose(3, 0, 1, 2), bias))
    return [*layers, (DENSE, arrays["logits/kernel:0"].T, arrays["logits/bias:0"])]


def test_tflite_gives_the_same(
    encoder: pretrained_yamnet.PretrainedYAMNet,
    folded: list[tuple[int, np.ndarray, np.ndarray | None]],
    tmp_path: Path,
) -> None:
    path = tmp_path / "yamnet.tflite"
    path.write_bytes(tflite_model(folded))
    found = pretrained_yamnet.load(path)
    assert (encoder.name, found.name) == ("yamnet_audioset", "yamnet_audioset_tflite")
    clip = noise(2, 15_600)
    torch.testing.assert_close(found.embed(clip), encoder.embed(clip), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.tag(clip), encoder.tag(clip), rtol=0, atol=1e-4)


@pytest.mark.parametrize("coded", ["slice", "graph"])
def test_tflites_quantised_weights(coded: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(size=(4, 3, 3, 2)), generator.normal(size=4)
    weight[1] *= 100
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_model([(CONVOLUTION, weight, bias), (DENSE, weight[0, 0], None)], coded))
    first, second = read_layers(path)
    assert (first.kind, second.kind, second.bias) == ("conv", "dense", None)
    np.testing.assert_allclose(first.bias, bias, rtol=1e-6)
    largest = np.abs(weight).reshape(4, -1).max(1) if coded == "slice" else np.full(4, np.abs(weight).max())
    assert first.weight.dtype == np.float32
    assert (np.abs(first.weight - weight).reshape(4, -1).max(1) <= largest / 120 / 2 * 1.01).all()
    assert np.abs(second.weight - weight[0, 0]).max() <= np.abs(weight[0, 0]).max() / 120 / 2 * 1.01


def test_other_tflite_models_are_refused(
    folded: list[tuple[int, np.ndarray, np.ndarray | None]], tmp_path: Path
) -> None:
    path = tmp_path / "other.tflite"
    whole = tflite_model(folded)
    for content, message in (
        (b"<html></html>", "is no TFLite model"),
        (whole[:200_000], "truncated"),
        (tflite_model(folded[:-3]), "its 25 convolutions and 1 dense layers are not those"),
        (
            tflite_model([*folded[:-1], (DENSE, np.ones((7, 1024)), np.ones(7))]),
            r"classifier\.weight is \[7, 1024\]",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            pretrained_yamnet.load(path)


def test_real_weights_hear_real_sounds() -> None:
    """Google's yamnet.tflite on recordings, neither of which is part of the project."""
    shared = Path(
        os.environ.get("FOLEY_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    )
    weights, names = shared / "weights" / "yamnet.tflite", shared / "weights" / "yamnet_class_map.csv"
    if not weights.is_file() or not names.is_file():
        pytest.skip(f"no {weights} (set FOLEY_SHARED_DATA)")
    encoder = pretrained_yamnet.load(weights)
    with open(names, newline="") as file:
        names_of = [row["display_name"] for row in csv.DictReader(file)]
    fitting = {
        "crow": {"Animal", "Wild animals", "Bird", "Crow", "Caw"},
        "toilet_flush": {"Toilet flush", "Water"},
        "siren": {"Siren", "Alarm", "Emergency vehicle", "Police car (siren)", "Civil defense siren"},
    }
    hits = []
    with open(shared / "esc50" / "meta" / "esc50.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["fold"] == "1" and row["category"] in fitting:
                samples, rate = soundfile.read(
                    shared / "esc50" / "audio" / f"{Path(row['filename']).stem}.ogg", dtype="float32"
                )
                assert rate == encoder.sample_rate_hz
                best = encoder.tag(torch.from_numpy(samples)[None])[0].argmax()
                hits.append(names_of[int(best)] in fitting[row["category"]])
    assert len(hits) == 24 and np.mean(hits) >= 0.75


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("evil"),)


def test_bad_weights_are_refused(
    weights: Path, arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"yamnet\.pth or .*yamnet\.h5"):
        pretrained_yamnet.load(tmp_path / "none.pth")
    cut = tmp_path / "cut.npz"
    cut.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated"):
        pretrained_yamnet.load(cut)
    for name in ("page.pth", "page.safetensors"):
        (tmp_path / name).write_bytes(b"<html>")
        with pytest.raises(ValueError, match="a web page"):
            pretrained_yamnet.load(tmp_path / name)
    torch.save({"classifier.bias": torch.zeros(521), "evil": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="more than tensors"):
        pretrained_yamnet.load(tmp_path / "evil.pth")
    assert not Path("evil").exists()
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds a list"):
        pretrained_yamnet.load(tmp_path / "list.pt")
    wrong = {name: value for name, value in arrays.items() if name != "layer3/pointwise_conv/kernel:0"}
    np.savez(cut, **{**wrong, "layer15/conv/kernel:0": np.zeros(3), "logits/bias:0": np.zeros(7, np.float32)})
    with pytest.raises(ValueError) as refused:
        pretrained_yamnet.load(cut)
    message = str(refused.value)
    assert "lacks layer3.pointwise_conv.conv.weight" in message and "unknown layer15/conv/kernel:0" in message
    assert "classifier.bias is [7], expected [521]" in message


def test_only_mono_float_waveforms(encoder: pretrained_yamnet.PretrainedYAMNet) -> None:
    for bad in (torch.zeros(16_000), torch.zeros(2, 16_000, dtype=torch.int16)):
        with pytest.raises(ValueError, match=r"float waveforms \[B, T\] at 16000 Hz"):
            encoder.embed(bad)
