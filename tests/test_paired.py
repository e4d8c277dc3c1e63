"""Tests of paired differences against scipy and against what they promise, and the comparison of all pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foley import tables
from foley.metrics.bootstrap import interval, resample_recordings
from foley.metrics.classification import accuracy_draws
from foley.metrics.paired import bootstrap_p, corrected_t_test, holm
from foley.studies.zero_shot.compare import compare_methods
from foley.studies.zero_shot.predictions import read_predictions
from foley.studies.zero_shot.score import SplitDraws, measure, recordings_of, score_method, score_references
from foley.tables.scores import PREDICTIONS, SCORES
from foley.tables.zero_shot import PARTITION

# The corrected resampled t-test

differences = st.lists(st.integers(-400, 400), min_size=2, max_size=12).map(lambda d: np.array(d) / 400)


@given(differences)
def test_without_correction_it_is_the_paired_t_test(d: np.ndarray) -> None:
    found = corrected_t_test(d, 0)
    if np.ptp(d) > 0:  # else see below
        assert found == pytest.approx(stats.ttest_1samp(d, 0).pvalue, rel=1e-9, abs=1e-15)


@given(differences, st.floats(0, 3))
def test_correction_widens_the_standard_error(d: np.ndarray, ratio: float) -> None:
    if np.ptp(d) == 0:
        return
    # (1/J + r) s^2 is (1 + J r) times the variance that the plain test takes.
    t = stats.ttest_1samp(d, 0).statistic / math.sqrt(1 + len(d) * ratio)
    found = corrected_t_test(d, ratio)
    assert found == pytest.approx(2 * stats.t.sf(abs(t), len(d) - 1), rel=1e-9, abs=1e-15)
    assert found >= corrected_t_test(d, 0)
    assert found == corrected_t_test(-d, ratio)


def test_corrected_p_is_uniform_where_the_correlation_is_as_assumed() -> None:
    """Splits that share n_test / (n_test + n_train) of their variance and no true difference."""
    generator = np.random.default_rng(0)
    ratio, splits, repeats = 1 / 3, 5, 3000
    share = ratio / (1 + ratio)
    common, own = generator.normal(size=(repeats, 1)), generator.normal(size=(repeats, splits))
    drawn = np.sqrt(share) * common + np.sqrt(1 - share) * own
    corrected = np.array([corrected_t_test(d, ratio) for d in drawn])
    plain = np.array([corrected_t_test(d, 0) for d in drawn])
    assert stats.kstest(corrected, "uniform").pvalue > 0.01
    assert (corrected < 0.05).mean() == pytest.approx(0.05, abs=0.012)
    assert (plain < 0.05).mean() > 0.09


def test_where_there_is_no_t_test() -> None:
    assert corrected_t_test(np.zeros(5), 0.25) == 1
    # Equal accuracies whose means were summed in another order.
    assert corrected_t_test(np.array([1e-17, -2e-17, 0]), 0.25) == 1
    assert math.isnan(corrected_t_test(np.array([0.1]), 0.25))
    assert math.isnan(corrected_t_test(np.array([]), 0.25))
    # 0.1 + 0.2 is not 0.3: no variance but that of rounding.
    assert math.isnan(corrected_t_test(np.array([0.3, 0.1 + 0.2, 0.3]), 0.25))
    with pytest.raises(ValueError, match="must be finite, got"):
        corrected_t_test(np.array([0.1, np.nan]), 0.25)
    with pytest.raises(ValueError, match="test_train_ratio must be zero or more, got -1"):
        corrected_t_test(np.array([0.1, 0.2]), -1)


# The bootstrap p


@pytest.mark.parametrize("shift", [-2.5, -0.7, 0.0, 1.3])
def test_bootstrap_p_of_normal_draws(shift: float) -> None:
    draws = np.random.default_rng(1).normal(shift, 1, 40_000)
    assert bootstrap_p(draws) == pytest.approx(2 * stats.norm.sf(abs(shift)), abs=0.012)
    assert bootstrap_p(-draws) == bootstrap_p(draws)


@given(st.integers(0, 10**6), st.floats(-3, 3))
def test_bootstrap_p_agrees_with_the_interval(seed: int, shift: float) -> None:
    draws = np.random.default_rng(seed).normal(shift, 1, 999)
    p = bootstrap_p(draws)
    for level in (0.5, 0.9, 0.95):
        low, high = interval(draws, level)
        if abs(p - (1 - level)) > 0.005:  # closer than two draws of either tail, they may disagree
            assert (low > 0 or high < 0) == (p < 1 - level)


def test_ends_of_the_bootstrap_p() -> None:
    assert bootstrap_p(np.zeros(99)) == 1
    assert bootstrap_p(np.full(99, 1e-17)) == 1
    assert bootstrap_p(np.full(99, 0.2)) == pytest.approx(2 / 100)
    assert bootstrap_p(np.array([0.2] * 97 + [-0.1, 0.0])) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p(np.array([0.2] * 99 + [np.nan] * 50)) == pytest.approx(2 / 100)
    with pytest.raises(ValueError, match="none has a value"):
        bootstrap_p(np.full(3, np.nan))


# Holm's adjustment

families = st.lists(st.floats(0, 1), min_size=1, max_size=7).map(np.array)


def closed_testing(p: np.ndarray) -> list[float]:
    """Holm as the closure of Bonferroni: a claim stands where every subset of hypotheses that holds it falls."""
    numbers = range(len(p))
    subsets = [set(s) for size in range(1, len(p) + 1) for s in combinations(numbers, size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in numbers]


@given(families)
def test_holm_is_the_closure_of_bonferroni(p: np.ndarray) -> None:
    np.testing.assert_allclose(holm(p), closed_testing(p), rtol=1e-12)


@given(families, st.randoms(use_true_random=False))
def test_properties_of_holm(p: np.ndarray, random: Any) -> None:
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    order = list(range(len(p)))
    random.shuffle(order)
    np.testing.assert_array_equal(holm(p[order]), adjusted[order])


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm(np.array([0.1, np.nan]))


# All pairs of a dataset

DRAWS, CLASSES, CLIPS_PER_CLASS = 200, 9, 12
UNSEEN = {"fold0": (0, 1), "fold1": (2, 3), "fold2": (4, 5, 6)}
SKILL = {"good": 0.8, "fair": 0.55, "poor": 0.3}


def write_predictions(
    path: Path, of_class: Mapping[str, int], *, split: str, method: str, variant: str, seeds: Sequence[int | None],
    skill: float, general: bool = True, name: str = "",
) -> Path:  # fmt: skip
    """Predictions that are right with a probability of ``skill``, else of another class."""
    generator = np.random.default_rng(
        [len(name or method), sum(map(ord, name or method)), len(split + variant)]
    )
    rows = []
    for seed in seeds:
        for setting in ("conventional", "generalised")[: 1 + general]:
            for clip, class_id in of_class.items():
                role = "unseen" if class_id in UNSEEN[split] else "seen_test"
                if setting == "conventional" and role != "unseen":
                    continue
                classes = UNSEEN[split] if setting == "conventional" else range(CLASSES)
                wrong = generator.choice([c for c in classes if c != class_id])
                said = class_id if generator.random() < skill else int(wrong)
                rows.append(
                    {
                        "dataset": "toy", "split": split, "method": method, "variant": variant, "seed": seed,
                        "setting": setting, "clip_id": clip, "role": role, "class_id": class_id,
                        "predicted_class_id": said, "margin": 0.5,
                    }
                )  # fmt: skip
    tables.write(path, PREDICTIONS, rows)
    return path


class Toy:
    """Three splits and their predictions; two clips of each recording."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.of_class = {f"clip-{c}-{n:02d}": c for c in range(CLASSES) for n in range(CLIPS_PER_CLASS)}
        for split, unseen in UNSEEN.items():
            tables.write(
                self.partition(split),
                PARTITION,
                [
                    {
                        "clip_id": clip, "class_id": c, "recording_id": f"{c}-{int(clip[-2:]) // 2}",
                        # A class apart, and one clip in three is not for training.
                        "role": "unseen" if c in unseen else "excluded" if c == 8 else
                        "seen_test" if int(clip[-2:]) % 3 == 0 else "seen_train",
                    }
                    for clip, c in self.of_class.items()
                ],
            )  # fmt: skip
            score_references(
                folder / f"references-{split}.parquet",
                partition=self.partition(split),
                dataset="toy",
                split=split,
            )

    def partition(self, split: str) -> Path:
        return self.folder / f"partition-{split}.parquet"

    def predict(self, split: str, method: str, variant: str, *, name: str = "", **changed: Any) -> Path:
        asked = {c for c in range(CLASSES) if c != 8}
        clips = {
            clip: c
            for clip, c in self.of_class.items()
            if c in asked and (c in UNSEEN[split] or int(clip[-2:]) % 3 == 0)
        }
        path = self.folder / f"{split}-{method}-{variant.replace('/', '-')}.parquet"
        options: dict[str, Any] = {"seeds": [0, 1], "skill": SKILL.get(name or method, 0.5)} | changed
        return write_predictions(
            path, clips, split=split, method=method, variant=variant, name=name, **options
        )

    def compare(
        self, predictions: Sequence[Path], splits: Sequence[str] = tuple(UNSEEN), draws: int = DRAWS
    ) -> list[dict[str, Any]]:
        output = self.folder / "comparison.parquet"
        compare_methods(
            output, predictions=predictions, partitions={split: self.partition(split) for split in splits},
            references=[self.folder / f"references-{split}.parquet" for split in splits],
            baseline="poor", generated=["good"], draws=draws, seed=0,
        )  # fmt: skip
        return tables.read(output, SCORES).to_pylist()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def files(toy: Toy) -> dict[tuple[str, str, str], Path]:
    """(method, variant, split) -> predictions."""
    found = {}
    for split in UNSEEN:
        for method in SKILL:
            found[method, "net/words", split] = toy.predict(split, method, "net/words")
        # The answers of `fair` under another name.
        found["twin", "net/words", split] = toy.predict(split, "twin", "net/words", name="fair")
        # As many seeds as it likes: seeds of two methods are no pairs.
        found["good", "net/words_plain", split] = toy.predict(
            split, "good", "net/words_plain", seeds=[0, 1, 2], skill=0.6
        )
        found["good", "other/words", split] = toy.predict(split, "good", "other/words")
        found["oracle", "net", split] = toy.predict(
            split, "oracle", "net", seeds=[None], general=False, skill=0.9
        )
        for method in ("clap", "larger_clap"):  # references of one variant are no pair
            found[method, "", split] = toy.predict(split, method, "", seeds=[None], general=False, skill=0.95)
    return found


@pytest.fixture(scope="module")
def by_class(toy: Toy, files: dict[tuple[str, str, str], Path]) -> list[dict[str, Any]]:
    return toy.compare(list(files.values()))


@pytest.fixture(scope="module")
def compared(by_class: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the rows of single classes."""
    return [row for row in by_class if row["class_id"] is None]


def pick(rows: Sequence[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (row,) = [row for row in rows if all(row[key] == item for key, item in wanted.items())]
    return row


PAIRS = [
    *(((a, "net/words"), (b, "net/words"), f"to_{b}") for a in (*SKILL, "twin") for b in (*SKILL, "twin") if a != b),
    (("good", "net/words"), ("good", "net/words_plain"), "to_variant_net/words_plain"),
    (("good", "net/words_plain"), ("good", "net/words"), "to_variant_net/words"),
]  # fmt: skip


def test_every_pair_is_compared_and_no_other(compared: list[dict[str, Any]]) -> None:
    wanted = {
        (*here, split, f"{kind}{name}")
        for here, _, name in PAIRS
        for split in (*UNSEEN, "mean")
        for kind in ("difference_", "p_difference_")
    }
    found = [
        (r["method"], r["variant"], r["split"], r["metric"]) for r in compared if "difference_" in r["metric"]
    ]
    assert len(found) == len(wanted)
    assert set(found) == wanted


def test_each_class_is_compared_with_the_baseline(
    files: dict[tuple[str, str, str], Path], by_class: list[dict[str, Any]]
) -> None:
    """A gain for methods with its kind of classifier, else a difference: of recall, clip by clip."""
    rows = [r for r in by_class if r["class_id"] is not None]
    names = {(r["method"], r["metric"]) for r in rows if r["variant"] == "net/words"}
    others = {"twin", *SKILL} - {"good", "poor"}
    assert names == {("good", "gain_over_poor"), *((name, "difference_to_poor") for name in others)}
    assert not [r for r in rows if r["variant"] in ("net", "")]
    for method, metric in names:
        for split, classes in UNSEEN.items():
            recalls = []
            for name in (method, "poor"):
                table = tables.read(files[name, "net/words", split]).to_pylist()
                answers = [r for r in table if r["setting"] == "conventional"]
                recalls.append(
                    {
                        c: np.mean([r["predicted_class_id"] == c for r in answers if r["class_id"] == c])
                        for c in classes
                    }
                )
            for class_id in classes:
                found = pick(
                    rows, method=method, variant="net/words", split=split, metric=metric, class_id=class_id
                )
                assert found["value"] == pytest.approx(recalls[0][class_id] - recalls[1][class_id])
                assert found["low"] <= found["value"] <= found["high"]


@pytest.mark.parametrize(("here", "there", "name"), PAIRS)
def test_difference_of_a_pair(
    toy: Toy, files: dict[tuple[str, str, str], Path], compared: list[dict[str, Any]],
    here: tuple[str, str], there: tuple[str, str], name: str,
) -> None:  # fmt: skip
    """Against the tables of predictions, clip by clip and draw by draw."""
    values, drawn = [], []
    for split in UNSEEN:
        per_clip = []
        for system in (here, there):
            table = tables.read(files[(*system, split)], PREDICTIONS).to_pandas()
            table = table[table.setting == "conventional"]
            right = (table.class_id == table.predicted_class_id).astype(float)
            per_clip.append(right.groupby(table.clip_id).mean().sort_index())
        clipwise = per_clip[0] - per_clip[1]
        recording_of = recordings_of(toy.partition(split))
        recordings = [recording_of[clip] for clip in clipwise.index]
        resamples = resample_recordings(np.array(recordings), DRAWS, 0, split, len(clipwise))
        weights = resamples.weights[:, resamples.recording]
        draws = np.array([np.average(clipwise, weights=w) for w in weights])
        row = pick(compared, method=here[0], variant=here[1], split=split, metric=f"difference_{name}")
        assert row["value"] == pytest.approx(clipwise.mean(), abs=1e-12)
        assert [row["low"], row["high"]] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=1e-12)
        assert (row["n"], row["seed"], row["class_id"]) == (len(clipwise), None, None)
        values.append(clipwise.mean())
        drawn.append(draws)
    row = pick(compared, method=here[0], variant=here[1], split="mean", metric=f"difference_{name}")
    assert row["value"] == pytest.approx(np.mean(values), abs=1e-12)
    limits = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    assert [row["low"], row["high"]] == pytest.approx(limits, abs=1e-12)


def test_splits_that_test_the_same_clips_are_no_surer_together(tmp_path: Path) -> None:
    """Splits of one's own may overlap: a recording has the same weight in each."""
    toy = Toy(tmp_path)
    made = [toy.predict("fold0", method, "net/words") for method in ("good", "poor")]
    # The same clips and answers under the name of another split, and a split apart.
    table = tables.read(toy.partition("fold0"), PARTITION)
    tables.write(toy.partition("again"), PARTITION, table)
    score_references(
        tmp_path / "references-again.parquet", partition=toy.partition("again"), dataset="toy", split="again"
    )
    for path in list(made):
        rows = [row | {"split": "again"} for row in tables.read(path, PREDICTIONS).to_pylist()]
        tables.write(tmp_path / f"again-{path.name}", PREDICTIONS, rows)
        made.append(tmp_path / f"again-{path.name}")
    rows = toy.compare(made, ["fold0", "again"])
    for metric in ("difference_to_poor", "gain_over_poor"):
        found = {
            split: pick(rows, method="good", split=split, metric=metric, class_id=None)
            for split in ("fold0", "again", "mean")
        }
        ends = [[found[split][end] for end in ("low", "high")] for split in ("fold0", "again", "mean")]
        np.testing.assert_allclose(ends[1:], [ends[0]] * 2, atol=1e-12)
    # Means of the generalised setting, whose seen clips splits share as a rule, too.
    whole = toy.compare(made, ["fold0", "again"])
    seen = pick(whole, method="good", split="mean", metric="accuracy_seen", seed=None)
    (alone,) = [
        row
        for row in score_alone(tmp_path, made[0], toy.partition("fold0"))
        if row["metric"] == "accuracy_seen" and row["seed"] is None
    ]
    assert seen["high"] - seen["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.2)


def score_alone(folder: Path, predictions: Path, partition: Path) -> list[dict[str, Any]]:
    score_method(folder / "alone.parquet", predictions=predictions, partition=partition, draws=2000, seed=0)
    return tables.read(folder / "alone.parquet", SCORES).to_pylist()


def test_draws_of_splits_hang_together_where_recordings_do(tmp_path: Path) -> None:
    clips = {"a": "123", "b": "345", "c": "56", "d": "789"}
    for split, own in clips.items():
        tables.write(
            tmp_path / f"{split}.parquet",
            PARTITION,
            [
                {"clip_id": f"c{n}", "class_id": 0, "recording_id": f"r{n}", "role": "unseen"} for n in own
            ],
        )  # fmt: skip
    draws = SplitDraws({split: tmp_path / f"{split}.parquet" for split in clips}, 50, 3)
    of = {split: draws.of(split, np.array([f"c{n}" for n in own])) for split, own in clips.items()}

    def weight(split: str, number: str) -> np.ndarray:
        place = clips[split].index(number)
        return of[split].weights[:, of[split].recording[place]]

    np.testing.assert_array_equal(weight("a", "3"), weight("b", "3"))
    np.testing.assert_array_equal(weight("b", "5"), weight("c", "5"))
    assert not np.array_equal(weight("a", "1"), weight("a", "2"))
    # Of a split with few of the recordings that are drawn together, some draws have none.
    few = draws.of("c", np.array(["c6"]))
    with np.errstate(all="raise"):
        accuracies = accuracy_draws(np.ones((2, 1)), few)
    np.testing.assert_array_equal(np.isnan(accuracies), weight("c", "6") == 0)
    assert np.isnan(accuracies).any() and (accuracies[np.isfinite(accuracies)] == 1).all()
    # A split apart is drawn as ever.
    alone = resample_recordings(np.array(["r7", "r8", "r9"]), 50, 3, "d", 3)
    np.testing.assert_array_equal(of["d"].weights, alone.weights)
    total = sum(
        weight(s, n) for s, n in (("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("b", "5"), ("c", "6"))
    )
    assert (total == 6).all()


def test_p_of_all_pairs(compared: list[dict[str, Any]]) -> None:
    def per_split(here: tuple[str, str], name: str) -> list[float]:
        wanted = {"method": here[0], "variant": here[1], "metric": f"difference_{name}"}
        return [pick(compared, split=split, **wanted)["value"] for split in UNSEEN]

    def expected(d: list[float]) -> float:
        if not any(d):
            return 1.0
        # 2, 2 and 3 unseen classes; 6, 6 and 5 seen ones (and one that is excluded).
        return 2 * stats.t.sf(abs(np.mean(d)) / math.sqrt((1 / 3 + 7 / 17) * np.var(d, ddof=1)), 2)

    methods = [(h, t, name) for h, t, name in PAIRS if h < t and h[1] == t[1]]
    assert len(methods) == 6
    raw = np.array([expected(per_split(h, name)) for h, _, name in methods])
    for (here, there, name), p in zip(methods, closed_testing(raw), strict=True):
        for one, metric in ((here, f"p_difference_{name}"), (there, f"p_difference_to_{here[0]}")):
            row = pick(compared, method=one[0], variant=one[1], split="mean", metric=metric)
            assert row["value"] == pytest.approx(p, rel=1e-9)
            assert (row["n"], row["low"], row["high"]) == (3, None, None)
    assert min(raw) < 0.5 < max(raw)
    # Between class vectors: a family of its own, here of one pair.
    name = "to_variant_net/words_plain"
    row = pick(compared, variant="net/words", split="mean", metric=f"p_difference_{name}")
    assert row["value"] == pytest.approx(expected(per_split(("good", "net/words"), name)), rel=1e-9)


def test_a_twin_does_not_differ(compared: list[dict[str, Any]]) -> None:
    for split in (*UNSEEN, "mean"):
        row = pick(compared, method="twin", split=split, metric="difference_to_fair")
        assert (row["value"], row["low"], row["high"]) == (0, 0, 0)
        assert pick(compared, method="twin", split=split, metric="p_difference_to_fair")["value"] == 1


def test_references_have_means_and_no_seeds(
    toy: Toy, files: dict[tuple[str, str, str], Path], compared: list[dict[str, Any]]
) -> None:
    for method, variant in (("oracle", "net"), ("clap", "")):
        rows = [row for row in compared if row["method"] == method]
        assert {(row["split"], row["metric"], row["seed"]) for row in rows} == {
            ("mean", "accuracy", None), ("mean", "accuracy_macro", None),
        }  # fmt: skip
        right = [
            read_predictions(files[method, variant, split], "conventional").correct.mean() for split in UNSEEN
        ]
        row = pick(rows, metric="accuracy")
        assert row["value"] == pytest.approx(np.mean(right))
        assert row["low"] < row["value"] < row["high"]


def test_one_split_is_tested_by_its_recordings(
    toy: Toy, files: dict[tuple[str, str, str], Path], compared: list[dict[str, Any]]
) -> None:
    asked = [files[method, "net/words", "fold0"] for method in (*SKILL, "twin")]
    rows = toy.compare(asked, ["fold0"])
    assert {row["split"] for row in rows} == {"fold0"}
    recording_of = recordings_of(toy.partition("fold0"))
    accuracy = {
        method: measure(files[method, "net/words", "fold0"], recording_of, DRAWS, 0)[1]["accuracy"].draws
        for method in (*SKILL, "twin")
    }
    pairs = list(combinations(sorted(accuracy), 2))
    raw = []
    for a, b in pairs:
        draws = accuracy[a] - accuracy[b]
        raw.append(min(1, 2 * (1 + min((draws <= 0).sum(), (draws >= 0).sum())) / (1 + DRAWS)))
    for (a, b), p in zip(pairs, closed_testing(np.array(raw)), strict=True):
        row = pick(rows, method=a, metric=f"p_difference_to_{b}")
        assert row["value"] == pytest.approx(p)
        assert row["n"] == 1
        # A split has the same p among others.
        assert row == pick(compared, method=a, split="fold0", metric=f"p_difference_to_{b}")
    assert pick(rows, method="good", metric="p_difference_to_poor")["value"] < 0.1


def test_splits_that_all_differ_alike_are_tested_by_their_recordings(toy: Toy) -> None:
    """No variance between splits is no certainty: the p is that of the recordings."""
    paths = [
        toy.predict(split, method, "flat/words", skill=skill)
        for split in ("fold0", "fold1")
        for method, skill in (("right", 1.0), ("wrong", 0.0))
    ]
    rows = toy.compare(paths, ["fold0", "fold1"])
    assert pick(rows, method="right", split="mean", metric="difference_to_wrong")["value"] == 1
    row = pick(rows, method="right", split="mean", metric="p_difference_to_wrong")
    assert row["value"] == pytest.approx(2 / (1 + DRAWS))
    assert row["n"] == 2


def test_a_pair_without_all_splits_has_no_mean(toy: Toy, files: dict[tuple[str, str, str], Path]) -> None:
    paths = [files["good", "net/words", split] for split in UNSEEN]
    paths += [files["fair", "net/words", split] for split in ("fold0", "fold2")]
    found = {(r["split"], r["metric"]) for r in toy.compare(paths) if "difference" in r["metric"]}
    assert found == {
        (split, f"{p}difference_to_{method}")
        for split in ("fold0", "fold2")
        for method in ("good", "fair")
        for p in ("", "p_")
    }


def test_errors_of_a_comparison(toy: Toy, files: dict[tuple[str, str, str], Path], tmp_path: Path) -> None:
    fewer = tmp_path / "fewer.parquet"
    table = tables.read(files["fair", "net/words", "fold0"], PREDICTIONS).to_pylist()
    clip = next(row["clip_id"] for row in table if row["role"] == "unseen")
    tables.write(fewer, PREDICTIONS, [row for row in table if row["clip_id"] != clip])
    message = r"toy, split fold0: fair \(net/words\) and good \(net/words\) answer for different clips"
    with pytest.raises(ValueError, match=message):
        toy.compare([fewer, files["good", "net/words", "fold0"]], ["fold0"])
    tables.write(fewer, PREDICTIONS, [row | {"method": "poor"} for row in table if row["clip_id"] != clip])
    with pytest.raises(
        ValueError, match=r"good \(net/words\) and poor \(net/words\) answer for different clips"
    ):
        toy.compare([fewer, files["good", "net/words", "fold0"]], ["fold0"])
    with pytest.raises(
        ValueError, match=r"is of split fold1, which has no partition here; there are \['fold0'\]"
    ):
        toy.compare([files["fair", "net/words", "fold1"]], ["fold0"])
    tables.write(fewer, PREDICTIONS, [])
    with pytest.raises(ValueError, match=r"fewer\.parquet: holds no predictions"):
        toy.compare([fewer], ["fold0"])
    tables.write(fewer, PREDICTIONS, [row for row in table if row["setting"] == "generalised"])
    with pytest.raises(ValueError, match=r"fewer\.parquet: holds no conventional predictions"):
        toy.compare([fewer], ["fold0"])
    tables.write(fewer, PREDICTIONS, [row | {"seed": row["seed"] or None} for row in table])
    with pytest.raises(ValueError, match="some predictions have a seed and some have none"):
        read_predictions(fewer, "conventional")
    with pytest.raises(ValueError, match="holds no generalised predictions, only conventional ones"):
        read_predictions(files["clap", "", "fold0"], "generalised")


def test_scores_of_a_reference(toy: Toy, files: dict[tuple[str, str, str], Path], tmp_path: Path) -> None:
    path, output = files["oracle", "net", "fold0"], tmp_path / "scores.parquet"
    score_method(output, predictions=path, partition=toy.partition("fold0"), draws=DRAWS, seed=0)
    rows = tables.read(output, SCORES).to_pylist()
    assert [(row["metric"], row["class_id"]) for row in rows] == [
        ("accuracy", None), ("accuracy_macro", None), ("precision", 0), ("precision", 1), ("recall", 0), ("recall", 1),
    ]  # fmt: skip
    assert {row["seed"] for row in rows} == {None}
    table = tables.read(path, PREDICTIONS).to_pandas()
    right = table.class_id == table.predicted_class_id
    assert rows[0]["value"] == pytest.approx(right.mean())
    for row in rows[2:]:
        among = table.class_id if row["metric"] == "recall" else table.predicted_class_id
        assert row["value"] == pytest.approx(right[among == row["class_id"]].mean())
