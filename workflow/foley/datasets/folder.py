"""Any folder of class sub-folders: the plain case, and the one that users bring."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foley.datasets.protocol import (
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    DatasetKind,
    RawClip,
    audio_files,
    recording_of,
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

    def check(self, root: Path) -> None:
        super().check(root)
        if not any(child.is_dir() and not child.name.startswith(".") for child in root.iterdir()):
            raise FileNotFoundError(
                f"{root} has no sub-folders: put the clips of each class in one of its own"
            )

    def scan(self, root: Path) -> list[RawClip]:
        return scan_folder(root, self.options.recording_pattern)


def scan_folder(root: Path, recording_pattern: str | None) -> list[RawClip]:
    """The clips of a folder of class sub-folders; class numbers follow the names' order.

    A clip's id is its path below ``root``, suffix included, so that no file that is added later renames it.
    """
    others = _other_files(root)
    if others:
        log.warning(
            "%d files are neither audio nor video by their name and are left alone: %s",
            len(others),
            others[:5],
        )
    # Names alone from here on: a path object takes ten times the memory.
    names = [path.relative_to(root).as_posix() for path in audio_files(root, MEDIA)]
    labels = {name.partition("/")[0] for name in names if "/" in name}
    ids = {label: number for number, label in enumerate(sorted(labels))}
    clips = []
    for name in names:
        # A file in the root itself has no class; it is rejected with that reason.
        folder, inside, _ = name.partition("/")
        label = sys.intern(folder) if inside else ""
        recording = recording_of(PurePosixPath(name).stem, recording_pattern)
        clips.append(
            RawClip(
                clip_id=name,
                source=name,
                label=label,
                class_id=ids.get(label),
                recording_id=f"{label}/{recording}" if recording is not None else name,
            )
        )
    return clips


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
