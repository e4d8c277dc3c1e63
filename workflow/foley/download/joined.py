"""Several files read as one, and split zip archives among them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foley.download.errors import BadArchive

# Records of the zip format: PKWARE's APPNOTE.TXT, 4.3.12 (central directory) to 4.3.16 (its end), 8.5 (splitting).
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_LONGEST_COMMENT = 0xFFFF


class JoinedFile(io.RawIOBase):
    """Pieces of files, or bytes in memory, one after the other; read-only and seekable."""

    def __init__(self, pieces: Sequence[tuple[Path | bytes, int]]) -> None:
        """Args: pieces: (file, how many of its first bytes), or (bytes, their number)."""
        self._pieces: list[tuple[int, int, Any]] = []
        self._handles: list[Any] = []
        start = 0
        for source, length in pieces:
            handle: Any = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb", buffering=0)
            self._handles.append(handle)
            self._pieces.append((start, start + length, handle))
            start += length
        self._size, self._position = start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        for start, end, handle in self._pieces:
            if start <= self._position < end:
                handle.seek(self._position - start)
                count = handle.readinto(view[: end - self._position])
                self._position += count
                return int(count)
        return 0

    def close(self) -> None:
        for handle in self._handles:
            handle.close()
        super().close()


def join(parts: Sequence[Path]) -> io.BufferedReader:
    """The parts as one file; those of a split zip as one whole zip.

    The parts of a split zip (`.z01`, `.z02`, …, `.zip`) count offsets from the start of each part. Here the zip's
    directory is rewritten in memory with offsets from the start of the first one, so that any reader of whole
    zips reads it, and no copy of the data is made. Plain pieces of one file (`.zip.001`, `.zip.002`, …) are joined
    as they are.

    Raises:
        BadArchive: parts are missing, or the last one has no zip directory.
    """
    pieces: list[tuple[Path | bytes, int]] = [(path, path.stat().st_size) for path in parts]
    if parts[-1].suffix.lower() == ".zip":
        pieces = _as_one_zip(list(parts), pieces)
    return io.BufferedReader(JoinedFile(pieces), buffer_size=1 << 18)


def _as_one_zip(parts: list[Path], pieces: list[tuple[Path | bytes, int]]) -> list[tuple[Path | bytes, int]]:
    starts = [0]
    for _, size in pieces:
        starts.append(starts[-1] + size)
    last = parts[-1]
    with io.BufferedReader(JoinedFile(pieces)) as whole:
        tail_start = max(starts[-2], starts[-1] - _END.size - _LONGEST_COMMENT)
        whole.seek(tail_start)
        tail = whole.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0 or at + _END.size > len(tail):
            raise BadArchive(
                f"{last} has no zip directory at its end: it is cut off, or no zip (it begins with {_first(parts)!r})"
            )
        _, disk, directory_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
        if len(parts) == 1 and disk in (0, _FULL16):
            return pieces
        where64 = tail_start + at - _END64_LOCATOR.size
        if where64 >= 0:
            whole.seek(where64)
            signature, disk64, offset64, disks = _END64_LOCATOR.unpack(whole.read(_END64_LOCATOR.size))
            if signature == b"PK\6\7":
                _need_parts(parts, disks, disk64)
                whole.seek(starts[disk64] + offset64)
                record = whole.read(_END64.size)
                if len(record) < _END64.size or record[:4] != b"PK\6\6":
                    raise BadArchive(f"{last}: its zip directory is damaged")
                disk, directory_disk, _, count, size, offset = _END64.unpack(record)[4:]
        _need_parts(parts, disk + 1, directory_disk)
        begin = starts[directory_disk] + offset
        whole.seek(begin)
        old = whole.read(size)
    new = _with_absolute_offsets(old, count, starts, last)
    kept: list[tuple[Path | bytes, int]] = []
    for (piece, length), start in zip(pieces, starts, strict=False):
        if start < begin:
            kept.append((piece, min(length, begin - start)))
    end64 = _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, len(new), begin)
    locator = _END64_LOCATOR.pack(b"PK\6\7", 0, begin + len(new), 1)
    end = _END.pack(b"PK\5\6", 0, 0, _FULL16, _FULL16, _FULL32, _FULL32, 0)
    rewritten = new + end64 + locator + end
    return [*kept, (rewritten, len(rewritten))]


def _need_parts(parts: list[Path], count: int, used: int) -> None:
    if count != len(parts) or used >= count:
        given = ", ".join(path.name for path in parts)
        raise BadArchive(f"{parts[-1]} is the last of {count} parts, but {len(parts)} are given: {given}")


def _first(parts: list[Path]) -> bytes:
    with parts[0].open("rb") as file:
        return file.read(24)


def _with_absolute_offsets(old: bytes, count: int, starts: list[int], last: Path) -> bytes:
    """A central directory whose entries count their offsets from the start of the whole, in ZIP64 fields."""
    new = bytearray()
    at = 0
    for _ in range(count):
        if at + _ENTRY.size > len(old) or old[at : at + 4] != b"PK\1\2":
            raise BadArchive(f"{last}: its zip directory is damaged or cut off")
        fields = list(_ENTRY.unpack_from(old, at))
        packed, plain, name_length, extra_length, comment_length, disk = fields[8:14]
        offset = fields[16]
        at += _ENTRY.size
        name = old[at : at + name_length]
        extra = old[at + name_length : at + name_length + extra_length]
        comment = old[at + name_length + extra_length : at + name_length + extra_length + comment_length]
        at += name_length + extra_length + comment_length
        others, wide = _split_extra(extra)
        # The ZIP64 field holds, in this order, what does not fit its own field.
        numbers = list(struct.unpack(f"<{len(wide) // 8}Q", wide[: len(wide) // 8 * 8]))
        sizes = []
        for value in (plain, packed):
            if value == _FULL32:
                if not numbers:
                    raise BadArchive(f"{last}: the size of {name!r} is missing in its zip directory")
                sizes.append(numbers.pop(0))
        if offset == _FULL32:
            if not numbers:
                raise BadArchive(f"{last}: the place of {name!r} is missing in its zip directory")
            offset = numbers.pop(0)
        if disk == _FULL16:
            disk = struct.unpack("<L", wide[-4:])[0] if len(wide) % 8 == 4 else disk
        if disk + 1 >= len(starts):
            raise BadArchive(f"{last}: {name!r} lies in part {disk + 1}, which is not given")
        sizes.append(starts[disk] + offset)
        field = struct.pack(f"<HH{len(sizes)}Q", 1, 8 * len(sizes), *sizes)
        fields[11], fields[13], fields[16] = len(others) + len(field), 0, _FULL32
        new += _ENTRY.pack(*fields) + name + others + field + comment
    return bytes(new)


def _split_extra(extra: bytes) -> tuple[bytes, bytes]:
    """The extra fields without the ZIP64 one, and the content of that."""
    others, wide, at = b"", b"", 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == 1:
            wide = extra[at + 4 : at + 4 + length]
        else:
            others += extra[at : at + 4 + length]
        at += 4 + length
    return others, wide
