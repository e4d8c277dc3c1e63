"""What the page shows."""

from __future__ import annotations

import pyarrow as pa

from foley.tables import FLOAT32, INT32, TEXT, TableKind

EMBEDDING_MAP = TableKind(
    "embedding_map",
    "Real and synthetic embeddings of one experiment, projected together to the plane (t-SNE).",
    {
        "kind": (TEXT, "seen, unseen (real clips) or synthetic"),
        "item": (TEXT, "clip id, or seed/class/index of a synthetic embedding"),
        "class_id": (INT32, "class number"),
        "label": (TEXT, "class name"),
        "x": (FLOAT32, "first coordinate, no unit"),
        "y": (FLOAT32, "second coordinate, no unit"),
    },
    ("kind", "class_id", "item"),
)

GALLERY = TableKind(
    "gallery",
    "A few clips per class to hear and see in the report.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "class_id": (INT32, "class number"),
        "label": (TEXT, "class name"),
        "clip_id": (TEXT, "id of the clip"),
        "kind": (
            TEXT,
            "real, synthetic or nearest (the real clip nearest to what a generator made of the class)",
        ),
        "note": (TEXT, "what to know of it: prompt, generator, true class; or null"),
        "audio_mp3": (pa.binary(), "the clip as MP3, which every browser plays"),
        "spectrogram_png": (pa.binary(), "its log-mel spectrogram as PNG"),
    },
    ("class_id", "kind", "clip_id"),
)
