"""The zero-shot study: who is trained on what, and a whole small study on embeddings of known geometry."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foley import tables
from foley.classifiers.ale import ALE, ALEOptions
from foley.classifiers.ridge import FALLBACK_PENALTY, Ridge, RidgeOptions
from foley.classifiers.softmax import SoftmaxClassifier, SoftmaxOptions
from foley.generators.embedding.cada_vae import CADAVAE, CADAVAEOptions
from foley.generators.embedding.protocol import SeenData
from foley.generators.embedding.zerodiffusion import ZeroDiffusion, ZeroDiffusionOptions
from foley.studies.partition import ClassSplit, partition_clips, random_splits, read_splits
from foley.studies.zero_shot.classify import ask_classifier, classify
from foley.studies.zero_shot.compare import compare_methods
from foley.studies.zero_shot.experiment import Experiment, load_experiment
from foley.studies.zero_shot.generate import generate_embeddings, read_projected, read_synthetic
from foley.studies.zero_shot.predictions import CONVENTIONAL, read_predictions
from foley.studies.zero_shot.score import score_method, score_references
from foley.tables.classes import CLASS_VECTORS
from foley.tables.clips import CLIPS
from foley.tables.features import EMBEDDINGS
from foley.tables.scores import PREDICTIONS, SCORES
from foley.tables.zero_shot import PARTITION, PROJECTED_EMBEDDINGS, SYNTHETIC_EMBEDDINGS

LABELS = ["bell", "cat", "dog", "fan", "rain", "wind"]


def write_clips(path: Path, clips: Sequence[tuple[str, str]]) -> None:
    """A clip table of (label, recording) pairs."""
    labels = sorted({label for label, _ in clips})
    tables.write(
        path,
        CLIPS,
        [
            {
                "dataset": "toy", "clip_id": f"clip-{number:04d}", "class_id": labels.index(label), "label": label,
                "recording_id": recording, "duration_s": 1.0, "sample_rate_hz": 16_000, "sha256": str(number),
            }
            for number, (label, recording) in enumerate(clips)
        ],
    )  # fmt: skip


def partition(
    folder: Path, clips: Sequence[tuple[str, str]], splits: str, **changed: Any
) -> list[dict[str, Any]]:
    """Rows of the partition of ``clips`` by a splits file, for the split ``test``."""
    write_clips(folder / "clips.parquet", clips)
    (folder / "splits.yaml").write_text(splits)
    options = {"validation_fraction": 0.1, "test_fraction": 0.2, "seed": 0, "split": "test"} | changed
    partition_clips(
        folder / "partition.parquet", clips=folder / "clips.parquet", splits_file=folder / "splits.yaml",
        random={}, **options,
    )  # fmt: skip
    return tables.read(folder / "partition.parquet", PARTITION).to_pylist()


UNSEEN_CAT = "splits: {test: {unseen: [cat]}}"

# The partition


def test_fractions_are_about_met_in_every_class(tmp_path: Path) -> None:
    clips = [(label, f"{label}-{number // 2}") for label in LABELS for number in range(60)]
    rows = partition(tmp_path, clips, UNSEEN_CAT)
    roles: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        roles[row["class_id"]].append(row["role"])
    assert set(roles.pop(LABELS.index("cat"))) == {"unseen"}
    for of_class in roles.values():
        assert of_class.count("seen_test") == 12
        assert of_class.count("seen_validation") == 6
        assert of_class.count("seen_train") == 42


def test_partition_is_a_matter_of_the_seed_alone(tmp_path: Path) -> None:
    clips = [(label, f"{label}-{number}") for label in LABELS for number in range(20)]
    first = partition(tmp_path, clips, UNSEEN_CAT)
    assert partition(tmp_path, clips, UNSEEN_CAT) == first
    assert partition(tmp_path, clips, UNSEEN_CAT, seed=1) != first
    # Clips that are added to one class move none of another.
    more = partition(tmp_path, [*clips, *(("wind", f"wind-new-{n}") for n in range(9))], UNSEEN_CAT)
    roles = {row["clip_id"]: row["role"] for row in more}
    assert all(roles[row["clip_id"]] == row["role"] for row in first if row["class_id"] < 5)


def test_excluded_classes_play_no_part(tmp_path: Path) -> None:
    clips = [(label, f"{label}-{number}") for label in LABELS for number in range(10)]
    rows = partition(tmp_path, clips, "splits: {test: {unseen: [cat], exclude: [dog, fan]}}")
    assert {row["class_id"] for row in rows if row["role"] == "excluded"} == {2, 3}
    assert {row["class_id"] for row in rows if row["role"].startswith("seen")} == {0, 4, 5}


def test_a_class_that_could_only_be_tested_is_excluded_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The fan's only recording is one of the bell's.
    clips = [(label, f"{label}-{number}") for label in LABELS for number in range(20)]
    before = partition(tmp_path, clips, UNSEEN_CAT)
    tested = next(
        row["recording_id"]
        for row in before
        if row["role"] == "seen_test" and row["recording_id"][:4] == "bell"
    )
    clips = [(label, tested if label == "fan" else recording) for label, recording in clips]
    with caplog.at_level(logging.WARNING):
        rows = partition(tmp_path, clips, UNSEEN_CAT)
    of_fan = [row["role"] for row in rows if row["class_id"] == LABELS.index("fan")]
    assert of_fan == ["excluded"] * 20
    others = [
        [row["role"] for row in part if row["class_id"] != LABELS.index("fan")] for part in (before, rows)
    ]
    assert others[0] == others[1]
    (message,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "['fan'] are excluded" in message and "recordings of their own" in message


def test_too_few_classes_are_left_that_can_be_learnt(tmp_path: Path) -> None:
    clips = [("cat", "c"), *(("bell", f"b{n}") for n in range(20))]
    tested = next(
        row["recording_id"]
        for row in partition(tmp_path, [*clips, ("fan", "f1"), ("fan", "f2")], UNSEEN_CAT)
        if row["role"] == "seen_test" and row["recording_id"][0] == "b"
    )
    with pytest.raises(ValueError, match=r"fewer than two seen classes.*\['fan'\]"):
        partition(tmp_path, [*clips, ("fan", tested)], UNSEEN_CAT)


@settings(max_examples=60)
@given(
    clips=st.lists(st.tuples(st.sampled_from(LABELS), st.integers(0, 9)), min_size=10, max_size=80),
    shared=st.booleans(),
    fractions=st.tuples(st.floats(0.01, 0.45), st.floats(0.01, 0.45)),
    seed=st.integers(0, 5),
)
def test_no_recording_is_on_two_sides(
    tmp_path_factory: pytest.TempPathFactory,
    clips: list[tuple[str, int]],
    shared: bool,
    fractions: tuple[float, float],
    seed: int,
) -> None:
    # Some seen classes always, so that there is something to partition.
    named = [("cat", "c"), ("bell", "b1"), ("bell", "b2"), ("fan", "f1"), ("fan", "f2")]
    named += [(label, f"{'' if shared else label}{recording}") for label, recording in clips]
    rows = partition(
        tmp_path_factory.mktemp("partition"), named, UNSEEN_CAT, seed=seed,
        validation_fraction=fractions[0], test_fraction=fractions[1],
    )  # fmt: skip
    assert len(rows) == len(named)
    of_recording: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_recording[row["recording_id"]].add(row["role"])
    for roles in of_recording.values():
        # Seen clips of a recording that also has unseen ones are excluded, and those of a class that is in no other
        # recording than tested ones.
        assert len(roles) == 1 or roles in ({"unseen", "excluded"}, {"seen_test", "excluded"})
    trains = {"seen_train"} if not shared else {"seen_train", "seen_validation"}
    for class_id in {row["class_id"] for row in rows if row["role"].startswith("seen")}:
        assert any(row["role"] in trains for row in rows if row["class_id"] == class_id)


@pytest.mark.parametrize(
    ("splits", "changed", "message"),
    [
        ("splits: {test: {unseen: [cow]}}", {}, r"split test: the unseen classes \['cow'\] have no clips"),
        ("splits: {other: {unseen: [cat]}}", {}, r"split test is not among \['other'\]"),
        ("splits: {test: {unseen: [bell, cat, dog, fan, rain]}}", {}, "fewer than two seen classes"),
        ("splits: {test: [cat]}", {}, r"splits\.yaml: expected `splits:"),
        ("something: else", {}, r"splits\.yaml: expected `splits:"),
        ("", {}, r"splits\.yaml: expected `splits:"),
    ],
)
def test_errors_of_a_partition(tmp_path: Path, splits: str, changed: dict[str, Any], message: str) -> None:
    clips = [(label, f"{label}-{number}") for label in LABELS for number in range(4)]
    with pytest.raises(ValueError, match=message):
        partition(tmp_path, clips, splits, **changed)


@given(st.integers(4, 30), st.integers(1, 8), st.floats(0.01, 0.99), st.integers(0, 100))
def test_random_splits(classes: int, count: int, fraction: float, seed: int) -> None:
    labels = [f"class {number}" for number in range(classes)]
    if classes < 2 * count:
        with pytest.raises(ValueError, match=f"random_splits.count to {classes // 2} or fewer"):
            random_splits(labels, count, fraction, seed)
        return
    splits = random_splits(labels, count, fraction, seed)
    assert list(splits) == [f"fold{k}" for k in range(count)]
    size = min(classes - 2, max(2, round(classes * fraction)), classes // count)
    for split in splits.values():
        assert len(split.unseen) == len(set(split.unseen)) == size
        assert set(split.unseen) <= set(labels)
        assert split.exclude == ()
    # A class is unseen once at the most: folds are independent.
    used = [label for split in splits.values() for label in split.unseen]
    assert len(set(used)) == len(used)
    assert random_splits(labels[::-1], count, fraction, seed) == splits


def test_too_few_classes() -> None:
    with pytest.raises(ValueError, match=r"needs four classes at least, .*; found 2: \['cat', 'dog'\]"):
        random_splits(["cat", "dog"], 1, 0.5, 0)


def test_splits_of_a_dataset_are_read(tmp_path: Path) -> None:
    path = tmp_path / "splits.yaml"
    path.write_text("splits:\n  fold0: {unseen: [a, 1]}\n  test: {unseen: [b], exclude: [a]}\n")
    assert read_splits(path) == {"fold0": ClassSplit(("a", "1")), "test": ClassSplit(("b",), ("a",))}


# The experiment


def write_vectors(path: Path, matrix: np.ndarray) -> None:
    tables.write(
        path,
        CLASS_VECTORS.with_vectors(vector=matrix.shape[1]),
        pa.table(
            {
                "class_id": pa.array(range(len(matrix)), pa.int32()),
                "label": [f"class {number}" for number in range(len(matrix))],
                "vector": tables.from_matrix(matrix),
            }
        ),
    )


def write_embeddings(path: Path, keys: Sequence[tuple[str, int]], matrix: np.ndarray) -> None:
    """Embeddings of (clip id, window) pairs."""
    tables.write(
        path,
        EMBEDDINGS.with_vectors(vector=matrix.shape[1]),
        pa.table(
            {
                "clip_id": [clip_id for clip_id, _ in keys],
                "window": pa.array([window for _, window in keys], pa.int32()),
                "vector": tables.from_matrix(matrix),
            }
        ),
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Four clips in two seen classes (1 and 2), an unseen one (0) and an excluded one (3)."""
    roles = [("a", 2, "seen_train"), ("b", 0, "unseen"), ("c", 1, "seen_test"), ("d", 3, "excluded")]
    tables.write(
        tmp_path / "partition.parquet",
        PARTITION,
        [{"clip_id": i, "class_id": c, "recording_id": i, "role": r} for i, c, r in roles],
    )
    write_embeddings(tmp_path / "1.parquet", [("b", 0), ("d", 0)], np.array([[5.0, 6], [7, 8]]))
    write_embeddings(
        tmp_path / "2.parquet", [("a", 0), ("a", 1), ("c", 0)], np.array([[1.0, 2], [3, 6], [9, 9]])
    )
    write_vectors(tmp_path / "vectors.parquet", np.arange(8.0).reshape(4, 2))
    return tmp_path


def load_small(folder: Path) -> Experiment:
    return load_experiment(
        [folder / "2.parquet", folder / "1.parquet"], folder / "partition.parquet", folder / "vectors.parquet"
    )


def test_experiment_joins_its_tables(small: Path) -> None:
    experiment = load_small(small)
    assert (experiment.seen, experiment.unseen) == ((1, 2), (0,))
    assert experiment.clip_ids.tolist() == ["a", "b", "c", "d"]
    # The mean over a clip's windows.
    np.testing.assert_array_equal(experiment.embeddings, [[2, 4], [5, 6], [9, 9], [7, 8]])
    np.testing.assert_array_equal(experiment.known, [1, 2, 0])
    np.testing.assert_array_equal(experiment.vectors, [[2, 3], [4, 5], [0, 1]])
    np.testing.assert_array_equal(experiment.rows("unseen", "seen_test"), [1, 2])
    np.testing.assert_array_equal(experiment.class_rows(np.array([0, 1, 2])), [1, 2, 0])


def test_experiment_errors_name_what_lacks(small: Path) -> None:
    write_embeddings(small / "1.parquet", [("b", 0)], np.array([[5.0, 6]]))
    with pytest.raises(ValueError, match=r"1 clips have no embedding in .*, for example d"):
        load_small(small)
    write_embeddings(small / "1.parquet", [("b", 0), ("d", 0)], np.array([[5.0, 6], [7, 8]]))
    write_vectors(small / "vectors.parquet", np.arange(4.0).reshape(2, 2))
    with pytest.raises(ValueError, match=r"classes \[2\] have no vector in .*vectors\.parquet"):
        load_small(small)


# A whole study

CLASSES, SEEDS, DRAWS = 10, [0, 1], 200
SPLITS = ["fold0", "fold1", "fold2"]
METHODS = {
    "ale": (None, ALEOptions(learning_rate=1e-2, epochs=40)),
    "made": (ZeroDiffusionOptions(hidden=32, epochs=30), ALEOptions(learning_rate=1e-2, epochs=30)),
}


@dataclass(frozen=True)
class Study:
    """The files of a study in a folder."""

    folder: Path

    def path(self, name: str, split: str, method: str = "") -> Path:
        return self.folder / split / f"{method}{name}.parquet"

    def scores(self, path: Path) -> list[dict[str, Any]]:
        return tables.read(path, SCORES).to_pylist()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Embeddings that are a linear image of their class's vector, with noise, through the whole study."""
    made = Study(tmp_path_factory.mktemp("study"))
    generator = np.random.default_rng(0)
    # Clips in pairs of one recording each.
    clips = [(f"class {c}", f"{c}-{number // 2}") for c in range(CLASSES) for number in range(16)]
    vectors = generator.normal(size=(CLASSES, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = np.repeat(np.arange(CLASSES), 16)
    embeddings = np.tanh(vectors[classes] @ generator.normal(size=(3, 12)))
    embeddings += 0.15 * generator.normal(size=embeddings.shape)
    folder = made.folder
    write_clips(folder / "clips.parquet", clips)
    write_vectors(folder / "vectors.parquet", vectors)
    clip_ids = tables.read(folder / "clips.parquet")["clip_id"].to_pylist()
    write_embeddings(folder / "embeddings.parquet", [(clip_id, 0) for clip_id in clip_ids], embeddings)
    for split in SPLITS:
        partition_clips(
            made.path("partition", split), clips=folder / "clips.parquet", split=split, splits_file=None,
            random={"count": 3, "unseen_fraction": 0.3, "seed": 0}, validation_fraction=0.1, test_fraction=0.2,
            seed=0,
        )  # fmt: skip
        score_references(
            made.path("references", split),
            partition=made.path("partition", split),
            dataset="toy",
            split=split,
        )
        experiment = load_experiment(
            [folder / "embeddings.parquet"], made.path("partition", split), folder / "vectors.parquet"
        )
        for method, (generator_options, options) in METHODS.items():
            synthetic = None
            if generator_options is not None:
                path = made.path("synthetic", split, method)
                generate_embeddings(
                    path, projected=made.path("projected", split, method), experiment=experiment,
                    generator=ZeroDiffusion, options=generator_options, seeds=SEEDS, count=20,
                )  # fmt: skip
                synthetic = read_synthetic(path, experiment.unseen, SEEDS)
            classify(
                made.path("predictions", split, method), experiment=experiment, synthetic=synthetic,
                classifier=ALE, options=options, seeds=SEEDS,
                labels={"dataset": "toy", "split": split, "method": method, "variant": "e/v"},
            )  # fmt: skip
            score_method(
                made.path("scores", split, method), predictions=made.path("predictions", split, method),
                partition=made.path("partition", split), draws=DRAWS, seed=0,
            )  # fmt: skip
    compare_methods(
        folder / "comparison.parquet",
        predictions=[made.path("predictions", split, method) for split in SPLITS for method in METHODS],
        partitions={split: made.path("partition", split) for split in SPLITS},
        references=[made.path("references", split) for split in SPLITS],
        baseline="ale", generated=["made", "twin"], draws=DRAWS, seed=0,
    )  # fmt: skip
    return made


def experiment_of(study: Study, split: str) -> Experiment:
    return load_experiment(
        [study.folder / "embeddings.parquet"],
        study.path("partition", split),
        study.folder / "vectors.parquet",
    )


def value(rows: list[dict[str, Any]], **wanted: Any) -> float:
    """The value of the one row with these columns."""
    (row,) = [row for row in rows if all(row[key] == item for key, item in wanted.items())]
    return row["value"]


OVERALL = {"seed": None, "class_id": None}


def test_synthetic_embeddings_are_those_of_unseen_classes(study: Study) -> None:
    table = tables.read(study.path("synthetic", "fold0", "made"), SYNTHETIC_EMBEDDINGS)
    rows = tables.read(study.path("partition", "fold0"), PARTITION).to_pylist()
    unseen = sorted({row["class_id"] for row in rows if row["role"] == "unseen"})
    assert table.num_rows == len(SEEDS) * len(unseen) * 20
    assert sorted(set(table["class_id"].to_pylist())) == unseen
    made = read_synthetic(study.path("synthetic", "fold0", "made"), unseen, SEEDS)
    assert made.shape == (2, 3, 20, 12)
    first = table.filter((pa.compute.field("seed") == 1) & (pa.compute.field("class_id") == unseen[2]))
    np.testing.assert_array_equal(tables.to_matrix(first["vector"]), made[1, 2])
    with pytest.raises(ValueError, match="equally many"):
        read_synthetic(study.path("synthetic", "fold0", "made"), unseen, list(range(7)))


def test_a_generator_without_a_space_of_its_own_projects_nothing(study: Study) -> None:
    path = study.path("projected", "fold0", "made")
    assert tables.read(path, PROJECTED_EMBEDDINGS).num_rows == 0
    assert read_projected(path, experiment_of(study, "fold0"), SEEDS) is None


LATENT = CADAVAEOptions(
    latent=5, audio_hidden=(32, 32), class_hidden=(16, 16), epochs=80, batch_size=16, learning_rate=3e-3, seen_draws=20,
    kl_weight=0.02, kl_epochs=(0, 80), cross_epochs=(5, 20), distance_epochs=(3, 10),
)  # fmt: skip


def test_a_generator_with_a_space_of_its_own(study: Study, tmp_path: Path) -> None:
    experiment = experiment_of(study, "fold0")
    synthetic, projected = tmp_path / "synthetic.parquet", tmp_path / "projected.parquet"
    generate_embeddings(
        synthetic, projected=projected, experiment=experiment, generator=CADAVAE, options=LATENT, seeds=SEEDS, count=30,
    )  # fmt: skip
    model = CADAVAE(LATENT, SEEDS)
    train = experiment.rows("seen_train", "seen_validation")
    vectors = torch.from_numpy(experiment.vectors)
    data = SeenData(
        torch.from_numpy(experiment.embeddings[train]),
        torch.from_numpy(experiment.class_rows(train)),
        vectors[: len(experiment.seen)],
    )
    model.fit(data)
    made = read_synthetic(synthetic, experiment.unseen, SEEDS)
    np.testing.assert_allclose(made, model.sample(vectors[len(experiment.seen) :], 30), rtol=1e-6)
    found = read_projected(projected, experiment, SEEDS)
    assert found is not None
    np.testing.assert_allclose(
        found.clips, model.project(torch.from_numpy(experiment.embeddings)), rtol=1e-5, atol=1e-6
    )
    rows, drawn = model.draw_seen(data)
    # The same draws of the same clips; the table orders them by clip.
    order = np.argsort(train[rows], kind="stable")
    np.testing.assert_array_equal(found.train_rows, train[rows][order])
    np.testing.assert_allclose(found.train, drawn[:, order], rtol=1e-6)
    renamed = replace(experiment, clip_ids=np.array(["other", *experiment.clip_ids[1:]], dtype=object))
    for other, seeds in ((experiment, [0, 1, 2]), (renamed, SEEDS)):
        with pytest.raises(ValueError, match="does not hold the experiment's clips for each seed"):
            read_projected(projected, other, seeds)
    predictions = {}
    for name, classifier, options in (
        ("softmax", SoftmaxClassifier, SoftmaxOptions(learning_rate=1e-2)),
        # A penalty for all seeds: each chooses its own by itself, which few classes make a matter of luck.
        ("ridge", Ridge, RidgeOptions(penalty=FALLBACK_PENALTY)),
        ("ale", ALE, ALEOptions(learning_rate=1e-2)),
    ):
        path = tmp_path / f"{name}.parquet"
        classify(
            path, experiment=experiment, synthetic=made, projected=found, classifier=classifier, options=options,
            seeds=SEEDS, labels={"dataset": "toy", "split": "fold0", "method": name, "variant": "e/v"},
        )  # fmt: skip
        predictions[name] = read_predictions(path, "conventional").correct.mean()
    assert min(predictions.values()) > 1 / 3 + 0.2, predictions


def test_a_method_without_randomness_has_the_same_scores_for_each_seed(study: Study, tmp_path: Path) -> None:
    experiment = experiment_of(study, "fold0")
    classify(
        tmp_path / "predictions.parquet", experiment=experiment, synthetic=None, classifier=Ridge,
        options=RidgeOptions(), seeds=SEEDS,
        labels={"dataset": "toy", "split": "fold0", "method": "ridge", "variant": "e/v"},
    )  # fmt: skip
    score_method(
        tmp_path / "scores.parquet", predictions=tmp_path / "predictions.parquet",
        partition=study.path("partition", "fold0"), draws=DRAWS, seed=0,
    )  # fmt: skip
    rows = study.scores(tmp_path / "scores.parquet")
    accuracies = [value(rows, metric="accuracy", class_id=None, seed=seed) for seed in (None, *SEEDS)]
    assert len(set(accuracies)) == 1 and accuracies[0] > 1 / 3 + 0.2
    assert value(rows, metric="accuracy_seed_std", **OVERALL) == 0


def test_classes_with_one_vector_are_named(
    study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = np.random.default_rng(0).normal(size=(CLASSES, 3))
    vectors[7] = vectors[4] = vectors[2]
    write_vectors(tmp_path / "vectors.parquet", vectors)
    with caplog.at_level(logging.WARNING):
        load_experiment(
            [study.folder / "embeddings.parquet"],
            study.path("partition", "fold0"),
            tmp_path / "vectors.parquet",
        )
    (message,) = [record.getMessage() for record in caplog.records]
    assert "have the same vector" in message
    assert {int(n) for n in re.findall(r"\d+", message.split("have")[0])} == {2, 4, 7}


def test_of_classes_with_one_score_the_first_is_said(study: Study) -> None:
    experiment = experiment_of(study, "fold0")
    many = replace(experiment, unseen=tuple(range(100, 140)), vectors=np.zeros((60, 3)))

    class Undecided:
        def score(self, embeddings: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
            scores = torch.zeros(2, len(embeddings), len(classes))
            scores[1, :, 3:] = 1.0
            scores[1, 0, 5] = 1.5
            return scores

    answers = ask_classifier(Undecided(), many, None, CONVENTIONAL)
    assert (answers.said[0] == 100).all() and (answers.margins[0] == 0).all()
    assert (answers.said[1] == [105] + [103] * (len(answers.rows) - 1)).all()
    assert answers.margins[1, 0] == 0.5 and (answers.margins[1, 1:] == 0).all()


def test_predictions_are_of_the_right_clips_and_classes(study: Study) -> None:
    roles = tables.read(study.path("partition", "fold1"), PARTITION).to_pylist()
    by_role: dict[str, set[str]] = defaultdict(set)
    classes: dict[str, set[int]] = defaultdict(set)
    for row in roles:
        by_role[row["role"]].add(row["clip_id"])
        classes[row["role"]].add(row["class_id"])
    rows = tables.read(study.path("predictions", "fold1", "made"), PREDICTIONS).to_pylist()
    for seed in SEEDS:
        plain = [row for row in rows if row["seed"] == seed and row["setting"] == "conventional"]
        assert {row["clip_id"] for row in plain} == by_role["unseen"]
        assert {row["predicted_class_id"] for row in plain} <= classes["unseen"]
        general = [row for row in rows if row["seed"] == seed and row["setting"] == "generalised"]
        assert {row["clip_id"] for row in general} == by_role["unseen"] | by_role["seen_test"]
        assert {row["role"] for row in general} == {"unseen", "seen_test"}
    assert all(row["margin"] >= 0 for row in rows)


def test_scores_of_a_method(study: Study) -> None:
    rows = study.scores(study.path("scores", "fold0", "made"))
    metrics = {"accuracy", "accuracy_macro", "accuracy_seen", "accuracy_unseen", "harmonic_mean"}
    assert {row["metric"] for row in rows} == (
        metrics | {f"{name}_seed_std" for name in metrics} | {"recall", "precision"}
    )
    for row in rows:
        assert row["value"] is None or 0 <= row["value"] <= 1
        if row["low"] is not None:
            assert 0 <= row["low"] <= row["high"] <= 1
    predictions = tables.read(study.path("predictions", "fold0", "made"), PREDICTIONS).to_pandas()
    plain = predictions[predictions.setting == "conventional"]
    right = plain.class_id == plain.predicted_class_id
    assert value(rows, metric="accuracy", **OVERALL) == pytest.approx(right.mean())
    for seed in SEEDS:
        own = right[plain.seed == seed].mean()
        assert value(rows, metric="accuracy", seed=seed) == pytest.approx(own)
    for class_id, recall in right.groupby(plain.class_id).mean().items():
        assert value(rows, metric="recall", class_id=class_id) == pytest.approx(recall)
    general = predictions[(predictions.setting == "generalised") & (predictions.role == "seen_test")]
    right = general.class_id == general.predicted_class_id
    macro = right.groupby(general.class_id).mean().mean()
    assert value(rows, metric="accuracy_seen", **OVERALL) == pytest.approx(macro)
    # Balanced classes: accuracy is the mean recall.
    plain_value, macro_value = (
        value(rows, metric=name, **OVERALL) for name in ("accuracy", "accuracy_macro")
    )
    assert plain_value == pytest.approx(macro_value)


def test_references(study: Study) -> None:
    rows = study.scores(study.path("references", "fold0"))
    assert value(rows, method="chance") == pytest.approx(1 / 3)
    assert value(rows, method="majority") == pytest.approx(1 / 3)
    assert {row["n"] for row in rows} == {48}


def test_comparison_is_consistent_with_the_scores(study: Study) -> None:
    compared = study.scores(study.folder / "comparison.parquet")
    scores = {
        (method, split): study.scores(study.path("scores", split, method))
        for method in METHODS
        for split in SPLITS
    }
    gains = []
    for split in SPLITS:
        here, base = (value(scores[m, split], metric="accuracy", **OVERALL) for m in ("made", "ale"))
        gain = value(compared, metric="gain_over_ale", split=split, **OVERALL)
        assert gain == pytest.approx(here - base)
        gains.append(gain)
        for row in scores["made", split]:
            if row["metric"] == "recall":
                before = value(scores["ale", split], metric="recall", class_id=row["class_id"])
                found = value(compared, metric="gain_over_ale", split=split, class_id=row["class_id"])
                assert found == pytest.approx(row["value"] - before)
    assert value(compared, metric="gain_over_ale", split="mean", **OVERALL) == pytest.approx(np.mean(gains))
    for method in METHODS:
        for metric in ("accuracy", "accuracy_macro", "accuracy_seen", "accuracy_unseen", "harmonic_mean"):
            for seed in (None, *SEEDS):
                wanted = {"metric": metric, "seed": seed, "class_id": None}
                of_splits = [value(scores[method, split], **wanted) for split in SPLITS]
                found = value(compared, split="mean", method=method, **wanted)
                assert found == pytest.approx(np.mean(of_splits))
    assert value(compared, method="chance", split="mean") == pytest.approx(1 / 3)
    assert not [row for row in compared if row["method"] == "ale" and row["metric"].startswith("gain")]
    for row in compared:
        if row["low"] is not None:
            assert row["low"] <= row["value"] <= row["high"]
    # A mean over three splits is surer than one split.
    widths = {
        row["split"]: row["high"] - row["low"]
        for row in compared
        if row["metric"] == "gain_over_ale" and row["class_id"] is None
    }
    assert widths["mean"] < max(widths[split] for split in SPLITS)


def test_classes_are_recognised_better_than_by_chance(study: Study) -> None:
    compared = study.scores(study.folder / "comparison.parquet")
    for method in METHODS:
        (row,) = [
            row
            for row in compared
            if row["method"] == method and row["metric"] == "accuracy" and row["split"] == "mean"
            and row["seed"] is None
        ]  # fmt: skip
        assert row["low"] > 1 / 3 + 0.1, row


def test_a_gain_over_oneself_is_nothing(study: Study) -> None:
    # The same answers under another name: no gain, and no doubt about it.
    table = tables.read(study.path("predictions", "fold0", "ale"), PREDICTIONS)
    twin = study.folder / "twin.parquet"
    column = pa.array(["twin"] * table.num_rows)
    tables.write(twin, PREDICTIONS, table.set_column(2, "method", column))
    output = study.folder / "twins.parquet"
    compare_methods(
        output, predictions=[study.path("predictions", "fold0", "ale"), twin],
        partitions={"fold0": study.path("partition", "fold0")}, references=[study.path("references", "fold0")],
        baseline="ale", generated=["made", "twin"], draws=DRAWS, seed=0,
    )  # fmt: skip
    rows = [row for row in study.scores(output) if row["metric"] == "gain_over_ale"]
    assert len(rows) == 1 + 3
    assert {(row["value"], row["low"], row["high"]) for row in rows} == {(0.0, 0.0, 0.0)}


def test_clips_with_several_labels_have_no_place_in_a_partition(tmp_path: Path) -> None:
    """A clip of an unseen class would train as one of its other class."""
    clips = [(label, f"{label}-{n}") for label in LABELS for n in range(4)]
    write_clips(tmp_path / "clips.parquet", clips)
    table = tables.read(tmp_path / "clips.parquet")
    rows = [row | {"labels": [row["label"]]} for row in table.to_pylist()]
    rows[3]["labels"] = ["bell", "cat"]
    tables.write(tmp_path / "clips.parquet", CLIPS, rows)
    (tmp_path / "splits.yaml").write_text(UNSEEN_CAT)
    with pytest.raises(ValueError, match=r"clip-0003 has several labels \(bell, cat\)"):
        partition_clips(
            tmp_path / "partition.parquet", clips=tmp_path / "clips.parquet", splits_file=tmp_path / "splits.yaml",
            random={}, validation_fraction=0.1, test_fraction=0.2, seed=0, split="test",
        )  # fmt: skip
