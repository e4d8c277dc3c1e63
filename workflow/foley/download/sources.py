"""What a dataset is downloaded as: files with sizes and checksums, and where they are unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    size_bytes: None where it isn't known; then the server's word counts.
    checksum: `md5:<hex>` or `sha256:<hex>` as its publisher gives it; None where there is none, so that only the
        size is checked.
    filename: where the URL's path does not end in it, or a mirror calls it otherwise.
    """

    url: str
    size_bytes: int | None
    checksum: str | None = None
    filename: str | None = None

    @property
    def name(self) -> str:
        """File name under which it is kept: the last part of the URL's path."""
        return self.filename or self.url.partition("?")[0].rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """One archive (or plain file) of a dataset.

    name: id, unique among all that share a folder; becomes a part of a path.
    files: one file, or the parts of a split zip in order.
    into: folder below the dataset's root that it is unpacked into (or that a plain file is put into).
    strip: leading folders of the archive's paths to leave out, as in `tar --strip-components`.
    unpacked_bytes: size once unpacked, for the check of free space; an estimate where the publisher gives none.
    """

    name: str
    files: tuple[RemoteFile, ...]
    into: str = "."
    strip: int = 0
    unpacked_bytes: int | None = None

    @property
    def size_bytes(self) -> int | None:
        """Of all files together; None where one of them isn't known."""
        sizes = [file.size_bytes for file in self.files if file.size_bytes is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


@dataclass(frozen=True)
class HubSource:
    """A dataset repository of the Hugging Face hub at a pinned revision (a commit hash of 40 digits).

    patterns: which of its files, as glob patterns.
    """

    name: str
    repo: str
    revision: str
    patterns: tuple[str, ...] = ("*.parquet", "**/*.parquet")
    into: str = "."
    size_bytes: int | None = None


AnySource: TypeAlias = Source | HubSource
