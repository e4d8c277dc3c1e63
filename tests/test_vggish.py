"""VGGish: its front end against TensorFlow's in float64, its layers against plain formulas, and its checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from foley import tables
from foley.encoders import vggish
from foley.encoders.embed import embed_shard
from foley.encoders.protocol import AudioEncoder, WindowEncoder
from foley.studies.audio.quality import EmbeddingTables, QualityOptions, measure_generator
from foley.tables.audio_studies import AUDIO_PARTITION, AUDIO_QUALITY, SYNTHETIC_CLIPS
from foley.tables.features import EMBEDDINGS
from toy_store import flac, sound

# Names and shapes of `vggish-10086976.pth`, written down from torchvggish's layers.
SHAPES = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}


def random_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights of the real shapes. A layer's numbers repeat along its diagonals, so that 72 million of them
    come from (and are saved as) some ten thousand."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, (rows, *rest) in SHAPES.items():
        columns = int(np.prod(rest))
        numbers = torch.randn(rows + columns, generator=generator) * (2 / columns) ** 0.5
        strides = [int(np.prod(rest[axis + 1 :])) for axis in range(len(rest))]
        state[f"{name}.weight"] = numbers.as_strided((rows, *rest), (1, *strides))
        state[f"{name}.bias"] = torch.randn(rows, generator=generator) * 0.1
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vggish-10086976.pth"
    torch.save(random_state(), path)
    assert path.stat().st_size < 1e6
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> vggish.VGGish:
    return vggish.load(weights)


@pytest.fixture(scope="module")
def pca() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "pca_eigen_vectors": generator.normal(size=(128, 128)).astype(np.float32) / 12,
        "pca_means": generator.normal(size=128).astype(np.float32),
    }


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32))


# Front end


def tensorflow_examples(samples: np.ndarray) -> np.ndarray:
    """The release's front end in float64, by a sum over samples for each frequency: [T] -> [E, 96, 64]."""
    count = 1 + (len(samples) - 400) // 160
    frames = np.stack([samples[k * 160 : k * 160 + 400].astype(np.float64) for k in range(count)])
    window = np.sin(np.pi * np.arange(400) / 400) ** 2  # the periodic Hann window
    spectrum = (frames * window) @ np.exp(-2j * np.pi * np.outer(np.arange(400), np.arange(257)) / 512)
    mel_of = np.vectorize(lambda hertz: 1127 * np.log(1 + hertz / 700))
    corners = np.linspace(mel_of(125.0), mel_of(7500.0), 66)
    weights = np.stack(
        [np.interp(mel_of(np.arange(257) * 31.25), corners[band : band + 3], [0, 1, 0]) for band in range(64)]
    )
    mel = np.log(np.abs(spectrum) @ weights.T + 0.01)
    return mel[: count // 96 * 96].reshape(-1, 96, 64)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0])
def test_front_end_is_that_of_tensorflow(scale: float) -> None:
    time = np.arange(2 * 15360 + 240) / 16_000
    samples = scale * (noise(len(time)).numpy() + 0.4 * np.sin(2 * np.pi * (300 + 900 * time) * time))
    wanted = tensorflow_examples(samples)
    assert wanted.shape == (2, 96, 64)
    examples = torch.from_numpy(samples).float().unfold(0, vggish.EXAMPLE_SAMPLES, vggish.EXAMPLE_STEP)
    np.testing.assert_allclose(vggish.LogMelExamples()(examples).numpy(), wanted, atol=2e-4)


@pytest.mark.parametrize(
    ("samples", "examples"), [(1, 1), (15_600, 1), (30_959, 1), (30_960, 2), (80_000, 5), (46_880, 3)]
)
def test_number_of_examples(encoder: vggish.VGGish, samples: int, examples: int) -> None:
    if samples >= vggish.EXAMPLE_SAMPLES:
        assert len(tensorflow_examples(np.zeros(samples))) == examples
    calls = []
    network = encoder._network
    encoder._network = lambda patches: calls.append(patches.shape) or patches[:, :2].flatten(1)  # type: ignore
    try:
        assert encoder.embed_windows(torch.zeros(2, samples)).shape == (2, examples, 128)
    finally:
        encoder._network = network
    assert sum(shape[0] for shape in calls) == 2 * examples


# Network


def plain_network(state: dict[str, np.ndarray], patch: np.ndarray) -> np.ndarray:
    """[96, 64] -> [128]: convolutions by scipy, channels last before the linear layers."""
    maps = patch[None]
    for layer, pooled in ((0, True), (3, True), (6, False), (8, True), (11, False), (13, True)):
        kernel, bias = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
        maps = np.stack(
            [
                sum(correlate2d(m, k, mode="same") for m, k in zip(maps, ks, strict=True)) + b
                for ks, b in zip(kernel, bias, strict=True)
            ]
        ).clip(min=0)
        if pooled:
            channels, height, width = maps.shape
            maps = maps.reshape(channels, height // 2, 2, width // 2, 2).max(axis=(2, 4))
    x = np.moveaxis(maps, 0, -1).reshape(-1)
    for layer in (0, 2, 4):
        x = x @ state[f"embeddings.{layer}.weight"].T + state[f"embeddings.{layer}.bias"]
        x = x.clip(min=0) if layer < 4 else x
    return x


def test_network_is_that_of_the_formulas() -> None:
    # The real layers in a real order, but few channels: scipy takes a minute for the real number.
    widths = {1: 1, 64: 2, 128: 3, 256: 4, 512: 5, 4096: 6, 12288: 24 * 5}
    generator = torch.Generator().manual_seed(3)
    with torch.device("meta"):
        network = vggish.VGGishNetwork()
    for part in ("features", "embeddings"):
        layers = []
        for layer in getattr(network, part):
            if isinstance(layer, torch.nn.Conv2d):
                layer = torch.nn.Conv2d(widths[layer.in_channels], widths[layer.out_channels], 3, padding=1)
            elif isinstance(layer, torch.nn.Linear):
                layer = torch.nn.Linear(widths[layer.in_features], widths.get(layer.out_features, 128))
            layers.append(layer)
        setattr(network, part, torch.nn.Sequential(*layers))
    for value in network.parameters():
        torch.nn.init.normal_(value, 0.05, 0.4, generator=generator)
    network.double().requires_grad_(False)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    assert {name.removesuffix(".weight") for name in state if name.endswith("weight")} == set(SHAPES)
    patches = noise(2, 96, 64, seed=2).double()
    wanted = np.stack([plain_network(state, patch.numpy()) for patch in patches])
    np.testing.assert_allclose(network(patches).numpy(), wanted, rtol=1e-9)
    assert np.std(wanted) > 0


def test_real_size_loads_and_embeds(encoder: vggish.VGGish) -> None:
    assert isinstance(encoder, AudioEncoder) and isinstance(encoder, WindowEncoder)
    assert (encoder.name, encoder.dim, encoder.sample_rate_hz) == ("vggish", 128, 16_000)
    assert sum(value.numel() for value in encoder._network.parameters()) == 72_141_184
    assert vggish.VGGISH_SIZE_BYTES == 4 * 72_141_184
    clips = noise(2, 31_000)
    each = encoder.embed_windows(clips)
    assert each.shape == (2, 2, 128)
    assert each.dtype == torch.float32
    assert each.std(dim=(0, 1)).min() > 0  # examples differ in every dimension
    assert (each < 0).any()  # no ReLU behind the last layer
    wanted = encoder._network(torch.from_numpy(tensorflow_examples(clips[1].numpy())).float())
    torch.testing.assert_close(each[1], wanted, rtol=1e-3, atol=1e-3)
    alone = encoder.embed(clips[1:])
    torch.testing.assert_close(alone[0], each[1].mean(0), rtol=1e-4, atol=1e-4)
    assert encoder.embed(clips[:0]).shape == (0, 128)


def test_the_frechet_distance_takes_every_example_of_a_clip(
    encoder: vggish.VGGish, weights: Path, tmp_path: Path
) -> None:
    """Stored clips -> table of embeddings -> what is measured; all else takes a clip as one vector."""
    seconds = {"test-0": 2.0, "test-1": 0.5, "train-0": 1.0, "train-1": 1.0, "made-0": 3.0, "made-1": 2.0}
    examples = {"test-0": 2, "test-1": 1, "train-0": 1, "train-1": 1, "made-0": 3, "made-1": 2}
    rows = [
        {
            "clip_id": name, "class_id": 7, "recording_id": name, "role": name[:-2], "label": "dog",
            "generator": "g", "method": "sampled", "seed": 0, "sample_rate_hz": 8_000, "duration_s": length,
            "audio": flac(sound(7, number, length)),
        }
        for number, (name, length) in enumerate(seconds.items())
    ]  # fmt: skip

    def write(name: str, kind: tables.TableKind, part: list[dict[str, object]]) -> Path:
        tables.write(
            tmp_path / name, kind, [{key: row[key] for key in kind.columns if key in row} for row in part]
        )
        return tmp_path / name

    shards = {
        "real": write("real", SYNTHETIC_CLIPS, rows[:4]),
        "made": write("made", SYNTHETIC_CLIPS, rows[4:]),
    }
    embedded, vectors = {}, {}
    for name, shard in shards.items():
        embedded[name] = tmp_path / f"{name}-embedded"
        embed_shard(embedded[name], audio=shard, target="foley.encoders.vggish:VGGish", weights=weights)
        table = tables.read(embedded[name], EMBEDDINGS)
        assert list(zip(table["clip_id"].to_pylist(), table["window"].to_pylist(), strict=True)) == [
            (clip_id, window)
            for clip_id in tables.read(shard, SYNTHETIC_CLIPS)["clip_id"].to_pylist()
            for window in range(examples[clip_id])
        ]
        vectors[name] = tables.to_matrix(table["vector"])
    measure_generator(
        tmp_path / "quality", tmp_path / "scores", dataset="d", split="fold1", generator="g",
        partition=write("partition", AUDIO_PARTITION, rows[:4]), synthetic=[shards["made"]],
        embeddings={"vggish": EmbeddingTables([embedded["real"]], [embedded["made"]])}, probes={},
        options=QualityOptions(points=2, groups=2, draws=10),
    )  # fmt: skip
    found = {
        row["metric"]: row
        for row in tables.read(tmp_path / "quality", AUDIO_QUALITY).to_pylist()
        if row["class_id"] is None
    }
    for name in ("frechet_audio_distance", "frechet_audio_distance_shrunk", "kernel_audio_distance"):
        assert (found[name]["n_real"], found[name]["n_synthetic"]) == (3, 5)
    for name in ("precision", "coverage", "nearest_distance"):
        assert found[name]["n_synthetic"] == 2
    x, y = (part.astype(np.float64) for part in (vectors["real"][:3], vectors["made"]))
    wanted = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(np.cov(x.T) + np.cov(y.T))
    # The trace of the root of a product is the sum of singular values of the product of roots.
    a, b = ((part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (x, y))
    wanted -= 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    assert found["frechet_audio_distance"]["value"] == pytest.approx(wanted, rel=1e-6)


def test_only_mono_float_waveforms(encoder: vggish.VGGish) -> None:
    for bad in (torch.zeros(16_000), torch.zeros(2, 16_000, dtype=torch.int16)):
        with pytest.raises(ValueError, match=r"float waveforms \[B, T\] at 16000 Hz"):
            encoder.embed(bad)


# Activation and post-processing


def test_activation_and_pca(encoder: vggish.VGGish, pca: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "params.npz", **pca)
    whitening = vggish.read_pca(tmp_path / "params.npz")
    raw = encoder.embed_windows(noise(1, 15_600))
    relu = vggish.VGGish(encoder._network, activation=True)
    assert relu.name == "vggish_relu"
    torch.testing.assert_close(relu.embed_windows(noise(1, 15_600)), raw.clamp(min=0))
    both = vggish.VGGish(encoder._network, pca=whitening)
    assert both.name == "vggish_pca"
    found = both.embed_windows(noise(1, 15_600))[0, 0].numpy()
    # Google's release, in numpy.
    centred = raw[0].numpy().T.astype(np.float64) - pca["pca_means"][:, None]
    projected = (pca["pca_eigen_vectors"].astype(np.float64) @ centred)[:, 0]
    exact = (np.clip(projected, -2, 2) + 2) * 63.75
    assert np.abs(projected).min() < 2 < np.abs(projected).max()  # both inside and outside of the range
    # In float32 a value may fall on the other side of a whole number.
    sure = np.abs(exact - exact.round()) > 1e-3
    sure |= np.abs(projected) > 2
    assert sure.sum() > 100
    np.testing.assert_array_equal(found[sure], np.floor(exact[sure]))
    assert found.min() >= 0 and found.max() <= 255


def test_quantising_cuts_off() -> None:
    values = torch.tensor([-3.0, -2.0, -1.99, 0.0, 1.99, 2.0, 9.0], dtype=torch.float64)
    assert vggish.quantise_embeddings(values).tolist() == [0, 0, 0, 127, 254, 255, 255]


@pytest.mark.parametrize("kind", ["npz", "column", "tensors", "arrays"])
def test_pca_in_every_published_form(kind: str, pca: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / f"params.{'npz' if kind in ('npz', 'column') else 'pth'}"
    if kind == "npz":
        np.savez(path, **pca)
    elif kind == "column":
        np.savez(path, pca_eigen_vectors=pca["pca_eigen_vectors"], pca_means=pca["pca_means"][:, None])
    elif kind == "tensors":
        torch.save({name: torch.from_numpy(value) for name, value in pca.items()}, path)
    else:
        torch.save(pca, path)
    matrix, means = vggish.read_pca(path)
    np.testing.assert_array_equal(matrix.numpy(), pca["pca_eigen_vectors"])
    np.testing.assert_array_equal(means.numpy(), pca["pca_means"])


# Bad checkpoints


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("evil"),)


def test_bad_checkpoints_are_refused(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vggish-10086976\.pth \(289 MB\)"):
        vggish.load(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="vggish_pca_params"):
        vggish.read_pca(tmp_path / "none.npz")
    bad = tmp_path / "bad.pth"
    bad.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated"):
        vggish.load(bad)
    torch.save({"features.0.weight": torch.zeros(1), "evil": Evil()}, bad)
    with pytest.raises(ValueError, match="more than tensors"):
        vggish.load(bad)
    assert not Path("evil").exists()
    torch.save([1, 2], bad)
    with pytest.raises(ValueError, match="holds a list"):
        vggish.load(bad)
    state = random_state()
    state["classifier.weight"] = state.pop("embeddings.4.bias")
    state["features.0.bias"] = torch.zeros(3)
    torch.save(state, bad)
    with pytest.raises(
        ValueError, match=r"lacks embeddings\.4\.bias.*unknown classifier.*\[3\], expected \[64\]"
    ):
        vggish.load(bad)
    bad_npz = tmp_path / "bad.npz"
    bad_npz.write_bytes(b"<html>")
    with pytest.raises(ValueError, match="no readable"):
        vggish.read_pca(bad_npz)
    np.savez(bad_npz, pca_eigen_vectors=np.zeros((128, 64)), pca_means=np.zeros(128))
    with pytest.raises(ValueError, match=r"\[128, 64\], expected \[128, 128\]"):
        vggish.read_pca(bad_npz)


def test_post_processing_in_the_checkpoint_does_no_harm(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    state |= {"pproc.pca_eigen_vectors": torch.zeros(128, 128), "pproc.pca_means": torch.zeros(128, 1)}
    torch.save(state, tmp_path / "whole.pth")
    assert vggish.load(tmp_path / "whole.pth").name == "vggish"
