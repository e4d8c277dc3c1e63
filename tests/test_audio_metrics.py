"""Measures of synthetic audio over embeddings, each against an independent reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import logm, sqrtm
from scipy.spatial.distance import cdist, pdist
from scipy.stats import linregress
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score
from sklearn.neighbors import NearestNeighbors

from foley.metrics import frechet_audio, manifold, vector_sets
from foley.metrics.by_class import row_groups
from foley.metrics.frechet_audio import (
    ExtrapolationOptions,
    distance_of_sets,
    extrapolate,
    frechet_audio_distances,
)
from foley.metrics.kernel_audio import kernel_audio_distances
from foley.metrics.manifold import pairwise_distances
from foley.metrics.memorisation import (
    diversity_scores,
    find_memorised,
    memorisation_scores,
    nearest_vectors,
    pairwise_cosine_distance,
    vendi_score,
)
from foley.metrics.prompt_accuracy import prompt_hits, prompt_scores

QUICK = ExtrapolationOptions(points=6, groups=4)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def plain_frechet(a: np.ndarray, cov_a: np.ndarray, b: np.ndarray, cov_b: np.ndarray) -> float:
    root = np.real(sqrtm(cov_a @ cov_b))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


def test_groups_are_all_rows_then_each_class() -> None:
    found = [
        (k, [rows.tolist() for rows in sets]) for k, sets in row_groups(np.array([3, 1, 3]), np.array([7]))
    ]
    assert found == [(None, [[0, 1, 2], [0]]), (1, [[1], []]), (3, [[0, 2], []]), (7, [[], [0]])]


# Fréchet audio distance


def test_frechet_of_all_and_of_each_class() -> None:
    x, y = normal(90, 6), 1.3 * normal(70, 6, seed=1) + 0.4
    kinds = np.arange(90) % 2 + 4, np.arange(70) % 2 + 4
    scores = frechet_audio_distances(x, y, real_classes=kinds[0], made_classes=kinds[1], options=QUICK)
    assert [s.class_id for s in scores] == [None, 4, 5]
    parts = [(x, y), *((x[kinds[0] == k], y[kinds[1] == k]) for k in (4, 5))]
    for score, (a, b) in zip(scores, parts, strict=True):
        assert (score.n_real, score.n_made, score.dim, score.warning) == (len(a), len(b), 6, "")
        assert score.sample == pytest.approx(plain_frechet(a, np.cov(a.T), b, np.cov(b.T)), rel=1e-8)
        shrunk = plain_frechet(a, ledoit_wolf(a)[0], b, ledoit_wolf(b)[0])
        assert score.shrunk == pytest.approx(shrunk, rel=1e-6)
        line = extrapolate(a, b, options=QUICK)
        assert (score.infinite, score.low, score.high) == (line.value, line.low, line.high)
        assert score.low < score.infinite < score.high
        assert score.infinite < score.sample  # the bias is upwards


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 12), st.integers(0, 1000))
def test_frechet_is_never_negative_and_few_vectors_warn(n: int, m: int, dim: int, seed: int) -> None:
    options = ExtrapolationOptions(points=2, groups=0)
    x = normal(n, dim, seed=seed)
    score = frechet_audio_distances(x, normal(m, dim, seed=seed + 1), options=options)[0]
    assert score.sample >= 0
    assert score.shrunk >= 0
    assert ("singular" in score.warning) == (min(n, m) <= dim)
    assert math.isnan(score.infinite) == (min(n, m) < 8)
    assert ("FAD∞ needs 8" in score.warning) == (min(n, m) < 8)
    same = frechet_audio_distances(x, x, options=options)[0]
    assert same.sample == pytest.approx(0, abs=1e-7)


def test_line_is_that_of_least_squares() -> None:
    x, y = normal(200, 5), normal(120, 5, seed=1) + 1
    options = ExtrapolationOptions(points=9, repeats=2, groups=0, vary="made", least=20)
    found = extrapolate(x, y, options=options)
    np.testing.assert_allclose(found.sizes, np.linspace(20, 120, 9), atol=0.5)
    fit = linregress(1 / found.sizes, found.distances)
    assert (found.value, found.slope) == pytest.approx((fit.intercept, fit.slope), rel=1e-9)
    assert found.r_squared == pytest.approx(fit.rvalue**2, rel=1e-9)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    whole = plain_frechet(x, np.cov(x.T), y, np.cov(y.T))
    assert found.distances[-1] == pytest.approx(whole, rel=1e-9)
    assert found.slope > 0


@pytest.mark.parametrize(
    ("n", "m", "dim", "first"),
    [(5000, 400, 4, 40), (5000, 100, 12, 24), (5000, 100, 40, 50), (5000, 10, 1, 4), (50, 100, 12, 48)],
)
def test_smallest_subsample(n: int, m: int, dim: int, first: int) -> None:
    # A tenth; twice the dimensions; half the set; four clips at least; and the smaller set decides.
    options = ExtrapolationOptions(points=2, groups=0)
    assert extrapolate(normal(n, dim), normal(m, dim, seed=1), options=options).sizes.tolist() == [first, m]


def test_limit_is_unbiased_and_its_interval_covers() -> None:
    # Gaussians whose distance is known; each draw has an interval of its own.
    generator = np.random.default_rng(0)
    dim, options = 5, ExtrapolationOptions(points=6)
    scale = np.linspace(0.5, 2, dim)
    truth = dim * 0.3**2 + ((scale - 1) ** 2).sum()
    values, plain, covered = [], [], 0
    for draw in range(20):
        x = generator.normal(size=(60, dim))
        y = generator.normal(size=(50, dim)) * scale + 0.3
        found = extrapolate(x, y, seed=draw, options=options)
        values.append(found.value)
        plain.append(found.distances[-1])
        covered += found.low <= truth <= found.high
    error = np.std(values, ddof=1) / math.sqrt(20)
    assert abs(np.mean(values) - truth) < 2.5 * error
    # The bare distance is biased.
    assert np.mean(plain) - truth > 2.5 * np.std(plain, ddof=1) / math.sqrt(20)
    assert covered >= 17
    assert 1.5 < (found.high - found.low) / 2 / np.std(values) < 5  # and is no wider than it must be


def test_reference_of_few_clips_biases_the_published_form() -> None:
    x, y = normal(150, 20), normal(150, 20, seed=1)
    published = extrapolate(x, y, options=ExtrapolationOptions(vary="made"))
    both = extrapolate(x, y, options=ExtrapolationOptions(vary="both"))
    assert published.low > 0  # though the two are equally distributed
    assert both.low < 0 < both.high
    assert published.value < published.distances[-1]


def test_vectors_of_a_clip_stay_together() -> None:
    # Three nearly equal vectors a clip are one clip's worth of knowledge.
    x = normal(60, 3)
    y = np.repeat(normal(40, 3, seed=1), 3, axis=0) + 1e-3 * normal(120, 3, seed=2)
    clips = np.repeat(np.arange(40), 3)
    options = ExtrapolationOptions(vary="made", repeats=3)
    together = extrapolate(x, y, made_clips=clips, options=options)
    apart = extrapolate(x, y, options=options)
    assert (together.sizes * 3 % 3 == 0).all()
    assert together.slope > 1.5 * apart.slope
    assert together.high - together.low > 1.3 * (apart.high - apart.low)
    order = np.random.default_rng(3).permutation(120)
    shuffled = extrapolate(x, y[order], made_clips=clips[order], options=options)
    assert shuffled.value == pytest.approx(together.value, rel=1e-9)  # rows may come in any order


def test_clips_of_unequal_length() -> None:
    clips = np.repeat(np.arange(12), np.arange(1, 13))
    y = normal(len(clips), 2, seed=1)
    found = extrapolate(normal(40, 2), y, made_clips=clips, options=QUICK)
    assert found.sizes[-1] == len(clips)
    assert found.sizes[0] < len(clips) * 0.6
    assert np.isfinite([found.value, found.low, found.high]).all()


def test_limit_depends_on_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(40, 4), normal(30, 4, seed=1)
    found = extrapolate(x, y, seed=5, options=QUICK)
    assert extrapolate(x, y, seed=6, options=QUICK).value != found.value
    monkeypatch.setattr(frechet_audio, "BLOCK", 1)  # one subsample at a time
    again = extrapolate(x, y, seed=5, options=QUICK)
    assert (again.value, again.low) == pytest.approx((found.value, found.low), rel=1e-9)


def test_singular_subsamples_are_said_to_be_so() -> None:
    score = frechet_audio_distances(normal(50, 30), normal(50, 30, seed=1), options=QUICK)[0]
    assert "FAD∞ comes from subsamples of 25 vectors in 30 dimensions" in score.warning
    assert "singular" not in score.warning


def test_frechet_refuses() -> None:
    x = normal(10, 2)
    with pytest.raises(ValueError, match="classes of only one"):
        frechet_audio_distances(x, x, real_classes=np.zeros(10))
    with pytest.raises(ValueError, match="10 synthetic vectors, but 3 labels"):
        frechet_audio_distances(x, x, made_clips=np.zeros(3))
    with pytest.raises(ValueError, match="least 10 is no less than the 10 synthetic clips"):
        extrapolate(x, x, options=ExtrapolationOptions(least=10))
    for bad in ({"points": 1}, {"repeats": 0}, {"groups": 1}, {"least": 1}):
        with pytest.raises(ValueError, match="at least"):
            ExtrapolationOptions(**bad)
    lone = frechet_audio_distances(
        x, x, real_classes=np.arange(10) // 9, made_classes=np.arange(10) // 9, options=QUICK
    )[2]
    assert (lone.class_id, lone.n_made) == (1, 1)
    assert math.isnan(lone.sample)
    assert "needs two of each" in lone.warning


def rows_of_spectrum(n: int, dim: int, fall: float, rank: int, seed: int) -> np.ndarray:
    """Rows of a rank, whose deviations fall with a power of their number."""
    turn = np.linalg.qr(normal(dim, dim, seed=seed + 100))[0]
    return (normal(n, dim, seed=seed) * np.arange(1, dim + 1.0) ** -fall)[:, :rank] @ turn[:rank]


@pytest.mark.parametrize("shape", [(90, 70, 20), (21, 20, 20), (12, 15, 20), (50, 9, 20), (2, 3, 1)])
@pytest.mark.parametrize(("fall", "rank"), [(0.0, 20), (1.0, 20), (6.0, 20), (0.0, 4)])
def test_distance_of_sets_by_singular_values(shape: tuple[int, int, int], fall: float, rank: int) -> None:
    # Flat spectra pass by way of eigenvalues, steep ones and deficient ranks do not.
    n, m, dim = shape
    x, y = rows_of_spectrum(n, dim, fall, rank, 0), 1.2 * rows_of_spectrum(m, dim, fall, rank, 1) + 0.1
    rows = [(part - part.mean(0)) / math.sqrt(len(part) - 1) for part in (x, y)]
    root = np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum()
    wanted = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum((part**2).sum() for part in rows) - 2 * root
    assert distance_of_sets(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(
        wanted, rel=1e-9
    )


@pytest.mark.parametrize("n", [12, 90])
def test_distance_of_equal_sets_is_zero(n: int) -> None:
    x = torch.from_numpy(rows_of_spectrum(n, 20, 1.0, 20, 0))
    whole = x.var(dim=0).sum().item()
    assert 0 <= distance_of_sets(x, x).item() < 1e-12 * whole
    assert 0 <= distance_of_sets(x, x[torch.randperm(n)]).item() < 1e-12 * whole


def test_distances_in_a_batch_are_those_alone() -> None:
    # One pair of the batch has a deficient rank and goes its own way.
    x = torch.from_numpy(
        np.stack([rows_of_spectrum(30, 8, 0.5, rank, k) for k, rank in enumerate((8, 3, 8))])
    )
    y = torch.from_numpy(rows_of_spectrum(25, 8, 0.0, 8, 9))
    together = distance_of_sets(x, y)
    for part, value in zip(x, together, strict=True):
        assert distance_of_sets(part, y).item() == pytest.approx(value.item(), rel=1e-9)


def test_pairwise_distances_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(40, 30) + 50, normal(60, 30, seed=1) + 50  # far from zero, as embeddings may be
    y[:5] = x[:5]  # copies
    y[5:10] = x[5:10] + 1e-7 * normal(5, 30, seed=2)  # and all but copies
    monkeypatch.setattr(manifold, "BLOCK", 90)  # three pairs at a time
    found = pairwise_distances(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(found, cdist(x, y), rtol=1e-10)
    assert (np.diag(found)[:5] == 0).all()
    assert (found[5:, 10:] > 1).all()
    close = normal(20, 3) * 1e-3 + np.repeat([[0.0], [1.0]], 10, axis=0)  # most pairs are near ones
    np.testing.assert_allclose(
        pairwise_distances(*[torch.from_numpy(close)] * 2), cdist(close, close), rtol=1e-10
    )


def test_copies_lie_on_the_edge_of_balls() -> None:
    # A copied vector is as far from the others as the original, so it lies in every ball that this one bounds.
    x = torch.from_numpy(normal(50, 64) + 3)
    found = manifold.compare_manifolds(x, x.flip(0).clone(), 3)
    assert found.density.item() == pytest.approx(
        4 / 3
    )  # its own ball and the three that it bounds, or lies in


# Kernel audio distance


def plain_kad(x: np.ndarray, y: np.ndarray, bandwidth: float | None = None) -> float:
    width = np.median(pdist(x)) if bandwidth is None else bandwidth
    within = [2 * np.exp(-(pdist(part) ** 2) / (2 * width**2)).sum() for part in (x, y)]
    across = np.exp(-(cdist(x, y) ** 2) / (2 * width**2)).mean()
    n, m = len(x), len(y)
    return float(100 * (within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * across))


def test_kad_is_that_of_the_formula_overall_and_per_class() -> None:
    x, y = normal(41, 5), 0.7 * normal(30, 5, seed=1) + 0.3
    kinds = np.arange(41) % 2, np.arange(30) % 2
    scores = kernel_audio_distances(x, y, real_classes=kinds[0], made_classes=kinds[1])
    parts = [(x, y), *((x[kinds[0] == k], y[kinds[1] == k]) for k in (0, 1))]
    for score, (a, b) in zip(scores, parts, strict=True):
        assert score.value == pytest.approx(plain_kad(a, b), rel=1e-9)
        assert score.bandwidth == pytest.approx(np.median(pdist(a)), rel=1e-9)  # the real clips' alone
        assert (score.n_real, score.n_made, score.warning) == (len(a), len(b), "")
    fixed = kernel_audio_distances(x, y, bandwidth=2.5)
    assert [s.value for s in fixed] == pytest.approx([plain_kad(x, y, 2.5)], rel=1e-9)


def test_kad_is_about_zero_for_equal_distributions() -> None:
    values = [
        kernel_audio_distances(normal(20, 3, seed=k), normal(25, 3, seed=k + 500))[0].value for k in range(60)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 2.5 * np.std(values) / math.sqrt(60)


def test_kad_of_too_few_and_refusals() -> None:
    x = normal(6, 2)
    lone = kernel_audio_distances(x, x, real_classes=np.arange(6) // 5, made_classes=np.arange(6) // 5)[2]
    assert math.isnan(lone.value)
    assert "two of each" in lone.warning
    equal = kernel_audio_distances(np.ones((4, 2)), x)[0]
    assert math.isnan(equal.value)
    assert "no bandwidth" in equal.warning
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        kernel_audio_distances(x, x, bandwidth=0.0)
    with pytest.raises(ValueError, match="classes of only one"):
        kernel_audio_distances(x, x, made_classes=np.zeros(6))


# Prompt accuracy


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 - cdist(a, b, "cosine")


def plain_average_precision(scores: np.ndarray, own: np.ndarray, depth: int) -> float:
    right, total = 0, 0.0
    for place, text in enumerate(np.argsort(-scores)[:depth], start=1):
        if own[text]:
            right += 1
            total += right / place
    return total / min(own.sum(), depth)


def test_prompt_accuracy_is_that_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, audio = normal(24, 8), normal(150, 8, seed=1)
    truth = np.random.default_rng(2).integers(0, 23, 150)  # the last text has no clip
    audio += 0.6 * texts[truth]
    monkeypatch.setattr(vector_sets, "BLOCK", 24 * 7)  # in blocks of seven clips
    hits = prompt_hits(5 * audio, 0.1 * texts, truth)
    scores = cosines(audio, texts)
    for k, row in zip((1, 5, 10), hits.correct, strict=True):
        assert row.mean() == pytest.approx(top_k_accuracy_score(truth, scores, k=k, labels=np.arange(24)))
    assert 0.1 < hits.correct[0].mean() < 0.9
    ranks = (scores >= scores[np.arange(150), truth][:, None]).sum(axis=1)
    np.testing.assert_allclose(hits.average_precision, np.where(ranks <= 10, 1 / ranks, 0))
    rows = prompt_scores(hits, truth)
    assert [row.class_id for row in rows] == [None, *range(23)]
    assert rows[0].n == 150
    assert rows[0].accuracy == pytest.approx(tuple(hits.correct.mean(axis=1)))
    for row in rows[1:]:
        clips = truth == row.class_id
        assert row.n == clips.sum()
        assert row.accuracy == pytest.approx(tuple(hits.correct[:, clips].mean(axis=1)))
        assert row.mean_average_precision == pytest.approx(hits.average_precision[clips].mean())


@given(st.integers(1, 14), st.integers(2, 16), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_several_texts_a_clip(clips: int, texts: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    audio, text = generator.normal(size=(clips, 4)), generator.normal(size=(texts, 4))
    own = generator.random((clips, texts)) < 0.3
    own[np.arange(clips), generator.integers(0, texts, clips)] = True
    scores = cosines(audio, text)
    hits = prompt_hits(audio, text, own, ranks=(3,), depth=10)
    wanted = [plain_average_precision(s, o, 10) for s, o in zip(scores, own, strict=True)]
    np.testing.assert_allclose(hits.average_precision, wanted)
    first = np.take_along_axis(own, np.argsort(-scores, axis=1)[:, :3], axis=1).any(axis=1)
    np.testing.assert_array_equal(hits.correct[0], first)
    uncut = prompt_hits(audio, text, own, depth=texts).average_precision.mean()
    assert uncut == pytest.approx(label_ranking_average_precision_score(own, scores))
    rows = prompt_scores(hits, own)
    assert [row.n for row in rows] == [clips, *own.sum(axis=0)]
    assert all(math.isnan(row.accuracy[0]) == (row.n == 0) for row in rows)


def test_saying_the_same_of_everything_earns_nothing() -> None:
    truth = np.arange(12)
    hits = prompt_hits(np.ones((12, 3)), np.ones((12, 3)), truth)
    assert hits.correct.sum() == 0
    assert hits.average_precision.sum() == 0


def test_prompt_accuracy_refuses() -> None:
    audio, text = normal(4, 3), normal(5, 3)
    with pytest.raises(ValueError, match="3 dimensions, text vectors 2"):
        prompt_hits(audio, text[:, :2], np.zeros(4, int))
    with pytest.raises(ValueError, match="names texts 0 to 5, but there are 5"):
        prompt_hits(audio, text, np.array([0, 1, 2, 5]))
    with pytest.raises(ValueError, match="2 clips have no text of their own, the first is number 0"):
        prompt_hits(audio, text, np.eye(4, 5, -2, dtype=bool))
    with pytest.raises(ValueError, match="whole numbers"):
        prompt_hits(audio, text, np.zeros(4))
    with pytest.raises(ValueError, match="at least 1"):
        prompt_hits(audio, text, np.zeros(4, int), ranks=(0,))
    with pytest.raises(ValueError, match="4 audio vectors, but 3 labels"):
        prompt_hits(audio, text, np.zeros(3, int))


# Memorisation


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearest_are_those_of_scikit_learn(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(30, 6), normal(50, 6, seed=1)
    monkeypatch.setattr(vector_sets, "BLOCK", 50 * 4)
    found = nearest_vectors(x, y, distance=distance)  # type: ignore[arg-type]
    wanted = NearestNeighbors(n_neighbors=1, metric=distance, algorithm="brute").fit(y).kneighbors(x)
    np.testing.assert_allclose(found.distance, wanted[0][:, 0], rtol=1e-9)
    np.testing.assert_array_equal(found.row, wanted[1][:, 0])


def test_copies_are_flagged_and_new_clips_are_not() -> None:
    generator = np.random.default_rng(0)
    real = generator.normal(size=(400, 8))
    new = generator.normal(size=(400, 8))
    copies = 3 * real[:40] + 1e-3 * generator.normal(size=(40, 8))  # louder, and a little noise
    found = find_memorised(real, np.concatenate([copies, new, real[:1]]), level=0.05)
    assert found.flagged[:40].all()
    np.testing.assert_array_equal(found.nearest.row[:40], np.arange(40))
    # Of new clips of the same distribution the level is flagged, give or take the binomial's spread.
    assert abs(found.flagged[40:440].mean() - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 400) + 0.02
    assert found.nearest.distance[-1] == pytest.approx(0, abs=1e-15)
    assert found.p_value[-1] == pytest.approx(1 / 401)
    score = memorisation_scores(found)[0]
    assert (score.n_real, score.n_made, score.warning) == (400, 441, "")
    assert score.flagged == found.flagged.mean()
    assert score.median_distance == np.median(found.nearest.distance)
    assert score.median_real_distance == np.median(found.real.distance)


def test_p_values_are_the_share_of_nearer_real_clips() -> None:
    real, made = normal(25, 3), normal(10, 3, seed=1)
    apart = cdist(real, real)
    np.fill_diagonal(apart, np.inf)
    among, nearest = apart.min(axis=0), cdist(made, real).min(axis=1)
    found = find_memorised(real, made, distance="euclidean", level=0.3)
    np.testing.assert_allclose(found.real.distance, among)
    wanted = [(1 + sum(d <= own for d in among)) / 26 for own in nearest]
    np.testing.assert_allclose(found.p_value, wanted)
    np.testing.assert_array_equal(found.flagged, np.array(wanted) <= 0.3)


def test_clips_of_one_recording_are_not_held_against_each_other() -> None:
    real = np.repeat(normal(30, 5), 2, axis=0) + 1e-6 * normal(60, 5, seed=1)  # two cuts of each recording
    made = real[::6] + 1e-3 * normal(10, 5, seed=2)
    assert not find_memorised(real, made).flagged.any()  # the cuts are nearer to each other than the copies
    recordings = np.repeat(np.arange(30), 2)
    found = find_memorised(real, made, real_recordings=recordings)
    assert found.flagged.all()
    assert (recordings[found.real.row] != recordings).all()


def test_each_class_has_its_own_measure() -> None:
    # Class 0 is tight, class 1 wide: a distance that is usual in the first is a copy in the second.
    generator = np.random.default_rng(3)
    centre = 10 * np.eye(2, 6)
    real = np.concatenate(
        [centre[0] + 0.1 * generator.normal(size=(60, 6)), centre[1] + 3 * generator.normal(size=(60, 6))]
    )
    made = np.concatenate([centre[0] + 0.1 * generator.normal(size=(30, 6)), real[60:90] + 0.02])
    kinds = np.repeat([0, 1], [60, 60]), np.repeat([0, 1], [30, 30])
    found = find_memorised(
        real, made, real_classes=kinds[0], made_classes=kinds[1], distance="euclidean", level=0.05
    )
    scores = memorisation_scores(found, real_classes=kinds[0], made_classes=kinds[1])
    assert [(s.class_id, s.n_real, s.n_made) for s in scores] == [(None, 120, 60), (0, 60, 30), (1, 60, 30)]
    assert scores[1].flagged < 0.2
    assert scores[2].flagged == 1
    assert scores[0].flagged == pytest.approx((scores[1].flagged + scores[2].flagged) / 2)
    alone = find_memorised(real[:60], made[:30], distance="euclidean")
    np.testing.assert_allclose(found.p_value[:30], alone.p_value)


def test_classes_of_few_real_clips_say_nothing_of_copies() -> None:
    generator = np.random.default_rng(4)
    counts = [10, 30, 10, 40]  # 19 are needed at level 0.05
    kinds = np.repeat(range(4), counts)
    real = generator.normal(size=(len(kinds), 12))
    found = find_memorised(real, real, real_classes=kinds, made_classes=kinds)
    whole, *scores = memorisation_scores(found, real_classes=kinds, made_classes=kinds)
    assert whole.warning.startswith("2 of 4 classes have too few real clips for any flag at level 0.05")
    # Copies, every one: those of the other classes would be taken for new clips.
    assert (whole.flagged, whole.judged, whole.n_made) == (1.0, 70, 90)
    assert [s.judged for s in scores] == [0, 30, 0, 40]
    assert [np.isnan(s.flagged) for s in scores] == [True, False, True, False]
    kinds = np.repeat(range(20), 10)
    real = generator.normal(size=(200, 12))
    found = find_memorised(real, real, real_classes=kinds, made_classes=kinds)
    whole = memorisation_scores(found, real_classes=kinds, made_classes=kinds)[0]
    assert whole.warning.startswith("20 of 20 classes") and np.isnan(whole.flagged) and whole.judged == 0


def test_memorisation_of_few_clips_and_refusals() -> None:
    real, made = normal(10, 3), normal(4, 3, seed=1)
    found = find_memorised(real, real[:4])
    assert not found.flagged.any()  # the smallest p-value is 1 / 11
    assert "10 real clips to compare with" in memorisation_scores(found)[0].warning
    one = find_memorised(real, made, real_recordings=np.zeros(10))
    assert np.isinf(one.real.distance).all()
    assert (one.p_value == 1).all()
    none = find_memorised(real, made, real_classes=np.arange(10) % 3, made_classes=np.full(4, 2))
    rows = memorisation_scores(none, real_classes=np.arange(10) % 3, made_classes=np.full(4, 2))
    assert rows[1].warning == "no synthetic clips"
    assert math.isnan(rows[1].flagged)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        find_memorised(real, made, level=0)
    with pytest.raises(ValueError, match="1 real vectors: this measure needs 2"):
        find_memorised(real[:1], made)
    with pytest.raises(ValueError, match="groups of only one"):
        nearest_vectors(real, made, groups=np.zeros(10))


# Diversity


@pytest.mark.parametrize("shape", [(12, 30), (40, 5), (2, 3), (7, 7)])
def test_pairs_and_vendi_are_those_of_the_formulas(shape: tuple[int, int]) -> None:
    x = normal(*shape)
    assert pairwise_cosine_distance(x).item() == pytest.approx(pdist(x, "cosine").mean(), rel=1e-9)
    kernel = cosines(x, x) / len(x)
    # Its definition by a matrix logarithm, which needs full rank.
    ridge = 1e-13 * np.eye(len(x))
    wanted = math.exp(-np.trace(kernel @ np.real(logm(kernel + ridge))))
    assert vendi_score(x).item() == pytest.approx(wanted, rel=1e-6)


def test_vendi_counts_different_clips() -> None:
    assert vendi_score(np.eye(6)).item() == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(3), 5, axis=0) * 2.0).item() == pytest.approx(3)
    assert vendi_score(np.ones((9, 2))).item() == pytest.approx(1)
    silent = np.array([[0, 0], [0, 0], [1, 0], [0, 2]])
    assert vendi_score(silent).item() == pytest.approx(math.exp(-0.5 * math.log(0.5) - 0.5 * math.log(0.25)))
    assert pairwise_cosine_distance(silent).item() == pytest.approx(5 / 6)  # one pair of six is equal
    batch = normal(3, 8, 4)
    np.testing.assert_allclose(vendi_score(batch), [vendi_score(part) for part in batch])


def test_diversity_within_classes() -> None:
    x = normal(21, 4)
    x[7:14] = x[7]  # one class is all the same
    kinds = np.repeat([2, 5, 9], 7)
    kinds[-1] = 11  # a class of one clip
    rows = diversity_scores(x, kinds)
    assert [(row.class_id, row.n) for row in rows] == [(None, 21), (2, 7), (5, 7), (9, 6), (11, 1)]
    assert rows[1].cosine_distance == pytest.approx(pdist(x[:7], "cosine").mean())
    assert (rows[2].cosine_distance, rows[2].vendi) == pytest.approx((0, 1), abs=1e-9)
    assert math.isnan(rows[4].vendi)
    assert rows[0].vendi == pytest.approx(np.mean([row.vendi for row in rows[1:4]]))
    assert rows[0].cosine_distance == pytest.approx(np.mean([row.cosine_distance for row in rows[1:4]]))
    (alone,) = diversity_scores(x[:7])
    assert (alone.class_id, alone.n, alone.vendi) == (None, 7, pytest.approx(rows[1].vendi))


@pytest.mark.gpu
def test_on_a_gpu_as_on_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, y = normal(300, 32), normal(250, 32, seed=1) + 0.1
    kinds = np.arange(300) % 3, np.arange(250) % 3
    truth = np.arange(250) % 20
    results = []
    for device in (torch.device("cuda"), torch.device("cpu")):
        classes = {"real_classes": kinds[0], "made_classes": kinds[1], "device": device}
        frechet = frechet_audio_distances(x, y, options=QUICK, **classes)
        kernel = kernel_audio_distances(x, y, **classes)
        copies = find_memorised(x, y, **classes)
        hits = prompt_hits(y, x[:20], truth, device=device)
        diversity = diversity_scores(y, kinds[1], device=device)
        results.append(
            np.concatenate(
                [
                    [v for s in frechet for v in (s.sample, s.shrunk, s.infinite, s.low)],
                    [s.value for s in kernel],
                    copies.p_value,
                    hits.average_precision,
                    [v for s in diversity for v in (s.cosine_distance, s.vendi)],
                ]
            )
        )
    np.testing.assert_allclose(results[0], results[1], rtol=1e-7)
