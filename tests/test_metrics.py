"""Metrics against scikit-learn, and intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from foley.metrics import classification as metric
from foley.metrics.bootstrap import Resamples, interval, resample_recordings

# Classification


@given(st.integers(1, 60), st.integers(1, 3), st.integers(2, 6), st.integers(0, 10**6))
def test_scores_are_those_of_scikit_learn(clips: int, seeds: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, clips)
    said = generator.integers(0, classes, (seeds, clips))
    known = np.arange(classes)
    correct = (said == truth).astype(np.float64)
    accuracy, recall = metric.accuracy(correct), metric.recalls(correct, truth, known)
    precision = metric.precisions(correct, said, known)
    for row in range(seeds):
        options = {"labels": known, "average": None, "zero_division": np.nan}
        assert accuracy[row] == pytest.approx(accuracy_score(truth, said[row]))
        np.testing.assert_allclose(recall[row], recall_score(truth, said[row], **options))
        np.testing.assert_allclose(precision[row], precision_score(truth, said[row], **options))


@given(st.integers(1, 60), st.integers(1, 3), st.integers(2, 6), st.integers(0, 10**6))
def test_uar_and_weighted_f1_are_those_of_scikit_learn(
    clips: int, seeds: int, classes: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, clips)
    said = generator.integers(0, classes, (seeds, clips))
    known = np.arange(classes)
    for row in range(seeds):
        # Over the classes that have clips; scikit-learn would count the others as 0.
        recall = recall_score(truth, said[row], labels=np.unique(truth), average="macro")
        f1 = f1_score(truth, said[row], labels=known, average="weighted", zero_division=0)
        assert metric.uar(truth, said, known)[row] == pytest.approx(recall)
        assert metric.weighted_f1(truth, said, known)[row] == pytest.approx(f1)
        np.testing.assert_allclose(
            metric.class_recalls(truth, said, known)[row],
            recall_score(truth, said[row], labels=known, average=None, zero_division=np.nan),
        )


def test_uar_and_weighted_f1_of_each_draw() -> None:
    generator = np.random.default_rng(3)
    truth, said = generator.integers(0, 4, 50), generator.integers(0, 4, (2, 50))
    known, speakers = np.arange(4), generator.integers(0, 9, 50)
    resamples = resample_recordings(speakers, 20, seed=2)
    recall = metric.uar_draws_per_seed(truth, said, known, resamples)
    f1 = metric.weighted_f1_draws_per_seed(truth, said, known, resamples)
    assert recall.shape == f1.shape == (2, 20)
    for draw in range(20):
        clips = np.repeat(np.arange(50), resamples.weights[draw].astype(int)[resamples.recording])
        np.testing.assert_allclose(recall[:, draw], metric.uar(truth[clips], said[:, clips], known))
        np.testing.assert_allclose(f1[:, draw], metric.weighted_f1(truth[clips], said[:, clips], known))


def test_no_clips_have_neither() -> None:
    nothing, nobody = np.zeros(0, int), np.zeros((2, 0), int)
    assert np.isnan(metric.uar(nothing, nobody, np.arange(3))).all()
    assert np.isnan(metric.weighted_f1(nothing, nobody, np.arange(3))).all()


fractions = arrays.arrays(np.float64, 5, elements=st.floats(0, 1))


@given(fractions, fractions)
def test_harmonic_mean(a: np.ndarray, b: np.ndarray) -> None:
    found = metric.harmonic_mean(a, b)
    for x, y, mean in zip(a, b, found, strict=True):
        assert mean == pytest.approx(2 / (1 / x + 1 / y) if min(x, y) > 1e-300 else 0)
    assert (found <= np.maximum(a, b) + 1e-12).all()


def test_harmonic_mean_of_nothing_is_nothing() -> None:
    # A draw without a clip of one side has no harmonic mean; it is not a draw of zero.
    found = metric.harmonic_mean(np.array([np.nan, 0.0, 0.0]), np.array([0.5, 0.0, 0.5]))
    np.testing.assert_array_equal(found, [np.nan, 0, 0])


# Draws


@pytest.fixture
def example() -> tuple[np.ndarray, np.ndarray, np.ndarray, Resamples]:
    """Correct [seeds, clips], truth, known classes, and draws over recordings of one to three clips."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 40)
    correct = (generator.random((2, 40)) < 0.6).astype(np.float64)
    return correct, truth, np.arange(3), resample_recordings(generator.integers(0, 20, 40), 25, seed=1)


def test_draws_are_the_scores_of_repeated_clips(
    example: tuple[np.ndarray, np.ndarray, np.ndarray, Resamples],
) -> None:
    correct, truth, known, resamples = example
    accuracy = metric.accuracy_draws(correct, resamples)
    recall = metric.recall_draws(correct, truth, known, resamples)
    macro = metric.macro_draws_per_seed(correct, truth, known, resamples)
    assert (accuracy.shape, recall.shape, macro.shape) == ((25,), (25, 3), (2, 25))
    for draw, weights in enumerate(resamples.weights):
        clips = np.repeat(np.arange(40), weights[resamples.recording].astype(int))
        drawn = metric.recalls(correct[:, clips], truth[clips], known)
        assert accuracy[draw] == pytest.approx(correct[:, clips].mean())
        np.testing.assert_allclose(recall[draw], drawn.mean(axis=0))
        np.testing.assert_allclose(macro[:, draw], np.nanmean(drawn, axis=1))


def test_drawing_every_recording_once_gives_the_score_itself(
    example: tuple[np.ndarray, np.ndarray, np.ndarray, Resamples],
) -> None:
    correct, truth, known, resamples = example
    once = Resamples(np.ones((1, resamples.weights.shape[1])), resamples.recording)
    assert metric.accuracy_draws(correct, once)[0] == pytest.approx(metric.accuracy(correct).mean())
    whole = metric.recalls(correct, truth, known)
    np.testing.assert_allclose(
        metric.macro_draws_per_seed(correct, truth, known, once)[:, 0], whole.mean(axis=1)
    )
    np.testing.assert_allclose(metric.recall_draws(correct, truth, known, once)[0], whole.mean(axis=0))


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30), st.integers(0, 100))
def test_as_many_recordings_are_drawn_as_there_are(names: list[str], seed: int) -> None:
    recordings = np.array(names, dtype=object)
    found = resample_recordings(recordings, 10, seed, "split")
    assert (found.weights.sum(axis=1) == len(set(names))).all()
    for clip, name in enumerate(names):  # clips of one recording go together
        assert [found.recording[k] == found.recording[clip] for k in range(len(names))] == [
            other == name for other in names
        ]
    again = resample_recordings(recordings, 10, seed, "split")
    np.testing.assert_array_equal(found.weights, again.weights)


def test_streams_of_draws_have_names() -> None:
    recordings = np.arange(50)
    one, other = (resample_recordings(recordings, 5, 0, name).weights for name in ("fold0", "fold1"))
    assert not np.array_equal(one, other)


# Intervals


def width(correct: np.ndarray, recordings: np.ndarray) -> float:
    low, high = interval(metric.accuracy_draws(correct, resample_recordings(recordings, 1000, seed=0)))
    return high - low


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    # 100 tosses with 0.7: the percentile bootstrap covers a little less than 95 % (Efron & Tibshirani 1993, ch. 13).
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        correct = (generator.random((1, 100)) < 0.7).astype(np.float64)
        low, high = interval(metric.accuracy_draws(correct, resample_recordings(np.arange(100), 400, trial)))
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_interval_has_the_width_of_a_binomial() -> None:
    correct = (np.arange(400) % 4 > 0).astype(np.float64)[None]
    assert width(correct, np.arange(400)) == pytest.approx(2 * 1.96 * np.sqrt(0.75 * 0.25 / 400), rel=0.1)


def test_copies_of_a_recording_do_not_narrow_the_interval() -> None:
    single = (np.random.default_rng(1).random((1, 60)) < 0.6).astype(np.float64)
    copies = np.repeat(single, 4, axis=1)
    clustered = width(copies, np.repeat(np.arange(60), 4))
    assert clustered == pytest.approx(width(single, np.arange(60)), rel=1e-9)
    naive = width(copies, np.arange(240))
    assert clustered == pytest.approx(2 * naive, rel=0.15)  # four copies: half the naive deviation


def test_interval_of_a_constant_and_of_nothing() -> None:
    assert interval(np.full(100, 0.25)) == (0.25, 0.25)
    assert interval(np.array([np.nan, 0.5, np.inf, 0.5])) == (0.5, 0.5)
    assert np.isnan(interval(np.array([np.nan]))).all()
    assert interval(np.linspace(0, 1, 101), level=0.5) == pytest.approx((0.25, 0.75))
