"""What a file is by its first bytes, and whether all of it is there.

Decoders read a file that was cut off as a shorter one. Here the lengths that containers promise are held against the
size of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

HEAD_BYTES = 64
# Nobody looks further: a hostile file may hold millions of empty chunks.
MOST_CHUNKS = 10_000
# How much less than promised still counts as whole: frames before the first sound, and the last, incomplete one.
TOLERANCE_S, TOLERANCE_SAMPLES = 0.2, 4096
# Streams write 0 or all ones for a length that they could not know.
_UNKNOWN_32, _UNKNOWN_64 = (0, 0xFFFFFFFF), (0, 0xFFFFFFFFFFFFFFFF)
# Sony Wave64 names its chunks by GUIDs that begin with the four letters of their RIFF counterparts.
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_EBML = b"\x1a\x45\xdf\xa3"
# The largest page of Ogg: header, 255 segment sizes, 255 segments of 255 bytes (RFC 3533).
_OGG_PAGE = 27 + 255 + 255 * 255
# Types of boxes that may open an ISO base media file (MP4, QuickTime, 3GP).
_ISO_FIRST = frozenset([b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot"])
_ISO_BOXES = _ISO_FIRST | {b"moof", b"sidx", b"mfra", b"meta", b"uuid", b"udta"}


class ClipRejected(ValueError):
    """A single clip is of no use; ``reason`` is a short word, ``detail`` what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Chunk(NamedTuple):
    """A chunk of a RIFF-like file: its name, where its content begins and how long it says it is."""

    name: bytes
    at: int
    size: int


def is_media_container(head: bytes) -> bool:
    """Whether a file with these first bytes is one that libsndfile can't read and that may hold video."""
    return (
        (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head[4:8] in _ISO_FIRST
        or head[:4] in (_EBML, b"FLV\x01", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
        or head[:8] == _ASF
    )


def is_flac_or_mpeg(file: BinaryIO) -> bool:
    """Whether it is FLAC or MPEG audio of layers I to III, where what libsndfile refuses is damaged.

    AAC's frames begin alike, but with layer 0. A tag may stand before any of them.
    """
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:  # its size comes in seven bits a byte
        file.seek(10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]))
        head = file.read(4)
    is_mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0
    return head[:4] == b"fLaC" or is_mpeg


def chunks(file: BinaryIO, size: int, order: str, start: int = 12) -> Iterator[Chunk]:
    """The chunks of a RIFF (``order`` "<") or IFF (">") file; the last may reach beyond its end."""
    position = start
    for _ in range(MOST_CHUNKS):
        if position + 8 > size:
            return
        file.seek(position)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        yield Chunk(name, position + 8, length)
        position += 8 + length + (length & 1)


def check_complete(file: BinaryIO, size: int) -> None:
    """Refuse a file of ``size`` bytes whose container promises more than is there.

    Raises:
        ClipRejected: truncated.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head[:4] in (b"RIFF", b"RIFX", b"FORM", b"RF64"):
        _check_chunks(file, size, head)
    elif head[:16] == _W64_RIFF:
        _check_w64(file, size)
    elif head[:4] in (b".snd", b"dns."):
        offset, promised = struct.unpack_from(
            ">II" if head[:4] == b".snd" else "<II", head.ljust(12, b"\0"), 4
        )
        if promised not in _UNKNOWN_32:
            _refuse_shorter(promised, size - offset)
    elif head[:4] == b"caff":
        _check_caf(file, size)
    elif head[:4] == b"OggS":
        _check_ogg(file, size)
    elif head[:4] == b"FLV\x01":
        _check_flv(file, size)
    elif head[:8] == _ASF:
        _check_asf(file, size)
    elif head[:1] == b"\xff" and len(head) > 6 and head[1] & 0xF6 == 0xF0:
        _check_adts(file, size)
    elif head[:4] == _EBML:
        _check_matroska(file, size)
    elif head[4:8] in _ISO_FIRST:
        _check_iso(file, size)


def _refuse_shorter(promised: int, there: int, what: str = "samples") -> None:
    if promised > there:
        raise ClipRejected(
            "truncated", f"the header promises {promised} bytes of {what}, {max(there, 0)} are there"
        )


def _check_chunks(file: BinaryIO, size: int, head: bytes) -> None:
    real_size = None  # of the samples of an RF64 file, whose own chunk has no room for it
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        for chunk in chunks(file, size, "<", start=0):
            if chunk.size not in _UNKNOWN_32:
                _refuse_shorter(chunk.size, size - chunk.at, "a RIFF chunk")
        return
    for chunk in chunks(file, size, "<" if head[:4] in (b"RIFF", b"RF64") else ">"):
        if chunk.name == b"ds64" and chunk.size >= 16 and chunk.at + 16 <= size:
            file.seek(chunk.at + 8)
            (real_size,) = struct.unpack("<Q", file.read(8))
        elif chunk.name in (b"data", b"SSND", b"BODY"):
            if chunk.size == 0xFFFFFFFF and real_size is not None:
                if real_size not in _UNKNOWN_64:
                    _refuse_shorter(real_size, size - chunk.at)
                return
            if chunk.size not in _UNKNOWN_32:
                _refuse_shorter(chunk.size, size - chunk.at)


def _check_w64(file: BinaryIO, size: int) -> None:
    position = 40
    while position + 24 <= size:
        file.seek(position)
        name, length = struct.unpack("<16sQ", file.read(24))
        if name == _W64_DATA and length not in _UNKNOWN_64:
            _refuse_shorter(length - 24, size - position - 24)
        if length < 24:  # a chunk holds its own header; anything else would lead in a circle
            return
        position += (length + 7) // 8 * 8


def _check_caf(file: BinaryIO, size: int) -> None:
    position = 8
    while position + 12 <= size:
        file.seek(position)
        name, length = struct.unpack(">4sq", file.read(12))
        if length < 0:  # to the end of the file
            return
        if name == b"data":
            _refuse_shorter(length, size - position - 12)
        position += 12 + length


def _check_ogg(file: BinaryIO, size: int) -> None:
    start = max(0, size - _OGG_PAGE)
    file.seek(start)
    tail = file.read()
    last = tail.rfind(b"OggS")
    if last < 0 or last + 27 > len(tail) or not tail[last + 5] & 4:
        raise ClipRejected("truncated", "the Ogg stream has no last page")
    sizes = tail[last + 27 : last + 27 + tail[last + 26]]
    if last + 27 + tail[last + 26] + sum(sizes) > len(tail):
        raise ClipRejected("truncated", "the last page of the Ogg stream is cut off")


def _check_flv(file: BinaryIO, size: int) -> None:
    """Each tag is followed by its size, so the last four bytes must lead back to a tag of that size."""
    if size < 13 + 4:
        raise ClipRejected("truncated", "the Flash video has no tags")
    file.seek(size - 4)
    (length,) = struct.unpack(">I", file.read(4))
    header = b""
    if 11 <= length <= size - 13:
        file.seek(size - 4 - length)
        header = file.read(4)
    if len(header) < 4 or int.from_bytes(header[1:4], "big") + 11 != length:
        raise ClipRejected("truncated", "the last tag of the Flash video is cut off")


def _check_asf(file: BinaryIO, size: int) -> None:
    position = 0
    while position + 24 <= size:
        file.seek(position + 16)
        (length,) = struct.unpack("<Q", file.read(8))
        if length < 24:  # a broadcast, whose length nobody knew
            return
        _refuse_shorter(length, size - position, "an ASF object")
        position += length


def _check_adts(file: BinaryIO, size: int) -> None:
    """AAC in bare frames promises no length, but its last frame must be whole."""
    position = 0
    while position + 7 <= size:
        file.seek(position)
        header = file.read(7)
        length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        if header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or length < 7:  # a tag, or something else
            return
        _refuse_shorter(length, size - position, "a frame")
        position += length
    if position < size:
        raise ClipRejected("truncated", "the last frame of the AAC stream is cut off")


def _variable_length(data: bytes, *, keep_marker: bool) -> tuple[int, int, bool]:
    """An EBML number at the beginning of ``data``: its value, its length in bytes, whether it means "unknown"."""
    first = data[0] if data else 0
    length = 9 - first.bit_length()
    if not 1 <= length <= 8 or length > len(data):
        return 0, 0, True
    value = int.from_bytes(data[:length], "big")
    without = value & ((1 << (7 * length)) - 1)
    return (value if keep_marker else without), length, without == (1 << (7 * length)) - 1


def _check_matroska(file: BinaryIO, size: int) -> None:
    position = 0
    while position < size:  # the EBML header, then the segment that holds everything
        file.seek(position)
        data = file.read(16)
        identity, id_length, bad = _variable_length(data[:4], keep_marker=True)
        if bad or not id_length:
            return
        length, size_length, unknown = _variable_length(data[id_length:], keep_marker=False)
        if unknown or not size_length:  # a live recording
            return
        position += id_length + size_length
        if identity == 0x18538067:
            _refuse_shorter(length, size - position, "a segment")
            return
        position += length


def _check_iso(file: BinaryIO, size: int) -> None:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length, name = struct.unpack_from(">I4s", header)
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
        if length == 0:  # to the end of the file
            return
        if length < 8 or name not in _ISO_BOXES:  # something else was put behind the file
            return
        _refuse_shorter(length, size - position, f"a box {name.decode('latin-1')!r}")
        position += length


def check_length(samples: int, rate: int, promised_s: float) -> None:
    """Refuse a clip that is shorter than promised by more than a codec's frames explain.

    Raises:
        ClipRejected: truncated.
    """
    lacking = promised_s * rate - samples
    if lacking > max(TOLERANCE_S * rate, TOLERANCE_SAMPLES):
        raise ClipRejected("truncated", f"{samples / rate:.3f} s of {promised_s:.3f} s could be decoded")
