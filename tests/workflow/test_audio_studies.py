"""The studies `diffusion` and `interpolation` through the real rules, on a folder of few clips."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from project import LABELS, RATE, Project, copy_project, tone, write_clips

from foley import tables
from foley.tables.audio_studies import AUDIO_QUALITY, SYNTHETIC_CLIPS
from tiny_audio_diffusion import write_tiny_audio_diffusion
from tiny_clap import write_tiny_clap
from tiny_vocoder import write_tiny_vocoder

pytestmark = pytest.mark.workflow

# The rules of audio.smk and diffusion.smk.
AUDIO_RULES = {
    "split_clips", "train_generator", "generate_clips", "interpolate_clips", "train_classifier", "compare_arms",
    "recognise_clips", "prompt_clips", "prompt_real_clips", "measure_clips", "measure_real_clips", "compare_generators",
    "pick_synthetic",
}  # fmt: skip
ARMS = ["real", "duplicates", "classic", "interpolated", "sampled"]
FOLDS = ["fold1", "fold2"]
HOME = "results/audio/dataset=mine"


@pytest.fixture(scope="module")
def audio_run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run. Don't change it: copy it (`audio`)."""
    project = copy_project(tmp_path_factory.mktemp("audio") / "foley", "audio.yaml")
    write_clips(project.path("clips"))
    write_tiny_clap(project.path("clap"))
    project.make()
    return project


@pytest.fixture
def audio(audio_run: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished run, to change at will."""
    yield audio_run.copy_to(tmp_path / "foley")
    shutil.rmtree(tmp_path / "foley")


def test_every_arm_is_scored_in_every_split(audio_run: Project) -> None:
    rows = [
        row
        for row in audio_run.table("results/scores.parquet").to_pylist()
        if row["study"] == "interpolation" and row["class_id"] is None
    ]
    accuracy = {
        (row["split"], row["method"]): row
        for row in rows
        if row["metric"] == "accuracy" and row["seed"] is None and row["variant"] == "small"
    }
    assert set(accuracy) >= {(split, arm) for split in (*FOLDS, "random", "mean") for arm in ARMS}
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in accuracy.values())
    for arm in ARMS:
        folds = [accuracy[fold, arm]["value"] for fold in FOLDS]
        assert accuracy["mean", arm]["value"] == pytest.approx(sum(folds) / 2)
    gains = {(row["split"], row["method"]): row["value"] for row in rows if row["metric"] == "gain_over_real"}
    assert {arm for _, arm in gains} == set(ARMS) - {"real"}
    for (split, arm), gain in gains.items():
        assert gain == pytest.approx(accuracy[split, arm]["value"] - accuracy[split, "real"]["value"])


def test_every_generator_is_measured_beside_real_clips(audio_run: Project) -> None:
    for generator in ("l1", "l2", "real"):
        rows = tables.read(
            audio_run.path(f"{HOME}/split=fold1/generator={generator}/quality.parquet"), AUDIO_QUALITY
        ).to_pylist()
        overall = {row["metric"]: row for row in rows if row["class_id"] is None}
        assert {
            "frechet_audio_distance", "frechet_audio_distance_infinity", "kernel_audio_distance", "precision",
            "coverage", "memorised", "vendi", "recognition_accuracy",
        } <= set(overall)  # fmt: skip
        answers = audio_run.table(
            f"{HOME}/split=fold1/generator={generator}/classifier=small/recognised.parquet"
        ).to_pylist()
        right = [
            row["predicted_class_id"] == row["class_id"]
            for row in answers
            if row["kind"] == ("test" if generator == "real" else "synthetic")
        ]
        assert (
            len(right)
            == 2 * overall["recognition_accuracy"]["n_real" if generator == "real" else "n_synthetic"]
        )  # each with both seeds
        assert overall["recognition_accuracy"]["value"] == pytest.approx(sum(right) / len(right))
        # A handful of clips of a class cannot carry a Gaussian, and the table says so.
        of_class = [r for r in rows if r["class_id"] is not None and r["metric"] == "frechet_audio_distance"]
        assert of_class and all(row["warning"] for row in of_class)
        assert 0 <= overall["clap_accuracy_at_1"]["value"] <= 1
    shown = {
        (row["method"], row["metric"])
        for row in audio_run.table("results/scores.parquet").to_pylist()
        if row["study"] == "diffusion"
    }
    assert {
        (method, metric)
        for method in ("l1", "real")
        for metric in ("recognition_accuracy", "clap_accuracy_at_1", "map_at_10")
    } <= shown
    assert not {metric for _, metric in shown} & {"frechet_audio_distance"}  # no bare number


def test_generated_clips_say_how_they_were_made(audio_run: Project) -> None:
    for generator, shards in (("l1", 2), ("l2", 1)):
        made = f"{HOME}/split=fold1/generator={generator}"
        sampled = tables.read(
            [audio_run.path(f"{made}/clips/shard={n}.parquet") for n in range(shards)], SYNTHETIC_CLIPS
        ).to_pylist()
        assert Counter(row["label"] for row in sampled) == dict.fromkeys(LABELS, 4)
        names = ("method", "generator", "sampler", "steps", "vocoder")
        assert {tuple(row[name] for name in names) for row in sampled} == {
            ("sampled", generator, "ddim", 3, "griffin_lim")
        }
        assert len({row["seed"] for row in sampled}) == len(sampled)
    between = tables.read(audio_run.path(f"{made}/interpolated.parquet"), SYNTHETIC_CLIPS).to_pylist()
    train = {
        row["clip_id"]
        for row in audio_run.table(f"{HOME}/split=fold1/partition.parquet").to_pylist()
        if row["role"] == "train"
    }
    assert Counter(row["label"] for row in between) == dict.fromkeys(LABELS, 3)
    for row in between:
        assert len(set(row["sources"])) == 2 and set(row["sources"]) <= train
        assert row["round_trip_db"] > 0


def test_no_clip_of_one_split_is_one_of_another(audio_run: Project) -> None:
    seeds = [
        set(audio_run.table(f"{HOME}/split={split}/generator=l2/{file}")["seed"].to_pylist())
        for split in (*FOLDS, "random")
        for file in ("clips/shard=0.parquet", "interpolated.parquet")
    ]
    assert sum(map(len, seeds)) == len(set().union(*seeds))


def test_no_recording_lies_on_both_sides(audio_run: Project) -> None:
    for split in FOLDS:
        roles: dict[str, set[str]] = {}
        for row in audio_run.table(f"{HOME}/split={split}/partition.parquet").to_pylist():
            roles.setdefault(row["recording_id"], set()).add(row["role"])
        assert all(len(found) == 1 for found in roles.values())


def test_the_page_shows_both_studies(audio_run: Project) -> None:
    page = audio_run.path("results/report/index.html").read_text(encoding="utf-8")
    assert "</html>" in page
    for word in (*ARMS, "recognised", "FAD", "l2.interpolated"):
        assert word in page


def test_every_rule_has_a_log(audio_run: Project) -> None:
    logged = {
        path.relative_to(audio_run.path("results/logs")).parts[0]
        for path in audio_run.path("results/logs").rglob("*.log")
    }
    assert logged >= AUDIO_RULES


def test_a_second_run_does_nothing(audio: Project) -> None:
    assert "Nothing to be done" in audio.make()


LATER = ["collect_scores", "write_report"]


def test_another_weight_reruns_the_interpolated_arm_alone(audio: Project) -> None:
    changes = {"interpolation": {"weight": 0.3}}
    assert audio.planned("split", "arm", changes=changes) == sorted(
        [
            *(f"interpolate_clips {split}" for split in (*FOLDS, "random")),
            *(f"train_classifier {split} interpolated" for split in (*FOLDS, "random")),
            "compare_arms", "recognise_clips fold1", "measure_clips fold1", "compare_generators",
            "pick_synthetic", *LATER,
        ]
    )  # fmt: skip


def test_another_generator_reruns_nothing_of_the_first(audio: Project) -> None:
    changes = {"audio_generators": {"l1": {"options": {"epochs": 3}}}}
    assert audio.planned("generator", "shard", changes=changes) == sorted(
        [
            "train_generator l1", "generate_clips l1 0", "generate_clips l1 1", "recognise_clips l1",
            "prompt_clips l1", "measure_clips l1", "compare_generators", "pick_synthetic", *LATER,
        ]
    )  # fmt: skip


def test_other_sampling_trains_no_generator(audio: Project) -> None:
    changes = {"audio_generators": {"l1": {"sampling": {"steps": 2}}}}
    assert audio.planned("generator", "shard", changes=changes) == sorted(
        [
            "generate_clips l1 0", "generate_clips l1 1", "recognise_clips l1", "prompt_clips l1",
            "measure_clips l1", "compare_generators", "pick_synthetic", *LATER,
        ]
    )  # fmt: skip


def test_more_gpus_train_nothing_anew(audio: Project) -> None:
    assert audio.planned(changes={"audio_generators": {"l1": {"gpus": 2}, "l2": {"gpus": 4}}}) == []


def test_a_neural_vocoder_trains_nothing_anew_and_must_fit(audio: Project) -> None:
    write_tiny_vocoder(audio.path("vocoder"), bands=16)
    with_vocoder = {"audio_generators": {"l1": {"vocoder": {"model": "vocoder", "n_fft": 512}}}}
    clips = f"{HOME}/split=fold1/generator=l1/clips/shard=0.parquet"
    done = audio.snakemake(clips, changes=with_vocoder)
    assert done.returncode != 0
    assert (
        "hop_length: 160 (not 256); power: 1 (not 2); reference: full_scale (not clip_max). Train"
        in done.stdout
    )
    mel = {"hop_length": 160, "power": 1, "reference": "full_scale"}
    fitting = {"audio_generators": {"l1": {"options": {"mel": mel}}}}
    audio.make(clips, changes=fitting)
    changes = {
        "audio_generators": {
            "l1": {**fitting["audio_generators"]["l1"], **with_vocoder["audio_generators"]["l1"]}
        }
    }
    assert "train_generator" not in audio.make(clips, changes=changes)
    made = tables.read(audio.path(clips), SYNTHETIC_CLIPS)
    assert set(made["vocoder"].to_pylist()) == {"vocoder"}


def test_a_checkpoint_from_elsewhere_interpolates_untrained(audio: Project) -> None:
    write_tiny_audio_diffusion(audio.path("theirs"), RATE)
    changes = {
        "audio_generators": {"theirs": {"kind": "audio_diffusion", "options": {"model": "theirs"}}},
        "interpolation": {"generator": "theirs", "arms": ["real", "interpolated"], "splits": ["fold1"]},
    }
    planned = audio.planned("split", "generator", changes=changes)
    assert "interpolate_clips fold1 theirs" in planned
    assert not [job for job in planned if job.startswith(("train_generator", "generate_clips"))]
    between = f"{HOME}/split=fold1/generator=theirs/interpolated.parquet"
    audio.make(between, changes=changes)
    rows = tables.read(audio.path(between), SYNTHETIC_CLIPS).to_pylist()
    assert Counter(row["label"] for row in rows) == dict.fromkeys(LABELS, 3)
    assert {(row["model_id"], row["guidance"]) for row in rows} == {("theirs", None)}
    # Its files are inputs.
    mel = audio.path("theirs/mel/mel_config.json")
    mel.write_text(mel.read_text().replace('"n_iter": 2', '"n_iter": 3'))
    assert "interpolate_clips fold1 theirs" in audio.planned("split", "generator", changes=changes)


def test_an_edited_augmentation_reruns_the_classic_arm_alone(audio: Project) -> None:
    audio.append("workflow/foley/augment/spec_augment.py", "\nEDITED = True\n")
    assert audio.planned("split", "arm") == sorted(
        [*(f"train_classifier {split} classic" for split in (*FOLDS, "random")), "compare_arms", *LATER]
    )


def test_a_class_of_one_recording_has_no_pair(audio: Project) -> None:
    # Three folds need three recordings; of three, two are held out.
    audio.path("clips/owl").mkdir()
    for clip in range(3):
        soundfile.write(audio.path(f"clips/owl/owl-{clip}.wav"), tone(70 + clip), RATE)
    done = audio.snakemake(f"{HOME}/split=fold1/generator=l2/interpolated.parquet")
    assert done.returncode != 0
    assert "owl" in done.stdout and "one recording" in done.stdout
    assert "leave the class out or add a recording" in done.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"diffusion": {"generators": ["l3"]}}, "diffusion.generators names `l3`"),
        ({"diffusion": {"probe": "smal"}}, "did you mean `small`?"),
        ({"diffusion": {"splits": ["folds1"]}}, "diffusion.splits"),
        (
            {"interpolation": {"splits": ["fold9"]}},
            "`interpolation.splits` names `fold9`, which the dataset `mine` does not have; did you mean `fold",
        ),
        ({"diffusion": {"splits": ["official"]}}, "known: `fold1`, `fold2`, `fold3`, `random`"),
        ({"interpolation": {"pairs_per_class": 9}}, "every arm adds as many clips"),
        ({"audio_generators": {"l1": {"kind": "gan"}}}, "audio_generators.l1.kind"),
        ({"audio_generators": {"l1": {"options": {"lost": "l1"}}}}, "did you mean `loss`?"),
        (
            {"audio_generators": {"l1": {"options": {"guidance": 2.0}}}},
            "give `audio_generators.l1.sampling.guidance`",
        ),
        ({"audio_classifiers": {"small": {"options": {"step": 1}}}}, "did you mean `steps`?"),
        ({"interpolation": {"augmentations": [{"kind": "mixup", "options": {"alpha": -1}}]}}, "alpha must be"),
        ({"interpolation": {"arms": ["sampled"]}}, "arms lacks `real`"),
        ({"diffusion": {"clap": {"model": "nobody/clap"}}}, "give `revision`"),
        ({"audio_generators": {"l2": {"vocoder": {"model": "nobody/vocoder"}}}}, "give `revision`"),
        ({"audio_generators": {"l2": {"gpus": 0}}}, "audio_generators.l2.gpus"),
        (
            {"audio_generators": {"theirs": {"kind": "audio_diffusion"}}, "interpolation": {"generator": "theirs"}},
            "`audio_generators.theirs.options.model` is missing",
        ),
        (
            {
                "audio_generators": {"theirs": {"kind": "audio_diffusion", "options": {"model": "clips"}}},
                "interpolation": {"generator": "theirs"},
            },
            "leave `sampled` out of `interpolation.arms`",
        ),
        (
            {
                "audio_generators": {"theirs": {"kind": "audio_diffusion", "options": {"model": "clips"}}},
                "diffusion": {"generators": ["theirs"]},
            },
            "knows no classes",
        ),
    ],
)  # fmt: skip
def test_a_wrong_config_is_refused_by_name(audio: Project, changes: dict, message: str) -> None:
    done = audio.snakemake(changes=changes)
    assert done.returncode != 0
    assert message in done.stdout
