"""Clips made from prompts by a pretrained generator: the shard of a dataset's clips.

**Seeds.** A clip's seed comes from the generator's seed, the class's label and the clip's number in it, so that two
sets of prompts start from equal noise. With its prompt it is all that a clip depends on
(`foley.generators.audio.prompted`).

**Checks.** A clip that is silent, clipped or not finite is drawn again from the next seed of its own row of seeds,
a bounded number of times. If none of them will do, its place stays empty and `rejected` has the reason. Levels are
recorded as they are, not normalised.

**Nothing is made twice.** Finished clips lie in the cache, outside of what Snakemake removes when a job dies, each
under a hash of all that it depends on: weights, options, library versions, prompt, seed, and the code of the generator,
of checks and encoding (`foley.studies.audio.prompted_clip`). They are written batch by batch, whole or not at
all, and a batch is what it would have been in an uninterrupted run. So a killed job loses one batch at most; other
shards, more clips a class or another dataset with the same prompts cost nothing for what is there already.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from foley import tables
from foley.generators.audio.prompted import NO_MATTER, PromptedGenerator, plan_batches
from foley.prompts.read import prompt_of_clip, read_prompts
from foley.runtime.seeds import derive
from foley.studies.audio.prompted_clip import candidates_of, make_clips
from foley.tables import FLOAT32, FLOAT64, INT32, INT64, TEXT, TableKind
from foley.tables.audio_studies import GENERATION_COST, REJECTED_SYNTHETIC, SYNTHETIC_CLIPS

log = logging.getLogger(__name__)

PROMPTED = "prompted"
# Rows of a table that are in memory at once.
_ROWS_AT_ONCE = 32
_A_DAY_S = 86_400.0

# Passes batches through and may show how many clips are done (`Job.progress`, with the size of a batch).
Progress = Callable[[Iterable[list[int]]], Iterable[list[int]]]

_FINISHED = TableKind(
    "finished_clips",
    "Clips in the cache, accepted or refused.",
    {
        "key": (TEXT, "hash of what the clip depends on"),
        "seed": (INT64, "seed of the last draw"),
        "attempts": (INT32, "draws"),
        "reason": (TEXT, "why it was refused, or null"),
        "detail": (TEXT, "what was seen, or null"),
        "candidate_rank": (INT32, "see SYNTHETIC_CLIPS"),
        "candidates": (INT32, "see SYNTHETIC_CLIPS"),
        "candidate_score": (FLOAT32, "see SYNTHETIC_CLIPS"),
        "channels": (INT32, "see SYNTHETIC_CLIPS"),
        "peak": (FLOAT32, "see SYNTHETIC_CLIPS"),
        "rms_db": (FLOAT32, "see SYNTHETIC_CLIPS"),
        "loudness_lufs": (FLOAT32, "see SYNTHETIC_CLIPS"),
        "duration_s": (FLOAT64, "see SYNTHETIC_CLIPS"),
        "flac": (pa.binary(), "the audio, or null"),
        "drawn": (INT32, "clips that were drawn for it"),
        "seconds": (FLOAT64, "its part of the time that its batch took"),
        "device": (TEXT, "what it was made on"),
    },
    ("key",),
    frozenset({"key", "seed", "attempts", "drawn", "seconds", "device"}),
)


@dataclass(frozen=True)
class Wanted:
    """A clip to make; ``seed`` is that of its first draw."""

    clip_id: str
    label: str
    class_id: int
    prompt_id: str
    text: str
    seed: int


@dataclass(frozen=True)
class Asked:
    """Whose clips they are: ids in the config of the generator and of the prompts."""

    generator: str
    prompts: str


def wanted_clips(
    prompts: Path, class_of: Mapping[str, int], asked: Asked, clips_per_class: int, seed: int
) -> list[Wanted]:
    """All clips of a dataset, in the order of their ids.

    Args:
        prompts: table of them.
        class_of: label -> class number.

    Raises:
        ValueError: a class without prompts.
    """
    if clips_per_class < 1:
        raise ValueError(f"clips_per_class {clips_per_class} must be at least 1")
    texts = read_prompts(prompts)
    lacking = sorted(class_of.keys() - texts.keys())
    if lacking:
        raise ValueError(f"{prompts} has no prompt for class `{lacking[0]}`; write the prompts again")
    found = []
    for label, class_id in class_of.items():
        for number in range(clips_per_class):
            prompt = prompt_of_clip(texts[label], number)
            clip_id = f"{asked.generator}:{asked.prompts}:{label}:{number:05d}"
            first = derive(seed, PROMPTED, label, number)
            found.append(Wanted(clip_id, label, class_id, prompt.prompt_id, prompt.text, first))
    return sorted(found, key=lambda clip: clip.clip_id)


class FinishedClips:
    """Clips in the cache that one generator made, with one set of options; damaged files count as not there."""

    def __init__(self, cache: Path, facts: Mapping[str, Any]) -> None:
        self._identity = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        self._folder = cache / "prompted" / self._identity[:32]
        self._places: dict[str, tuple[Path, int]] = {}
        for left in self._folder.glob(".*.partial"):  # by a killed job; a younger one may still be written
            if time.time() - left.stat().st_mtime > _A_DAY_S:
                left.unlink(missing_ok=True)
        for path in sorted(self._folder.glob("*.parquet")):
            self._note(path)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def key(self, clip: Wanted) -> str:
        """What a clip is found by."""
        return hashlib.sha256(f"{self._identity}\x1f{clip.seed}\x1f{clip.text}".encode()).hexdigest()[:32]

    def keep(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add clips: all of them or, when the process dies, none."""
        rows = sorted(rows, key=lambda row: row["key"])
        names = "".join(row["key"] for row in rows)
        path = self._folder / f"{hashlib.sha256(names.encode()).hexdigest()[:32]}.parquet"
        with tables.writer(path, _FINISHED) as out:
            for row in rows:  # a row group each, so that one clip can be read
                out.write([row])
        self._note(path)

    def read(self, key: str) -> dict[str, Any]:
        path, group = self._places[key]
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group).to_pylist()[0]

    def _note(self, path: Path) -> None:
        try:
            keys = tables.read(path, columns=["key"])["key"].to_pylist()
        except tables.TableError as error:
            log.warning("%s; its clips are made again", error)
            return
        for group, key in enumerate(keys):
            self._places.setdefault(key, (path, group))


def generate_prompted(
    clips: Path,
    rejected: Path,
    cost: Path,
    *,
    generator: PromptedGenerator,
    asked: Asked,
    wanted: Sequence[Wanted],
    cache: Path,
    code: str,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Make the clips of a shard, or take them from the cache, and write them in the order of their ids.

    Args:
        clips, rejected, cost: tables to write.
        generator: loaded.
        wanted: the shard's clips, in the order of their ids.
        cache: folder where finished clips outlive a killed job.
        code: hash of all code that a clip depends on (`code_of_clips`).

    Raises:
        ValueError: too many clips failed all attempts; nothing is written, finished clips stay in the cache.
    """
    options, identity = generator.options, generator.identity()
    facts = {
        "options": {name: value for name, value in asdict(options).items() if name not in NO_MATTER},
        "identity": identity,
        "code": code,
    }
    finished = FinishedClips(cache, facts)
    keys = [finished.key(clip) for clip in wanted]
    there = sum(key in finished for key in keys)
    if there:
        log.info("%d of %d clips are in the cache", there, len(wanted))
    # All clips are put into batches, finished or not, so that a batch is the same whenever it is made.
    lengths = generator.lengths([clip.text for clip in wanted])
    for batch in progress(plan_batches(lengths, max(1, options.batch_size // candidates_of(generator)))):
        missing = [row for row in batch if keys[row] not in finished]
        if missing:
            made = make_clips(generator, [(wanted[row].text, wanted[row].seed) for row in missing])
            finished.keep([{"key": keys[row], **one} for row, one in zip(missing, made, strict=True)])
    refused, costs = _write(
        clips, generator, asked, list(zip(wanted, keys, strict=True)), finished, provenance
    )
    tables.write(rejected, REJECTED_SYNTHETIC, refused, provenance)
    same = {
        "generator": asked.generator,
        "prompts": asked.prompts,
        "model_id": generator.model_id,
        "precision": str(identity.get("dtype", torch.float32)).removeprefix("torch."),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    }
    tables.write(cost, GENERATION_COST, [{**same, **of_device} for of_device in costs], provenance)
    for spent in costs:
        log.info(
            "%d clips (%d drawn, %d refused) took %.1f s on %s: %.2f s of audio a second",
            spent["clips"], spent["drawn"], spent["rejected"], spent["seconds"], spent["device"],
            spent["audio_s"] / max(spent["seconds"], 1e-9),
        )  # fmt: skip


def _write(
    clips: Path,
    generator: PromptedGenerator,
    asked: Asked,
    wanted: Sequence[tuple[Wanted, str]],
    finished: FinishedClips,
    provenance: Mapping[str, Any] | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write the clips; rows of REJECTED_SYNTHETIC, and of GENERATION_COST as far as they differ."""
    refused: list[dict[str, Any]] = []
    costs: dict[str, dict[str, Any]] = {}
    common = {
        "generator": asked.generator,
        "model_id": generator.model_id,
        "model_revision": generator.model_revision,
        "sample_rate_hz": generator.sample_rate_hz,
        **generator.facts(),
    }
    kept = [name for name in _FINISHED.columns if name in SYNTHETIC_CLIPS.columns]
    with tables.writer(clips, SYNTHETIC_CLIPS, provenance) as out:
        for start in range(0, len(wanted), _ROWS_AT_ONCE):
            accepted = []
            for clip, key in wanted[start : start + _ROWS_AT_ONCE]:
                row = finished.read(key)
                _add_cost(costs, row)
                about = {
                    "clip_id": clip.clip_id,
                    "class_id": clip.class_id,
                    "label": clip.label,
                    "method": PROMPTED,
                    "sources": [],
                    "prompt_id": clip.prompt_id,
                    "prompt": clip.text,
                    "attempts": row["attempts"],
                    "seed": row["seed"],
                }
                if row["reason"] is not None:
                    more = {"generator": asked.generator, "reason": row["reason"], "detail": row["detail"]}
                    refused.append({**about, **more})
                    continue
                # A label may hold what a file name must not.
                name = clip.clip_id.replace("/", "_").replace(":", "-") + ".flac"
                audio = {"bytes": row["flac"], "path": name}
                accepted.append(
                    {**common, **about, **{column: row[column] for column in kept}, "audio": audio}
                )
            out.write(accepted)
        _check_rejected(refused, len(wanted), generator.options.max_rejected)
    return refused, list(costs.values())


def _add_cost(costs: dict[str, dict[str, Any]], row: Mapping[str, Any]) -> None:
    empty = {"clips": 0, "rejected": 0, "drawn": 0, "audio_s": 0.0, "seconds": 0.0}
    of_device = costs.setdefault(row["device"], {"device": row["device"], **empty})
    of_device["drawn"] += row["drawn"]
    of_device["seconds"] += row["seconds"]
    if row["reason"] is not None:
        of_device["rejected"] += 1
    else:
        of_device["clips"] += 1
        of_device["audio_s"] += row["duration_s"]


def _check_rejected(refused: Sequence[Mapping[str, Any]], count: int, most: float) -> None:
    if len(refused) <= max(1, most * count):
        return
    first = refused[0]
    raise ValueError(
        f"{len(refused)} of {count} clips failed {first['attempts']} attempts each, at most {most:.0%} may "
        f"(max_rejected); the first is `{first['clip_id']}`, {first['reason']}: {first['detail']}. Look at its prompt "
        f"({first['prompt'][:200]!r}), try another precision or guidance, or raise max_rejected"
    )
