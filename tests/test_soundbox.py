"""The embedded dataset: reproducible, well-formed, learnable from its sound and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from scipy import signal
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foley.classes.table import read_class_table
from foley.datasets.soundbox import (
    CLASSES,
    SAMPLE_RATE_HZ,
    Soundbox,
    SoundboxOptions,
    clip_keys,
    recording_id,
    synthesise,
    write_tree,
)
from foley.datasets.soundbox_models import CREST_DB, DURATION_S, MODELS, RMS_DBFS

REPOSITORY = Path(__file__).resolve().parents[1]
CLASS_TABLE = REPOSITORY / "resources" / "classes" / "soundbox.yaml"
SPLITS = REPOSITORY / "resources" / "splits" / "zero_shot" / "soundbox.yaml"
CHANCE = 1 / len(CLASSES)


@dataclass(frozen=True)
class Clips:
    """Synthesised clips and, for each, the number of its class and of its recording."""

    waves: list[np.ndarray]
    classes: np.ndarray
    recordings: np.ndarray


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Ten recordings of two takes a class: half the default dataset."""
    keys = list(clip_keys(SoundboxOptions(clips_per_class=20, takes_per_recording=2)))
    names = [recording_id(label, recording) for label, recording, _ in keys]
    return Clips(
        [synthesise(*key, 0) for key in keys],
        np.array([CLASSES.index(label) for label, _, _ in keys]),
        np.unique(names, return_inverse=True)[1],
    )


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Energies of 40 bands that are even in log-frequency, natural log, [40, frames]."""
    hz, _, bins = signal.stft(wave, SAMPLE_RATE_HZ, nperseg=512, noverlap=256)
    edges = np.geomspace(60, 7800, 42)
    bands = np.array([(hz >= low) & (hz < high) for low, high in zip(edges[:-2], edges[2:], strict=True)])
    return np.log(bands @ np.abs(bins) ** 2 + 1e-10)


def log_mel_statistics(wave: np.ndarray) -> np.ndarray:
    """Mean and deviation of each band over time, [80]."""
    level = log_mel(wave)
    return np.concatenate([level.mean(axis=1), level.std(axis=1)])


def grouped_accuracy(model: Any, features: np.ndarray, clips: Clips) -> float:
    """Mean accuracy over five folds that never part a recording."""
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    return cross_val_score(model, features, clips.classes, groups=clips.recordings, cv=folds).mean()


# --- synthesis ---


def test_every_class_has_a_model() -> None:
    assert tuple(MODELS) == CLASSES
    assert len(CLASSES) == 12


@pytest.mark.parametrize("label", CLASSES)
def test_a_clip_depends_on_nothing_but_its_key(label: str) -> None:
    first = synthesise(label, 1, 2, 7)
    synthesise(label, 0, 0, 7)
    again = synthesise(label, 1, 2, 7)
    assert first.tobytes() == again.tobytes()
    others = [synthesise(label, 1, 2, 8), synthesise(label, 2, 2, 7), synthesise(label, 1, 3, 7)]
    assert all(other.tobytes() != first.tobytes() for other in others)


def test_clips_are_short_finite_and_leave_headroom(clips: Clips) -> None:
    for wave in clips.waves:
        assert wave.dtype == np.float32
        assert wave.ndim == 1
        assert DURATION_S[0] <= len(wave) / SAMPLE_RATE_HZ <= DURATION_S[1]
        assert np.isfinite(wave).all()
        assert np.abs(wave).max() < 1.0


def test_level_and_crest_stay_in_the_range_that_all_classes_share(clips: Clips) -> None:
    rms_db = np.array([20 * np.log10(np.sqrt(np.mean(np.square(w, dtype=float)))) for w in clips.waves])
    peak_db = np.array([20 * np.log10(np.abs(w).max()) for w in clips.waves])
    assert (rms_db > RMS_DBFS[0] - 0.01).all()
    assert (rms_db < RMS_DBFS[1] + 0.01).all()
    assert (peak_db - rms_db > CREST_DB[0] - 0.3).all()
    assert (peak_db - rms_db < CREST_DB[1] + 0.3).all()


def test_takes_of_a_recording_are_more_alike_than_recordings(clips: Clips) -> None:
    # Level and background differ between takes on purpose; what stays is the spectrum of the loud moments.
    features = np.array([np.quantile(log_mel(wave), 0.9, axis=1) for wave in clips.waves])
    features -= features.mean(axis=1, keepdims=True)
    closer = []
    for number in range(len(CLASSES)):
        own = features[clips.classes == number]
        recording = clips.recordings[clips.classes == number]
        distance = np.linalg.norm(own[:, None] - own[None], axis=2)
        same = recording[:, None] == recording[None]
        within = distance[same & ~np.eye(len(own), dtype=bool)].mean()
        closer.append(within / distance[~same].mean())
        assert within > 0, f"takes of {CLASSES[number]} do not differ"
        assert closer[-1] < 0.95, f"takes of {CLASSES[number]} differ as recordings do"
    assert np.mean(closer) < 0.8


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no class 'piano'.*rain"):
        synthesise("piano", 0, 0, 0)


@pytest.mark.parametrize("wrong", [{"clips_per_class": 0}, {"takes_per_recording": 0}, {"seed": -1}])
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SoundboxOptions(**wrong)


# --- what the classes can and cannot be told from ---


def test_loudness_and_length_do_not_tell_the_class(clips: Clips) -> None:
    features = np.array(
        [
            (20 * np.log10(w.std()), 20 * np.log10(np.abs(w).max()), len(w) / SAMPLE_RATE_HZ)
            for w in clips.waves
        ]
    )
    features = np.column_stack([features, features[:, 1] - features[:, 0]])
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    forest = RandomForestClassifier(100, random_state=0)
    assert grouped_accuracy(linear, features, clips) < 2 * CHANCE
    assert grouped_accuracy(forest, features, clips) < 2 * CHANCE


def test_the_spectrum_tells_the_class_across_recordings(clips: Clips) -> None:
    features = np.array([log_mel_statistics(wave) for wave in clips.waves])
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    assert grouped_accuracy(linear, features, clips) > 0.85


# --- the tree ---


def test_the_tree_holds_every_clip_once_and_scans_into_recordings(tmp_path: Path) -> None:
    options = SoundboxOptions(clips_per_class=3, takes_per_recording=2, seed=5)
    dataset = Soundbox(options)
    counted = []

    def progress(items: Iterable[Any], *, total: int) -> Iterable[Any]:
        counted.append(total)
        return items

    dataset.generate(tmp_path, progress)
    clips = dataset.scan(tmp_path)
    assert counted == [36]
    assert len(clips) == 36
    assert sorted(p.name for p in (tmp_path / "rain").iterdir()) == [
        "rain-r00-t0.wav",
        "rain-r00-t1.wav",
        "rain-r01-t0.wav",
    ]
    assert [(c.clip_id, c.recording_id, c.label, c.class_id) for c in clips if c.label == "siren"] == [
        ("siren-r00-t0", "siren-r00", "siren", 2),
        ("siren-r00-t1", "siren-r00", "siren", 2),
        ("siren-r01-t0", "siren-r01", "siren", 2),
    ]

    path = tmp_path / "siren" / "siren-r00-t1.wav"
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE_HZ, 1, "PCM_16")
    written, _ = soundfile.read(path)
    np.testing.assert_allclose(written, synthesise("siren", 0, 1, 5), atol=1 / 32768)

    before = path.read_bytes()
    write_tree(tmp_path, options)
    assert path.read_bytes() == before


# --- the class table and the splits ---


def test_the_class_table_describes_the_classes() -> None:
    table = read_class_table(CLASS_TABLE)
    assert [(c.class_id, c.label) for c in table.classes] == list(enumerate(CLASSES))
    assert 16 <= len(table.attribute_names) <= 24
    attributes = np.array([c.attributes for c in table.classes])
    assert attributes.shape == (12, len(table.attribute_names))
    assert ((attributes >= 0) & (attributes <= 1)).all()
    for info in table.classes:
        assert "_".join(info.words) == info.label
        assert len(set(info.synonyms)) >= 5


def test_attributes_part_the_classes_and_none_is_known_from_one_class_alone() -> None:
    attributes = np.array([c.attributes for c in read_class_table(CLASS_TABLE).classes])
    distance = np.linalg.norm(attributes[:, None] - attributes[None], axis=2)
    assert distance[~np.eye(12, dtype=bool)].min() > 0.5
    # An unseen class can only be told by what seen classes have too, in other degrees.
    assert ((attributes > 0).sum(axis=0) >= 2).all()
    assert (np.ptp(attributes, axis=0) >= 0.5).all()


def test_every_class_is_unseen_once() -> None:
    splits = yaml.safe_load(SPLITS.read_text())["splits"]
    assert list(splits) == ["fold0", "fold1", "fold2", "fold3"]
    assert all(len(split["unseen"]) == 3 for split in splits.values())
    assert sorted(label for split in splits.values() for label in split["unseen"]) == sorted(CLASSES)


def test_attributes_tell_unseen_classes_by_what_seen_classes_sound_like(clips: Clips) -> None:
    attributes = np.array([c.attributes for c in read_class_table(CLASS_TABLE).classes])
    # Level is no part of the sound.
    features = np.array([log_mel_statistics(wave / wave.std()) for wave in clips.waves])
    accuracies = []
    for split in yaml.safe_load(SPLITS.read_text())["splits"].values():
        unseen = np.array([CLASSES.index(label) for label in split["unseen"]])
        seen = ~np.isin(clips.classes, unseen)
        model = make_pipeline(StandardScaler(), Ridge(alpha=100.0))
        model.fit(features[seen], attributes[clips.classes[seen]])
        centre = attributes[clips.classes[seen]].mean(axis=0)
        directions = attributes[unseen] - centre
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        scores = (model.predict(features[~seen]) - centre) @ directions.T
        accuracies.append((unseen[scores.argmax(axis=1)] == clips.classes[~seen]).mean())
    assert np.mean(accuracies) > 0.5  # chance is a third
