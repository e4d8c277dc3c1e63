"""Train a classifier on real and synthetic embeddings, and ask it about clips of unseen classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foley import tables
from foley.studies.partition import TRAINING_ROLES
from foley.studies.zero_shot.experiment import Experiment, checkpoint_for
from foley.studies.zero_shot.generate import Projected
from foley.studies.zero_shot.predictions import CONVENTIONAL, GENERALISED
from foley.tables.scores import PREDICTIONS


def classify(
    output: Path,
    *,
    experiment: Experiment,
    synthetic: np.ndarray | None,
    projected: Projected | None = None,
    classifier: type,
    options: Any,
    seeds: Sequence[int],
    labels: Mapping[str, str],
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train the classifier and write what it says of unseen and held-out seen clips.

    Args:
        synthetic: [seeds, unseen classes, count, D] or None for a classifier without a generator.
        projected: real embeddings in the space of ``synthetic``, where that is the generator's own.
        labels: dataset, split, method and variant, as the table names them.
    """
    import torch

    from foley.classifiers.protocol import ZeroShotData

    train = experiment.rows(*TRAINING_ROLES)
    real = experiment.embeddings[train]
    if projected is not None:
        train, real = projected.train_rows, projected.train
    model = classifier(options, seeds)
    more = [values for values in (synthetic, real if projected is not None else None) if values is not None]
    checkpoint = checkpoint_for(checkpoints, [facts, repr(options), list(seeds)], experiment, train, *more)
    model.fit(
        ZeroShotData(
            torch.from_numpy(real),
            torch.from_numpy(experiment.class_rows(train)),
            torch.from_numpy(experiment.vectors),
            len(experiment.seen),
            torch.tensor(synthetic) if synthetic is not None else None,
        ),
        checkpoint=checkpoint,
    )
    parts = []
    unseen, seen_test = experiment.rows("unseen"), experiment.rows("seen_test")
    for setting, rows, first in (
        (CONVENTIONAL, unseen, len(experiment.seen)),
        (GENERALISED, np.sort(np.concatenate([unseen, seen_test])), 0),
    ):
        known = experiment.known[first:]
        asked = projected.clips[:, rows] if projected is not None else experiment.embeddings[rows]
        scores = model.score(torch.from_numpy(asked), torch.arange(first, len(experiment.known)))
        best = scores.topk(min(2, len(known)), dim=2)
        said = known[best.indices[:, :, 0].numpy()]
        margins = (best.values[:, :, 0] - best.values[:, :, -1]).numpy()
        n = len(rows)
        for number, seed in enumerate(seeds):
            parts.append(
                pa.table(
                    {
                        **{name: pa.array([value] * n, pa.string()) for name, value in labels.items()},
                        "setting": pa.array([setting] * n, pa.string()),
                        "seed": pa.array([seed] * n, pa.int32()),
                        "clip_id": pa.array(experiment.clip_ids[rows], pa.string()),
                        "role": pa.array(experiment.roles[rows].astype(object), pa.string()),
                        "class_id": pa.array(experiment.class_ids[rows], pa.int32()),
                        "predicted_class_id": pa.array(said[number], pa.int32()),
                        "margin": pa.array(margins[number], pa.float32()),
                    }
                )
            )
    tables.write(output, PREDICTIONS, pa.concat_tables(parts), provenance)
    if checkpoint is not None:
        checkpoint.discard()
