"""The study `speech` through the real rules, on a few words, backgrounds of a folder, and two generators of others."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import yaml
from project import RATE, REPOSITORY, Project, copy_project, tone, write_clips

from foley import tables
from foley.datasets.speech_commands import which_set
from foley.tables.scores import PREDICTIONS
from foley.tables.speech import BACKGROUNDS, KEPT_APART, SPEECH_PARTITION, SPEECH_SCORES
from trees.speech import build_iemocap

pytestmark = pytest.mark.workflow

SPEECH_RULES = {
    "separate_speakers", "draw_backgrounds", "train_speech", "recognise_speech", "pick_backgrounds",
    "compare_speech",
}  # fmt: skip
SOURCES = ["tiny_diffusion", "noise-label"]
ARMS = ["none", "real", "classic", *SOURCES]
CONDITIONS = [(None, None), *itertools.product(["real", *SOURCES], [0.0, 20.0, None])]
HOME = "results/speech/dataset=words"
WORDS = ("down", "go", "stop")
SPEAKERS = {"train": 4, "validation": 2, "test": 3}


def write_speech(root: Path) -> None:
    """Words by speakers of each official part, whose names the hashing rule of the dataset puts there."""
    names = (f"{number:08x}" for number in itertools.count(0xBEE))
    wanted = Counter(SPEAKERS)
    while wanted.total():
        speaker = next(names)
        part = which_set(f"{speaker}_nohash_0.wav")
        if not wanted[part]:
            continue
        wanted[part] -= 1
        for number, word in enumerate(WORDS):
            (root / word).mkdir(parents=True, exist_ok=True)
            samples = tone(20 * number + wanted.total(), seconds=0.3)
            soundfile.write(root / word / f"{speaker}_nohash_0.wav", samples, RATE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run. Don't change it: copy it (`copy`)."""
    project = copy_project(tmp_path_factory.mktemp("speech") / "foley", "speech.yaml")
    write_speech(project.path("words"))
    write_clips(project.path("clips"))
    project.make()
    return project


@pytest.fixture
def copy(run: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished run, to change at will."""
    yield run.copy_to(tmp_path / "foley")
    shutil.rmtree(tmp_path / "foley")


def test_every_rule_has_a_log(run: Project) -> None:
    logs = run.path("results/logs")
    assert {
        path.relative_to(logs).parts[0].removesuffix(".log") for path in logs.rglob("*.log")
    } >= SPEECH_RULES


def test_speakers_are_kept_apart(run: Project) -> None:
    rows = tables.read(run.path(f"{HOME}/split=official/partition.parquet"), SPEECH_PARTITION).to_pylist()
    sides = {part: {row["speaker_id"] for row in rows if row["role"] == part} for part in SPEAKERS}
    assert {part: len(speakers) for part, speakers in sides.items()} == SPEAKERS
    assert not set.intersection(*sides.values())
    found = tables.read(run.path(f"{HOME}/kept_apart.parquet"), KEPT_APART).to_pylist()
    (speakers,) = [row for row in found if row["what"] == "speakers"]
    assert {part: speakers[part] for part in SPEAKERS} == SPEAKERS
    assert all(row["shared"] == 0 for row in found)


def test_every_arm_mixes_as_many_clips_of_each_class(run: Project) -> None:
    counts = {}
    for background in ("real", *SOURCES):
        rows = tables.read(
            run.path(f"results/speech/backgrounds/background={background}.parquet"), BACKGROUNDS
        ).to_pylist()
        counts[background] = Counter((row["label"], row["role"]) for row in rows)
        assert all(row["duration_s"] == pytest.approx(0.2) for row in rows)
    expected = {
        (label, role): n
        for label in ("bell", "dog", "engine", "rain")
        for role, n in (("train", 2), ("test", 1))
    }
    assert all(count == expected for count in counts.values())


def test_every_condition_is_scored(run: Project) -> None:
    rows = tables.read(run.path(f"{HOME}/curves.parquet"), SPEECH_SCORES).to_pylist()
    whole = [row for row in rows if row["class_id"] is None and row["seed"] is None]
    for metric in ("accuracy", "uar", "f1_weighted"):
        assert {
            (row["arm"], row["background"], row["snr_db"]) for row in whole if row["metric"] == metric
        } == {(arm, *condition) for arm in ARMS for condition in CONDITIONS}
    value = {(row["arm"], row["background"], row["snr_db"], row["metric"]): row["value"] for row in whole}
    for arm in ARMS:
        mean = (value[arm, "real", 0.0, "accuracy"] + value[arm, "real", 20.0, "accuracy"]) / 2
        assert value[arm, "real", None, "accuracy"] == pytest.approx(mean)
        if arm != "none":
            gain = mean - value["none", "real", None, "accuracy"]
            assert value[arm, "real", None, "gain_over_none"] == pytest.approx(gain)
    scores = run.table("results/scores.parquet").to_pylist()
    of_study = [row for row in scores if row["study"] == "speech" and row["method"] in ARMS]
    assert len(of_study) == len(rows)
    # One comparison of each arm answers the study's question.
    gains = {(r["method"], r["variant"]) for r in of_study if r["metric"] == "gain_over_none"}
    assert gains == {(arm, "small/real/mean") for arm in ARMS if arm != "none"}


def test_predictions_of_every_clip_are_kept(run: Project) -> None:
    place = run.path(f"{HOME}/split=official/recogniser=small/arm=real")
    table = tables.read(place / "noisy.parquet", PREDICTIONS)
    assert table.num_rows == 3 * 2 * 2 * len(WORDS) * SPEAKERS["test"]
    assert {path.name for path in (place / "models").glob("seed*")} == {
        "seed=0.safetensors", "seed=1.safetensors",
    }  # fmt: skip


def test_the_page_shows_curves_and_what_was_kept_apart(run: Project) -> None:
    page = run.path("results/report/index.html").read_text(encoding="utf-8")
    assert 'id="speech"' in page and "Mixing generated backgrounds into training speech" in page
    assert page.count("signal-to-noise ratio, dB") == 2 * len(["real", *SOURCES])
    assert "What was kept apart, counted where it was used" in page
    assert "Prompts `label`" in page


def test_nothing_is_left_to_do_and_a_change_reruns_what_hangs_on_it(run: Project) -> None:
    assert run.planned() == []
    jobs = Counter(run.planned("arm", changes={"speech": {"test_snr_db": [0, 10, 20]}}))
    assert {job for job in jobs if job.startswith("recognise_speech")} == {
        f"recognise_speech {arm}" for arm in ARMS
    }
    assert not {job.split()[0] for job in jobs} & {"train_speech", "draw_backgrounds", "separate_speakers"}
    other = set(run.planned("arm", changes={"speech": {"snr_db": [0, 20]}}))
    assert {job for job in other if job.startswith("train_speech")} == {
        f"train_speech {arm}" for arm in ("real", *SOURCES)
    }


def test_a_table_that_leaks_stops_the_job(copy: Project) -> None:
    """A speaker on both sides, then a background on both sides: the job that would use it says so."""
    path = copy.path(f"{HOME}/split=official/partition.parquet")
    rows = tables.read(path, SPEECH_PARTITION).to_pylist()
    tested = next(row["speaker_id"] for row in rows if row["role"] == "test")
    next(row for row in rows if row["role"] == "train")["speaker_id"] = tested
    tables.write(path, SPEECH_PARTITION, rows, tables.provenance(path))
    target = f"{HOME}/split=official/recogniser=small/arm=none/history.parquet"
    done = copy.snakemake(target)
    assert done.returncode != 0 and "1 speakers have clips in two roles" in logs(copy, "train_speech")
    next(row for row in rows if row["role"] == "train")["speaker_id"] = "somebody else"
    tables.write(path, SPEECH_PARTITION, rows, tables.provenance(path))
    path = copy.path("results/speech/backgrounds/background=real.parquet")
    rows = tables.read(path, BACKGROUNDS).to_pylist()
    tested = next(row["recording_id"] for row in rows if row["role"] == "test")
    next(row for row in rows if row["role"] == "train")["recording_id"] = tested
    tables.write(path, BACKGROUNDS, rows, tables.provenance(path))
    done = copy.snakemake(target.replace("arm=none", "arm=real"))
    assert done.returncode != 0 and "background recordings that serve both" in logs(copy, "train_speech")


def logs(project: Project, rule: str) -> str:
    return "".join(path.read_text() for path in project.path(f"results/logs/{rule}").rglob("*.log"))


PRESETS = {
    "speech_commands_v2": (4, {"speech_commands": 1}, 6), "speech_commands_v2_12": (4, {"speech_commands": 1}, 6),
    "speech_iemocap": (3, {"iemocap": 5}, 6), "speech_emotions": (3, {"emodb": 10, "ravdess": 5}, 6),
    "speech_voicebox": (1, {"voicebox": 1}, 5), "speech_local": (1, {"words": 1, "emodb": 3}, 5),
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build(tmp_path: Path, preset: str) -> None:
    experiments = REPOSITORY / "experiments"
    project = copy_project(tmp_path / "foley", experiments / f"{preset.removesuffix('_12')}.yaml")
    changes = {}
    if preset.endswith("_12"):
        changes = yaml.safe_load((experiments / f"{preset}.yaml").read_text())
    if preset == "speech_iemocap":
        # It cannot be downloaded, so something in its layout must be there.
        changes = {"datasets": {"iemocap": {"path": str(build_iemocap(tmp_path).root)}}}
    jobs = Counter(project.planned(changes=changes))
    recognisers, splits, arms = PRESETS[preset]
    assert jobs["train_speech"] == jobs["recognise_speech"] == recognisers * sum(splits.values()) * arms
    assert jobs["draw_backgrounds"] > 1 and jobs["compare_speech"] == len(splits)


def test_wrong_settings_end_before_any_job(run: Project) -> None:
    done = run.snakemake("--dry-run", changes={"speech": {"recognisers": ["smal"]}})
    assert done.returncode != 0 and "did you mean `small`" in done.stdout, done.stdout
