"""Who plays which part in a zero-shot experiment: seen classes for training, unseen ones for the test."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from foley import tables
from foley.runtime.seeds import derive
from foley.tables.clips import CLIPS
from foley.tables.zero_shot import PARTITION

log = logging.getLogger(__name__)

TRAINING_ROLES = ("seen_train", "seen_validation")


@dataclass(frozen=True)
class ClassSplit:
    """Labels that are unseen, and labels that are left out altogether (kept for another split's test)."""

    unseen: tuple[str, ...]
    exclude: tuple[str, ...] = ()


def read_splits(path: Path) -> dict[str, ClassSplit]:
    """A file of published splits: `splits: {name: {unseen: [...], exclude: [...]}}`.

    Raises:
        ValueError: the file is not of that form; names it.
    """
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return {
            str(name): ClassSplit(tuple(map(str, part["unseen"])), tuple(map(str, part.get("exclude", ()))))
            for name, part in data["splits"].items()
        }
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected `splits: {{name: {{unseen: [labels]}}}}`, got {error!r}"
        ) from None


def random_splits(
    labels: Sequence[str], count: int, unseen_fraction: float, seed: int
) -> dict[str, ClassSplit]:
    """Splits fold0, fold1, … for a dataset without published ones.

    Classes come in one random order, cut into parts that don't overlap, so that each split tells something of its own.
    With few classes the parts are smaller than ``unseen_fraction`` says.

    Raises:
        ValueError: too few classes for two unseen ones in each split and two to see.
    """
    if len(labels) < 4:
        raise ValueError(
            "zero-shot learning needs four classes at least, two to see and two to tell apart; "
            f"found {len(labels)}: {list(labels)}"
        )
    size = min(len(labels) - 2, max(2, round(len(labels) * unseen_fraction)), len(labels) // count)
    if size < 2:
        most = len(labels) // 2
        raise ValueError(
            f"{len(labels)} classes give at most {most} splits of two unseen classes, not {count}: "
            f"set zero_shot.random_splits.count to {most} or fewer"
        )
    order = np.random.default_rng(derive(seed, "class splits")).permutation(sorted(labels))
    parts = [order[k * size : (k + 1) * size] for k in range(count)]
    return {f"fold{k}": ClassSplit(tuple(sorted(map(str, part)))) for k, part in enumerate(parts)}


def _part_recordings(
    rows: Sequence[Mapping[str, Any]], fractions: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Recording -> role, so that each class has about its fraction of clips in each role and no recording parts."""
    of_class: dict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        of_class[row["class_id"]][row["recording_id"]] += 1
    roles: dict[str, str] = {}
    for class_id in sorted(of_class):
        counts = of_class[class_id]
        generator = np.random.default_rng(derive(seed, "partition", class_id))
        order = [str(name) for name in generator.permutation(sorted(counts))]
        wanted = {role: fraction * sum(counts.values()) for role, fraction in fractions.items()}
        for recording in order:
            if recording in roles:
                wanted[roles[recording]] = wanted.get(roles[recording], 0) - counts[recording]
        free = [recording for recording in order if recording not in roles]
        # Training cannot do without validation; the generalised test can.
        by_need = list(wanted) if len(counts) > 2 else sorted(wanted, key=lambda r: r != "seen_validation")
        for role in by_need:
            # The last recording of a class always trains.
            while wanted[role] > 0 and len(free) > 1:
                recording = free.pop(0)
                # Taking a large recording may overshoot; take it only if that comes closer to the fraction.
                if counts[recording] / 2 > wanted[role]:
                    if not any(roles.get(r) == role for r in counts):
                        roles[recording] = role
                    else:
                        free.append(recording)
                    break
                roles[recording] = role
                wanted[role] -= counts[recording]
        for recording in free:
            roles[recording] = "seen_train"
    return roles


def _only_tested(rows: Sequence[Mapping[str, Any]], roles: Mapping[str, str]) -> list[str]:
    """Labels of which no recording trains."""
    trained = {row["label"] for row in rows if roles[row["recording_id"]] in TRAINING_ROLES}
    return sorted({row["label"] for row in rows} - trained)


def partition_clips(
    output: Path,
    *,
    clips: Path,
    split: str,
    splits_file: Path | None,
    random: Mapping[str, Any],
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Give each clip its role in ``split``: seen_train, seen_validation, seen_test, unseen or excluded.

    No recording is on two sides: seen clips of a recording that also has unseen clips are excluded. So is a seen class
    all of whose recordings are shared with other classes and went to the test with them: nothing could learn it.

    Raises:
        ValueError: the split names classes that the dataset lacks, or leaves none to see; a clip has several labels.
    """
    table = tables.read(clips, CLIPS, columns=["clip_id", "class_id", "label", "labels", "recording_id"])
    rows = table.to_pylist()
    several = next((row for row in rows if len(row["labels"] or ()) > 1), None)
    if several is not None:
        # A clip of an unseen class would train as one of its other class.
        raise ValueError(
            f"clip {several['clip_id']} has several labels ({', '.join(several['labels'])}); the zero-shot study needs "
            "one label a clip"
        )
    labels = sorted({row["label"] for row in rows})
    splits = (
        read_splits(splits_file)
        if splits_file is not None
        else random_splits(labels, random["count"], random["unseen_fraction"], random["seed"])
    )
    if split not in splits:
        raise ValueError(f"split {split} is not among {sorted(splits)}")
    wanted = splits[split]
    lacking = sorted(set(wanted.unseen) - set(labels))
    if lacking:
        raise ValueError(
            f"split {split}: the unseen classes {lacking} have no clips; the dataset has {labels[:60]}"
        )
    unseen, excluded = set(wanted.unseen), set(wanted.exclude)
    held_out = {row["recording_id"] for row in rows if row["label"] in unseen}
    seen_rows = [
        row for row in rows if row["label"] not in unseen | excluded and row["recording_id"] not in held_out
    ]
    if len({row["class_id"] for row in seen_rows}) < 2:
        raise ValueError(f"split {split}: fewer than two seen classes are left to learn from")
    roles = _part_recordings(
        seen_rows, {"seen_test": test_fraction, "seen_validation": validation_fraction}, seed
    )
    if "seen_validation" not in roles.values():
        raise ValueError(
            f"split {split}: no seen class has a second recording to validate on; give more recordings, or say "
            "by `recording_pattern` which clips belong together"
        )
    untrained = _only_tested(seen_rows, roles)
    if untrained:
        log.warning(
            "split %s: the seen classes %s are excluded: all of their recordings are shared with other classes and lie "
            "in the test, so nothing could learn them; give them recordings of their own",
            split,
            untrained,
        )
        seen_rows = [row for row in seen_rows if row["label"] not in untrained]
        if len({row["class_id"] for row in seen_rows}) < 2:
            raise ValueError(
                f"split {split}: fewer than two seen classes are left to learn from; {untrained} have no recording of "
                "their own: give them some, or say by `recording_pattern` which clips belong together"
            )
    kept = {row["clip_id"] for row in seen_rows}
    leaks = 0
    for row in rows:
        if row["label"] in unseen:
            row["role"] = "unseen"
        elif row["clip_id"] in kept:
            row["role"] = roles[row["recording_id"]]
        else:
            row["role"] = "excluded"
            leaks += row["label"] not in excluded and row["label"] not in untrained
    if leaks:
        log.warning("%d seen clips share a recording with unseen classes and are excluded", leaks)
    counts = Counter(row["role"] for row in rows)
    log.info("split %s: %s", split, dict(sorted(counts.items())))
    tables.write(output, PARTITION, [{k: row[k] for k in PARTITION.columns} for row in rows], provenance)
