"""Any folder of class sub-folders: the plain case, and the one that users bring."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foley.datasets.protocol import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    DatasetKind,
    RawClip,
    has_suffix,
    recording_of,
    walk_files,
)

# Of video the sound track is taken.
MEDIA = AUDIO_SUFFIXES | VIDEO_SUFFIXES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderOptions:
    """Options of a folder dataset.

    recording_pattern: regular expression over the file's stem; its group (named ``recording``, or the first)
        is the recording. Clips of one recording never part between training and test. Without it every file
        is a recording of its own.
    """

    recording_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.recording_pattern is not None:
            try:
                re.compile(self.recording_pattern)
            except re.error as error:
                raise ValueError(f"recording_pattern is no regular expression: {error}") from None


class Folder(DatasetKind):
    """`<root>/<class>/**/<clip>`; the first folder level names the class."""

    title = "Folder of class sub-folders"
    official_splits = ()
    Options = FolderOptions
    media = MEDIA
    by_file = True

    def check(self, root: Path) -> None:
        super().check(root)
        if not any(child.is_dir() and not child.name.startswith(".") for child in root.iterdir()):
            raise FileNotFoundError(
                f"{root} has no sub-folders: put the clips of each class in one of its own"
            )

    def scan(self, root: Path) -> list[RawClip]:
        """All clips; class numbers follow the names' order."""
        others = _other_files(root)
        if others:
            log.warning(
                "%d files are neither audio nor video by their name and are left alone: %s",
                len(others),
                others[:5],
            )
        # Names, as a path object takes ten times the memory.
        names = sorted(name for name, _ in walk_files(root, lambda name: has_suffix(name, MEDIA)))
        labels = {name.partition("/")[0] for name in names if "/" in name}
        return list(self._clips(names, {label: number for number, label in enumerate(sorted(labels))}))

    def scan_files(self, root: Path, files: Sequence[str]) -> Iterator[RawClip]:
        return self._clips(sorted(files), {})

    def _clips(self, names: Iterable[str], numbers: Mapping[str, int]) -> Iterator[RawClip]:
        """A clip's id is its path below the root, suffix included, so that no file that is added later renames it."""
        for name in names:
            # A file in the root itself has no class; it is rejected with that reason.
            folder, inside, _ = name.partition("/")
            label = sys.intern(folder) if inside else ""
            recording = recording_of(PurePosixPath(name).stem, self.options.recording_pattern)
            yield RawClip(
                clip_id=name,
                source=name,
                label=label,
                class_id=numbers.get(label),
                recording_id=f"{label}/{recording}" if recording is not None else name,
            )


def _other_files(root: Path) -> list[str]:
    """Files that no scan takes up, hidden ones aside."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        found += [
            os.path.relpath(os.path.join(folder, name), root)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in MEDIA
        ]
    return found
