"""Embedded speech: reproducible, well-formed, told apart by its sound and by nothing else, also of new speakers."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from foley.classes.table import read_class_table
from foley.datasets import voicebox_models as models
from foley.datasets.voicebox import (
    EMOTIONS,
    FOLDS,
    SAMPLE_RATE_HZ,
    WORDS,
    Voicebox,
    VoiceboxOptions,
    clip_keys,
    fold_of,
    synthesise,
)

RESOURCES = Path(__file__).resolve().parents[1] / "resources"


def made(options: VoiceboxOptions) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Clips, the numbers of their classes, and their folds."""
    keys = list(clip_keys(options))
    waves = [
        synthesise(word, emotion, speaker, take, options.seed) for _, word, emotion, speaker, take in keys
    ]
    labels = np.array([options.labels.index(key[0]) for key in keys])
    return waves, labels, np.array([fold_of(key[3]) for key in keys])


@pytest.fixture(scope="module")
def words() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    return made(VoiceboxOptions(speakers=16, takes=1))


@pytest.fixture(scope="module")
def emotions() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    return made(VoiceboxOptions("emotions", speakers=16, takes=2))


def log_mel_statistics(wave: np.ndarray) -> np.ndarray:
    """24 bands from 100 Hz, on a logarithmic axis, in 4 parts of the time that is not silent."""
    _, _, power = signal.stft(wave, SAMPLE_RATE_HZ, nperseg=400, noverlap=240)
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, power.shape[0])
    edges = np.geomspace(100, 7500, 25)
    bands = np.stack(
        [
            np.square(np.abs(power[(hz >= low) & (hz < high + 40)])).sum(0)
            for low, high in itertools.pairwise(edges)
        ]
    )
    level = bands.sum(0)
    (heard,) = np.nonzero(level > level.max() * 1e-2)
    inside = np.log(bands[:, heard[0] : heard[-1] + 1] + 1e-9)
    parts = [part.mean(axis=1) for part in np.array_split(inside, 4, axis=1)]
    found = np.concatenate(parts)
    return found - found.mean()


def accuracy(features: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> float:
    """Of a linear classifier on new speakers."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    return float(cross_val_score(classifier, features, labels, groups=folds, cv=LeaveOneGroupOut()).mean())


def test_clips_are_well_formed(words: tuple[list[np.ndarray], np.ndarray, np.ndarray]) -> None:
    for wave in words[0]:
        assert wave.dtype == np.float32 and wave.ndim == 1 and np.isfinite(wave).all()
        assert 0.4 * SAMPLE_RATE_HZ < len(wave) <= 1.2 * SAMPLE_RATE_HZ
        assert 0.02 < np.abs(wave).max() < 1
        # It fades: no click at the end of a word.
        assert np.abs(wave[-200:]).max() < 0.2 * np.abs(wave).max()


def test_the_same_arguments_give_the_same_clip() -> None:
    first = synthesise("kela", "neutral", 3, 1, 0)
    synthesise("sako", "happy", 4, 0, 2)
    assert np.array_equal(synthesise("kela", "neutral", 3, 1, 0), first)
    for other in (("kela", "neutral", 3, 2, 0), ("kela", "neutral", 4, 1, 0), ("kela", "neutral", 3, 1, 1)):
        assert not np.array_equal(synthesise(*other)[:6000], first[:6000])
    with pytest.raises(ValueError, match="does not say 'hello' in the emotion 'sad'"):
        synthesise("hello", "sad", 0, 0, 0)


def test_level_and_length_do_not_tell_the_word(
    words: tuple[list[np.ndarray], np.ndarray, np.ndarray],
) -> None:
    waves, labels, folds = words
    outside = np.array([[len(w), np.log(np.sqrt(np.mean(w**2)))] for w in waves])
    chance = 1 / len(WORDS)
    assert accuracy(outside, labels, folds) < chance + 0.08
    forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=0)
    found = cross_val_score(forest, outside, labels, groups=folds, cv=LeaveOneGroupOut()).mean()
    assert found < chance + 0.08


def test_log_mel_statistics_tell_the_word_of_new_speakers(
    words: tuple[list[np.ndarray], np.ndarray, np.ndarray],
) -> None:
    waves, labels, folds = words
    features = np.stack([log_mel_statistics(wave) for wave in waves])
    assert accuracy(features, labels, folds) > 0.8


def test_emotions_are_heard_and_overlap(emotions: tuple[list[np.ndarray], np.ndarray, np.ndarray]) -> None:
    waves, labels, folds = emotions
    outside = np.array([[len(w), np.log(np.sqrt(np.mean(w**2)))] for w in waves])
    sound = np.stack([log_mel_statistics(wave) for wave in waves])
    found = accuracy(np.concatenate([sound, outside], axis=1), labels, folds)
    assert 0.5 < found < 0.98  # chance is a quarter
    assert accuracy(outside, labels, folds) > 0.35  # how loud and how fast is part of it


def test_emotions_say_the_same_words() -> None:
    keys = list(clip_keys(VoiceboxOptions("emotions", takes=5)))
    said = {label: sorted(key[1] for key in keys if key[0] == label) for label in EMOTIONS}
    assert len({tuple(each) for each in said.values()}) == 1 and set(said["sad"]) == set(WORDS)


def test_speakers_differ_and_folds_have_low_and_high_voices() -> None:
    speakers = [models.draw_speaker(np.random.default_rng(n), high=bool(n % 2)) for n in range(16)]
    low, high = speakers[::2], speakers[1::2]
    assert max(s.pitch_hz for s in low) < min(s.pitch_hz for s in high)
    assert max(s.tract for s in low) <= min(s.tract for s in high)
    for fold in range(1, FOLDS + 1):
        own = [n for n in range(16) if fold_of(n) == fold]
        assert len(own) == 4 and sum(n % 2 for n in own) == 2


def test_the_source_has_the_pitch_that_is_asked_for() -> None:
    speaker = models.draw_speaker(np.random.default_rng(0), high=False)
    for pitch_hz in (100.0, 213.0):
        flow, opening = models.glottis(np.full(16_000, pitch_hz), speaker, np.random.default_rng(1))
        correlation = np.correlate(flow[:8000], flow[:8000], "full")[7999:]
        lag = 40 + int(np.argmax(correlation[40:300]))
        assert SAMPLE_RATE_HZ / lag == pytest.approx(pitch_hz, rel=0.03)
        assert opening.min() == 0 and opening.max() == pytest.approx(1, abs=0.02)


def test_resonators_have_their_centre_and_bandwidth() -> None:
    impulse = np.zeros(100 * models.FRAME)
    impulse[0] = 1
    steady = models.resonate_along(impulse, np.full(100, 1000.0), np.full(100, 100.0))
    gain = np.abs(np.fft.rfft(steady))
    hz = np.fft.rfftfreq(len(steady), 1 / SAMPLE_RATE_HZ)
    assert hz[gain.argmax()] == pytest.approx(1000, abs=10)
    above = hz[gain > gain.max() / np.sqrt(2)]
    assert above[-1] - above[0] == pytest.approx(100, abs=8)
    assert gain[0] == pytest.approx(1, abs=1e-3)


def test_words_share_their_sounds() -> None:
    spoken = {word: models.sounds(word) for word in WORDS}
    known = {*models.VOWELS, *models.CONSONANTS}
    for word, parts in spoken.items():
        assert len(parts) == 4 and set(parts) <= known, word
    for vowel in models.VOWELS:
        assert sum(vowel in parts for parts in spoken.values()) >= 3


def test_a_tree_is_scanned(tmp_path: Path) -> None:
    for task, labels in (("words", WORDS), ("emotions", EMOTIONS)):
        options = VoiceboxOptions(task, speakers=8, takes=1)
        root = tmp_path / task
        kind = Voicebox(options)
        kind.generate(root, lambda keys, total: keys)
        clips = kind.scan(root)
        assert len(clips) == len(labels) * 8 == len({clip.clip_id for clip in clips})
        assert [(item.class_id, item.label) for item in kind.classes(root)] == list(enumerate(labels))
        folds: dict[str, set[int | None]] = {}
        for clip in clips:
            assert labels[clip.class_id or 0] == clip.label
            folds.setdefault(clip.speaker_id or "", set()).add(clip.fold)
            with soundfile.SoundFile(root / clip.source) as file:
                assert (file.samplerate, file.channels, file.subtype) == (SAMPLE_RATE_HZ, 1, "PCM_16")
        assert len(folds) == 8 and all(len(own) == 1 for own in folds.values())
        assert {fold for own in folds.values() for fold in own} == set(range(1, FOLDS + 1))
    (root / "sad" / "hello world.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"hello world\.wav is no clip of voicebox"):
        kind.scan(root)


def test_the_class_table_has_words_and_emotions() -> None:
    table = read_class_table(RESOURCES / "classes" / "voicebox.yaml")
    assert [info.label for info in table.classes] == [*WORDS, *EMOTIONS]


@pytest.mark.parametrize("given", [{"speakers": 6}, {"speakers": 9}, {"takes": 0}, {"seed": -1}])
def test_bad_options_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="voicebox"):
        VoiceboxOptions(**given)
