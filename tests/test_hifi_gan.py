"""The neural vocoder: it gets what it was trained on, and is refused where the generator makes something else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from foley.generators.audio.hifi_gan import AUDIOLDM_MEL, HifiGan
from foley.generators.audio.mel import MelTransform
from test_mel import speech_like
from tiny_vocoder import write_tiny_vocoder

VOCODED = dataclasses.replace(AUDIOLDM_MEL, frames=8)


@pytest.fixture(scope="module")
def vocoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_vocoder(tmp_path_factory.mktemp("vocoder"))


@pytest.mark.parametrize("log", ["natural", "log10"])
def test_it_gets_the_logarithm_of_the_clips_own_mel(vocoder_folder: Path, log: Any) -> None:
    from transformers import SpeechT5HifiGan

    transform = MelTransform(VOCODED)
    audio = transform.cut([speech_like(VOCODED, seed) for seed in range(2)], 16_000)
    vocoder = HifiGan(vocoder_folder, VOCODED, log=log)
    made = transform.audio(transform.images(audio), [0, 1], vocoder=vocoder)
    assert made.shape == (2, VOCODED.samples)
    # Straight from the audio to transformers, without the image between; only what lies 100 dB down is lost there.
    take = torch.log if log == "natural" else torch.log10
    network = SpeechT5HifiGan.from_pretrained(vocoder_folder).eval()
    with torch.no_grad():
        wanted = network(take(transform.mel(audio).clamp_min(1e-5)).transpose(1, 2))[:, : VOCODED.samples]
    torch.testing.assert_close(made, wanted, atol=2e-3, rtol=0)
    other = HifiGan(vocoder_folder, VOCODED, log="log10" if log == "natural" else "natural")
    elsewhere = transform.audio(transform.images(audio), [0, 1], vocoder=other)
    assert float((elsewhere - made).abs().max()) > 0.05


def test_it_refuses_other_mel_parameters_with_all_differences(vocoder_folder: Path) -> None:
    for change, message in (
        ({"hop_length": 256}, "hop_length: 160 (not 256)"),
        ({"sample_rate_hz": 22_050, "f_max_hz": 8000.0}, "sample_rate_hz: 16000 (not 22050)"),
        ({"n_mels": 80}, "n_mels: 64 (not 80)"),
        ({"n_fft": 2048, "frames": 16}, "n_fft: 1024 (not 2048)"),
        ({"f_min_hz": 50.0, "f_max_hz": 7000.0}, "f_min_hz: 0.0 (not 50.0); f_max_hz: 8000.0 (not 7000.0)"),
        ({"power": 2, "reference": "clip_max"}, "power: 1 (not 2); reference: full_scale (not clip_max)"),
    ):
        with pytest.raises(ValueError) as raised:
            HifiGan(vocoder_folder, dataclasses.replace(VOCODED, **change))
        assert f"generator's: {message}. Train" in str(raised.value)
    other = dataclasses.replace(VOCODED, f_min_hz=80.0, f_max_hz=7600.0)
    assert HifiGan(vocoder_folder, other, f_min_hz=80.0, f_max_hz=7600.0).name == str(vocoder_folder)


def test_half_a_vocoder_is_refused(
    vocoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"no vocoder in .*config\.json"):
        HifiGan(tmp_path, VOCODED)
    copy = Path(shutil.copytree(vocoder_folder, tmp_path / "model" / "vocoder"))
    assert HifiGan(copy.parent, VOCODED, subfolder="vocoder").name == f"{copy.parent}/vocoder"
    weights = load_file(copy / "model.safetensors")
    del weights["conv_post.bias"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 parameters, for example conv_post\.bias"):
        HifiGan(copy.parent, VOCODED, subfolder="vocoder")
    (copy / "config.json").write_text(json.dumps({"model_in_dim": 64, "upsample_rates": []}))
    with pytest.raises(ValueError, match="hop_length: 1 "):
        HifiGan(copy.parent, VOCODED, subfolder="vocoder")
    # A hub id: its commit is needed, and nothing is fetched offline.
    with pytest.raises(ValueError, match="give `revision`"):
        HifiGan("nobody/vocoder", VOCODED)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"nobody/vocoder@0{40} can't be loaded"):
        HifiGan("nobody/vocoder", VOCODED, revision="0" * 40)


def test_a_quiet_mel_stays_finite(vocoder_folder: Path) -> None:
    transform = MelTransform(VOCODED)
    silence = transform.images(torch.zeros(1, VOCODED.samples))
    made = transform.audio(silence, [0], vocoder=HifiGan(vocoder_folder, VOCODED))
    assert np.isfinite(made.numpy()).all()
