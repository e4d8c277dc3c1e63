"""Generated clips to hear, each beside the nearest of the real clips that its generator learnt from."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.report.gallery import decode_beginning, draw_spectrogram, encode_mp3, read_audio
from foley.runtime.seeds import derive
from foley.tables.audio_studies import AUDIO_PARTITION, SYNTHETIC_CLIPS
from foley.tables.clips import CLIPS
from foley.tables.report import GALLERY

log = logging.getLogger(__name__)

_ROWS = 4096  # of vectors that are read at a time
_KNOWN = [name for name in SYNTHETIC_CLIPS.columns if name != "audio"]


@dataclass(frozen=True)
class GeneratedSource:
    """What one generator made, and the space in which its clips are held against real ones.

    Attributes:
        generator: Id in the config.
        clips: SYNTHETIC_CLIPS: sampled ones, interpolated ones, in any number of tables.
        embeddings: Tables with the vectors of those clips and of the training clips, from one encoder:
            PROBE_EMBEDDINGS, or EMBEDDINGS of both, whose windows are averaged. None: nothing says what is near.
    """

    generator: str
    clips: Sequence[Path]
    embeddings: Sequence[Path]


@dataclass(frozen=True)
class _Near:
    """The training clip nearest to a generated one, the cosine distance, and what real clips of the class have."""

    clip_id: str
    distance: float
    usual: float | None


def pick_synthetic(
    output: Path,
    *,
    sources: Sequence[GeneratedSource],
    audio: Sequence[Path],
    clips: Path,
    partition: Path,
    per_class: int,
    max_duration_s: float,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the GALLERY of the generated clips of one dataset.

    Of each class ``per_class`` clips of each generator and method (sampled, interpolated), drawn by seed (fewer where
    there are fewer), and the training clip nearest to each (cosine distance). None is picked by how it sounds. A
    training clip that is nearest to several stands there once.

    Args:
        output: Table to write.
        sources: Generators, in the order of the config, all of one split.
        audio: AUDIO shards of the dataset; only row groups with a chosen clip are read.
        clips: CLIPS of the dataset.
        partition: AUDIO_PARTITION of the split.
        per_class: Clips of each class, generator and method.
        max_duration_s: Longer clips are cut to their beginning.
        seed: Seed of the choice.
        provenance: What is recorded in the table's metadata.

    Raises:
        ValueError: a chosen clip has no vector or no audio, no clip trains, a source mixes vectors of different
            lengths, or a generated clip has the id of a real one.
    """
    roles = tables.read(
        partition, AUDIO_PARTITION, ["clip_id", "class_id", "recording_id", "role"]
    ).to_pylist()
    training = {row["clip_id"]: row for row in roles if row["role"] == "train"}
    if not training:
        raise ValueError(f"{partition} has no training clips: nothing to hold generated clips against")
    names = ["dataset", "clip_id", "label"]
    known = {row["clip_id"]: row for row in tables.read(clips, CLIPS, names).to_pylist()}
    media: dict[str, tuple[bytes, bytes]] = {}
    rows: list[dict[str, Any]] = []
    beside: dict[tuple[int, str], list[tuple[str, _Near]]] = defaultdict(list)
    labels: dict[int, str] = {}
    for source in sources:
        picks = _draw(source, per_class, seed)
        if doubled := sorted({pick["clip_id"] for pick in picks} & (known.keys() | media.keys())):
            raise ValueError(
                f"generator {source.generator}: clip id {doubled[0]!r} is also that of another clip; give generated "
                "clips ids of their own"
            )
        near = _nearest(source, picks, training) if source.embeddings else {}
        media |= _media(source.clips, {pick["clip_id"] for pick in picks}, max_duration_s)
        for pick in picks:
            labels.setdefault(pick["class_id"], pick["label"])
            note = _how(pick)
            if found := near.get(pick["clip_id"]):
                beside[pick["class_id"], found.clip_id].append((pick["clip_id"], found))
                note += f". {_nearest_is(found.clip_id)}{_distance(found, pick['sources'] or ())}"
            rows.append(_row(pick["class_id"], pick["label"], pick["clip_id"], "synthetic", note))
    media |= _media(audio, {clip_id for _, clip_id in beside}, max_duration_s)
    for (class_id, clip_id), of in beside.items():
        whom = ", ".join(f"{made} at {found.distance:.3f}" for made, found in of)
        its = known.get(clip_id, {}).get("label") or str(training[clip_id]["class_id"])
        note = f"nearest training clip to {whom}; its class: {its}"
        rows.append(_row(class_id, labels[class_id], clip_id, "nearest", note))
    dataset = next(iter(known.values()))["dataset"] if known else ""
    for row in rows:
        row["dataset"] = dataset
        row["audio_mp3"], row["spectrogram_png"] = media[row["clip_id"]]
    tables.write(output, GALLERY, rows, provenance)
    log.info("%d generated clips and %d real ones in the gallery", len(rows) - len(beside), len(beside))


def in_pairs(clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Clips of one class of a gallery (``clip_id``, ``kind``, ``note``): real ones, then each generated one with its
    nearest real clip below it (the first of those that share one), then all others, in the order given.
    """
    made = [clip for clip in clips if clip["kind"] == "synthetic"]
    rest = [clip for clip in clips if clip["kind"] not in ("real", "synthetic")]
    ordered = [clip for clip in clips if clip["kind"] == "real"]
    for clip in made:
        below = [one for one in rest if _nearest_is(one["clip_id"]) in (clip["note"] or "")]
        ordered += [clip, *below]
        rest = [one for one in rest if one not in below]
    return ordered + rest


def _row(class_id: int, label: str, clip_id: str, kind: str, note: str) -> dict[str, Any]:
    return {"class_id": class_id, "label": label, "clip_id": clip_id, "kind": kind, "note": note}


def _draw(source: GeneratedSource, per_class: int, seed: int) -> list[dict[str, Any]]:
    """``per_class`` clips of each class and method, in the order of class, method and id."""
    every = tables.read(list(source.clips), None, _KNOWN).to_pylist() if source.clips else []
    groups: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(every, key=lambda row: row["clip_id"]):
        groups[row["class_id"], row["method"]].append(row)
    picks = []
    for (_, method), group in sorted(groups.items()):
        # A draw of its own: neither other classes nor other generators move it.
        order = np.random.default_rng(
            derive(seed, "synthetic_gallery", source.generator, method, group[0]["label"])
        ).permutation(len(group))
        picks += [group[place] for place in sorted(order[:per_class])]
    return picks


def _media(shards: Sequence[Path], wanted: set[str], max_duration_s: float) -> dict[str, tuple[bytes, bytes]]:
    """Clip id -> (MP3, spectrogram as PNG)."""
    found = {}
    for clip_id, encoded in read_audio(shards, wanted):
        wave, rate = decode_beginning(encoded, max_duration_s)
        found[clip_id] = (encode_mp3(wave, rate), draw_spectrogram(wave, rate))
    if lacking := sorted(wanted - found.keys()):
        raise ValueError(
            f"{len(lacking)} clips have no audio in {', '.join(map(str, shards)) or 'no table'}, for example "
            f"{lacking[0]!r}"
        )
    return found


def _nearest(
    source: GeneratedSource, picks: Sequence[Mapping[str, Any]], training: Mapping[str, Mapping[str, Any]]
) -> dict[str, _Near]:
    """Generated clip -> its nearest training clip by cosine distance.

    Beside the distance stands the median of what training clips of that class have to their nearest one of another
    recording: some sounds are all alike.
    """
    from foley.metrics.memorisation import nearest_vectors

    made = [pick["clip_id"] for pick in picks]
    if not made:
        return {}
    vectors = _vectors(source, {*made, *training})
    if lacking := sorted(clip_id for clip_id in made if clip_id not in vectors):
        raise ValueError(
            f"generator {source.generator}: {len(lacking)} clips of the gallery have no vector in "
            f"{', '.join(map(str, source.embeddings)) or 'no table'}, for example {lacking[0]!r}"
        )
    real = sorted(clip_id for clip_id in training if clip_id in vectors)
    if not real:
        raise ValueError(
            f"generator {source.generator}: no training clip has a vector in "
            f"{', '.join(map(str, source.embeddings))}"
        )
    places = np.stack([vectors[clip_id] for clip_id in real])
    nearest = nearest_vectors(np.stack([vectors[clip_id] for clip_id in made]), places)
    recordings = np.array([training[clip_id]["recording_id"] for clip_id in real])
    of_class = np.array([training[clip_id]["class_id"] for clip_id in real])
    usual: dict[int, float | None] = {}
    for class_id in {pick["class_id"] for pick in picks}:
        mine = of_class == class_id
        usual[class_id] = None
        if mine.any():
            among = nearest_vectors(
                places[mine], places, groups=recordings[mine], other_groups=recordings
            ).distance
            if np.isfinite(among).any():
                usual[class_id] = float(np.median(among[np.isfinite(among)]))
    return {
        pick["clip_id"]: _Near(real[int(row)], float(distance), usual[pick["class_id"]])
        for pick, row, distance in zip(picks, nearest.row, nearest.distance, strict=True)
    }


def _vectors(source: GeneratedSource, wanted: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Clip id -> vector, the mean over its windows; only the wanted ones are kept in memory."""
    total: dict[str, np.ndarray[Any, Any]] = {}
    count: dict[str, int] = defaultdict(int)
    for path in source.embeddings:
        for batch in tables.iter_batches(path, ["clip_id", "vector"], batch_size=_ROWS):
            matrix = tables.to_matrix(batch["vector"]).astype(np.float64)
            for clip_id, vector in zip(batch["clip_id"].to_pylist(), matrix, strict=True):
                if clip_id not in wanted:
                    continue
                if clip_id in total and len(total[clip_id]) != len(vector):
                    raise ValueError(_lengths(source, len(total[clip_id]), len(vector)))
                total[clip_id] = total.get(clip_id, 0.0) + vector
                count[clip_id] += 1
    lengths = sorted({len(vector) for vector in total.values()})
    if len(lengths) > 1:
        raise ValueError(_lengths(source, *lengths[:2]))
    return {clip_id: vector / count[clip_id] for clip_id, vector in total.items()}


def _lengths(source: GeneratedSource, one: int, other: int) -> str:
    return (
        f"generator {source.generator}: vectors of {one} and of {other} numbers in "
        f"{', '.join(map(str, source.embeddings))}; give tables of one encoder"
    )


def _nearest_is(clip_id: str) -> str:
    """The words by which a generated clip's note names its nearest training clip; `in_pairs` looks for them."""
    return f"Nearest training clip: {clip_id}, distance "


def _distance(near: _Near, sources: Sequence[str]) -> str:
    text = f"{near.distance:.3f}"
    if near.clip_id in sources:
        text += ", one of the clips it was made from"
    if near.usual is not None:
        text += f" (real clips of the class: median {near.usual:.3f})"
    return text


def _how(clip: Mapping[str, Any]) -> str:
    """How a clip was made: ``mel_l2, sampled: ddim, 50 steps, guidance 2, seed 17``."""
    parts = []
    if clip["prompt"]:
        parts.append(f"“{clip['prompt']}”")
    if clip["sources"]:
        parts.append(f"between {' and '.join(clip['sources'])}")
    if clip["sampler"]:
        parts.append(clip["sampler"])
    if clip["steps"] is not None:
        parts.append(f"{clip['steps']} steps")
    if clip["guidance"] is not None:
        parts.append(f"guidance {clip['guidance']:g}")
    parts.append(f"seed {clip['seed']}")
    if clip["round_trip_db"] is not None:
        parts.append(f"round trip of its sources {clip['round_trip_db']:.1f} dB off")
    return f"{clip['generator']}, {clip['method']}: {', '.join(parts)}"
