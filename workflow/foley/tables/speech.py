"""The study of speech: who speaks in which part, which backgrounds serve which part, and curves over ratios."""

from __future__ import annotations

from foley.tables import FLOAT64, INT32, INT64, TEXT, TableKind

SPEECH_PARTITION = TableKind(
    "speech_partition",
    "Which part each clip of speech plays in one split, speakers and recordings kept apart.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "class_id": (INT32, "class number"),
        "recording_id": (TEXT, "clips cut from one recording share it"),
        "speaker_id": (TEXT, "speaker, or null where the dataset names none"),
        "role": (TEXT, "train, validation or test"),
    },
    ("clip_id",),
    frozenset({"clip_id", "class_id", "recording_id", "role"}),
)

BACKGROUNDS = TableKind(
    "backgrounds",
    "Which clips of one kind of background are mixed into training clips, and which into test clips alone.",
    {
        "background": (TEXT, "real, or the source of generated clips"),
        "clip_id": (TEXT, "id of the clip"),
        "class_id": (INT32, "class number in the background dataset"),
        "label": (TEXT, "its name"),
        "recording_id": (TEXT, "recording that the clip was cut from; null for a generated clip"),
        "role": (TEXT, "train or test"),
        "duration_s": (FLOAT64, "seconds of it that are used"),
    },
    ("class_id", "clip_id"),
    frozenset({"background", "clip_id", "class_id", "role", "duration_s"}),
)

SPEECH_SCORES = TableKind(
    "speech_scores",
    "The scores of the study of speech with background and ratio as columns, to draw curves from; the same values are "
    "in the table of all scores.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study; mean = the test clips of all folds together"),
        "recogniser": (TEXT, "audio classifier id in the config"),
        "arm": (TEXT, "what training clips went through: none, real, classic or a source"),
        "background": (TEXT, "what was mixed into test clips: real or a source; null = clean speech"),
        "snr_db": (FLOAT64, "at which ratio; null = clean, or the mean over all ratios of the background"),
        "metric": (TEXT, "what was measured (docs/metrics.md)"),
        "seed": (INT32, "seed; null = over all seeds"),
        "class_id": (INT32, "class; null = all classes"),
        "value": (FLOAT64, "the value"),
        "low": (FLOAT64, "lower end of the 95 % bootstrap interval, or null"),
        "high": (FLOAT64, "upper end of the 95 % bootstrap interval, or null"),
        "n": (INT64, "number of clips (or seeds) behind the value"),
    },
    ("dataset", "split", "recogniser", "arm", "background", "snr_db", "metric", "seed", "class_id"),
)

KEPT_APART = TableKind(
    "kept_apart",
    "What was found to be kept apart where it was used: speakers, recordings and backgrounds by part.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study, or of the backgrounds"),
        "what": (TEXT, "speakers, recordings, background recordings or background clips"),
        "background": (TEXT, "real or a source; null for speech"),
        "train": (INT64, "how many in training"),
        "validation": (INT64, "how many in validation"),
        "test": (INT64, "how many in the test"),
        "shared": (INT64, "how many in two parts: always 0, or the job would have stopped"),
        "seconds": (FLOAT64, "of backgrounds: seconds of audio in training; else null"),
    },
    ("dataset", "split", "what", "background"),
)
