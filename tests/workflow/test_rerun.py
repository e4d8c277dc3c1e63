"""A rerun does what is invalid, all of it, and nothing else: dry runs of finished runs after one change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import soundfile
import yaml
from project import LABELS, RATE, Project, tone, write_clips

from foley.datasets.tree import shard_of

pytestmark = pytest.mark.workflow

# What hangs on every score.
SUMMARIES = ["collect_scores", "compare_methods", "write_report"]
METHODS = ("ale", "zerodiffusion", "ddpm", "cada_vae", "gaussian_process")


def generated_by(method: str) -> list[str]:
    """What hangs on the embeddings that a generator makes."""
    own = ("classify_unseen", "generate_embeddings", "project_embeddings", "score_method")
    return [f"{rule} {method}" for rule in own]


def after_clips(*methods: str) -> list[str]:
    """What hangs on a dataset's table of clips."""
    rules = ["check_leaks", "describe_classes", "embed_classes", "partition_clips", "pick_gallery"]
    jobs = [*rules, "score_references", "write_dataset_card", "train_encoder", *SUMMARIES]
    for method in methods:
        jobs += generated_by(method) if method != "ale" else ["classify_unseen ale", "score_method ale"]
    return jobs


def of_shards(*shards: int) -> list[str]:
    """What reads the raw clips of a shard, or its stored audio alone."""
    return [f"{rule} {shard}" for rule in ("ingest_shard", "extract_features") for shard in shards]


def test_nothing_after_a_finished_run(finished: Project) -> None:
    assert finished.planned() == []


def test_nothing_after_all_files_were_touched(soundbox: Project) -> None:
    touched = 0
    for part in ("Snakefile", "config.yaml", "soundbox.yaml", "envs", "profiles", "resources", "workflow"):
        for path in [soundbox.path(part), *soundbox.path(part).rglob("*")]:
            os.utime(path)
            touched += 1
    assert touched > 100
    assert soundbox.planned() == []


def test_nothing_after_raw_clips_were_touched(mine: Project) -> None:
    for path in [mine.path("words.txt"), *mine.path("clips").rglob("*")]:
        os.utime(path)
    assert mine.planned() == []


def test_a_generator_changed(soundbox: Project) -> None:
    soundbox.append("workflow/foley/generators/embedding/ddpm.py", "\n# changed\n")
    assert soundbox.planned("method") == sorted([*generated_by("ddpm"), "pick_gallery", *SUMMARIES])


def test_the_decoder_changed(soundbox: Project) -> None:
    soundbox.append("workflow/foley/audio/decode.py", "\n# changed\n")
    expected = sorted([*of_shards(0, 1), "collect_clips", *after_clips(*METHODS)])
    assert soundbox.planned("method", "shard") == expected


def test_a_template_of_the_report_changed(soundbox: Project) -> None:
    template = "workflow/foley/report/templates/report.html.j2"
    soundbox.insert(template, "</body>", "<p>changed</p>")
    assert soundbox.planned() == ["write_report"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"methods": {"ale": {"for_dataset": {"soundbox": {"classifier_options": {"epochs": 2}}}}}},
            ["classify_unseen ale", "score_method ale", *SUMMARIES],
            id="option_of_a_method",
        ),
        pytest.param({"report": {"title": "Another"}}, ["write_report"], id="title"),
        pytest.param(
            {"zero_shot": {"bootstrap": 300}},
            [*SUMMARIES, *(f"score_method {method}" for method in METHODS)],
            id="bootstrap",
        ),
        pytest.param(
            {"datasets": {"unused": {"folder": "nowhere"}}, "methods": {"unused": {"generator": "ddpm"}}},
            [],
            id="unused_entries",
        ),
    ],
)
def test_a_config_value_changed(finished: Project, changes: dict, expected: list[str]) -> None:
    assert finished.planned("method", changes=changes) == sorted(expected)


def test_a_raw_clip_changed(mine: Project) -> None:
    soundfile.write(mine.path("clips/dog/dog-1.wav"), tone(200), RATE)
    shard = shard_of("dog/dog-1.wav", 2)
    expected = sorted([*of_shards(shard), "collect_clips", *after_clips("ale", "ddpm")])
    assert mine.planned("method", "shard") == expected


def test_a_raw_clip_added(mine: Project) -> None:
    soundfile.write(mine.path("clips/dog/dog-new.wav"), tone(201), RATE)
    shard = shard_of("dog/dog-new.wav", 2)
    expected = ["index_dataset", *of_shards(shard), "collect_clips", *after_clips("ale", "ddpm")]
    assert mine.planned("method", "shard") == sorted(expected)
    clips = "results/clips/dataset=mine/clips.parquet"
    mine.make(clips)
    assert "dog/dog-new.wav" in mine.table(clips)["clip_id"].to_pylist()


def test_a_raw_clip_removed(mine: Project) -> None:
    mine.path("clips/dog/dog-1.wav").unlink()
    shard = shard_of("dog/dog-1.wav", 2)
    expected = ["index_dataset", *of_shards(shard), "collect_clips", *after_clips("ale", "ddpm")]
    assert mine.planned("method", "shard") == sorted(expected)


def test_a_dataset_added(soundbox: Project) -> None:
    write_clips(soundbox.path("clips"))
    changes = {
        "datasets": {"mine": {"folder": "clips", "shards": 1}},
        "zero_shot": {"datasets": ["soundbox", "mine"]},
    }
    jobs = soundbox.planned("dataset", changes=changes)
    assert [job for job in jobs if not job.endswith(" mine")] == ["collect_scores", "write_report"]
    assert {"index_dataset mine", "train_encoder mine", "compare_methods mine"} < set(jobs)


def test_class_vectors_with_a_class_table_of_their_own(mine: Project) -> None:
    table = {
        "classes": [{"id": n, "label": label, "words": [label]} for n, label in enumerate(reversed(LABELS))]
    }
    table["classes"][0]["synonyms"] = ["bell"]
    mine.path("others.yaml").write_text(yaml.safe_dump(table))
    others = {"kind": "words", "path": "words.txt", "classes": {"mine": "others.yaml"}}
    changes = {"class_vectors": {"others": others}, "zero_shot": {"class_vectors": ["words", "others"]}}
    # Neither the dataset's own description of its classes nor the network is touched.
    methods = ["generate_embeddings ddpm", "classify_unseen ddpm", "score_method ddpm"]
    methods += ["classify_unseen ale", "score_method ale"]
    expected = sorted(["embed_classes", *methods, *SUMMARIES])
    assert mine.planned("method", changes=changes) == expected
    folder = "results/class_vectors/dataset=mine/vectors="
    mine.make(f"{folder}others/class_vectors.parquet", changes=changes)
    own, other = (mine.table(f"{folder}{v}/class_vectors.parquet").to_pylist() for v in ("words", "others"))
    # The dataset's numbers count, whatever those of the table are.
    assert [(r["class_id"], r["label"]) for r in own] == [(r["class_id"], r["label"]) for r in other]
    assert [a["label"] for a, b in zip(own, other, strict=True) if a["vector"] != b["vector"]] == [LABELS[-1]]
    table["classes"].pop()
    mine.path("others.yaml").write_text(yaml.safe_dump(table))
    assert mine.planned("method", changes=changes) == expected
    done = mine.snakemake(f"{folder}others/class_vectors.parquet", changes=changes)
    assert done.returncode != 0
    assert (
        "others.yaml lacks the classes ['bell'], which have clips: add them, or leave `classes` out"
        in done.stdout
    )


def test_nothing_after_the_folder_moved(finished: Project, soundbox: Project) -> None:
    assert soundbox.folder != finished.folder
    assert soundbox.planned() == []


def test_jobs_grow_with_shards_and_not_with_clips(folder_project: Project, tmp_path: Path) -> None:
    project = folder_project.copy_to(tmp_path / "foley")
    few = project.planned("shard")
    for path in [*project.path("clips").rglob("*.wav")]:
        for copy in range(9):
            shutil.copy(path, path.with_name(f"{path.stem}-{copy}.wav"))
    assert project.planned("shard") == few
    more = project.planned("shard", changes={"datasets": {"mine": {"shards": 3}}})
    assert sorted(set(more) - set(few)) == sorted(of_shards(2))
    assert len(more) == len(few) + 2
