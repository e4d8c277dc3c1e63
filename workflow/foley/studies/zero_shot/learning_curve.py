"""Learning curves: what the classifier makes of more and more synthetic embeddings per unseen class.

The first n samples of many are a draw of n, so a point is the method with so many samples: a classifier trained anew,
with the seeds that it has in the study. Samples need not be independent: those of the Gaussian process come in pairs
around the class's predicted mean, so that what learns from means alone has a flat curve over even n, and one noisy
sample at n = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foley import tables
from foley.studies.zero_shot.classify import ask_classifier, label_columns, train_classifier
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.generate import Projected
from foley.studies.zero_shot.predictions import CONVENTIONAL
from foley.tables.learning_curve import LEARNING_CURVE


def trace_learning_curve(
    output: Path,
    *,
    experiment: Experiment,
    synthetic: np.ndarray,
    projected: Projected | None,
    classifier: type,
    options: Any,
    counts: Sequence[int],
    seeds: Sequence[int],
    labels: Mapping[str, str],
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train the classifier once per number of synthetic embeddings, and write what it says of unseen clips.

    Args:
        synthetic: [seeds, unseen classes, count, D], of which a point takes the first of each class.
        projected: real embeddings in the space of ``synthetic``, where that is the generator's own.
        counts: synthetic embeddings per unseen class, point by point.
        seeds: of ``synthetic``; all are one batched model.
        labels: dataset, split, method and variant, as the table names them.

    Raises:
        ValueError: a point asks for fewer than one embedding or for more than there are; names it.
    """
    made = synthetic.shape[2]
    wrong = [count for count in counts if not 1 <= count <= made]
    if wrong or not counts:
        raise ValueError(
            f"the learning curve of {labels['method']} asks for {wrong} synthetic embeddings per class, and there "
            f"are {made}: lower `learning_curve.samples_per_class` or generate more"
        )
    parts, begun = [], []
    rows = experiment.rows("unseen")
    n = len(rows)
    for count in sorted(set(counts)):
        trained = train_classifier(
            experiment, synthetic=synthetic[:, :, :count], projected=projected, classifier=classifier,
            options=options, seeds=seeds, checkpoints=checkpoints, facts=facts,
        )  # fmt: skip
        begun.append(trained.checkpoint)
        answers = ask_classifier(trained.model, experiment, projected, CONVENTIONAL)
        for number, seed in enumerate(seeds):
            parts.append(
                pa.table(
                    {
                        **label_columns(labels, n),
                        "samples_per_class": pa.array([count] * n, pa.int32()),
                        "seed": pa.array([seed] * n, pa.int32()),
                        "clip_id": pa.array(experiment.clip_ids[rows], pa.string()),
                        "class_id": pa.array(experiment.class_ids[rows], pa.int32()),
                        "predicted_class_id": pa.array(answers.said[number], pa.int32()),
                    }
                )
            )
    tables.write(output, LEARNING_CURVE, pa.concat_tables(parts), provenance)
    for checkpoint in begun:
        if checkpoint is not None:
            checkpoint.discard()
