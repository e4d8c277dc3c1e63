"""Where the spread over seeds comes from, in the zero-shot study."""

from __future__ import annotations

from foley.tables import FLOAT64, INT32, INT64, TEXT, TableKind

SEED_GRID = TableKind(
    "seed_grid",
    "One row per classifier of a nested grid of seeds: several classifiers for each generator, several generators "
    "for each embedding network.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study"),
        "method": (TEXT, "method id in the config"),
        "variant": (TEXT, "embedding and class vectors, the same for all networks of one embedding"),
        "embedding_seed": (INT32, "seed of the embedding network; null for a pretrained one"),
        "generator_seed": (INT32, "seed of the generator; null for a method without one"),
        "classifier_seed": (INT64, "seed of the classifier, another one in each cell of the grid"),
        "accuracy": (FLOAT64, "clips of unseen classes that get their class (conventional setting)"),
        "n": (INT64, "number of clips behind the accuracy"),
    },
    ("dataset", "split", "method", "variant", "embedding_seed", "generator_seed", "classifier_seed"),
)
