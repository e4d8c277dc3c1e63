"""The arms of the study ``interpolation``: what a classifier is trained on, and what it then says of real clips.

``real``: the training clips of the split. ``duplicates``: copies of them besides. ``classic``: the training clips,
augmented. ``interpolated``: clips between two of them besides. ``sampled``: clips besides that a generator made from
noise. The arms that add clips all add the same number of each class, and all arms of a classifier take the same number
of optimiser steps and see the same validation clips, so that they differ in what they learn from alone.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foley import tables
from foley.audio.store import Progress
from foley.runtime.seeds import derive
from foley.studies.audio.clips import named, read_waveforms
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION, classes_in, clips_in, read_partition
from foley.studies.audio.training import label_clips, options_of, predict, real_clips, train_seeds
from foley.tables.audio_studies import SYNTHETIC_CLIPS
from foley.tables.features import HISTORY
from foley.tables.scores import PREDICTIONS

if TYPE_CHECKING:
    from foley.augment.protocol import Augmentations
    from foley.classifiers.audio_protocol import AudioClassifier, LabelledClips

log = logging.getLogger(__name__)

REAL, DUPLICATES, CLASSIC, INTERPOLATED, SAMPLED = ARMS = (
    "real", "duplicates", "classic", "interpolated", "sampled",
)  # fmt: skip
# Arms that add synthetic clips; each takes those whose `method` has its name.
SYNTHETIC_ARMS = (INTERPOLATED, SAMPLED)
# Arms that add clips at all.
LARGER_ARMS = (DUPLICATES, *SYNTHETIC_ARMS)
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Sources:
    """Where an arm's clips come from.

    audio: clip-store shards of the dataset. rows: the split's partition (AUDIO_PARTITION). synthetic: tables of
    synthetic clips (SYNTHETIC_CLIPS), for the arms that add some.
    """

    audio: Sequence[Path]
    rows: Sequence[Mapping[str, Any]]
    synthetic: Sequence[Path] = ()


def build_arm(
    arm: str,
    sources: Sources,
    *,
    added_per_class: int,
    seed: int,
    sample_rate_hz: int,
    max_samples: int | None = None,
    progress: Progress = iter,
) -> LabelledClips:
    """The clips that a classifier learns from in ``arm``, real ones first, then added ones, each ordered by id.

    Class numbers are the places of the split's class ids in ascending order. Where there are more synthetic clips of a
    class than are added, some are drawn by seed. The copies of ``duplicates`` are drawn evenly: no clip has two copies
    more than another of its class. A copy's id is its clip's with ``#2``, ``#3``, ... All clips are in memory at once,
    ``max_samples`` of each at most (see :func:`foley.studies.audio.clips.read_waveforms`).

    Args:
        added_per_class: clips that ``duplicates``, ``interpolated`` and ``sampled`` add to each class.
        seed: of the draws.

    Raises:
        ValueError: an unknown arm; synthetic clips that are missing, too few of a class, of unknown classes, of another
            method, or made from clips that the split does not train on.
    """
    if arm not in ARMS:
        raise ValueError(f"unknown arm `{arm}`; there are {', '.join(ARMS)}")
    if arm in LARGER_ARMS and added_per_class < 1:
        raise ValueError(f"arm `{arm}` adds at least 1 clip to each class, not {added_per_class}")
    class_of = clips_in(sources.rows, TRAIN)
    class_ids = classes_in(sources.rows)
    clip_ids, waveforms = read_waveforms(
        sources.audio, class_of, sample_rate_hz, max_samples=max_samples, progress=progress
    )
    added: dict[str, int] = {}
    if arm == DUPLICATES:
        waveform_of = dict(zip(clip_ids, waveforms, strict=True))
        for clip_id, original in _draw_copies(class_of, added_per_class, seed):
            added[clip_id] = class_of[original]
            clip_ids.append(clip_id)
            waveforms.append(waveform_of[original])
        del waveform_of
    elif arm in SYNTHETIC_ARMS:
        added = _choose_synthetic(arm, sources, class_ids, added_per_class, seed)
        more_ids, more = read_waveforms(
            sources.synthetic, added, sample_rate_hz, max_samples=max_samples, progress=progress
        )
        _warn_of_silence(waveforms, more, sample_rate_hz)
        clip_ids += more_ids
        waveforms += more
        del more
    return label_clips(clip_ids, waveforms, class_of | added, class_ids, sample_rate_hz)


def train_arm(
    predictions: Path,
    models: Path,
    history: Path,
    *,
    arm: str,
    audio: Sequence[Path],
    partition: Path,
    synthetic: Sequence[Path] = (),
    added_per_class: int,
    classifier: type[AudioClassifier],
    options: Any,
    augmentations: Augmentations | None = None,
    seeds: Sequence[int],
    draw_seed: int,
    labels: Mapping[str, str],
    threads: int = 1,
    progress: Progress = iter,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train the classifier in one arm, once for each seed, and write what it says of the test clips.

    ``models`` becomes a folder with the weights of each seed (:func:`model_files` finds them), ``history`` a table
    whose quantities have the seed before them where there are several, as in ``seed3_loss``. In memory are the
    training and validation clips, each as far as the classifier can hear it, then the test clips.

    Args:
        audio: clip-store shards of the dataset.
        synthetic: tables of synthetic clips, for the arms that add some.
        augmentations: those of the arm ``classic``; the others leave clips as they are.
        seeds: of the classifiers.
        draw_seed: of the drawn copies and synthetic clips, which are the same for all seeds.
        labels: dataset, split, method (the arm) and variant (the classifier), as the table names them.
        checkpoints: folder to continue an interrupted training from.
        facts: what the result depends on beside data, options and seeds.

    Raises:
        ValueError: see :func:`build_arm`; ``classic`` without augmentations.
    """
    import torch

    from foley.augment.protocol import Augmentations

    torch.set_num_threads(threads)
    changes = augmentations if arm == CLASSIC and augmentations is not None else Augmentations()
    if arm == CLASSIC and changes == Augmentations():
        raise ValueError(
            f"arm `{CLASSIC}` has no augmentations, so it would repeat `{REAL}`; configure some, or leave the arm out"
        )
    rows = read_partition(partition, labels["split"])
    class_ids = classes_in(rows)
    rate, window = classifier(options, len(class_ids), seeds[0]).hears()
    clips = build_arm(
        arm, Sources(audio, rows, synthetic), added_per_class=added_per_class, seed=draw_seed, sample_rate_hz=rate,
        max_samples=changes.reach(window), progress=progress,
    )  # fmt: skip
    validation = real_clips(VALIDATION, audio, rows, rate, window, progress)
    log.info(
        "%s: %d clips to learn from, %d to validate on", arm, len(clips), len(validation) if validation else 0
    )
    trained, rounds, kept = train_seeds(
        classifier, options, seeds, clips, validation, changes, len(class_ids), checkpoints,
        [facts, repr(options), [repr(part) for part in options_of(changes)]],
    )  # fmt: skip
    del clips, validation  # before the test clips come
    tested = real_clips(TEST, audio, rows, rate, window, progress)
    assert tested is not None  # a partition without test clips is never written
    answers = predict(trained, tested, class_ids, labels)
    save_models(models, trained)
    tables.write(history, HISTORY, rounds, provenance)
    tables.write(predictions, PREDICTIONS, answers, provenance)
    for checkpoint in kept:
        checkpoint.discard()


def model_file(folder: Path, seed: int) -> Path:
    """Where a seed's weights lie."""
    return folder / f"seed={seed}{_SUFFIX}"


def save_models(folder: Path, trained: Mapping[int, AudioClassifier]) -> None:
    """Weights of these seeds, and of no others, in ``folder``; see :func:`model_files`."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"*{_SUFFIX}"):
        stale.unlink()
    for seed, model in trained.items():
        model.save(model_file(folder, seed))


def model_files(folder: Path) -> dict[int, Path]:
    """Seed -> weights of each classifier that :func:`train_arm` left in ``folder``, seeds ascending.

    Raises:
        ValueError: there are none.
    """
    found = {int(path.stem.removeprefix("seed=")): path for path in folder.glob(f"seed=*{_SUFFIX}")}
    if not found:
        raise ValueError(f"{folder} holds no trained classifiers; delete it so that they are trained again")
    return dict(sorted(found.items()))


def _draw_copies(class_of: Mapping[str, int], per_class: int, seed: int) -> list[tuple[str, str]]:
    """(id of the copy, id of its clip), ordered by the copy's id."""
    clips: dict[int, list[str]] = defaultdict(list)
    for clip_id in sorted(class_of):
        clips[class_of[clip_id]].append(clip_id)
    copies = []
    for class_id, ids in clips.items():
        generator = np.random.default_rng(derive(seed, DUPLICATES, class_id))
        drawn: list[str] = []
        while len(drawn) < per_class:
            drawn += [ids[row] for row in generator.permutation(len(ids))[: per_class - len(drawn)]]
        for clip_id, count in Counter(drawn).items():
            copies += [(f"{clip_id}#{number}", clip_id) for number in range(2, count + 2)]
    return sorted(copies)


def _choose_synthetic(
    arm: str, sources: Sources, class_ids: Sequence[int], per_class: int, seed: int
) -> dict[str, int]:
    """Clip id -> class id of the synthetic clips that an arm adds."""
    if not sources.synthetic:
        raise ValueError(f"arm `{arm}` needs synthetic clips, and no table of them was given")
    where = ", ".join(sorted({str(path.parent) for path in sources.synthetic}))
    columns = ["clip_id", "class_id", "label", "method", "sources"]
    rows = tables.read(list(sources.synthetic), SYNTHETIC_CLIPS, columns=columns).to_pylist()
    _refuse_other_methods(arm, rows, where)
    _refuse_other_sources(rows, sources.rows, where)
    strange = sorted(
        {f"`{row['label']}` ({row['class_id']})" for row in rows if row["class_id"] not in class_ids}
    )
    if strange:
        raise ValueError(
            f"{where}: synthetic clips of classes that the split does not have: {', '.join(strange)}; generate them "
            "again for this dataset"
        )
    of_class: dict[int, list[str]] = {class_id: [] for class_id in class_ids}
    for row in rows:
        of_class[row["class_id"]].append(row["clip_id"])
    short = [f"{class_id} ({len(ids)})" for class_id, ids in of_class.items() if len(ids) < per_class]
    if short:
        raise ValueError(
            f"{where}: arm `{arm}` adds {per_class} clips to each class, and these classes have fewer: "
            f"{', '.join(short)}; generate more of them, or lower the number for all arms"
        )
    chosen: dict[str, int] = {}
    for class_id, ids in of_class.items():
        generator = np.random.default_rng(derive(seed, arm, class_id))
        chosen.update(
            (clip_id, class_id) for clip_id in generator.permutation(sorted(ids))[:per_class].tolist()
        )
    return chosen


def _warn_of_silence(real: Sequence[np.ndarray], made: Sequence[np.ndarray], sample_rate_hz: int) -> None:
    usual, longest = float(np.median([len(w) for w in real])), max(len(w) for w in made)
    if longest < usual:
        log.warning(
            "synthetic clips last %.2f s at most, of real ones the classifier hears %.2f s: it can tell them apart by "
            "the silence that follows; generate longer clips, or give the classifier a shorter window",
            longest / sample_rate_hz, usual / sample_rate_hz,
        )  # fmt: skip


def _refuse_other_methods(arm: str, rows: Iterable[Mapping[str, Any]], where: str) -> None:
    others = sorted({row["method"] for row in rows} - {arm})
    if others:
        raise ValueError(
            f"{where}: holds clips that were {' and '.join(others)}, which are not for the arm `{arm}`"
        )


def _refuse_other_sources(
    rows: Iterable[Mapping[str, Any]], partition: Iterable[Mapping[str, Any]], where: str
) -> None:
    trained = clips_in(partition, TRAIN)
    leaks = [row["clip_id"] for row in rows if not trained.keys() >= set(row["sources"] or ())]
    if leaks:
        raise ValueError(
            f"{where}: clips that were made from others than the split's training clips: {named(leaks)}; generate "
            "them again for this split"
        )
