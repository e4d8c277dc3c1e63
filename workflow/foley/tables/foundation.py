"""The study of prompted generators: which classes and clips are used, what was chosen, and what it cost."""

from __future__ import annotations

from foley.tables import FLOAT64, INT32, INT64, TEXT, TableKind

CLASS_CHOICE = TableKind(
    "class_choice",
    "How many synthetic clips of each class a mix uses, and what validation clips said that led to it.",
    {
        "class_id": (INT32, "class number"),
        "filter": (TEXT, "precision or active"),
        "clips": (INT32, "synthetic clips of the class that are used"),
        "measured": (TEXT, "what was measured on validation clips: precision or gain"),
        "value": (FLOAT64, "its value, mean of the seeds; null where a class was never said"),
        "n": (INT64, "validation clips behind it: said to be of the class (precision), or of it (gain)"),
        "reason": (TEXT, "why it is used so"),
    },
    ("class_id",),
)

MIX_CHOICE = TableKind(
    "mix_choice",
    "What validation clips chose among the mixes with as many real clips.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study"),
        "variant": (TEXT, "recogniser and part of the real clips"),
        "method": (TEXT, "the mix"),
        "accuracy": (FLOAT64, "on validation clips, mean of the seeds"),
        "n": (INT64, "validation clips"),
        "chosen": (INT32, "1 = this one"),
    },
    ("dataset", "split", "variant", "method"),
)

MIX_CLIPS = TableKind(
    "mix_clips",
    "How many clips of each class a mix had in the draw of each seed, and how many synthetic ones it was to have.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study"),
        "variant": (TEXT, "recogniser and part of the real clips"),
        "method": (TEXT, "the mix"),
        "seed": (INT64, "seed of the recogniser, and of the draw"),
        "class_id": (INT32, "class number"),
        "real": (INT32, "real clips"),
        "wanted": (INT32, "synthetic clips that the mix is to have, after its filter"),
        "taken": (INT32, "synthetic clips that it had: fewer where clips of the source were refused"),
    },
    ("dataset", "split", "variant", "method", "seed", "class_id"),
)

COSTS = TableKind(
    "costs",
    "What the clips of each source cost.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of a generator that is trained on it, or null"),
        "source": (TEXT, "generator and prompts"),
        "generator": (TEXT, "generator id in the config"),
        "prompts": (TEXT, "prompt id in the config, or null"),
        "clips": (INT64, "clips made"),
        "audio_h": (FLOAT64, "their length, hours"),
        "compute_s": (
            FLOAT64,
            "seconds of generating; of a generator that was trained here, of its jobs; or null",
        ),
        "device": (TEXT, "GPUs that made the clips, or cpu; null for a generator that was trained here"),
        "requests": (
            INT64,
            "requests to a language model, with those that failed before an answer came, or null",
        ),
        "input_tokens": (INT64, "tokens sent to it, or null"),
        "output_tokens": (INT64, "tokens that it wrote, or null"),
    },
    ("dataset", "source", "split"),
)
