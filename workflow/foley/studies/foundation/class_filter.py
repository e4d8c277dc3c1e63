"""Which classes' synthetic clips mislead: the class filter, and active generation.

Both ask validation clips alone. The filter is the source's: a recogniser that was trained on synthetic clips only names
real ones, and the classes that it names with the lowest precision leave the synthetic set. Active generation spends at
most as many clips in all as the mix without it, more of them on the classes in which validation clips gained when
synthetic clips were added. It picks from the clips that the generator has made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.studies.audio.compare_arms import read_closed
from foley.studies.audio.splits import VALIDATION
from foley.studies.foundation.mix import ACTIVE, PRECISION
from foley.studies.zero_shot.predictions import Predicted
from foley.tables.foundation import CLASS_CHOICE

# Validation clips of a class that a gain of nothing is believed like: a class of few clips gains or loses by chance.
PRIOR_CLIPS = 4.0


def filter_classes(
    output: Path,
    *,
    predictions: Path,
    class_ids: Sequence[int],
    amount: int,
    drop_fraction: float,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write which classes keep their synthetic clips (CLASS_CHOICE).

    Args:
        predictions: of a recogniser that learnt from synthetic clips alone; its validation rows are read.
        class_ids: classes of the split.
        amount: synthetic clips of a class that is kept.
        drop_fraction: part of the classes that leaves, rounded to the nearest number; one class at least stays.

    Raises:
        ValueError: no predictions of validation clips.
    """
    said = read_closed(predictions, VALIDATION)
    measured = class_precisions(said, class_ids)
    dropped = lowest(measured, drop_fraction)
    rows = [
        {
            "class_id": class_id,
            "filter": PRECISION,
            "clips": 0 if class_id in dropped else amount,
            "measured": "precision",
            "value": None if math.isnan(value) else value,
            "n": n,
            "reason": "among the lowest" if class_id in dropped else "kept",
        }
        for class_id, (value, n) in sorted(measured.items())
    ]
    tables.write(output, CLASS_CHOICE, rows, provenance)


def class_precisions(said: Predicted, class_ids: Sequence[int]) -> dict[int, tuple[float, int]]:
    """Class id -> (precision, clips that were said to be of it), pooled over seeds; NaN where there was none."""
    found = {}
    for class_id in class_ids:
        named = said.said == class_id
        n = int(named.sum())
        right = int((named & (said.truth == class_id)).sum())
        found[class_id] = (right / n if n else math.nan, n)
    return found


def lowest(measured: Mapping[int, tuple[float, int]], fraction: float) -> set[int]:
    """The classes with the lowest precision; one that was never said comes first, of equal ones the less said.

    Rounds half up, and never takes all.
    """
    count = min(math.floor(len(measured) * fraction + 0.5), len(measured) - 1)

    def rank(class_id: int) -> tuple[float, int, int]:
        value, n = measured[class_id]
        return (-1.0 if math.isnan(value) else value, n, class_id)

    return set(sorted(measured, key=rank)[:count])


def allocate_clips(
    output: Path,
    *,
    without: Path,
    added: Path,
    pool: Mapping[int, int],
    amount: int,
    floor: float,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write how many synthetic clips of each class active generation takes (CLASS_CHOICE).

    Args:
        without: predictions of the recogniser that learnt from the real clips alone.
        added: of the one that also had ``amount`` synthetic clips of every class.
        pool: class id -> clips that the source has at most.
        amount: times the number of classes, the clips to spend.
        floor: see :func:`share_out`.

    Raises:
        ValueError: no predictions of validation clips, or of different ones.
    """
    here, base = read_closed(added, VALIDATION), read_closed(without, VALIDATION)
    if here.clip_ids.tolist() != base.clip_ids.tolist():
        raise ValueError(
            f"{added} and {without} answer for different validation clips; delete them so that they are made again"
        )
    gains = class_gains(here, base, list(pool))
    shrunken = {class_id: shrunk(gain, n) for class_id, (gain, n) in gains.items()}
    counts = share_out(shrunken, pool, amount * len(pool), floor)
    if not any(counts.values()):
        reasons = dict.fromkeys(pool, "no class gained")
    else:
        reasons = {c: "gained" if shrunken[c] > 0 else "did not gain" for c in pool}
    rows = [
        {
            "class_id": class_id,
            "filter": ACTIVE,
            "clips": counts[class_id],
            "measured": "gain",
            "value": None if math.isnan(gain) else gain,
            "n": n,
            "reason": reasons[class_id],
        }
        for class_id, (gain, n) in sorted(gains.items())
    ]
    tables.write(output, CLASS_CHOICE, rows, provenance)


def class_gains(here: Predicted, base: Predicted, class_ids: Sequence[int]) -> dict[int, tuple[float, int]]:
    """Class id -> (difference in recall, clips of the class), mean over seeds; NaN for a class without clips."""
    found = {}
    for class_id in class_ids:
        own = here.truth == class_id
        n = int(own.sum())
        gain = float(here.correct[:, own].mean() - base.correct[:, own].mean()) if n else math.nan
        found[class_id] = (gain, n)
    return found


def shrunk(gain: float, n: int) -> float:
    """A gain over n clips, drawn towards nothing as by PRIOR_CLIPS more that gained nothing."""
    return 0.0 if math.isnan(gain) else gain * n / (n + PRIOR_CLIPS)


def share_out(
    gains: Mapping[int, float], pool: Mapping[int, int], budget: int, floor: float = 0.0
) -> dict[int, int]:
    """Class id -> clips: the budget in proportion to positive gains, no class above its pool.

    What a full class leaves goes to the others that gain. Largest remainders round, so the sum is the budget, or all
    that the gaining classes have. Nothing is spent where nothing gains.

    Args:
        floor: part of the budget that all classes share evenly before, so that none is without clips beside many of
            another; what an even share leaves over, rounded down, goes by gains.
    """
    if floor and any(gain > 0 for gain in gains.values()):
        even = {class_id: min(there, int(budget * floor / len(pool))) for class_id, there in pool.items()}
        rest = {class_id: there - even[class_id] for class_id, there in pool.items()}
        more = share_out(gains, rest, budget - sum(even.values()))
        return {class_id: even[class_id] + more[class_id] for class_id in pool}
    counts = dict.fromkeys(pool, 0)
    open_classes = [c for c in sorted(pool) if gains.get(c, 0.0) > 0 and pool[c] > 0]
    left = min(budget, sum(pool[c] for c in open_classes))
    while left and open_classes:
        weights = np.array([gains[c] for c in open_classes])
        shares = left * weights / weights.sum()
        full = [c for c, share in zip(open_classes, shares, strict=True) if share >= pool[c]]
        if full:
            for class_id in full:
                counts[class_id] = pool[class_id]
                left -= pool[class_id]
            open_classes = [c for c in open_classes if c not in full]
            continue
        whole = np.floor(shares).astype(int)
        order = np.argsort(-(shares - whole), kind="stable")[: left - int(whole.sum())]
        whole[order] += 1
        counts.update(zip(open_classes, whole.tolist(), strict=True))
        break
    return counts


def read_choice(path: Path) -> dict[int, int]:
    """Class id -> synthetic clips that are used."""
    rows = tables.read(path, CLASS_CHOICE, columns=["class_id", "clips"]).to_pylist()
    return {row["class_id"]: row["clips"] for row in rows}
