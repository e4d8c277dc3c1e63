"""The one decoder: any file that soundfile or FFmpeg reads -> mono float32 at a wanted rate, or a reason why not."""

from __future__ import annotations

import io
import math
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from foley.audio.container import (
    HEAD_BYTES,
    ClipRejected,
    check_complete,
    check_length,
    chunks,
    is_flac_or_mpeg,
    is_media_container,
)
from foley.audio.flac import flac_info, read_flac

# A clip whose loudest sample lies below -80 dB re full scale holds nothing to learn from.
SILENCE_PEAK = 1e-4
# Larger files are not read into memory as a whole.
IN_MEMORY_BYTES = 1 << 25


@dataclass(frozen=True)
class Decoded:
    """Samples [T] float32 mono in [-1, 1] at ``sample_rate_hz``, and what the file itself had."""

    samples: np.ndarray
    sample_rate_hz: int
    source_sample_rate_hz: int
    source_channels: int

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz


def load(path: Path) -> bytes | Path:
    """What `decode` reads: a file's bytes, or the path itself where it is large or may hold video.

    So whoever needs the bytes too (for their hash) reads the file once.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as handle:
        if os.fstat(handle.fileno()).st_size > IN_MEMORY_BYTES:
            return path
        # The rest in one piece, for which a buffered file would make a copy.
        head = os.pread(handle.fileno(), HEAD_BYTES, 0)
        return path if is_media_container(head) else handle.read()


def as_float(samples: np.ndarray) -> np.ndarray:
    """int16 samples as float32, full scale = 1; others as they are."""
    if samples.dtype == np.float32:
        return samples
    # The same numbers as libsndfile's own conversion, which takes as long as all the rest of reading a WAV file.
    return np.multiply(samples, np.float32(1 / 32768), dtype=np.float32)


def to_mono(samples: np.ndarray) -> np.ndarray:
    """[T, C] -> [T], the mean of the channels."""
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0]
    # A product with a constant vector runs many times faster than mean(axis=1) on interleaved samples.
    return samples @ np.full(channels, 1 / channels, dtype=samples.dtype)


class _Resamplers(threading.local):
    """Resamplers by their rates, one set a thread: making one costs as much as half a second of audio."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], soxr.ResampleStream] = {}

    def get(self, source_hz: int, target_hz: int) -> soxr.ResampleStream:
        found = self.known.get((source_hz, target_hz))
        if found is None:
            if len(self.known) >= 8:  # odd rates in one folder must not pile up
                self.known.clear()
            found = self.known[source_hz, target_hz] = soxr.ResampleStream(
                source_hz, target_hz, 1, dtype="float32", quality="HQ"
            )
        found.clear()
        return found


_resamplers = _Resamplers()


def resample(samples: np.ndarray, source_hz: int, target_hz: int) -> np.ndarray:
    """[T] at one rate -> [T'] float32 at another (soxr, high quality)."""
    if source_hz == target_hz or not len(samples):
        return samples
    if samples.dtype != np.float32:
        return soxr.resample(samples, source_hz, target_hz, quality="HQ").astype(np.float32, copy=False)
    # The same numbers as soxr.resample.
    return _resamplers.get(source_hz, target_hz).resample_chunk(samples, last=True)


@dataclass(frozen=True)
class _Limits:
    """Which part of a file is wanted, and how long it may be."""

    start_s: float | None
    end_s: float | None
    max_duration_s: float

    @property
    def is_whole(self) -> bool:
        return self.start_s is None and self.end_s is None

    def refuse_longer(self, seconds: float) -> None:
        if seconds > self.max_duration_s:
            raise ClipRejected(
                "too_long",
                f"{seconds:.1f} s, at most {self.max_duration_s:g} s (datasets.<id>.max_duration_s)",
            )


def _pcm16_wav(data: bytes) -> tuple[np.ndarray, int] | None:
    """Samples [T, C] (a view of ``data``) and rate of a plain 16-bit WAV file; None for any other.

    libsndfile gives the same samples; through its callbacks for bytes it takes several times as long.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    form = None
    for chunk in chunks(io.BytesIO(data), len(data), "<"):
        if chunk.name == b"fmt " and chunk.size >= 16 and chunk.at + 16 <= len(data):
            form = struct.unpack_from("<HHIIHH", data, chunk.at)
        elif chunk.name == b"data":
            if form is None:
                return None
            code, channels, rate, _, block, bits = form
            plain = code == 1 and bits == 16 and 1 <= channels <= 64 and rate > 0 and block == 2 * channels
            if not plain or not 0 < chunk.size <= len(data) - chunk.at:
                return None
            count = chunk.size // block * channels
            return np.frombuffer(data, "<i2", count, chunk.at).reshape(-1, channels), rate
    return None


def _read_simple(data: bytes, limits: _Limits) -> tuple[np.ndarray, int] | None:
    """Samples [T, C] and rate of what can be read faster than by libsndfile; None for anything else."""
    plain = _pcm16_wav(data)
    if plain is not None:
        limits.refuse_longer(len(plain[0]) / plain[1])
        return plain
    info = flac_info(data)
    if info is None:
        return None
    limits.refuse_longer(info.frames / info.sample_rate_hz)
    samples = read_flac(data, info)
    return None if samples is None else (samples, info.sample_rate_hz)


def _read_samples(file: soundfile.SoundFile, frames: int) -> np.ndarray:
    """The next ``frames`` samples [T, C] as float32, full scale = 1, or as int16."""
    if file.subtype == "PCM_16":
        return file.read(frames, dtype="int16", always_2d=True)
    return file.read(frames, dtype="float32", always_2d=True)


def _open_sound_file(source: bytes | BinaryIO) -> soundfile.SoundFile:
    """What libsndfile makes of bytes, or of an open file, which it reads by itself."""
    for attempt in (1, 2, 3):
        try:
            if isinstance(source, bytes):
                return soundfile.SoundFile(io.BytesIO(source))
            os.lseek(source.fileno(), 0, os.SEEK_SET)
            return soundfile.SoundFile(source.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            # Its error number is one for all threads; another's success may have wiped it out.
            if error.code or attempt == 3:
                raise
    raise AssertionError


def _read_sound_file(source: bytes | BinaryIO, limits: _Limits) -> tuple[np.ndarray, int] | None:
    """Samples [T, C] and rate of what libsndfile reads; None where it can't tell how much a stream holds.

    Raises:
        soundfile.SoundFileError: libsndfile does not know the format.
    """
    with _open_sound_file(source) as file:
        rate, frames = file.samplerate, file.frames
        if rate <= 0 or file.channels <= 0:
            raise ClipRejected("unreadable", f"{rate} Hz, {file.channels} channels")
        if not 0 <= frames < 2**62:
            return None
        first = 0 if limits.start_s is None else round(limits.start_s * rate)
        stop = frames if limits.end_s is None else round(limits.end_s * rate)
        if first and first >= frames:
            raise ClipRejected(
                "truncated", f"the clip begins at {first / rate:g} s, its file ends at {frames / rate:.3f} s"
            )
        limits.refuse_longer((stop - first) / rate)
        wanted = min(stop, frames) - first
        try:
            if first:
                file.seek(first)
            samples = _read_samples(file, wanted)
        except (soundfile.SoundFileError, ValueError, MemoryError) as error:
            raise _unreadable(error) from None
        if len(samples) < wanted:
            raise ClipRejected("truncated", f"{len(samples)} of {wanted} frames could be decoded")
        check_length(wanted, rate, (stop - first) / rate)
        return samples, rate


def _unreadable(error: Exception) -> ClipRejected:
    # Without the prefix of `str(error)`, which holds an address and so differs from run to run.
    return ClipRejected("unreadable", getattr(error, "error_string", str(error)))


def _read(source: Path | bytes, limits: _Limits) -> tuple[np.ndarray, int]:
    """Samples [T, C] float32 (or int16, of full scale 32768) and rate of what is wanted of a file."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        if not size:
            raise ClipRejected("empty", "the file has no bytes")
        check_complete(handle, size)
        handle.seek(0)
        head = handle.read(HEAD_BYTES)
        refusal = None
        if not is_media_container(head):
            if isinstance(source, bytes) and limits.is_whole:
                simple = _read_simple(source, limits)
                if simple is not None:
                    return simple
            try:
                found = _read_sound_file(source if isinstance(source, bytes) else handle, limits)
                if found is not None:
                    return found
            except soundfile.SoundFileError as error:
                refusal = _unreadable(error)
                if is_flac_or_mpeg(handle):
                    raise refusal from None
    # Only now: most datasets need no FFmpeg, and importing it takes time.
    from foley.audio.sound_track import read_sound_track

    try:
        return read_sound_track(
            source, start_s=limits.start_s, end_s=limits.end_s, max_duration_s=limits.max_duration_s
        )
    except ClipRejected as error:
        # What FFmpeg can't read either is described by libsndfile, which knows more of sound files.
        raise (refusal if refusal is not None and error.reason == "unreadable" else error) from None


def decode(
    source: str | Path | bytes,
    sample_rate_hz: int,
    *,
    min_duration_s: float = 0.0,
    max_duration_s: float = float("inf"),
    start_s: float | None = None,
    end_s: float | None = None,
) -> Decoded:
    """Decode a file (or its bytes), or the part between ``start_s`` and ``end_s``, to mono at ``sample_rate_hz``.

    The format is found from the content, not from the name: libsndfile reads sound files, FFmpeg the sound tracks of
    video and what else libsndfile does not know. Of a part, little more than itself is decoded.

    Raises:
        ClipRejected: unreadable, truncated, no_sound_track, empty, too_short, too_long, not_finite or silent.
        OSError: the file cannot be opened.
    """
    limits = _Limits(start_s, end_s, max_duration_s)
    if (start_s or 0.0) < 0 or (end_s is not None and end_s <= (start_s or 0.0)):
        raise ClipRejected("empty", f"nothing lies between {start_s or 0.0:g} and {end_s} s")
    if not isinstance(source, bytes):
        source = load(Path(source)) if limits.is_whole else Path(source)
    samples, rate = _read(source, limits)
    if not len(samples):
        raise ClipRejected("empty", "the file has no samples")
    duration_s = len(samples) / rate
    if duration_s < min_duration_s:
        raise ClipRejected("too_short", f"{duration_s:.3f} s, at least {min_duration_s:g} s")
    mono = resample(to_mono(as_float(samples)), rate, sample_rate_hz)
    if not len(mono):
        raise ClipRejected("too_short", f"nothing is left of {duration_s:.4f} s at {sample_rate_hz} Hz")
    lowest, highest = float(mono.min()), float(mono.max())
    # One sample that is none makes many such; they show in the extremes.
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        bad = int((~np.isfinite(samples)).sum())
        detail = f"{bad} samples are NaN or infinite" if bad else "samples are too large to mix or resample"
        raise ClipRejected("not_finite", detail)
    if max(highest, -lowest) < SILENCE_PEAK:
        raise ClipRejected("silent", f"no sample above {SILENCE_PEAK:g} of full scale")
    # Resampling overshoots at full-scale edges, and float files may exceed full scale.
    if lowest < -1 or highest > 1:
        mono = np.clip(mono, -1.0, 1.0)
    return Decoded(mono, sample_rate_hz, rate, samples.shape[1])


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] -> int16, rounded to nearest."""
    scaled = samples * np.float32(32768)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16)


def encode_flac(pcm: np.ndarray, sample_rate_hz: int) -> bytes:
    """int16 samples [T] -> FLAC bytes, lossless."""
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """Stored FLAC bytes -> float32 samples [T]."""
    info = flac_info(data)
    samples = read_flac(data, info) if info is not None else None
    if samples is not None and samples.shape[1] == 1:
        return as_float(samples[:, 0])
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]
