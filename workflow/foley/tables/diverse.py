"""The study of diverse embeddings: which clip is for what, embeddings of chunks, and what systems say of clips."""

from __future__ import annotations

import pyarrow as pa

from foley.tables import FLOAT64, INT32, TEXT, VECTOR, TableKind

LABELLED_CLIPS = TableKind(
    "labelled_clips",
    "Which part each clip plays in one split of the study, and the classes that it has.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "class_ids": (pa.list_(pa.int32()), "class numbers, one or several, ascending"),
        "recording_id": (TEXT, "clips cut from one recording share it"),
        "role": (TEXT, "train, validation or test"),
    },
    ("clip_id",),
    frozenset({"clip_id", "class_ids", "recording_id", "role"}),
)

CHUNK_EMBEDDINGS = TableKind(
    "chunk_embeddings",
    "What a trained network makes of each chunk of each clip.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "window": (INT32, "number of the chunk in the clip, from 0"),
        "share": (
            FLOAT64,
            "share of the chunk that is real, by which it counts; without the column, all of it",
        ),
        "vector": (VECTOR, "embedding"),
    },
    ("clip_id", "window"),
    frozenset({"clip_id", "window", "share", "vector"}),
)

CLIP_SCORES = TableKind(
    "clip_scores",
    "What systems say of test clips: class probabilities, the mean over a clip's chunks.",
    {
        "system": (TEXT, "what was trained, for example `pitch+timbre`"),
        "clip_id": (TEXT, "id of the clip"),
        "vector": (VECTOR, "probability of each class of the split, classes ascending"),
    },
    ("system", "clip_id"),
    frozenset({"system", "clip_id", "vector"}),
)
