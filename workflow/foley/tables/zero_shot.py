"""The zero-shot study."""

from __future__ import annotations

from foley.tables import INT32, TEXT, VECTOR, TableKind

PARTITION = TableKind(
    "partition",
    "Which part of a zero-shot experiment each clip plays in one split.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "class_id": (INT32, "class number"),
        "recording_id": (TEXT, "clips cut from one recording share it"),
        "role": (TEXT, "seen_train, seen_validation, seen_test or unseen"),
    },
    ("clip_id",),
)

SYNTHETIC_EMBEDDINGS = TableKind(
    "synthetic_embeddings",
    "Embeddings that a generator made of classes without audio.",
    {
        "seed": (INT32, "seed of the generator"),
        "class_id": (INT32, "class number"),
        "index": (INT32, "number of the sample within its class"),
        "vector": (VECTOR, "synthetic embedding"),
    },
    ("seed", "class_id", "index"),
)

PROJECTED_EMBEDDINGS = TableKind(
    "projected_embeddings",
    "Real embeddings in the space that a generator draws in; empty where that is the space of the real ones.",
    {
        "seed": (INT32, "seed of the generator"),
        "clip_id": (TEXT, "id of the clip"),
        "draw": (INT32, "0: where the clip lies; from 1 on: a random draw to learn from"),
        "vector": (VECTOR, "projected embedding"),
    },
    ("seed", "clip_id", "draw"),
)
