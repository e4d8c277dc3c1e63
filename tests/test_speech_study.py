"""The study of speech: speakers and backgrounds kept apart, equal numbers, exact ratios, scores in every condition."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

from foley import tables
from foley.augment.background import BackgroundOptions
from foley.augment.protocol import Augmentations
from foley.augment.reverb import Reverb, ReverbOptions
from foley.classifiers.audio_protocol import LabelledClips
from foley.classifiers.cnn import SmallCNN, SmallCNNOptions
from foley.options import ConfigError
from foley.plan import Plan
from foley.report.scores import ScoreBook
from foley.report.speech import SpeechTables, speech
from foley.report.values import points
from foley.report.verdict import verdicts
from foley.studies.audio.compare_arms import System
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION
from foley.studies.speech.backgrounds import (
    Wanted,
    draw_backgrounds,
    loudest_stretch,
    read_backgrounds,
    read_recordings,
)
from foley.studies.speech.compare import compare_speech, headline
from foley.studies.speech.names import Condition, parse_variant, variant
from foley.studies.speech.recognise import recognise_speech
from foley.studies.speech.speakers import (
    clusters,
    part_speakers,
    read_speech_partition,
    separate_speakers,
)
from foley.studies.speech.train import MixedIn, fill_window, train_speech
from foley.tables.audio_studies import AUDIO_PARTITION, SYNTHETIC_CLIPS
from foley.tables.clips import CLIPS
from foley.tables.features import HISTORY
from foley.tables.scores import PREDICTIONS, SCORES
from foley.tables.speech import BACKGROUNDS, KEPT_APART, SPEECH_PARTITION, SPEECH_SCORES
from toy_store import LABELS, STORED_HZ, Store, make_store, synthetic

OPTIONS = SmallCNNOptions(
    steps=4, batch_size=4, validate_every_steps=2, sample_rate_hz=4_000, window_s=0.25, n_fft=128, hop_length=64,
    n_mels=16, channels=(4, 6), kernel=3, hidden=8,
)  # fmt: skip
FOLDS = ("fold1", "fold2")
RESOURCES = Path(__file__).resolve().parents[1] / "resources"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def clips(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store's table of clips; a speaker says one clip of each class."""
    path = tmp_path_factory.mktemp("clips") / "clips.parquet"
    rows = [
        {
            "dataset": "toy", "clip_id": row["clip_id"], "class_id": row["class_id"], "label": LABELS[row["class_id"]],
            "recording_id": row["clip_id"], "speaker_id": f"s{row['clip_id'].split('-')[0]}",
            "duration_s": len(store.waveforms[row["clip_id"]]) / STORED_HZ, "sample_rate_hz": STORED_HZ,
            "sha256": row["clip_id"],
        }
        for row in store.rows
    ]  # fmt: skip
    tables.write(path, CLIPS, rows)
    return path


@pytest.fixture(scope="module")
def partition(store: Store, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("partition") / "partition.parquet"
    separate_speakers(path, partition=store.partition, clips=clips, split="fold1")
    return path


def spoken(role: str, speaker: str | None, number: int = 0, class_id: int = 0) -> dict[str, Any]:
    clip = f"{role}-{speaker}-{number}"
    return {
        "clip_id": clip, "class_id": class_id, "recording_id": clip, "speaker_id": speaker, "role": role,
    }  # fmt: skip


# Names


@pytest.mark.parametrize(
    "condition",
    [
        Condition(),
        Condition("real", -5.0),
        Condition("audiogen-label", 2.5),
        Condition("real", 0.0),
        Condition("real"),
    ],
)
def test_a_variant_says_recogniser_and_condition(condition: Condition) -> None:
    assert parse_variant(variant("words.v2", condition)) == ("words.v2", condition)
    assert condition.is_mean == (condition == Condition("real"))


def test_other_variants_are_none_of_the_study() -> None:
    with pytest.raises(ValueError, match="no variant of the study"):
        parse_variant("cnn/real=10%")


# Settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A config of the study that can be built."""
    root = tmp_path_factory.mktemp("settings")
    for name in ("words/go/0a_nohash_0.wav", "clips/rain/1.wav"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    return {
        "cache": str(root / "cache"),
        "datasets": {
            "words": {"kind": "speech_commands", "path": str(root / "words")},
            "mine": {"folder": str(root / "clips")},
        },
        "prompts": {"label": {"kind": "label"}},
        "audio_generators": {
            "own": {"kind": "mel_diffusion", "clips_per_class": 5}, "noise": {"kind": "noise", "clips_per_class": 5},
        },
        "audio_classifiers": {
            "small": {"kind": "small_cnn"}, "whisper": {"kind": "whisper"},
            "ssast": {"kind": "ssast", "options": {"padding": "zeros"}},
        },
        "speech": {
            "datasets": ["words"], "splits": ["official"], "recognisers": ["small"],
            "background": {
                "dataset": "mine", "clips_per_class": 4, "test_clips_per_class": 1, "max_duration_s": 1.0,
            },
            "sources": [{"generator": "own"}, {"generator": "noise", "prompts": "label"}],
            "augmentations": [{"kind": "reverb"}],
        },
    }  # fmt: skip


def plan(settings: Mapping[str, Any], **changes: Any) -> Plan:
    return Plan({**settings, "speech": {**settings["speech"], **changes}}, RESOURCES)


def test_every_source_is_an_arm_and_a_test_background(settings: dict[str, Any]) -> None:
    asked = plan(settings).speech
    assert asked.arms == ["none", "real", "classic", "own", "noise-label"]
    assert asked.backgrounds == asked.test_backgrounds == ["real", "own", "noise-label"]
    assert asked.prompt_sets == [("mine", "label")]
    assert asked.mixing("none") is asked.mixing("classic") is None
    assert asked.mixing("own") == {
        "snr_min_db": 3.0, "snr_max_db": 30.0, "probability": 1.0, "silent_speech": "refuse",
    }  # fmt: skip
    assert not asked.augmentations_of("real") and len(asked.augmentations_of("classic")) == 1
    assert plan(settings, splits={"words": ["official"]}).speech.splits("words") == ["official"]
    several = {"rooms": [{"kind": "reverb"}], "noise": [{"kind": "noise"}, {"kind": "mixup"}]}
    named = plan(settings, augmentations=several, metric={"words": "uar"}).speech
    assert named.arms == ["none", "real", "classic-rooms", "classic-noise", "own", "noise-label"]
    assert [len(named.augmentations_of(arm)) for arm in named.arms] == [0, 0, 1, 2, 0, 0]
    assert named.mixing("classic-rooms") is None and named.backgrounds == asked.backgrounds
    assert (named.study.metric_of("words"), asked.study.metric_of("words")) == ("uar", "accuracy")
    few = plan(settings, test_backgrounds=["real"], arms=["none"], sources=[]).speech
    assert (few.arms, few.backgrounds) == (["none"], ["real"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"splits": {"words": ["random"]}}, "names `random`, which puts one recording on both sides"),
        ({"splits": ["fold1"]}, "which the dataset `words` does not have"),
        ({"splits": {"mine": ["fold1"]}}, "splits names none of `words`"),
        ({"recognisers": {"words": ["smal"]}}, "did you mean `small`"),
        ({"recognisers": {"mine": ["small"]}}, "recognisers names none of `words`"),
        (
            {
                "background": {
                    "dataset": "mine",
                    "split": "random",
                    "clips_per_class": 1,
                    "test_clips_per_class": 1,
                    "max_duration_s": 1.0,
                }
            },
            "names `random`",
        ),
        (
            {"background": {"dataset": "mine", "clips_per_class": 9, "max_duration_s": 1.0}},
            "speech.background asks for 14 clips a class",
        ),
        (
            {"background": {"dataset": "mine", "clips_per_class": 4, "test_clips_per_class": 1}},
            "background lacks `max_duration_s`",
        ),
        ({"sources": [{"generator": "noise"}]}, "a generator of kind `noise` needs `prompts`"),
        ({"sources": [{"generator": "own.interpolated"}]}, "two interpolated clips may share a recording"),
        ({"sources": []}, "name some `sources`"),
        ({"arms": ["real"]}, "arms lacks `none`"),
        ({"augmentations": []}, "name its `augmentations`"),
        (
            {"augmentations": [{"kind": "reverb", "options": {"rt6": 1}}]},
            "speech.augmentations of classic, 0: options",
        ),
        (
            {"augmentations": {"rooms": [{"kind": "reverb", "options": {"rt6": 1}}]}},
            "augmentations of classic-rooms, 0",
        ),
        ({"augmentations": {"rooms": []}}, "name its `augmentations`"),
        ({"metric": {"word": "uar"}}, "did you mean `words`"),
        ({"recognisers": ["whisper"]}, "audio_classifiers.whisper.options.pool` must be `window`"),
        ({"recognisers": ["ssast"]}, "audio_classifiers.ssast.options.padding` must be `silence`"),
        ({"augmentations": [{"kind": "revrb"}]}, "did you mean `reverb`"),
        ({"recognisers": ["smal"]}, "did you mean `small`"),
        ({"test_backgrounds": ["rel"]}, "did you mean `real`"),
        ({"test_snr_db": [5, 0]}, "must ascend"),
        ({"snr_db": [30, 3]}, "least, most"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        plan(settings, **changes)


# Speakers


def test_who_speaks_in_the_test_leaves_the_other_parts() -> None:
    rows = [
        *(spoken(TRAIN, f"a{n}") for n in range(4)),
        spoken(TRAIN, "tested"), spoken(VALIDATION, "tested"), spoken(VALIDATION, "a1"), spoken(VALIDATION, "v"),
        spoken(TEST, "tested"), spoken(TEST, None), spoken(TRAIN, None),
    ]  # fmt: skip
    kept = part_speakers(rows, "official")
    assert Counter((row["role"], row["speaker_id"]) for row in kept) == Counter(
        [
            *((TRAIN, f"a{n}") for n in range(4)), (VALIDATION, "v"), (TEST, "tested"), (TEST, None), (TRAIN, None),
        ]
    )  # fmt: skip
    assert [row for row in rows if row["role"] == TEST] == [row for row in kept if row["role"] == TEST]


def test_a_split_that_parts_no_speakers_is_refused() -> None:
    rows = [spoken(role, f"s{n}") for role in (TRAIN, TEST) for n in range(4)]
    with pytest.raises(ValueError, match="4 of 4 training clips have a speaker who is tested"):
        part_speakers(rows, "fold1")
    rows = [
        *(spoken(TRAIN, f"a{n}") for n in range(9)),
        spoken(TRAIN, "t", class_id=1), spoken(TEST, "t", 1, class_id=1),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"no training clip of the classes \[1\] is left"):
        part_speakers(rows, "fold1")


def test_a_table_with_a_speaker_or_a_recording_on_both_sides_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partition.parquet"
    rows = [spoken(TRAIN, "a"), spoken(TEST, "a")]
    tables.write(path, SPEECH_PARTITION, rows)
    with pytest.raises(ValueError, match=r"1 speakers have clips in two roles.*`a`"):
        read_speech_partition(path, "official")
    rows = [spoken(TRAIN, "a") | {"recording_id": "r"}, spoken(TEST, "b") | {"recording_id": "r"}]
    tables.write(path, SPEECH_PARTITION, rows)
    with pytest.raises(ValueError, match="1 recordings have clips in two roles"):
        read_speech_partition(path, "official")


def test_the_bootstrap_draws_speakers_where_there_are_enough() -> None:
    many = [spoken(TEST, f"s{n % 8}", n) for n in range(16)]
    assert len(set(clusters(many).values())) == 8
    assert len(set(clusters(many[:7]).values())) == 7
    few = [spoken(TEST, "s0", n) for n in range(5)]
    assert len(set(clusters(few).values())) == 5
    # Clips of nobody (background noise as a class) are drawn each by itself, and change nothing for the others.
    silence = [spoken(TEST, None, n) for n in range(3)]
    assert len(set(clusters([*many, *silence]).values())) == 11
    assert clusters([*many, *silence])[many[0]["clip_id"]] == "s0"
    assert len(set(clusters([*few, *silence]).values())) == 8


# Backgrounds


def drawn(
    path: Path, store: Store, clips: Path, background: str = "real", made: Sequence[Path] = (), **more: Any
):
    wanted = Wanted(**({"clips_per_class": 4, "test_clips_per_class": 2} | more))
    draw_backgrounds(
        path, background=background, partition=store.partition, split="fold1", clips=clips, synthetic=made,
        wanted=wanted,
    )  # fmt: skip
    return tables.read(path, BACKGROUNDS).to_pylist()


def test_recordings_and_generated_clips_serve_in_equal_numbers(
    tmp_path: Path, store: Store, clips: Path
) -> None:
    made = synthetic(tmp_path / "made.parquet", dict.fromkeys(LABELS, 7), duration_s=0.5)
    real = drawn(tmp_path / "real.parquet", store, clips, max_duration_s=0.3)
    other = drawn(tmp_path / "other.parquet", store, clips, "tiny", [made], max_duration_s=0.3)
    expected = {(c, role): n for c in LABELS for role, n in ((TRAIN, 4), (TEST, 2))}
    for rows in (real, other):
        assert Counter((row["class_id"], row["role"]) for row in rows) == expected
        assert {row["duration_s"] for row in rows} == {0.3}
    role_of = {row["clip_id"]: row["role"] for row in store.rows}
    assert all(role_of[row["clip_id"]] == row["role"] for row in real)
    assert all(row["recording_id"] is None for row in other)


def test_draws_are_nested_and_follow_the_seed(tmp_path: Path, store: Store, clips: Path) -> None:
    made = [synthetic(tmp_path / "made.parquet", dict.fromkeys(LABELS, 9), duration_s=0.5)]

    def train(count: int, seed: int = 0) -> set[str]:
        rows = drawn(tmp_path / "b.parquet", store, clips, "tiny", made, clips_per_class=count, seed=seed)
        return {row["clip_id"] for row in rows if row["role"] == TRAIN}

    assert train(3) < train(6)
    assert train(3) != train(3, seed=1)


def test_classes_can_be_left_out(tmp_path: Path, store: Store, clips: Path) -> None:
    rows = drawn(tmp_path / "b.parquet", store, clips, exclude=["dog"])
    assert {row["label"] for row in rows} == {"bell", "rain"}
    with pytest.raises(
        ValueError, match="names `dok`, which is no class of the backgrounds; did you mean `dog`"
    ):
        drawn(tmp_path / "b.parquet", store, clips, exclude=["dok"])
    with pytest.raises(ValueError, match="leaves no class"):
        drawn(tmp_path / "b.parquet", store, clips, exclude=list(LABELS.values()))


def test_too_few_backgrounds_are_refused(tmp_path: Path, store: Store, clips: Path) -> None:
    with pytest.raises(ValueError, match=r"7 real backgrounds for the train part .*3 \(6\).*clips_per_class"):
        drawn(tmp_path / "b.parquet", store, clips, clips_per_class=7)
    with pytest.raises(ValueError, match=r"3 real backgrounds for the test part .*test_clips_per_class"):
        drawn(tmp_path / "b.parquet", store, clips, test_clips_per_class=3)
    made = [synthetic(tmp_path / "made.parquet", dict.fromkeys(LABELS, 5), duration_s=0.5)]
    with pytest.raises(ValueError, match=r"6 clips of `tiny` for training and test .*3 \(5\)"):
        drawn(tmp_path / "b.parquet", store, clips, "tiny", made)


def test_clips_that_were_made_from_tested_recordings_are_refused(
    tmp_path: Path, store: Store, clips: Path
) -> None:
    made = [
        synthetic(tmp_path / "made.parquet", dict.fromkeys(LABELS, 6), duration_s=0.5, sources=["9-bell"])
    ]
    with pytest.raises(ValueError, match="made from others than the split's training clips"):
        drawn(tmp_path / "b.parquet", store, clips, "tiny", made)


def test_clips_of_a_generator_that_learnt_from_another_split_are_refused(
    tmp_path: Path, store: Store, clips: Path
) -> None:
    made = synthetic(tmp_path / "made.parquet", dict.fromkeys(LABELS, 6), duration_s=0.5)
    rows = tables.read(made)
    for split, refused in (("fold1", False), ("fold2", True)):
        tables.write(made, SYNTHETIC_CLIPS, rows, {"wildcards": {"split": split}})
        if refused:
            with pytest.raises(ValueError, match="learnt from the training part of fold2"):
                drawn(tmp_path / "b.parquet", store, clips, "tiny", [made])
        else:
            assert drawn(tmp_path / "b.parquet", store, clips, "tiny", [made])


@pytest.mark.parametrize("key", ["clip_id", "recording_id"])
def test_a_background_on_both_sides_is_refused(tmp_path: Path, store: Store, clips: Path, key: str) -> None:
    path = tmp_path / "b.parquet"
    rows = drawn(path, store, clips)
    train = next(row for row in rows if row["role"] == TRAIN)
    test = next(row for row in rows if row["role"] == TEST)
    # Of another class, or the table itself would refuse it.
    rows.append(test | {"clip_id": "twin", "class_id": 8, key: train[key]})
    tables.write(path, BACKGROUNDS, rows)
    with pytest.raises(ValueError, match="serve both training and test"):
        read_backgrounds(path)


def test_a_long_clip_gives_its_loudest_stretch() -> None:
    samples = np.zeros(1000, dtype=np.float32)
    samples[500:600] = 0.5
    cut = loudest_stretch(samples, 100, 1000)
    assert len(cut) == 100 and np.abs(cut).min() == 0.5
    assert loudest_stretch(samples, 2000, 1000) is samples


def test_recordings_are_read_as_the_table_says(tmp_path: Path, store: Store, clips: Path) -> None:
    rows = drawn(tmp_path / "b.parquet", store, clips, max_duration_s=0.3)
    names, waveforms = read_recordings(tmp_path / "b.parquet", TRAIN, store.shards, 4_000)
    assert names == [row["clip_id"] for row in rows if row["role"] == TRAIN]
    assert {len(samples) for samples in waveforms} == {1200}
    assert all(samples.dtype == torch.float32 for samples in waveforms)


# Training and recognition


def train(folder: Path, store: Store, partition: Path, arm: str, **more: Any) -> Path:
    train_speech(
        folder / "models", folder / "history.parquet", arm=arm, audio=store.shards, partition=partition, split="fold1",
        classifier=SmallCNN, options=OPTIONS, seeds=[0, 1], **more,
    )  # fmt: skip
    return folder / "models"


def recognise(
    folder: Path, models: Path, store: Store, partition: Path, table: Path, arm: str
) -> tuple[Path, Path]:
    clean, noisy = folder / "clean.parquet", folder / "noisy.parquet"
    recognise_speech(
        clean, noisy, models=models, kind=SmallCNN, options=OPTIONS, seeds=[0, 1], audio=store.shards,
        partition=partition, backgrounds={"real": MixedIn(table, store.shards)}, ratios_db=[0.0, 20.0], draw_seed=0,
        labels={"dataset": "toy", "split": "fold1", "method": arm}, recogniser="cnn",
    )  # fmt: skip
    return clean, noisy


def test_an_arm_is_trained_and_recognises_every_test_clip_in_every_condition(
    tmp_path: Path, store: Store, clips: Path, partition: Path
) -> None:
    table = tmp_path / "b.parquet"
    drawn(table, store, clips)
    mixed = MixedIn(table, store.shards)
    models = train(
        tmp_path / "real",
        store,
        partition,
        "real",
        backgrounds=mixed,
        mixing=BackgroundOptions(),
        checkpoints=tmp_path,
    )
    again = train(tmp_path / "again", store, partition, "real", backgrounds=mixed, mixing=BackgroundOptions())
    plain = train(tmp_path / "none", store, partition, "none")
    rounds = [tables.read(tmp_path / arm / "history.parquet", HISTORY) for arm in ("real", "again", "none")]
    assert rounds[0].equals(rounds[1]) and not rounds[0].equals(rounds[2])
    assert len(rounds[0]) == len(rounds[2])
    for seed in (0, 1):
        name = f"seed={seed}.safetensors"
        assert (models / name).read_bytes() == (again / name).read_bytes() != (plain / name).read_bytes()
    clean, noisy = recognise(tmp_path, models, store, partition, table, "real")
    tested = {row["clip_id"] for row in store.rows if row["role"] == TEST}
    for path, variants in (
        (clean, {"cnn/clean"}),
        (noisy, {"cnn/real/0dB", "cnn/real/20dB"}),
    ):
        rows = tables.read(path, PREDICTIONS).to_pylist()
        assert Counter((row["variant"], row["seed"]) for row in rows) == {
            (name, seed): len(tested) for name in variants for seed in (0, 1)
        }
        assert {row["clip_id"] for row in rows} == tested
    margins = {
        name: [row["margin"] for row in tables.read(noisy, PREDICTIONS).to_pylist() if row["variant"] == name]
        for name in ("cnn/real/0dB", "cnn/real/20dB")
    }
    assert margins["cnn/real/0dB"] != margins["cnn/real/20dB"]


def test_classic_augmentation_is_an_arm_of_its_own(tmp_path: Path, store: Store, partition: Path) -> None:
    room = Reverb(ReverbOptions(probability=1.0, sample_rate_hz=4_000))
    models = train(tmp_path / "c", store, partition, "classic", augmentations=Augmentations.of([room]))
    plain = train(tmp_path / "n", store, partition, "none")
    name = "seed=0.safetensors"
    assert (models / name).read_bytes() != (plain / name).read_bytes()
    with pytest.raises(ValueError, match="arm `classic-rooms` has no augmentations"):
        train(tmp_path / "e", store, partition, "classic-rooms")
    with pytest.raises(ValueError, match=r"Reverb is for 16000 Hz, .* hears 4000 Hz.*sample_rate_hz: 4000"):
        train(tmp_path / "r", store, partition, "classic", augmentations=Augmentations.of([Reverb()]))


def test_a_speaker_on_both_sides_stops_training_and_test(
    tmp_path: Path, store: Store, clips: Path, partition: Path
) -> None:
    rows = tables.read(partition, SPEECH_PARTITION).to_pylist()
    for row in rows:
        row["speaker_id"] = "s9"
    leaking = tmp_path / "partition.parquet"
    tables.write(leaking, SPEECH_PARTITION, rows)
    with pytest.raises(ValueError, match="speakers have clips in two roles"):
        train(tmp_path / "x", store, leaking, "none")
    drawn(tmp_path / "b.parquet", store, clips)
    models = train(tmp_path / "y", store, partition, "none")
    with pytest.raises(ValueError, match="speakers have clips in two roles"):
        recognise(tmp_path, models, store, leaking, tmp_path / "b.parquet", "none")


def test_a_background_goes_on_where_a_short_clip_has_ended() -> None:
    clips = LabelledClips(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64), ["a", "b"], 100)
    assert fill_window(clips, 5).waveforms.tolist() == [[1, 1, 1, 0, 0]] * 2
    assert fill_window(clips, 2) is clips
    assert replace(clips).waveforms.shape == (2, 3)


# Scores


def fold_rows(fold: int) -> list[dict[str, Any]]:
    """Four speakers say three classes twice each; those of the fold are tested."""
    return [
        {
            "clip_id": f"{speaker}-{class_id}-{take}", "class_id": class_id,
            "recording_id": f"{speaker}-{class_id}-{take}", "speaker_id": f"s{speaker}",
            "role": TEST if speaker % 2 == fold else TRAIN,
        }
        for speaker in range(8) for class_id in range(3) for take in range(2)
    ]  # fmt: skip


def answers(
    path: Path, split: str, rows: Sequence[Mapping[str, Any]], arm: str, variants: Sequence[str], wrong: float
) -> Path:
    """Predictions of two seeds, some of them wrong, the same ones wrong in every variant."""
    tested = [row for row in rows if row["role"] == TEST]
    said = []
    for name in variants:
        for seed in range(2):
            generator = np.random.default_rng([seed, len(name)])
            for row in tested:
                miss = generator.uniform() < wrong
                said.append(
                    {
                        "dataset": "toy", "split": split, "method": arm, "variant": name, "setting": "closed",
                        "seed": seed, "clip_id": row["clip_id"], "role": TEST, "class_id": row["class_id"],
                        "predicted_class_id": (row["class_id"] + miss) % 3, "margin": 1.0,
                    }
                )  # fmt: skip
    tables.write(path, PREDICTIONS, said)
    return path


VARIANTS = [variant("cnn", Condition("real", ratio)) for ratio in (0.0, 20.0)]


@pytest.fixture
def compared(
    tmp_path: Path, store: Store, clips: Path
) -> tuple[list[dict], list[dict], list[dict], list[Path]]:
    """Scores, curves and what was kept apart, of two folds with two arms; and the predictions."""
    files, partitions = [], {}
    for number, split in enumerate(FOLDS):
        rows = fold_rows(number)
        partitions[split] = tmp_path / f"{split}.parquet"
        tables.write(partitions[split], SPEECH_PARTITION, rows)
        for arm, wrong in (("none", 0.5), ("real", 0.2), ("tiny", 0.3)):
            files.append(
                answers(tmp_path / f"{split}-{arm}-c.parquet", split, rows, arm, ["cnn/clean"], wrong / 2)
            )
            files.append(answers(tmp_path / f"{split}-{arm}-n.parquet", split, rows, arm, VARIANTS, wrong))
    drawn(tmp_path / "b.parquet", store, clips)
    out = [tmp_path / f"{name}.parquet" for name in ("speech", "curves", "apart")]
    compare_speech(
        *out, predictions=files, partitions=partitions, backgrounds={"real": tmp_path / "b.parquet"},
        background_split="fold1", draws=200, seed=0,
    )  # fmt: skip
    kinds = (SCORES, SPEECH_SCORES, KEPT_APART)
    scores, curves, apart = (
        tables.read(path, kind).to_pylist() for path, kind in zip(out, kinds, strict=True)
    )
    return scores, curves, apart, files


def test_scores_of_a_fold_are_those_of_scikit_learn(compared: Any) -> None:
    scores, _, _, files = compared
    rows = [r for r in tables.read(files[1], PREDICTIONS).to_pylist() if r["variant"] == VARIANTS[0]]
    expected = {"accuracy": [], "uar": [], "f1_weighted": []}
    for seed in range(2):
        truth, said = zip(
            *[(r["class_id"], r["predicted_class_id"]) for r in rows if r["seed"] == seed], strict=True
        )
        expected["accuracy"].append(np.mean(np.equal(truth, said)))
        expected["uar"].append(balanced_accuracy_score(truth, said))
        expected["f1_weighted"].append(f1_score(truth, said, average="weighted"))
    for metric, values in expected.items():
        found = [
            r for r in scores
            if (r["split"], r["method"], r["variant"], r["metric"]) == ("fold1", "none", VARIANTS[0], metric)
        ]  # fmt: skip
        by_seed = {r["seed"]: r["value"] for r in found}
        assert [by_seed[0], by_seed[1]] == pytest.approx(values)
        assert by_seed[None] == pytest.approx(np.mean(values))
        (whole,) = [r for r in found if r["seed"] is None]
        assert whole["low"] <= whole["value"] <= whole["high"]


def test_folds_are_measured_together_by_speaker(compared: Any) -> None:
    scores, _, _, files = compared
    value = {
        (r["split"], r["method"], r["variant"], r["metric"]): r
        for r in scores
        if r["seed"] is None and r["class_id"] is None
    }
    rows = [
        r for path in files for r in tables.read(path, PREDICTIONS).to_pylist()
        if r["method"] == "none" and r["variant"] == VARIANTS[0]
    ]  # fmt: skip
    whole = value["mean", "none", VARIANTS[0], "accuracy"]
    assert whole["value"] == pytest.approx(np.mean([r["class_id"] == r["predicted_class_id"] for r in rows]))
    assert whole["n"] == 48
    # Of one fold four speakers are tested, too few to draw: recordings are, 24 of them.
    assert value["fold1", "none", VARIANTS[0], "accuracy"]["n"] == 24
    # Speakers answer alike here as little as clips do, so neither interval is a point.
    assert whole["low"] < whole["value"] < whole["high"]


def test_the_mean_over_ratios_answers_the_question(compared: Any) -> None:
    scores, curves, _, _ = compared
    value = {
        (r["split"], r["method"], r["variant"], r["metric"]): r["value"]
        for r in scores
        if r["seed"] is None and r["class_id"] is None
    }
    for split in (*FOLDS, "mean"):
        for arm in ("none", "real", "tiny"):
            both = np.mean([value[split, arm, name, "uar"] for name in VARIANTS])
            assert value[split, arm, "cnn/real/mean", "uar"] == pytest.approx(both)
        gain = (
            value[split, "tiny", "cnn/real/mean", "accuracy"]
            - value[split, "none", "cnn/real/mean", "accuracy"]
        )
        assert value[split, "tiny", "cnn/real/mean", "gain_over_none"] == pytest.approx(gain)
        to_real = value[split, "tiny", "cnn/real/mean", "difference_to_real"]
        assert to_real == pytest.approx(
            value[split, "tiny", "cnn/real/mean", "accuracy"]
            - value[split, "real", "cnn/real/mean", "accuracy"]
        )
        assert 0 <= value[split, "tiny", "cnn/real/mean", "p_uar_difference_to_real"] <= 1
    assert {r["variant"] for r in scores if r["metric"] == "gain_over_none"} == {"cnn/real/mean"}
    assert {r["method"] for r in scores if not r["variant"]} == {"chance", "majority"}
    same = {
        (r["split"], r["arm"], r["background"], r["snr_db"]): r["value"]
        for r in curves
        if r["metric"] == "uar" and r["seed"] is None
    }
    assert same["fold1", "real", "real", 20.0] == value["fold1", "real", VARIANTS[1], "uar"]
    assert same["fold1", "real", None, None] == value["fold1", "real", "cnn/clean", "uar"]


def test_what_was_kept_apart_is_counted(compared: Any) -> None:
    _, _, apart, _ = compared
    found = {(r["split"], r["what"], r["background"]): r for r in apart}
    assert (found["fold1", "speakers", None]["train"], found["fold1", "speakers", None]["test"]) == (4, 4)
    recordings = found["fold1", "background recordings", "real"]
    assert (recordings["train"], recordings["test"], recordings["shared"]) == (12, 6, 0)
    assert recordings["seconds"] > 0


def test_the_page_answers_the_question(compared: Any, tmp_path: Path) -> None:
    scores, _, _, _ = compared
    book = ScoreBook(tmp_path / "speech.parquet", ["tiny", "none", "real"], ["toy"])
    value = {
        (r["method"], r["variant"], r["metric"]): r
        for r in scores
        if r["split"] == "mean" and r["seed"] is None and r["class_id"] is None
    }
    (verdict,) = verdicts(book)
    (finding,) = verdict.findings
    row = value["tiny", "cnn/real/mean", "gain_over_none"]
    assert (finding.system.method, finding.baseline, finding.gain.value) == ("tiny", "none", row["value"])
    to_real = value["tiny", "cnn/real/mean", "difference_to_real"]
    assert finding.to_rival is not None and finding.to_rival.value == to_real["value"] < 0
    told = {"less": "worse than real ones", "unclear": "No difference to real ones was shown"}[
        finding.rivalry
    ]
    p = value["tiny", "cnn/real/mean", "p_difference_to_real"]["value"]
    sure = to_real["high"] < 0 and p <= 0.05
    assert finding.rivalry == ("less" if sure else "unclear") and told in verdict.rivalry
    assert finding.rival_p == p
    assert finding.p == value["tiny", "cnn/real/mean", "p_difference_to_none"]["value"]
    assert [control.system.method for control in verdict.controls] == ["real"]
    section = speech(
        book,
        SpeechTables(kept_apart=[tmp_path / "apart.parquet"], backgrounds=[tmp_path / "b.parquet"]),
        {"toy": {0: "yes", 1: "no", 2: "stop"}},
    )
    assert section is not None
    (panel,) = section.panels
    (_, sentence), *_ = panel.sentences
    assert f"tiny {points(row['value'])} points over none" in sentence
    assert f"{points(to_real['value'])} points" in sentence
    # Accuracy and UAR in recorded noise: three arms and chance.
    assert len(panel.figures) == 2
    for arm in ("none", "real", "tiny", "chance", ">clean<", ">20<"):
        assert arm in panel.figures[0]
    (summary,) = panel.tables
    assert [row.head for row in summary.rows] == [
        (arm, heard) for heard in ("held-out recordings", "clean") for arm in ("none", "real", "tiny")
    ]
    titles = [table.title for table in panel.details]
    assert any(title.startswith("Recall of each class") for title in titles) and "Backgrounds" in titles
    recall = next(t for t in panel.details if t.title.startswith("Recall"))
    assert [row.head for row in recall.rows] == [("yes", "16"), ("no", "16"), ("stop", "16")]
    apart = next(t for t in panel.details if t.title.startswith("What was kept apart"))
    assert ("speakers", "fold1", "4", "0", "4", "0") in [row.head for row in apart.rows]


def test_a_gain_in_a_few_folds_is_not_called_one(tmp_path: Path) -> None:
    """One of three folds gains, which an interval over clips takes for sure; the p over folds does not."""
    rows, labels = [], {"study": "speech", "dataset": "toy", "split": "mean", "variant": "cnn/real/mean"}
    for metric, value, span in (
        ("gain_over_none", 0.1, (0.053, 0.153)), ("p_difference_to_none", 0.48, None), ("accuracy", 0.7, (0.6, 0.8)),
    ):  # fmt: skip
        low, high = span or (None, None)
        rows.append(
            {**labels, "method": "tiny", "metric": metric, "value": value, "low": low, "high": high, "n": 9}
        )
    tables.write(tmp_path / "scores.parquet", SCORES, rows)
    (verdict,) = verdicts(ScoreBook(tmp_path / "scores.parquet", ["tiny"], ["toy"]))
    assert verdict.findings[0].outcome == "unclear" and verdict.summary == "has no clear effect"
    rows[1]["value"] = 0.03
    tables.write(tmp_path / "scores.parquet", SCORES, rows)
    (verdict,) = verdicts(ScoreBook(tmp_path / "scores.parquet", ["tiny"], ["toy"]))
    assert verdict.findings[0].outcome == "helps"


def test_the_verdict_can_be_about_uar(tmp_path: Path, store: Store, clips: Path) -> None:
    rows = fold_rows(0)
    tables.write(tmp_path / "p.parquet", SPEECH_PARTITION, rows)
    drawn(tmp_path / "b.parquet", store, clips)
    files = [
        answers(tmp_path / f"{arm}.parquet", "fold1", rows, arm, VARIANTS, wrong)
        for arm, wrong in (("none", 0.5), ("real", 0.2), ("classic-rooms", 0.4), ("tiny", 0.3))
    ]
    compare_speech(
        tmp_path / "s.parquet", tmp_path / "c.parquet", tmp_path / "a.parquet", predictions=files,
        partitions={"fold1": tmp_path / "p.parquet"}, backgrounds={"real": tmp_path / "b.parquet"},
        background_split="fold1", draws=100, seed=0, quantity="uar",
    )  # fmt: skip
    found = {
        (r["method"], r["metric"]): r["value"] for r in tables.read(tmp_path / "s.parquet").to_pylist()
        if r["variant"] == "cnn/real/mean" and r["seed"] is None and r["class_id"] is None
    }  # fmt: skip
    book = ScoreBook(tmp_path / "s.parquet", ["tiny", "none", "real"], ["toy"])
    (verdict,) = verdicts(book)
    (finding,) = verdict.findings
    assert finding.gain.value == found["tiny", "uar_gain_over_none"]
    assert finding.gain.value == pytest.approx(found["tiny", "uar"] - found["none", "uar"])
    assert finding.before is not None and finding.before.value == found["none", "uar"]
    assert finding.to_rival is not None and finding.to_rival.value == found["tiny", "uar_difference_to_real"]
    assert finding.quantity.startswith("UAR (mean recall of the classes) in noise")
    assert sorted(c.system.method for c in verdict.controls) == ["classic-rooms", "real"]


def test_predictions_that_cannot_be_compared_are_refused(tmp_path: Path, store: Store, clips: Path) -> None:
    rows = fold_rows(0)
    tables.write(tmp_path / "p.parquet", SPEECH_PARTITION, rows)
    drawn(tmp_path / "b.parquet", store, clips)

    def compare(*files: Path) -> None:
        compare_speech(
            *(tmp_path / f"{n}.parquet" for n in "xyz"), predictions=files,
            partitions={"fold1": tmp_path / "p.parquet"},
            backgrounds={"real": tmp_path / "b.parquet"}, background_split="fold1", draws=100, seed=0,
        )  # fmt: skip

    real = answers(tmp_path / "r.parquet", "fold1", rows, "real", VARIANTS, 0.1)
    with pytest.raises(ValueError, match="has no arm `none` to be measured against"):
        compare(real)
    with pytest.raises(ValueError, match="is in another file"):
        compare(real, real)
    with pytest.raises(ValueError, match="answers for other clips"):
        compare(answers(tmp_path / "o.parquet", "fold1", rows[6:], "none", VARIANTS, 0.1))
    with pytest.raises(ValueError, match="has no partition here"):
        compare(answers(tmp_path / "s.parquet", "fold9", rows, "none", VARIANTS, 0.1))


def test_the_headline_is_noise_that_was_recorded() -> None:
    systems = [
        System("none", variant(name, condition))
        for name in ("cnn", "whisper")
        for condition in (Condition(), Condition("tiny"), Condition("real", 0.0), Condition("real"))
    ]
    assert headline(systems) == {"cnn/real/mean", "whisper/real/mean"}
    assert headline([s for s in systems if "real" not in s.variant]) == {"cnn/tiny/mean", "whisper/tiny/mean"}


def test_the_parts_of_a_split_become_those_of_its_speakers(partition: Path, store: Store) -> None:
    rows = read_speech_partition(partition, "fold1")
    before = tables.read(store.partition, AUDIO_PARTITION).to_pylist()
    assert {r["clip_id"]: r["role"] for r in rows} == {r["clip_id"]: r["role"] for r in before}
    assert {r["speaker_id"] for r in rows if r["role"] == TEST} == {"s8", "s9"}
