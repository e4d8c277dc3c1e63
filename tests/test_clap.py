"""CLAP: the embeddings of a checkpoint in the hub's format are those of transformers, whatever stands beside a clip."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foley import tables
from foley.audio.decode import resample
from foley.audio.store import iter_waveforms
from foley.encoders import clap_audio
from foley.encoders.clap import ClapEncoder, _windows
from foley.encoders.embed import embed_shard
from foley.encoders.protocol import AudioEncoder, WindowEncoder
from foley.encoders.registry import PRETRAINED_KINDS
from foley.tables.features import EMBEDDINGS
from tiny_clap import RATE_HZ, write_tiny_clap
from toy_store import synthetic

TEXTS = ["this is a sound of dog .", "rain", "the noise of a crying baby and a clock , a clock , a clock ."]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network runs slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["unfused", "fused"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clap(tmp_path_factory.mktemp(request.param), fusion=request.param == "fused")


@pytest.fixture(scope="module")
def unfused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture
def copied(unfused: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(unfused, tmp_path / "clap"))


def waveforms(*seconds: float) -> list[np.ndarray]:
    """A tone in noise, each of another pitch."""
    random = np.random.default_rng(0)
    made = []
    for number, duration in enumerate(seconds):
        time = np.arange(round(duration * RATE_HZ)) / RATE_HZ
        tone = np.sin(2 * np.pi * 300 * 2**number * time)
        made.append((0.3 * tone + 0.01 * random.normal(size=len(time))).astype(np.float32))
    return made


def by_transformers(checkpoint: Path, clip: np.ndarray) -> np.ndarray:
    """What transformers' own processor and model give for a clip of one window."""
    from transformers import ClapFeatureExtractor, ClapModel

    model = ClapModel.from_pretrained(checkpoint).eval()
    inputs = ClapFeatureExtractor.from_pretrained(checkpoint)(
        clip, sampling_rate=RATE_HZ, return_tensors="pt"
    )
    # The front end calls one clip of a batch longer than the window at random if none is.
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
    with torch.no_grad():
        return model(**inputs, input_ids=torch.tensor([[0, 2]])).audio_embeds[0].numpy()


# Audio


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.7, 1.0])
def test_audio_embeddings_are_those_of_transformers(checkpoint: Path, seconds: float) -> None:
    (clip,) = waveforms(seconds)
    ours = ClapEncoder(checkpoint).embed_audio([clip])
    assert ours.shape == (1, 12) and ours.dtype == np.float32
    np.testing.assert_allclose(ours[0], by_transformers(checkpoint, clip), atol=1e-5)


def test_an_embedding_does_not_depend_on_its_batch(checkpoint: Path) -> None:
    encoder = ClapEncoder(checkpoint)
    clips = waveforms(0.2, 1.0, 2.5, 0.9, 1.3)
    alone = np.concatenate([encoder.embed_audio([clip]) for clip in clips])
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, rtol=1e-5)
    assert abs(alone[0] - alone[1]).max() > 0.05  # they are told apart
    for batch_size in (1, 3, 16):
        np.testing.assert_allclose(encoder.embed_audio(clips, batch_size=batch_size), alone, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_audio(clips[::-1])[::-1], alone, atol=1e-5)


def test_as_an_encoder_clips_become_rows_of_a_table(checkpoint: Path, tmp_path: Path) -> None:
    target = PRETRAINED_KINDS["clap"]
    shard = synthetic(tmp_path / "clips", {3: 2, 7: 1})
    embed_shard(tmp_path / "embedded", audio=shard, target=target, weights=checkpoint, batch_size=2)
    table = tables.read(tmp_path / "embedded", EMBEDDINGS)
    assert table["window"].to_pylist() == [0, 0, 0]
    found = tables.to_matrix(table["vector"])
    for name, vector in zip(table["clip_id"].to_pylist(), found, strict=True):
        ((_, (samples,), rate),) = iter_waveforms(shard, keep=[name])
        np.testing.assert_allclose(
            vector, by_transformers(checkpoint, resample(samples, rate, RATE_HZ)), atol=1e-5
        )
    encoder = clap_audio.load(checkpoint)
    assert isinstance(encoder, AudioEncoder) and not isinstance(encoder, WindowEncoder)
    assert (encoder.dim, encoder.sample_rate_hz) == (12, RATE_HZ)
    with pytest.raises(ValueError, match=r"clap: expected float waveforms \[B, T\] at 48000 Hz"):
        encoder.embed(torch.zeros(100))


def test_memory_that_is_too_small_halves_the_batch(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, clips = ClapEncoder(checkpoint), waveforms(0.2, 1.0, 2.5, 0.9)  # six windows
    whole, run, sizes = encoder.embed_audio(clips), ClapEncoder._embed_windows, []

    def limited(self: ClapEncoder, windows: list[np.ndarray]) -> torch.Tensor:
        if len(windows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(windows))
        return run(self, windows)

    monkeypatch.setattr(ClapEncoder, "_embed_windows", limited)
    np.testing.assert_allclose(encoder.embed_audio(clips, batch_size=4), whole, atol=1e-5)
    assert sizes == [1] * 6


def test_a_long_clip_is_the_mean_of_windows_that_cover_it(checkpoint: Path) -> None:
    encoder = ClapEncoder(checkpoint)
    assert encoder.window_s == 1
    clip = np.concatenate(waveforms(0.8, 0.9, 0.8))  # 2.5 s: windows begin at 0, 0.75 and 1.5 s
    parts = [clip[start : start + RATE_HZ] for start in (0, 36_000, 72_000)]
    mean = np.stack([by_transformers(checkpoint, part) for part in parts]).mean(axis=0)
    np.random.seed(1)
    first = encoder.embed_audio([clip])
    np.testing.assert_allclose(first[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.random.seed(2)  # which transformers' own crops of long clips are drawn from
    np.testing.assert_array_equal(encoder.embed_audio([clip]), first)


@given(st.integers(1, 60), st.integers(1, 12))
def test_windows_are_few_and_cover_every_sample(samples: int, length: int) -> None:
    windows = _windows(np.arange(samples), length)
    assert np.array_equal(np.unique(np.concatenate(windows)), np.arange(samples))
    assert len(windows) == -(-samples // length)
    assert {len(window) for window in windows} == {min(length, samples)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda clip: clip[:0], r"number 1 is float32 \[0\]"),
        (lambda clip: np.stack([clip, clip]), r"number 1 is float32 \[2, 24000\]"),
        (lambda clip: (clip * 32767).astype(np.int16), r"number 1 is int16 \[24000\]"),
        (lambda clip: np.where(np.arange(len(clip)) == 7, np.float32("nan"), clip), "number 1 holds values"),
    ],
)
def test_a_bad_waveform_is_named(
    unfused: Path, spoil: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    good, bad = waveforms(0.5, 0.5)
    with pytest.raises(ValueError, match=message):
        ClapEncoder(unfused).embed_audio([good, spoil(bad)])


# Text


def test_text_embeddings_are_those_of_transformers(unfused: Path) -> None:
    from transformers import AutoTokenizer, ClapModel

    encoder = ClapEncoder(unfused)
    ours = encoder.embed_text(TEXTS)
    assert ours.shape == (3, 12) and ours.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, rtol=1e-5)
    assert abs(ours[0] - ours[1]).max() > 0.01
    model, tokenizer = ClapModel.from_pretrained(unfused).eval(), AutoTokenizer.from_pretrained(unfused)
    mel = torch.zeros(1, 1, 101, 16)
    for text, vector in zip(TEXTS, ours, strict=True):  # one by one, so that nothing is padded
        with torch.no_grad():
            theirs = model(input_features=mel, **tokenizer(text, return_tensors="pt")).text_embeds[0]
        np.testing.assert_allclose(vector, theirs.numpy(), atol=1e-5)
    many = encoder.embed_text(["rain"] * 64 + TEXTS)  # more than one batch
    np.testing.assert_allclose(many[[0, 64, 65, 66]], ours[[1, 0, 1, 2]], atol=1e-5)


def test_long_texts_are_cut_at_77_tokens(unfused: Path) -> None:
    encoder = ClapEncoder(unfused)
    long, cut, shorter = encoder.embed_text(["dog " * 500, "dog " * 75, "dog " * 60])
    np.testing.assert_allclose(long, cut, atol=1e-5)
    assert abs(long - shorter).max() > 1e-4


def test_nothing_embeds_to_nothing(unfused: Path) -> None:
    encoder = ClapEncoder(unfused)
    assert encoder.embed_audio([]).shape == encoder.embed_text([]).shape == (0, 12)


# What is wrong with a checkpoint


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["config.json"], "config: config.json"),
        (["preprocessor_config.json"], "front end: preprocessor_config.json or"),
        (["model.safetensors"], "weights: model.safetensors or"),
        (["tokenizer.json"], "tokenizer: tokenizer.json or vocab.json"),
    ],
)
def test_a_missing_file_is_named(copied: Path, names: list[str], part: str) -> None:
    for name in names:
        (copied / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"CLAP model {copied} has no {part}.*Copy the file"):
        ClapEncoder(copied)


def edit(file: Path, **changed: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def test_another_kind_of_model_is_refused(copied: Path) -> None:
    edit(copied / "config.json", model_type="bert")
    with pytest.raises(ValueError, match="is of type 'bert'; give a CLAP checkpoint"):
        ClapEncoder(copied)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"truncation": "fusion"}, "truncation 'fusion', but the network was trained with 'rand_trunc'"),
        ({"feature_size": 64}, "feature_size 64, but the network takes 16 mel bins"),
        ({"sampling_rate": 16_000}, "sampling_rate 16000, expected 48000"),
    ],
)
def test_a_front_end_of_another_model_is_refused(
    copied: Path, changed: dict[str, object], message: str
) -> None:
    edit(copied / "preprocessor_config.json", **changed)
    with pytest.raises(ValueError, match=message):
        ClapEncoder(copied)


def test_weights_that_lack_a_parameter_are_refused(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    # Copies: the file that they lie in is written anew.
    weights = {name: value.clone() for name, value in load_file(copied / "model.safetensors").items()}
    del weights["audio_projection.linear2.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 parameters, for example audio_projection\.linear2\.weight"):
        ClapEncoder(copied)


def test_damaged_weights_are_refused(copied: Path) -> None:
    content = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ValueError, match=f"weights of CLAP model '{copied}' are damaged.*Get the checkpoint again"
    ):
        ClapEncoder(copied)


def test_weights_of_another_size_are_refused(copied: Path) -> None:
    edit(copied / "config.json", projection_dim=8)
    with pytest.raises(ValueError, match=f"weights of CLAP model '{copied}' are damaged, of another size"):
        ClapEncoder(copied)


def test_a_tokenizer_of_another_model_is_refused(copied: Path) -> None:
    content = json.loads((copied / "tokenizer.json").read_text())
    content["model"]["vocab"] |= {"thunder": 22}
    (copied / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="its tokenizer has 23 tokens, its text encoder 22"):
        ClapEncoder(copied)


def test_old_weights_are_loaded_safely(copied: Path) -> None:
    """Checkpoints in the pickled form load, and code in them does not run."""
    from safetensors.torch import load_file

    expected = ClapEncoder(copied).embed_text(TEXTS)
    weights = {name: value.clone() for name, value in load_file(copied / "model.safetensors").items()}
    (copied / "model.safetensors").unlink()
    torch.save(weights, copied / "pytorch_model.bin")
    np.testing.assert_array_equal(ClapEncoder(copied).embed_text(TEXTS), expected)

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (copied / "ran",))  # type: ignore[return-value]

    torch.save(weights | {"more": Hostile()}, copied / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=f"weights of CLAP model '{copied}' are damaged.*Weights only load failed"
    ):
        ClapEncoder(copied)
    assert not (copied / "ran").exists()


def test_a_model_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLEY_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"CLAP model 'some/clap' \(revision v1\) can't be loaded"):
        ClapEncoder("some/clap", "v1")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'foley\[sentence\]'"):
        ClapEncoder("anything")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_embeddings_of_the_cpu(checkpoint: Path) -> None:
    clips = waveforms(0.2, 1.0, 2.5)
    gpu, cpu = ClapEncoder(checkpoint), ClapEncoder(checkpoint, device="cpu")
    assert gpu.device.type == "cuda"
    np.testing.assert_allclose(gpu.embed_audio(clips), cpu.embed_audio(clips), atol=1e-3)
    np.testing.assert_allclose(gpu.embed_text(TEXTS), cpu.embed_text(TEXTS), atol=1e-3)
    mixed = ClapEncoder(checkpoint, precision="bfloat16")
    np.testing.assert_allclose(mixed.embed_audio(clips), cpu.embed_audio(clips), atol=0.1)
