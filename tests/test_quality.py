"""Quality of synthetic embeddings of seen classes that the generator never saw."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foley import tables
from foley.generators.embedding.cada_vae import CADAVAE, CADAVAEOptions
from foley.generators.embedding.gaussian_process import GaussianProcess, GaussianProcessOptions
from foley.generators.embedding.protocol import LatentGenerator, SeenData
from foley.generators.embedding.zerodiffusion import ZeroDiffusion, ZeroDiffusionOptions
from foley.metrics.bootstrap import resample_recordings
from foley.metrics.mmd import GaussianKernel, squared_mmd
from foley.studies.partition import TRAINING_ROLES
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.quality import (
    QUALITIES,
    average_quality,
    group_classes,
    halve_clips,
    measure_quality,
    measure_real_quality,
)
from foley.tables.scores import SCORES
from seen_unseen import world

SEEN, CLIPS, STUDY_SEED = 9, 10, 5
LABELS = {"dataset": "toy", "split": "fold0", "method": "made", "variant": "scratch/words"}
SHARED: dict[str, Any] = {"held_out": 3, "draws": 200, "seed": STUDY_SEED}
Rows = list[dict[str, Any]]


def toy(seen: int = SEEN, clips: int = CLIPS) -> Experiment:
    """Recordings of two clips; of ten clips of a seen class two are held out for the test. Class ids are not rows."""
    small = world(seen=seen, clips=clips)
    classes = torch.cat([small.seen.classes, small.unseen_classes + seen])
    order = classes.argsort(stable=True).numpy()
    embeddings = torch.cat([small.seen.embeddings, small.unseen_embeddings]).numpy()[order]
    class_rows = classes.numpy()[order]
    place = np.concatenate([np.arange(n) for n in np.bincount(class_rows)])
    roles = np.select(
        [class_rows >= seen, place >= clips * 0.8, place >= clips * 0.6],
        ["unseen", "seen_test", "seen_validation"],
        "seen_train",
    )
    ids = 10 + 2 * np.arange(seen + 3)
    return Experiment(
        clip_ids=np.array([f"{c}-{p}" for c, p in zip(class_rows, place, strict=True)], dtype=object),
        embeddings=embeddings,
        class_ids=ids[class_rows],
        recordings=np.array([f"{c}-{p // 2}" for c, p in zip(class_rows, place, strict=True)], dtype=object),
        roles=roles,
        seen=tuple(map(int, ids[:seen])),
        unseen=tuple(map(int, ids[seen:])),
        vectors=small.vectors.numpy(),
    )


def only(experiment: Experiment, keep: np.ndarray) -> Experiment:
    fields = ("clip_ids", "embeddings", "class_ids", "recordings", "roles")
    return replace(experiment, **{name: getattr(experiment, name)[keep] for name in fields})


def clips_of(experiment: Experiment, class_id: int) -> np.ndarray:
    rows = experiment.rows(*TRAINING_ROLES)
    return rows[experiment.class_ids[rows] == class_id]


def measured(
    path: Path, experiment: Experiment, generator: type, options: Any = None, **changed: Any
) -> Rows:
    given = {"seeds": [3, 4], "labels": LABELS} | SHARED | changed
    measure_quality(path, experiment=experiment, generator=generator, options=options, **given)
    return tables.read(path, SCORES).to_pylist()


def measured_real(path: Path, experiment: Experiment) -> Rows:
    labels = {name: value for name, value in LABELS.items() if name != "method"}
    measure_real_quality(path, experiment=experiment, labels=labels, **SHARED)
    return tables.read(path, SCORES).to_pylist()


def value(rows: Rows, metric: str, class_id: int | None = None, seed: int | None = None) -> Any:
    found = [r["value"] for r in rows if (r["metric"], r["class_id"], r["seed"]) == (metric, class_id, seed)]
    assert len(found) == 1
    return found[0]


# Generators whose quality is known


@dataclass(frozen=True)
class Known:
    experiment: Experiment


class Memory:
    """Knows the real clips of every class, and gives those that are in the other half."""

    Options = Known

    def __init__(self, options: Known, seeds: Sequence[int]) -> None:
        self.known, self.seeds = options.experiment, list(seeds)

    def fit(self, data: SeenData, *, checkpoint: Any = None) -> None:
        self.data = data

    def clips(self, vector: Tensor) -> np.ndarray:
        row = int(np.flatnonzero((self.known.vectors == vector.numpy()).all(axis=1))[0])
        rows = clips_of(self.known, int(self.known.known[row]))
        a, b = halve_clips(self.known.recordings[rows], STUDY_SEED, int(self.known.known[row]))
        return self.known.embeddings[rows[np.concatenate([b, a])]]

    def sample(self, vectors: Tensor, count: int) -> Tensor:
        made = np.zeros((len(vectors), count, self.known.embeddings.shape[1]), dtype=np.float32)
        for number, vector in enumerate(vectors):
            own = self.clips(vector)[:count]
            made[number, : len(own)] = own
        return torch.from_numpy(made).expand(len(self.seeds), -1, -1, -1)


class Elsewhere(Memory):
    """The same in a space of its own, of other units for each seed."""

    def move(self, x: Tensor) -> Tensor:
        factors = torch.tensor([3.0, 0.2])[: len(self.seeds)].view(-1, *[1] * (x.dim() - 1))
        return x * factors + torch.arange(x.shape[-1])

    def sample(self, vectors: Tensor, count: int) -> Tensor:
        return self.move(super().sample(vectors, count))

    def project(self, embeddings: Tensor) -> Tensor:
        raise AssertionError("clips are compared by draws of them, not where they lie without noise")

    def draw_seen(self, data: SeenData) -> tuple[Tensor, Tensor]:
        rows = torch.randperm(len(data.embeddings), generator=torch.Generator().manual_seed(0))
        x = self.move(data.embeddings[rows].expand(len(self.seeds), -1, -1))
        # A second draw of each, which must not count.
        return torch.cat([rows, rows]), torch.cat([x, x + 100], dim=1)


class Forgetful(Elsewhere):
    """Draws no more than six clips of a class."""

    def draw_seen(self, data: SeenData) -> tuple[Tensor, Tensor]:
        rows = torch.cat([(data.classes == c).nonzero().flatten()[:6] for c in data.classes.unique()])
        return rows, self.move(data.embeddings[rows].expand(len(self.seeds), -1, -1))


class Ignorant(Memory):
    """Draws clips of the classes it learnt from, whatever it is asked."""

    def sample(self, vectors: Tensor, count: int) -> Tensor:
        parts = []
        for seed in self.seeds:
            stream = torch.Generator().manual_seed(seed)
            rows = torch.randint(len(self.data.embeddings), (len(vectors), count), generator=stream)
            parts.append(self.data.embeddings[rows])
        return torch.stack(parts)


class Broken(Memory):
    def sample(self, vectors: Tensor, count: int) -> Tensor:
        return super().sample(vectors, count) / 0


# Groups and halves


@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 20))
def test_every_seen_class_is_held_out_once(count: int, held_out: int, seed: int) -> None:
    seen = [3 * number for number in range(count)]
    groups = group_classes(seen, held_out, seed)
    if count < 4:
        assert groups == []
        return
    assert sorted(c for group in groups for c in group) == seen
    sizes = [len(group) for group in groups]
    assert min(sizes) >= 1 and count - max(sizes) >= 2 and max(sizes) - min(sizes) <= 1
    if held_out <= count // 2:
        assert 2 / 3 * held_out - 1 <= np.mean(sizes) <= 1.5 * held_out
    assert group_classes(seen[::-1], held_out, seed) == groups


def test_groups_follow_the_seed() -> None:
    assert group_classes(range(20), 5, 0) != group_classes(range(20), 5, 1)
    with pytest.raises(ValueError, match="held_out must be at least 1, not 0"):
        group_classes(range(20), 0, 0)


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 5))
def test_halves_keep_recordings_whole(numbers: list[int], seed: int) -> None:
    recordings = np.array([f"recording {number}" for number in numbers], dtype=object)
    a, b = halve_clips(recordings, seed, 7)
    assert sorted([*a, *b]) == list(range(len(numbers))) and len(a) >= len(b)
    counts = np.unique(recordings, return_counts=True)[1]
    if len(counts) > 1:
        assert not set(recordings[a]) & set(recordings[b]) and len(b)
        assert len(a) - len(b) <= counts.max()
    else:
        assert len(a) - len(b) <= 1
    again = halve_clips(recordings, seed, 7)
    assert np.array_equal(a, again[0]) and np.array_equal(b, again[1])


# One split


def test_a_generator_of_real_clips_reaches_the_reference(tmp_path: Path) -> None:
    experiment = toy()
    best = measured_real(tmp_path / "real.parquet", experiment)
    rows = measured(tmp_path / "made.parquet", experiment, Memory, Known(experiment))
    elsewhere = measured(tmp_path / "own.parquet", experiment, Elsewhere, Known(experiment))
    assert isinstance(Elsewhere(Known(experiment), [0]), LatentGenerator)
    assert {r["metric"].removesuffix("_seed_std") for r in elsewhere} == {"quality_cosine"}
    assert {r["method"] for r in best} == {"real"} and {r["seed"] for r in best} == {None}
    for metric in QUALITIES:
        for class_id in (None, *experiment.seen):
            wanted = value(best, metric, class_id)
            assert value(rows, metric, class_id) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
            # Units of a space do not count; of an own space the cosine alone is kept.
            if metric != "quality_cosine":
                continue
            assert value(elsewhere, metric, class_id) == pytest.approx(wanted, rel=1e-3, abs=1e-4)
        (low_high,) = [(r["low"], r["high"]) for r in best if r["metric"] == metric and r["class_id"] is None]
        whole = [r for r in rows if r["metric"] == metric and r["class_id"] is None and r["seed"] is None]
        assert (whole[0]["low"], whole[0]["high"]) == pytest.approx(low_high, rel=1e-6, abs=1e-9)


def test_clips_that_a_generator_does_not_draw_are_not_compared(tmp_path: Path) -> None:
    experiment = toy()
    rows = measured(tmp_path / "own.parquet", experiment, Forgetful, Known(experiment))
    assert {r["n"] for r in rows if r["class_id"] is not None} == {6}
    assert all(np.isfinite(r["value"]) for r in rows)
    # As if there were no others.
    left = np.concatenate([clips_of(experiment, c)[:6] for c in experiment.seen])
    fewer = only(experiment, np.isin(np.arange(len(experiment.roles)), left))
    wanted = measured(tmp_path / "fewer.parquet", fewer, Forgetful, Known(experiment))
    for metric in ("quality_cosine",):
        assert value(rows, metric) == pytest.approx(value(wanted, metric))


def test_rows_are_what_they_say(tmp_path: Path) -> None:
    experiment = toy()
    rows = measured(tmp_path / "made.parquet", experiment, Ignorant, Known(experiment))
    assert {r["study"] for r in rows} == {"zero_shot"}
    assert all({name: r[name] for name in LABELS} == LABELS for r in rows)
    assert {r["metric"] for r in rows} == {*QUALITIES, *(f"{name}_seed_std" for name in QUALITIES)}
    for metric in QUALITIES:
        mine = [r for r in rows if r["metric"] == metric]
        of_class = [r for r in mine if r["class_id"] is not None]
        assert [r["class_id"] for r in of_class] == list(experiment.seen)
        assert {r["n"] for r in of_class} == {8} and {r["seed"] for r in of_class} == {None}
        seeds = [r for r in mine if r["seed"] is not None]
        assert [r["seed"] for r in seeds] == [3, 4]
        (overall,) = [r for r in mine if r["class_id"] is None and r["seed"] is None]
        assert overall["n"] == SEEN and overall["low"] <= overall["value"] <= overall["high"]
        assert overall["value"] == pytest.approx(np.mean([r["value"] for r in of_class]))
        assert overall["value"] == pytest.approx(np.mean([r["value"] for r in seeds]))
        # Classes are what the interval is over.
        values = np.array([r["value"] for r in of_class])
        resamples = resample_recordings(np.array(experiment.seen), SHARED["draws"], STUDY_SEED, "quality")
        drawn = [np.repeat(values, w.astype(int)).mean() for w in resamples.weights]
        assert (overall["low"], overall["high"]) == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_a_value_is_the_measure_of_scaled_halves(tmp_path: Path) -> None:
    experiment = toy()
    rows = measured(tmp_path / "made.parquet", experiment, Ignorant, Known(experiment), seeds=[3])
    train = experiment.embeddings[experiment.rows(*TRAINING_ROLES)].astype(np.float64)

    def scaled(x: np.ndarray) -> np.ndarray:
        return (x - train.mean(axis=0)) / train.std(axis=0)

    group = next(g for g in group_classes(experiment.seen, 3, STUDY_SEED) if experiment.seen[0] in g)
    kept = [c for c in experiment.seen if c not in group]
    # What the generator was to learn from, in the order of clips.
    shown = experiment.embeddings[
        [r for r in experiment.rows(*TRAINING_ROLES) if experiment.class_ids[r] in kept]
    ]
    chosen = torch.randint(len(shown), (len(group), 8), generator=torch.Generator().manual_seed(3))
    centre = np.mean(
        [scaled(experiment.embeddings[clips_of(experiment, c)]).mean(axis=0) for c in kept], axis=0
    )
    for position, class_id in enumerate(group):
        own = clips_of(experiment, class_id)
        halves = halve_clips(experiment.recordings[own], STUDY_SEED, class_id)
        made = scaled(shown[chosen[position].numpy()])
        mmds, cosines = [], []
        for half, sample in zip(halves, (made[:4], made[4:]), strict=True):
            real = scaled(experiment.embeddings[own[half]])
            mmds.append(squared_mmd(real, sample, GaussianKernel.of(real)).item())
            u, v = real.mean(axis=0) - centre, sample.mean(axis=0) - centre
            cosines.append(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
        assert value(rows, "quality_mmd", class_id) == pytest.approx(np.mean(mmds), abs=1e-6)
        assert value(rows, "quality_cosine", class_id) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_measures_rank_what_is_known_to_be_better(tmp_path: Path) -> None:
    experiment = toy(seen=24, clips=20)
    real = measured_real(tmp_path / "real.parquet", experiment)
    learnt = measured(
        tmp_path / "learnt.parquet",
        experiment,
        GaussianProcess,
        GaussianProcessOptions(groupings=1),
        seeds=[0],
    )
    blind = measured(tmp_path / "blind.parquet", experiment, Ignorant, Known(experiment), seeds=[0])
    for metric in ("quality_cosine", "quality_coverage"):
        assert value(real, metric) > value(learnt, metric) > value(blind, metric)
    for metric in ("quality_mmd", "quality_frechet"):
        assert value(real, metric) < value(learnt, metric) < value(blind, metric)
    assert value(real, "quality_cosine") > 0.9 and abs(value(blind, "quality_cosine")) < 0.2
    assert abs(value(real, "quality_mmd")) < 0.05
    assert value(real, "quality_density") == pytest.approx(1, abs=0.25)


def test_the_generator_sees_nothing_that_is_held_out(tmp_path: Path) -> None:
    experiment = toy()
    shown: list[SeenData] = []
    asked: list[Tensor] = []

    class Watched(GaussianProcess):
        def fit(self, data: SeenData, *, checkpoint: Any = None) -> None:
            shown.append(data)
            super().fit(data, checkpoint=checkpoint)

        def sample(self, vectors: Tensor, count: int) -> Tensor:
            asked.append(vectors)
            return super().sample(vectors, count)

    measured(tmp_path / "made.parquet", experiment, Watched, GaussianProcessOptions())
    row_of = {int(c): row for row, c in enumerate(experiment.known)}
    groups = group_classes(experiment.seen, 3, STUDY_SEED)
    assert len(shown) == len(asked) == len(groups) == 3
    for group, data, vectors in zip(groups, shown, asked, strict=True):
        assert np.array_equal(vectors, experiment.vectors[[row_of[c] for c in group]])
        wanted = {
            (
                experiment.embeddings[r].tobytes(),
                experiment.vectors[row_of[int(experiment.class_ids[r])]].tobytes(),
            )
            for r in experiment.rows(*TRAINING_ROLES)
            if experiment.class_ids[r] not in group
        }
        pairs = {
            (x.numpy().tobytes(), data.vectors[c].numpy().tobytes())
            for x, c in zip(data.embeddings, data.classes, strict=True)
        }
        assert pairs == wanted and len(data.vectors) == SEEN - len(group)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ZeroDiffusion, ZeroDiffusionOptions(epochs=3)),
        (CADAVAE, CADAVAEOptions(latent=4, audio_hidden=(8, 8), class_hidden=(8, 8), epochs=3, seen_draws=5)),
    ],
)
def test_seeds_alone_are_seeds_together(kind: type, options: Any, tmp_path: Path) -> None:
    experiment = toy(seen=4)
    together = measured(tmp_path / "a.parquet", experiment, kind, options, checkpoints=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.pt"))
    alone = measured(tmp_path / "b.parquet", experiment, kind, options, seeds=[4])
    assert value(together, "quality_cosine", seed=3) != value(together, "quality_cosine", seed=4)
    for metric in QUALITIES[:1] if kind is CADAVAE else QUALITIES:
        assert value(together, metric, seed=4) == pytest.approx(
            value(alone, metric, seed=4), rel=1e-3, abs=1e-4
        )
    assert not any(r["metric"].endswith("_seed_std") for r in alone)


def test_count_is_what_is_drawn_for_each_half(tmp_path: Path) -> None:
    experiment = toy()
    asked: list[int] = []

    class Counted(Ignorant):
        def sample(self, vectors: Tensor, count: int) -> Tensor:
            asked.append(count)
            return super().sample(vectors, count)

    few = measured(tmp_path / "few.parquet", experiment, Counted, Known(experiment))
    many = measured(tmp_path / "many.parquet", experiment, Counted, Known(experiment), count=40)
    assert asked == [8, 8, 8, 80, 80, 80]
    # The bias of a small sample falls.
    assert value(many, "quality_frechet") < value(few, "quality_frechet")
    with pytest.raises(ValueError, match="count must be at least 2, not 1"):
        measured(tmp_path / "one.parquet", experiment, Counted, Known(experiment), count=1)


def test_samples_that_hang_together_are_not_what_is_compared(tmp_path: Path) -> None:
    """A generator may draw its samples in pairs of opposite sign, as the Gaussian process does; the measures take
    independent ones, or its distances are too large."""
    experiment = toy()

    class Normal(Ignorant):
        def sample_pairs(self, vectors: Tensor, count: int) -> Tensor:
            half = torch.randn(
                len(self.seeds), len(vectors), count, self.known.embeddings.shape[1],
                generator=torch.Generator().manual_seed(1),
            )  # fmt: skip
            return torch.stack([half, -half], dim=3).flatten(2, 3)

        def sample(self, vectors: Tensor, count: int) -> Tensor:
            return self.sample_pairs(vectors, count)[:, :, ::2]

    class Coupled(Normal):
        def sample(self, vectors: Tensor, count: int) -> Tensor:
            return self.sample_pairs(vectors, count)[:, :, :count]

        def sample_independent(self, vectors: Tensor, count: int) -> Tensor:
            return super().sample(vectors, count)

    independent, coupled = (
        measured(tmp_path / f"{kind.__name__}.parquet", experiment, kind, Known(experiment))
        for kind in (Normal, Coupled)
    )
    assert coupled == independent

    asked: list[int] = []

    class Watched(GaussianProcess):
        def sample_independent(self, vectors: Tensor, count: int) -> Tensor:
            asked.append(count)
            return super().sample_independent(vectors, count)

    measured(tmp_path / "process.parquet", experiment, Watched, GaussianProcessOptions())
    assert asked == [8, 8, 8]


def test_small_classes_have_empty_values(tmp_path: Path) -> None:
    whole = toy()
    one, three, five, none = whole.seen[0], whole.seen[1], whole.seen[2], whole.seen[3]
    left = {one: 1, three: 3, five: 5, none: 0}
    keep = np.ones(len(whole.clip_ids), dtype=bool)
    for class_id, count in left.items():
        keep[clips_of(whole, class_id)[count:]] = False
    experiment = only(whole, keep)
    for rows in (
        measured_real(tmp_path / "real.parquet", experiment),
        measured(tmp_path / "made.parquet", experiment, Ignorant, Known(experiment)),
    ):
        assert {r["class_id"] for r in rows} == {None, *whole.seen} - {none}
        for metric in QUALITIES:
            assert value(rows, metric, one) is None
            assert (value(rows, metric, three) is None) == (metric != "quality_cosine")
            assert np.isfinite(value(rows, metric, five))
            of_class = [r for r in rows if r["metric"] == metric and r["class_id"] is not None]
            assert {r["class_id"]: r["n"] for r in of_class}.items() >= {(one, 1), (three, 3), (five, 5)}
            there = [r["value"] for r in of_class if r["value"] is not None]
            assert value(rows, metric) == pytest.approx(np.mean(there))
            (n,) = {r["n"] for r in rows if r["metric"] == metric and r["class_id"] is None}
            assert n == len(there) == (7 if metric == "quality_cosine" else 6)


def test_clips_that_are_all_alike(tmp_path: Path) -> None:
    experiment = toy()
    alike = experiment.embeddings.copy()
    alike[clips_of(experiment, experiment.seen[0])] = alike[0]
    experiment = replace(experiment, embeddings=alike)
    rows = measured_real(tmp_path / "real.parquet", experiment)
    wanted = {"cosine": 1, "mmd": 0, "frechet": 0, "precision": 1, "recall": 1, "coverage": 1}
    for name, best in wanted.items():
        assert value(rows, f"quality_{name}", experiment.seen[0]) == pytest.approx(best, abs=1e-6)


def test_one_clip_a_class_is_no_quality_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = toy()
    keep = np.zeros(len(whole.clip_ids), dtype=bool)
    keep[[clips_of(whole, c)[0] for c in whole.seen]] = True
    rows = measured(tmp_path / "made.parquet", only(whole, keep), Ignorant, Known(whole))
    assert {r["value"] for r in rows} == {None} and all(r["class_id"] is not None for r in rows)
    assert "every class has too few training clips for quality_cosine" in caplog.text


@pytest.mark.parametrize("seen", [2, 3])
def test_too_few_seen_classes_give_an_empty_table(
    seen: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = toy(seen=seen)
    with caplog.at_level(logging.WARNING):
        assert measured(tmp_path / "made.parquet", experiment, Memory, Known(experiment)) == []
        assert measured_real(tmp_path / "real.parquet", experiment) == []
    wanted = f"toy, split fold0: quality of synthetic embeddings is not measured: .* needs 4 of them, there are {seen}"
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.levelname == "WARNING"
    assert re.search(wanted, caplog.text)


def test_what_is_not_finite_is_an_error(tmp_path: Path) -> None:
    experiment = toy()
    with pytest.raises(FloatingPointError, match="lower its learning rate"):
        measured(tmp_path / "made.parquet", experiment, Broken, Known(experiment))
    assert not (tmp_path / "made.parquet").exists()


# The mean over splits


def split_table(path: Path, split: str, drop: int | None = None, **changed: Any) -> Rows:
    """One split's table: real measurements of a toy without the class numbered ``drop``."""
    experiment = toy()
    if drop is not None:
        gone = experiment.seen[drop]
        seen = tuple(c for c in experiment.seen if c != gone)
        vectors = np.delete(experiment.vectors, drop, axis=0)
        experiment = replace(only(experiment, experiment.class_ids != gone), seen=seen, vectors=vectors)
    labels = LABELS | {"split": split} | changed
    return measured(path, experiment, Ignorant, Known(experiment), labels=labels)


def test_mean_over_splits(tmp_path: Path) -> None:
    paths = [tmp_path / f"{split}.parquet" for split in ("a", "b", "other")]
    parts = {"a": split_table(paths[0], "a", drop=0), "b": split_table(paths[1], "b", drop=4)}
    split_table(paths[2], "a", method="half")  # has no table of split b
    average_quality(tmp_path / "mean.parquet", scores=paths, splits=["a", "b"], draws=300, seed=2)
    rows = tables.read(tmp_path / "mean.parquet", SCORES).to_pylist()
    assert {r["split"] for r in rows} == {"mean"}
    half = [r for r in rows if r["method"] == "half"]
    assert half and all(r["class_id"] is not None for r in half)
    rows = [r for r in rows if r["method"] == "made"]
    classes = toy().seen
    for metric in QUALITIES:
        for class_id in classes:
            seeing = [p for p in parts.values() if any(r["class_id"] == class_id for r in p)]
            assert len(seeing) == (1 if class_id in (classes[0], classes[4]) else 2)
            wanted = np.mean([value(p, metric, class_id) for p in seeing])
            assert value(rows, metric, class_id) == pytest.approx(wanted)
            (n,) = {r["n"] for r in rows if (r["metric"], r["class_id"]) == (metric, class_id)}
            assert n == 8 * len(seeing)
        seeds = [np.mean([value(p, metric, seed=s) for p in parts.values()]) for s in (3, 4)]
        assert [value(rows, metric, seed=s) for s in (3, 4)] == pytest.approx(seeds)
        assert value(rows, f"{metric}_seed_std") == pytest.approx(np.std(seeds, ddof=1))
        (overall,) = [r for r in rows if (r["metric"], r["class_id"], r["seed"]) == (metric, None, None)]
        assert overall["value"] == pytest.approx(np.mean(seeds)) and overall["n"] == 2 * (SEEN - 1)
        # Classes are drawn for all splits together.
        weights = resample_recordings(np.array(classes), 300, 2, "quality").weights
        drawn = []
        for weight in weights:
            often = dict(zip(classes, weight, strict=True))
            means = []
            for part in parts.values():
                own = [r for r in part if r["metric"] == metric and r["class_id"] is not None]
                w = [often[r["class_id"]] for r in own]
                means.append(np.average([r["value"] for r in own], weights=w))
            drawn.append(np.mean(means))
        assert (overall["low"], overall["high"]) == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_mean_of_what_has_no_seeds(tmp_path: Path) -> None:
    paths, values = [], defaultdict(list)
    for number, split in enumerate(("a", "b")):
        experiment = replace(
            toy(), embeddings=toy().embeddings + number * 0.1 * np.arange(10, dtype=np.float32) ** 2
        )
        paths.append(tmp_path / f"{split}.parquet")
        measure_real_quality(
            paths[-1], experiment=experiment,
            labels={"dataset": "toy", "split": split, "variant": "scratch"}, **SHARED | {"seed": number},
        )  # fmt: skip
        for metric in QUALITIES:
            values[metric].append(value(tables.read(paths[-1]).to_pylist(), metric))
    average_quality(tmp_path / "mean.parquet", scores=paths, splits=["a", "b"], draws=100, seed=2)
    rows = tables.read(tmp_path / "mean.parquet", SCORES).to_pylist()
    assert {(r["method"], r["variant"], r["seed"]) for r in rows} == {("real", "scratch", None)}
    for metric in QUALITIES:
        assert value(rows, metric) == pytest.approx(np.mean(values[metric]))


def test_means_that_there_are_not(tmp_path: Path) -> None:
    split_table(tmp_path / "a.parquet", "a")
    tables.write(tmp_path / "b.parquet", SCORES, [])  # too few seen classes
    out, both = tmp_path / "mean.parquet", [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    average_quality(out, scores=both, splits=["a", "b"], draws=50, seed=0)
    assert all(r["class_id"] is not None for r in tables.read(out, SCORES).to_pylist())
    for scores, splits in (([both[1]], ["a", "b"]), ([], ["a", "b"]), ([both[0]], ["a"])):
        average_quality(out, scores=scores, splits=splits, draws=50, seed=0)
        assert tables.read(out, SCORES).num_rows == 0
    with pytest.raises(
        ValueError, match=r"tables of the splits \['a'\], of which the dataset has \['b', 'c'\]"
    ):
        average_quality(out, scores=both, splits=["b", "c"], draws=50, seed=0)
