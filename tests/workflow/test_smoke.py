"""The whole workflow, from nothing to the page, here, in another folder, on one core, and on real clips."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest
from project import Project, copy_project, run
from test_audio_studies import AUDIO_RULES
from test_diverse_study import DIVERSE_RULES
from test_foundation_study import FOUNDATION_RULES
from test_questions import QUESTIONS
from test_speech_rules import SPEECH_RULES

pytestmark = pytest.mark.workflow


def test_scores_and_a_page(finished: Project) -> None:
    rows = finished.table("results/scores.parquet").to_pylist()
    accuracy = {
        (row["dataset"], row["split"], row["method"]): row["value"]
        for row in rows
        if row["metric"] == "accuracy" and row["seed"] is None
    }
    methods = {"ale", "zerodiffusion", "ddpm", "cada_vae", "gaussian_process", "chance", "majority"}
    assert set(accuracy) == {("soundbox", "fold0", method) for method in methods}
    assert all(0 <= value <= 1 for value in accuracy.values())
    assert {row["seed"] for row in rows if row["method"] == "ddpm"} == {None, 0, 1}
    gains = [row for row in rows if row["metric"] == "gain_over_ale" and row["class_id"] is None]
    assert {row["method"] for row in gains} == {"zerodiffusion", "ddpm"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in gains)
    page = finished.path("results/report/index.html").read_text(encoding="utf-8")
    assert "</html>" in page
    assert "zerodiffusion" in page


def test_every_rule_has_a_log(finished: Project) -> None:
    rules = {path.stem for path in finished.path("workflow/scripts").glob("*.py")}
    logged = {
        path.relative_to(finished.path("results/logs")).parts[0]
        for path in finished.path("results/logs").rglob("*.log")
    }
    # Of a single job the log has the rule's name itself.
    elsewhere = {"embed_clips", "train_mix", "download_dataset", *QUESTIONS, *AUDIO_RULES, *FOUNDATION_RULES}
    elsewhere |= DIVERSE_RULES - {"extract_features"} | SPEECH_RULES
    assert {name.removesuffix(".log") for name in logged} == rules - elsewhere


def test_a_second_run_does_nothing(soundbox: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in soundbox.path("results").rglob("*")}
    assert "Nothing to be done" in soundbox.make()
    assert {path: path.stat().st_mtime_ns for path in soundbox.path("results").rglob("*")} == before


def test_a_report_of_snakemake(soundbox: Project) -> None:
    done = run(soundbox.options("--report", "report.zip"), soundbox.folder)
    assert done.returncode == 0, done.stdout
    with zipfile.ZipFile(soundbox.path("report.zip")) as archive:
        names = [Path(name).name for name in archive.namelist()]
    assert {"report.html", "index.html", "leaderboard.svg", "classes.svg", "map.svg"} <= set(names)


def test_another_folder_and_one_core_give_the_same_tables(two_methods: Project, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", two_methods.path(two_methods.config))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run(project.options("--directory", str(elsewhere), cores=1), project.folder)
    assert done.returncode == 0, done.stdout
    assert not project.path("results").exists()
    expected, found = two_methods.tables(), Project(elsewhere, "").tables()
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


# A corner of ESC-50: the ten unseen classes of its split `test` and four others, a clip of each fold.
UNSEEN = ["dog", "cat", "sheep", "crow", "sea_waves", "crackling_fire", "water_drops", "wind"]
UNSEEN += ["clock_alarm", "car_horn"]
SEEN = ["rooster", "rain", "church_bells", "engine"]


def copy_esc50(source: Path, target: Path) -> int:
    """Copy one clip of each fold of the classes above, in the real layout; returns how many."""
    with (source / "meta/esc50.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = {(row["category"], row["fold"]): row for row in rows if row["category"] in UNSEEN + SEEN}
    for part in ("meta", "audio"):
        (target / part).mkdir(parents=True)
    with (target / "meta/esc50.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept.values())
    for row in kept.values():
        clip = next((source / "audio").glob(f"{Path(row['filename']).stem}.*"))
        (target / "audio" / clip.name).write_bytes(clip.read_bytes())
    return len(kept)


def test_real_clips(shared_data: Path, tmp_path: Path) -> None:
    """Real clips, pretrained weights and word vectors, through the rules to scores."""
    project = copy_project(tmp_path / "project", "esc50.yaml")
    assert copy_esc50(shared_data / "esc50", project.path("data/ESC-50")) == 14 * 5
    project.path("data/mn04_as_mAP_432.pt").symlink_to(shared_data / "weights/mn04_as_mAP_432.pt")
    project.path("data/words-300d.bin").symlink_to(shared_data / "vectors/words-300d.bin")
    project.make("results/scores.parquet")
    rows = project.table("results/scores.parquet").to_pylist()
    accuracy = {
        row["method"]: (row["value"], row["n"])
        for row in rows
        if row["metric"] == "accuracy" and row["seed"] is None
    }
    assert set(accuracy) == {"ale", "zerodiffusion", "chance", "majority"}
    assert all(n == 50 for _, n in accuracy.values())
    assert accuracy["chance"][0] == 0.1
    assert accuracy["zerodiffusion"][0] > 0.1
