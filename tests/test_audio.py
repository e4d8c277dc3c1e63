"""Audio: every file is decoded to the right samples or refused with the right reason, and shards keep them."""

from __future__ import annotations

import hashlib
import io
import struct
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clip_writer import WriteClip
from foley import tables
from foley.audio import flac
from foley.audio.acoustic_hash import acoustic_hash
from foley.audio.decode import (
    ClipRejected,
    decode,
    decode_flac,
    encode_flac,
    load,
    resample,
    to_mono,
    to_pcm16,
)
from foley.audio.flac import flac_info, read_flac
from foley.audio.store import iter_waveforms
from foley.datasets.folder import Folder
from foley.datasets.index import index_dataset
from foley.datasets.ingest import IngestOptions, TooManyRejected, collect_clips, ingest_shard, levels
from foley.datasets.protocol import DatasetKind, RawClip
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
     ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"),
     ("AU", "PCM_16"), ("AU", "FLOAT"), ("WAVEX", "PCM_24"), ("SVX", "PCM_16")],
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


# Lengths that nobody knew, and other odd but good files


def without_length(flac: bytes) -> bytes:
    """A FLAC file as a stream writes it: 0 samples in its header mean "unknown" (36 bits from byte 21 on)."""
    data = bytearray(flac)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def test_flac_of_a_stream_that_could_not_know_its_length() -> None:
    samples = tone(seconds=5)
    data = without_length(encoded(samples, form="FLAC"))
    np.testing.assert_allclose(decode(data, RATE).samples, samples, atol=2**-15)
    assert reason(data, max_duration_s=4) == "too_long"
    part = decode(data, RATE, start_s=1, end_s=2).samples
    np.testing.assert_allclose(part, samples[RATE : 2 * RATE], atol=2**-15)


@pytest.mark.parametrize("form", ["RF64", "W64", "AU", "AIFF"])
def test_lengths_that_a_stream_left_open(form: str) -> None:
    data = bytearray(encoded(tone(), form=form, subtype="PCM_16"))
    if form == "AU":
        data[8:12] = b"\xff" * 4
    elif form == "AIFF":
        at = data.index(b"SSND") + 4
        data[at : at + 4] = bytes(4)
    elif form == "RF64":  # the sizes of the file and of the samples, behind `ds64` and its own size
        data[20:36] = b"\xff" * 16
    else:
        at = data.index(b"data\xf3\xac") + 16
        data[at : at + 8] = bytes(8)
    # Whatever libsndfile makes of it, it is not called truncated.
    try:
        decode(bytes(data), RATE)
    except ClipRejected as error:
        assert error.reason in ("empty", "unreadable")


def test_bytes_behind_the_samples_do_no_harm() -> None:
    wav = encoded(tone())
    np.testing.assert_array_equal(
        decode(wav + b"LIST\x04\0\0\0junk", RATE).samples, decode(wav, RATE).samples
    )
    mp4 = muxed("mp4", "aac")
    np.testing.assert_array_equal(decode(mp4 + bytes(100), RATE).samples, decode(mp4, RATE).samples)
    np.testing.assert_array_equal(
        decode(mp4 + b"TAG of some editor", RATE).samples, decode(mp4, RATE).samples
    )


@pytest.mark.parametrize("form", ["MP3", "FLAC"])
def test_damaged_files_behind_a_tag_are_refused_too(form: str) -> None:
    # FFmpeg would go on behind the damage.
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    data = bytearray(tag + encoded(tone(seconds=2), form=form))
    data[138:160] = b"\xff\xfb" + bytes(20) if form == "MP3" else b"fLaC" + bytes(18)
    assert reason(bytes(data[:3000])) == "unreadable"


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_16"), ("WAVEX", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_S8"),
     ("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
)  # fmt: skip
def test_stored_samples_are_those_of_soundfile_and_soxr(form: str, subtype: str, channels: int) -> None:
    # Foley's own shortcuts (a view of WAV files, dr_flac, resamplers that are used again) must change nothing.
    generator = np.random.default_rng(channels)
    for rate in (22_050, 16_000, 44_100, 22_050):
        data = encoded(generator.uniform(-1, 1, (rate // 3, channels)), rate, form, subtype)
        samples = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
        mono = samples @ np.full(channels, 1 / channels, np.float32) if channels > 1 else samples[:, 0]
        expected = soxr.resample(mono, rate, RATE, quality="HQ") if rate != RATE else mono
        np.testing.assert_array_equal(decode(data, RATE).samples, np.clip(expected, -1, 1))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_damaged_flac_is_left_to_libsndfile(subtype: str) -> None:
    data = encoded(np.random.default_rng(0).uniform(-1, 1, RATE), form="FLAC", subtype=subtype)
    info = flac_info(data)
    assert info == (RATE, 1, int(subtype[4:]), RATE)
    whole = read_flac(data, info)
    if whole is None:
        pytest.skip("no dr_flac on this platform")
    np.testing.assert_array_equal(
        whole if whole.dtype == np.float32 else whole / np.float32(32768),
        soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0],
    )
    generator = np.random.default_rng(1)
    for _ in range(20):
        broken = bytearray(data)
        broken[int(generator.integers(200, len(data)))] ^= 1 << int(generator.integers(8))
        assert read_flac(bytes(broken), info) is None
        try:
            expected = soundfile.read(io.BytesIO(broken), dtype="float32")[0]
        except soundfile.LibsndfileError:
            assert reason(bytes(broken)) == "unreadable"
            continue
        if len(expected) < RATE:
            assert reason(bytes(broken)) == "truncated"
        else:
            np.testing.assert_array_equal(decode(bytes(broken), RATE).samples, expected)
    assert read_flac(data[: len(data) // 2], info) is None
    assert reason(data[: len(data) // 2]) in ("truncated", "unreadable")


def test_flac_that_promises_too_much_takes_no_memory() -> None:
    data = bytearray(encoded(tone(), form="FLAC"))
    data[21] |= 0x0F  # 2^36 - 1 samples
    data[22:26] = b"\xff" * 4
    info = flac_info(bytes(data))
    assert info is not None and info.frames == 2**36 - 1
    assert read_flac(bytes(data), info) is None
    assert reason(bytes(data), max_duration_s=600) == "too_long"


def test_flac_without_dr_flac(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(tone(), form="FLAC")
    expected = decode(data, RATE).samples
    monkeypatch.setitem(sys.modules, "miniaudio", None)  # importing it fails
    flac._miniaudio.cache_clear()
    try:
        info = flac_info(data)
        assert info is not None and read_flac(data, info) is None
        np.testing.assert_array_equal(decode(data, RATE).samples, expected)
        np.testing.assert_array_equal(decode_flac(data), expected)
    finally:
        flac._miniaudio.cache_clear()


@pytest.mark.parametrize(
    "data", [b"", b"fLaC", b"fLaC" + bytes(40), b"RIFF" + bytes(60), b"fLaC\x04" + bytes(60)]
)
def test_what_is_no_flac_has_no_flac_info(data: bytes) -> None:
    assert flac_info(data) is None


def test_threads_do_not_share_resamplers() -> None:
    clips = [encoded(np.random.default_rng(n).uniform(-1, 1, 4410), 44_100) for n in range(40)]
    alone = [decode(clip, RATE).samples for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda clip: decode(clip, RATE).samples, clips))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


# Sound tracks of video, and what else only FFmpeg reads


@lru_cache
def muxed(
    container: str, codec: str | None, *, seconds: float = 1.0, rate: int = 44_100, layout: str = "mono",
    video: str | None = None, hz: float = 440.0,
) -> bytes:  # fmt: skip
    """A file with a tone (each channel a fifth of its number higher) and a picture, as FFmpeg writes it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        picture = None
        if video is not None:
            picture = out.add_stream(video, rate=25)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        track = out.add_stream(codec, rate=rate, layout=layout) if codec is not None else None
        if track is not None and codec.startswith("wma"):
            track.bit_rate = 96_000
        if picture is not None:
            for number in range(round(seconds * 25)):
                image = np.full((64, 64, 3), 5 * number % 256, np.uint8)
                out.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(picture.encode())
        if track is not None:
            if not track.codec_context.is_open:
                track.codec_context.open()
            count = av.AudioLayout(layout).nb_channels
            samples = np.stack([tone(hz * (1 + k / 5), seconds, rate) for k in range(count)])
            packed = samples.T.astype(np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            fit = av.AudioResampler(
                track.codec_context.format, track.codec_context.layout, rate, track.codec_context.frame_size
            )
            for piece in [*fit.resample(frame), *fit.resample(None)]:
                out.mux(track.encode(piece))
            out.mux(track.encode())
    return buffer.getvalue()


SOUND_TRACKS = [
    ("ipod", "aac", None, 44_100), ("adts", "aac", None, 44_100), ("asf", "wmav2", None, 44_100),
    ("mov", "alac", None, 44_100), ("mp4", "aac", "mpeg4", 44_100), ("3gp", "aac", "mpeg4", 16_000),
    ("mov", "pcm_s16le", "mpeg4", 44_100), ("matroska", "aac", "mpeg4", 44_100),
    ("matroska", "pcm_s16le", "mpeg4", 16_000), ("webm", "libopus", "libvpx", 48_000),
    ("avi", "libmp3lame", "mpeg4", 44_100), ("avi", "pcm_s16le", "mpeg4", 16_000), ("flv", "aac", "flv", 44_100),
    ("mpeg", "mp2", "mpeg1video", 44_100), ("mpegts", "aac", "mpeg2video", 44_100), ("ac3", "ac3", None, 44_100),
]  # fmt: skip


@pytest.mark.parametrize(("container", "codec", "video", "rate"), SOUND_TRACKS)
def test_sound_tracks(container: str, codec: str, video: str | None, rate: int, tmp_path: Path) -> None:
    data = muxed(container, codec, rate=rate, video=video)
    decoded = decode(data, RATE)
    assert (decoded.source_sample_rate_hz, decoded.source_channels) == (rate, 1)
    assert decoded.duration_s == pytest.approx(1.0, abs=0.06)  # codecs add or lose a frame
    assert peak_hz(decoded.samples, RATE) == pytest.approx(440, abs=2)
    middle = decoded.samples[RATE // 4 : -RATE // 4]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)
    (tmp_path / "clip").write_bytes(data)
    np.testing.assert_array_equal(decode(tmp_path / "clip", RATE).samples, decoded.samples)


@pytest.mark.parametrize(
    ("container", "codec", "video", "rate"),
    # Program and transport streams and AC-3 promise no length and may be cut anywhere.
    [case for case in SOUND_TRACKS if case[0] not in ("mpeg", "mpegts", "ac3")],
)
@pytest.mark.parametrize("part", [0.97, 0.6, 0.2])
def test_truncated_sound_tracks(
    container: str, codec: str, video: str | None, rate: int, part: float
) -> None:
    data = muxed(container, codec, rate=rate, video=video, seconds=2)
    assert reason(data[: int(part * len(data))]) in ("truncated", "unreadable")


def test_index_of_frames_that_are_not_there() -> None:
    # MP4 with its index first, as for streaming, and the samples overwritten by another, shorter box.
    data = muxed("mp4", "aac", seconds=3)
    at = data.index(b"mdat") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    moov = data[at + size :]
    head = data[:at]
    short = struct.pack(">I4s", size // 3, b"mdat") + data[at + 8 : at + size // 3]
    assert reason(head + short + moov) in ("truncated", "unreadable")


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_video_without_sound(container: str) -> None:
    assert reason(muxed(container, None, video="mpeg4")) == "no_sound_track"


@pytest.mark.parametrize("layout", ["stereo", "5.1", "7.1"])
@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "flac"), ("mov", "pcm_s16le")])
def test_channels_of_sound_tracks(container: str, codec: str, layout: str) -> None:
    # 7.1 AAC as FFmpeg decodes it (eight separate channels) makes PyAV's `to_ndarray` read invalid memory.
    count = {"stereo": 2, "5.1": 6, "7.1": 8}[layout]
    decoded = decode(muxed(container, codec, layout=layout), RATE)
    assert decoded.source_channels == count
    spectrum = np.abs(np.fft.rfft(decoded.samples[: RATE // 2] * np.hanning(RATE // 2)))
    heard = {round(440 * (1 + k / 5)) // 2 for k in range(count) if layout == "stereo"}
    loud = set(np.flatnonzero(spectrum > 0.3 * spectrum.max()).tolist())
    assert all(loud & {hz - 1, hz, hz + 1} for hz in heard)
    assert np.abs(decoded.samples).max() < 0.6


def test_limits_of_sound_tracks() -> None:
    long = muxed("mp4", "aac", seconds=3, rate=16_000)
    assert reason(long, max_duration_s=2) == "too_long"
    # Without a promised length it shows only while decoding.
    assert reason(muxed("adts", "aac", seconds=3, rate=16_000), max_duration_s=2) == "too_long"
    assert reason(muxed("mp4", "aac", seconds=0.2), min_duration_s=0.5) == "too_short"
    silent = muxed("matroska", "pcm_s16le", hz=0.0)
    assert reason(silent) == "silent"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{other}'\n",
        "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period><BaseURL>{other}</BaseURL></Period></MPD>",
    ],
)
def test_playlists_open_no_other_file(text: str, tmp_path: Path, write_clip: WriteClip) -> None:
    write_clip(tmp_path / "other.wav", 1)
    path = tmp_path / "list.mp4"
    path.write_text(text.format(other=tmp_path / "other.wav"))
    assert reason(path) == "unreadable"


def test_hostile_files_are_refused_not_fatal() -> None:
    generator = np.random.default_rng(0)
    files = [
        muxed(container, codec, rate=rate, video=video, seconds=0.3)
        for container, codec, video, rate in SOUND_TRACKS
    ]
    files += [
        encoded(tone(seconds=0.3), form=form, subtype=subtype)
        for form, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"),
                              ("W64", "PCM_16"), ("RF64", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"))
    ]  # fmt: skip
    refused = 0
    for file in files:
        for reach in (64, 600, len(file)):
            for _ in range(3):
                damaged = np.frombuffer(file, np.uint8).copy()
                places = generator.integers(0, min(reach, len(file)), 20)
                damaged[places] = generator.choice([0, 255, int(generator.integers(256))], 20)
                try:
                    decode(damaged.tobytes(), RATE, max_duration_s=60)
                except ClipRejected:
                    refused += 1
    assert 50 < refused < 9 * len(files)


# Parts of files


def ramp(seconds: float, rate: int) -> np.ndarray:
    """Noise that is louder the later it comes, so that each place is told from all others."""
    noise = np.random.default_rng(1).uniform(-1, 1, round(seconds * rate))
    return 0.8 * noise * np.linspace(0.1, 1, len(noise))


@pytest.mark.parametrize(("start_s", "end_s"), [(1.25, 2.5), (None, 0.75), (2.0, None), (0.0, 4.0)])
@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "FLOAT")]
)
def test_parts_of_sound_files(
    form: str, subtype: str, start_s: float | None, end_s: float | None, tmp_path: Path
) -> None:
    data = encoded(ramp(4, RATE), form=form, subtype=subtype)
    whole = decode(data, RATE).samples
    expected = whole[round((start_s or 0) * RATE) : None if end_s is None else round(end_s * RATE)]
    (tmp_path / "a").write_bytes(data)
    for source in (data, tmp_path / "a"):
        part = decode(source, RATE, start_s=start_s, end_s=end_s, max_duration_s=4)
        np.testing.assert_allclose(part.samples, expected, atol=1e-4)
    # Only the part counts as its length.
    if start_s == 1.25:
        assert reason(data, start_s=start_s, end_s=end_s, max_duration_s=1) == "too_long"
        assert reason(data, start_s=start_s, end_s=end_s, min_duration_s=2) == "too_short"


@pytest.mark.parametrize(("start_s", "end_s"), [(1.25, 2.5), (None, 0.75), (2.0, None)])
@pytest.mark.parametrize(
    ("container", "codec", "video", "slack"),
    # Matroska keeps times in milliseconds, so a cut may be off by as much.
    [("mp4", "aac", "mpeg4", 0), ("mov", "pcm_s16le", "mpeg4", 0), ("avi", "pcm_s16le", "mpeg4", 0),
     ("matroska", "pcm_s16le", "mpeg4", 16), ("adts", "aac", None, 0),
     ("mpegts", "aac", "mpeg2video", 16), ("flv", "aac", "flv", 16), ("webm", "libopus", "libvpx", 16)],
)  # fmt: skip
def test_parts_of_sound_tracks(
    container: str,
    codec: str,
    video: str | None,
    slack: int,
    start_s: float | None,
    end_s: float | None,
    tmp_path: Path,
) -> None:
    data = muxed(container, codec, video=video, seconds=4, rate=RATE)
    whole = decode(data, RATE).samples
    first, last = round((start_s or 0) * RATE), len(whole) if end_s is None else round(end_s * RATE)
    (tmp_path / "a").write_bytes(data)
    part = decode(tmp_path / "a", RATE, start_s=start_s, end_s=end_s).samples
    assert abs(len(part) - (last - first)) <= slack
    errors = [
        np.abs(part[slack : 8000 + slack] - whole[first + slack + shift :][:8000]).max()
        for shift in range(-slack, slack + 1)
        if first + slack + shift >= 0
    ]
    assert min(errors) < 0.01


def test_parts_that_are_not_there(tmp_path: Path) -> None:
    for data in (
        encoded(tone(seconds=2)),
        muxed("mp4", "aac", seconds=2),
        encoded(tone(seconds=2), form="FLAC"),
    ):
        assert reason(data, start_s=5, end_s=6) == "truncated"
        assert reason(data, start_s=1, end_s=4) == "truncated"
        assert reason(data, start_s=1, end_s=1) == "empty"
        assert reason(data, start_s=-1, end_s=1) == "empty"
        # Annotations often end a little late.
        assert decode(data, RATE, start_s=1, end_s=2.05).duration_s == pytest.approx(1, abs=0.06)


def test_a_part_of_a_long_file_costs_as_much_as_the_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "hour.flac", np.tile(ramp(1, 8000), 3600), 8000)
    read = []
    original = soundfile.SoundFile.read

    def counted(self: soundfile.SoundFile, *args: int, **options: str) -> np.ndarray:
        samples = original(self, *args, **options)
        read.append(len(samples))
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    assert decode(tmp_path / "hour.flac", 8000, start_s=3000, end_s=3002, max_duration_s=10).duration_s == 2
    assert sum(read) == 16_000


def test_load_keeps_large_files_and_video_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav, video = tmp_path / "a.wav", tmp_path / "b.mp4"
    wav.write_bytes(encoded(tone()))
    video.write_bytes(muxed("mp4", "aac"))
    assert load(wav) == wav.read_bytes()
    assert load(video) == video
    before = decode(wav, RATE).samples
    monkeypatch.setattr("foley.audio.decode.IN_MEMORY_BYTES", 1000)
    assert load(wav) == wav
    np.testing.assert_array_equal(decode(wav, RATE).samples, before)


# Ingest


def ingest(
    root: Path, out: Path, *, shards: int = 1, threads: int = 1, **collect: object
) -> tuple[Path, Path]:
    """The whole way of a folder -> clip table and table of the rejected."""
    manifest = out / "manifest.parquet"
    index_dataset(manifest, out / "raw_classes.parquet", kind=Folder(), root=root, shards=shards)
    audio = [out / f"audio-{shard}.parquet" for shard in range(shards)]
    rejected = [out / f"rejected-{shard}.parquet" for shard in range(shards)]
    for shard in range(shards):
        ingest_shard(
            audio[shard], rejected[shard], dataset="mine", kind=Folder(), root=root, shards=shards, shard=shard,
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


def test_rows_tell_the_file_and_the_sound_apart(tmp_path: Path, write_clip: WriteClip) -> None:
    root = tmp_path / "clips"
    sounds = 0.5 * np.random.default_rng(3).normal(size=(8, 1)).repeat(4000, 0).ravel() * tone(700, 2)
    (root / "dog").mkdir(parents=True)
    soundfile.write(root / "dog" / "a.wav", 0.5 * sounds, RATE)
    soundfile.write(root / "dog" / "b.flac", 0.1 * sounds, RATE)
    (root / "dog" / "c.m4a").write_bytes(muxed("ipod", "aac", hz=300))
    (root / "dog" / "d.avi").write_bytes(muxed("avi", "pcm_s16le", hz=500, video="mpeg4"))
    (root / "dog" / "e.mkv").write_bytes(muxed("matroska", None, video="mpeg4"))
    clips, rejected = ingest(root, tmp_path)
    a, b, c, d = tables.read(clips, CLIPS).to_pylist()
    for row in (a, b, c, d):
        assert row["source_sha256"] == hashlib.sha256((root / row["source"]).read_bytes()).hexdigest()
        assert len(row["acoustic_hash"]) == 32
    # Another format and level: other bytes, other samples, nearly the same hash of the sound.
    assert a["sha256"] != b["sha256"]
    assert differing_bits(a["acoustic_hash"], b["acoustic_hash"]) < 20
    assert differing_bits(a["acoustic_hash"], d["acoustic_hash"]) > 60
    assert [(row["clip_id"], row["reason"]) for row in tables.read(rejected, REJECTED).to_pylist()] == [
        ("dog/e.mkv", "no_sound_track")
    ]
    for ids, waveforms, rate in iter_waveforms(tmp_path / "audio-0.parquet"):
        assert [acoustic_hash(samples, rate) for samples in waveforms] == [
            r["acoustic_hash"] for r in (a, b, c, d)
        ]
        assert len(ids) == 4


def differing_bits(a: bytes, b: bytes) -> int:
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


class Cuts(DatasetKind):
    """Parts of long files, as datasets of annotated video have them."""

    title = "Cuts"

    def scan(self, root: Path) -> list[RawClip]:
        return [
            RawClip(
                f"long.{form}@{start}",
                f"long.{form}",
                "dog",
                "long",
                class_id=0,
                start_s=start,
                end_s=start + 1.0,
            )
            for form in ("wav", "mp4")
            for start in (0.0, 1.5, 9.0)
        ]


def test_parts_of_files_are_clips(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    soundfile.write(root / "long.wav", ramp(3, RATE), RATE)
    (root / "long.mp4").write_bytes(muxed("mp4", "aac", seconds=3, rate=RATE, video="mpeg4"))
    manifest, audio, rejected = (tmp_path / f"{name}.parquet" for name in ("m", "a", "r"))
    index_dataset(manifest, tmp_path / "c.parquet", kind=Cuts(), root=root, shards=1)
    assert tables.read(manifest)["start_s"].to_pylist() == [0.0, 1.5, 9.0] * 2
    ingest_shard(
        audio, rejected, dataset="cuts", kind=Cuts(), root=root, shards=1, shard=0, options=IngestOptions()
    )
    rows = tables.read(audio).to_pylist()
    assert [(row["clip_id"], row["duration_s"]) for row in rows] == [
        ("long.mp4@0.0", 1.0), ("long.mp4@1.5", 1.0), ("long.wav@0.0", 1.0), ("long.wav@1.5", 1.0),
    ]  # fmt: skip
    assert {row["source_sha256"] for row in rows} == {None}
    expected = soundfile.read(root / "long.wav", dtype="int16", start=24_000, frames=16_000)[0]
    assert rows[3]["sha256"] == hashlib.sha256(expected.tobytes()).hexdigest()
    assert [row["reason"] for row in tables.read(rejected).to_pylist()] == ["truncated", "truncated"]


def test_levels_are_exact() -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 100_001).astype(np.int16)
    peak, rms = levels(pcm)
    assert peak == float(np.abs(pcm.astype(np.float64)).max()) / 32768
    assert rms == pytest.approx(float(np.sqrt(np.mean((pcm / 32768) ** 2))), rel=1e-12)
    assert levels(np.array([-32768, 5], np.int16))[0] == 1.0


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
            tmp_path / "a", tmp_path / "r", dataset="mine", kind=Folder(), root=tmp_path / "gone",
            shards=1, shard=0, options=IngestOptions(),
        )  # fmt: skip


def test_rows_stream_in_small_groups(tmp_path: Path, write_clip: WriteClip) -> None:
    root = tmp_path / "clips"
    for number in range(70):
        write_clip(root / "dog" / f"{number:02d}.wav", number, seconds=0.1)
    ingest(root, tmp_path)
    metadata = pq.ParquetFile(tmp_path / "audio-0.parquet").metadata
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == [32, 32, 6]
