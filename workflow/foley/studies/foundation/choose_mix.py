"""Which mix validation clips choose: what a user would go on with, and what it then gains on clips that had no say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from foley import tables
from foley.metrics import classification as metric
from foley.studies.audio.compare_arms import read_closed
from foley.studies.audio.splits import VALIDATION
from foley.studies.foundation.mix import REAL
from foley.tables.foundation import MIX_CHOICE
from foley.tables.scores import PREDICTIONS

CHOSEN = "chosen"


def choose_mix(
    predictions: Path,
    choice: Path,
    *,
    mixes: Sequence[Path],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the predictions of the chosen mix under the name ``chosen``, and how each mix did (MIX_CHOICE).

    The mix with the highest accuracy on validation clips, mean of the seeds, wins; of equal ones real clips alone,
    then the one that was given first. That no synthetic clip is used is a choice like the others.

    Args:
        mixes: predictions (PREDICTIONS) of all mixes of a recogniser with as many real clips, in one split.

    Raises:
        ValueError: the files are of different splits or variants, or hold no validation clips.
    """
    said = [read_closed(path, VALIDATION) for path in mixes]
    kinds = {(p.labels["dataset"], p.labels["split"], p.labels["variant"]) for p in said}
    if len(kinds) != 1:
        raise ValueError(f"mixes to choose from must be of one split and variant, not of {sorted(kinds)}")
    dataset, split, variant = kinds.pop()
    accuracies = [float(metric.accuracy(p.correct).mean()) for p in said]
    order = sorted(range(len(said)), key=lambda n: (-accuracies[n], said[n].labels["method"] != REAL, n))
    best = order[0]
    rows = [
        {
            "dataset": dataset,
            "split": split,
            "variant": variant,
            "method": p.labels["method"],
            "accuracy": accuracy,
            "n": len(p.truth),
            "chosen": int(number == best),
        }
        for number, (p, accuracy) in enumerate(zip(said, accuracies, strict=True))
    ]
    table = tables.read(mixes[best], PREDICTIONS)
    column = table.schema.get_field_index("method")
    table = table.set_column(column, table.schema.field(column), pa.array([CHOSEN] * len(table), pa.string()))
    tables.write(choice, MIX_CHOICE, rows, provenance)
    tables.write(predictions, PREDICTIONS, table, provenance)
