"""Log-mel spectrograms against an implementation of their own, written from the formulas in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foley import tables
from foley.audio.decode import encode_flac, to_pcm16
from foley.features.extract import extract_shard
from foley.features.logmel import LogMel, LogMelOptions
from foley.options import ConfigError, parse_options
from foley.tables.clips import AUDIO
from foley.tables.features import FEATURES

RATE = 16_000


def htk_mel(hz: np.ndarray) -> np.ndarray:
    """The HTK book, section 5.4."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_banks(o: LogMelOptions) -> np.ndarray:
    """Triangles of height one, equally wide in mel: [bins, n_mels]."""
    edges = np.linspace(htk_mel(o.f_min_hz), htk_mel(o.f_max_hz), o.n_mels + 2)
    corners = 700 * (10 ** (edges / 2595) - 1)
    bins = np.arange(o.n_fft // 2 + 1) * o.sample_rate_hz / o.n_fft
    banks = np.zeros((len(bins), o.n_mels))
    for band, (low, top, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = (bins - low) / (top - low), (high - bins) / (high - top)
        banks[:, band] = np.clip(np.minimum(rising, falling), 0, None)
    return banks


def reference(samples: np.ndarray, o: LogMelOptions, frames: int) -> np.ndarray:
    """[T] -> [frames, n_mels]: frame by frame, a Hann window in the middle of each FFT."""
    before = (o.n_fft - o.win_length) // 2
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(o.win_length) / o.win_length)
    window = np.zeros(o.n_fft)
    window[before : before + o.win_length] = hann
    padded = np.concatenate([samples.astype(np.float64), np.zeros(frames * o.hop_length + o.n_fft)])
    rows = [padded[n * o.hop_length :][: o.n_fft] * window for n in range(frames)]
    return np.log(np.abs(np.fft.rfft(rows)) ** o.power @ mel_banks(o) + o.log_offset)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (0.2 * generator.normal(size=round(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize(
    "options",
    [
        LogMelOptions(),
        LogMelOptions(window_s=1.0, power=2.0, n_mels=40, f_min_hz=50, f_max_hz=8000),
        LogMelOptions(window_s=1.0, n_fft=1024, win_length=1024, hop_length=320, log_offset=1e-3),
        LogMelOptions(window_s=1.0, power=1.5),
    ],
    ids=["yamnet", "power", "long", "odd power"],
)
def test_values_are_those_of_the_formulas(options: LogMelOptions) -> None:
    feature = LogMel(options)
    samples = noise(5)
    vectors, counts = feature.extract([samples], RATE)
    wanted = reference(samples, options, feature.frames)
    np.testing.assert_allclose(vectors.reshape(feature.shape), wanted, atol=1e-4)
    # What GPUs do, and what the quicker way of CPUs stands for.
    whole = feature(torch.from_numpy(feature.windows(samples, RATE)))[0]
    np.testing.assert_allclose(whole.numpy(), wanted, atol=1e-4)
    assert vectors.dtype == np.float32
    assert counts.tolist() == [1]


def test_a_tone_lights_up_its_band() -> None:
    feature = LogMel(LogMelOptions(window_s=1.0))
    corners = np.linspace(htk_mel(125), htk_mel(7500), 66)
    for hz in (300.0, 1000.0, 4000.0):
        vectors, _ = feature.extract(
            [np.sin(2 * np.pi * hz * np.arange(RATE) / RATE).astype(np.float32)], RATE
        )
        loudest = vectors.reshape(feature.shape)[50].argmax()
        assert abs(loudest + 1 - np.interp(htk_mel(hz), corners, np.arange(66))) <= 1


def test_shape_of_the_zero_shot_study() -> None:
    # arXiv 2412.03771: 4.8 s give 480 frames of 64 bands.
    assert LogMel().shape == (480, 64)


def test_short_clips_are_padded_with_silence() -> None:
    feature = LogMel()
    short = noise(1)
    vectors, counts = feature.extract([short, np.concatenate([short, np.zeros(8 * RATE, np.float32)])], RATE)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert counts.tolist() == [1, 1]
    np.testing.assert_allclose(vectors[0].reshape(480, 64)[101:], np.log(0.01), rtol=1e-6)


@given(st.floats(0.01, 4.0), st.integers(1, 5))
def test_windows_cover_a_clip_up_to_their_number(seconds: float, most: int) -> None:
    feature = LogMel(LogMelOptions(window_s=0.5, max_windows=most))
    samples = noise(seconds)
    windows = feature.windows(samples, RATE)
    assert len(windows) == min(most, max(1, -(-len(samples) // (RATE // 2))))
    for number, window in enumerate(windows):
        part = samples[number * RATE // 2 :][: feature.window_samples]
        np.testing.assert_array_equal(window[: len(part)], part)
        assert not window[len(part) :].any()


def test_clips_at_another_rate_are_resampled() -> None:
    feature = LogMel(LogMelOptions(window_s=1.0))
    spectra = []
    for rate in (RATE, 44_100):
        samples = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        vectors, _ = feature.extract([samples.astype(np.float32)], rate)
        spectra.append(vectors.reshape(feature.shape)[10:80])
    np.testing.assert_allclose(spectra[0], spectra[1], atol=0.05)


def test_a_clips_feature_does_not_depend_on_its_companions() -> None:
    feature = LogMel(LogMelOptions(window_s=0.5, max_windows=3))
    clips = [noise(0.2 * n + 0.1, n) for n in range(8)]
    together, counts = feature.extract(clips, RATE)
    alone = np.concatenate([feature.extract([clip], RATE)[0] for clip in clips])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert counts.sum() == len(together)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f_max_hz": 9000}, "do not fit 16000 Hz audio"),
        ({"f_min_hz": 7500}, "mel bands from 7500"),
        ({"win_length": 600}, "win_length 600 exceeds n_fft 512"),
        ({"max_windows": 0}, "must be positive"),
        ({"log_offset": 0}, "must be positive"),
    ],
)
def test_impossible_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_options(LogMelOptions, options, "features.logmel.options")


def test_a_shard_of_features(tmp_path: Path) -> None:
    clips = [(f"clip-{n}", noise(0.3 * n + 0.2, n)) for n in range(7)]
    tables.write(
        tmp_path / "audio.parquet",
        AUDIO,
        [
            {
                "dataset": "toy", "clip_id": name, "label": "noise", "recording_id": name, "duration_s": 1.0,
                "sample_rate_hz": RATE, "sha256": name,
                "audio": {"bytes": encode_flac(to_pcm16(samples), RATE), "path": f"{name}.flac"},
            }
            for name, samples in clips
        ],
    )  # fmt: skip
    feature = LogMel(LogMelOptions(window_s=0.5, max_windows=2))
    output = tmp_path / "features.parquet"
    extract_shard(
        output,
        audio=tmp_path / "audio.parquet",
        feature=feature,
        batch_size=3,
        provenance={"rule": "extract"},
    )
    facts = tables.provenance(output)
    assert facts["shape"] == [50, 64]
    assert facts["rule"] == "extract"
    table = tables.read(output, FEATURES)
    assert list(zip(table["clip_id"].to_pylist(), table["window"].to_pylist(), strict=True)) == [
        (name, window) for name, samples in clips for window in range(1 if len(samples) <= RATE // 2 else 2)
    ]
    pcm = [to_pcm16(samples).astype(np.float32) / 32768 for _, samples in clips]
    np.testing.assert_allclose(tables.to_matrix(table["vector"]), feature.extract(pcm, RATE)[0], atol=1e-5)
    extract_shard(tmp_path / "again.parquet", audio=tmp_path / "audio.parquet", feature=feature)
    assert tables.read(tmp_path / "again.parquet").equals(table)
