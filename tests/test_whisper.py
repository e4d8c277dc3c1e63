"""Whisper: the front end against transformers', the encoder against the checkpoint's, and what is trained of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from foley.classifiers.whisper import (
    SAMPLE_RATE_HZ,
    Whisper,
    WhisperLogMel,
    WhisperNetwork,
    WhisperOptions,
    positions_held,
)
from foley.training.checkpoint import Checkpoint
from tiny_whisper import write_tiny_whisper
from toy_clips import toy_clips

TINY = {"steps": 4, "batch_size": 6, "validate_every_steps": 2, "window_s": 0.6, "revision": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_whisper(tmp_path_factory.mktemp("whisper"))


def make(folder: Path, classes: int = 3, seed: int = 0, **more: Any) -> Whisper:
    return Whisper(WhisperOptions(**{**TINY, "model": str(folder), **more}), classes, seed)


def network_of(classifier: Whisper) -> WhisperNetwork:
    network = classifier.build().eval()
    assert isinstance(network, WhisperNetwork)
    return network


# Front end


@pytest.mark.parametrize("mels", [80, 128])
def test_features_are_the_feature_extractors(mels: int) -> None:
    from transformers import WhisperFeatureExtractor

    waveforms = toy_clips(4, samples=23_456).waveforms
    waveforms[3] = 0
    waveforms[3, 5000:9000] = 1e-6  # so soft that the lower bound is at work
    wanted = WhisperFeatureExtractor(feature_size=mels)(
        list(waveforms.numpy()), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
    ).input_features.transpose(1, 2)
    padded = torch.nn.functional.pad(waveforms, (0, 480_000 - 23_456))
    found = WhisperLogMel(mels)(padded)
    assert found.shape == wanted.shape == (4, 3000, mels)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    # A shorter window has the same first frames.
    short = WhisperLogMel(mels)(torch.nn.functional.pad(waveforms, (0, 32_000 - 23_456)))
    torch.testing.assert_close(short, wanted[:, :200], rtol=0, atol=1e-4)


def test_the_average_takes_the_clip_and_not_the_silence_behind_it() -> None:
    waveforms = toy_clips(5, samples=9600).waveforms
    waveforms[1, 3200:] = 0  # 20 frames, and one more that the window's edge reaches
    waveforms[2, :3200] = 0  # silence before is not behind
    waveforms[3] = 0
    waveforms[4, 9590:] = 0
    held = positions_held(WhisperLogMel(80)(waveforms))
    assert held.shape == (5, 30)
    assert held.sum(1).tolist() == [30, 11, 30, 1, 30]
    assert held[1].tolist() == [1.0] * 11 + [0.0] * 19


def test_it_can_average_over_the_whole_window(folder: Path) -> None:
    """With a noise 20 dB below the clip, its end is gone: then the window is what stays the same."""
    clip = toy_clips(1, samples=8000).waveforms
    padded = torch.nn.functional.pad(clip, (0, 8000))
    noisy = padded + 0.1 * clip.std() * torch.randn(padded.shape, generator=torch.Generator().manual_seed(0))
    front = WhisperLogMel(80)
    assert positions_held(front(padded)).sum() < positions_held(front(noisy)).sum() == 50
    network = network_of(make(folder, window_s=1.0, pool="window"))
    with torch.no_grad():
        features = network.features(padded)
        states = network.encoder(features.transpose(1, 2), output_hidden_states=True).hidden_states
        wanted = torch.stack(states).mean(dim=2).mean(dim=0)  # layers weigh alike at first
        torch.testing.assert_close(network.embed(features), wanted, rtol=1e-4, atol=1e-5)


def test_silence_behind_a_clip_changes_nothing_but_attention(folder: Path) -> None:
    # The encoder hears the window, whatever the batch was padded to.
    classifier = make(folder)
    classifier.model = network_of(classifier)
    short = toy_clips(3, samples=5000).waveforms
    longer = torch.nn.functional.pad(short, (0, 20_000))
    torch.testing.assert_close(
        classifier.embed(longer, SAMPLE_RATE_HZ), classifier.embed(short, SAMPLE_RATE_HZ)
    )


# Encoder


@pytest.mark.parametrize("window_s", [30.0, 0.6])
def test_it_computes_what_the_checkpoint_does(folder: Path, window_s: float) -> None:
    from transformers import WhisperForConditionalGeneration

    network = network_of(make(folder, window_s=window_s))
    reference = WhisperForConditionalGeneration.from_pretrained(folder).eval().model.encoder
    waveforms = toy_clips(2, samples=8000).waveforms
    waveforms[1, 4000:] = 0
    features = network.features(waveforms)
    assert features.shape == (2, round(100 * window_s), 80)
    positions = features.shape[1] // 2
    with torch.no_grad():
        # Written out: positions from the first on, the layers, and the norm behind the last.
        x = torch.nn.functional.gelu(reference.conv1(features.transpose(1, 2)))
        x = torch.nn.functional.gelu(reference.conv2(x)).transpose(1, 2)
        states = [x + reference.embed_positions.weight[:positions]]
        for layer in reference.layers:
            out = layer(states[-1], None)
            states.append(out if isinstance(out, torch.Tensor) else out[0])
        states[-1] = reference.layer_norm(states[-1])
        network.layer_weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
        held = positions_held(features)
        weights = network.layer_weights.softmax(0)
        mean = sum(w * s for w, s in zip(weights, states, strict=True))
        wanted = torch.stack([row[keep.bool()].mean(0) for row, keep in zip(mean, held, strict=True)])
        torch.testing.assert_close(network.embed(features), wanted, rtol=1e-4, atol=1e-5)
        assert network(features).shape == (2, 3)
    assert held.sum(1).tolist() == [26, 14]  # a frame's window reaches 200 samples further
    assert (wanted[0] - wanted[1]).abs().mean() > 0.01


def test_it_hears_what_it_says(folder: Path) -> None:
    classifier = make(folder, window_s=2.0)
    network = network_of(classifier)
    assert classifier.hears() == (network.sample_rate_hz, network.window_samples) == (16_000, 32_000)
    with pytest.raises(ValueError, match=r"window_s 31: .* hears 30 s at most"):
        make(folder, window_s=31.0).build()
    with pytest.raises(ValueError, match="window_s must be at least"):
        WhisperOptions(window_s=0.001)


# Training


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_trained(folder: Path, frozen: bool) -> None:
    classifier = make(folder, frozen=frozen, gradient_checkpointing=not frozen, learning_rate=1e-2)
    torch.manual_seed(0)
    before = network_of(make(folder)).state_dict()
    classifier.fit(toy_clips(12))
    after = classifier.trained.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {"head.weight", "head.bias", "layer_weights"} <= changed
    in_encoder = {name for name in changed if name.startswith("encoder.")}
    assert bool(in_encoder) != frozen
    # Whisper's positions are sinusoids, and stay.
    assert "encoder.embed_positions.weight" not in changed
    if not frozen:
        assert {"encoder.conv1.weight", "encoder.layers.1.fc2.weight"} <= in_encoder
    assert classifier.trained.train().encoder.training != frozen


def test_it_learns_a_toy_problem(folder: Path) -> None:
    classifier = make(folder, frozen=False, steps=60, batch_size=12, learning_rate=1e-2)
    classifier.fit(toy_clips(48), validation=toy_clips(6, 1))
    test = toy_clips(30, 2)
    scores = classifier.score(test.waveforms, SAMPLE_RATE_HZ)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(30))
    assert (scores.argmax(1) == test.labels).float().mean() > 0.8  # chance is a third


@pytest.mark.parametrize("frozen", [True, False])
def test_saved_weights_need_no_checkpoint(folder: Path, tmp_path: Path, frozen: bool) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    classifier = make(own, frozen=frozen)
    classifier.fit(toy_clips(12))
    test = toy_clips(6, 2)
    scores = classifier.score(test.waveforms, SAMPLE_RATE_HZ)
    path = tmp_path / "model.safetensors"
    classifier.save(path)
    shutil.rmtree(own)
    again = make(own, frozen=frozen, seed=3)
    again.load(path)
    assert torch.equal(again.score(test.waveforms, SAMPLE_RATE_HZ), scores)
    with pytest.raises(ValueError, match=r"trained on 0\.6 s, not on 1 s"):
        make(own, window_s=1.0).load(path)
    with pytest.raises(ValueError, match="of 4 classes"):
        make(own, classes=4).load(path)


def test_an_interrupted_training_ends_alike(folder: Path, tmp_path: Path) -> None:
    whole = make(folder, frozen=False)
    whole.fit(toy_clips(12))
    checkpoint = Checkpoint(tmp_path / "run", "key")
    make(folder, frozen=False, steps=2).fit(toy_clips(12), checkpoint=checkpoint)
    part = make(folder, frozen=False)
    part.fit(toy_clips(12), checkpoint=checkpoint)
    for name, value in whole.trained.state_dict().items():
        assert torch.equal(value, part.trained.state_dict()[name]), name


# Bad checkpoints


def test_bad_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    bad = tmp_path / "bad"

    def refused(message: str, error: type[Exception] = ValueError, **more: Any) -> None:
        with pytest.raises(error, match=message):
            make(bad, **more).build()

    refused("needs `revision`", model="openai/whisper-tiny")
    shutil.copytree(folder, bad)
    state = load_file(bad / "model.safetensors")
    assert {"model.encoder.conv1.weight", "model.decoder.embed_tokens.weight"} <= set(state)
    first = "model.encoder.layers.1.fc1.weight"
    kept = {name: value for name, value in state.items() if name != first}
    save_file(kept, bad / "model.safetensors", {"format": "pt"})
    refused(f"Whisper model .*lacks {first}")
    save_file(state | {"strange.weight": torch.zeros(1)}, bad / "model.safetensors", {"format": "pt"})
    refused("has an unknown strange.weight")
    (bad / "model.safetensors").write_bytes(b"<html>")
    refused("damaged")
    (bad / "model.safetensors").unlink()
    refused(r"can't be loaded: .*model\.safetensors", FileNotFoundError)
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    refused("of type 'bert'")
    shutil.rmtree(bad)
    bad.mkdir()
    refused("can't be loaded", FileNotFoundError)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("evil"),)


def test_a_pickle_runs_no_code(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / "model.safetensors").unlink()
    torch.save({"model.encoder.conv1.weight": Evil()}, bad / "pytorch_model.bin")
    with pytest.raises(ValueError, match="hold more than tensors"):
        make(bad).build()
    assert not (tmp_path / "evil").exists()
