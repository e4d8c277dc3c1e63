"""Train a classifier on real and synthetic embeddings, and ask it about clips of unseen classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Trained:
    """A trained classifier (``ZeroShotClassifier``), and the checkpoint to discard once its answers are written."""

    model: Any
    checkpoint: Any


@dataclass(frozen=True)
class Answers:
    """What a classifier says of clips, in one setting.

    ``rows`` [N] of the experiment; ``said`` [seeds, N] class ids; ``margins`` [seeds, N] highest score minus the best
    of another class, zero where a single class competes.
    """

    rows: np.ndarray
    said: np.ndarray
    margins: np.ndarray


def train_classifier(
    experiment: Experiment,
    *,
    synthetic: np.ndarray | None,
    projected: Projected | None,
    classifier: type,
    options: Any,
    seeds: Sequence[int],
    checkpoints: Path | None = None,
    facts: Any = None,
) -> Trained:
    """Train on real clips of seen classes and, if given, synthetic embeddings of unseen ones; all seeds at once.

    Args:
        synthetic: [seeds, unseen classes, count, D] or None for a classifier without a generator.
        projected: real embeddings in the space of ``synthetic``, where that is the generator's own.
        checkpoints: folder to continue an interrupted training from.
        facts: what the training depends on beside its data, options and seeds.
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
    return Trained(model, checkpoint)


def ask_classifier(model: Any, experiment: Experiment, projected: Projected | None, setting: str) -> Answers:
    """What a trained classifier says: of unseen clips among unseen classes (conventional), or of unseen and held-out
    seen clips among all classes (generalised)."""
    import torch

    roles, first = {
        CONVENTIONAL: (("unseen",), len(experiment.seen)),
        GENERALISED: (("unseen", "seen_test"), 0),
    }[setting]
    rows = experiment.rows(*roles)
    known = experiment.known[first:]
    asked = projected.clips[:, rows] if projected is not None else experiment.embeddings[rows]
    scores = model.score(torch.from_numpy(asked), torch.arange(first, len(experiment.known)))
    best = scores.topk(min(2, len(known)), dim=2).values
    # Of classes with one score argmax says the first; topk any.
    return Answers(rows, known[scores.argmax(dim=2).numpy()], (best[:, :, 0] - best[:, :, -1]).numpy())


def label_columns(labels: Mapping[str, str], rows: int) -> dict[str, pa.Array]:
    """Columns of text that say the same in each of ``rows`` rows."""
    return {name: pa.array([value] * rows, pa.string()) for name, value in labels.items()}


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
        labels: dataset, split, method and variant, as the table names them.

    The others are those of :func:`train_classifier`.
    """
    trained = train_classifier(
        experiment, synthetic=synthetic, projected=projected, classifier=classifier, options=options,
        seeds=seeds, checkpoints=checkpoints, facts=facts,
    )  # fmt: skip
    parts = []
    for setting in (CONVENTIONAL, GENERALISED):
        answers = ask_classifier(trained.model, experiment, projected, setting)
        rows, n = answers.rows, len(answers.rows)
        for number, seed in enumerate(seeds):
            parts.append(
                pa.table(
                    {
                        **label_columns(labels, n),
                        "setting": pa.array([setting] * n, pa.string()),
                        "seed": pa.array([seed] * n, pa.int32()),
                        "clip_id": pa.array(experiment.clip_ids[rows], pa.string()),
                        "role": pa.array(experiment.roles[rows].astype(object), pa.string()),
                        "class_id": pa.array(experiment.class_ids[rows], pa.int32()),
                        "predicted_class_id": pa.array(answers.said[number], pa.int32()),
                        "margin": pa.array(answers.margins[number], pa.float32()),
                    }
                )
            )
    tables.write(output, PREDICTIONS, pa.concat_tables(parts), provenance)
    if trained.checkpoint is not None:
        trained.checkpoint.discard()
