"""Train a recogniser on one mix of real and synthetic clips, all seeds, and let it name validation and test clips."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from foley import tables
from foley.audio.store import Progress
from foley.studies.audio.clips import read_waveforms
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION, classes_in, clips_in, read_partition
from foley.studies.audio.training import label_clips, options_of, predict, real_clips, train_seeds
from foley.studies.foundation.class_filter import read_choice
from foley.studies.foundation.mix import ACTIVE, CLAP, CLEAN, PRECISION, PUBLISHED, Mix
from foley.studies.foundation.mixes import draw_real, draw_synthetic, read_pool
from foley.tables.audio_studies import PROMPTED
from foley.tables.features import HISTORY
from foley.tables.foundation import MIX_CLIPS
from foley.tables.scores import PREDICTIONS

if TYPE_CHECKING:
    from foley.augment.protocol import Augmentations
    from foley.classifiers.audio_protocol import AudioClassifier, LabelledClips

log = logging.getLogger(__name__)


class Draw(NamedTuple):
    """The clips of a mix: real and synthetic ones (clip id -> class id), and how many synthetic ones of each class
    were to be had."""

    real: dict[str, int]
    made: dict[str, int]
    wanted: dict[int, int]


@dataclass(frozen=True)
class MixClips:
    """Which clips a mix may take.

    rows: the split's partition (AUDIO_PARTITION).
    synthetic: tables of the source's clips (SYNTHETIC_CLIPS).
    choice: clips by class (CLASS_CHOICE), for the filters `precision` and `active`.
    prompted: how near CLAP finds the source's clips to their prompts (PROMPTED), for the filter `clap`.
    drop_fraction: part of a class's clips that `clap` drops.
    protocol: ``published`` also learns from the validation clips: in it the test clips choose.
    """

    rows: Sequence[Mapping[str, Any]]
    synthetic: Sequence[Path] = ()
    choice: Path | None = None
    prompted: Sequence[Path] = ()
    drop_fraction: float = 0.2
    protocol: str = CLEAN

    def draw(self, mix: Mix, seed: int) -> Draw:
        """The clips of the mix in the draw of a seed.

        Raises:
            ValueError: a source that has too few clips or clips that are not for this split; a missing table.
        """
        trained = clips_in(self.rows, TRAIN)
        if self.protocol == PUBLISHED:
            trained |= clips_in(self.rows, VALIDATION)
        class_ids = classes_in(self.rows)
        real = {clip_id: trained[clip_id] for clip_id in draw_real(trained, mix.real_percent, seed)}
        if mix.source is None:
            return Draw(real, {}, {})
        pool = read_pool(self.synthetic, class_ids, trained)
        taken = set(pool) & {row["clip_id"] for row in self.rows}
        if taken:
            raise ValueError(f"source `{mix.source}`: clip `{min(taken)}` has the id of a real clip")
        if mix.filter in (PRECISION, ACTIVE):
            assert self.choice is not None  # the plan asks for it
            counts = read_choice(self.choice)
        else:
            counts = dict.fromkeys(class_ids, mix.amount)
        drawn = draw_synthetic(pool, counts, seed, source=mix.source)
        if mix.filter == CLAP:
            drawn = nearest_to_prompt(drawn, pool, self.prompted, self.drop_fraction)
            counts = {class_id: kept_of(count, self.drop_fraction) for class_id, count in counts.items()}
        return Draw(real, {clip_id: pool[clip_id] for clip_id in drawn}, counts)


def nearest_to_prompt(
    clip_ids: Sequence[str], class_of: Mapping[str, int], prompted: Sequence[Path], drop_fraction: float
) -> list[str]:
    """Of each class's clips those that CLAP finds nearest to its prompt, as the part ``1 - drop_fraction``; ordered.

    By the cosine of a clip and its class's prompt (the CLAP score). Its rank among the prompts of all classes would not
    do: a good generator's clips are nearly all first. One clip of a class stays at least; of equal ones the first id.

    Raises:
        ValueError: a clip that CLAP was not asked about.
    """
    table = tables.read(list(prompted), PROMPTED, columns=["clip_id", "similarity"])
    near = dict(zip(table["clip_id"].to_pylist(), table["similarity"].to_pylist(), strict=True))
    unknown = sorted(clip_id for clip_id in set(clip_ids) if near.get(clip_id) is None)
    if unknown:
        raise ValueError(
            f"CLAP was not asked about clip `{unknown[0]}`; delete its table so that it is made again"
        )
    of_class: dict[int, list[str]] = {}
    for clip_id in sorted(clip_ids, key=lambda clip_id: (-near[clip_id], clip_id)):
        of_class.setdefault(class_of[clip_id], []).append(clip_id)
    kept = [ids[: kept_of(len(ids), drop_fraction)] for ids in of_class.values()]
    return sorted(clip_id for ids in kept for clip_id in ids)


def kept_of(count: int, drop_fraction: float) -> int:
    """Clips of a class of which a part is dropped, rounded half up; one stays at least."""
    return max(1, count - int(count * drop_fraction + 0.5))


def count_clips(
    draws: Mapping[int, Draw], class_ids: Sequence[int], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Rows of MIX_CLIPS; ``draws`` by seed."""
    rows = []
    for seed, draw in draws.items():
        real, taken = Counter(draw.real.values()), Counter(draw.made.values())
        rows += [
            {
                **labels, "seed": seed, "class_id": class_id, "real": real[class_id],
                "wanted": draw.wanted.get(class_id, 0), "taken": taken[class_id],
            }
            for class_id in class_ids
        ]  # fmt: skip
    return rows


def train_mix(
    predictions: Path,
    history: Path,
    counts: Path,
    *,
    mix: Mix,
    protocol: str,
    audio: Sequence[Path],
    partition: Path,
    synthetic: Sequence[Path] = (),
    choice: Path | None = None,
    prompted: Sequence[Path] = (),
    drop_fraction: float = 0.2,
    classifier: type[AudioClassifier],
    options: Any,
    augmentations: Augmentations,
    seeds: Sequence[int],
    draw_seed: int,
    labels: Mapping[str, str],
    threads: int = 1,
    progress: Progress = iter,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train the recogniser once for each seed, each on a draw of its own, and write PREDICTIONS, HISTORY and
    MIX_CLIPS.

    In memory are all clips that any seed draws, and a second copy of those of one seed.

    Args:
        protocol: ``clean``: options as they are, validation clips to validate on. ``published``: trained on validation
            clips too, the weights of the step that is best on the test clips, no answers for validation clips; the
            source did so.
        audio: clip-store shards of the dataset.
        seeds: of the classifiers; with ``draw_seed`` also of the draws.
        labels: dataset, split, method (the mix) and variant, as the table names them.
        checkpoints: folder to continue an interrupted training from.
        facts: what the result depends on beside data, options and seeds.

    Raises:
        ValueError: see :meth:`MixClips.draw`; a split without validation clips.
    """
    import torch

    torch.set_num_threads(threads)
    rows = read_partition(partition, labels["split"])
    class_ids = classes_in(rows)
    source = MixClips(rows, synthetic, choice, prompted, drop_fraction, protocol)
    draws = {seed: source.draw(mix, draw_seed + seed) for seed in seeds}
    rate, window = classifier(options, len(class_ids), seeds[0]).hears()
    tested = real_clips(TEST, audio, rows, rate, window, progress)
    assert tested is not None  # a partition without test clips is never written
    if protocol == PUBLISHED:
        options, judge, asked = replace(options, keep="best"), tested, {TEST: tested}
    else:
        validation = real_clips(VALIDATION, audio, rows, rate, window, progress)
        if validation is None:
            raise ValueError(
                f"split {labels['split']} has no validation clips, which choose filters and mixes; use another split"
            )
        judge, asked = validation, {VALIDATION: validation, TEST: tested}
    # Real clips give their first samples; how far augmentations reach counts alike for all.
    reach = augmentations.reach(window)
    waveforms = _read(audio, [draw.real for draw in draws.values()], rate, reach, progress)
    waveforms |= _read(synthetic, [draw.made for draw in draws.values()], rate, reach, progress)
    rounds: list[dict[str, Any]] = []
    answers: list[pa.Table] = []
    kept: list[Any] = []
    for seed, draw in draws.items():
        class_of = draw.real | draw.made
        clips: LabelledClips = label_clips(
            list(class_of), [waveforms[clip_id] for clip_id in class_of], class_of, class_ids, rate
        )
        log.info("seed %d: %d real and %d synthetic clips", seed, len(draw.real), len(draw.made))
        trained, of_seed, checkpoint = train_seeds(
            classifier, options, [seed], clips, judge, augmentations, len(class_ids), checkpoints,
            [facts, repr(options), [repr(part) for part in options_of(augmentations)]],
        )  # fmt: skip
        rounds += [row | {"quantity": f"seed{seed}_{row['quantity']}"} for row in of_seed]
        answers += [predict(trained, heard, class_ids, labels, role) for role, heard in asked.items()]
        kept += checkpoint
    tables.write(counts, MIX_CLIPS, count_clips(draws, class_ids, labels), provenance)
    tables.write(history, HISTORY, rounds, provenance)
    tables.write(predictions, PREDICTIONS, pa.concat_tables(answers), provenance)
    for checkpoint in kept:
        checkpoint.discard()


def _read(
    shards: Sequence[Path],
    draws: Sequence[Mapping[str, int]],
    sample_rate_hz: int,
    max_samples: int | None,
    progress: Progress,
) -> dict[str, Any]:
    wanted = {clip_id for draw in draws for clip_id in draw}
    if not wanted:
        return {}
    ids, waveforms = read_waveforms(
        shards, wanted, sample_rate_hz, max_samples=max_samples, progress=progress
    )
    return dict(zip(ids, waveforms, strict=True))
