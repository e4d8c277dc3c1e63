"""How near the prompts of its class come to a clip, in CLAP's space (published: LAION-CLAP, "This is a sound of …")."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.audio.decode import resample
from foley.audio.store import Progress, iter_waveforms
from foley.metrics.prompt_accuracy import prompt_hits
from foley.studies.audio.clips import named
from foley.tables.audio_studies import AUDIO_PARTITION, PROMPTED, SYNTHETIC_CLIPS
from foley.tables.classes import CLASSES

log = logging.getLogger(__name__)


def prompt_synthetic(
    output: Path,
    *,
    synthetic: Sequence[Path],
    partition: Path,
    classes: Path,
    model: str | Path,
    revision: str | None = None,
    template: str,
    batch_size: int = 16,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the rank of each synthetic clip's own prompt among those of all classes of the split, and its cosine.

    Args:
        synthetic: tables of synthetic clips.
        partition: the split, whose classes have a prompt each.
        classes: the dataset's class table; underscores in labels are read as spaces.
        model, revision: of CLAP, a local folder or an id of the Hugging Face hub.
        template: sentence for a class, with ``{label}`` in it.
        batch_size: clips in memory at once.

    Raises:
        ValueError: the template lacks ``{label}``, a class of the split has no row, or a clip is of another class.
    """
    class_of: dict[str, int] = {}
    for shard in synthetic:
        table = tables.read(shard, SYNTHETIC_CLIPS, columns=["clip_id", "class_id"])
        class_of.update(zip(table["clip_id"].to_pylist(), table["class_id"].to_pylist(), strict=True))
    _write(
        output, synthetic, class_of, partition, classes, model, revision, template, batch_size, progress, provenance
    )  # fmt: skip


def prompt_real(
    output: Path,
    *,
    audio: Sequence[Path],
    partition: Path,
    classes: Path,
    model: str | Path,
    revision: str | None = None,
    template: str,
    role: str = "test",
    batch_size: int = 16,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """The same of a split's real clips: what CLAP can hear at all.

    Args:
        audio: shards of the dataset's stored clips.
        role: of the clips.
    """
    parts = tables.read(partition, AUDIO_PARTITION).to_pylist()
    class_of = {row["clip_id"]: row["class_id"] for row in parts if row["role"] == role}
    _write(
        output, audio, class_of, partition, classes, model, revision, template, batch_size, progress, provenance
    )  # fmt: skip


def _write(
    output: Path,
    shards: Sequence[Path],
    class_of: Mapping[str, int],
    partition: Path,
    classes: Path,
    model: str | Path,
    revision: str | None,
    template: str,
    batch_size: int,
    progress: Progress,
    provenance: Mapping[str, Any] | None,
) -> None:
    if "{label}" not in template:
        raise ValueError(f"the template {template!r} must contain {{label}}")
    if not class_of:
        raise ValueError(f"no clips to hold against prompts: {partition} and {list(shards)} have none")
    class_ids = np.unique(
        tables.read(partition, AUDIO_PARTITION, columns=["class_id"])["class_id"].to_numpy()
    )
    table = tables.read(classes, CLASSES, columns=["class_id", "label"])
    label_of = dict(zip(table["class_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    lacking = [int(c) for c in class_ids if c not in label_of]
    if lacking:
        raise ValueError(
            f"classes {lacking} of {partition} have no row in {classes}; ingest the dataset again"
        )
    number = {int(class_id): row for row, class_id in enumerate(class_ids)}
    strange = sorted(clip_id for clip_id, class_id in class_of.items() if class_id not in number)
    if strange:
        raise ValueError(f"clips of classes that {partition} does not have: {named(strange)}")

    from foley.encoders.clap import ClapEncoder

    encoder = ClapEncoder(model, revision)
    texts = encoder.embed_text(
        [template.replace("{label}", label_of[int(c)].replace("_", " ")) for c in class_ids]
    )
    rows: dict[str, dict[str, Any]] = {}
    for shard in progress(shards):
        for ids, waveforms, stored_hz in iter_waveforms(shard, keep=class_of.keys(), batch_size=batch_size):
            heard = [resample(samples, stored_hz, encoder.sample_rate_hz) for samples in waveforms]
            vectors = encoder.embed_audio(heard, batch_size=batch_size)
            truth = np.array([number[class_of[clip_id]] for clip_id in ids])
            hits = prompt_hits(vectors, texts, truth, ranks=range(1, len(texts) + 1))
            # A clip is right at its own text's rank and at all after it.
            ranks = 1 + len(texts) - hits.correct.sum(axis=0)
            cosines = (vectors * texts[truth]).sum(axis=1)  # both are of length 1
            for clip_id, rank, precision, cosine in zip(
                ids, ranks, hits.average_precision, cosines, strict=True
            ):
                if clip_id in rows:
                    raise ValueError(
                        f"{shard}: clip `{clip_id}` is in another table, too; ids must be unique"
                    )
                rows[clip_id] = {
                    "clip_id": clip_id,
                    "class_id": class_of[clip_id],
                    "template": template,
                    "rank": int(rank),
                    "average_precision": float(precision),
                    "similarity": float(cosine),
                }
    silent = sorted(class_of.keys() - rows.keys())
    if silent:
        places = ", ".join(sorted({str(shard.parent) for shard in shards})) or "no shards"
        raise ValueError(f"{len(silent)} clips have no audio in {places}: {named(silent)}")
    log.info("%d clips held against %d prompts", len(rows), len(texts))
    tables.write(output, PROMPTED, rows.values(), provenance)
