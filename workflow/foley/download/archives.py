"""Unpacking of archives that others made: nothing leaves its folder, nothing grows without bounds.

Every reader here hands its members to one `_Sink`, which is the only place that writes.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import stat
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from foley.download.disk import need_space, readable
from foley.download.errors import BadArchive, DownloadError
from foley.download.joined import join

_BLOCK_BYTES = 1 << 20
_LONGEST_LINK = 4096
_LONGEST_HEADER = 1 << 20  # of a tar's long names and PAX records, which are read into memory
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
# What macOS leaves in archives: folders' looks and resource forks.
_LITTER = re.compile(r"__MACOSX|\.DS_Store|\._.*")
_ZIP_METHODS = {0: "stored", 8: "deflate", 12: "bzip2", 14: "lzma"}
_RAR_TOOLS = "`unrar`, `unar`, `bsdtar` (package libarchive-tools) or `7z` (packages 7zip or p7zip-full)"


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold; more is taken for a bomb.

    total_bytes: of all members once unpacked, counted while they are written.
    members: files, folders and links.
    """

    total_bytes: int
    members: int = 2_000_000

    @classmethod
    def of(cls, archive_bytes: int, unpacked_bytes: int | None) -> Limits:
        """Three times the size that is known; else what no archive of audio or video comes near."""
        if unpacked_bytes is not None:
            return cls(3 * unpacked_bytes + (1 << 20))
        return cls(min(100 * archive_bytes + (1 << 24), 1 << 42))


@dataclass
class Unpacked:
    """What an archive held: (path below the folder, bytes) of every file; -1 bytes for a symbolic link."""

    files: list[tuple[str, int]] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        return sum(max(size, 0) for _, size in self.files)


def archive_kind(name: str) -> str | None:
    """`zip`, `tar` or `rar` by a file's name; None for a plain file."""
    name = re.sub(r"\.\d{3}$", "", name.lower())  # pieces of one file: x.zip.001
    if name.endswith(".zip"):
        return "zip"
    if name.endswith(_TAR_SUFFIXES):
        return "tar"
    return "rar" if name.endswith(".rar") else None


def unpack(
    parts: Sequence[Path],
    folder: Path,
    *,
    limits: Limits,
    strip: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> Unpacked:
    """Unpack an archive below ``folder``, which must be empty.

    Regular files keep their bytes and times, not their owners and modes; links stay if they point inside.

    Args:
        parts: the archive, or the parts of a split one in order.
        strip: leading folders to leave out of the members' paths.
        progress: told the number of bytes after each write.

    Raises:
        BadArchive: damaged, cut off, encrypted, of a kind that cannot be read here, a bomb, or with a member that
            would leave the folder; names the archive and the member.
        DownloadError: the disk is full.
    """
    archive = parts[-1]
    kind = archive_kind(archive.name)
    readers = {"zip": _read_zip, "tar": _read_tar, "rar": _read_rar}
    if kind is None or (len(parts) > 1 and kind == "rar"):
        raise BadArchive(f"{archive}: not a kind of archive that is understood (zip, split zip, tar, rar)")
    folder.mkdir(parents=True, exist_ok=True)
    sink = _Sink(folder, archive.name, strip, limits, progress)
    try:
        readers[kind](parts, sink)
        sink.finish()
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"the disk of {folder} is full; make room and start again") from None
        raise BadArchive(
            f"{archive}: {sink.member!r} cannot be unpacked: {error.strerror or error}"
        ) from error
    if not sink.unpacked.files:
        hint = f"; fewer than {strip} leading folders (`strip`) may be right" if strip else ""
        raise BadArchive(f"{archive} holds no files{hint}")
    return sink.unpacked


def safe_parts(name: str) -> list[str]:
    """The folders and the file of a member's path.

    Raises:
        ValueError: it is absolute, has a drive letter, or climbs with `..`.
    """
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        raise ValueError("an absolute path")
    if "\0" in plain:
        raise ValueError("a path with a zero byte")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("a path that leaves its folder")
    return parts


class _Sink:
    """The folder that members are written to, and what bounds them."""

    def __init__(
        self, folder: Path, archive: str, strip: int, limits: Limits, progress: Callable[[int], None]
    ) -> None:
        self.folder, self.archive, self.strip, self.limits = folder, archive, strip, limits
        self.progress = progress
        self.unpacked = Unpacked()
        self.member = ""  # the one under way, for messages
        self._sizes: dict[str, int] = {}
        self._links: dict[str, tuple[str, str]] = {}
        self._members = 0
        self._written = 0

    def refuse(self, why: str) -> BadArchive:
        return BadArchive(f"{self.archive}: member {self.member!r} {why}; nothing of the archive was kept")

    def place(self, name: str) -> str | None:
        """Where a member goes, below the folder; None for one that is left out."""
        self.member = name
        self._members += 1
        if self._members > self.limits.members:
            raise BadArchive(
                f"{self.archive} holds more than {self.limits.members:,} members: taken for a bomb, nothing was kept"
            )
        try:
            parts = safe_parts(name)
        except ValueError as error:
            raise self.refuse(f"has {error}") from None
        if any(_LITTER.fullmatch(part) for part in parts):
            return None
        return "/".join(parts[self.strip :]) or None

    def count(self, size: int) -> None:
        """Account for bytes that came out of the archive."""
        self._written += size
        if self._written > self.limits.total_bytes:
            raise BadArchive(
                f"{self.archive} unpacks to more than {readable(self.limits.total_bytes)}, at member "
                f"{self.member!r}: taken for a bomb, nothing was kept"
            )

    def add_folder(self, name: str) -> None:
        where = self.place(name)
        if where is not None:
            self._make_folder(self.folder / where)

    def add_file(self, name: str, read: Callable[[int], bytes], mtime: float | None) -> None:
        where = self.place(name)
        if where is None:
            while block := read(_BLOCK_BYTES):
                self.count(len(block))
            return
        path = self._clear(where)
        size = 0
        with open(path, "xb") as out:
            while block := read(_BLOCK_BYTES):
                self.count(len(block))
                out.write(block)
                size += len(block)
                self.progress(len(block))
        if mtime is not None and 0 <= mtime < 1 << 33:
            os.utime(path, (mtime, mtime))
        self._sizes[where] = size

    def add_hard_link(self, name: str, target: str) -> None:
        """Another name of a file that came before (`target` as the archive spells it)."""
        where = self.place(name)
        if where is None:
            return
        try:
            source = "/".join(safe_parts(target)[self.strip :])
        except ValueError as error:
            raise self.refuse(f"is a link to {target!r}, {error}") from None
        if source not in self._sizes:
            raise self.refuse(f"is a link to {target!r}, which is no file of the archive before it")
        path = self._clear(where)
        os.link(self.folder / source, path)
        self._sizes[where] = self._sizes[source]

    def add_symlink(self, name: str, target: str) -> None:
        """Links are made when all files lie, so that nothing is ever written through one."""
        where = self.place(name)
        if where is None:
            return
        try:
            if target.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", target):
                raise ValueError
            # `a/link -> ../b` stays inside; what it reaches through other links is checked at the end.
            depth = [*where.split("/")[:-1]]
            for step in target.replace("\\", "/").split("/"):
                if step == "..":
                    depth.pop()
                elif step not in ("", "."):
                    depth.append(step)
        except (ValueError, IndexError):
            raise self.refuse(f"is a link to {target!r}, outside of its folder") from None
        self._clear(where)
        self._sizes.pop(where, None)
        self._links[where] = (name, target)

    def finish(self) -> None:
        for where, (name, target) in self._links.items():
            self.member = name
            path = self.folder / where
            if path.is_symlink() or path.exists():
                raise self.refuse("is there twice, as a link and as something else")
            self._make_folder(path.parent)
            os.symlink(target, path)
        top = os.path.realpath(self.folder)
        for where, (name, target) in self._links.items():
            self.member = name
            reached = os.path.realpath(self.folder / where)
            if reached != top and not reached.startswith(top + os.sep):
                raise self.refuse(f"is a link to {target!r}, outside of its folder")
        self.unpacked.files = sorted(
            [*self._sizes.items(), *((where, -1) for where in self._links)],
        )

    def _clear(self, where: str) -> Path:
        """The path for a new file; an earlier member of that name gives way, as in tar."""
        path = self.folder / where
        self._make_folder(path.parent)
        if path.is_dir():
            raise self.refuse("is there twice, as a folder and as a file")
        path.unlink(missing_ok=True)
        self._links.pop(where, None)
        return path

    def _make_folder(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refuse("is there twice, as a folder and as a file") from None


# zip


def _read_zip(parts: Sequence[Path], sink: _Sink) -> None:
    archive = parts[-1]
    with join(parts) as file:
        try:
            opened = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
            raise BadArchive(
                f"{archive} is no whole zip archive ({error}): it is cut off, or something else; {_beginning(parts[0])}"
            ) from None
        with opened:
            members = opened.infolist()
            for info in members:
                sink.member = info.filename
                if info.flag_bits & 0x1:
                    raise sink.refuse(
                        "is encrypted: unpack it by hand and point the dataset's `path` at the folder"
                    )
                if info.compress_type not in _ZIP_METHODS:
                    raise sink.refuse(
                        f"is packed with method {info.compress_type}, which Python does not read: unpack it by hand "
                        "(7z does) and point the dataset's `path` at the folder"
                    )
            need_space({sink.folder: sum(info.file_size for info in members)}, f"unpacking {archive.name}")
            for info in members:
                _add_zip_member(opened, info, sink)


def _add_zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, sink: _Sink) -> None:
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    kind = stat.S_IFMT(mode)
    sink.member = info.filename
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        raise sink.refuse("is a device, a pipe or a socket")
    if info.is_dir() or kind == stat.S_IFDIR:
        sink.add_folder(info.filename)
        return
    try:
        with opened.open(info) as stream:
            if kind == stat.S_IFLNK:
                sink.add_symlink(info.filename, os.fsdecode(stream.read(_LONGEST_LINK)))
            else:
                sink.add_file(info.filename, stream.read, _zip_time(info))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, ValueError) as error:
        raise sink.refuse(f"is damaged or cut off ({error or type(error).__name__})") from None
    except (NotImplementedError, RuntimeError) as error:
        raise sink.refuse(f"cannot be read here ({error})") from None


def _zip_time(info: zipfile.ZipInfo) -> float | None:
    at = 0
    while at + 9 <= len(info.extra):  # Info-ZIP's extended time stamp: seconds since 1970
        tag, length = struct.unpack_from("<HH", info.extra, at)
        if tag == 0x5455 and length >= 5 and info.extra[at + 4] & 1:
            return float(struct.unpack_from("<l", info.extra, at + 5)[0])
        at += 4 + length
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (OverflowError, ValueError):
        return None


# tar


class _Member(tarfile.TarInfo):
    """A tar header that does not fill the memory, and says why the last one was none."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        long = (*tarfile.GNU_TYPES[:2], tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if member.type in long and member.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {readable(member.size)}, taken for a bomb")
        return member

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            # tarfile takes a damaged header for the end of the archive.
            tar.ended_by = error  # type: ignore[attr-defined]
            raise


class _Stream(io.RawIOBase):
    """The unpacked bytes of a tar, bounded; whatever its decompressor raises becomes a BadArchive."""

    def __init__(self, inner: IO[bytes], sink: _Sink, archive: Path) -> None:
        self._inner, self._sink, self._archive, self._count = inner, sink, archive, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            block = self._inner.read(_BLOCK_BYTES if size < 0 else size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise BadArchive(f"{self._archive} is damaged or cut off: {error}") from None
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            raise BadArchive(f"{self._archive} is damaged or cut off: {error}") from None
        self._count += len(block)
        # Headers and padding come on top of the members' bytes, which the sink counts.
        limits = self._sink.limits
        if self._count > limits.total_bytes + 2048 * limits.members:
            raise BadArchive(f"{self._archive} unpacks to far more than expected: taken for a bomb")
        return block


def _decompressed(file: IO[bytes], archive: Path) -> IO[bytes]:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(file)  # type: ignore[return-value]
    if magic.startswith(b"BZh"):
        return bz2.open(file)  # type: ignore[return-value]
    if magic.startswith(b"\xfd7zXZ\0"):
        return lzma.open(file)  # type: ignore[return-value]
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(file, archive)
    return file


def _zstd(file: IO[bytes], archive: Path) -> IO[bytes]:
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14

        return zstd.open(file)
    except ImportError:
        pass
    try:
        import zstandard  # type: ignore[import-not-found]
    except ImportError:
        raise BadArchive(f"{archive} is packed with zstd: `pip install zstandard` and start again") from None
    return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)


def _read_tar(parts: Sequence[Path], sink: _Sink) -> None:
    archive = parts[-1]
    with join(parts) as file, _Stream(_decompressed(file, archive), sink, archive) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
                while (member := tar.next()) is not None:
                    _add_tar_member(tar, member, sink)
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header
                ended_by = getattr(tar, "ended_by", None)
        except tarfile.TarError as error:
            raise BadArchive(
                f"{archive} is damaged or cut off at member {sink.member!r}: {error}; {_beginning(parts[0])}"
            ) from None
        if not isinstance(ended_by, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise BadArchive(f"{archive} is damaged or cut off after member {sink.member!r}: {ended_by}")
        while stream.read():  # the rest holds the decompressor's checksum
            pass


def _add_tar_member(tar: tarfile.TarFile, member: tarfile.TarInfo, sink: _Sink) -> None:
    sink.member = member.name
    if member.isdir():
        sink.add_folder(member.name)
    elif member.issym():
        sink.add_symlink(member.name, member.linkname)
    elif member.islnk():
        sink.add_hard_link(member.name, member.linkname)
    elif member.isreg():
        stream = tar.extractfile(member)
        assert stream is not None
        with stream:
            sink.add_file(member.name, stream.read, member.mtime)
    else:
        raise sink.refuse("is a device, a pipe or of an unknown type")


# rar


def _read_rar(parts: Sequence[Path], sink: _Sink) -> None:
    import rarfile

    archive = parts[-1]
    blocks: list[Any] = []
    try:
        with rarfile.RarFile(archive, info_callback=blocks.append, errors="strict") as opened:
            _check_rar(opened, blocks, archive, sink)
            if opened.is_solid() and any(_needs_tool(info) for info in opened.infolist()):
                _stream_rar(opened, archive, sink)
            else:
                for info in opened.infolist():
                    _add_rar_member(opened, info, sink)
    except rarfile.RarCannotExec:
        raise BadArchive(
            f"{archive} is a RAR archive, which needs a program to unpack: install {_RAR_TOOLS} and start again"
        ) from None
    except rarfile.NotRarFile:
        raise BadArchive(f"{archive} is no RAR archive; {_beginning(archive)}") from None
    except rarfile.Error as error:
        at = f" at member {sink.member!r}" if sink.member else ""
        raise BadArchive(f"{archive} is damaged or cut off{at}: {error or type(error).__name__}") from None


def _needs_tool(info: Any) -> bool:
    import rarfile

    return not info.is_dir() and not info.is_symlink() and info.compress_type != rarfile.RAR_M0


def _check_rar(opened: Any, blocks: list[Any], archive: Path, sink: _Sink) -> None:
    import rarfile

    encrypted = "is encrypted: unpack it by hand and point the dataset's `path` at the folder"
    if opened.needs_password() and not opened.infolist():
        raise BadArchive(f"{archive} {encrypted}")
    for info in opened.infolist():
        sink.member = info.filename
        if info.needs_password():
            raise sink.refuse(encrypted)
    # RAR 1.5 to 2.x write no end mark.
    old = all((info.extract_version or 0) < 29 for info in opened.infolist())
    if not blocks or (blocks[-1].type != rarfile.RAR_BLOCK_ENDARC and not old):
        raise BadArchive(f"{archive} is cut off: its end mark is missing")
    if any(_needs_tool(info) for info in opened.infolist()):
        rarfile.tool_setup(force=True)
    need_space({sink.folder: sum(info.file_size for info in opened.infolist())}, f"unpacking {archive.name}")


def _rar_time(info: Any) -> float | None:
    if info.mtime is not None:
        return float(info.mtime.timestamp())
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (OverflowError, ValueError, TypeError):
        return None


def _add_rar_member(opened: Any, info: Any, sink: _Sink) -> None:
    sink.member = info.filename
    if info.is_dir():
        sink.add_folder(info.filename)
    elif info.is_symlink():
        with opened.open(info) as stream:
            sink.add_symlink(info.filename, os.fsdecode(stream.read(_LONGEST_LINK)))
    else:
        with opened.open(info) as stream:
            sink.add_file(info.filename, stream.read, _rar_time(info))


def _stream_rar(opened: Any, archive: Path, sink: _Sink) -> None:
    """All members of a solid archive through one process.

    Each member of such an archive needs all those before it: one process a member would take days for thousands.
    """
    import rarfile

    members = [info for info in opened.infolist() if not info.is_dir()]
    if any(info.is_symlink() or info.file_redir for info in members):
        for info in opened.infolist():
            _add_rar_member(opened, info, sink)
        return
    for info in opened.infolist():
        if info.is_dir():
            sink.add_folder(info.filename)
    command = rarfile.tool_setup().open_cmdline(None, str(archive))
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as tool:
        assert tool.stdout is not None
        try:
            for info in members:
                sink.member = info.filename
                part = _Part(tool.stdout, info.file_size)
                sink.add_file(info.filename, part.read, _rar_time(info))
                if part.left or (info.CRC is not None and part.crc != info.CRC):
                    raise sink.refuse(
                        f"is damaged or cut off ({command[0]} gave other bytes than its checksum says)"
                    )
        finally:
            tool.kill()


class _Part:
    """The next bytes of a stream, with their CRC-32."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self.left, self.crc = stream, size, 0

    def read(self, size: int) -> bytes:
        block = self._stream.read(min(size, self.left))
        self.left -= len(block)
        self.crc = zlib.crc32(block, self.crc)
        return block


def _beginning(path: Path) -> str:
    """What a file begins with, for the message about one that is none of its kind (often a page of HTML)."""
    with path.open("rb") as file:
        return f"it begins with {file.read(24)!r}"
