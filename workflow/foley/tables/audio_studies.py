"""The studies of generated audio: which clip is for what, what was generated, and how good it is."""

from __future__ import annotations

import pyarrow as pa

from foley.tables import FLOAT32, FLOAT64, INT32, INT64, TEXT, TEXTS, VECTOR, TableKind

AUDIO_PARTITION = TableKind(
    "audio_partition",
    "Which part each clip plays in one split of the audio studies.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "class_id": (INT32, "class number"),
        "recording_id": (TEXT, "clips cut from one recording share it"),
        "role": (TEXT, "train, validation or test"),
    },
    ("clip_id",),
    frozenset({"clip_id", "class_id", "recording_id", "role"}),
)

SYNTHETIC_CLIPS = TableKind(
    "synthetic_clips",
    "Generated clips with their audio, and how each was made.",
    {
        "clip_id": (TEXT, "id of the clip, unique in its dataset and split"),
        "class_id": (INT32, "class that was asked for"),
        "label": (TEXT, "its name"),
        "generator": (TEXT, "generator id in the config"),
        "model_id": (TEXT, "kind of a model that was trained here, or hub id or folder of another"),
        "model_revision": (TEXT, "pinned revision of a hub id, or null"),
        "method": (TEXT, "sampled (from noise), interpolated (between two clips) or prompted"),
        "sources": (TEXTS, "real clips that it was made from; empty for others"),
        "prompt_id": (TEXT, "id of the prompt, or null"),
        "prompt": (TEXT, "text of the prompt, or null"),
        "sampler": (TEXT, "sampler, or null"),
        "steps": (INT32, "sampling steps, or null"),
        "guidance": (FLOAT32, "scale of classifier-free guidance, or null"),
        "seed": (INT64, "seed of the clip: with the model it reproduces the clip"),
        "candidate_rank": (INT32, "place among the candidates of one prompt, from 0, or null"),
        "round_trip_db": (
            FLOAT32,
            "interpolated: mean error of its sources' mel after inversion and decoding, dB",
        ),
        "duration_s": (FLOAT64, "length, seconds"),
        "sample_rate_hz": (INT32, "sample rate"),
        "audio": (
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            "FLAC bytes, in the form of the Hugging Face `Audio` feature",
        ),
    },
    ("clip_id",),
    frozenset({"clip_id", "class_id", "label", "generator", "method", "seed", "sample_rate_hz", "audio"}),
)

RECOGNISED = TableKind(
    "recognised",
    "What classifiers that were trained on real clips make of other clips: one row per clip and seed.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "kind": (TEXT, "synthetic, or the role of a real one: train or test"),
        "class_id": (INT32, "true class, or the one that was asked for"),
        "seed": (INT32, "seed of the classifier"),
        "predicted_class_id": (INT32, "class with the highest score"),
        "rank": (INT32, "place of the true class among the scores, from 1"),
        "log_probability": (FLOAT32, "log-probability of the true class"),
    },
    ("kind", "clip_id", "seed"),
)

PROBE_EMBEDDINGS = TableKind(
    "probe_embeddings",
    "What a classifier's last hidden layer makes of real and of synthetic clips.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "kind": (TEXT, "synthetic, or the role of a real one: train or test"),
        "class_id": (INT32, "true class, or the one that was asked for"),
        "vector": (VECTOR, "embedding"),
    },
    ("kind", "clip_id"),
)

PROMPTED = TableKind(
    "prompted",
    "How near the prompts of its class come to each synthetic clip, in CLAP's space.",
    {
        "clip_id": (TEXT, "id of the clip"),
        "class_id": (INT32, "class that was asked for"),
        "template": (TEXT, "sentence for a class"),
        "rank": (INT32, "place of the class's prompt among those of all classes, from 1"),
        "average_precision": (FLOAT64, "average precision over the first 10 prompts"),
    },
    ("clip_id",),
)

AUDIO_QUALITY = TableKind(
    "audio_quality",
    "Quality of generated clips against real ones: one row per measure, embedding and class.",
    {
        "dataset": (TEXT, "id of the dataset in the config"),
        "split": (TEXT, "split of the study"),
        "generator": (TEXT, "generator id in the config"),
        "embedding": (TEXT, "embedding id in the config, probe:<classifier id>, or clap"),
        "class_id": (INT32, "class; null = all classes"),
        "metric": (TEXT, "what was measured (docs/metrics.md)"),
        "value": (FLOAT64, "the value; null where the warning says that it cannot be had"),
        "low": (FLOAT64, "lower end of the 95 % interval, or null"),
        "high": (FLOAT64, "upper end of the 95 % interval, or null"),
        "n_real": (INT64, "real vectors"),
        "n_synthetic": (INT64, "synthetic vectors"),
        "dimension": (INT32, "length of the vectors, or null"),
        "warning": (TEXT, "why the value should not be trusted, or null"),
    },
    ("dataset", "split", "generator", "embedding", "metric", "class_id"),
)
