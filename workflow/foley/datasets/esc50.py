"""ESC-50: 2,000 environmental clips of 5 s in 50 classes and 5 official folds.

Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015.
"""

from __future__ import annotations

import csv
from pathlib import Path

from foley.datasets.protocol import DatasetKind, RawClip, audio_files, by_stem

COLUMNS = ("filename", "fold", "target", "category", "src_file")


class ESC50(DatasetKind):
    """The published layout: `audio/` (any format soundfile reads) and `meta/esc50.csv`."""

    title = "ESC-50"
    licence = "CC BY-NC 3.0"
    tables = ("meta/*.csv",)
    url = "https://github.com/karolpiczak/ESC-50"
    citation = "Piczak 2015, ESC: Dataset for Environmental Sound Classification"

    def check(self, root: Path) -> None:
        super().check(root)
        for part in ("meta/esc50.csv", "audio"):
            if not (root / part).exists():
                raise FileNotFoundError(
                    f"{root} is not an ESC-50 folder: {part} is not there; unpack {self.url} "
                    "and point the dataset's `path` at the folder that holds audio/ and meta/"
                )

    def scan(self, root: Path) -> list[RawClip]:
        self.check(root)
        table = root / "meta" / "esc50.csv"
        files = by_stem(audio_files(root / "audio"))
        clips = []
        with table.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if lacking:
                raise ValueError(f"{table} lacks the columns {lacking}")
            for row in reader:
                stem = Path(row["filename"]).stem
                try:
                    target, fold = int(row["target"]), int(row["fold"])
                except (TypeError, ValueError):
                    raise ValueError(
                        f"{table}, line {reader.line_num}: target and fold must be whole numbers"
                    ) from None
                # A clip without its file is a row too: it ends in the rejected table, not in silence.
                path = files.get(stem, root / "audio" / Path(row["filename"]).name)
                clips.append(
                    RawClip(
                        clip_id=stem,
                        source=path.relative_to(root).as_posix(),
                        label=row["category"],
                        class_id=target,
                        fold=fold,
                        # Clips cut from one Freesound upload share its number.
                        recording_id=row["src_file"],
                    )
                )
        return clips
