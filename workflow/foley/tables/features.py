"""Features, embeddings, and how a training went."""

from __future__ import annotations

from foley.tables import FLOAT64, INT32, TEXT, VECTOR, TableKind

FEATURES = TableKind(
    "features",
    "Features of one shard: a flattened array per clip and window (its shape is in the file's metadata).",
    {
        "clip_id": (TEXT, "id of the clip"),
        "window": (INT32, "number of the window in the clip, from 0"),
        "vector": (VECTOR, "the feature, flattened in row-major order"),
    },
    ("clip_id", "window"),
    frozenset({"clip_id", "window", "vector"}),
)

EMBEDDINGS = TableKind(
    "embeddings", "One embedding per clip and window.", FEATURES.columns, FEATURES.order_by
)

HISTORY = TableKind(
    "history",
    "Training history: one row per epoch and quantity.",
    {
        "epoch": (INT32, "epoch, from 1"),
        "quantity": (TEXT, "what was measured"),
        "value": (FLOAT64, "its value"),
    },
    ("epoch", "quantity"),
)
