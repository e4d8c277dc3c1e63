"""Classes: what is known of them without audio, and their vectors."""

from __future__ import annotations

from foley.tables import INT32, TEXT, TEXTS, VECTOR, TableKind

CLASSES = TableKind(
    "classes",
    "One row per class: what is known of it without audio.",
    {
        "class_id": (INT32, "class number"),
        "label": (TEXT, "class name"),
        "words": (TEXTS, "the label's own words"),
        "synonyms": (TEXTS, "related words, ours"),
        "parents": (TEXTS, "names of the classes right above it in the dataset's hierarchy"),
        "attributes": (VECTOR, "graded acoustic attributes in [0, 1], or null"),
    },
    ("class_id",),
    frozenset({"class_id", "label"}),
)

CLASS_VECTORS = TableKind(
    "class_vectors",
    "One vector per class, from words, attributes or a sentence.",
    {"class_id": (INT32, "class number"), "label": (TEXT, "class name"), "vector": (VECTOR, "class vector")},
    ("class_id",),
)

MISSING_WORDS = TableKind(
    "missing_words",
    "Words of a class that have no vector; the class vector is the mean of the others.",
    {
        "class_id": (INT32, "class number"),
        "label": (TEXT, "class name"),
        "word": (TEXT, "word without a vector"),
    },
    ("class_id", "word"),
)
