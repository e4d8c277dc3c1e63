"""A nested grid of seeds: on one embedding network several generators, on each generator several classifiers.

In the study itself one seed makes generator and classifier, so that their shares of the spread can't be told apart;
here each generator has classifiers of its own, and each classifier a seed of its own. The generators of several
networks must have seeds of their own, too: what a seed does on every network would be crossed with the networks, not
nested in them, and be missing from the spread between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.runtime.seeds import derive
from foley.studies.zero_shot.classify import ask_classifier, train_classifier
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.generate import Projected
from foley.studies.zero_shot.predictions import CONVENTIONAL
from foley.tables.variance import SEED_GRID

# Of embeddings that are copied for the classifiers of a batch.
BATCH_BYTES = 512 << 20


def cross_seeds(
    output: Path,
    *,
    experiment: Experiment,
    synthetic: np.ndarray | None,
    projected: Projected | None,
    classifier: type,
    options: Any,
    generator_seeds: Sequence[int],
    classifier_seeds: int,
    embedding_seed: int | None,
    labels: Mapping[str, str],
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
    batch_bytes: int = BATCH_BYTES,
) -> None:
    """Train ``classifier_seeds`` classifiers on each generator and write their accuracy over unseen clips.

    Args:
        synthetic: [generators, unseen classes, count, D] or None for a classifier without a generator.
        projected: real embeddings in the space of ``synthetic``, where that is the generators' own.
        generator_seeds: of ``synthetic``, in its order; without it they are not used.
        classifier_seeds: how many classifiers a generator; their seeds are derived, another one each.
        embedding_seed: of the network that made the experiment's embeddings; None for a pretrained one.
        labels: dataset, split, method and variant, the same for all networks of one embedding.
        batch_bytes: classifiers are one batched model, or several where their copies of the embeddings take more.

    Raises:
        ValueError: there are not as many seeds as generators, or no classifier is asked for.
    """
    if synthetic is not None and len(synthetic) != len(generator_seeds):
        raise ValueError(
            f"{len(generator_seeds)} generator seeds for embeddings of {len(synthetic)} generators"
        )
    if classifier_seeds < 1:
        raise ValueError("classifier_seeds must be at least 1")
    generators: list[int | None] = list(generator_seeds) if synthetic is not None else [None]
    where = (labels["split"], embedding_seed)
    cells = [
        (row, derive(0 if generator is None else generator, "seed_grid", *where, number))
        for row, generator in enumerate(generators)
        for number in range(classifier_seeds)
    ]
    parts = (synthetic, projected.clips if projected else None, projected.train if projected else None)
    cell_bytes = sum(part[0].nbytes for part in parts if part is not None)
    size = max(1, batch_bytes // max(1, cell_bytes))
    rows, begun = [], []
    for first in range(0, len(cells), size):
        batch = cells[first : first + size]
        of_generator = np.array([row for row, _ in batch])
        spaces = None
        if projected is not None:
            spaces = Projected(
                projected.clips[of_generator], projected.train_rows, projected.train[of_generator]
            )
        trained = train_classifier(
            experiment, synthetic=synthetic[of_generator] if synthetic is not None else None, projected=spaces,
            classifier=classifier, options=options, seeds=[seed for _, seed in batch], checkpoints=checkpoints,
            facts=facts,
        )  # fmt: skip
        begun.append(trained.checkpoint)
        answers = ask_classifier(trained.model, experiment, spaces, CONVENTIONAL)
        accuracies = (answers.said == experiment.class_ids[answers.rows]).mean(axis=1)
        rows += [
            {
                **labels,
                "embedding_seed": embedding_seed,
                "generator_seed": generators[row],
                "classifier_seed": seed,
                "accuracy": float(accuracy),
                "n": len(answers.rows),
            }
            for (row, seed), accuracy in zip(batch, accuracies, strict=True)
        ]
    tables.write(output, SEED_GRID, rows, provenance)
    for checkpoint in begun:
        if checkpoint is not None:
            checkpoint.discard()
