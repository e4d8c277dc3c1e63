"""Tiny datasets in their real layouts with synthetic audio, packed in the archive formats that publishers use.

A builder `build_<kind>(folder)` writes the unpacked tree below `folder/tree` and its archives, under their real
names, into `folder/served`, so that a loopback server can stand in for the publisher's.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

# The time that archives give for everything in them: two builds of one tree are the same to the byte.
PACKED = (2020, 10, 2, 0, 0, 0)
PACKED_S = 1_601_596_800


@dataclass(frozen=True)
class Tree:
    """A tiny dataset and what a scan of it must find.

    root: the unpacked tree, what `path` in the config would point at.
    served: folder of the archives, named as the publisher names them.
    overrides: for each served file the `checksum` (`sha256:<hex>`) and `size_bytes` that stand in for the
        published ones; empty where nobody can download it without an account.
    clips: how many clips a scan lists.
    labels: labels that occur.
    options: options of the dataset kind.
    """

    kind: str
    root: Path
    served: Path
    overrides: dict[str, dict[str, Any]]
    clips: int
    labels: set[str]
    options: dict[str, Any] = field(default_factory=dict)


def tone(seed: int, seconds: float = 0.5, rate: int = 16_000) -> np.ndarray:
    """A noisy tone of its own for each seed: float64 [round(seconds * rate)], peak below 0.5."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 100 * 2 ** generator.uniform(0, 5)
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * generator.uniform(1, 8) * time)
    samples = 0.3 * envelope * np.sin(2 * np.pi * pitch * time) + 0.02 * generator.normal(size=len(time))
    return np.clip(samples, -0.5, 0.5)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> None:
    """Write ``samples`` ([N] or [N, channels]) as wav; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype, format="WAV")


def write_text(path: Path, text: str) -> None:
    """Write a metadata file; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")


def zip_folder(folder: Path, archive: Path, *, top: str = "", comment: str = "") -> None:
    """Zip what ``folder`` holds, folders' own entries included.

    top: leading folder of every member (GitHub's archives have `<repository>-<branch>`); none by default.
    comment: the archive's comment (GitHub writes the commit's hash there).
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.comment = comment.encode()
        for path, name in _members(folder, top):
            _add(packed, path, name, zipfile.ZIP_DEFLATED)


def tar_folder(folder: Path, archive: Path, *, top: str = "") -> None:
    """Pack what ``folder`` holds as tar; gzipped, bzipped or plain by the archive's name."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    form = {".bz2": "bz2", ".xz": "xz"}.get(archive.suffix, "")
    with ExitStack() as stack:
        if archive.suffix in (".gz", ".tgz"):
            raw = stack.enter_context(archive.open("wb"))
            # The name and the time in gzip's header, and those of the members, would make two builds differ.
            stream = stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=PACKED_S))
            packed = stack.enter_context(tarfile.open(fileobj=stream, mode="w"))
        else:
            packed = stack.enter_context(tarfile.open(archive, f"w:{form}"))  # type: ignore[call-overload]
        for path, name in _members(folder, top):
            packed.add(path, name, recursive=False, filter=_dated)


def split_zip(folder: Path, archive: Path, parts: int = 2, *, top: str = "") -> list[Path]:
    """Zip what ``folder`` holds in ``parts`` files, `x.z01` … `x.zip`, and return them in their order.

    As `zip -s` makes it (APPNOTE.TXT 4.4 and 8.5): a signature first; headers are never cut, data is; each entry
    of the central directory names its part and its offset within that part.
    """
    # Stored, not deflated: parts of a few clips stay large enough to be cut.
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as packed:
        for path, name in _members(folder, top):
            _add(packed, path, name, zipfile.ZIP_STORED)
    infos = packed.infolist()
    content = b"PK\x07\x08" + plain.getvalue()
    directory = packed.start_dir + 4
    bodies = []  # where a member's data lies, and so where a cut may fall
    for info in infos:
        start = info.header_offset + 4
        name_length, extra_length = struct.unpack_from("<HH", content, start + 26)
        bodies.append((start + 30 + name_length + extra_length, info.compress_size))
    cuts = [0]
    for number in range(1, parts):
        target = number * directory // parts
        inside = [(begin, size) for begin, size in bodies if begin > cuts[-1] and size > 1]
        begin, size = min(inside, key=lambda body: abs(body[0] + body[1] // 2 - target))
        cuts.append(begin + size // 2)
    last = len(cuts) - 1

    rewritten = bytearray(content[directory:])
    at = 0
    for info in infos:
        start = info.header_offset + 4
        disk = max(number for number, cut in enumerate(cuts) if cut <= start)
        struct.pack_into("<H", rewritten, at + 34, disk)
        struct.pack_into("<I", rewritten, at + 42, start - cuts[disk])
        at += 46 + sum(struct.unpack_from("<HHH", rewritten, at + 28))
    struct.pack_into(
        "<HHHHII", rewritten, at + 4, last, last, len(infos), len(infos), at, directory - cuts[-1]
    )

    archive.parent.mkdir(parents=True, exist_ok=True)
    whole = content[:directory] + bytes(rewritten)
    written = []
    for number, (begin, end) in enumerate(zip(cuts, [*cuts[1:], len(whole)], strict=True)):
        path = archive if number == last else archive.with_suffix(f".z{number + 1:02d}")
        path.write_bytes(whole[begin:end])
        written.append(path)
    return written


def checksum_overrides(served: Path) -> dict[str, dict[str, Any]]:
    """`checksum` and `size_bytes` of every file in ``served``, by name."""
    return {
        path.name: {
            "checksum": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
            "size_bytes": path.stat().st_size,
        }
        for path in sorted(served.iterdir())
        if path.is_file()
    }


def _add(packed: zipfile.ZipFile, path: Path, name: str, method: int) -> None:
    info = zipfile.ZipInfo.from_file(path, name)
    info.date_time, info.compress_type = PACKED, method
    packed.writestr(info, b"" if path.is_dir() else path.read_bytes())


def _dated(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = PACKED_S
    return member


def _members(folder: Path, top: str) -> Iterator[tuple[Path, str]]:
    """What an archive of ``folder`` holds: files and folders with their names in it, in order."""
    if top:
        yield folder, top
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        yield path, f"{top}/{name}" if top else name
