"""Mel images and back: the transform is librosa's, the way back loses little, and bad clips are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import griffinlim

from foley.generators.audio.mel import (
    GriffinLim,
    MelOptions,
    MelTransform,
    invert_mel,
    root_mean_square,
)

PUBLISHED = MelOptions()
SMALL = MelOptions(
    sample_rate_hz=8000, n_fft=256, hop_length=64, n_mels=16, frames=32, griffin_lim_iterations=8
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def speech_like(options: MelOptions, seed: int = 0) -> np.ndarray:
    """A gliding harmonic tone in bursts, over coloured noise 40 dB below."""
    random = np.random.default_rng(seed)
    time = np.arange(options.samples) / options.sample_rate_hz
    phase = 2 * np.pi * np.cumsum(180 + 60 * np.sin(2 * np.pi * time)) / options.sample_rate_hz
    tone = sum(np.sin(n * phase) / n for n in range(1, 12))
    bursts = 0.55 - 0.45 * np.cos(2 * np.pi * 3 * time)
    noise = np.convolve(random.normal(size=len(time)), [0.5, 0.3, 0.2], mode="same")
    return (0.2 * tone * bursts + 0.002 * noise).astype(np.float32)


def test_published_images_are_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    clip = speech_like(PUBLISHED)
    transform = MelTransform(PUBLISHED)
    image = transform.images(transform.cut([clip], 22_050))
    assert image.shape == (1, 1, 64, 64)
    assert PUBLISHED.samples / PUBLISHED.sample_rate_hz == pytest.approx(2.93, abs=0.005)

    # librosa pads with zeros, torch by reflection: the frames at both edges differ.
    mel = librosa.feature.melspectrogram(
        y=clip, sr=22_050, n_fft=2048, hop_length=1024, n_mels=64, pad_mode="reflect"
    )
    wanted = librosa.power_to_db(mel, ref=np.max, amin=1e-20, top_db=80) / 80 * 2 + 1
    np.testing.assert_allclose(image[0, 0].numpy(), wanted, atol=2e-3)


def test_unnormalised_images_are_the_same_between_zero_and_one() -> None:
    normalised, plain = MelTransform(SMALL), MelTransform(dataclasses.replace(SMALL, normalise=False))
    audio = normalised.cut([speech_like(SMALL)], 8000)
    a, b = normalised.images(audio), plain.images(audio)
    assert a.min() >= -1 and a.max() == 1 and b.min() >= 0 and b.max() == 1
    torch.testing.assert_close(a, 2 * b - 1)
    torch.testing.assert_close(normalised.linear(a), plain.linear(b), rtol=1e-4, atol=0)


def test_decibels_are_those_of_the_amplitude_and_a_full_scale_sine_fits_below_zero() -> None:
    single = dataclasses.replace(SMALL, reference="full_scale", top_db=120.0)
    tone = np.sin(2 * np.pi * 1000 * np.arange(single.samples) / 8000).astype(np.float32)
    for power in (1, 2):
        transform = MelTransform(dataclasses.replace(single, power=power))
        # Without the edges, where the reflected tone has a kink.
        loud, quiet = (
            transform.decibels(transform.images(transform.cut([clip], 8000)))[..., 4:-4].amax()
            for clip in (tone, tone / 10)
        )
        assert float(loud - quiet) == pytest.approx(20, abs=1e-3)
        # A low tone lies in the narrowest band, which responds most.
        low = np.sin(2 * np.pi * 8000 / 256 * 3 * np.arange(single.samples) / 8000).astype(np.float32)
        middle = transform.mel(transform.cut([low], 8000))[..., 4:-4].amax() / transform.full_scale
        assert -3 < 20 / power * np.log10(float(middle)) <= 1e-3


def round_trip(options: MelOptions, clip: np.ndarray) -> float:
    """Mean distance in dB between the image of a clip and that of its resynthesis."""
    transform = MelTransform(options)
    image = transform.images(transform.cut([clip], options.sample_rate_hz))
    audio = transform.audio(image, [7])
    assert audio.shape == (1, options.samples)
    return float((transform.decibels(transform.images(audio)) - transform.decibels(image)).abs().mean())


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("reference", ["clip_max", "full_scale"])
def test_griffin_lim_brings_the_image_back(power: int, reference: str) -> None:
    options = dataclasses.replace(PUBLISHED, power=power, reference=reference)
    error = round_trip(options, speech_like(options))
    assert error < 2.0
    # It is the vocoder that does so: one iteration leaves more.
    once = dataclasses.replace(options, griffin_lim_iterations=1)
    assert error < round_trip(once, speech_like(options))


def test_griffin_lim_on_real_clips(shared_data: Path) -> None:
    files = sorted((shared_data / "esc50" / "audio").glob("1-*"))[:200:40]
    transform = MelTransform(PUBLISHED)
    clips, rates = zip(*(soundfile.read(file, dtype="float32") for file in files), strict=True)
    audio = transform.cut(clips, rates[0], [file.name for file in files])
    image = transform.images(audio)
    again = transform.images(transform.audio(image, range(len(files)), levels=root_mean_square(audio)))
    loud = transform.decibels(image) > -60
    errors = (transform.decibels(again) - transform.decibels(image)).abs()
    assert float(errors[loud].mean()) < 3.0


def test_invert_mel_finds_a_spectrum_with_these_bands() -> None:
    transform = MelTransform(PUBLISHED)
    mel = transform.mel(transform.cut([speech_like(PUBLISHED)], 22_050))
    spectrum = invert_mel(mel, transform.banks)
    assert (spectrum >= 0).all()
    again = (spectrum.transpose(1, 2) @ transform.banks).transpose(1, 2)
    relative = ((again - mel).abs() / mel.clamp_min(1e-12)).median()
    assert float(relative) < 1e-2
    assert invert_mel(torch.zeros(1, 64, 3), transform.banks).abs().max() == 0


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_is_torchaudios(momentum: float) -> None:
    options = dataclasses.replace(SMALL, griffin_lim_momentum=momentum)
    transform = MelTransform(options)
    magnitude = transform.spectrum(transform.cut([speech_like(SMALL)], 8000)).abs()
    ours = GriffinLim(transform).reconstruct(magnitude, torch.ones_like(magnitude, dtype=torch.complex64))
    theirs = griffinlim(
        magnitude, transform.window, 256, 64, 256, 1.0, 8, momentum, length=SMALL.samples, rand_init=False
    )
    # Nearly empty bins have no sure phase.
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-2


def test_audio_depends_on_its_own_image_and_seed() -> None:
    transform = MelTransform(SMALL)
    images = transform.images(transform.cut([speech_like(SMALL, seed) for seed in range(3)], 8000))
    together = transform.audio(images, [5, 6, 7])
    alone = transform.audio(images[2:], [7])
    torch.testing.assert_close(alone[0], together[2], atol=1e-4, rtol=0)
    assert (transform.audio(images[2:], [8])[0] - alone[0]).abs().max() > 1e-3


def test_levels() -> None:
    transform = MelTransform(SMALL)
    quiet = transform.cut([0.01 * speech_like(SMALL)], 8000)
    image = transform.images(quiet)
    assert float(transform.audio(image, [0]).abs().max()) == pytest.approx(0.95, abs=1e-5)
    wanted = root_mean_square(quiet)
    torch.testing.assert_close(
        root_mean_square(transform.audio(image, [0], levels=wanted)), wanted, rtol=1e-3, atol=0
    )
    keeps = MelTransform(dataclasses.replace(SMALL, reference="full_scale", top_db=120.0))
    found = root_mean_square(keeps.audio(keeps.images(quiet), [0]))
    assert float(20 * torch.log10(found / wanted).abs()) < 2


def test_silence_stays_silence() -> None:
    transform = MelTransform(SMALL)
    image = transform.images(torch.zeros(1, SMALL.samples))
    assert (image == -1).all()
    assert (transform.audio(image, [0]) == 0).all()


def test_clips_are_cut_and_short_ones_end_in_silence() -> None:
    transform = MelTransform(SMALL)
    long, short = np.ones(5000, np.float32), np.ones(300, np.float32)
    cut = transform.cut([long, short], 8000)
    assert cut.shape == (2, SMALL.samples)
    assert (cut[0] == 1).all() and (cut[1, :300] == 1).all() and (cut[1, 300:] == 0).all()
    assert transform.cut([np.ones(16_000, np.float32)], 16_000).shape == (1, SMALL.samples)


def test_bad_clips_are_named() -> None:
    transform = MelTransform(SMALL)
    with pytest.raises(
        ValueError, match=r"clip dog-1 has 200 samples at 8000 Hz, less than one frame of 256"
    ):
        transform.cut([np.ones(200)], 8000, ["dog-1"])
    broken = np.ones(3000)
    broken[17] = np.nan
    with pytest.raises(ValueError, match=r"clip dog-2 has samples that are NaN or infinite"):
        transform.cut([np.ones(3000), broken], 8000, ["dog-1", "dog-2"])
    with pytest.raises(ValueError, match="one channel"):
        transform.cut([np.ones((3000, 2))], 8000)
    with pytest.raises(ValueError, match=r"expected \[N, 1984\]"):
        transform.images(torch.zeros(1, 77))
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        transform.images(torch.stack([torch.zeros(SMALL.samples), torch.full((SMALL.samples,), torch.inf)]))
    with pytest.raises(ValueError, match=r"expected \[N, 1, 16, 32\]"):
        transform.audio(torch.zeros(1, 1, 16, 31), [0])
    with pytest.raises(ValueError, match="diverged"):
        transform.audio(torch.full((1, 1, 16, 32), torch.nan), [0])
    with pytest.raises(ValueError, match="one seed for each"):
        transform.audio(torch.zeros(2, 1, 16, 32), [0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hop_length": 200}, "hop_length 200"),
        ({"f_max_hz": 5000.0}, "do not fit 8000 Hz"),
        ({"frames": 4}, "shorter than one frame"),
        ({"top_db": 0.0}, "top_db positive"),
        ({"power": 3}, "power must be 1 or 2"),
        ({"griffin_lim_momentum": 1.5}, "griffin_lim_momentum"),
    ],
)
def test_bad_options(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **wrong)


@pytest.mark.filterwarnings("ignore:At least one mel filterbank:UserWarning")
def test_empty_mel_bands_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mel bands are narrower than the spectrum's resolution of 31.2 Hz"):
        MelTransform(dataclasses.replace(SMALL, n_mels=200))
