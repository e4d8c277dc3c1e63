"""Learning curves of the zero-shot study."""

from __future__ import annotations

from foley.tables import INT32, TEXT, TableKind

LEARNING_CURVE = TableKind(
    "learning_curve",
    "One row per clip, seed and number of synthetic embeddings per unseen class: what a classifier that learnt from "
    "so many said (conventional setting).",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study"),
        "method": (TEXT, "method id in the config"),
        "variant": (TEXT, "embedding and class vectors, for example `scratch/words`"),
        "samples_per_class": (INT32, "synthetic embeddings per unseen class that the classifier learnt from"),
        "seed": (INT32, "seed of the generator and of the classifier"),
        "clip_id": (TEXT, "id of the clip, of an unseen class"),
        "class_id": (INT32, "true class"),
        "predicted_class_id": (INT32, "class with the highest score among the unseen ones"),
    },
    ("dataset", "split", "method", "variant", "samples_per_class", "seed", "clip_id"),
)
