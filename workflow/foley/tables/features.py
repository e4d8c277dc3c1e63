"""Features, embeddings, and how a training went."""

from __future__ import annotations

import pyarrow as pa

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

FRAMES = TableKind(
    "frames",
    "Frames of a feature of any length, one second a row; the file's metadata has how they are stored: `dim` numbers "
    "in a frame, `chunk_frames` frames in a whole chunk, `storage` of a number (bit or float16).",
    {
        "clip_id": (TEXT, "id of the clip"),
        "window": (INT32, "number of the chunk in the clip, from 0"),
        "frames": (INT32, "frames in it; the last chunk of a clip may have fewer"),
        "values": (
            pa.binary(),
            "the frames one after another, each filled to whole bytes (bits: highest first)",
        ),
    },
    ("clip_id", "window"),
    frozenset({"clip_id", "window", "frames", "values"}),
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
