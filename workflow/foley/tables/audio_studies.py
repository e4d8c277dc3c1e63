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
        "vocoder": (
            TEXT,
            "what made audio of mel images: griffin_lim, or a model; null for other generators",
        ),
        "seed": (INT64, "seed of the clip: with the model it reproduces the clip"),
        "candidate_rank": (INT32, "place among the candidates of one prompt, from 0, or null"),
        "candidates": (INT32, "how many were drawn and ranked, or null"),
        "candidate_score": (FLOAT32, "what they were ranked by: similarity to the prompt, or null"),
        "attempts": (INT32, "draws until one was neither silent nor clipped nor broken, or null"),
        "channels": (INT32, "channels that the generator made, of which this is the mean, or null"),
        "peak": (FLOAT32, "largest sample as generated, full scale = 1; more is cut off in the stored audio"),
        "rms_db": (FLOAT32, "root mean square as generated, dB of full scale, or null"),
        "loudness_lufs": (FLOAT32, "loudness as generated (ITU-R BS.1770-4), or null where it has none"),
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

REJECTED_SYNTHETIC = TableKind(
    "rejected_synthetic",
    "Generated clips that were refused, each with the reason. Of interpolated ones another took its place; a prompted "
    "one had its attempts, and its place stays empty.",
    {
        "clip_id": (TEXT, "id that the clip would have had"),
        "class_id": (INT32, "class that was asked for"),
        "label": (TEXT, "its name"),
        "generator": (TEXT, "generator id in the config"),
        "method": (TEXT, "interpolated or prompted"),
        "sources": (TEXTS, "real clips that it was made from; empty for prompted ones"),
        "prompt_id": (TEXT, "id of the prompt, or null"),
        "prompt": (TEXT, "text of the prompt, or null"),
        "attempts": (INT32, "draws, or null"),
        "seed": (INT64, "seed of the clip, of the last draw"),
        "reason": (TEXT, "silent, clipped or not_finite"),
        "detail": (TEXT, "what was seen"),
    },
    ("clip_id", "seed"),
    frozenset({"clip_id", "class_id", "label", "generator", "method", "seed", "reason", "detail"}),
)

GENERATION_COST = TableKind(
    "generation_cost",
    "What the clips of a shard took, attempts and interrupted runs included; one row per device. Measured, so unlike "
    "other tables it differs from run to run.",
    {
        "device": (TEXT, "name of the GPU, or cpu"),
        "generator": (TEXT, "generator id in the config"),
        "prompts": (TEXT, "prompts id in the config"),
        "model_id": (TEXT, "hub id or folder of the model, or its kind"),
        "precision": (TEXT, "type of number that it computed in"),
        "clips": (INT64, "clips that were kept"),
        "rejected": (INT64, "clips that were refused after all attempts"),
        "drawn": (INT64, "clips that were drawn in all: attempts and candidates"),
        "audio_s": (FLOAT64, "seconds of audio that were kept"),
        "seconds": (FLOAT64, "seconds of generating, without loading the model"),
        "peak_memory_bytes": (INT64, "most device memory that was in use in this run, or null"),
    },
    ("device",),
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
        "similarity": (FLOAT64, "cosine of the clip and the class's prompt"),
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
