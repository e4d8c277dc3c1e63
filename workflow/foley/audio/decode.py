"""The one decoder: any file that soundfile reads -> mono float32 at a wanted rate, or a reason why not."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

# A clip whose loudest sample lies below -80 dB re full scale holds nothing to learn from.
SILENCE_PEAK = 1e-4


class ClipRejected(ValueError):
    """A single clip is of no use; ``reason`` is a short word, ``detail`` what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


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


def _check_container(data: bytes) -> None:
    """Refuse files that were cut off but that libsndfile would read as shorter ones."""
    is_aiff = data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC")
    if is_aiff or (data[:4] == b"RIFF" and data[8:12] == b"WAVE"):
        position, length = 12, ">I" if is_aiff else "<I"
        while position + 8 <= len(data):
            chunk, size = data[position : position + 4], struct.unpack_from(length, data, position + 4)[0]
            # Streams write 0 or 0xFFFFFFFF for a length that they could not know.
            is_samples = chunk in (b"data", b"SSND") and size not in (0, 0xFFFFFFFF)
            if is_samples and position + 8 + size > len(data):
                have = len(data) - position - 8
                raise ClipRejected("truncated", f"header promises {size} bytes of samples, {have} are there")
            position += 8 + size + (size & 1)
    elif data[:4] == b"OggS":
        # A page is a header of 27 bytes, a table of segment sizes, and the segments (RFC 3533).
        last = data.rfind(b"OggS")
        if last + 27 > len(data) or not data[last + 5] & 4:
            raise ClipRejected("truncated", "the Ogg stream has no last page")
        sizes = data[last + 27 : last + 27 + data[last + 26]]
        if last + 27 + data[last + 26] + sum(sizes) > len(data):
            raise ClipRejected("truncated", "the last page of the Ogg stream is cut off")


def to_mono(samples: np.ndarray) -> np.ndarray:
    """[T, C] -> [T], the mean of the channels."""
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0]
    # A product with a constant vector runs many times faster than mean(axis=1) on interleaved samples.
    return samples @ np.full(channels, 1 / channels, dtype=samples.dtype)


def resample(samples: np.ndarray, source_hz: int, target_hz: int) -> np.ndarray:
    """[T] at one rate -> [T'] at another (soxr, high quality)."""
    if source_hz == target_hz:
        return samples
    return soxr.resample(samples, source_hz, target_hz, quality="HQ").astype(np.float32, copy=False)


def _read_samples(file: soundfile.SoundFile) -> np.ndarray:
    """The samples [T, C] as float32, full scale = 1."""
    if file.subtype == "PCM_16":
        # The same numbers as libsndfile's own conversion, which takes as long as all the rest of reading a WAV file.
        return file.read(dtype="int16", always_2d=True) * np.float32(1 / 32768)
    return file.read(dtype="float32", always_2d=True)


def decode(
    source: str | Path | bytes,
    sample_rate_hz: int,
    *,
    min_duration_s: float = 0.0,
    max_duration_s: float = float("inf"),
) -> Decoded:
    """Decode a file (or its bytes) to mono at ``sample_rate_hz``.

    The format is found from the content, not from the name.

    Raises:
        ClipRejected: unreadable, truncated, empty, too_short, too_long, not_finite or silent.
        OSError: the file cannot be opened.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data:
        raise ClipRejected("empty", "the file has no bytes")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            if rate <= 0 or channels <= 0:
                raise ClipRejected("unreadable", f"{rate} Hz, {channels} channels")
            if 0 < frames < 2**62 and frames / rate > max_duration_s:
                raise ClipRejected(
                    "too_long",
                    f"{frames / rate:.1f} s, at most {max_duration_s:g} s (datasets.<id>.max_duration_s)",
                )
            _check_container(data)
            samples = _read_samples(file)
    except soundfile.SoundFileError as error:
        # Without the prefix of `str(error)`, which holds an address and so differs from run to run.
        raise ClipRejected("unreadable", getattr(error, "error_string", str(error))) from None
    if not len(samples):
        raise ClipRejected("empty", "the file has no samples")
    if 0 < frames < 2**62 and len(samples) < frames:
        raise ClipRejected("truncated", f"{len(samples)} of {frames} frames could be decoded")
    if not np.isfinite(samples).all():
        raise ClipRejected("not_finite", f"{int((~np.isfinite(samples)).sum())} samples are NaN or infinite")
    duration_s = len(samples) / rate
    if duration_s < min_duration_s:
        raise ClipRejected("too_short", f"{duration_s:.3f} s, at least {min_duration_s:g} s")
    mono = resample(to_mono(samples), rate, sample_rate_hz)
    if not len(mono):
        raise ClipRejected("too_short", f"nothing is left of {duration_s:.4f} s at {sample_rate_hz} Hz")
    if float(np.abs(mono).max()) < SILENCE_PEAK:
        raise ClipRejected("silent", f"no sample above {SILENCE_PEAK:g} of full scale")
    # Resampling overshoots at full-scale edges, and float files may exceed full scale.
    np.clip(mono, -1.0, 1.0, out=mono)
    return Decoded(mono, sample_rate_hz, rate, channels)


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] -> int16, rounded to nearest."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def encode_flac(pcm: np.ndarray, sample_rate_hz: int) -> bytes:
    """int16 samples [T] -> FLAC bytes, lossless."""
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """Stored FLAC bytes -> float32 samples [T]."""
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples
