"""Upper references of the zero-shot study: what CLAP says, and what a classifier trained on real clips says."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from foley import tables
from foley.audio.decode import encode_flac, resample, to_pcm16
from foley.runtime.seeds import derive
from foley.studies.zero_shot.experiment import Experiment
from foley.studies.zero_shot.predictions import CONVENTIONAL, Predicted, read_predictions
from foley.studies.zero_shot.references import STRENGTHS, predict_by_clap, predict_by_oracle
from foley.tables.classes import CLASSES
from foley.tables.clips import AUDIO
from foley.tables.scores import PREDICTIONS
from foley.tables.zero_shot import PARTITION
from tiny_clap import write_tiny_clap

LABELS = {"dataset": "toy", "split": "test", "method": "oracle", "variant": "scratch"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small models run slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


# The oracle


def experiment_of(x: np.ndarray, classes: Sequence[int], recordings: Sequence[Any]) -> Experiment:
    """These clips are unseen; a seen class 0 stands beside them, with clips that look like every other."""
    n, dim = x.shape
    unseen = tuple(sorted({int(c) for c in classes}))
    return Experiment(
        clip_ids=np.array([f"clip-{number:03d}" for number in range(n + 8)], dtype=object),
        embeddings=np.concatenate([np.resize(x, (8, dim)), x]).astype(np.float32),
        class_ids=np.array([0] * 8 + list(classes)),
        recordings=np.array(["seen"] * 8 + [f"recording-{r}" for r in recordings], dtype=object),
        roles=np.array(["seen_train"] * 8 + ["unseen"] * n),
        seen=(0,),
        unseen=unseen,
        vectors=np.zeros((1 + len(unseen), 2), dtype=np.float32),
    )


def ask_oracle(folder: Path, experiment: Experiment, **options: Any) -> Predicted:
    predict_by_oracle(folder / "predictions.parquet", experiment=experiment, labels=LABELS, **options)
    return read_predictions(folder / "predictions.parquet", CONVENTIONAL)


def blobs(classes: int, recordings: int, clips: int, distance: float, seed: int = 0) -> Experiment:
    """Classes 3, 4, … with ``recordings`` each of ``clips``, in 6 dimensions of very different scale."""
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), recordings * clips)
    x = distance * random.normal(size=(classes, 6))[y] + random.normal(size=(len(y), 6))
    return experiment_of(x * 10.0 ** np.arange(-3, 3), (y + 3).tolist(), np.arange(len(y)) // clips)


def test_the_oracle_says_each_unseen_clip_once(tmp_path: Path) -> None:
    predicted = ask_oracle(tmp_path, blobs(classes=4, recordings=10, clips=2, distance=4))
    assert predicted.seeds == () and predicted.labels == LABELS
    assert predicted.clip_ids.tolist() == [f"clip-{number:03d}" for number in range(8, 88)]
    assert predicted.truth.tolist() == np.repeat([3, 4, 5, 6], 20).tolist()
    assert predicted.is_unseen.all() and predicted.correct.mean() > 0.95
    table = tables.read(tmp_path / "predictions.parquet", PREDICTIONS)
    assert set(table["setting"].to_pylist()) == {"conventional"}
    margins = table["margin"].to_numpy()
    assert (margins >= 0).all() and (margins <= 1).all() and margins[predicted.correct[0] == 1].mean() > 0.3


def test_no_clip_is_recognised_by_its_recording(tmp_path: Path) -> None:
    """Clips of a recording are equal, recordings of a class are not alike: only a leak could tell classes apart."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 60)).repeat(4, axis=0)  # enough dimensions to learn every recording by heart
    predicted = ask_oracle(
        tmp_path, experiment_of(x, np.repeat([1, 2, 3, 4], 40).tolist(), np.repeat(range(40), 4))
    )
    assert predicted.correct.mean() < 0.45
    # The same clips as recordings of their own are all recognised.
    alone = ask_oracle(tmp_path, experiment_of(x, np.repeat([1, 2, 3, 4], 40).tolist(), range(160)))
    assert alone.correct.mean() > 0.95


def test_the_oracle_is_nested_cross_validation(tmp_path: Path) -> None:
    """The same by scikit-learn's own parts, on classes that overlap, where the strength matters."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    experiment = blobs(classes=3, recordings=15, clips=2, distance=0.7)
    rows = experiment.rows("unseen")
    x, y = experiment.embeddings[rows].astype(np.float64), experiment.class_ids[rows]
    groups = np.unique(experiment.recordings[rows].astype(str), return_inverse=True)[1]
    expected = np.empty_like(y)
    outer = StratifiedGroupKFold(5, shuffle=True, random_state=derive(7, "oracle") % 2**32)
    chosen = set()
    for number, (train, test) in enumerate(outer.split(x, y, groups)):
        inner = StratifiedGroupKFold(3, shuffle=True, random_state=derive(7, "oracle", number) % 2**32)
        models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)) for c in STRENGTHS]
        folds = list(inner.split(x[train], y[train], groups[train]))
        right = [(cross_val_predict(m, x[train], y[train], cv=folds) == y[train]).sum() for m in models]
        best = int(np.argmax(right))
        chosen.add(best)
        expected[test] = models[best].fit(x[train], y[train]).predict(x[test])
    predicted = ask_oracle(tmp_path, experiment, folds=5, seed=7)
    assert 0.4 < predicted.correct.mean() < 0.9 and len(chosen) > 1
    assert predicted.said[0].tolist() == expected.tolist()


def test_the_oracle_repeats_itself_and_follows_its_seed(tmp_path: Path) -> None:
    experiment = blobs(classes=3, recordings=8, clips=2, distance=0.7)
    first = ask_oracle(tmp_path, experiment, seed=1).said
    assert np.array_equal(ask_oracle(tmp_path, experiment, seed=1).said, first)
    assert not np.array_equal(ask_oracle(tmp_path, experiment, seed=2).said, first)


def test_a_class_with_a_single_recording_is_always_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = blobs(classes=3, recordings=8, clips=2, distance=5)
    experiment.recordings[experiment.class_ids == 4] = "one"
    with caplog.at_level(logging.WARNING):
        predicted = ask_oracle(tmp_path, experiment)
    is_single = predicted.truth == 4
    assert predicted.correct[0][is_single].sum() == 0 and predicted.correct[0][~is_single].mean() > 0.9
    assert (
        "the unseen classes [4] have a single recording each: the oracle gets their 16 clips wrong"
        in caplog.text
    )


@pytest.mark.parametrize("clips", [1, 3])
@pytest.mark.parametrize("classes", [2, 5])
def test_single_recordings_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, classes: int, clips: int
) -> None:
    with caplog.at_level(logging.WARNING):
        predicted = ask_oracle(tmp_path, blobs(classes, recordings=1, clips=clips, distance=5))
    assert predicted.said.shape == (1, classes * clips) and predicted.correct.sum() == 0
    assert "every unseen class has a single recording" in caplog.text


def test_two_recordings_a_class_are_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        predicted = ask_oracle(tmp_path, blobs(classes=4, recordings=2, clips=3, distance=6))
    assert predicted.correct.mean() > 0.9 and not caplog.records


def test_one_unseen_class_is_always_right(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        predicted = ask_oracle(tmp_path, blobs(classes=1, recordings=1, clips=3, distance=1))
    assert predicted.correct.mean() == 1 and not caplog.records


def test_constant_dimensions_do_no_harm(tmp_path: Path) -> None:
    experiment = blobs(classes=3, recordings=6, clips=2, distance=4)
    experiment.embeddings[:, 2] = 5
    assert ask_oracle(tmp_path, experiment).correct.mean() > 0.9


def test_classes_of_one_recording_are_refused(tmp_path: Path) -> None:
    experiment = blobs(classes=3, recordings=2, clips=2, distance=4)
    experiment.recordings[:] = "tape"
    with pytest.raises(ValueError, match="all 12 unseen clips are of the recording 'tape'"):
        ask_oracle(tmp_path, experiment)
    with pytest.raises(ValueError, match="at least 2 folds, got 1"):
        ask_oracle(tmp_path, blobs(classes=3, recordings=2, clips=2, distance=4), folds=1)


# CLAP

STORED_HZ = 16_000
NAMES = ["rain", "dog", "sea_waves", "clock_tick", "baby"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clap(tmp_path_factory.mktemp("clap"), seed=8)


def sound(number: int) -> np.ndarray:
    """Half a second of a tone or of noise."""
    time = np.arange(STORED_HZ // 2) / STORED_HZ
    noise = np.random.default_rng(number).normal(size=len(time))
    if number % 3 == 0:
        return (0.1 * noise).astype(np.float32)
    return (0.5 * np.sin(2 * np.pi * 100 * 1.4**number * time)).astype(np.float32)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 clips in two shards: class 4 (baby) is seen, the others unseen."""
    folder = tmp_path_factory.mktemp("stored")
    tables.write(
        folder / "classes.parquet", CLASSES, [{"class_id": i, "label": n} for i, n in enumerate(NAMES)]
    )
    names = [f"clip-{number:02d}" for number in range(15)]
    tables.write(
        folder / "partition.parquet",
        PARTITION,
        [
            {
                "clip_id": name, "class_id": number % 5, "recording_id": name,
                "role": "seen_train" if number % 5 == 4 else "unseen",
            }
            for number, name in enumerate(names)
        ],
    )  # fmt: skip
    for shard in (0, 1):
        rows = [
            {
                "dataset": "toy", "clip_id": name, "label": NAMES[number % 5], "recording_id": name,
                "duration_s": 0.5, "sample_rate_hz": STORED_HZ, "sha256": name,
                "audio": {"bytes": encode_flac(to_pcm16(sound(number)), STORED_HZ), "path": f"{name}.flac"},
            }
            for number, name in enumerate(names)
            if number % 2 == shard
        ]  # fmt: skip
        tables.write(folder / f"shard={shard}.parquet", AUDIO, rows)
    return folder


def ask_clap(folder: Path, stored: Path, model: Path, **options: Any) -> Predicted:
    settings = {
        "audio": [stored / "shard=0.parquet", stored / "shard=1.parquet"],
        "classes": stored / "classes.parquet",
        "partition": stored / "partition.parquet",
        "labels": LABELS | {"method": "clap", "variant": ""},
    }
    predict_by_clap(folder / "predictions.parquet", **(settings | options), model=str(model))
    return read_predictions(folder / "predictions.parquet", CONVENTIONAL)


def cosines(checkpoint: Path, templates: Sequence[str]) -> np.ndarray:
    """Of the 12 unseen clips and 4 classes, by transformers alone, one clip and one text at a time."""
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

    model = ClapModel.from_pretrained(checkpoint).eval()
    front_end = ClapFeatureExtractor.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    audio, texts = [], []
    with torch.no_grad():
        for number in range(15):
            if number % 5 != 4:
                samples = resample(to_pcm16(sound(number)) / np.float32(32768), STORED_HZ, 48_000)
                inputs = front_end(samples, sampling_rate=48_000, return_tensors="pt")
                inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
                audio.append(model(**inputs, input_ids=torch.tensor([[0, 2]])).audio_embeds[0])
        for label in ("rain", "dog", "sea waves", "clock tick"):
            many = [
                model(
                    **inputs, **tokenizer(template.replace("{label}", label), return_tensors="pt")
                ).text_embeds[0]
                for template in templates
            ]
            texts.append(torch.nn.functional.normalize(torch.stack(many).mean(0), dim=0))
    return (torch.stack(audio) @ torch.stack(texts).T).numpy()


@pytest.mark.parametrize(
    "template",
    ["This is a sound of {label}.".lower(), ["the noise of a {label}", "{label}", "a {label} sound ."]],
)
def test_clap_says_the_nearest_unseen_class(
    tmp_path: Path, stored: Path, checkpoint: Path, template: str | list[str]
) -> None:
    expected = cosines(checkpoint, [template] if isinstance(template, str) else template)
    assert len(set(expected.argmax(axis=1))) > 1  # clips are told apart
    for batch_size in (2, 16):
        predicted = ask_clap(tmp_path, stored, checkpoint, template=template, batch_size=batch_size)
        assert predicted.clip_ids.tolist() == [
            f"clip-{number:02d}" for number in range(15) if number % 5 != 4
        ]
        assert predicted.truth.tolist() == [0, 1, 2, 3] * 3 and predicted.is_unseen.all()
        assert predicted.seeds == () and predicted.labels == LABELS | {"method": "clap", "variant": ""}
        assert predicted.said[0].tolist() == expected.argmax(axis=1).tolist()
        margins = tables.read(tmp_path / "predictions.parquet", PREDICTIONS)["margin"].to_numpy()
        ordered = np.sort(expected, axis=1)
        np.testing.assert_allclose(margins, ordered[:, -1] - ordered[:, -2], atol=1e-5)


def test_clap_and_a_single_unseen_class(tmp_path: Path, stored: Path, checkpoint: Path) -> None:
    rows = tables.read(stored / "partition.parquet").to_pylist()
    changed = [row | {"role": "unseen" if row["class_id"] == 1 else "seen_train"} for row in rows]
    tables.write(tmp_path / "partition.parquet", PARTITION, changed)
    predicted = ask_clap(tmp_path, stored, checkpoint, partition=tmp_path / "partition.parquet")
    assert predicted.said.tolist() == [[1, 1, 1]]


def test_what_clap_lacks_is_named(tmp_path: Path, stored: Path, checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("template 'This is a sound' must contain {label}")):
        ask_clap(tmp_path, stored, checkpoint, template="This is a sound")
    with pytest.raises(
        ValueError, match=r"6 unseen clips of .*partition\.parquet have no audio .* example clip-01"
    ):
        ask_clap(tmp_path, stored, checkpoint, audio=[stored / "shard=0.parquet"])
    tables.write(tmp_path / "classes.parquet", CLASSES, [{"class_id": i, "label": "x"} for i in (0, 2)])
    with pytest.raises(ValueError, match=r"classes \[1, 3\] have no row in .*classes\.parquet"):
        ask_clap(tmp_path, stored, checkpoint, classes=tmp_path / "classes.parquet")
    assert not (tmp_path / "predictions.parquet").exists()


def test_references_import_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, foley.studies.zero_shot.references; "
        "print({'torch', 'sklearn', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
