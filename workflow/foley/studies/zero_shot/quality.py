"""How like real embeddings are synthetic ones: measured on seen classes that the generator never saw.

Seen classes are held out of the generator in groups, each class once, and only clips that train are looked at, so
that methods may be chosen by these values without touching an unseen class or a test clip.

A class's real clips are parted in two halves, recordings kept whole. Synthetic embeddings take the place of one half
and are compared with the other, in both directions; the value is the mean of the two. With a half in place of the
synthetic ones the same comparison gives the reference ``real``, the best that can be expected. Most of the measures
depend on how many vectors are compared, so equal numbers are what makes the two comparable. They also take the vectors
for independent, so a generator that draws otherwise for classifiers (``CoupledGenerator``) draws independently here.

Embeddings are scaled to mean 0 and deviation 1 of each dimension by all seen training clips. So a method's distances
can be compared with those of other methods on the same embeddings, not with those on other embeddings.

A class that is held out of the generator was *not* held out of an embedding network that was trained from scratch on
the seen classes: its clips lie closer together than those of an unseen class would. Values tell generators apart;
they do not say how well one would do on unseen classes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.metrics.bootstrap import interval, resample_recordings
from foley.runtime.seeds import derive
from foley.studies.partition import TRAINING_ROLES
from foley.studies.zero_shot.experiment import Experiment, checkpoint_for
from foley.studies.zero_shot.score import Measured, score_row, summary_rows
from foley.tables.scores import SCORES

log = logging.getLogger(__name__)

QUALITIES = tuple(
    f"quality_{name}" for name in ("cosine", "mmd", "frechet", "precision", "recall", "density", "coverage")
)
REAL = "real"
# Neighbours that make a ball of a manifold; fewer where a half has fewer other clips.
NEIGHBOURS = 3
# Two classes to learn from and two to hold out.
LEAST_CLASSES = 4


@dataclass(frozen=True)
class _ClassQuality:
    """Of one class: its id, the number of its clips, and each of ``QUALITIES`` [metrics, seeds], NaN if undefined."""

    class_id: int
    clips: int
    values: np.ndarray


def group_classes(seen: Sequence[int], held_out: int, seed: int) -> list[tuple[int, ...]]:
    """Seen classes in random groups of about ``held_out``, each class in one; none if there are too few.

    Two classes or more are always left to learn from.

    Raises:
        ValueError: ``held_out`` is below 1.
    """
    if held_out < 1:
        raise ValueError(f"held_out must be at least 1, not {held_out}")
    if len(seen) < LEAST_CLASSES:
        return []
    order = np.random.default_rng(derive(seed, "held-out seen classes")).permutation(sorted(seen))
    parts = np.array_split(order, max(2, round(len(order) / held_out)))
    return [tuple(sorted(int(c) for c in part)) for part in parts]


def halve_clips(recordings: np.ndarray, seed: int, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Recordings [N] of a class's clips -> positions of two halves, larger first.

    No recording is in both halves, unless the class has but one. A single clip leaves the second half empty.
    """
    generator = np.random.default_rng(derive(seed, "halves", class_id))
    names, of_clip, counts = np.unique(recordings, return_inverse=True, return_counts=True)
    if len(names) == 1:
        names, of_clip, counts = recordings, np.arange(len(recordings)), np.ones(len(recordings), dtype=int)
    order = generator.permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    side = np.zeros(len(names), dtype=int)
    sizes = [0, 0]
    for recording in order:  # the largest first, always to the smaller half
        side[recording] = int(sizes[1] < sizes[0])
        sizes[side[recording]] += counts[recording]
    first, second = (np.flatnonzero(side[of_clip] == number) for number in range(2))
    return (first, second) if len(first) >= len(second) else (second, first)


def measure_quality(
    output: Path,
    *,
    experiment: Experiment,
    generator: type,
    options: Any,
    seeds: Sequence[int],
    held_out: int,
    draws: int,
    seed: int,
    count: int | None = None,
    labels: Mapping[str, str],
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train a generator without some of the seen classes, draw those, and compare with their real clips.

    Rows of ``QUALITIES``: per class (mean over seeds; ``n`` is its clips), and over all classes, with a row per seed
    and an interval over classes (``n`` is the classes). A class with too few clips for a measure has an empty value
    and is left out of the mean. Fewer than four seen classes give a table without rows, and a warning.

    The cosine is about the mean of the class means that the generator learnt from; a generator that says the same of
    every class has about 0. The Fréchet distance has shrunk covariances: a half is small for its dimensions.

    A ``LatentGenerator`` is compared in its own space, scaled seed by seed. Real clips lie there as classifiers learn
    them, by a draw of each (``draw_seen``; clips that it leaves out are not compared): where ``project`` puts them,
    without the noise that draws carry, no synthetic embedding would be near. Its cosine alone is kept, for only that
    can be set beside those of others. The rest is of another space, and noise that both sides share makes them alike:
    a generator whose latents say little of the clip would come off too well.

    Args:
        held_out: about as many classes form a group that is held out together.
        draws: of the bootstrap over classes.
        seed: of the study; it forms groups, halves and bootstrap draws, so that methods share them.
        count: synthetic embeddings that are compared with each half; as many as the other half has when left out,
            which alone is comparable with ``measure_real_quality``.
        labels: dataset, split, method and variant, as the table names them.
        facts: what the generator depends on, for its checkpoints.

    Raises:
        ValueError: ``held_out`` is below 1, or ``count`` below 2.
        FloatingPointError: the generator made embeddings that are not finite.
    """
    from foley.generators.embedding.protocol import LatentGenerator

    if count is not None and count < 2:
        raise ValueError(f"count must be at least 2, not {count}")
    groups = _groups(experiment, held_out, seed, labels)
    standard = _standardised(experiment.embeddings, experiment) if groups else None
    found: list[_ClassQuality] = []
    done = []
    latent = False
    for number, group in enumerate(groups):
        log.info("group %d of %d: classes %s held out", number + 1, len(groups), list(group))
        part = _hold_out(experiment, group)
        model, checkpoint = _train(part, generator, options, seeds, checkpoints, facts)
        done.append(checkpoint)
        here = experiment
        latent = isinstance(model, LatentGenerator)
        if isinstance(model, LatentGenerator):
            here, own_space = _drawn(model, experiment)
            space, scaling = _standardised(own_space, here)
        else:
            assert standard is not None
            space, scaling = standard
        clips = {c: _clips_of(here, c) for c in group}
        most = 2 * count if count is not None else max(len(rows) for rows in clips.values())
        made = _draw(model, part, most)
        made = scaling.apply(made.double().flatten(1, 2)).view(*made.shape)
        centre = _centre(space, here, part.seen)
        for position, class_id in enumerate(group):
            rows = clips[class_id]
            a, b = halve_clips(experiment.recordings[rows], seed, class_id)
            own = made[:, position]
            # What is drawn for one half is drawn anew for the other.
            first = count if count is not None else len(b)
            second = count if count is not None else len(a)
            values = [
                _compare(space[..., rows[half], :], sample, centre)
                for half, sample in ((a, own[:, :first]), (b, own[:, first : first + second]))
            ]
            found.append(_ClassQuality(class_id, len(rows), np.mean(values, axis=0)))
    names = QUALITIES[:1] if latent else QUALITIES
    tables.write(output, SCORES, _rows(found, labels, seeds, draws, seed, names), provenance)
    for checkpoint in done:
        if checkpoint is not None:
            checkpoint.discard()


def measure_real_quality(
    output: Path,
    *,
    experiment: Experiment,
    held_out: int,
    draws: int,
    seed: int,
    labels: Mapping[str, str],
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """What ``measure_quality`` would find of a generator that draws real clips: one half of a class for the other.

    One table for each split and embedding, of method ``real``; there are no seeds. ``held_out`` and ``seed`` must be
    those of the methods.

    Args:
        labels: dataset, split and variant, as the table names them.
    """
    labels = {**labels, "method": REAL}
    groups = _groups(experiment, held_out, seed, labels)
    found: list[_ClassQuality] = []
    if groups:
        space, _ = _standardised(experiment.embeddings, experiment)
    for group in groups:
        centre = _centre(space, experiment, [c for c in _trained_classes(experiment) if c not in group])
        for class_id in group:
            rows = _clips_of(experiment, class_id)
            a, b = (space[rows[half]] for half in halve_clips(experiment.recordings[rows], seed, class_id))
            values = [_compare(a, b[None], centre), _compare(b, a[None], centre)]
            found.append(_ClassQuality(class_id, len(rows), np.mean(values, axis=0)))
    tables.write(output, SCORES, _rows(found, labels, None, draws, seed), provenance)


def average_quality(
    output: Path,
    *,
    scores: Sequence[Path],
    splits: Sequence[str],
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """One dataset: rows of ``split = mean`` from the tables of its splits; none for a single split.

    Over all classes, a method's mean over the splits, if it has a value in each of them, and likewise each seed. Of a
    class, the mean over the splits that see it. ``n`` is the sum over splits.

    The splits of a dataset see the same classes, so their values are not independent: a draw of the bootstrap takes
    classes for all splits together, from the rows per class.

    Raises:
        ValueError: a table is of a split that is not in ``splits``.
    """
    if len(splits) < 2:
        tables.write(output, SCORES, [], provenance)
        return
    known = tables.read(list(scores), SCORES).to_pylist() if scores else []
    strange = sorted({row["split"] for row in known} - set(splits))
    if strange:
        raise ValueError(f"tables of the splits {strange}, of which the dataset has {list(splits)}")
    by_kind: dict[tuple[str, str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in known:
        if row["metric"] in QUALITIES and row["value"] is not None:
            by_kind[row["dataset"], row["method"], row["variant"], row["metric"]].append(row)
    rows: list[dict[str, Any]] = []
    for (dataset, method, variant, metric), values in sorted(by_kind.items()):
        labels = {"dataset": dataset, "split": "mean", "method": method, "variant": variant}
        of_class: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        overall: dict[int | None, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        for row in values:
            if row["class_id"] is not None:
                of_class[row["class_id"]][row["split"]] = row
            else:
                overall[row["seed"]][row["split"]] = row
        for class_id, parts in of_class.items():
            value, n = _mean_of(parts)
            rows.append(score_row(labels, metric, value, n, class_id=class_id))
        if set(overall[None]) != set(splits):
            continue
        table = np.full((len(of_class), len(splits)), np.nan)
        for number, class_id in enumerate(sorted(of_class)):
            for split, row in of_class[class_id].items():
                table[number, splits.index(split)] = row["value"]
        # Of no split is a draw without any of its classes; such draws are left out of the interval.
        drawn = _bootstrap(table, sorted(of_class), draws, seed).mean(axis=1)
        value, n = _mean_of(overall[None])
        whole = {s: _mean_of(p)[0] for s, p in overall.items() if s is not None and set(p) == set(splits)}
        seeds = sorted(whole)
        rows += _overall(labels, metric, seeds, np.array([whole[s] for s in seeds] or [value]), drawn, n)
    tables.write(output, SCORES, rows, provenance)


def _mean_of(parts: Mapping[str, Mapping[str, Any]]) -> tuple[float, int]:
    return float(np.mean([row["value"] for row in parts.values()])), sum(row["n"] for row in parts.values())


def _groups(
    experiment: Experiment, held_out: int, seed: int, labels: Mapping[str, str]
) -> list[tuple[int, ...]]:
    classes = _trained_classes(experiment)
    groups = group_classes(classes, held_out, seed)
    if not groups:
        log.warning(
            "%s, split %s: quality of synthetic embeddings is not measured: holding seen classes out needs %d of "
            "them, there are %d",
            labels["dataset"],
            labels["split"],
            LEAST_CLASSES,
            len(classes),
        )
    return groups


def _trained_classes(experiment: Experiment) -> list[int]:
    """Seen classes with a training clip: all of a partition of ours, not all of whatever experiment."""
    return np.unique(experiment.class_ids[experiment.rows(*TRAINING_ROLES)]).tolist()


def _hold_out(experiment: Experiment, group: Sequence[int]) -> Experiment:
    """The experiment in which ``group`` is unseen, with nothing but the training clips of the other seen classes."""
    kept = tuple(c for c in _trained_classes(experiment) if c not in group)
    train = experiment.rows(*TRAINING_ROLES)
    train = train[np.isin(experiment.class_ids[train], kept)]
    row_of = {int(c): row for row, c in enumerate(experiment.known)}
    return Experiment(
        clip_ids=experiment.clip_ids[train],
        embeddings=experiment.embeddings[train],
        class_ids=experiment.class_ids[train],
        recordings=experiment.recordings[train],
        roles=experiment.roles[train],
        seen=kept,
        unseen=tuple(group),
        vectors=experiment.vectors[[row_of[c] for c in kept + tuple(group)]],
    )


def _clips_of(experiment: Experiment, class_id: int) -> np.ndarray:
    rows = experiment.rows(*TRAINING_ROLES)
    return rows[experiment.class_ids[rows] == class_id]


def _train(
    experiment: Experiment,
    generator: type,
    options: Any,
    seeds: Sequence[int],
    checkpoints: Path | None,
    facts: Any,
) -> tuple[Any, Any]:
    """A generator trained on all clips of the experiment, and its checkpoint or None."""
    import torch

    from foley.generators.embedding.protocol import SeenData

    rows = np.arange(len(experiment.clip_ids))
    model = generator(options, seeds)
    data = SeenData(
        torch.from_numpy(experiment.embeddings),
        torch.from_numpy(experiment.class_rows(rows)),
        torch.from_numpy(experiment.vectors[: len(experiment.seen)]),
    )
    checkpoint = checkpoint_for(checkpoints, [facts, repr(options), list(seeds)], experiment, rows)
    model.fit(data, checkpoint=checkpoint)
    return model, checkpoint


def _draw(model: Any, experiment: Experiment, count: int) -> Any:
    """Synthetic embeddings of the classes held out, independent of each other [seeds, classes, count, D]."""
    import torch

    from foley.generators.embedding.protocol import CoupledGenerator

    draw = model.sample_independent if isinstance(model, CoupledGenerator) else model.sample
    made = draw(torch.from_numpy(experiment.vectors[len(experiment.seen) :]), count)
    if not bool(torch.isfinite(made).all()):
        raise FloatingPointError("the generator made embeddings that are not finite; lower its learning rate")
    return made


def _standardised(embeddings: Any, experiment: Experiment) -> tuple[Any, Any]:
    """Rows [..., N, D], one for each clip, scaled by the seen training clips among them, and the scaling."""
    import torch

    from foley.training.scaling import Scaling

    x = torch.as_tensor(embeddings).double()
    scaling = Scaling.of("standardise", x[..., experiment.rows(*TRAINING_ROLES), :])
    return scaling.apply(x), scaling


def _drawn(model: Any, experiment: Experiment) -> tuple[Experiment, Any]:
    """A draw of each training clip in a generator's own space [seeds, N, L], NaN for other clips.

    Also the experiment in which clips that were not drawn have no role.
    """
    import torch

    from foley.generators.embedding.protocol import SeenData

    rows = experiment.rows(*TRAINING_ROLES)
    data = SeenData(
        torch.from_numpy(experiment.embeddings[rows]),
        torch.from_numpy(experiment.class_rows(rows)),
        torch.from_numpy(experiment.vectors[: len(experiment.seen)]),
    )
    drawn, values = model.draw_seen(data)
    # Of a clip that is drawn several times, the first.
    of_data, first = np.unique(drawn.numpy(), return_index=True)
    clips = rows[of_data]
    space = values.new_full((len(values), len(experiment.clip_ids), values.shape[2]), torch.nan)
    space[:, clips] = values[:, first]
    roles = np.full(len(experiment.roles), "not drawn", dtype=object)
    roles[clips] = experiment.roles[clips]
    return replace(experiment, roles=roles), space


def _centre(space: Any, experiment: Experiment, classes: Sequence[int]) -> Any:
    """Mean of the mean training embeddings of ``classes`` [..., D]."""
    import torch

    means = [space[..., _clips_of(experiment, c), :].mean(dim=-2) for c in classes]
    return torch.stack(means).mean(dim=0)


def _compare(real: Any, made: Any, centre: Any) -> np.ndarray:
    """Real [N, D] or [seeds, N, D] and synthetic [seeds, M, D] -> [metrics, seeds] in the order of ``QUALITIES``."""
    from foley.metrics.cosine import cosine_of_means
    from foley.metrics.frechet import frechet_distance
    from foley.metrics.manifold import compare_manifolds
    from foley.metrics.mmd import GaussianKernel, squared_mmd

    values = np.full((len(QUALITIES), len(made)), np.nan)
    least = min(real.shape[-2], made.shape[-2])
    if least >= 1:
        values[0] = cosine_of_means(real, made, centre).numpy()
    if least >= 2:
        values[1] = squared_mmd(real, made, GaussianKernel.of(real)).numpy()
        values[2] = frechet_distance(real, made, covariance="shrunk").numpy()
        manifolds = compare_manifolds(real, made, min(NEIGHBOURS, least - 1))
        values[3], values[4] = manifolds.precision.numpy(), manifolds.recall.numpy()
        values[5], values[6] = manifolds.density.numpy(), manifolds.coverage.numpy()
    return values


def _rows(
    found: Sequence[_ClassQuality],
    labels: Mapping[str, str],
    seeds: Sequence[int] | None,
    draws: int,
    seed: int,
    names: Sequence[str] = QUALITIES,
) -> list[dict[str, Any]]:
    """Rows per class and over classes of the first of ``QUALITIES``; ``seeds`` is None for what has none."""
    rows: list[dict[str, Any]] = []
    if not found:
        return rows
    found = sorted(found, key=lambda one: one.class_id)
    class_ids = [one.class_id for one in found]
    whole = np.stack([one.values for one in found])  # [classes, metrics, seeds]
    for metric, name in enumerate(names):
        values = whole[:, metric]
        for one, value in zip(found, values.mean(axis=1), strict=True):
            rows.append(score_row(labels, name, value, one.clips, class_id=one.class_id))
        defined = np.isfinite(values).all(axis=1)
        if not defined.any():
            log.warning("%s: every class has too few training clips for %s", labels["method"], name)
            continue
        drawn = _bootstrap(values.mean(axis=1, keepdims=True), class_ids, draws, seed)[:, 0]
        per_seed = values[defined].mean(axis=0)
        rows += _overall(labels, name, seeds or (), per_seed, drawn, int(defined.sum()))
    return rows


def _overall(
    labels: Mapping[str, str],
    name: str,
    seeds: Sequence[int],
    per_seed: np.ndarray,
    drawn: np.ndarray,
    n: int,
) -> list[dict[str, Any]]:
    if seeds:
        return summary_rows(labels, name, seeds, Measured(per_seed, drawn, n))
    low, high = interval(drawn)
    return [score_row(labels, name, per_seed[0], n, low=low, high=high)]


def _bootstrap(values: np.ndarray, class_ids: Sequence[int], draws: int, seed: int) -> np.ndarray:
    """Values per class [classes, columns] -> each column's mean over the classes of each draw [draws, columns].

    NaN marks a class that a column does not have; a draw without any class of a column has NaN there.
    """
    # The same draws for every method: differences are then paired.
    resamples = resample_recordings(np.array(class_ids), draws, seed, "quality")
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return resamples.sums(np.where(there, values, 0.0)) / resamples.sums(there.astype(np.float64))
