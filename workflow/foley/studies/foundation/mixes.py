"""What a recogniser learns from: some of the real training clips, and synthetic clips of one source.

Draws are nested and shared: with one seed, 10 % of the real clips are among its 25 %, and all mixes at 10 % have the
same ones; so are 5 synthetic clips of a class among its 30. Two mixes then differ in what their names say and in
nothing else. Each seed draws anew, so that the spread over seeds holds that of the draws.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from foley import tables
from foley.runtime.seeds import derive
from foley.studies.foundation.mix import REAL
from foley.tables.audio_studies import SYNTHETIC_CLIPS

log = logging.getLogger(__name__)

# Part of the wanted synthetic clips of a class that must be there.
LEAST = 0.8


def draw_real(class_of: Mapping[str, int], percent: int, seed: int) -> list[str]:
    """Ids of the real clips that are there, ordered; of each class the part, and one at least.

    Args:
        class_of: clip id -> class id of all training clips.
        percent: 0 draws none.
    """
    if percent == 0:
        return []
    drawn: list[str] = []
    for class_id, ids in _by_class(class_of).items():
        count = max(1, math.ceil(len(ids) * percent / 100))
        order = np.random.default_rng(derive(seed, REAL, class_id)).permutation(len(ids))
        drawn += [ids[row] for row in order[:count]]
    return sorted(drawn)


def draw_synthetic(
    pool: Mapping[str, int], counts: Mapping[int, int], seed: int, *, source: str = ""
) -> list[str]:
    """Ids of the synthetic clips that are used, ordered.

    A generator's refused clips leave gaps, so a class may have somewhat fewer; a log line says which.

    Args:
        pool: clip id -> class id of all that the source has.
        counts: class id -> clips wanted; a class that is not named has none.

    Raises:
        ValueError: the source has less than ``LEAST`` of what is wanted of a class.
    """
    of_class = _by_class(pool)
    there = {class_id: len(of_class.get(class_id, ())) for class_id in counts}
    short = {c: f"{c} ({there[c]} of {count})" for c, count in sorted(counts.items()) if there[c] < count}
    if too_few := [text for c, text in short.items() if there[c] < LEAST * counts[c]]:
        raise ValueError(
            f"source `{source}` has too few clips of these classes: {', '.join(too_few)}; raise clips_per_class of its "
            "generator, or lower the amount"
        )
    if short:
        log.warning("source %s: fewer clips of these classes: %s", source, ", ".join(short.values()))
    drawn: list[str] = []
    for class_id, count in counts.items():
        ids = of_class.get(class_id, [])
        order = np.random.default_rng(derive(seed, "synthetic", class_id)).permutation(len(ids))
        drawn += [ids[row] for row in order[:count]]
    return sorted(drawn)


def read_pool(
    synthetic: Sequence[Path], class_ids: Collection[int], trained: Collection[str] | None = None
) -> dict[str, int]:
    """Clip id -> class id of a source's clips.

    Args:
        synthetic: tables of SYNTHETIC_CLIPS.
        class_ids: the classes of the split.
        trained: training clips of the split: what the clips were made from must be among them.

    Raises:
        ValueError: a clip id twice, a class that the split does not have, or clips made from others.
    """
    where = ", ".join(sorted({str(path.parent) for path in synthetic})) or "no table"
    table: pa.Table = tables.read(
        list(synthetic), SYNTHETIC_CLIPS, columns=["clip_id", "class_id", "sources"]
    )
    found: dict[str, int] = {}
    for row in table.to_pylist():
        if row["clip_id"] in found:
            raise ValueError(f"{where}: clip `{row['clip_id']}` is there twice; generate them again")
        if row["class_id"] not in class_ids:
            raise ValueError(
                f"{where}: clip `{row['clip_id']}` is of class {row['class_id']}, which the split does not have; "
                "generate the clips again for this dataset"
            )
        if trained is not None and not set(row["sources"] or ()) <= set(trained):
            raise ValueError(
                f"{where}: clip `{row['clip_id']}` was made from others than the split's training clips; generate "
                "the clips again for this split"
            )
        found[row["clip_id"]] = row["class_id"]
    return found


def _by_class(class_of: Mapping[str, int]) -> dict[int, list[str]]:
    """Class id -> its clip ids, ordered; classes ascending."""
    found: dict[int, list[str]] = defaultdict(list)
    for clip_id in sorted(class_of):
        found[class_of[clip_id]].append(clip_id)
    return dict(sorted(found.items()))
