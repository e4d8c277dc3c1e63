"""Learning curves over synthetic embeddings per class, and reading some of a generator's seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from foley import tables
from foley.classifiers.ale import ALE, ALEOptions
from foley.classifiers.prototype import Prototype, PrototypeOptions
from foley.studies.zero_shot.classify import classify
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.generate import Projected, read_projected, read_synthetic
from foley.studies.zero_shot.learning_curve import trace_learning_curve
from foley.studies.zero_shot.learning_curve_scores import score_learning_curves
from foley.studies.zero_shot.predictions import read_predictions
from foley.studies.zero_shot.score import score_method
from foley.tables.learning_curve import LEARNING_CURVE
from foley.tables.scores import SCORES
from foley.tables.zero_shot import PARTITION, PROJECTED_EMBEDDINGS, SYNTHETIC_EMBEDDINGS

SEEN, UNSEEN, DIM, COUNT = 4, 3, 8, 20
SEEDS = [0, 1, 2]
LABELS = {"dataset": "toy", "split": "fold0", "method": "made", "variant": "e/v"}
FAST = ALEOptions(learning_rate=1e-2, epochs=3)
DRAWS = 100


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for one another on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy() -> Experiment:
    """Classes around means of their own; two clips a recording; a held-out clip of each seen class."""
    generator = np.random.default_rng(0)
    per_class = 10
    classes = np.repeat(np.arange(SEEN + UNSEEN), per_class)
    means = generator.normal(size=(SEEN + UNSEEN, DIM))
    embeddings = means[classes] + 0.8 * generator.normal(size=(len(classes), DIM))
    ids = np.array([f"clip-{number:03d}" for number in range(len(classes))], dtype=object)
    recordings = np.array([f"recording-{number // 2:03d}" for number in range(len(classes))], dtype=object)
    held_out = np.arange(len(classes)) % per_class == 0
    roles = np.where(classes >= SEEN, "unseen", np.where(held_out, "seen_test", "seen_train"))
    return Experiment(
        ids, embeddings.astype(np.float32), classes, recordings, roles, tuple(range(SEEN)),
        tuple(range(SEEN, SEEN + UNSEEN)), means[:, :5].astype(np.float32),
    )  # fmt: skip


def synthetic_of(experiment: Experiment, noise: float = 2.5) -> np.ndarray:
    """Noisy draws around the unseen classes' means: a mean over many is better than one."""
    generator = np.random.default_rng(1)
    means = np.stack(
        [experiment.embeddings[experiment.class_ids == c].mean(axis=0) for c in experiment.unseen]
    )
    made = means[None, :, None] + noise * generator.normal(size=(len(SEEDS), UNSEEN, COUNT, DIM))
    return made.astype(np.float32)


def trace(path: Path, **changed: Any) -> pa.Table:
    experiment = toy()
    arguments: dict[str, Any] = {
        "experiment": experiment, "synthetic": synthetic_of(experiment), "projected": None,
        "classifier": Prototype, "options": PrototypeOptions(), "counts": [1, 5, COUNT], "seeds": SEEDS,
        "labels": LABELS,
    }  # fmt: skip
    trace_learning_curve(path, **(arguments | changed))
    return tables.read(path, LEARNING_CURVE)


def test_every_point_has_every_unseen_clip_and_seed(tmp_path: Path) -> None:
    table = trace(tmp_path / "curve.parquet", counts=[COUNT, 1, 5])
    unseen = toy().clip_ids[toy().rows("unseen")].tolist()
    assert table.num_rows == 3 * len(SEEDS) * len(unseen)
    assert table["samples_per_class"].to_pylist() == [
        count for count in (1, 5, COUNT) for _ in range(len(SEEDS) * len(unseen))
    ]
    for count in (1, 5, COUNT):
        for seed in SEEDS:
            field = pa.compute.field
            point = table.filter((field("samples_per_class") == count) & (field("seed") == seed))
            assert point["clip_id"].to_pylist() == unseen
            assert set(point["predicted_class_id"].to_pylist()) <= set(toy().unseen)


@pytest.mark.parametrize("count", [4, COUNT])
def test_a_point_is_the_method_with_so_many_samples(tmp_path: Path, count: int) -> None:
    """What `classify` says, given a generator that made only so many."""
    experiment = toy()
    synthetic = synthetic_of(experiment)
    table = trace(
        tmp_path / "curve.parquet", classifier=ALE, options=FAST, counts=[count], checkpoints=tmp_path
    )
    classify(
        tmp_path / "predictions.parquet", experiment=experiment, synthetic=synthetic[:, :, :count],
        classifier=ALE, options=FAST, seeds=SEEDS, labels=LABELS,
    )  # fmt: skip
    said = read_predictions(tmp_path / "predictions.parquet", "conventional").said
    assert table["predicted_class_id"].to_pylist() == said.flatten().tolist()
    assert len({tuple(row) for row in said}) > 1
    assert not list(tmp_path.glob("checkpoints/*.pt"))


def test_a_curve_in_a_space_of_the_generators_own(tmp_path: Path) -> None:
    experiment = toy()
    synthetic = synthetic_of(experiment)
    train = experiment.rows("seen_train")
    # Each seed's space is the plain one, mirrored: distances and so the answers stay.
    signs = np.random.default_rng(2).choice([-1.0, 1.0], size=(len(SEEDS), 1, DIM)).astype(np.float32)
    clips = experiment.embeddings[None] * signs
    plain = trace(tmp_path / "plain.parquet")
    mirrored = trace(
        tmp_path / "mirrored.parquet", synthetic=synthetic * signs[:, None],
        projected=Projected(clips, train, clips[:, train]),
    )  # fmt: skip
    assert mirrored.equals(plain)


@pytest.mark.parametrize("counts", [[1, COUNT + 1], [0, 5], []])
def test_a_point_without_enough_samples_is_an_error(tmp_path: Path, counts: list[int]) -> None:
    wrong = [count for count in counts if not 1 <= count <= COUNT]
    with pytest.raises(ValueError) as error:
        trace(tmp_path / "curve.parquet", counts=counts)
    assert f"the learning curve of made asks for {wrong} synthetic embeddings per class" in str(error.value)
    assert f"there are {COUNT}: lower" in str(error.value)
    assert not list(tmp_path.iterdir())


# Scores


def write_partition(path: Path, experiment: Experiment) -> Path:
    tables.write(
        path,
        PARTITION,
        [
            {"clip_id": i, "class_id": int(c), "recording_id": r, "role": str(role)}
            for i, c, r, role in zip(
                experiment.clip_ids,
                experiment.class_ids,
                experiment.recordings,
                experiment.roles,
                strict=True,
            )
        ],
    )
    return path


def score(folder: Path, curves: Sequence[Path], splits: Sequence[str]) -> list[dict[str, Any]]:
    partition = write_partition(folder / "partition.parquet", toy())
    output = folder / "scores.parquet"
    score_learning_curves(
        output, curves=curves, partitions=dict.fromkeys(splits, partition), draws=DRAWS, seed=0
    )
    return tables.read(output, SCORES).to_pylist()


def test_scores_are_those_of_the_method(tmp_path: Path) -> None:
    """At the number of samples that the method itself uses: value, interval, seeds and spread are the same."""
    experiment = toy()
    trace(tmp_path / "curve.parquet")
    rows = score(tmp_path, [tmp_path / "curve.parquet"], ["fold0"])
    assert {row["metric"] for row in rows} == {
        f"accuracy_at_{count}_samples{what}" for count in (1, 5, COUNT) for what in ("", "_seed_std")
    }
    assert {row["split"] for row in rows} == {"fold0"}
    classify(
        tmp_path / "predictions.parquet", experiment=experiment, synthetic=synthetic_of(experiment),
        classifier=Prototype, options=PrototypeOptions(), seeds=SEEDS, labels=LABELS,
    )  # fmt: skip
    score_method(
        tmp_path / "method.parquet", predictions=tmp_path / "predictions.parquet",
        partition=tmp_path / "partition.parquet", draws=DRAWS, seed=0,
    )  # fmt: skip
    of_method = tables.read(tmp_path / "method.parquet", SCORES).to_pylist()
    found, expected = (
        {
            (row["metric"].replace(f"accuracy_at_{COUNT}_samples", "accuracy"), row["seed"]): (
                row["value"], row["low"], row["high"], row["n"],
            )
            for row in some
            if row["metric"] in names
        }
        for some, names in (
            (rows, (f"accuracy_at_{COUNT}_samples", f"accuracy_at_{COUNT}_samples_seed_std")),
            (of_method, ("accuracy", "accuracy_seed_std")),
        )
    )  # fmt: skip
    assert found == expected and len(found) == 2 + len(SEEDS)


def test_more_samples_of_a_noisy_generator_help(tmp_path: Path) -> None:
    trace(tmp_path / "curve.parquet")
    rows = score(tmp_path, [tmp_path / "curve.parquet"], ["fold0"])
    mean = {row["metric"]: row["value"] for row in rows if row["seed"] is None}
    assert mean[f"accuracy_at_{COUNT}_samples"] > mean["accuracy_at_1_samples"] + 0.1


def test_mean_over_splits(tmp_path: Path) -> None:
    curves = []
    for split, counts, method in (
        ("fold0", [1, 5], "made"), ("fold1", [5, COUNT], "made"), ("fold0", [5], "lone"),
    ):  # fmt: skip
        curves.append(tmp_path / f"{split}-{method}.parquet")
        synthetic = synthetic_of(toy(), 2.5 if split == "fold0" else 1.0)
        labels = LABELS | {"split": split, "method": method}
        trace(curves[-1], counts=counts, labels=labels, synthetic=synthetic)
    rows = score(tmp_path, curves, ["fold0", "fold1"])
    # Points and methods that every split has.
    assert {(row["method"], row["metric"]) for row in rows if row["split"] == "mean"} == {
        ("made", "accuracy_at_5_samples"),
        ("made", "accuracy_at_5_samples_seed_std"),
    }
    for seed in (None, *SEEDS):
        of = {
            row["split"]: row
            for row in rows
            if (row["method"], row["metric"], row["seed"]) == ("made", "accuracy_at_5_samples", seed)
        }
        assert of["mean"]["value"] == pytest.approx((of["fold0"]["value"] + of["fold1"]["value"]) / 2)
        assert of["mean"]["n"] == of["fold0"]["n"] + of["fold1"]["n"]
        assert of["fold0"]["value"] != of["fold1"]["value"]
        if seed is None:
            assert of["mean"]["low"] <= of["mean"]["value"] <= of["mean"]["high"]


def test_splits_with_other_seeds_have_no_mean(tmp_path: Path) -> None:
    trace(tmp_path / "a.parquet")
    trace(
        tmp_path / "b.parquet",
        labels=LABELS | {"split": "fold1"},
        seeds=[0, 1],
        synthetic=synthetic_of(toy())[:2],
    )
    with pytest.raises(ValueError, match=r"the learning curves of made on e/v have other seeds in one split"):
        score(tmp_path, [tmp_path / "a.parquet", tmp_path / "b.parquet"], ["fold0", "fold1"])


# Some seeds of a table


def write_synthetic(path: Path, made: np.ndarray, classes: Sequence[int]) -> None:
    seeds, count = len(made), made.shape[2]
    tables.write(
        path,
        SYNTHETIC_EMBEDDINGS.with_vectors(vector=made.shape[3]),
        pa.table(
            {
                "seed": pa.array(np.repeat(range(seeds), len(classes) * count), pa.int32()),
                "class_id": pa.array(np.tile(np.repeat(classes, count), seeds), pa.int32()),
                "index": pa.array(np.tile(np.arange(count), seeds * len(classes)), pa.int32()),
                "vector": tables.from_matrix(made.reshape(-1, made.shape[3])),
            }
        ),
    )


def test_some_seeds_of_synthetic_embeddings(tmp_path: Path) -> None:
    experiment, path = toy(), tmp_path / "synthetic.parquet"
    made = synthetic_of(experiment)
    write_synthetic(path, made, experiment.unseen)
    for seeds in ([0, 1, 2], [0, 1], [1], [2, 0], [1, 2, 0]):
        np.testing.assert_array_equal(read_synthetic(path, experiment.unseen, seeds), made[seeds])
    with pytest.raises(ValueError, match=r"wanted seeds \[0, 1, 2, 3\] .* found seeds \[0, 1, 2\]"):
        read_synthetic(path, experiment.unseen, [0, 1, 2, 3])
    # As many rows as wanted, but of another class.
    with pytest.raises(ValueError, match=r"classes \[3, 4, 5\], found .* classes \[4, 5, 6\]"):
        read_synthetic(path, (3, 4, 5), SEEDS)


def test_some_seeds_of_projected_embeddings(tmp_path: Path) -> None:
    experiment, path = toy(), tmp_path / "projected.parquet"
    clips = len(experiment.clip_ids)
    vectors = np.random.default_rng(0).normal(size=(len(SEEDS), clips + 2, DIM)).astype(np.float32)
    # Two draws of the first clip.
    clip_ids = [experiment.clip_ids[0]] * 3 + experiment.clip_ids[1:].tolist()
    draws = [0, 1, 2] + [0] * (clips - 1)
    tables.write(
        path,
        PROJECTED_EMBEDDINGS.with_vectors(vector=DIM),
        pa.table(
            {
                "seed": pa.array(np.repeat(SEEDS, clips + 2), pa.int32()),
                "clip_id": clip_ids * len(SEEDS),
                "draw": pa.array(draws * len(SEEDS), pa.int32()),
                "vector": tables.from_matrix(vectors.reshape(-1, DIM)),
            }
        ),
    )
    for seeds in ([0, 1, 2], [1], [2, 0]):
        found = read_projected(path, experiment, seeds)
        assert found is not None
        np.testing.assert_array_equal(found.clips, np.delete(vectors[seeds], [1, 2], axis=1))
        np.testing.assert_array_equal(found.train, vectors[seeds][:, 1:3])
        assert found.train_rows.tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"for each seed: wanted seeds \[2, 3\], found \[2\]"):
        read_projected(path, experiment, [2, 3])
