"""Clips: what a raw tree promises, what was accepted, what was refused."""

from __future__ import annotations

import pyarrow as pa

from foley.tables import FLOAT64, INT32, INT64, TEXT, TEXTS, TableKind

RAW_CLIPS = TableKind(
    "raw_clips",
    "One row per raw audio file, before anything was decoded (the manifest of a dataset).",
    {
        "clip_id": (TEXT, "id of the clip, unique in its dataset"),
        "source": (TEXT, "path of the file, relative to the dataset's folder"),
        "row": (INT32, "row of a Parquet file that holds the clip, or null for a file of its own"),
        "start_s": (FLOAT64, "where the clip starts in its file; null = at the beginning"),
        "end_s": (FLOAT64, "where the clip ends in its file; null = at the end"),
        "class_id": (INT32, "class number; null where the dataset has none for this file"),
        "label": (TEXT, "class name"),
        "labels": (TEXTS, "all class names of the clip (one for single-label data)"),
        "split": (TEXT, "official split (train, validation, test) or null"),
        "fold": (INT32, "official fold or null"),
        "recording_id": (TEXT, "clips cut from one recording share it"),
        "speaker_id": (TEXT, "speaker, for speech, or null"),
        "shard": (INT32, "the shard that ingests the file"),
    },
    ("clip_id",),
    frozenset({"clip_id", "source", "label", "recording_id", "shard"}),
)

RAW_CLASSES = TableKind(
    "raw_classes",
    "One row per class that a dataset defines, with or without clips.",
    {
        "class_id": (INT32, "class number"),
        "label": (TEXT, "class name"),
        "parents": (
            TEXTS,
            "names of the classes right above it in the dataset's hierarchy; may be outside this table",
        ),
    },
    ("class_id",),
    frozenset({"class_id", "label"}),
)

CLIPS = TableKind(
    "clips",
    "One row per accepted clip.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "clip_id": (TEXT, "id of the clip, unique in its dataset"),
        "class_id": (INT32, "class number"),
        "label": (TEXT, "class name"),
        "labels": (TEXTS, "all class names of the clip"),
        "split": (TEXT, "official split or null"),
        "fold": (INT32, "official fold or null"),
        "recording_id": (TEXT, "clips cut from one recording share it"),
        "speaker_id": (TEXT, "speaker or null"),
        "duration_s": (FLOAT64, "length in seconds"),
        "sample_rate_hz": (INT32, "sample rate of the stored audio"),
        "source_sample_rate_hz": (INT32, "sample rate of the raw file"),
        "source_channels": (INT32, "channels of the raw file (stored audio is mono)"),
        "peak": (FLOAT64, "largest absolute sample of the stored audio, full scale = 1"),
        "rms_dbfs": (FLOAT64, "root mean square level in dB re full scale"),
        "sha256": (TEXT, "hash of the stored samples (mono 16-bit PCM at sample_rate_hz)"),
        "source_sha256": (TEXT, "hash of the raw file's bytes; null where a file holds several clips"),
        "acoustic_hash": (
            pa.binary(32),
            "256 bits that resampling, re-encoding and gain change little (foley.audio.acoustic_hash)",
        ),
        "source": (TEXT, "path of the raw file, relative to the dataset's folder"),
        "shard": (INT32, "the shard that holds the audio"),
    },
    ("clip_id",),
    frozenset({"dataset", "clip_id", "label", "recording_id", "duration_s", "sample_rate_hz", "sha256"}),
)

AUDIO = TableKind(
    "audio",
    "A shard of clips with their audio in the Hugging Face `Audio` form (FLAC bytes).",
    {
        # No class number: it may shift when a class is added, and shards of old clips stay as they are.
        **{name: column for name, column in CLIPS.columns.items() if name != "class_id"},
        "audio": (
            pa.struct([("bytes", pa.binary()), ("path", TEXT)]),
            "FLAC bytes and a file name, as `datasets.Audio` stores them",
        ),
    },
    ("clip_id",),
    CLIPS.not_null,
)

LEAKS = TableKind(
    "leaks",
    "What lies on both sides of a dataset's official folds or splits.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "what": (
            TEXT,
            "audio (equal samples), near_audio (resampled, re-encoded or louder), recording or speaker",
        ),
        "between": (TEXT, "fold or split: what is leaked across"),
        "key": (TEXT, "hash, recording or speaker that occurs on several sides"),
        "sides": (TEXTS, "the folds or splits where it occurs"),
        "clip_ids": (TEXTS, "the clips that share it, at most 20"),
        "clips": (INT64, "how many clips share it"),
        "claimed": (pa.bool_(), "whether the dataset claims that this does not happen"),
    },
    ("what", "between", "key"),
    frozenset({"dataset", "what", "between", "key", "sides", "clips", "claimed"}),
)

REJECTED = TableKind(
    "rejected",
    "One row per raw clip that was refused, with the reason.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "clip_id": (TEXT, "id of the clip"),
        "label": (TEXT, "class name"),
        "source": (TEXT, "path of the raw file, relative to the dataset's folder"),
        "reason": (
            TEXT,
            "missing, unreadable, no_sound_track, truncated, empty, silent, not_finite, too_short, duplicate, …",
        ),
        "detail": (TEXT, "what was seen"),
    },
    ("clip_id", "source"),
    frozenset({"dataset", "clip_id", "source", "reason"}),
)
