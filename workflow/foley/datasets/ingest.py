"""Raw files -> shards of clips: decode, mix, resample, hash, store as FLAC in Parquet, quarantine the bad."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foley import tables
from foley.audio.acoustic_hash import acoustic_hash
from foley.audio.container import ClipRejected
from foley.audio.decode import as_float, decode, encode_flac, load, to_pcm16
from foley.audio.store import Progress
from foley.datasets.index import rows_of_shard
from foley.datasets.protocol import DatasetKind
from foley.datasets.tree import read_list
from foley.tables.clips import AUDIO, CLIPS, RAW_CLIPS, REJECTED

log = logging.getLogger(__name__)

ROW_GROUP_CLIPS = 32


@dataclass(frozen=True)
class IngestOptions:
    """How clips are taken in (config: ``datasets.<id>``)."""

    sample_rate_hz: int = 16_000
    min_duration_s: float = 0.1
    max_duration_s: float = 600.0


def _ingest_one(
    raw: Mapping[str, Any], source: Path | bytes, dataset: str, options: IngestOptions
) -> dict[str, Any]:
    """One clip row with audio; raises ClipRejected."""
    if not raw["label"]:
        raise ClipRejected(
            "no_class", "it has no label; in a folder of classes it lies outside of all of them"
        )
    is_part = raw["start_s"] is not None or raw["end_s"] is not None
    try:
        # A file is read once, for its hash and for its samples.
        content = source if is_part or isinstance(source, bytes) else load(source)
        decoded = decode(
            content,
            options.sample_rate_hz,
            min_duration_s=options.min_duration_s,
            max_duration_s=options.max_duration_s,
            start_s=raw["start_s"],
            end_s=raw["end_s"],
        )
        is_file = not is_part and raw["row"] is None
        source_sha256 = _sha256(content) if is_file else None
    except FileNotFoundError:
        raise ClipRejected("missing", "the dataset lists it, but there is no such file") from None
    except OSError as error:
        raise ClipRejected("unreadable", error.strerror or str(error)) from None
    pcm = to_pcm16(decoded.samples)
    peak, rms = levels(pcm)
    return {
        **{key: raw[key] for key in ("clip_id", "label", "labels", "split", "fold", "shard")},
        **{key: raw[key] for key in ("recording_id", "speaker_id", "source")},
        "dataset": dataset,
        "duration_s": decoded.duration_s,
        "sample_rate_hz": decoded.sample_rate_hz,
        "source_sample_rate_hz": decoded.source_sample_rate_hz,
        "source_channels": decoded.source_channels,
        "peak": peak,
        "rms_dbfs": 20 * math.log10(max(rms, 1e-12)),
        "sha256": hashlib.sha256(pcm.data).hexdigest(),
        "source_sha256": source_sha256,
        # Of the stored samples, rounding included, so that it can be computed again from a shard.
        "acoustic_hash": acoustic_hash(as_float(pcm), decoded.sample_rate_hz),
        "audio": {"bytes": encode_flac(pcm, decoded.sample_rate_hz), "path": f"{raw['clip_id']}.flac"},
    }


def _sha256(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def levels(pcm: np.ndarray) -> tuple[float, float]:
    """Largest absolute sample and root mean square of int16 samples [T], full scale = 1."""
    peak = max(int(pcm.max()), -int(pcm.min()))
    # Whole numbers, whose sum is exact: the same in any order, and so on any machine.
    exact = pcm.astype(np.float64)
    return peak / 32768, math.sqrt(float(np.einsum("i,i->", exact, exact)) / len(pcm)) / 32768


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: Iterable[Any], ahead: int
) -> Iterator[tuple[Any, Future[Any]]]:
    """Run ``work`` on all items with at most ``ahead`` under way; yield in order, memory bounded."""
    waiting: deque[tuple[Any, Future[Any]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(work, item)))
        if len(waiting) >= ahead:
            yield waiting.popleft()
    yield from waiting


def ingest_shard(
    audio_path: Path,
    rejected_path: Path,
    *,
    dataset: str,
    kind: DatasetKind,
    root: Path,
    shards: int,
    shard: int,
    options: IngestOptions,
    cache: Path | None = None,
    threads: int = 1,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Ingest the raw clips below ``root`` that belong to ``shard``.

    Memory stays that of a few dozen clips, whatever the size of the shard: results stream into row groups.
    soundfile and soxr release the interpreter lock, so threads share the work.

    Args:
        cache: folder where `foley.datasets.tree.fingerprint` has left the names of each shard's files; without it, or
            where they are not there, the tree is listed.

    Raises:
        FileNotFoundError, ValueError: as `foley.datasets.index.rows_of_shard`.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"the folder of dataset {dataset} is gone: {root}")
    files = None
    if cache is not None and kind.by_file:
        files = read_list(root, shards, shard, cache, media=kind.media, tables=kind.tables)
    rows = rows_of_shard(kind, root, shards, shard, files)
    rejected: list[dict[str, Any]] = []
    batch: list[dict[str, Any]] = []
    with (
        tables.writer(audio_path, AUDIO, provenance) as out,
        ThreadPoolExecutor(max_workers=max(1, threads)) as pool,
    ):
        work = _in_order(
            pool,
            lambda item: _ingest_one(item[0], item[1], dataset, options),
            kind.read(root, rows),
            ahead=2 * threads + 2,
        )
        for (row, _), done in progress(work):
            try:
                batch.append(done.result())
            except ClipRejected as error:
                rejected.append(
                    {key: row[key] for key in ("clip_id", "label", "source")}
                    | {"dataset": dataset, "reason": error.reason, "detail": error.detail}
                )
            if len(batch) >= ROW_GROUP_CLIPS:
                out.write(batch)
                batch = []
        out.write(batch)
    tables.write(rejected_path, REJECTED, rejected, provenance)
    log.info("shard %d of %s: %d clips, %d rejected", shard, dataset, out.rows, len(rejected))


class TooManyRejected(ValueError):
    """More clips were rejected than the config allows."""


def collect_clips(
    clips_path: Path,
    rejected_path: Path,
    *,
    dataset: str,
    manifest: Path,
    audio: Sequence[Path],
    rejected: Sequence[Path],
    max_rejected: float,
    duplicates: str,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Join the shards' rows into the dataset's clip table, without the audio.

    Equal audio (by hash of the stored samples) is a leak wherever a split parts it, so with
    ``duplicates="reject"`` only the first of equal clips, by id, stays.

    Raises:
        TooManyRejected: the rejected part exceeds ``max_rejected``; both tables are written first, so that
            the reasons can be read.
        ValueError: no clip is left.
    """
    columns = [name for name in CLIPS.columns if name != "class_id"]
    clips = tables.read(list(audio), columns=columns).sort_by("clip_id")
    raw = tables.read(manifest, RAW_CLIPS, columns=["clip_id", "class_id"])
    class_of = dict(zip(raw["clip_id"].to_pylist(), raw["class_id"].to_pylist(), strict=True))
    ids = [class_of[clip_id] for clip_id in clips["clip_id"].to_pylist()]
    clips = clips.append_column("class_id", pa.array(ids, pa.int32()))
    refused = tables.read(list(rejected), REJECTED).to_pylist()
    if duplicates == "reject":
        first: dict[str, str] = {}
        keep = []
        for clip_id, label, source, digest in zip(
            *(clips[name].to_pylist() for name in ("clip_id", "label", "source", "sha256")), strict=True
        ):
            original = first.setdefault(digest, clip_id)
            keep.append(original == clip_id)
            if original != clip_id:
                refused.append(
                    {
                        "dataset": dataset,
                        "clip_id": clip_id,
                        "label": label,
                        "source": source,
                        "reason": "duplicate",
                        "detail": f"the same samples as {original}",
                    }
                )
        clips = clips.filter(pa.array(keep, type=pa.bool_()))
    tables.write(rejected_path, REJECTED, refused, provenance)
    total = clips.num_rows + len(refused)
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(r["reason"] for r in refused).most_common())
    if not clips.num_rows:
        raise ValueError(
            f"dataset {dataset}: no clip is left of {total} ({reasons or 'no audio files found'})"
        )
    if len(refused) > max_rejected * total:
        # Snakemake removes the outputs of a failed job, so the reasons go into the message and the log.
        for row in refused:
            log.error("rejected %s: %s (%s)", row["source"], row["reason"], row["detail"])
        raise TooManyRejected(
            f"dataset {dataset}: {len(refused)} of {total} clips rejected ({reasons}), more than "
            f"max_rejected = {max_rejected:.0%}; mend the files listed in the log, or raise "
            f"datasets.{dataset}.max_rejected"
        )
    tables.write(clips_path, CLIPS, clips, provenance)
    log.info("%s: %d clips, %d rejected (%s)", dataset, clips.num_rows, len(refused), reasons or "none")
