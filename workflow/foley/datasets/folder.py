"""Any folder of class sub-folders: the plain case, and the one that users bring."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from foley.datasets.protocol import DatasetKind, RawClip, audio_files, recording_of

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
    Options = FolderOptions

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
    files = audio_files(root)
    known = set(files)
    others = [p for p in root.rglob("*") if p.is_file() and p not in known and not p.name.startswith(".")]
    if others:
        log.warning("%d files are not audio by their name and are left alone: %s", len(others), others[:5])
    paths = [path.relative_to(root) for path in files]
    ids = {
        name: number for number, name in enumerate(sorted({p.parts[0] for p in paths if len(p.parts) > 1}))
    }
    clips = []
    for path in paths:
        # A file in the root itself has no class; it is rejected with that reason.
        label = path.parts[0] if len(path.parts) > 1 else ""
        recording = recording_of(path.stem, recording_pattern)
        clips.append(
            RawClip(
                clip_id=path.as_posix(),
                source=path.as_posix(),
                label=label,
                class_id=ids.get(label),
                recording_id=f"{label}/{recording}" if recording is not None else path.as_posix(),
            )
        )
    return clips
