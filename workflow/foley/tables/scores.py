"""What every study measures: predictions and scores."""

from __future__ import annotations

from foley.tables import FLOAT32, FLOAT64, INT32, INT64, TEXT, TableKind

PREDICTIONS = TableKind(
    "predictions",
    "One row per clip, seed and setting: what the classifier said.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study"),
        "method": (TEXT, "method id in the config"),
        "variant": (TEXT, "embedding and class vectors, for example `scratch/words`"),
        "seed": (INT32, "seed; null for methods without one"),
        "setting": (TEXT, "conventional (argmax over unseen classes) or generalised (over all)"),
        "clip_id": (TEXT, "id of the clip"),
        "role": (TEXT, "unseen or seen_test"),
        "class_id": (INT32, "true class"),
        "predicted_class_id": (INT32, "class with the highest score"),
        "margin": (FLOAT32, "highest score minus the best score of another class"),
    },
    ("dataset", "split", "method", "variant", "setting", "seed", "clip_id"),
)

SCORES = TableKind(
    "scores",
    "One row per measured value; every study's figures meet here.",
    {
        "study": (TEXT, "study"),
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split or fold set of the study"),
        "fold": (INT32, "fold or null"),
        "method": (TEXT, "method id in the config"),
        "variant": (TEXT, "embedding and class vectors, or another variant of the method"),
        "seed": (INT32, "seed; null = over all seeds"),
        "class_id": (INT32, "class; null = all classes"),
        "metric": (TEXT, "what was measured (docs/metrics.md)"),
        "value": (FLOAT64, "the value"),
        "low": (FLOAT64, "lower end of the 95 % bootstrap interval, or null"),
        "high": (FLOAT64, "upper end of the 95 % bootstrap interval, or null"),
        "n": (INT64, "number of clips (or seeds) behind the value"),
    },
    ("study", "dataset", "split", "fold", "method", "variant", "metric", "seed", "class_id"),
)
