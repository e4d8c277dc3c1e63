"""EfficientAT as encoder and tagger, and the pinned download of its weights."""

from __future__ import annotations

import csv
import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from foley import tables
from foley.download.http import Patience
from foley.encoders import efficientat, weights
from foley.encoders.embed import embed_shard
from foley.encoders.protocol import AudioEncoder
from foley.encoders.weights import resolve
from foley.tables.features import EMBEDDINGS
from toy_store import synthetic

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and weights, which are not part of the project."""
    path = Path(os.environ.get("FOLEY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set FOLEY_SHARED_DATA)")
    return path


@pytest.fixture(scope="session")
def real_encoder(shared_data: Path) -> efficientat.EfficientAT:
    weights = shared_data / "weights" / "mn04_as_mAP_432.pt"
    if not weights.is_file():
        pytest.skip(f"no {weights}")
    return efficientat.load(weights)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of width 0.1 with 7 classes, in the published format."""
    torch.manual_seed(0)
    network = efficientat.MobileNet(0.1, n_classes=7)
    for module in network.modules():  # fresh batch norms are the identity, which would hide mistakes
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("weights") / "mn01.pt"
    torch.save(network.state_dict(), path)
    return path


def esc50_clips(folder: Path, labels: list[str]) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Waveforms [N, 160000] at 32 kHz, labels [N] and folds [N] of the named classes."""
    with open(folder / "esc50" / "meta" / "esc50.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] in labels]
    waveforms = np.zeros((len(rows), 160_000), np.float32)
    for waveform, row in zip(waveforms, rows, strict=True):
        clip, rate = soundfile.read(folder / "esc50" / "audio" / (Path(row["filename"]).stem + ".ogg"))
        clip = soxr.resample(clip, rate, 32_000)[:160_000]
        waveform[: len(clip)] = clip
    return (
        torch.from_numpy(waveforms),
        np.array([row["category"] for row in rows]),
        np.array([int(row["fold"]) for row in rows]),
    )


# --- front end ---


def log_mel_formula(waveform: np.ndarray) -> np.ndarray:
    """The front end in float64 straight from its definition, one frame and one filter at a time."""
    emphasised = waveform[1:] - 0.97 * waveform[:-1]
    padded = np.pad(emphasised, 512, mode="reflect")
    window = np.zeros(1024)
    window[112:912] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799)
    n_frames = 1 + len(emphasised) // 320
    power = np.array(
        [abs(np.fft.rfft(padded[i * 320 : i * 320 + 1024] * window)) ** 2 for i in range(n_frames)]
    )

    def mel(hz: float) -> float:
        return 1127 * np.log(1 + hz / 700)

    step = mel(15_000) / 129
    out = np.empty((128, n_frames))
    for band in range(128):
        left, centre, right = band * step, (band + 1) * step, (band + 2) * step
        weights = np.zeros(513)
        for k in range(512):
            at = mel(k * 32_000 / 1024)
            if left < at < right:
                weights[k] = (at - left) / step if at <= centre else (right - at) / step
        out[band] = (np.log(power @ weights + 1e-5) + 4.5) / 5
    return out


def test_front_end_equals_its_definition() -> None:
    rng = np.random.default_rng(1)
    tone = 0.3 * np.sin(2 * np.pi * 1234.5 * np.arange(16_000) / 32_000)
    waveforms = np.stack([tone, 0.1 * rng.standard_normal(16_000), np.zeros(16_000)])
    ours = efficientat.LogMel()(torch.from_numpy(waveforms).float())
    assert ours.shape == (3, 1, 128, 50)
    expected = np.stack([log_mel_formula(waveform) for waveform in waveforms])
    np.testing.assert_allclose(ours[:, 0].numpy(), expected, atol=2e-4)
    assert ours[2].numpy() == pytest.approx((np.log(1e-5) + 4.5) / 5)  # silence


# --- architecture and checkpoints ---


# Parameter counts in millions from the table of the published models in the EfficientAT README.
@pytest.mark.parametrize(
    ("width", "dim", "millions"),
    [(0.4, 384, 0.983), (0.5, 480, 1.43), (1.0, 960, 4.88), (2.0, 1920, 17.91), (4.0, 3840, 68.43)],
)
def test_sizes_of_the_published_models(width: float, dim: int, millions: float) -> None:
    with torch.device("meta"):
        network = efficientat.MobileNet(width)
    assert network.dim == dim
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)


def test_load_infers_width_and_classes_and_keeps_the_function(tiny_weights: Path) -> None:
    encoder = efficientat.load(tiny_weights)
    assert isinstance(encoder, AudioEncoder)
    assert (encoder.name, encoder.sample_rate_hz, encoder.dim) == ("efficientat_mn01", 32_000, 96)

    plain = efficientat.MobileNet(0.1, n_classes=7)
    plain.load_state_dict(torch.load(tiny_weights, weights_only=True))
    plain.eval()
    waveforms = 0.1 * torch.randn(5, 20_000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits, features = plain(efficientat.LogMel()(waveforms))
    torch.testing.assert_close(encoder.embed(waveforms), features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.tag(waveforms), logits.sigmoid(), rtol=1e-4, atol=1e-5)
    both = encoder.embed_and_tag(waveforms)
    assert torch.equal(both[0], encoder.embed(waveforms)) and torch.equal(both[1], encoder.tag(waveforms))
    assert not encoder.embed(waveforms).requires_grad


def test_rows_do_not_depend_on_their_batch(tiny_weights: Path) -> None:
    encoder = efficientat.load(tiny_weights)
    # Long enough that a CPU takes the batch in several pieces.
    waveforms = 0.1 * torch.randn(5, 300_000, generator=torch.Generator().manual_seed(3))
    together = encoder.embed(waveforms)
    alone = torch.cat([encoder.embed(waveform[None]) for waveform in waveforms])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 32_000), (1, 0), (2, 1), (2, 513), (1, 10_239), (1, 32_000)])
def test_short_silent_and_empty_input(tiny_weights: Path, shape: tuple[int, int]) -> None:
    encoder = efficientat.load(tiny_weights)
    silence = torch.zeros(shape, dtype=torch.float64)
    embedding = encoder.embed(silence)
    assert embedding.shape == (shape[0], encoder.dim) and embedding.dtype == torch.float32
    assert embedding.isfinite().all() and encoder.tag(silence).shape == (shape[0], 7)


def test_short_input_equals_zero_padded_input(tiny_weights: Path) -> None:
    encoder = efficientat.load(tiny_weights)
    click = 0.1 * torch.randn(1, 1000, generator=torch.Generator().manual_seed(4))
    at_least = round(encoder.min_duration_s * encoder.sample_rate_hz)
    padded = torch.nn.functional.pad(click, (0, at_least - 1000))
    assert torch.equal(encoder.embed(click), encoder.embed(padded))


@pytest.mark.parametrize(
    "waveforms", [torch.zeros(32_000), torch.zeros(1, 2, 100), torch.zeros(1, 100, dtype=torch.int16)]
)
def test_wrong_waveforms_are_named(tiny_weights: Path, waveforms: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected float waveforms \[B, T\] at 32000 Hz, got torch"):
        efficientat.load(tiny_weights).embed(waveforms)


def test_memory_that_is_too_small_embeds_fewer_clips_at_once(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = synthetic(tmp_path / "clips", {3: 4, 7: 4, 8: 3})

    def vectors(name: str) -> np.ndarray:
        target = "foley.encoders.efficientat:EfficientAT"
        embed_shard(tmp_path / name, audio=shard, target=target, weights=tiny_weights)
        table = tables.read(tmp_path / name, EMBEDDINGS)
        assert table["clip_id"].to_pylist() == tables.read(shard)["clip_id"].to_pylist()
        return tables.to_matrix(table["vector"])

    whole = vectors("whole")
    embed, sizes = efficientat.EfficientAT.embed, []

    def limited(self: efficientat.EfficientAT, waveforms: torch.Tensor) -> torch.Tensor:
        if len(waveforms) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(waveforms))
        return embed(self, waveforms)

    monkeypatch.setattr(efficientat.EfficientAT, "embed", limited)
    np.testing.assert_allclose(vectors("parts"), whole, rtol=1e-4, atol=1e-5)
    assert sizes == [2] * 5 + [1]


def test_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"nowhere\.pt.*releases/download/v0\.0\.1/mn04_as_mAP_432\.pt.*4\.1 MB"
    ):
        efficientat.load(tmp_path / "nowhere.pt")


def test_another_shape_is_named(tiny_weights: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_weights, weights_only=True)
    state["features.0.0.weight"] = torch.zeros(8, 3, 3, 3)
    del state["features.2.block.0.0.weight"]
    state["extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(ValueError) as error:
        efficientat.load(tmp_path / "odd.pt")
    message = str(error.value)
    assert "odd.pt is no EfficientAT model of width 0.1" in message
    assert "features.0.0.weight is [8, 3, 3, 3], expected [8, 1, 3, 3]" in message
    assert "lacks features.2.block.0.0.weight" in message and "unknown extra" in message


class Stranger:
    """An object that a weights-only load must refuse to build."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"fc.weight": torch.zeros(2, 2)}, "lacks a 2-d classifier.2.weight"),
        ([1, 2], "holds a list"),
        ({"model": Stranger()}, "no readable PyTorch state dict"),
    ],
)
def test_another_content_is_named(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=message):
        efficientat.load(tmp_path / "other.pt")


@pytest.mark.parametrize("keep", [0, 100, 50_000])
def test_truncated_file_is_named(tiny_weights: Path, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.pt").write_bytes(tiny_weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.pt \([\d,]+ bytes\) is no readable PyTorch state dict"):
        efficientat.load(tmp_path / "cut.pt")


# --- real weights, real recordings ---


def test_real_tags_of_real_clips(real_encoder: efficientat.EfficientAT, shared_data: Path) -> None:
    with open(shared_data / "weights" / "audioset_class_labels_indices.csv", newline="") as file:
        names = np.array([row["display_name"] for row in csv.DictReader(file)])
    fitting = {
        "dog": {"Animal", "Dog", "Bark", "Domestic animals, pets", "Bow-wow", "Yip"},
        "crow": {"Crow", "Caw"},
        "toilet_flush": {"Toilet flush"},
        "siren": {"Siren", "Emergency vehicle", "Police car (siren)", "Civil defense siren"},
    }
    waveforms, labels, folds = esc50_clips(shared_data, list(fitting))
    first = folds == 1
    best = names[real_encoder.tag(waveforms[torch.from_numpy(first)]).numpy().argmax(1)]
    for label, tags in fitting.items():
        hits = np.isin(best[labels[first] == label], list(tags))
        assert hits.mean() >= 0.75, (label, best[labels[first] == label])


def test_real_embeddings_separate_classes(real_encoder: efficientat.EfficientAT, shared_data: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    esc10 = "dog rooster rain sea_waves crackling_fire crying_baby sneezing clock_tick helicopter chainsaw"
    waveforms, labels, folds = esc50_clips(shared_data, esc10.split())
    embeddings = real_encoder.embed(waveforms).numpy()
    assert embeddings.shape == (400, 384)
    accuracies = []
    for fold in range(1, 6):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        with threadpool_limits(1):  # torch's threads and BLAS's fight for the cores: 90 s instead of 1 s
            probe.fit(embeddings[folds != fold], labels[folds != fold])
        accuracies.append(probe.score(embeddings[folds == fold], labels[folds == fold]))
    assert np.mean(accuracies) > 0.9, accuracies


# --- resolve ---

BODY = b"weights" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


class _Weights(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[:500] if self.path.startswith("/cut") else BODY)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Weights) as server:
        server.requests = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_local_path_is_returned_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(BODY)
    assert resolve(str(tmp_path / "mine.pt"), None, tmp_path / "cache") == tmp_path / "mine.pt"
    assert resolve(str(tmp_path / "mine.pt"), SHA256.upper(), tmp_path / "cache") == tmp_path / "mine.pt"
    assert resolve(str(tmp_path), SHA256, tmp_path / "cache") == tmp_path
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match=r"mine\.pt .*expected 0000"):
        resolve(str(tmp_path / "mine.pt"), "0" * 64, tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=r"weights not found: .*gone\.pt"):
        resolve(str(tmp_path / "gone.pt"), None, tmp_path / "cache")
    with pytest.raises(ValueError, match="only http://, https:// and local paths"):
        resolve("ftp://host/mine.pt", None, tmp_path / "cache")


def test_a_download_happens_once(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    url = address(server, "/v1/mn.pt?token=secret")
    path = resolve(url, SHA256, tmp_path / "cache")
    assert path.name == "mn.pt" and path.read_bytes() == BODY
    assert resolve(url, SHA256, tmp_path / "cache", offline=True) == path
    assert len(server.requests) == 1  # type: ignore[attr-defined]
    assert files_in(tmp_path) == [path]
    # The same name from elsewhere is another file.
    assert resolve(address(server, "/v2/mn.pt"), SHA256, tmp_path / "cache") != path


def test_wrong_bytes_are_not_kept(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"mn\.pt is not the published file: its sha256 is {SHA256}, expected 0000"
    ):
        resolve(address(server, "/mn.pt"), "0" * 64, tmp_path)
    with pytest.raises(ValueError, match=r"offers 7,000 bytes .*, expected 6,999"):
        resolve(address(server, "/mn.pt"), None, tmp_path, size_bytes=6_999)
    assert [path.name for path in files_in(tmp_path)] == ["mn.pt.bad"]


def test_a_cached_file_that_rotted_is_named(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    path = resolve(address(server, "/mn.pt"), SHA256, tmp_path)
    path.write_bytes(BODY[:-1])
    with pytest.raises(ValueError, match=r"mn\.pt \(6,999 bytes\).*Delete"):
        resolve(address(server, "/mn.pt"), SHA256, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PATIENCE", Patience(attempts=2, first_wait_s=0.01))


@pytest.mark.parametrize(
    ("path", "reason", "left"),
    [
        ("/missing/mn.pt", "the server answered 404", []),
        ("/cut/mn.pt", "download failed", ["mn.pt.part", "mn.pt.part.json"]),
    ],
)
def test_a_failed_download_says_what_to_do(
    server: ThreadingHTTPServer, tmp_path: Path, impatient: None, path: str, reason: str, left: list[str]
) -> None:
    with pytest.raises(FileNotFoundError) as error:
        resolve(address(server, path + "?token=secret"), SHA256, tmp_path, size_bytes=len(BODY))
    message = str(error.value)
    assert reason in message and "(7.0 kB)" in message and "secret" not in message
    assert f"download {address(server, path)}" in message and f"put it at {tmp_path}" in message
    assert sorted(path.name for path in files_in(tmp_path)) == left


def test_no_network(server: ThreadingHTTPServer, tmp_path: Path, impatient: None) -> None:
    url = address(server, "/mn.pt")
    with pytest.raises(FileNotFoundError, match=r"offline mode.*put it at .*mn\.pt"):
        resolve(url, None, tmp_path, offline=True)
    assert server.requests == []  # type: ignore[attr-defined]
    server.server_close()
    with pytest.raises(FileNotFoundError, match=r"mn\.pt are not here.*Connection refused"):
        resolve("http://127.0.0.1:9/mn.pt", None, tmp_path)
