"""Features of any length: against librosa and scipy, and how they are stored in chunks."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import find_peaks

from foley import tables
from foley.audio.decode import encode_flac
from foley.features.chunks import align, frame_facts, read_chunks
from foley.features.extract import extract_shard
from foley.features.frames import FrameFeature, pack, unpack
from foley.features.logmel import LogMel
from foley.features.logmel_frames import LogMelFrames, LogMelFramesOptions
from foley.features.mfcc import MFCC, MFCCOptions
from foley.features.spectral_peaks import SpectralPeaks, SpectralPeaksOptions
from foley.features.waveform_patches import WaveformPatches, WaveformPatchesOptions
from foley.tables.clips import AUDIO
from foley.tables.features import FRAMES

RATE = 16_000


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1230 * time)
    return (tone + 0.02 * rng.normal(size=len(time))).astype(np.float32)


def test_peaks_are_those_that_scipy_finds() -> None:
    x = sound(0.37)
    (made,) = SpectralPeaks().extract([x], RATE)
    assert made.shape == (37, 513)
    padded = np.concatenate([np.zeros(512), x.astype(np.float64), np.zeros(1024)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    wrong = 0
    for number, frame in enumerate(made):
        power = np.abs(np.fft.rfft(padded[160 * number : 160 * number + 1024] * window)) ** 2
        peaks, _ = find_peaks(power, height=power.max() * 1e-6)
        wrong += len(set(peaks) ^ set(np.flatnonzero(frame)))
    # In float32 a bin at the very edge of the range may fall on the other side.
    assert wrong <= 0.002 * made.sum()


def test_peaks_of_two_sines_lie_at_their_frequencies() -> None:
    time = np.arange(RATE) / RATE
    sines = np.sin(2 * np.pi * 500 * time) + 0.5 * np.sin(2 * np.pi * 3000 * time)
    (made,) = SpectralPeaks(SpectralPeaksOptions(range_db=25)).extract([sines.astype(np.float32)], RATE)
    hertz = [np.flatnonzero(frame) * RATE / 1024 for frame in made[10:-10]]
    assert all(np.allclose(found, [500, 3000], atol=RATE / 1024) for found in hertz)
    (few,) = SpectralPeaks(SpectralPeaksOptions(max_peaks=1)).extract([sines.astype(np.float32)], RATE)
    assert (few.sum(axis=1) <= 1).all()
    assert np.flatnonzero(few[50]).tolist() == [32]


def test_silence_has_no_peaks() -> None:
    (made,) = SpectralPeaks().extract([np.zeros(RATE, dtype=np.float32)], RATE)
    assert made.sum() == 0


@pytest.mark.parametrize("first", [0, 1])
def test_cepstra_are_those_of_librosa(first: int) -> None:
    x = sound(0.5)
    (made,) = MFCC(MFCCOptions(first=first)).extract([x], RATE)
    mel = librosa.feature.melspectrogram(
        y=x, sr=RATE, n_fft=512, win_length=400, hop_length=160, n_mels=40, fmin=20, fmax=8000
    )
    wanted = librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=None), n_mfcc=13)[first : first + 12].T
    assert made.shape == (50, 12)
    # librosa has a frame more, which begins where the clip ends.
    np.testing.assert_allclose(made, wanted[:50], rtol=1e-3, atol=2e-2)


def test_patches_are_the_samples() -> None:
    x = sound(0.51)
    (made,) = WaveformPatches().extract([x], RATE)
    assert made.shape == (21, 400)
    np.testing.assert_array_equal(made.reshape(-1)[: len(x)], x)
    assert not made.reshape(-1)[len(x) :].any()


def test_log_mel_frames_are_those_of_a_window() -> None:
    x = sound(1.2)
    windows, _ = LogMel().extract([x], RATE)
    # Frame j of `LogMel` begins at 160 j; frame k of a clip that begins 96 samples later is centred there, k = j + 1.
    (made,) = LogMelFrames().extract([x[96:]], RATE)
    assert made.shape == (120, 64)
    np.testing.assert_allclose(made[2:110], windows.reshape(-1, 64)[1:109], atol=2e-4)


KINDS: list[type[FrameFeature]] = [SpectralPeaks, MFCC, WaveformPatches, LogMelFrames]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [0, 1, 159, 400, 16_000, 16_001, 23_456])
def test_a_clip_of_any_length_has_frames(kind: type[FrameFeature], samples: int) -> None:
    feature = kind()
    (made,) = feature.extract([sound(2)[:samples]], RATE)
    assert made.shape == (max(1, -(-samples // feature.hop)), feature.dim)
    assert np.isfinite(made).all()


@pytest.mark.parametrize("kind", KINDS)
def test_frames_do_not_depend_on_the_batch(kind: type[FrameFeature]) -> None:
    feature, clips = kind(), [sound(0.3), sound(1.1, seed=1)]
    together, alone = feature.extract(clips, RATE), [feature.extract([x], RATE)[0] for x in clips]
    padded = torch.zeros(2, len(clips[1]))
    for row, x in enumerate(clips):
        padded[row, : len(x)] = torch.from_numpy(x)
    batched = feature(padded).numpy()  # as on a GPU
    for row, (one, other) in enumerate(zip(together, alone, strict=True)):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(batched[row, : len(one)], one, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 7))
def test_stored_numbers_come_back(dim: int, frames: int) -> None:
    rng = np.random.default_rng(dim * frames)
    bits = rng.integers(0, 2, (frames, dim)).astype(np.float32)
    assert np.array_equal(unpack(torch.from_numpy(pack(bits, "bit")), dim, "bit").numpy(), bits)
    numbers = rng.normal(size=(frames, dim)).astype(np.float16).astype(np.float32)
    assert np.array_equal(unpack(torch.from_numpy(pack(numbers, "float16")), dim, "float16").numpy(), numbers)


def test_numbers_that_cannot_be_stored_are_refused() -> None:
    for bad in (np.nan, np.inf, 1e6):
        with pytest.raises(ValueError, match="not finite, or too large to be stored"):
            pack(np.array([[0.0, bad]], dtype=np.float32), "float16")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: MFCCOptions(hop_length=150), "a hop of 150 samples does not divide a chunk"),
        (lambda: WaveformPatchesOptions(patch=0), "a hop of 0 samples"),
        (lambda: MFCCOptions(coefficients=40), r"first \+ coefficients must not exceed n_mels"),
        (lambda: SpectralPeaksOptions(range_db=0), "range_db must be positive"),
        (lambda: SpectralPeaksOptions(win_length=2048), "win_length and hop_length must not exceed n_fft"),
        (lambda: LogMelFramesOptions(f_max_hz=9000), "mel bands must fit the sample rate"),
    ],
)
def test_wrong_options(made: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


def write_shard(path: Path, clips: dict[str, np.ndarray]) -> None:
    rows = [
        {
            "dataset": "mine", "clip_id": name, "label": "bell", "labels": ["bell"], "recording_id": name,
            "duration_s": len(x) / RATE, "sample_rate_hz": RATE, "sha256": name, "shard": 0,
            "audio": {"bytes": encode_flac((x * 32767).astype(np.int16), RATE), "path": f"{name}.flac"},
        }
        for name, x in clips.items()
    ]  # fmt: skip
    tables.write(path, AUDIO, rows)


def test_chunks_are_read_as_they_were_extracted(tmp_path: Path) -> None:
    clips = {f"c{number}": sound(0.4 + 0.7 * number, number) for number in range(4)}
    shards = []
    for number, names in enumerate((["c1", "c3"], ["c0", "c2"])):
        audio, out = tmp_path / f"a{number}.parquet", tmp_path / f"f{number}.parquet"
        write_shard(audio, {name: clips[name] for name in names})
        extract_shard(out, audio=audio, feature=MFCC())
        shards.append(out)
        assert tables.read(out, FRAMES).num_rows == sum(-(-len(clips[c]) // RATE) for c in names)
    facts = frame_facts(shards[0])
    assert (facts.dim, facts.chunk_frames, facts.storage, facts.standardise) == (12, 100, "float16", True)
    chunks = read_chunks(shards, ["c0", "c2", "c3"])
    assert chunks.clip_ids.tolist() == ["c0", "c2", "c2", "c3", "c3", "c3"]
    assert chunks.windows.tolist() == [0, 0, 1, 0, 1, 2]
    assert chunks.frames.tolist() == [40, 100, 80, 100, 100, 50]
    x, valid = chunks.take(chunks.of_clips(["c3"]), torch.device("cpu"))
    (wanted,) = MFCC().extract([(clips["c3"] * 32767).astype(np.int16).astype(np.float32) / 32768], RATE)
    assert valid.sum(1).tolist() == [100, 100, 50]
    np.testing.assert_allclose(x[valid].numpy(), wanted, rtol=2e-3, atol=2e-2)
    assert not x[~valid].any()
    again = read_chunks(shards[::-1], ["c0", "c2", "c3"])
    assert np.array_equal(again.packed, chunks.packed)
    with pytest.raises(ValueError, match=r"1 clips have no frames in .* for example `other`"):
        read_chunks(shards, ["c0", "other"])
    with pytest.raises(ValueError, match="clip `c1` is in two shards"):
        read_chunks([shards[0], shards[0]], ["c1"])


def test_chunks_of_several_features_are_aligned(tmp_path: Path) -> None:
    def file(name: str, keys: list[tuple[str, int]]) -> Path:
        path = tmp_path / name
        facts = {"dim": 1, "chunk_frames": 2, "storage": "float16", "standardise": False}
        rows = {
            "clip_id": [c for c, _ in keys],
            "window": pa.array([w for _, w in keys], pa.int32()),
            "frames": pa.array([2] * len(keys), pa.int32()),
            "values": [np.array([n, n], dtype="<f2").tobytes() for n in range(len(keys))],
        }
        tables.write(path, FRAMES, pa.table(rows), facts)
        return path

    one = read_chunks([file("one", [("a", 0), ("a", 1), ("b", 0)])], ["a", "b"])
    two = read_chunks([file("two", [("a", 0), ("b", 0), ("b", 1)])], ["a", "b"])
    for part in align([one, two]):
        assert list(zip(part.clip_ids, part.windows, strict=True)) == [("a", 0), ("b", 0)]
    lost = read_chunks([file("lost", [("a", 0), ("b", 1)])], ["a", "b"])
    with pytest.raises(ValueError, match="clip `b` has no chunk that all features share"):
        align([one, lost])
