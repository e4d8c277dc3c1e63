"""What a dataset kind tells Foley: how a raw tree becomes rows, and where it comes from."""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foley.download.sources import AnySource

# What counts as audio by its name when a folder is scanned; the content decides how it is decoded.
AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".wave",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
        ".w64",
        ".rf64",
        ".m4a",
        ".mp4",
        ".aac",
        ".wma",
    ]
)


VIDEO_SUFFIXES = frozenset([".avi", ".mp4", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".3gp", ".flv"])


@dataclass(frozen=True, slots=True)
class RawClip:
    """One raw clip and what its dataset says of it (see `foley.tables.clips.RAW_CLIPS`).

    `row` is set where a Parquet file holds many clips, `start_s` and `end_s` where the clip is a part of its file.
    """

    clip_id: str
    source: str
    label: str
    recording_id: str
    class_id: int | None = None
    labels: tuple[str, ...] | None = None
    split: str | None = None
    fold: int | None = None
    speaker_id: str | None = None
    row: int | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class RawClass:
    """A class that a dataset defines; `parents` are the classes right above it in its hierarchy."""

    class_id: int
    label: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoOptions:
    """For kinds without options."""


class DatasetKind(ABC):
    """A kind of dataset. A new one is a sub-class in a file of its own and one line in `registry.py`."""

    title: ClassVar[str]
    licence: ClassVar[str] = "unknown"
    citation: ClassVar[str] = ""
    url: ClassVar[str] = ""
    Options: ClassVar[type] = NoOptions
    # How to get what cannot be downloaded without a person: an account, a licence, a form.
    by_hand: ClassVar[str] = ""
    # Folder below the config's `data` that a download fills; kinds that share files share it. Default: the kind's id.
    storage: ClassVar[str | None] = None
    # File of published zero-shot splits in resources/splits/zero_shot/, without its suffix. Default: the kind's id.
    splits: ClassVar[str | None] = None
    # How many clips the publisher counts, for the card; None where there is no such number.
    published_clips: ClassVar[int | None] = None
    # Splits that official folds or parts make (`fold1` ..., or `official` for train and test parts); empty where clips
    # carry none, so that folds are drawn, and None where only the data tell.
    official_splits: ClassVar[tuple[str, ...] | None] = None
    # What the official folds or splits promise to keep apart: pairs of (audio, recording or speaker; fold or split).
    claims: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    # Whether a clip may have several labels.
    multi_label: ClassVar[bool] = False
    # Suffixes of the files that hold the clips.
    media: ClassVar[frozenset[str]] = AUDIO_SUFFIXES
    # Files beside them that say something of it (labels, folds), as glob patterns below the root.
    tables: ClassVar[tuple[str, ...]] = ()
    # Whether the raw tree is made by a rule (`generate`) instead of lying on disk.
    generated: ClassVar[bool] = False
    # Whether all that is told of a clip follows from its own file (class number aside), so that a shard's job needs no
    # look at the others: then there is `scan_files`.
    by_file: ClassVar[bool] = False

    def __init__(self, options: Any = None) -> None:
        self.options = options if options is not None else self.Options()

    def sources(self) -> tuple[AnySource, ...]:
        """What to download; empty where nothing can be."""
        return ()

    def check(self, root: Path) -> None:
        """Raise FileNotFoundError, naming what lacks and the remedy, when ``root`` is not such a dataset."""
        if not root.is_dir():
            raise FileNotFoundError(f"{self.title}: no folder at {root}")

    @abstractmethod
    def scan(self, root: Path) -> list[RawClip]:
        """All raw clips below ``root``, without opening audio."""

    def scan_files(self, root: Path, files: Sequence[str]) -> Iterator[RawClip]:
        """The clips in some of the files below ``root`` (kinds with ``by_file`` only), in the order of their ids.

        As `scan` lists them, but class numbers may be missing. ``files`` are names of audio, relative to ``root``.
        """
        raise TypeError(f"{self.title} lists its clips all at once")

    def classes(self, root: Path) -> list[RawClass] | None:
        """The classes that the dataset defines, or None to take those of its clips."""
        return None

    def read(
        self, root: Path, rows: Iterable[Mapping[str, Any]]
    ) -> Iterator[tuple[Mapping[str, Any], Path | bytes]]:
        """Each row of the manifest with its file, or with the bytes of one that lies inside a larger file."""
        for row in rows:
            yield row, root / row["source"]

    def generate(self, root: Path, progress: Any) -> None:
        """Write the raw tree below ``root`` (kinds with ``generated`` only)."""
        raise TypeError(f"{self.title} is not a generated dataset; it is read from its `path`")


def walk_files(root: Path, counts: Callable[[str], bool]) -> Iterator[tuple[str, os.stat_result]]:
    """Name below ``root`` (with `/`) and status of each file that ``counts``, by its name; hidden ones are left out.

    Links to folders are followed (``Path.rglob`` would pass them by), each folder once.
    """
    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in visited:  # a link back to a folder above
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        # Sorted, so that of two links to a folder it is always the same one that is followed.
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        for name in files:
            if name.startswith(".") or not counts(prefix + name):
                continue
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:  # a dangling link
                continue
            if stat.S_ISREG(status.st_mode):
                yield prefix + name, status


def has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    """Whether a file's name ends in one of ``suffixes``, in capitals or not."""
    return os.path.splitext(name)[1].lower() in suffixes


def audio_files(root: Path, suffixes: frozenset[str] = AUDIO_SUFFIXES) -> list[Path]:
    """Files below ``root`` with one of ``suffixes``, sorted; as `walk_files` finds them."""
    return sorted(root / name for name, _ in walk_files(root, lambda name: has_suffix(name, suffixes)))


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Files by stem, so that a table that names `x.wav` finds `x.ogg`.

    Raises:
        ValueError: two files share a stem.
    """
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise ValueError(f"two files for one clip: {found[path.stem]} and {path}; remove one")
        found[path.stem] = path
    return found


def recording_of(stem: str, pattern: str | None) -> str | None:
    """The group ``recording`` (or the first) of ``pattern`` in ``stem``, or None."""
    if pattern is None:
        return None
    match = re.match(pattern, stem)
    if match is None:
        return None
    return match.groupdict().get("recording") or (match.group(1) if match.groups() else match.group(0))
