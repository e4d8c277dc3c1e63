"""Sound tracks of what libsndfile can't read: video, and audio as M4A, AAC, WMA and others, through PyAV (FFmpeg)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from foley.audio.container import TOLERANCE_S, ClipRejected, check_length

if TYPE_CHECKING:
    import av

# Plain containers only. FFmpeg also reads playlists (HLS, concat, DASH), which name further files and addresses to
# open, and text or raw data that it takes for pictures.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,"
    "mpegvideo,ogg,rm,tta,voc,w64,wav,wv"
)
# Containers that write down how long a track is and when its frames begin. For bare frames (AAC, MP3) FFmpeg only
# guesses, from the bit rate.
WITH_TIMES = frozenset(["mov", "avi", "matroska"])
# Decoding begins this much before a segment, for codecs that build on earlier frames.
PREROLL_S = 0.5


def _keeps_times(container: av.container.InputContainer) -> bool:
    return bool(WITH_TIMES & set(container.format.name.split(",")))


def _promised_s(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """How long the container says that the track is, where it does."""
    if not _keeps_times(container):
        return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    written = stream.metadata.get("DURATION")  # Matroska: "00:00:05.120000000"
    if written:
        try:
            hours, minutes, seconds = written.strip("\0 ").split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None
    # Without a length of its own a track alone is as long as its file.
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Decoded frames; damaged packets in a track are skipped, as players do, and so shorten it."""
    import av

    damaged = 0
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            damaged += 1
            if damaged > 100:
                raise


@dataclass(frozen=True)
class _Block:
    """Some samples [T, C] of a track, float32 with full scale = 1, and when they begin if that is known."""

    samples: np.ndarray
    sample_rate_hz: int
    begin_s: float | None


def _blocks(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[_Block]:
    """The track from where the container stands.

    Through FFmpeg's converter to interleaved samples, because PyAV's `to_ndarray` reads invalid memory from frames of
    eight and more separate channels (7.1 AAC): it looks for a null pointer behind the last one.
    """
    import av

    converter = av.AudioResampler(format="flt")
    form: tuple[int, int] | None = None
    for frame in _frames(container, stream):
        here = frame.sample_rate, frame.layout.nb_channels
        form = form or here
        if min(here) <= 0:
            raise ClipRejected("unreadable", f"{here[0]} Hz, {here[1]} channels")
        if here != form:
            raise ClipRejected(
                "unreadable",
                f"the track changes from {form[0]} Hz and {form[1]} channels to {here[0]} Hz and {here[1]}",
            )
        begin_s = None
        if frame.pts is not None and frame.time_base is not None:
            begin_s = float(frame.pts * frame.time_base)
        for converted in converter.resample(frame):
            yield _Block(converted.to_ndarray().reshape(-1, here[1]), here[0], begin_s)


def read_sound_track(
    source: Path | bytes,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    max_duration_s: float = float("inf"),
) -> tuple[np.ndarray, int]:
    """The first audio stream of a file, or its part between ``start_s`` and ``end_s``: samples [T, C], sample rate.

    Samples are float32, full scale = 1.

    Times count from the beginning of the file (of its picture, if that comes first). A segment is found by seeking
    and cut to the sample; where a container keeps rounded times (Matroska: milliseconds) it is as exact as they are.

    Raises:
        ClipRejected: unreadable, no_sound_track, truncated, too_long, empty.
        OSError: the file cannot be opened.
    """
    # A file object, not a name: FFmpeg reads names as addresses ("concat:…") and patterns.
    handle: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with handle:
        try:
            return _read(handle, start_s, end_s, max_duration_s)
        except ClipRejected:
            raise
        except _errors() as error:
            detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ClipRejected("unreadable", f"FFmpeg: {detail}") from None


def _errors() -> tuple[type[BaseException], ...]:
    import av

    # Values that no real file has: rates of 0, layouts without channels, sizes beyond memory, text that is none.
    return (av.error.FFmpegError, ValueError, OverflowError, MemoryError, ZeroDivisionError, IndexError)


def _read(
    handle: IO[bytes], start_s: float | None, end_s: float | None, max_duration_s: float
) -> tuple[np.ndarray, int]:
    import av

    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    with av.open(handle, mode="r", options=options, metadata_errors="replace") as container:
        if not container.streams.audio:
            if container.streams.video:
                raise ClipRejected("no_sound_track", f"{container.format.long_name} without an audio stream")
            raise ClipRejected("unreadable", f"{container.format.long_name} without audio")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise ClipRejected("unreadable", "FFmpeg has no decoder for the codec of the sound track")
        stream.codec_context.thread_count = 1
        rate = stream.codec_context.sample_rate
        promised_s = _promised_s(container, stream)
        # Before decoding, so that an hour costs nothing.
        if end_s is None and promised_s is not None and promised_s - (start_s or 0.0) > max_duration_s:
            raise _too_long(promised_s - (start_s or 0.0), max_duration_s)
        zero_s = (container.start_time or 0) / av.time_base
        # Bare frames and streams have no times to go by: there the way leads through all that lies before.
        if start_s is not None and start_s > PREROLL_S and _keeps_times(container) and stream.time_base:
            # By the track's own times: Matroska would else wait for a key frame of the picture, which nobody reads.
            container.seek(int((zero_s + start_s - PREROLL_S) / stream.time_base), stream=stream)
        parts: list[np.ndarray] = []
        kept = 0
        position: int | None = None  # of the next sample, counted from `zero_s`
        for block in _blocks(container, stream):
            rate = block.sample_rate_hz
            if position is None:
                position = 0
                if start_s is not None and block.begin_s is not None:
                    position = round((block.begin_s - zero_s) * rate)
            first = 0 if start_s is None else max(0, round(start_s * rate) - position)
            last = len(block.samples)
            if end_s is not None:
                last = min(last, round(end_s * rate) - position)
            position += len(block.samples)
            if first < last:
                parts.append(block.samples[first:last])
                kept += last - first
            if kept > max_duration_s * rate:
                raise _too_long(kept / rate, max_duration_s, at_least=True)
            if end_s is not None and position >= round(end_s * rate):
                break
    if not parts:
        if start_s is not None and position is not None:
            raise ClipRejected(
                "truncated",
                f"the clip begins at {start_s:g} s, the sound track ends at {position / rate:.3f} s",
            )
        if promised_s is not None and promised_s > TOLERANCE_S:
            raise ClipRejected("truncated", f"nothing of {promised_s:.3f} s could be decoded")
        raise ClipRejected("empty", "the sound track has no samples")
    if end_s is not None:
        promised_s = end_s - (start_s or 0.0)
    elif promised_s is not None and start_s is not None:
        promised_s -= start_s
    if promised_s is not None:
        check_length(kept, rate, promised_s)
    return np.concatenate(parts), rate


def _too_long(seconds: float, limit_s: float, at_least: bool = False) -> ClipRejected:
    return ClipRejected(
        "too_long",
        f"{'at least ' if at_least else ''}{seconds:.1f} s, at most {limit_s:g} s (datasets.<id>.max_duration_s)",
    )
