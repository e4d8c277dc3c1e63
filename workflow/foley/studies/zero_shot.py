"""The zero-shot study: can an embedding generator stand in for classes without audio?

Protocol of ZeroDiffusion (arXiv 2412.03771): train on seen classes, generate embeddings of unseen ones from their
class vectors, train a compatibility classifier on both, test on real clips of unseen classes (conventional: argmax
over unseen classes; generalised: over all, with held-out clips of seen classes beside). The last epoch counts;
nothing is chosen by unseen clips.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foley import tables
from foley.metrics import classification as metric
from foley.metrics.bootstrap import Resamples, interval, resample_recordings
from foley.studies.partition import TRAINING_ROLES
from foley.tables.scores import PREDICTIONS, SCORES
from foley.tables.zero_shot import PARTITION, PROJECTED_EMBEDDINGS, SYNTHETIC_EMBEDDINGS

log = logging.getLogger(__name__)

STUDY = "zero_shot"
CONVENTIONAL, GENERALISED = "conventional", "generalised"


@dataclass(frozen=True)
class Experiment:
    """One split's data in memory: embeddings per clip with roles, and class vectors, seen classes first."""

    clip_ids: np.ndarray
    embeddings: np.ndarray
    class_ids: np.ndarray
    recordings: np.ndarray
    roles: np.ndarray
    seen: tuple[int, ...]
    unseen: tuple[int, ...]
    vectors: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Class ids in the order of ``vectors``."""
        return np.array(self.seen + self.unseen)

    def rows(self, *roles: str) -> np.ndarray:
        return np.flatnonzero(np.isin(self.roles, roles))

    def class_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows into ``vectors`` of the clips' classes."""
        position = {class_id: row for row, class_id in enumerate(self.known)}
        return np.array([position[c] for c in self.class_ids[rows]], dtype=np.int64)


def load_experiment(embeddings: Sequence[Path], partition: Path, class_vectors: Path) -> Experiment:
    """Join embeddings (mean over a clip's windows), partition and class vectors.

    Raises:
        ValueError: a clip of the partition has no embedding, or a class no vector; names them.
    """
    parts = tables.read(partition, PARTITION).sort_by("clip_id")
    embedded = tables.read(list(embeddings), columns=["clip_id", "vector"])
    ids = np.array(embedded["clip_id"].to_pylist(), dtype=object)
    matrix = tables.to_matrix(embedded["vector"])
    unique, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    means = np.zeros((len(unique), matrix.shape[1]))
    np.add.at(means, inverse, matrix)
    means /= counts[:, None]
    position = {clip_id: row for row, clip_id in enumerate(unique)}
    clip_ids = parts["clip_id"].to_pylist()
    lacking = [clip_id for clip_id in clip_ids if clip_id not in position]
    if lacking:
        raise ValueError(
            f"{len(lacking)} clips have no embedding in {embeddings[0]}, for example {lacking[0]}"
        )
    vectors = tables.read(class_vectors, columns=["class_id", "vector"])
    by_class = dict(zip(vectors["class_id"].to_pylist(), tables.to_matrix(vectors["vector"]), strict=True))
    class_ids, roles = np.array(parts["class_id"].to_pylist()), np.array(parts["role"].to_pylist())
    seen = tuple(sorted({int(c) for c, r in zip(class_ids, roles, strict=True) if r.startswith("seen")}))
    unseen = tuple(sorted({int(c) for c, r in zip(class_ids, roles, strict=True) if r == "unseen"}))
    without = [c for c in seen + unseen if c not in by_class]
    if without:
        raise ValueError(f"classes {without} have no vector in {class_vectors}")
    _warn_of_twins(seen + unseen, by_class, class_vectors)
    return Experiment(
        clip_ids=np.array(clip_ids, dtype=object),
        embeddings=means[[position[c] for c in clip_ids]].astype(np.float32),
        class_ids=class_ids,
        recordings=np.array(parts["recording_id"].to_pylist(), dtype=object),
        roles=roles,
        seen=seen,
        unseen=unseen,
        vectors=np.stack([by_class[c] for c in seen + unseen]),
    )


def _warn_of_twins(classes: Sequence[int], vectors: Mapping[int, np.ndarray], path: Path) -> None:
    by_vector: dict[bytes, list[int]] = {}
    for class_id in classes:
        by_vector.setdefault(vectors[class_id].tobytes(), []).append(class_id)
    for twins in by_vector.values():
        if len(twins) > 1:
            log.warning(
                "classes %s have the same vector in %s: nothing that knows a class by its vector can tell them "
                "apart, and the first is said; give each words of its own",
                twins,
                path,
            )


def _checkpoint(
    folder: Path | None, facts: Any, experiment: Experiment, train: np.ndarray, *more: np.ndarray
) -> Any:
    """Where a training of this study is continued; None without a folder."""
    if folder is None:
        return None
    from foley.training.checkpoint import Checkpoint

    data = (experiment.embeddings[train], experiment.class_rows(train), experiment.vectors)
    return Checkpoint(folder, [facts, len(experiment.seen)], *data, *more)


@dataclass(frozen=True)
class Projected:
    """Real embeddings in the space that a generator draws in.

    ``clips`` [seeds, clips, L]: where each clip of the experiment lies, to be recognised there. ``train_rows`` [M]
    and ``train`` [seeds, M, L]: draws that classifiers learn seen classes from, and the clips that they are of.
    """

    clips: np.ndarray
    train_rows: np.ndarray
    train: np.ndarray


def generate_embeddings(
    output: Path,
    *,
    projected: Path,
    experiment: Experiment,
    generator: type,
    options: Any,
    seeds: Sequence[int],
    count: int,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train a generator on seen classes and write ``count`` embeddings of each unseen class and seed.

    Args:
        projected: gets the real embeddings in the generator's own space; no rows for a generator without one.
    """
    import torch

    from foley.generators.embedding.protocol import LatentGenerator, SeenData

    train = experiment.rows(*TRAINING_ROLES)
    model = generator(options, seeds)
    data = SeenData(
        torch.from_numpy(experiment.embeddings[train]),
        torch.from_numpy(experiment.class_rows(train)),
        torch.from_numpy(experiment.vectors[: len(experiment.seen)]),
    )
    checkpoint = _checkpoint(checkpoints, [facts, repr(options), list(seeds)], experiment, train)
    model.fit(data, checkpoint=checkpoint)
    made = model.sample(torch.from_numpy(experiment.vectors[len(experiment.seen) :]), count).numpy()
    if not np.isfinite(made).all():
        raise FloatingPointError("the generator made embeddings that are not finite; lower its learning rate")
    s, u, k, dim = made.shape
    table = pa.table(
        {
            "seed": pa.array(np.repeat(seeds, u * k), pa.int32()),
            "class_id": pa.array(np.tile(np.repeat(experiment.unseen, k), s), pa.int32()),
            "index": pa.array(np.tile(np.arange(k), s * u), pa.int32()),
            "vector": tables.from_matrix(made.reshape(-1, dim)),
        }
    )
    if isinstance(model, LatentGenerator):
        rows, drawn = model.draw_seen(data)
        clips = model.project(torch.from_numpy(experiment.embeddings)).numpy()
        _write_projected(
            projected, Projected(clips, train[rows.numpy()], drawn.numpy()), experiment, seeds, provenance
        )
    else:
        tables.write(projected, PROJECTED_EMBEDDINGS, [], provenance)
    tables.write(output, SYNTHETIC_EMBEDDINGS.with_vectors(vector=dim), table, provenance)
    if checkpoint is not None:
        checkpoint.discard()


def _write_projected(
    path: Path,
    projected: Projected,
    experiment: Experiment,
    seeds: Sequence[int],
    provenance: Mapping[str, Any] | None,
) -> None:
    clips, drawn = len(experiment.clip_ids), len(projected.train_rows)
    # Of a clip that is drawn several times, the draws in their order.
    order = np.argsort(projected.train_rows, kind="stable")
    sorted_rows = projected.train_rows[order]
    draws = np.empty(drawn, dtype=np.int64)
    draws[order] = np.arange(drawn) - np.searchsorted(sorted_rows, sorted_rows) + 1
    rows = np.concatenate([np.arange(clips), projected.train_rows])
    vectors = np.concatenate([projected.clips, projected.train], axis=1)
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the generator's projections are not finite; lower its learning rate")
    dim = vectors.shape[2]
    table = pa.table(
        {
            "seed": pa.array(np.repeat(seeds, len(rows)), pa.int32()),
            "clip_id": pa.array(np.tile(experiment.clip_ids[rows], len(seeds)), pa.string()),
            "draw": pa.array(np.tile(np.concatenate([np.zeros(clips), draws]), len(seeds)), pa.int32()),
            "vector": tables.from_matrix(vectors.reshape(-1, dim)),
        }
    )
    tables.write(path, PROJECTED_EMBEDDINGS.with_vectors(vector=dim), table, provenance)


def read_synthetic(path: Path, unseen: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
    """Synthetic embeddings as [seeds, unseen classes, count, dim]."""
    table = tables.read(path, columns=list(SYNTHETIC_EMBEDDINGS.columns))
    matrix = tables.to_matrix(table["vector"])
    count = table.num_rows // (len(seeds) * len(unseen))
    if table.num_rows != len(seeds) * len(unseen) * count:
        raise ValueError(f"{path} does not hold equally many embeddings for each seed and class")
    return matrix.reshape(len(seeds), len(unseen), count, -1)


def read_projected(path: Path, experiment: Experiment, seeds: Sequence[int]) -> Projected | None:
    """Real embeddings in the generator's own space; None for a generator without one.

    Raises:
        ValueError: the table is of other seeds or clips.
    """
    table = tables.read(path, columns=list(PROJECTED_EMBEDDINGS.columns))
    if not table.num_rows:
        return None
    rows = table.num_rows // len(seeds)
    # Rows are ordered by seed, clip and draw; each seed has the same clips and draws.
    head = table.slice(0, rows)
    draws = head["draw"].to_numpy()
    clip_ids = np.array(head["clip_id"].to_pylist(), dtype=object)
    if table.num_rows != len(seeds) * rows or clip_ids[draws == 0].tolist() != experiment.clip_ids.tolist():
        raise ValueError(f"{path} does not hold the experiment's clips for each seed")
    vectors = tables.to_matrix(table["vector"]).reshape(len(seeds), rows, -1)
    position = {clip_id: row for row, clip_id in enumerate(experiment.clip_ids)}
    return Projected(
        clips=vectors[:, draws == 0],
        train_rows=np.array([position[c] for c in clip_ids[draws > 0]], dtype=np.int64),
        train=vectors[:, draws > 0],
    )


def classify(
    output: Path,
    *,
    experiment: Experiment,
    synthetic: np.ndarray | None,
    projected: Projected | None = None,
    classifier: type,
    options: Any,
    seeds: Sequence[int],
    labels: Mapping[str, str],
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train the classifier and write what it says of unseen and held-out seen clips.

    Args:
        synthetic: [seeds, unseen classes, count, D] or None for a classifier without a generator.
        projected: real embeddings in the space of ``synthetic``, where that is the generator's own.
        labels: dataset, split, method and variant, as the table names them.
    """
    import torch

    from foley.classifiers.protocol import ZeroShotData

    train = experiment.rows(*TRAINING_ROLES)
    real = experiment.embeddings[train]
    if projected is not None:
        train, real = projected.train_rows, projected.train
    model = classifier(options, seeds)
    more = [values for values in (synthetic, real if projected is not None else None) if values is not None]
    checkpoint = _checkpoint(checkpoints, [facts, repr(options), list(seeds)], experiment, train, *more)
    model.fit(
        ZeroShotData(
            torch.from_numpy(real),
            torch.from_numpy(experiment.class_rows(train)),
            torch.from_numpy(experiment.vectors),
            len(experiment.seen),
            torch.tensor(synthetic) if synthetic is not None else None,
        ),
        checkpoint=checkpoint,
    )
    parts = []
    unseen, seen_test = experiment.rows("unseen"), experiment.rows("seen_test")
    for setting, rows, first in (
        (CONVENTIONAL, unseen, len(experiment.seen)),
        (GENERALISED, np.sort(np.concatenate([unseen, seen_test])), 0),
    ):
        known = experiment.known[first:]
        asked = projected.clips[:, rows] if projected is not None else experiment.embeddings[rows]
        scores = model.score(torch.from_numpy(asked), torch.arange(first, len(experiment.known)))
        best = scores.topk(min(2, len(known)), dim=2)
        said = known[best.indices[:, :, 0].numpy()]
        margins = (best.values[:, :, 0] - best.values[:, :, -1]).numpy()
        n = len(rows)
        for number, seed in enumerate(seeds):
            parts.append(
                pa.table(
                    {
                        **{name: pa.array([value] * n, pa.string()) for name, value in labels.items()},
                        "setting": pa.array([setting] * n, pa.string()),
                        "seed": pa.array([seed] * n, pa.int32()),
                        "clip_id": pa.array(experiment.clip_ids[rows], pa.string()),
                        "role": pa.array(experiment.roles[rows].astype(object), pa.string()),
                        "class_id": pa.array(experiment.class_ids[rows], pa.int32()),
                        "predicted_class_id": pa.array(said[number], pa.int32()),
                        "margin": pa.array(margins[number], pa.float32()),
                    }
                )
            )
    tables.write(output, PREDICTIONS, pa.concat_tables(parts), provenance)
    if checkpoint is not None:
        checkpoint.discard()


@dataclass(frozen=True)
class Predicted:
    """One method's answers in one split: ids [N], truth [N], said [seeds, N]; the same N for every seed."""

    labels: dict[str, str]
    seeds: tuple[int, ...]
    clip_ids: np.ndarray
    truth: np.ndarray
    said: np.ndarray
    is_unseen: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return (self.said == self.truth[None, :]).astype(np.float64)

    def only_unseen(self) -> Predicted:
        keep = self.is_unseen
        return Predicted(
            self.labels, self.seeds, self.clip_ids[keep], self.truth[keep], self.said[:, keep], keep[keep]
        )


def read_predictions(path: Path, setting: str) -> Predicted:
    """One file of predictions, one setting."""
    table = tables.read(path, PREDICTIONS)
    table = table.filter(pa.compute.equal(table["setting"], setting))
    seeds = tuple(sorted(set(table["seed"].to_pylist())))
    n = table.num_rows // max(len(seeds), 1)
    # Rows are ordered by seed, then clip.
    said = table["predicted_class_id"].to_numpy().reshape(len(seeds), n)
    head = table.slice(0, n)
    return Predicted(
        {name: head[name][0].as_py() for name in ("dataset", "split", "method", "variant")},
        seeds,
        np.array(head["clip_id"].to_pylist(), dtype=object),
        head["class_id"].to_numpy(),
        said,
        np.array([role == "unseen" for role in head["role"].to_pylist()]),
    )


@dataclass(frozen=True)
class Measured:
    """A quantity of one method in one split: per seed [seeds], and its bootstrap draws (mean over seeds)."""

    per_seed: np.ndarray
    draws: np.ndarray
    n: int


def _resamples(
    clip_ids: np.ndarray, recording_of: Mapping[str, str], split: str, draws: int, seed: int
) -> Resamples:
    # The same draws for every method of a split: differences are then paired.
    return resample_recordings(
        np.array([recording_of[c] for c in clip_ids]), draws, seed, split, len(clip_ids)
    )


def measure(
    path: Path, recording_of: Mapping[str, str], draws: int, seed: int
) -> tuple[Predicted, dict[str, Measured]]:
    """Everything measured of one file of predictions, by metric."""
    plain = read_predictions(path, CONVENTIONAL)
    known = np.unique(plain.truth)
    resamples = _resamples(plain.clip_ids, recording_of, plain.labels["split"], draws, seed)
    correct = plain.correct
    n = len(plain.truth)
    found = {
        "accuracy": Measured(metric.accuracy(correct), metric.accuracy_draws(correct, resamples), n),
        "accuracy_macro": Measured(
            np.nanmean(metric.recalls(correct, plain.truth, known), axis=1),
            np.nanmean(metric.recall_draws(correct, plain.truth, known, resamples), axis=1),
            n,
        ),
    }
    general = read_predictions(path, GENERALISED)
    resamples = _resamples(general.clip_ids, recording_of, general.labels["split"], draws, seed)
    sides: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, side in (("accuracy_seen", ~general.is_unseen), ("accuracy_unseen", general.is_unseen)):
        if not side.any():  # every seen class has a single recording, which trains
            continue
        part = Resamples(resamples.weights, resamples.recording[side])
        classes = np.unique(general.truth[side])
        per_seed = np.nanmean(metric.recalls(general.correct[:, side], general.truth[side], classes), axis=1)
        drawn = metric.macro_draws_per_seed(general.correct[:, side], general.truth[side], classes, part)
        sides[name] = (per_seed, drawn)
        found[name] = Measured(per_seed, drawn.mean(axis=0), int(side.sum()))
    if len(sides) == 2:
        (seen, seen_draws), (unseen, unseen_draws) = sides["accuracy_seen"], sides["accuracy_unseen"]
        found["harmonic_mean"] = Measured(
            metric.harmonic_mean(seen, unseen),
            metric.harmonic_mean(seen_draws, unseen_draws).mean(axis=0),
            len(general.truth),
        )
    return plain, found


def _row(labels: Mapping[str, str], metric_name: str, value: float, n: int, **more: Any) -> dict[str, Any]:
    return {"study": STUDY, "fold": None, "seed": None, "class_id": None, "low": None, "high": None} | {
        **labels,
        "metric": metric_name,
        "value": None if np.isnan(value) else float(value),
        "n": int(n),
        **more,
    }


def _summary_rows(
    labels: Mapping[str, str], name: str, seeds: Sequence[int], measured: Measured
) -> list[dict[str, Any]]:
    low, high = interval(measured.draws)
    rows = [_row(labels, name, measured.per_seed.mean(), measured.n, low=low, high=high)]
    rows += [
        _row(labels, name, value, measured.n, seed=seed)
        for seed, value in zip(seeds, measured.per_seed, strict=True)
    ]
    if len(seeds) > 1:
        rows.append(_row(labels, f"{name}_seed_std", measured.per_seed.std(ddof=1), len(seeds)))
    return rows


def _recordings(partition: Path) -> dict[str, str]:
    table = tables.read(partition, PARTITION, columns=["clip_id", "recording_id"])
    return dict(zip(table["clip_id"].to_pylist(), table["recording_id"].to_pylist(), strict=True))


def score_method(
    output: Path,
    *,
    predictions: Path,
    partition: Path,
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """One method in one split: overall rows with intervals, a row per seed, and rows per class."""
    recording_of = _recordings(partition)
    plain, found = measure(predictions, recording_of, draws, seed)
    rows = [row for name, m in found.items() for row in _summary_rows(plain.labels, name, plain.seeds, m)]
    known = np.unique(plain.truth)
    resamples = _resamples(plain.clip_ids, recording_of, plain.labels["split"], draws, seed)
    recall = metric.recalls(plain.correct, plain.truth, known).mean(axis=0)
    recall_draws = metric.recall_draws(plain.correct, plain.truth, known, resamples)
    precision = metric.precisions(plain.correct, plain.said, known)
    for number, class_id in enumerate(known):
        n = int((plain.truth == class_id).sum())
        low, high = interval(recall_draws[:, number])
        rows.append(
            _row(plain.labels, "recall", recall[number], n, class_id=int(class_id), low=low, high=high)
        )
        said = precision[:, number]
        said = said[np.isfinite(said)]
        # A class that was never predicted has no precision: an empty value, not a zero.
        rows.append(
            _row(
                plain.labels,
                "precision",
                float(said.mean()) if len(said) else float("nan"),
                n,
                class_id=int(class_id),
            )
        )
    tables.write(output, SCORES, rows, provenance)


def score_references(
    output: Path, *, partition: Path, dataset: str, split: str, provenance: Mapping[str, Any] | None = None
) -> None:
    """What needs no training: chance (one class in U), and always saying the commonest unseen class."""
    table = tables.read(partition, PARTITION, columns=["class_id", "role"])
    unseen = np.array(
        [
            c
            for c, r in zip(table["class_id"].to_pylist(), table["role"].to_pylist(), strict=True)
            if r == "unseen"
        ]
    )
    counts = np.unique(unseen, return_counts=True)[1]
    labels = {"dataset": dataset, "split": split, "variant": ""}
    rows = [
        _row({**labels, "method": "chance"}, "accuracy", 1 / len(counts), len(unseen)),
        _row({**labels, "method": "majority"}, "accuracy", counts.max() / len(unseen), len(unseen)),
    ]
    tables.write(output, SCORES, rows, provenance)


def compare_methods(
    output: Path,
    *,
    predictions: Sequence[Path],
    partitions: Mapping[str, Path],
    references: Sequence[Path],
    baseline: str,
    generated: Sequence[str],
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """One dataset: means over splits, and each method's paired gain over the baseline.

    A gain is the difference in accuracy on the same clips, with an interval over the same bootstrap draws. Splits
    have unseen clips of their own, so their draws are independent and a mean over splits averages draw by draw.

    Args:
        partitions: split -> its partition table.
        baseline: the method without synthetic data that gains are measured against.
        generated: methods with synthetic data, whose gains are of interest.
    """
    recordings = {split: _recordings(path) for split, path in partitions.items()}
    measured: dict[tuple[str, str, str], tuple[Predicted, dict[str, Measured]]] = {}
    dataset = ""
    for path in predictions:
        labels = read_predictions(path, CONVENTIONAL).labels
        dataset = labels["dataset"]
        key = (labels["method"], labels["variant"], labels["split"])
        measured[key] = measure(path, recordings[labels["split"]], draws, seed)
    rows: list[dict[str, Any]] = []
    pairs = sorted({(method, variant) for method, variant, _ in measured})
    for method, variant in pairs:
        splits = [split for split in partitions if (method, variant, split) in measured]
        labels = {"dataset": dataset, "method": method, "variant": variant}
        gains: list[Measured] = []
        for split in splits:
            here = measured[method, variant, split]
            base = measured.get((baseline, variant, split))
            if base is None or method not in generated:
                continue
            gain = _gain(here[1]["accuracy"], base[1]["accuracy"])
            gains.append(gain)
            low, high = interval(gain.draws)
            name = f"gain_over_{baseline}"
            rows.append(
                _row({**labels, "split": split}, name, gain.per_seed.mean(), gain.n, low=low, high=high)
            )
            rows += _class_gains(
                {**labels, "split": split}, name, here[0], base[0], recordings[split], draws, seed
            )
        if len(splits) == len(partitions) and len(splits) > 1:
            mean_labels = {**labels, "split": "mean"}
            for name in measured[method, variant, splits[0]][1]:
                parts = [measured[method, variant, split][1].get(name) for split in splits]
                whole = [part for part in parts if part is not None]
                if len(whole) == len(splits):
                    rows += _summary_rows(
                        mean_labels, name, measured[method, variant, splits[0]][0].seeds, _mean(whole)
                    )
            if len(gains) == len(splits):
                total = _mean(gains)
                low, high = interval(total.draws)
                rows.append(
                    _row(
                        mean_labels,
                        f"gain_over_{baseline}",
                        total.per_seed.mean(),
                        total.n,
                        low=low,
                        high=high,
                    )
                )
    if len(partitions) > 1:
        known = tables.read(list(references), SCORES).to_pylist()
        for method in ("chance", "majority"):
            values = [(row["value"], row["n"]) for row in known if row["method"] == method]
            rows.append(
                _row(
                    {"dataset": dataset, "split": "mean", "method": method, "variant": ""},
                    "accuracy",
                    float(np.mean([v for v, _ in values])),
                    sum(n for _, n in values),
                )
            )
    tables.write(output, SCORES, rows, provenance)


def _gain(here: Measured, base: Measured) -> Measured:
    seeds = min(len(here.per_seed), len(base.per_seed))
    return Measured(here.per_seed[:seeds] - base.per_seed[:seeds], here.draws - base.draws, here.n)


def _mean(parts: Sequence[Measured]) -> Measured:
    return Measured(
        np.mean([p.per_seed for p in parts], axis=0),
        np.mean([p.draws for p in parts], axis=0),
        sum(p.n for p in parts),
    )


def _class_gains(
    labels: Mapping[str, str],
    name: str,
    here: Predicted,
    base: Predicted,
    recording_of: Mapping[str, str],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    known = np.unique(here.truth)
    resamples = _resamples(here.clip_ids, recording_of, labels["split"], draws, seed)
    difference = (here.correct.mean(axis=0) - base.correct.mean(axis=0))[None, :]
    value = metric.recalls(difference, here.truth, known)[0]
    drawn = metric.recall_draws(difference, here.truth, known, resamples)
    rows = []
    for number, class_id in enumerate(known):
        low, high = interval(drawn[:, number])
        n = int((here.truth == class_id).sum())
        rows.append(_row(labels, name, value[number], n, class_id=int(class_id), low=low, high=high))
    return rows
