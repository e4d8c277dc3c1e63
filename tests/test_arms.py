"""The arms of the interpolation study: what each learns from, what it writes, and what is measured of it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from sklearn.metrics import f1_score, recall_score
from torch.optim.optimizer import register_optimizer_step_post_hook

from foley import tables
from foley.augment.pitch_time import TimeStretch, TimeStretchOptions
from foley.augment.protocol import Augmentations
from foley.augment.spec_augment import SpecAugment, SpecAugmentOptions
from foley.classifiers import audio_protocol
from foley.classifiers.audio_protocol import LabelledClips
from foley.classifiers.cnn import LogMelCNN, LogMelCNNOptions
from foley.metrics.paired import bootstrap_p, corrected_t_test, holm
from foley.report.scores import ScoreBook
from foley.report.verdict import verdicts
from foley.report.who_wins import who_wins
from foley.runtime.seeds import derive
from foley.studies.audio.arms import (
    Sources,
    build_arm,
    model_file,
    model_files,
    train_arm,
)
from foley.studies.audio.clips import read_waveforms
from foley.studies.audio.compare_arms import compare_arms, f1_scores, read_closed
from foley.studies.audio.training import best_two, label_clips
from foley.tables.audio_studies import AUDIO_PARTITION
from foley.tables.features import HISTORY
from foley.tables.scores import PREDICTIONS, SCORES
from foley.training.checkpoint import Checkpoint
from toy_store import LABELS, STORED_HZ, Store, flac, make_store, sound, synthetic

RATE = 4_000
OPTIONS = LogMelCNNOptions(
    steps=12, batch_size=8, validate_every_steps=5, sample_rate_hz=RATE, window_s=0.25, n_fft=128, hop_length=64,
    n_mels=16, channels=(4, 6), hidden=8, f_max_hz=2000.0, precision="float32", block_dropout=0.1, head_dropout=0.1,
)  # fmt: skip
STRETCH = Augmentations.of([TimeStretch(TimeStretchOptions(rates=(1.5,), probability=1.0))])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


def build(arm: str, store: Store, tables_of: Sequence[Path] = (), **changed: Any) -> LabelledClips:
    settings = {"added_per_class": 9, "seed": 0, "sample_rate_hz": RATE} | changed
    return build_arm(arm, Sources(store.shards, store.rows, tables_of), **settings)


# Clips


def test_waveforms_are_ordered_resampled_and_cut(store: Store) -> None:
    keep = ["9-dog", "0-bell", "5-rain"]
    ids, waveforms = read_waveforms(store.shards[::-1], keep, RATE)
    assert ids == sorted(keep)
    for clip_id, found in zip(ids, waveforms, strict=True):
        expected = soxr.resample(store.waveforms[clip_id], STORED_HZ, RATE, quality="HQ")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
    cut = read_waveforms(store.shards, keep, RATE, max_samples=1700)[1]
    assert [len(w) for w in cut] == [1600, 1700, 1700]
    assert all(np.array_equal(w, v[:1700]) for w, v in zip(cut, waveforms, strict=True))
    assert cut[1].base is None  # else all of the clip would stay in memory
    assert len(read_waveforms(store.shards, None, STORED_HZ)[0]) == 30


def test_clips_that_are_missing_or_doubled_are_named(store: Store) -> None:
    with pytest.raises(ValueError, match=r"2 clips have no audio in .*: `x-1`, `x-2`; ingest them again"):
        read_waveforms(store.shards, ["0-bell", "x-2", "x-1"], RATE)
    with pytest.raises(ValueError, match=r"shard=0.parquet: clip `.*` is in another table, too"):
        read_waveforms([store.shards[0], store.shards[0]], None, RATE)
    with pytest.raises(ValueError, match="no clips to learn from"):
        label_clips([], [], {}, [3, 7], RATE)
    with pytest.raises(ValueError, match="classes that the study does not have: `a`"):
        label_clips(["a"], [np.zeros(5, np.float32)], {"a": 4}, [3, 7], RATE)


def test_labels_are_places_among_the_class_ids() -> None:
    waveforms = [np.full(n, 0.1 * n, np.float32) for n in (3, 1, 2)]
    clips = label_clips(["a", "b", "c"], waveforms, {"a": 8, "b": 3, "c": 7}, [3, 7, 8], RATE)
    assert clips.labels.tolist() == [2, 0, 1] and not waveforms
    expected = torch.tensor([[0.3, 0.3, 0.3], [0.1, 0, 0], [0.2, 0.2, 0]])
    assert torch.equal(clips.waveforms, expected)


# What each arm learns from


def test_real_and_classic_arms_hold_the_training_clips(store: Store) -> None:
    real, classic = build("real", store), build("classic", store)
    assert real.clip_ids == sorted(row["clip_id"] for row in store.rows if row["role"] == "train")
    number = {class_id: place for place, class_id in enumerate(sorted(LABELS))}
    assert real.labels.tolist() == [number[store.class_of[c]] for c in real.clip_ids]
    assert classic.clip_ids == real.clip_ids and torch.equal(classic.waveforms, real.waveforms)


def test_duplicates_are_drawn_evenly_from_each_class(store: Store) -> None:
    real, clips = build("real", store), build("duplicates", store)
    assert clips.clip_ids[: len(real)] == real.clip_ids and torch.equal(
        clips.waveforms[: len(real)], real.waveforms
    )
    place = {clip_id: row for row, clip_id in enumerate(real.clip_ids)}
    copies: Counter[str] = Counter()
    for row, clip_id in enumerate(clips.clip_ids[len(real) :], start=len(real)):
        original, _, number = clip_id.rpartition("#")
        copies[original] += 1
        assert int(number) >= 2
        assert torch.equal(clips.waveforms[row], clips.waveforms[place[original]])
        assert clips.labels[row] == clips.labels[place[original]]
    # Six clips of a class have nine copies.
    assert sorted(copies.values()) == [1] * 9 + [2] * 9
    assert Counter(clips.labels.tolist()) == {0: 15, 1: 15, 2: 15}
    assert (
        build("duplicates", store).clip_ids == clips.clip_ids != build("duplicates", store, seed=1).clip_ids
    )
    few = build("duplicates", store, added_per_class=2)
    assert sum("#" in clip_id for clip_id in few.clip_ids) == 6 and not any("#3" in c for c in few.clip_ids)


def test_synthetic_arms_add_the_same_number_of_each_class(store: Store, tmp_path: Path) -> None:
    shards = [
        synthetic(tmp_path / "a.parquet", {3: 9, 7: 12}),
        synthetic(tmp_path / "b.parquet", {8: 20}),
    ]
    real, clips = build("real", store), build("sampled", store, shards)
    assert clips.clip_ids[: len(real)] == real.clip_ids
    added = clips.clip_ids[len(real) :]
    assert added == sorted(added) and Counter(c.split("-")[1] for c in added) == {"3": 9, "7": 9, "8": 9}
    assert build("sampled", store, shards[::-1]).clip_ids == clips.clip_ids
    assert build("sampled", store, shards, seed=1).clip_ids != clips.clip_ids
    between = synthetic(
        tmp_path / "c.parquet", {3: 9, 7: 9, 8: 9}, method="interpolated", sources=["0-bell", "1-bell"]
    )
    assert Counter(build("interpolated", store, [between]).labels.tolist()) == {0: 15, 1: 15, 2: 15}


def test_unfit_synthetic_clips_are_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "made.parquet"
    even = {3: 9, 7: 9, 8: 9}
    with pytest.raises(ValueError, match="unknown arm `mixed`; there are real, duplicates, classic"):
        build("mixed", store)
    with pytest.raises(ValueError, match="arm `sampled` needs synthetic clips"):
        build("sampled", store)
    with pytest.raises(ValueError, match="arm `duplicates` adds at least 1 clip to each class, not 0"):
        build("duplicates", store, added_per_class=0)
    with pytest.raises(ValueError, match=r"adds 9 clips .* have fewer: 7 \(8\), 8 \(0\); generate more"):
        build("sampled", store, [synthetic(path, {3: 9, 7: 8})])
    with pytest.raises(ValueError, match=r"classes that the split does not have: `cat` \(5\)"):
        build("sampled", store, [synthetic(path, even | {5: 1})])
    with pytest.raises(ValueError, match="clips that were sampled, which are not for the arm `interpolated`"):
        build("interpolated", store, [synthetic(path, even)])
    # Made from a clip that is tested.
    leak = synthetic(path, even, method="interpolated", sources=["0-bell", "9-bell"])
    with pytest.raises(
        ValueError, match=r"others than the split's training clips: `made-3-0`, .* and 19 more"
    ):
        build("interpolated", store, [leak])


def test_short_synthetic_clips_are_warned_of(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = [synthetic(tmp_path / "made.parquet", {3: 1, 7: 1, 8: 1}, audio=flac(sound(3, 0, 0.2)))]
    with caplog.at_level(logging.WARNING):
        build("sampled", store, made, added_per_class=1)
    assert "last 0.20 s at most, of real ones the classifier hears 0.45 s" in caplog.text
    caplog.clear()
    build("sampled", store, made, added_per_class=1, max_samples=700)
    assert not caplog.records


# Training


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """Optimiser steps that are taken meanwhile."""
    taken = [0]

    def count(*_: Any) -> None:
        taken[0] += 1

    hook = register_optimizer_step_post_hook(count)
    try:
        yield taken
    finally:
        hook.remove()


def train(folder: Path, store: Store, arm: str, **changed: Any) -> None:
    settings = {
        "audio": store.shards, "partition": store.partition, "added_per_class": 9, "classifier": LogMelCNN,
        "options": OPTIONS, "seeds": [0, 3], "draw_seed": 0,
        "labels": {"dataset": "toy", "split": "fold1", "method": arm, "variant": "cnn"},
    } | changed  # fmt: skip
    paths = folder / "predictions.parquet", folder / "models", folder / "history.parquet"
    train_arm(*paths, arm=arm, **settings)


def test_an_arm_writes_answers_models_and_history(store: Store, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "seed=9.safetensors").touch()  # of an earlier run with other seeds
    train(tmp_path, store, "real", options=replace(OPTIONS, steps=40, learning_rate=0.02))
    rows = tables.read(tmp_path / "predictions.parquet", PREDICTIONS).to_pylist()
    tested = [row["clip_id"] for row in store.rows if row["role"] == "test"]
    assert [row["clip_id"] for row in rows] == tested * 2
    assert {(row["setting"], row["role"], row["method"], row["variant"]) for row in rows} == {
        ("closed", "test", "real", "cnn")
    }
    files = model_files(tmp_path / "models")
    assert list(files) == [0, 3] and files[3] == model_file(tmp_path / "models", 3)
    ids, waveforms = read_waveforms(store.shards, tested, RATE)
    clips = label_clips(ids, waveforms, store.class_of, sorted(LABELS), RATE)
    for row_range, (seed, file) in zip((slice(0, 6), slice(6, 12)), files.items(), strict=True):
        model = LogMelCNN(OPTIONS, 3, 77)
        model.load(file)
        scores = model.score(clips.waveforms, RATE).sort(dim=1, descending=True)
        for row, order, values in zip(rows[row_range], scores.indices, scores.values, strict=True):
            assert row["seed"] == seed and row["class_id"] == store.class_of[row["clip_id"]]
            assert row["predicted_class_id"] == sorted(LABELS)[order[0]]
            assert row["margin"] == pytest.approx(float(values[0] - values[1]), abs=1e-5)
    assert np.mean([row["predicted_class_id"] == row["class_id"] for row in rows]) > 0.6
    history = tables.read(tmp_path / "history.parquet", HISTORY).to_pylist()
    quantities = ("loss", "validation_loss", "validation_accuracy")
    assert {row["quantity"] for row in history} == {f"seed{s}_{q}" for s in (0, 3) for q in quantities}
    assert max(row["epoch"] for row in history) == 8
    with pytest.raises(ValueError, match="holds no trained classifiers"):
        model_files(tmp_path)


def test_the_arms_take_equal_steps_and_differ(store: Store, tmp_path: Path) -> None:
    even = {3: 9, 7: 9, 8: 9}
    made = {
        "sampled": [synthetic(tmp_path / "s.parquet", even)],
        "interpolated": [
            synthetic(tmp_path / "i.parquet", even, method="interpolated", sources=["0-bell", "1-bell"])
        ],
    }
    steps, weights = {}, {}
    for arm in ("real", "duplicates", "classic", "interpolated", "sampled"):
        folder = tmp_path / arm
        with counted_steps() as taken:
            train(folder, store, arm, synthetic=made.get(arm, []), augmentations=STRETCH, seeds=[1])
        steps[arm] = taken[0]
        weights[arm] = model_files(folder / "models")[1].read_bytes()
        history = tables.read(folder / "history.parquet", HISTORY)
        assert set(history["quantity"].to_pylist()) == {"loss", "validation_loss", "validation_accuracy"}
    assert set(steps.values()) == {12}
    # Interpolated and sampled clips hold the same sounds here; no other two arms learn from the same.
    assert weights["interpolated"] == weights["sampled"]
    assert len(set(weights.values())) == 4


def test_clips_are_cut_no_shorter_than_augmentation_reaches(store: Store, tmp_path: Path) -> None:
    train(tmp_path, store, "classic", augmentations=STRETCH, seeds=[2])
    whole = LogMelCNN(OPTIONS, 3, 2)
    whole.fit(build("real", store), augmentations=STRETCH)
    loaded = LogMelCNN(OPTIONS, 3, 0)
    loaded.load(model_file(tmp_path / "models", 2))
    for name, value in whole.trained.state_dict().items():
        assert torch.equal(value, loaded.trained.state_dict()[name]), name


def test_classic_needs_augmentations(store: Store, tmp_path: Path) -> None:
    for given in (None, Augmentations()):
        with pytest.raises(ValueError, match="arm `classic` has no augmentations, so it would repeat `real`"):
            train(tmp_path, store, "classic", augmentations=given)
    assert not list(tmp_path.iterdir())


class Interrupted(BaseException):
    """What a killed job looks like."""


def test_an_interrupted_arm_goes_on_to_the_same_result(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = Augmentations.of([SpecAugment(SpecAugmentOptions(time_width=4, frequency_width=4, time_warp=2))])
    settings = {"augmentations": masks, "checkpoints": tmp_path / "cache", "facts": {"rule": "train"}}
    train(tmp_path / "whole", store, "classic", augmentations=masks)
    real_fit = audio_protocol.fit
    # Checkpoints after each round, not every half a minute.
    monkeypatch.setattr(
        audio_protocol, "fit", lambda *a, **k: real_fit(*a, **(k | {"checkpoint_every_s": 0}))
    )
    save, saved = Checkpoint.save, []

    def save_and_die(self: Checkpoint, state: dict[str, Any]) -> None:
        save(self, state)
        saved.append(state["epochs_done"])
        if len(saved) == 5:  # in the second seed
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(Interrupted):
            train(tmp_path / "again", store, "classic", **settings)
    assert saved == [1, 2, 3, 1, 2] and not (tmp_path / "again").exists()
    left = set((tmp_path / "cache" / "checkpoints").iterdir())
    # Other clips to learn from are another training: it neither goes on from these, nor removes them.
    train(tmp_path / "copies", store, "duplicates", **settings)
    assert set((tmp_path / "cache" / "checkpoints").iterdir()) == left
    train(tmp_path / "fresh", store, "duplicates")
    with counted_steps() as taken:
        train(tmp_path / "again", store, "classic", **settings)
    assert taken == [2]  # of 2 x 12; the last round has two
    for one, other in (("whole", "again"), ("copies", "fresh")):
        for seed in (0, 3):
            a, b = (model_file(tmp_path / part / "models", seed).read_bytes() for part in (one, other))
            assert a == b
        for name, kind in (("history", HISTORY), ("predictions", PREDICTIONS)):
            x, y = (tables.read(tmp_path / part / f"{name}.parquet", kind) for part in (one, other))
            assert x.equals(y)
    assert not list((tmp_path / "cache" / "checkpoints").iterdir())


def test_best_two() -> None:
    said, margins = best_two(torch.tensor([[0.1, 0.7, 0.2], [-1.0, -3.0, -1.5]]))
    assert said.tolist() == [1, 0]
    np.testing.assert_allclose(margins, [0.5, 0.5])


# What is measured

SEEDS = (0, 1)
FOLDS = ("fold1", "fold2", "fold3")
ARMS = ("interpolated", "real", "sampled")
CLASS_IDS = (3, 7, 8)


@dataclass(frozen=True)
class Study:
    """Made-up answers [seeds, N] of three arms of a classifier, by (split, arm), and who is tested."""

    predictions: list[Path]
    partitions: dict[str, Path]
    said: dict[tuple[str, str], np.ndarray]
    truth: dict[str, np.ndarray]
    recordings: dict[str, np.ndarray]


def write_answers(
    path: Path, split: str, arm: str, ids: Sequence[str], truth: np.ndarray, said: np.ndarray, **more: Any
) -> Path:
    rows = [
        {
            "dataset": "toy", "split": split, "method": arm, "variant": "cnn", "setting": "closed", "seed": seed,
            "clip_id": clip_id, "role": "test", "class_id": int(t), "predicted_class_id": int(answer), "margin": 0.5,
        } | more
        for seed, answers in zip(SEEDS, said, strict=True)
        for clip_id, t, answer in zip(ids, truth, answers, strict=True)
    ]  # fmt: skip
    tables.write(path, PREDICTIONS, rows)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    generator = np.random.default_rng(0)
    right = {"real": 0.5, "interpolated": 0.7, "sampled": 0.45}
    made = Study([], {}, {}, {}, {})
    for split in (*FOLDS, "random"):
        n = 30
        truth = np.sort(generator.choice(CLASS_IDS, n, p=[0.5, 0.3, 0.2]))
        recordings = np.array([f"{split}-{t}-{number % 4}" for number, t in enumerate(truth)])
        ids = [f"{split}-{number:02d}" for number in range(n)]
        rows = [
            {"clip_id": c, "class_id": int(t), "recording_id": r, "role": "test"}
            for c, t, r in zip(ids, truth, recordings, strict=True)
        ]
        # The commonest class of the training clips is not that of the tested ones.
        rows += [
            {"clip_id": f"{split}-train-{k}", "class_id": 7 if k < 20 else CLASS_IDS[k % 3],
             "recording_id": f"{split}-train-{k}", "role": "train"}
            for k in range(40)
        ]  # fmt: skip
        made.partitions[split] = folder / f"{split}.parquet"
        tables.write(made.partitions[split], AUDIO_PARTITION, rows)
        made.truth[split], made.recordings[split] = truth, recordings
        for arm, share in right.items():
            luck = generator.random((len(SEEDS), n)) < share
            said = np.where(luck, truth, generator.choice(CLASS_IDS, (len(SEEDS), n)))
            made.said[split, arm] = said
            made.predictions.append(
                write_answers(folder / f"{split}-{arm}.parquet", split, arm, ids, truth, said)
            )
    return made


Scores = dict[tuple[Any, ...], dict[str, Any]]


def compare(folder: Path, study: Study, **changed: Any) -> Scores:
    """Score rows by (split, method, metric, class, seed)."""
    settings = {
        "predictions": study.predictions,
        "partitions": study.partitions,
        "draws": 400,
        "seed": 0,
    } | changed
    compare_arms(folder / "scores.parquet", **settings)
    rows = tables.read(folder / "scores.parquet", SCORES).to_pylist()
    assert {(row["study"], row["dataset"], row["fold"]) for row in rows} == {("interpolation", "toy", None)}
    return {(row["split"], row["method"], row["metric"], row["class_id"], row["seed"]): row for row in rows}


def draws_of(study: Study, split: str, count: int) -> np.ndarray:
    """How often each test clip is drawn [draws, N], recording by recording: the definition, written out."""
    unique, recording = np.unique(study.recordings[split], return_inverse=True)
    generator = np.random.default_rng(derive(0, "bootstrap", split, len(recording)))
    return generator.multinomial(len(unique), [1 / len(unique)] * len(unique), size=count)[:, recording]


def test_scores_of_a_split_are_those_of_scikit_learn(study: Study, tmp_path: Path) -> None:
    found = compare(tmp_path, study)
    for (split, arm), said in study.said.items():
        truth = study.truth[split]
        expected = {
            "accuracy": [np.mean(answers == truth) for answers in said],
            "accuracy_macro": [recall_score(truth, answers, average="macro") for answers in said],
            "f1_macro": [f1_score(truth, answers, average="macro") for answers in said],
        }
        for name, values in expected.items():
            row = found[split, arm, name, None, None]
            assert row["value"] == pytest.approx(np.mean(values)) and row["n"] == len(truth)
            assert row["low"] < row["value"] < row["high"]
            assert [found[split, arm, name, None, seed]["value"] for seed in SEEDS] == pytest.approx(values)
            spread = found[split, arm, f"{name}_seed_std", None, None]["value"]
            assert spread == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
        recalls = np.mean([recall_score(truth, a, average=None, labels=CLASS_IDS) for a in said], axis=0)
        for class_id, recall in zip(CLASS_IDS, recalls, strict=True):
            row = found[split, arm, "recall", class_id, None]
            assert row["value"] == pytest.approx(recall) and row["n"] == (truth == class_id).sum()
            precise = np.mean([np.mean(truth[a == class_id] == class_id) for a in said])
            assert found[split, arm, "precision", class_id, None]["value"] == pytest.approx(precise)


def test_gains_are_paired_and_their_intervals_drawn_over_recordings(study: Study, tmp_path: Path) -> None:
    found = compare(tmp_path, study)
    assert not [key for key in found if key[1] == "real" and key[2].startswith("gain_over")]
    means = {arm: [] for arm in ("interpolated", "sampled")}
    for split in FOLDS:
        weights, truth = draws_of(study, split, 400), study.truth[split]
        base = (study.said[split, "real"] == truth).mean(axis=0)
        for arm, drawn in means.items():
            gain = (study.said[split, arm] == truth).mean(axis=0) - base
            of_draws = (weights * gain).sum(axis=1) / weights.sum(axis=1)
            row = found[split, arm, "gain_over_real", None, None]
            assert row["value"] == pytest.approx(gain.mean())
            assert [row["low"], row["high"]] == pytest.approx(np.quantile(of_draws, [0.025, 0.975]))
            drawn.append((gain.mean(), of_draws))
            own = truth == 7
            row = found[split, arm, "gain_over_real", 7, None]
            assert row["value"] == pytest.approx(gain[own].mean()) and row["n"] == own.sum()
            present = weights[:, own].sum(axis=1) > 0
            of_class = (weights[:, own] * gain[own]).sum(axis=1)[present] / weights[:, own].sum(axis=1)[
                present
            ]
            assert [row["low"], row["high"]] == pytest.approx(np.quantile(of_class, [0.025, 0.975]))
    for arm, drawn in means.items():
        row = found["mean", arm, "gain_over_real", None, None]
        assert row["value"] == pytest.approx(np.mean([value for value, _ in drawn])) and row["n"] == 90
        whole = np.mean([of_draws for _, of_draws in drawn], axis=0)
        assert [row["low"], row["high"]] == pytest.approx(np.quantile(whole, [0.025, 0.975]))


def test_a_class_of_a_single_recording_has_no_interval(study: Study, tmp_path: Path) -> None:
    partitions = dict(study.partitions)
    rows = tables.read(partitions["fold2"], AUDIO_PARTITION).to_pylist()
    for row in rows:
        row["recording_id"] = "one" if (row["class_id"], row["role"]) == (8, "test") else row["recording_id"]
    partitions["fold2"] = tmp_path / "fold2.parquet"
    tables.write(partitions["fold2"], AUDIO_PARTITION, rows)
    single = {
        (split, class_id)
        for split in FOLDS
        for class_id in CLASS_IDS
        if (split, class_id) == ("fold2", 8)
        or len(np.unique(study.recordings[split][study.truth[split] == class_id])) == 1
    }
    # The mean over folds cannot know how much that recording is worth either.
    single |= {("mean", class_id) for _, class_id in single}
    assert ("fold2", 7) not in single and ("mean", 3) not in single
    before, found = compare(tmp_path, study), compare(tmp_path, study, partitions=partitions)
    for split in (*FOLDS, "mean"):
        for arm, name in (("real", "recall"), ("sampled", "recall"), ("sampled", "gain_over_real")):
            for class_id in CLASS_IDS:
                row = found[split, arm, name, class_id, None]
                assert (row["low"] is None) == (row["high"] is None) == ((split, class_id) in single)
                assert row["value"] == before[split, arm, name, class_id, None]["value"]
    assert found["fold2", "sampled", "gain_over_real", None, None]["low"] is not None
    # All test clips of one recording: nothing has an interval, and no difference is claimed.
    for row in rows:
        row["recording_id"] = "one" if row["role"] == "test" else row["recording_id"]
    tables.write(partitions["fold2"], AUDIO_PARTITION, rows)
    paths = [path for path in study.predictions if path.name.startswith("fold2")]
    found = compare(tmp_path, study, predictions=paths, partitions={"fold2": partitions["fold2"]})
    assert {row["low"] for row in found.values()} == {None}
    assert found["fold2", "real", "p_difference_to_interpolated", None, None]["value"] == 1


def test_arms_that_are_right_as_often_differ_by_nought(study: Study, tmp_path: Path) -> None:
    """By one clip more with a seed and one less with another: sums of floats would leave 1e-17."""
    truth = study.truth["fold1"]
    ids = [f"fold1-{number:02d}" for number in range(len(truth))]
    wrong = np.where(truth == 3, 7, 3)
    paths = []
    for arm, counts in (("real", (0, 5)), ("sampled", (2, 3))):
        said = np.stack([np.where(np.arange(len(truth)) < count, truth, wrong) for count in counts])
        assert (said == truth).sum() == 5
        paths.append(write_answers(tmp_path / f"{arm}.parquet", "fold1", arm, ids, truth, said))
    found = compare(tmp_path, study, predictions=paths, partitions={"fold1": study.partitions["fold1"]})
    for one, name in (("sampled", "difference_to_real"), ("real", "difference_to_sampled"),
                      ("sampled", "gain_over_real")):  # fmt: skip
        assert found["fold1", one, name, None, None]["value"] == 0.0


def test_f1_intervals_are_those_of_weighted_clips(study: Study, tmp_path: Path) -> None:
    row = compare(tmp_path, study, draws=40)["fold2", "sampled", "f1_macro", None, None]
    weights, truth = draws_of(study, "fold2", 40), study.truth["fold2"]
    of_draws = []
    for weight in weights:
        present = [c for c in CLASS_IDS if weight[truth == c].sum()]
        asked = {"labels": present, "average": "macro", "sample_weight": weight, "zero_division": 0}
        of_draws.append(np.mean([f1_score(truth, a, **asked) for a in study.said["fold2", "sampled"]]))
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(of_draws, [0.025, 0.975]))


def test_the_mean_is_over_folds_and_never_over_random(study: Study, tmp_path: Path) -> None:
    found = compare(tmp_path, study)
    for arm in ARMS:
        for name in ("accuracy", "accuracy_macro", "f1_macro"):
            for seed in (None, *SEEDS):
                folds = [found[fold, arm, name, None, seed]["value"] for fold in FOLDS]
                assert found["mean", arm, name, None, seed]["value"] == pytest.approx(np.mean(folds))
        for name in ("recall", "precision"):
            folds = [found[fold, arm, name, 8, None]["value"] for fold in FOLDS]
            row = found["mean", arm, name, 8, None]
            assert row["value"] == pytest.approx(np.mean(folds))
            assert row["n"] == sum((study.truth[fold] == 8).sum() for fold in FOLDS)
    # One fold has no mean, nor has an arm that lacks a fold.
    few = {split: study.partitions[split] for split in ("fold1", "random")}
    paths = [path for path in study.predictions if path.name.startswith(("fold1", "random"))]
    assert {key[0] for key in compare(tmp_path, study, predictions=paths, partitions=few)} == set(few)
    lacking = [path for path in study.predictions if path.name != "fold2-sampled.parquet"]
    found = compare(tmp_path, study, predictions=lacking)
    assert ("mean", "interpolated", "accuracy", None, None) in found
    assert not [key for key in found if key[:2] == ("mean", "sampled")]
    assert ("mean", "real", "difference_to_sampled", None, None) not in found


def test_all_pairs_are_compared_in_both_directions(study: Study, tmp_path: Path) -> None:
    found = compare(tmp_path, study)
    pairs = list(combinations(ARMS, 2))
    # 40 training recordings a fold.
    ratio = sum(len(set(study.recordings[fold])) for fold in FOLDS) / 120
    raw: dict[str, list[float]] = {"mean": [], "random": []}
    for one, other in pairs:
        values = []
        for split in (*FOLDS, "random"):
            accuracy = {a: found[split, a, "accuracy", None, None]["value"] for a in (one, other)}
            row = found[split, one, f"difference_to_{other}", None, None]
            back = found[split, other, f"difference_to_{one}", None, None]
            assert row["value"] == pytest.approx(accuracy[one] - accuracy[other])
            assert (back["value"], back["low"], back["high"]) == pytest.approx(
                (-row["value"], -row["high"], -row["low"])
            )
            values.append(row["value"])
        assert found["mean", one, f"difference_to_{other}", None, None]["value"] == pytest.approx(
            np.mean(values[:3])
        )
        raw["mean"].append(corrected_t_test(np.array(values[:3]), ratio))
        weights, truth = draws_of(study, "random", 400), study.truth["random"]
        gain = [(study.said["random", arm] == truth).mean(axis=0) for arm in (one, other)]
        raw["random"].append(bootstrap_p((weights * (gain[0] - gain[1])).sum(axis=1) / weights.sum(axis=1)))
    for split, p in raw.items():
        for (one, other), adjusted in zip(pairs, holm(np.array(p)), strict=True):
            for a, b in ((one, other), (other, one)):
                row = found[split, a, f"p_difference_to_{b}", None, None]
                assert row["value"] == pytest.approx(adjusted) and row["n"] == (3 if split == "mean" else 1)


def test_chance_and_majority(study: Study, tmp_path: Path) -> None:
    found = compare(tmp_path, study)
    shares = {split: np.mean(truth == 7) for split, truth in study.truth.items()}
    shares["mean"] = np.mean([shares[fold] for fold in FOLDS])
    for split, share in shares.items():
        assert found[split, "chance", "accuracy", None, None]["value"] == pytest.approx(1 / 3)
        assert found[split, "majority", "accuracy", None, None]["value"] == pytest.approx(share)
    assert found["mean", "majority", "accuracy", None, None]["n"] == 90


def test_the_page_finds_gains_and_pairs(study: Study, tmp_path: Path) -> None:
    compare(tmp_path, study)
    book = ScoreBook(tmp_path / "scores.parquet")
    findings = [finding for verdict in verdicts(book) for finding in verdict.findings]
    assert {f.system.method for f in findings} == {"interpolated", "sampled"}
    assert all(f.before is not None and f.after is not None and f.baseline == "real" for f in findings)
    section = who_wins(book)
    assert section is not None and section.panels


def test_a_class_that_is_never_said_has_no_precision() -> None:
    said, truth = np.array([[3, 3, 7, 3]]), np.array([3, 3, 7, 8])
    assert f1_scores(said, truth, np.array(CLASS_IDS)) == pytest.approx(np.array([[0.8, 1.0, 0.0]]))


def test_empty_precision_stays_empty_in_the_mean(study: Study, tmp_path: Path) -> None:
    paths = []
    for split in FOLDS:
        truth = study.truth[split]
        ids = [f"{split}-{number:02d}" for number in range(len(truth))]
        said = np.full((2, len(truth)), 7)
        if split == "fold2":
            said[:, truth == 3] = 3
        paths.append(write_answers(tmp_path / f"{split}.parquet", split, "real", ids, truth, said))
    found = compare(tmp_path, study, predictions=paths, partitions={s: study.partitions[s] for s in FOLDS})
    assert found["fold1", "real", "precision", 3, None]["value"] is None
    assert found["mean", "real", "precision", 3, None]["value"] == 1
    assert found["mean", "real", "precision", 8, None]["value"] is None


def test_answers_that_do_not_fit_are_refused(study: Study, tmp_path: Path) -> None:
    path, truth, said = tmp_path / "x.parquet", study.truth["fold1"], study.said["fold1", "real"]
    ids = [f"fold1-{number:02d}" for number in range(len(truth))]

    def refused(message: str, predictions: Sequence[Path], **changed: Any) -> None:
        with pytest.raises(ValueError, match=message):
            compare(tmp_path, study, predictions=predictions, **changed)

    def answers(**more: Any) -> list[Path]:
        return [
            write_answers(
                path, **({"split": "fold1", "arm": "real", "ids": ids, "truth": truth, "said": said} | more)
            )
        ]

    refused("is of split fold9, which has no partition", answers(split="fold9"))
    refused("answers for other clips than the test clips of split fold1", answers(ids=[*ids[1:], "other"]))
    refused("a second file of arm `real` of `cnn` in split fold1", [*study.predictions, *answers()])
    refused("arm `sampled` of `cnn` has no arm `real` to be measured against", answers(arm="sampled"))
    refused(
        r"must be of one dataset, not of \['other', 'toy'\]",
        [*answers(dataset="other", arm="x"), *study.predictions],
    )
    refused("holds no closed predictions", answers(setting="conventional"))
    refused(r"must be of one dataset, not of \[\]", [])
    one_seed = tables.read(study.predictions[0], PREDICTIONS).to_pylist()[:-1]
    tables.write(path, PREDICTIONS, one_seed)
    with pytest.raises(ValueError, match="its seeds answer for different clips"):
        read_closed(path)
    rest = [p for p in study.predictions if p.name != "fold1-real.parquet"]
    tables.write(path, PREDICTIONS, [
        row for row in tables.read(study.predictions[0], PREDICTIONS).to_pylist() if row["seed"] == 0
    ])  # fmt: skip
    refused("arm `real` of `cnn` has other seeds in one fold", [path, *rest])
