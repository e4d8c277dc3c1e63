"""How well a method recognises seen classes that it was not shown: what methods may be chosen by.

No unseen class takes part, neither its clips nor its vector. Where the embedding network was trained on the seen
classes, its embeddings of those that play unseen ones are better than an unseen class's: the figure is too high for
every method alike, and serves to compare methods, not to foretell their accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foley.studies.partition import TRAINING_ROLES
from foley.studies.zero_shot.experiment import Experiment


@dataclass(frozen=True)
class HeldOutAccuracy:
    """``recalls`` [C] of each seen class while it was held out, a mean over seeds and groupings."""

    recalls: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.recalls.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean over classes, taken for independent."""
        return float(self.recalls.std(ddof=1) / np.sqrt(len(self.recalls)))


def held_out_accuracy(
    experiment: Experiment,
    *,
    generator: type | None,
    generator_options: Any = None,
    classifier: type,
    classifier_options: Any,
    seeds: Sequence[int],
    count: int = 40,
    held_out: int = 8,
    groupings: int = 1,
) -> HeldOutAccuracy:
    """Train generator and classifier without some seen classes, recognise these among themselves; all in turn.

    Args:
        generator: None for a classifier without one.
        count: synthetic embeddings per class held out.
        held_out: classes held out at a time, about.

    Raises:
        ValueError: fewer than four seen classes.
    """
    import torch

    from foley.classifiers.protocol import ZeroShotData
    from foley.generators.embedding.protocol import LatentGenerator, SeenData
    from foley.training.held_out_classes import class_means, hold_out_classes, part_count

    classes = len(experiment.seen)
    if classes < 2 * part_count(classes, held_out):
        raise ValueError(f"{classes} seen classes are too few to hold out some and tell them apart")
    train = experiment.rows(*TRAINING_ROLES)
    x = torch.from_numpy(experiment.embeddings[train])
    rows = torch.from_numpy(experiment.class_rows(train))
    vectors = torch.from_numpy(experiment.vectors[:classes])
    recalls = torch.zeros(classes, dtype=torch.float64)
    for part in hold_out_classes(
        rows, classes, held_out=held_out, groupings=groupings, name="held-out accuracy"
    ):
        seen = SeenData(x[~part.held], part.kept_rows, vectors[~part.out])
        learnt, learnt_rows, asked, made = seen.embeddings, seen.classes, x[part.held], None
        if generator is not None:
            source = generator(generator_options, seeds)
            source.fit(seen)
            made = source.sample(vectors[part.out], count)
            if isinstance(source, LatentGenerator):
                of_draw, learnt = source.draw_seen(seen)
                learnt_rows, asked = seen.classes[of_draw], source.project(asked)
        model = classifier(classifier_options, seeds)
        kept = len(seen.vectors)
        ordered = torch.cat([seen.vectors, vectors[part.out]])
        model.fit(ZeroShotData(learnt, learnt_rows, ordered, kept, made))
        said = model.score(asked, torch.arange(kept, classes)).argmax(dim=2)
        right = (said == part.held_rows).double().mean(dim=0)
        recalls[part.out] += class_means(right.unsqueeze(1), part.held_rows, classes - kept)[:, 0]
    return HeldOutAccuracy((recalls / groupings).numpy())
