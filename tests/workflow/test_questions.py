"""What is asked of the study beside accuracies, through the real rules, on data at the edge of what it can take.

One split with two seen classes, one with a single unseen class; a class of one clip, and two classes with the same
words: everything works, and the logs say what cannot be measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import pytest
import soundfile
import yaml
from project import RATE, Project, copy_project, run, tone

from tiny_clap import write_tiny_clap

pytestmark = pytest.mark.workflow

CLIPS_OF = {"bell": 6, "dog": 6, "engine": 1, "rain": 6, "wind": 6}
SPLITS = {
    "two_seen": {"unseen": ["engine", "rain", "wind"]},
    "one_unseen": {"unseen": ["wind"]},
}
METHODS = ["ale", "ridge", "zerodiffusion", "cada_vae", "lisgan", "gaussian_process"]
# The rules of zero_shot_questions.smk.
QUESTIONS = {
    "predict_by_oracle", "predict_by_clap", "trace_learning_curve", "score_learning_curves", "cross_seeds",
    "split_variance", "measure_quality", "measure_real_quality", "average_quality",
}  # fmt: skip
GENERATED = ["zerodiffusion", "cada_vae", "lisgan", "gaussian_process"]


def write_words(path: Path, labels: list[str]) -> None:
    """Word vectors [8] of labels; `wind` has those of `rain`."""
    vectors = {label: tone(number, seconds=0.0005)[:8] for number, label in enumerate(labels)}
    if "rain" in vectors and "wind" in vectors:
        vectors["wind"] = vectors["rain"]
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in vector)}" for word, vector in vectors.items()]
    path.write_text("\n".join([f"{len(lines)} 8", *lines]) + "\n")


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run. Don't change it."""
    project = copy_project(tmp_path_factory.mktemp("edge") / "foley", "questions.yaml")
    for number, (label, count) in enumerate(CLIPS_OF.items()):
        project.path(f"clips/{label}").mkdir(parents=True)
        for clip in range(count):
            soundfile.write(project.path(f"clips/{label}/{label}-{clip}.wav"), tone(10 * number + clip), RATE)
    project.path("splits.yaml").write_text(yaml.safe_dump({"splits": SPLITS}))
    write_words(project.path("words.txt"), list(CLIPS_OF))
    write_tiny_clap(project.path("clap"))
    project.make()
    return project


def log_of(project: Project, name: str) -> str:
    return project.path(f"results/logs/{name}.log").read_text()


def test_every_method_answers_in_both_splits(edge: Project) -> None:
    rows = edge.table("results/scores.parquet").to_pylist()
    accuracy = {
        (row["split"], row["method"], row["variant"]): row["value"]
        for row in rows
        if row["metric"] == "accuracy" and row["seed"] is None and row["split"] in SPLITS
    }
    for split in SPLITS:
        for method in METHODS:
            assert 0 <= accuracy[split, method, "scratch/words"] <= 1
        assert 0 <= accuracy[split, "oracle", "scratch"] <= 1
        assert 0 <= accuracy[split, "clap", ""] <= 1
    # With one class to choose from, every answer is right.
    assert {value for (split, _, _), value in accuracy.items() if split == "one_unseen"} == {1.0}


def test_every_rule_has_a_log(edge: Project) -> None:
    for rule in QUESTIONS:
        logs = edge.path(f"results/logs/{rule}"), edge.path(f"results/logs/{rule}.log")
        assert any(path.exists() for path in logs), rule


def test_other_class_vectors_run_with_some_methods(edge: Project) -> None:
    rows = edge.table("results/scores.parquet").to_pylist()
    with_plain = {row["method"] for row in rows if row["variant"] == "scratch/words_plain"}
    assert with_plain == {"ale", "gaussian_process"}
    metrics = {row["metric"] for row in rows if row["variant"] == "scratch/words_plain"}
    assert "difference_to_variant_scratch/words" in metrics


def test_every_pair_of_methods_is_compared(edge: Project) -> None:
    rows = edge.table("results/scores.parquet").to_pylist()
    pairs = {
        (row["method"], row["metric"].removeprefix("difference_to_"))
        for row in rows
        if row["metric"].startswith("difference_to_")
        and row["variant"] == "scratch/words"
        and row["split"] == "mean"
        and "variant" not in row["metric"]
    }
    assert pairs == {(a, b) for a in METHODS for b in METHODS if a != b}
    p = [row["value"] for row in rows if row["metric"].startswith("p_difference_to_")]
    assert p and all(0 <= value <= 1 for value in p)


def test_learning_curves(edge: Project) -> None:
    rows = edge.table("results/scores.parquet").to_pylist()
    points: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["metric"] in ("accuracy_at_1_samples", "accuracy_at_6_samples") and row["split"] == "mean":
            points[row["method"]].add(row["metric"])
    assert points == {m: {"accuracy_at_1_samples", "accuracy_at_6_samples"} for m in GENERATED}


def test_variance_is_split_by_source(edge: Project) -> None:
    rows = edge.table("results/scores.parquet").to_pylist()
    spreads = {
        (row["method"], row["metric"]): row["value"]
        for row in rows
        if row["metric"].startswith("spread_") and row["split"] == "two_seen"
    }
    for method in METHODS:
        assert spreads[method, "spread_embedding"] >= 0
    for method in GENERATED:
        assert spreads[method, "spread_generator"] >= 0
    assert spreads["ridge", "spread_classifier"] == 0
    assert spreads["gaussian_process", "spread_classifier"] == 0
    grid = edge.table(
        "results/zero_shot/dataset=mine/split=two_seen/embedding=scratch.seed1/vectors=words/method=ale/"
        "seed_grid.parquet"
    ).to_pylist()
    assert {row["embedding_seed"] for row in grid} == {1}
    assert {row["variant"] for row in grid} == {"scratch/words"}


def test_quality_where_seen_classes_can_be_held_out(edge: Project) -> None:
    rows = edge.table("results/scores.parquet").to_pylist()
    measured = {
        (row["split"], row["method"])
        for row in rows
        if row["metric"] == "quality_cosine" and row["class_id"] is None
    }
    assert {method for split, method in measured if split == "one_unseen"} == {*GENERATED, "real"}
    # With two seen classes none can be held out; the log says so.
    assert not any(split == "two_seen" for split, _ in measured)
    said = log_of(edge, "measure_quality/dataset=mine/split=two_seen/scratch-words-zerodiffusion")
    assert "seen classes" in said and "WARNING" in said


def test_samples_per_class_of_the_dataset_count(edge: Project) -> None:
    run = "results/zero_shot/dataset=mine/split=two_seen/embedding=scratch/vectors=words/method=zerodiffusion"
    made = edge.table(f"{run}/synthetic.parquet").to_pylist()
    # As many as the curve's last point wants; the classifier of the study learns from the first four.
    assert max(row["index"] for row in made) == 5
    assert {row["class_id"] for row in made} == {2, 3, 4}


def test_classes_with_the_same_words_are_named(edge: Project) -> None:
    said = log_of(edge, "classify_unseen/dataset=mine/split=two_seen/scratch-words-ale")
    assert "classes [3, 4] have the same vector" in said


def test_a_value_is_finite_or_cannot_be_measured(edge: Project) -> None:
    for row in edge.table("results/scores.parquet").to_pylist():
        if row["value"] is None:
            # A class that was never said, or one with too few clips to compare.
            few = row["metric"].startswith("quality_") and row["n"] <= 6
            assert row["class_id"] is not None and (row["metric"] == "precision" or few), row
        else:
            assert math.isfinite(row["value"]), row


def test_the_page_shows_it_all(edge: Project) -> None:
    page = edge.path("results/report/index.html").read_text(encoding="utf-8")
    for word in ("oracle", "clap", "Learning curve", "spread", "words_plain"):
        assert word.lower() in page.lower(), word


def test_a_second_run_does_nothing(edge: Project) -> None:
    assert edge.planned() == []


def test_a_class_without_any_known_word(edge: Project, tmp_path: Path) -> None:
    project = edge.copy_to(tmp_path / "foley")
    write_words(project.path("words.txt"), ["bell", "dog", "engine", "rain"])
    done = project.snakemake("results/class_vectors/dataset=mine/vectors=words/class_vectors.parquet")
    assert done.returncode != 0
    assert "class 4 (wind): none of its words (wind) has a vector in words.txt" in done.stdout
    assert "Add common single-word synonyms to the class table" in done.stdout


def test_splits_of_other_classes_are_refused(edge: Project, tmp_path: Path) -> None:
    project = edge.copy_to(tmp_path / "foley")
    project.path("splits.yaml").write_text(yaml.safe_dump({"splits": {"two_seen": {"unseen": ["cow"]}}}))
    done = project.snakemake(
        "results/zero_shot/dataset=mine/split=two_seen/partition.parquet",
        changes={"zero_shot": {"variance": None}},
    )
    assert done.returncode != 0
    assert "the unseen classes ['cow'] have no clips" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("splits: {my/split: {unseen: [rain]}}", "names a split `my/split`: a name holds letters"),
        ("splits: {mean: {unseen: [rain]}}", "`mean` is the mean over splits"),
        ("splits: {}", "`splits` is empty"),
        ("splits: [rain]", "holds no class splits: expected"),
    ],
)
def test_split_names_that_cannot_be(edge: Project, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "splits.yaml").write_text(text)
    changes = {
        "datasets": {"mine": {"splits": str(tmp_path / "splits.yaml")}},
        "zero_shot": {"variance": None},
    }
    done = run(edge.options("--dry-run", changes=changes), edge.folder)
    assert done.returncode != 0
    assert message in done.stdout


def test_another_clap_is_asked_again(edge: Project, tmp_path: Path) -> None:
    project = edge.copy_to(tmp_path / "foley")
    write_tiny_clap(project.path("clap"), seed=1)
    planned = project.planned("split")
    assert {job for job in planned if job.startswith("predict_by")} == {
        "predict_by_clap one_unseen", "predict_by_clap two_seen"
    }  # fmt: skip
    assert not any(job.startswith(("classify_unseen", "train_encoder")) for job in planned)
