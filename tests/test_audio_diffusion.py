"""Checkpoints of the audio-diffusion library: read as diffusers' own pipeline of it writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from foley.generators.audio.audio_diffusion import AudioDiffusion, AudioDiffusionOptions
from foley.generators.audio.interpolation import interpolate
from foley.generators.audio.mel import MelOptions, MelTransform
from foley.generators.audio.protocol import LabelledClips
from tiny_audio_diffusion import write_tiny_audio_diffusion


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_audio_diffusion(tmp_path / "checkpoint")


def read(folder: Path) -> AudioDiffusion:
    return AudioDiffusion(AudioDiffusionOptions(str(folder)))


def test_it_is_read_as_its_library_has_it(folder: Path) -> None:
    from diffusers import AudioDiffusionPipeline

    model = read(folder)
    mel = MelOptions(
        sample_rate_hz=4000, n_fft=128, hop_length=64, n_mels=8, frames=8, griffin_lim_iterations=2
    )
    assert model.options.mel == mel and not model.is_conditional and model.class_ids == ()
    x = torch.randn(2, 1, 8, 8)
    pipeline = AudioDiffusionPipeline.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(model.predict_noise(x, 7, None), pipeline.unet.eval()(x, 7).sample)
    # An image of a clip is that library's, but for its 8 bits and its padding with zeros at both ends.
    clip = np.sin(np.arange(model.options.mel.samples) * 0.7).astype(np.float32)
    pipeline.mel.load_audio(raw_audio=np.concatenate([clip, np.zeros(64, np.float32)]))
    theirs = np.asarray(pipeline.mel.audio_slice_to_image(0), dtype=np.float32) / 255 * 2 - 1
    ours = model.mel.images(model.mel.cut([clip], 4000))[0, 0].numpy()
    np.testing.assert_allclose(ours[:, 2:-2], theirs[:, 2:-2], atol=0.02)


def test_it_interpolates_and_samples_without_classes(folder: Path) -> None:
    model = read(folder)
    random = np.random.default_rng(0)
    clips = [0.1 * random.normal(size=model.options.mel.samples).astype(np.float32) for _ in range(4)]
    made = interpolate(model, clips[:2], clips[2:], ["a", "b"], [0, 1], sample_rate_hz=4000, steps=4)
    assert made.audio.shape == (2, model.options.mel.samples) and torch.isfinite(made.audio).all()
    assert (made.audio[0] - made.audio[1]).abs().max() > 1e-3
    # At a weight of 0 it has nothing of the second clip.
    first = [
        interpolate(model, clips[:1], [other], ["a"], [0], sample_rate_hz=4000, steps=4, weight=0.0).images
        for other in clips[1:3]
    ]
    torch.testing.assert_close(first[0], first[1], atol=1e-5, rtol=0)
    assert (first[0] - made.images[:1]).abs().max() > 1e-3
    assert model.generate(["any", "any"], [0, 1], steps=2).shape == (2, model.options.mel.samples)
    with pytest.raises(ValueError, match=r"guidance 2\.0 needs an unconditional model"):
        model.sample(["any"], [0], guidance=2.0)


def test_it_is_not_trained_or_saved(folder: Path, tmp_path: Path) -> None:
    model = read(folder)
    data = LabelledClips(["x"], ["a"], [np.zeros(448, np.float32)], 4000)
    with pytest.raises(ValueError, match="`audio_diffusion` is not trained here"):
        model.fit(data)
    with pytest.raises(ValueError, match="keep the folder that it was read from"):
        model.save(tmp_path / "copy")


def test_the_published_settings_are_read_where_a_file_leaves_them_out(folder: Path) -> None:
    """The library's defaults are the published checkpoint's: 256 x 256 cells, 22,050 Hz, n_fft 2048, hop 512, 80 dB."""
    (folder / "mel" / "mel_config.json").write_text(json.dumps({"_class_name": "Mel"}))
    mel = read(folder).options.mel
    assert (mel.sample_rate_hz, mel.n_fft, mel.hop_length, mel.top_db) == (22_050, 2048, 512, 80)
    assert (mel.n_mels, mel.frames, mel.power, mel.reference) == (256, 256, 2, "clip_max")
    assert (MelTransform(mel).banks.sum(0) > 0).all()


def test_other_checkpoints_are_refused(folder: Path) -> None:
    scheduler = folder / "scheduler" / "scheduler_config.json"
    facts = json.loads(scheduler.read_text())
    for change, message in (
        ({"beta_schedule": "scaled_linear"}, "not linear"),
        ({"prediction_type": "v_prediction"}, "predicts v_prediction, not noise"),
    ):
        scheduler.write_text(json.dumps(facts | change))
        with pytest.raises(ValueError, match=message):
            read(folder)
    scheduler.write_text(json.dumps(facts))
    (folder / "vqvae").mkdir()
    with pytest.raises(ValueError, match="latent model"):
        read(folder)
    (folder / "vqvae").rmdir()
    (folder / "mel" / "mel_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks mel/mel_config\.json"):
        read(folder)


def test_a_place_and_a_commit_are_needed() -> None:
    with pytest.raises(ValueError, match="a folder or a hub id"):
        AudioDiffusionOptions()
    with pytest.raises(ValueError, match="give `revision`, a commit of 40 hex digits"):
        AudioDiffusionOptions("teticio/audio-diffusion-ddim-256")
    with pytest.raises(ValueError, match="may move"):
        AudioDiffusionOptions("teticio/audio-diffusion-ddim-256", "main")
