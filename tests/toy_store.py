"""Ten short clips of each of three classes, stored as the workflow stores them, for tests of the audio studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.audio.decode import encode_flac, to_pcm16
from foley.tables.audio_studies import AUDIO_PARTITION, SYNTHETIC_CLIPS
from foley.tables.clips import AUDIO

STORED_HZ = 8_000
LABELS = {3: "bell", 7: "dog", 8: "rain"}  # class ids need not be consecutive


def sound(class_id: int, seed: int, seconds: float) -> np.ndarray:
    """A tone, noise or clicks: what a tiny network can tell apart."""
    generator = np.random.default_rng([class_id, seed])
    time = np.arange(round(seconds * STORED_HZ)) / STORED_HZ
    if class_id == 3:
        clean = 0.4 * np.sin(2 * np.pi * generator.uniform(200, 1500) * time)
    elif class_id == 7:
        clean = 0.2 * generator.normal(size=len(time))
    else:
        clean = 0.8 * (np.arange(len(time)) % generator.integers(400, 800) < 4)
    return np.clip(clean + 0.01 * generator.normal(size=len(time)), -1, 1).astype(np.float32)


def flac(samples: np.ndarray) -> dict[str, Any]:
    return {"bytes": encode_flac(to_pcm16(samples), STORED_HZ), "path": None}


def synthetic(path: Path, per_class: Mapping[int, int], **more: Any) -> Path:
    rows = [
        {
            "clip_id": f"made-{class_id}-{number}", "class_id": class_id, "label": LABELS.get(class_id, "cat"),
            "generator": "g", "method": "sampled", "seed": number, "sample_rate_hz": STORED_HZ, "sources": [],
            "audio": flac(sound(class_id, 1000 + number, 0.5)),
        } | more
        for class_id, count in per_class.items() for number in range(count)
    ]  # fmt: skip
    tables.write(path, SYNTHETIC_CLIPS, rows)
    return path


@dataclass(frozen=True)
class Store:
    """Ten clips of each class in two shards, with their waveforms at full rate, and their partition."""

    shards: list[Path]
    rows: list[dict[str, Any]]
    partition: Path
    waveforms: dict[str, np.ndarray]

    @property
    def class_of(self) -> dict[str, int]:
        return {row["clip_id"]: row["class_id"] for row in self.rows}


def make_store(folder: Path) -> Store:
    """The clips in two shards and their partition, below ``folder``."""
    rows, clips, waveforms = [], [], {}
    for class_id, label in LABELS.items():
        for number in range(10):
            clip_id = f"{number}-{label}"
            samples = sound(class_id, number, 0.4 + 0.02 * number)
            waveforms[clip_id] = np.asarray(to_pcm16(samples) / 32768, dtype=np.float32)
            role = "train" if number < 6 else "validation" if number < 8 else "test"
            rows.append({"clip_id": clip_id, "class_id": class_id, "recording_id": clip_id, "role": role})
            clips.append(
                {
                    "dataset": "toy", "clip_id": clip_id, "label": label, "recording_id": clip_id, "sha256": clip_id,
                    "duration_s": len(samples) / STORED_HZ, "sample_rate_hz": STORED_HZ, "audio": flac(samples),
                }
            )  # fmt: skip
    shards = [folder / f"shard={number}.parquet" for number in range(2)]
    for number, shard in enumerate(shards):
        tables.write(shard, AUDIO, clips[number::2])
    tables.write(folder / "partition.parquet", AUDIO_PARTITION, rows)
    return Store(shards, sorted(rows, key=lambda r: r["clip_id"]), folder / "partition.parquet", waveforms)
