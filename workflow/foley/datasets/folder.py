"""Any folder of class sub-folders: the plain case, and the one that users bring."""

from __future__ import annotations

import logging
import re
from collections import Counter
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
    """The clips of a folder of class sub-folders; class numbers follow the names' order."""
    files = audio_files(root)
    known = set(files)
    others = [p for p in root.rglob("*") if p.is_file() and p not in known and not p.name.startswith(".")]
    if others:
        log.warning("%d files are not audio by their name and are left alone: %s", len(others), others[:5])
    names = sorted({f.relative_to(root).parts[0] for f in files if len(f.relative_to(root).parts) > 1})
    ids = {name: number for number, name in enumerate(names)}
    bare = [f.relative_to(root).with_suffix("").as_posix() for f in files]
    doubled = {name for name, count in Counter(bare).items() if count > 1}
    clips = []
    for path, name in zip(files, bare, strict=True):
        relative = path.relative_to(root)
        label = relative.parts[0] if len(relative.parts) > 1 else ""
        # `a.wav` beside `a.flac`: the suffix keeps both apart.
        clip_id = relative.as_posix() if name in doubled else name
        recording = recording_of(path.stem, recording_pattern)
        clips.append(
            RawClip(
                clip_id=clip_id,
                source=relative.as_posix(),
                label=label,
                class_id=ids.get(label),
                recording_id=f"{label}/{recording}" if recording is not None else clip_id,
            )
        )
    return clips
