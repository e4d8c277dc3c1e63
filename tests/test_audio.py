"""Audio: every file is decoded to the right samples or refused with the right reason, and shards keep them."""

from __future__ import annotations

import io
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conftest import WriteClip
from foley import tables
from foley.audio.decode import (
    ClipRejected,
    decode,
    decode_flac,
    encode_flac,
    resample,
    to_mono,
    to_pcm16,
)
from foley.audio.ingest import IngestOptions, TooManyRejected, collect_clips, ingest_shard
from foley.audio.store import iter_waveforms
from foley.datasets.folder import Folder
from foley.datasets.index import index_dataset
from foley.tables.clips import CLIPS, REJECTED

RATE = 16_000


def tone(hz: float = 440.0, seconds: float = 1.0, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def encoded(samples: np.ndarray, rate: int = RATE, form: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def peak_hz(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def reason(source: bytes | Path, **limits: float) -> str:
    with pytest.raises(ClipRejected) as error:
        decode(source, RATE, **limits)
    assert error.value.detail
    assert "0x" not in error.value.detail  # no memory addresses: the table of reasons is the same in each run
    return error.value.reason


# Decoding


@pytest.mark.parametrize(
    ("form", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 2**-7), ("WAV", "PCM_16", 2**-15), ("WAV", "PCM_24", 2**-23), ("WAV", "PCM_32", 1e-7),
        ("WAV", "FLOAT", 1e-7), ("WAV", "DOUBLE", 1e-7), ("WAV", "ULAW", 0.02), ("RF64", "PCM_16", 2**-15),
        ("FLAC", "PCM_S8", 2**-7), ("FLAC", "PCM_16", 2**-15), ("FLAC", "PCM_24", 2**-23),
        ("AIFF", "PCM_16", 2**-15), ("AU", "PCM_16", 2**-15), ("CAF", "PCM_16", 2**-15), ("OGG", "VORBIS", 0.1),
    ],
)  # fmt: skip
def test_every_format_gives_the_samples(form: str, subtype: str, tolerance: float) -> None:
    samples = tone()
    decoded = decode(encoded(samples, form=form, subtype=subtype), RATE)
    assert decoded.samples.dtype == np.float32
    assert (decoded.sample_rate_hz, decoded.source_sample_rate_hz, decoded.source_channels) == (RATE, RATE, 1)
    assert decoded.duration_s == 1.0
    np.testing.assert_allclose(decoded.samples, samples, atol=tolerance)


@pytest.mark.parametrize(("form", "subtype"), [("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_keep_the_tone(form: str, subtype: str) -> None:
    decoded = decode(encoded(tone(), form=form, subtype=subtype), RATE)
    assert decoded.duration_s == pytest.approx(1.0, abs=0.1)
    assert peak_hz(decoded.samples, RATE) == pytest.approx(440, abs=2)
    middle = decoded.samples[RATE // 4 : -RATE // 4]  # the codecs ring at the ends
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("source_hz", [8_000, 11_025, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("hz", [100.0, 1_000.0, 3_000.0])
def test_resampling_keeps_pitch_level_and_length(source_hz: int, hz: float) -> None:
    decoded = decode(encoded(tone(hz, rate=source_hz), source_hz, subtype="FLOAT"), RATE)
    assert (decoded.source_sample_rate_hz, decoded.sample_rate_hz) == (source_hz, RATE)
    assert len(decoded.samples) == pytest.approx(RATE, abs=2)
    assert peak_hz(decoded.samples, RATE) == pytest.approx(hz, abs=1.1)
    middle = decoded.samples[RATE // 4 : -RATE // 4]
    np.testing.assert_allclose(np.sqrt(2) * middle.std(), 0.5, rtol=0.01)


def test_resampling_does_not_alias() -> None:
    # 11 kHz lies above half of 16 kHz and would fold down to 5 kHz.
    resampled = resample(tone(11_000, rate=44_100).astype(np.float32), 44_100, RATE)
    assert np.abs(resampled[RATE // 4 : -RATE // 4]).max() < 1e-4


def test_six_channels_become_their_mean() -> None:
    channels = np.stack([tone(200 * (k + 1), amplitude=0.1 * (k + 1)) for k in range(6)], axis=1)
    decoded = decode(encoded(channels, subtype="FLOAT"), RATE)
    assert decoded.source_channels == 6
    np.testing.assert_allclose(decoded.samples, channels.mean(axis=1), atol=1e-6)


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 50), st.integers(1, 8)), elements=st.floats(-1, 1, width=32)
    )
)
def test_mono_is_the_mean_of_the_channels(samples: np.ndarray) -> None:
    np.testing.assert_allclose(to_mono(samples), samples.mean(axis=1), atol=1e-6)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "lies.mp3"
    path.write_bytes(encoded(tone(), form="FLAC"))
    np.testing.assert_allclose(decode(path, RATE).samples, tone(), atol=2**-15)


def test_clipped_and_overshooting_audio_is_accepted_within_full_scale() -> None:
    assert np.abs(decode(encoded(np.clip(tone(amplitude=5), -1, 1)), RATE).samples).max() == 1
    loud = decode(encoded(tone(amplitude=3), subtype="FLOAT"), RATE).samples
    assert np.abs(loud).max() == 1
    square = np.sign(tone(100, rate=44_100))  # resampling overshoots at its edges
    assert np.abs(decode(encoded(square, 44_100), RATE).samples).max() <= 1


@given(arrays.arrays(np.int16, st.integers(1, 2000)))
def test_flac_is_lossless(pcm: np.ndarray) -> None:
    np.testing.assert_array_equal(to_pcm16(decode_flac(encode_flac(pcm, RATE))), pcm)


def test_every_16_bit_value_survives() -> None:
    pcm = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(to_pcm16(pcm.astype(np.float32) / 32768), pcm)
    np.testing.assert_array_equal(to_pcm16(decode(encoded(pcm), RATE).samples), pcm)
    np.testing.assert_array_equal(to_pcm16(np.array([1.0, 2.0, -2.0])), [32767, 32767, -32768])


# Refusing


def test_empty() -> None:
    assert reason(b"") == "empty"
    assert reason(encoded(np.zeros(0))) == "empty"


def test_unreadable() -> None:
    assert reason(b"these are words, not audio\n" * 10) == "unreadable"
    assert reason(bytes(1000)) == "unreadable"
    assert reason(b"\0\0\0\x20ftypM4A " + bytes(200)) == "unreadable"
    assert reason(b"RIFF\xff\xff\xff\xffWAVE") == "unreadable"


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
     ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "PCM_16")],
)  # fmt: skip
@pytest.mark.parametrize("part", [0.95, 0.6, 0.2, 0.05])
def test_truncated(form: str, subtype: str, part: float) -> None:
    noisy = tone(seconds=3) + 0.05 * np.random.default_rng(0).normal(size=3 * RATE)
    whole = encoded(noisy, form=form, subtype=subtype)
    decode(whole, RATE)
    # libsndfile itself refuses some; what counts is that none passes as a shorter clip.
    assert reason(whole[: int(part * len(whole))]) in ("truncated", "unreadable")


def test_wav_of_a_stream_that_could_not_know_its_length() -> None:
    data = bytearray(encoded(tone(), subtype="PCM_16"))
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert decode(bytes(data), RATE).duration_s == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    samples = tone()
    samples[100] = value
    assert reason(encoded(samples, subtype="FLOAT")) == "not_finite"


def test_silent() -> None:
    assert reason(encoded(np.zeros(RATE))) == "silent"
    assert reason(encoded(tone(amplitude=5e-5), subtype="FLOAT")) == "silent"
    # Channels that cancel are silence once mixed.
    assert reason(encoded(np.stack([tone(), -tone()], axis=1), subtype="FLOAT")) == "silent"
    decode(encoded(tone(amplitude=3e-4), subtype="FLOAT"), RATE)


def test_too_short_and_too_long() -> None:
    assert reason(encoded(tone(seconds=0.05)), min_duration_s=0.1) == "too_short"
    assert decode(encoded(tone(seconds=0.1)), RATE, min_duration_s=0.1).duration_s == pytest.approx(0.1)
    assert reason(encoded(tone(seconds=0.5)), max_duration_s=0.4) == "too_long"
    # An hour, at a rate that keeps the file small; nothing but its header is decoded.
    hour = encoded(np.zeros(3600 * 1000, dtype=np.int16), 1000, "FLAC")
    assert reason(hour, max_duration_s=600) == "too_long"


# Ingest


def ingest(
    root: Path, out: Path, *, shards: int = 1, threads: int = 1, **collect: object
) -> tuple[Path, Path]:
    """The whole way of a folder -> clip table and table of the rejected."""
    manifest = out / "manifest.parquet"
    index_dataset(manifest, kind=Folder(), root=root, shards=shards)
    audio = [out / f"audio-{shard}.parquet" for shard in range(shards)]
    rejected = [out / f"rejected-{shard}.parquet" for shard in range(shards)]
    for shard in range(shards):
        ingest_shard(
            audio[shard], rejected[shard], dataset="mine", root=root, manifest=manifest, shard=shard,
            options=IngestOptions(max_duration_s=60), threads=threads,
        )  # fmt: skip
    collect_clips(
        out / "clips.parquet", out / "rejected.parquet", dataset="mine", manifest=manifest, audio=audio,
        rejected=rejected, **({"max_rejected": 1.0, "duplicates": "reject"} | collect),
    )  # fmt: skip
    return out / "clips.parquet", out / "rejected.parquet"


@pytest.fixture
def mixed_folder(clip_folder: Path) -> Path:
    """Twelve good clips, a clipped one, and one of every bad sort."""
    dog = clip_folder / "dog"
    (dog / "empty.wav").touch()
    (dog / "words.wav").write_text("no audio " * 50)
    (dog / "cut.wav").write_bytes((dog / "dog-1.wav").read_bytes()[:5000])
    nan = tone()
    nan[5] = np.nan
    soundfile.write(dog / "nan.wav", nan, RATE, subtype="FLOAT")
    soundfile.write(dog / "silent.flac", np.zeros(RATE), RATE)
    soundfile.write(dog / "short.wav", tone(seconds=0.05), RATE)
    soundfile.write(dog / "hour.flac", np.zeros(3600 * 1000, dtype=np.int16), 1000)
    soundfile.write(dog / "clipped.wav", np.clip(tone(amplitude=9), -1, 1), RATE)
    (clip_folder / "stray.wav").write_bytes((dog / "dog-1.wav").read_bytes())
    # The samples of bell-0 in another format and class.
    soundfile.write(
        clip_folder / "rain" / "a-copy.flac", *soundfile.read(clip_folder / "bell" / "bell-0.wav")
    )
    (dog / "gone.wav").symlink_to("nowhere.wav")
    return clip_folder


def test_bad_clips_are_refused_with_their_reasons(mixed_folder: Path, tmp_path: Path) -> None:
    clips, rejected = ingest(mixed_folder, tmp_path)
    reasons = {row["clip_id"]: row["reason"] for row in tables.read(rejected, REJECTED).to_pylist()}
    assert reasons == {
        "dog/empty.wav": "empty",
        "dog/words.wav": "unreadable",
        "dog/cut.wav": "truncated",
        "dog/nan.wav": "not_finite",
        "dog/silent.flac": "silent",
        "dog/short.wav": "too_short",
        "dog/hour.flac": "too_long",
        "stray.wav": "no_class",
        "rain/a-copy.flac": "duplicate",
    }
    rows = tables.read(clips, CLIPS).to_pylist()
    assert [row["clip_id"] for row in rows] == sorted(
        [f"{label}/{label}-{n}.wav" for label in ("bell", "dog", "rain") for n in range(4)]
        + ["dog/clipped.wav"]
    )
    assert Counter(row["class_id"] for row in rows) == {0: 4, 1: 5, 2: 4}
    clipped = next(row for row in rows if row["clip_id"] == "dog/clipped.wav")
    assert (clipped["peak"], clipped["duration_s"]) == (1.0, 1.0)
    assert -0.3 < clipped["rms_dbfs"] < 0  # nearly a square wave


def test_rows_say_what_a_clip_is(tmp_path: Path, write_clip: WriteClip) -> None:
    root = tmp_path / "clips"
    write_clip(root / "dog" / "a.wav", 1, rate=44_100, subtype="PCM_24")
    full = tone(1000, amplitude=0.5)
    soundfile.write(root / "dog" / "b.wav", np.stack([full, full], axis=1), RATE)
    clips, _ = ingest(root, tmp_path)
    first, second = tables.read(clips, CLIPS).to_pylist()
    assert first["source"] == "dog/a.wav"
    assert (first["sample_rate_hz"], first["source_sample_rate_hz"], first["source_channels"]) == (
        RATE,
        44_100,
        1,
    )
    assert first["duration_s"] == pytest.approx(0.5)
    assert (second["dataset"], second["label"], second["labels"]) == ("mine", "dog", ["dog"])
    assert second["source_channels"] == 2
    # A sine of half of full scale: its peak, and 20 log10(0.5 / sqrt 2).
    assert second["peak"] == pytest.approx(0.5, abs=1e-4)
    assert second["rms_dbfs"] == pytest.approx(-9.03, abs=0.01)


def test_stored_audio_is_that_of_the_files(clip_folder: Path, tmp_path: Path) -> None:
    ingest(clip_folder, tmp_path)
    seen = []
    for ids, waveforms, rate in iter_waveforms(tmp_path / "audio-0.parquet", batch_size=5):
        assert rate == RATE
        assert len(ids) <= 5
        for clip_id, samples in zip(ids, waveforms, strict=True):
            np.testing.assert_array_equal(samples, soundfile.read(clip_folder / clip_id, dtype="float32")[0])
        seen += ids
    assert len(seen) == 12
    kept = [ids for ids, _, _ in iter_waveforms(tmp_path / "audio-0.parquet", keep={"dog/dog-2.wav"})]
    assert kept == [["dog/dog-2.wav"]]


def test_results_do_not_depend_on_shards_or_threads(mixed_folder: Path, tmp_path: Path) -> None:
    one = ingest(mixed_folder, tmp_path / "one")
    three = ingest(mixed_folder, tmp_path / "three", shards=3, threads=3)
    columns = [name for name in CLIPS.columns if name != "shard"]
    assert tables.read(one[0], columns=columns).equals(tables.read(three[0], columns=columns))
    assert one[1].read_bytes() == three[1].read_bytes()
    assert set(tables.read(three[0])["shard"].to_pylist()) <= {0, 1, 2}
    again = ingest(mixed_folder, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in one]


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_the_first_of_equal_clips_by_id_stays(tmp_path: Path, write_clip: WriteClip, shards: int) -> None:
    for name in "abcdef":
        write_clip(tmp_path / "clips" / "dog" / f"{name}.wav", seed=0)
    clips, rejected = ingest(tmp_path / "clips", tmp_path, shards=shards)
    assert tables.read(clips)["clip_id"].to_pylist() == ["dog/a.wav"]
    assert set(tables.read(rejected)["detail"].to_pylist()) == {"the same samples as dog/a.wav"}


def test_duplicates_may_stay(mixed_folder: Path, tmp_path: Path) -> None:
    clips, rejected = ingest(mixed_folder, tmp_path, duplicates="keep")
    rows = {row["clip_id"]: row["sha256"] for row in tables.read(clips).to_pylist()}
    assert rows["bell/bell-0.wav"] == rows["rain/a-copy.flac"]
    assert "duplicate" not in tables.read(rejected)["reason"].to_pylist()


def test_too_many_rejected_clips_are_an_error(
    mixed_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # 9 of 22 are bad.
    with pytest.raises(TooManyRejected, match=r"9 of 22 clips rejected .*raise datasets\.mine\.max_rejected"):
        ingest(mixed_folder, tmp_path, max_rejected=0.4)
    assert "rejected dog/nan.wav: not_finite" in caplog.text
    assert not (tmp_path / "clips.parquet").exists()
    assert tables.read(tmp_path / "rejected.parquet", REJECTED).num_rows == 9
    ingest(mixed_folder, tmp_path, max_rejected=0.41)


def test_no_clip_left_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    (root / "dog").mkdir(parents=True)
    (root / "dog" / "a.wav").touch()
    with pytest.raises(ValueError, match=r"dataset mine: no clip is left of 1 \(1 empty\)"):
        ingest(root, tmp_path)
    with pytest.raises(FileNotFoundError, match="the folder of dataset mine is gone"):
        ingest_shard(
            tmp_path / "a", tmp_path / "r", dataset="mine", root=tmp_path / "gone",
            manifest=tmp_path / "manifest.parquet", shard=0, options=IngestOptions(),
        )  # fmt: skip


def test_rows_stream_in_small_groups(tmp_path: Path, write_clip: WriteClip) -> None:
    root = tmp_path / "clips"
    for number in range(70):
        write_clip(root / "dog" / f"{number:02d}.wav", number, seconds=0.1)
    ingest(root, tmp_path)
    metadata = pq.ParquetFile(tmp_path / "audio-0.parquet").metadata
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [32, 32, 6]
