"""Clips between two training clips of one class, from different recordings (study ``interpolation``).

What comes out silent (see ``foley.studies.audio.generate``) is refused, with its reason in a table, and another pair of
the class takes its place; many such clips mean a generator that was not trained enough, and stop the job.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.audio.store import Progress
from foley.generators.audio.interpolation import Diverged, Pair, draw_pairs, interpolate
from foley.generators.audio.mel import Vocoder
from foley.generators.audio.mel_diffusion import MelDiffusion
from foley.runtime.seeds import derive
from foley.studies.audio.clips import named, read_waveforms
from foley.studies.audio.generate import (
    INTERPOLATED,
    Origin,
    as_finite,
    clip_id_of,
    in_order_of_ids,
    is_silent,
    synthetic_row,
    vocoder_name,
)
from foley.studies.audio.train_generator import RoleClips, clips_of_role
from foley.tables.audio_studies import REJECTED_SYNTHETIC, SYNTHETIC_CLIPS

log = logging.getLogger(__name__)

# Training clips in memory: each reading of the shards brings the classes that make up as many.
CLIPS_IN_MEMORY = 1000


def interpolate_clips(
    output: Path,
    rejected: Path,
    *,
    model: MelDiffusion,
    origin: Origin,
    audio: Sequence[Path],
    partition: Path,
    classes: Path,
    clips_per_class: int,
    split: str,
    seed: int,
    weight: float = 0.5,
    steps: int = 50,
    refinements: int = 0,
    vocoder: Vocoder | None = None,
    max_rejected: float = 0.05,
    batch_size: int = 32,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write ``clips_per_class`` clips of each class, each between two of its ``train`` clips.

    Training clips that are silent as far as the model hears them are no sources, since what lies between silence and
    sound has no level. Which pairs a class has depends on its own clips and the seed.

    Args:
        rejected: table of the clips that came out silent; another pair took the place of each.
        model: a mel diffusion model, trained here or read from elsewhere.
        audio: shards of the dataset's stored clips.
        partition: the split's roles.
        classes: the dataset's class table.
        split: enters the clips' seeds, so that no clip of one split is one of another.
        weight: 0 is the first clip of a pair, 1 the second.
        steps, refinements: of the deterministic sampler, there and back; see ``DDIMPath``.
        vocoder: Griffin-Lim when left out.
        max_rejected: part of the clips, at least one, that may come out silent.
        batch_size: pairs in the network at once.

    Raises:
        ValueError: a class whose clips are of one recording, a clip that is too short, one that comes out not finite
            (names it), or too many silent ones.
    """
    if clips_per_class < 1 or batch_size < 1:
        raise ValueError(f"clips_per_class {clips_per_class} and batch_size {batch_size} must be at least 1")
    clips = clips_of_role(partition, classes)
    class_of = dict(zip(clips.labels, clips.class_ids, strict=True))
    started = time.monotonic()
    refusals = _Refusals(clips_per_class * len(class_of), max_rejected)
    errors: list[float] = []
    facts = {
        "sampler": "ddim",
        "steps": steps,
        "guidance": 1.0 if model.is_conditional else None,
        "vocoder": vocoder_name(model, vocoder),
    }
    with tables.writer(output, SYNTHETIC_CLIPS, provenance) as out:
        order = in_order_of_ids(class_of, origin.generator, INTERPOLATED)
        for label, rows, waveforms in progress(_class_by_class(clips, order, audio, model)):
            members = _Members(
                label,
                class_of[label],
                [clips.clip_ids[row] for row in rows],
                [clips.recording_ids[row] for row in rows],
                waveforms,
            )
            pairs = draw_pairs(
                [label] * len(rows), members.recording_ids, clips_per_class, seed, members.clip_ids
            )
            others = _other_pairs(members, pairs, seed)
            for start in range(0, len(pairs), batch_size):
                wanted = [
                    _Wanted(number, pairs[number], derive(seed, split, INTERPOLATED, label, number))
                    for number in range(start, min(start + batch_size, len(pairs)))
                ]
                kept: dict[int, dict[str, Any]] = {}
                attempt = 0
                while wanted:
                    try:
                        made = interpolate(
                            model,
                            [waveforms[one.pair.first] for one in wanted],
                            [waveforms[one.pair.second] for one in wanted],
                            [label] * len(wanted),
                            [one.seed for one in wanted],
                            sample_rate_hz=model.sample_rate_hz,
                            weight=weight,
                            steps=steps,
                            refinements=refinements,
                            vocoder=vocoder,
                            batch_size=2 * batch_size,
                        )
                    except Diverged as error:
                        raise ValueError(f"{members.place(wanted[error.rows[0]])}: {error}") from error
                    places = [members.place(one) for one in wanted]
                    found = as_finite(made.audio, places.__getitem__)
                    round_trips = made.round_trip_db.mean(dim=1).tolist()
                    attempt += 1
                    silent = []
                    for one, samples, round_trip in zip(wanted, found, round_trips, strict=True):
                        if is_silent(samples):
                            silent.append(one.number)
                            refusals.add(origin, members, one, samples)
                            continue
                        errors.append(round_trip)
                        kept[one.number] = synthetic_row(
                            origin, INTERPOLATED, label, members.class_id, one.number, one.seed, samples,
                            model.sample_rate_hz, sources=members.sources(one), round_trip_db=round_trip, **facts,
                        )  # fmt: skip
                    wanted = [
                        _Wanted(
                            number,
                            refusals.next_audible(label, others),
                            derive(seed, split, INTERPOLATED, label, number, "again", attempt),
                        )
                        for number in silent
                    ]
                out.write([kept[number] for number in sorted(kept)])
        seconds = time.monotonic() - started
        log.info(
            "%d clips of %d classes in %.1f s (%.2f a second); a round trip is off by %.2f dB on average",
            *(out.rows, len(order), seconds, out.rows / max(seconds, 1e-9), np.mean(errors)),
        )
    refusals.write(rejected, provenance)


@dataclass(frozen=True)
class _Wanted:
    """A clip to make: its number in the class, its pair and its seed."""

    number: int
    pair: Pair
    seed: int


@dataclass(frozen=True)
class _Members:
    """The clips of a class that may be sources, and their waveforms [T]."""

    label: str
    class_id: int
    clip_ids: list[str]
    recording_ids: list[str]
    waveforms: list[np.ndarray]

    def sources(self, one: _Wanted) -> list[str]:
        return [self.clip_ids[one.pair.first], self.clip_ids[one.pair.second]]

    def place(self, one: _Wanted) -> str:
        """Where a clip comes from, for an error message."""
        first, second = self.sources(one)
        return f"class `{self.label}`, between `{first}` and `{second}`, seed {one.seed}"


def _other_pairs(members: _Members, pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Pairs to take instead of others, in turn: new ones as far as the class has any, then those in use."""
    labels = [members.label] * len(members.clip_ids)
    more = draw_pairs(labels, members.recording_ids, len(pairs), derive(seed, "other pairs"))
    used = set(pairs)
    return [*(pair for pair in more if pair not in used), *dict.fromkeys(pairs)]


class _Refusals:
    """The clips that came out silent.

    Args:
        total: how many clips are wanted.
        part: of them, which may be silent; one may in any case.
    """

    def __init__(self, total: int, part: float) -> None:
        self.total, self.allowed = total, max(1, int(part * total))
        self.rows: list[dict[str, Any]] = []
        self.pairs: set[tuple[str, Pair]] = set()

    def add(self, origin: Origin, members: _Members, one: _Wanted, samples: np.ndarray) -> None:
        """Raises ValueError when there are too many."""
        self.pairs.add((members.label, one.pair))
        self.rows.append(
            {
                "clip_id": clip_id_of(origin.generator, INTERPOLATED, members.label, one.number),
                "class_id": members.class_id,
                "label": members.label,
                "generator": origin.generator,
                "method": INTERPOLATED,
                "sources": members.sources(one),
                "seed": one.seed,
                "reason": "silent",
                "detail": f"peak {float(np.abs(samples).max(initial=0.0)):.2g} of full scale",
            }
        )
        if len(self.rows) > self.allowed:
            raise self._too_many()

    def next_audible(self, label: str, others: list[Pair]) -> Pair:
        """The next of a class's pairs that has not come out silent yet; it becomes the last of ``others``.

        Raises:
            ValueError: the class has none.
        """
        for place, pair in enumerate(others):
            if (label, pair) not in self.pairs:
                others.append(others.pop(place))
                return pair
        raise self._too_many()

    def write(self, path: Path, provenance: Mapping[str, Any] | None) -> None:
        if self.rows:
            log.warning("%d clips came out silent; other pairs took their places: %s", len(self.rows), path)
        rows = sorted(self.rows, key=lambda row: (row["clip_id"], row["seed"]))
        tables.write(path, REJECTED_SYNTHETIC, rows, provenance)

    def _too_many(self) -> ValueError:
        # Snakemake removes the outputs of a failed job, so the rows go into the log.
        for row in self.rows:
            log.error(
                "rejected %s, between %s: %s, %s",
                *(row[k] for k in ("clip_id", "sources", "reason", "detail")),
            )
        of_class = Counter(row["label"] for row in self.rows).most_common()
        return ValueError(
            f"{len(self.rows)} interpolated clips came out silent (of class "
            f"{', '.join(f'`{label}`: {count}' for label, count in of_class)}), and {self.allowed} of {self.total} "
            "may; train the generator for longer, take more steps, or raise `interpolation.max_rejected`"
        )


def _class_by_class(
    clips: RoleClips, order: Sequence[str], audio: Sequence[Path], model: MelDiffusion
) -> Iterator[tuple[str, list[int], list[np.ndarray]]]:
    """Each class of ``order`` with the rows of its clips that are not silent, and their waveforms as the model hears
    them."""
    rows_of: dict[str, list[int]] = {label: [] for label in order}
    for row, label in enumerate(clips.labels):
        rows_of[label].append(row)
    for group in _groups({label: len(rows) for label, rows in rows_of.items()}):
        wanted = [clips.clip_ids[row] for label in group for row in rows_of[label]]
        found = dict(
            zip(
                *read_waveforms(audio, wanted, model.sample_rate_hz, max_samples=model.options.mel.samples),
                strict=True,
            )
        )
        for label in group:
            ids = [clips.clip_ids[row] for row in rows_of[label]]
            heard = list(model.mel.cut([found[i] for i in ids], model.sample_rate_hz, ids).numpy())
            silent = [clip_id for clip_id, samples in zip(ids, heard, strict=True) if is_silent(samples)]
            if silent:
                log.warning(
                    "class `%s`: %d clips are silent in the first %.2f s, which is all that the model hears, and are "
                    "no sources: %s",
                    *(label, len(silent), model.options.mel.samples / model.sample_rate_hz, named(silent)),
                )
            kept = [n for n, clip_id in enumerate(ids) if clip_id not in set(silent)]
            if not kept:
                raise ValueError(
                    f"class `{label}`: all its training clips are silent as far as the model hears them, so there is "
                    "nothing to interpolate; leave the class out or take more `mel.frames`"
                )
            yield label, [rows_of[label][n] for n in kept], [heard[n] for n in kept]


def _groups(counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Classes in their order, parted so that each group has few clips enough for memory, or is a single class."""
    group: list[str] = []
    held = 0
    for label, count in counts.items():
        if group and held + count > CLIPS_IN_MEMORY:
            yield group
            group, held = [], 0
        group.append(label)
        held += count
    if group:
        yield group
