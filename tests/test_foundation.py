"""The study of prompted generators: mixes, the class filter, active generation, and what validation chooses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score

from foley import tables
from foley.augment.protocol import Augmentations
from foley.classifiers.cnn import LogMelCNN, LogMelCNNOptions
from foley.classifiers.linear_probe import LinearProbeOptions
from foley.studies.audio.compare_arms import read_closed
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION
from foley.studies.foundation.choose_mix import choose_mix
from foley.studies.foundation.class_filter import (
    allocate_clips,
    class_precisions,
    filter_classes,
    lowest,
    read_choice,
    share_out,
    shrunk,
)
from foley.studies.foundation.compare_mixes import compare_mixes
from foley.studies.foundation.costs import Expense, write_costs
from foley.studies.foundation.fit_probes import clip_vectors, fit_probes
from foley.studies.foundation.mix import Mix, variant
from foley.studies.foundation.mixes import draw_real, draw_synthetic, read_pool
from foley.studies.foundation.train_mix import MixClips, count_clips, nearest_to_prompt, train_mix
from foley.tables.audio_studies import AUDIO_PARTITION, GENERATION_COST, PROMPTED
from foley.tables.features import EMBEDDINGS
from foley.tables.foundation import CLASS_CHOICE, COSTS, MIX_CHOICE, MIX_CLIPS
from foley.tables.prompts import LLM_REQUESTS
from foley.tables.scores import PREDICTIONS, SCORES
from toy_store import LABELS, Store, make_store, synthetic

CLASSES = list(LABELS)
OPTIONS = LogMelCNNOptions(
    steps=12, batch_size=8, validate_every_steps=4, sample_rate_hz=4_000, window_s=0.25, n_fft=128, hop_length=64,
    n_mels=16, channels=(4, 6), hidden=8, f_max_hz=2000.0, precision="float32", block_dropout=0.1, head_dropout=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


def predictions(path: Path, truth: Sequence[int], said: Sequence[Sequence[int]], **labels: Any) -> Path:
    """A table of predictions, the same answers for validation and test clips."""
    named = {"dataset": "toy", "split": "fold1", "method": "real", "variant": "cnn/real=100%"} | labels
    rows = [
        {
            **named, "setting": "closed", "seed": seed, "clip_id": f"{role}-{number:02d}", "role": role,
            "class_id": true, "predicted_class_id": answers[number], "margin": 1.0,
        }
        for seed, answers in enumerate(said)
        for role in (VALIDATION, TEST)
        for number, true in enumerate(truth)
    ]  # fmt: skip
    tables.write(path, PREDICTIONS, rows)
    return path


# Mixes


def test_names_of_mixes() -> None:
    assert Mix(100).name == "real"
    assert Mix(0, "audiogen-label", 30).name == "audiogen-label_30"
    assert Mix(10, "audiogen-label", 30, "precision").name == "audiogen-label_30_precision"
    assert variant("cnn", 10) == "cnn/real=10%"
    assert variant("cnn", 10, "published") == "cnn/real=10%/published"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ((101,), "real_percent"),
        ((0,), "nothing to learn from"),
        ((10, "a", 0), "a source and an amount"),
        ((10, None, 3), "a source and an amount"),
        ((10, "a", 3, "best"), "unknown filter `best`"),
    ],
)
def test_wrong_mixes_are_refused(wrong: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Mix(*wrong)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    small=st.integers(1, 100),
    large=st.integers(1, 100),
    seed=st.integers(0, 5),
)
def test_real_draws_are_stratified_and_nested(counts: list[int], small: int, large: int, seed: int) -> None:
    small, large = sorted((small, large))
    class_of = {f"{c}-{n}": c for c, count in enumerate(counts) for n in range(count)}
    few, many = draw_real(class_of, small, seed), draw_real(class_of, large, seed)
    assert set(few) <= set(many) <= set(class_of)
    of_class = Counter(class_of[clip_id] for clip_id in few)
    assert [of_class[c] for c in range(len(counts))] == [max(1, math.ceil(n * small / 100)) for n in counts]
    assert few == sorted(few)


def test_real_draws_differ_by_seed_and_none_is_none() -> None:
    class_of = {f"{n:02d}": n % 2 for n in range(40)}
    assert draw_real(class_of, 0, 0) == []
    assert draw_real(class_of, 100, 0) == sorted(class_of)
    assert draw_real(class_of, 20, 0) != draw_real(class_of, 20, 1)


def test_synthetic_draws_are_nested_and_too_few_are_refused() -> None:
    pool = {f"{c}-{n}": c for c in (3, 7) for n in range(9)}
    few, many = draw_synthetic(pool, {3: 2, 7: 2}, 0), draw_synthetic(pool, {3: 5, 7: 5}, 0)
    assert set(few) < set(many) and len(many) == 10
    assert Counter(pool[c] for c in draw_synthetic(pool, {3: 0, 7: 4}, 0)) == {7: 4}
    # One refused clip leaves a gap; more are an error.
    assert Counter(pool[c] for c in draw_synthetic(pool, {3: 9, 7: 10}, 0)) == {3: 9, 7: 9}
    with pytest.raises(
        ValueError, match=r"source `g` has too few clips of these classes: 7 \(9 of 12\), 8 \(0 of 1\)"
    ):
        draw_synthetic(pool, {3: 9, 7: 12, 8: 1}, 0, source="g")


def test_a_pool_holds_clips_of_the_split_alone(store: Store, tmp_path: Path) -> None:
    made = synthetic(tmp_path / "made.parquet", dict.fromkeys(CLASSES, 2))
    assert Counter(read_pool([made], CLASSES).values()) == dict.fromkeys(CLASSES, 2)
    with pytest.raises(ValueError, match="class 8, which the split does not have"):
        read_pool([made], CLASSES[:2])
    with pytest.raises(ValueError, match="is there twice"):
        read_pool([made, made], CLASSES)
    trained = [row["clip_id"] for row in store.rows if row["role"] == TRAIN]
    leaking = synthetic(tmp_path / "leaking.parquet", {3: 1}, sources=["9-bell"])
    with pytest.raises(ValueError, match="made from others than the split's training clips"):
        read_pool([leaking], CLASSES, trained)


# The class filter


def test_precision_is_that_of_scikit_learn(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    truth = generator.choice(CLASSES, 60)
    said = generator.choice(CLASSES, (2, 60))
    path = predictions(tmp_path / "p.parquet", truth.tolist(), said.tolist())
    found = class_precisions(read_closed(path, VALIDATION), CLASSES)
    expected = precision_score(
        np.tile(truth, 2), said.ravel(), labels=CLASSES, average=None, zero_division=np.nan
    )
    assert [found[c][0] for c in CLASSES] == pytest.approx(expected.tolist())
    assert [found[c][1] for c in CLASSES] == [(said == c).sum() for c in CLASSES]


def test_the_lowest_classes_leave(tmp_path: Path) -> None:
    truth = [3, 3, 7, 7, 8, 8]
    # Class 8 is never said, class 7 half wrongly.
    path = predictions(tmp_path / "p.parquet", truth, [[3, 3, 7, 7, 7, 7]])
    filter_classes(
        tmp_path / "kept.parquet", predictions=path, class_ids=CLASSES, amount=5, drop_fraction=0.34
    )
    rows = tables.read(tmp_path / "kept.parquet", CLASS_CHOICE).to_pylist()
    assert [(r["class_id"], r["clips"], r["value"], r["n"]) for r in rows] == [
        (3, 5, 1.0, 2),
        (7, 5, 0.5, 4),
        (8, 0, None, 0),
    ]
    assert read_choice(tmp_path / "kept.parquet") == {3: 5, 7: 5, 8: 0}


@pytest.mark.parametrize(
    ("classes", "fraction", "count"), [(50, 0.2, 10), (3, 0.2, 1), (2, 0.2, 0), (2, 0.99, 1)]
)
def test_how_many_leave(classes: int, fraction: float, count: int) -> None:
    measured = {c: (c / 100, 5) for c in range(classes)}
    assert lowest(measured, fraction) == set(range(count))


# Active generation


@settings(max_examples=60, deadline=None)
@given(
    gains=st.lists(st.floats(-1, 1, allow_nan=False), min_size=1, max_size=8),
    pool=st.lists(st.integers(0, 30), min_size=8, max_size=8),
    budget=st.integers(0, 120),
)
def test_a_budget_is_shared_out_whole(gains: list[float], pool: list[int], budget: int) -> None:
    gain_of, pool_of = dict(enumerate(gains)), dict(enumerate(pool[: len(gains)]))
    counts = share_out(gain_of, pool_of, budget)
    assert all(0 <= counts[c] <= pool_of[c] for c in pool_of)
    assert all(not counts[c] for c in pool_of if gain_of[c] <= 0)
    assert sum(counts.values()) == min(budget, sum(pool_of[c] for c in pool_of if gain_of[c] > 0))


def test_shares_follow_gains_and_what_a_full_class_leaves_goes_on() -> None:
    assert share_out({0: 0.1, 1: 0.3}, {0: 100, 1: 100}, 40) == {0: 10, 1: 30}
    assert share_out({0: 0.1, 1: 0.3, 2: 0.1}, {0: 100, 1: 10, 2: 100}, 40) == {0: 15, 1: 10, 2: 15}
    assert shrunk(0.5, 4) == 0.25 and shrunk(math.nan, 0) == 0.0


@settings(max_examples=50, deadline=None)
@given(
    gains=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=6),
    pool=st.integers(0, 20),
    amount=st.integers(0, 15),
    floor=st.floats(0, 1),
)
def test_a_floor_is_even_and_the_rest_goes_by_gains(
    gains: list[float], pool: int, amount: int, floor: float
) -> None:
    gain_of, pool_of = dict(enumerate(gains)), dict.fromkeys(range(len(gains)), pool)
    counts = share_out(gain_of, pool_of, amount * len(gains), floor)
    assert sum(counts.values()) <= amount * len(gains)
    if max(gains) <= 0:
        assert not any(counts.values())
        return
    even = min(pool, int(amount * len(gains) * floor / len(gains)))
    assert all(even <= counts[c] <= pool for c in counts)
    assert all(counts[c] == even for c, gain in gain_of.items() if gain <= 0)


def test_half_is_shared_evenly() -> None:
    assert share_out({0: 0.1, 1: 0.3, 2: -0.2, 3: 0.0}, dict.fromkeys(range(4), 99), 40, 0.5) == {
        0: 10, 1: 20, 2: 5, 3: 5,
    }  # fmt: skip
    assert share_out({0: 0.1, 1: 0.0}, {0: 12, 1: 3}, 20, 0.5) == {0: 12, 1: 3}
    assert share_out({0: 0.0, 1: -0.1}, {0: 12, 1: 3}, 20, 0.5) == {0: 0, 1: 0}


def test_clips_go_where_validation_gains(tmp_path: Path) -> None:
    truth = [3, 3, 7, 7, 8, 8]
    without = predictions(tmp_path / "a.parquet", truth, [[3, 3, 3, 3, 8, 8]])
    added = predictions(tmp_path / "b.parquet", truth, [[3, 3, 7, 7, 8, 3]], method="g_5")
    allocate_clips(
        tmp_path / "c.parquet", without=without, added=added, pool={3: 12, 7: 12, 8: 12}, amount=4, floor=0.0
    )
    assert read_choice(tmp_path / "c.parquet") == {3: 0, 7: 12, 8: 0}
    rows = {r["class_id"]: r for r in tables.read(tmp_path / "c.parquet", CLASS_CHOICE).to_pylist()}
    assert [rows[c]["value"] for c in CLASSES] == [0.0, 1.0, -0.5]
    allocate_clips(
        tmp_path / "d.parquet", without=added, added=added, pool={3: 12, 7: 12, 8: 12}, amount=4, floor=0.0
    )
    assert set(read_choice(tmp_path / "d.parquet").values()) == {0}


# Training


def test_clap_keeps_the_nearest_clips_of_each_class(tmp_path: Path) -> None:
    class_of = {f"{c}-{n}": c for c in (3, 7) for n in range(5)}
    rows = [
        {
            "clip_id": clip_id,
            "class_id": c,
            "template": "t",
            "rank": 1,  # as with a good generator
            "average_precision": 1.0,
            "similarity": 0.1 * ((n * 3 + 1) % 5),
        }
        for n, (clip_id, c) in enumerate(class_of.items())
    ]
    tables.write(tmp_path / "asked.parquet", PROMPTED, rows)
    kept = nearest_to_prompt(list(class_of), class_of, [tmp_path / "asked.parquet"], 0.2)
    dropped = {
        clip_id: row["similarity"] for clip_id, row in zip(class_of, rows, strict=True) if clip_id not in kept
    }
    # The furthest of each class, wherever its id stands, though all have one rank.
    assert dropped == {"3-3": 0.0, "7-3": 0.0} and len(kept) == 8
    with pytest.raises(ValueError, match="CLAP was not asked about clip `x`"):
        nearest_to_prompt(["x"], {"x": 3}, [tmp_path / "asked.parquet"], 0.2)


def train(
    folder: Path, store: Store, mix: Mix, made: Sequence[Path] = (), **changed: Any
) -> tuple[Path, Path]:
    more: dict[str, Any] = {
        "protocol": "clean", "audio": store.shards, "partition": store.partition, "synthetic": made,
        "classifier": LogMelCNN, "options": OPTIONS, "augmentations": Augmentations(), "seeds": [0, 1], "draw_seed": 0,
        "labels": {"dataset": "toy", "split": "fold1", "method": mix.name, "variant": variant("cnn", mix.real_percent)},
    } | changed  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "predictions.parquet", folder / "history.parquet"
    train_mix(*out, folder / "clips.parquet", mix=mix, **more)
    return out


def test_a_mix_is_trained_and_asked_about_validation_and_test_clips(store: Store, tmp_path: Path) -> None:
    made = synthetic(tmp_path / "made.parquet", dict.fromkeys(CLASSES, 6))
    said, history = train(tmp_path / "one", store, Mix(50, "g", 4), [made])
    table = tables.read(said, PREDICTIONS)
    roles = Counter(zip(table["seed"].to_pylist(), table["role"].to_pylist(), strict=True))
    assert roles == {(seed, role): 6 for seed in (0, 1) for role in (VALIDATION, TEST)}
    assert set(table["method"].to_pylist()) == {"g_4"}
    quantities = set(tables.read(history)["quantity"].to_pylist())
    assert {q.partition("_")[0] for q in quantities} == {"seed0", "seed1"}
    counted = tables.read(tmp_path / "one" / "clips.parquet", MIX_CLIPS).to_pylist()
    assert {(r["seed"], r["class_id"], r["real"], r["wanted"], r["taken"]) for r in counted} == {
        (seed, c, 3, 4, 4) for seed in (0, 1) for c in CLASSES
    }
    again, _ = train(tmp_path / "two", store, Mix(50, "g", 4), [made])
    assert tables.read(again, PREDICTIONS).equals(table)


def test_published_protocol_takes_the_step_that_is_best_on_the_test_clips(
    store: Store, tmp_path: Path
) -> None:
    said, history = train(tmp_path, store, Mix(100), protocol="published", seeds=[0])
    table = tables.read(said, PREDICTIONS).to_pylist()
    tested = [r for r in table if r["role"] == TEST]
    assert tested == table  # validation clips are learnt from, so they are not asked about
    counted = tables.read(tmp_path / "clips.parquet", MIX_CLIPS).to_pylist()
    roles = Counter(row["role"] for row in store.rows)
    assert sum(r["real"] for r in counted) == roles[TRAIN] + roles[VALIDATION]
    right = np.mean([r["class_id"] == r["predicted_class_id"] for r in tested])
    rounds = tables.read(history).to_pylist()
    seen = [r["value"] for r in rounds if r["quantity"] == "seed0_validation_accuracy"]
    assert seen and right == pytest.approx(max(seen))


def test_draws_of_a_mix(store: Store, tmp_path: Path) -> None:
    made = synthetic(tmp_path / "made.parquet", dict.fromkeys(CLASSES, 6))
    source = MixClips(store.rows, [made])
    real, added, wanted = source.draw(Mix(50, "g", 4), 0)
    assert Counter(real.values()) == dict.fromkeys(CLASSES, 3)
    assert Counter(added.values()) == wanted == dict.fromkeys(CLASSES, 4)
    assert source.draw(Mix(50), 0) == (real, {}, {})
    # Tested and validation clips are never learnt from.
    roles = {row["clip_id"]: row["role"] for row in store.rows}
    assert {roles[clip_id] for clip_id in real} == {TRAIN}
    assert source.draw(Mix(50, "g", 4), 1).real != real


def test_the_published_protocol_also_learns_from_validation_clips(store: Store) -> None:
    source = MixClips(store.rows, protocol="published")
    roles = {row["clip_id"]: row["role"] for row in store.rows}
    assert {roles[clip_id] for clip_id in source.draw(Mix(100), 0).real} == {TRAIN, VALIDATION}
    assert len(source.draw(Mix(100), 0).real) == sum(role != TEST for role in roles.values())


def test_a_mix_says_how_many_clips_it_had(store: Store, tmp_path: Path) -> None:
    """A refused clip of a generator is a gap, which the table shows."""
    made = synthetic(tmp_path / "made.parquet", {3: 6, 7: 5, 8: 6})
    source = MixClips(store.rows, [made])
    labels = {"dataset": "toy", "split": "fold1", "method": "g_6", "variant": "cnn/real=50%"}
    rows = count_clips({4: source.draw(Mix(50, "g", 6), 4)}, CLASSES, labels)
    assert [(r["class_id"], r["real"], r["wanted"], r["taken"]) for r in rows] == [
        (3, 3, 6, 6), (7, 3, 6, 5), (8, 3, 6, 6)
    ]  # fmt: skip
    assert {r["seed"] for r in rows} == {4} and labels.items() <= rows[0].items()
    # CLAP drops a fifth of what is there, and of what is to be there.
    asked = [
        {"clip_id": f"made-{c}-{n}", "class_id": c, "template": "t", "rank": 1, "average_precision": 1.0,
         "similarity": 0.5}
        for c in CLASSES for n in range(6)
    ]  # fmt: skip
    tables.write(tmp_path / "asked.parquet", PROMPTED, asked)
    heard = MixClips(store.rows, [made], prompted=[tmp_path / "asked.parquet"], drop_fraction=0.2)
    rows = count_clips({0: heard.draw(Mix(50, "g", 6, "clap"), 0)}, CLASSES, labels)
    assert [(r["wanted"], r["taken"]) for r in rows] == [(5, 5), (5, 4), (5, 5)]


def test_a_class_that_left_has_no_synthetic_clips(store: Store, tmp_path: Path) -> None:
    made = synthetic(tmp_path / "made.parquet", dict.fromkeys(CLASSES, 6))
    rows = [
        {"class_id": c, "filter": "precision", "clips": 0 if c == 7 else 4, "measured": "precision", "value": 0.5,
         "n": 4, "reason": ""}
        for c in CLASSES
    ]  # fmt: skip
    tables.write(tmp_path / "kept.parquet", CLASS_CHOICE, rows)
    _, added, wanted = MixClips(store.rows, [made], tmp_path / "kept.parquet").draw(
        Mix(50, "g", 4, "precision"), 0
    )
    assert Counter(added.values()) == {3: 4, 8: 4} and wanted == {3: 4, 7: 0, 8: 4}


# Choosing and comparing


def test_validation_chooses_and_real_clips_win_a_tie(tmp_path: Path) -> None:
    truth = [3, 3, 7, 7, 8, 8]
    perfect, poor = [truth, truth], [[3] * 6, [3] * 6]
    real = predictions(tmp_path / "real.parquet", truth, poor)
    good = predictions(tmp_path / "good.parquet", truth, perfect, method="good_5")
    choose_mix(tmp_path / "chosen.parquet", tmp_path / "choice.parquet", mixes=[real, good])
    rows = tables.read(tmp_path / "choice.parquet", MIX_CHOICE).to_pylist()
    assert [(r["method"], r["accuracy"], r["chosen"]) for r in rows] == [
        ("good_5", 1.0, 1),
        ("real", pytest.approx(1 / 3), 0),
    ]
    chosen = tables.read(tmp_path / "chosen.parquet", PREDICTIONS)
    assert set(chosen["method"].to_pylist()) == {"chosen"}
    assert chosen.drop(["method"]).equals(tables.read(good, PREDICTIONS).drop(["method"]))
    same = predictions(tmp_path / "same.parquet", truth, poor, method="a_5")
    choose_mix(tmp_path / "b.parquet", tmp_path / "b_choice.parquet", mixes=[same, real])
    rows = tables.read(tmp_path / "b_choice.parquet", MIX_CHOICE).to_pylist()
    assert {(r["method"], r["variant"], r["chosen"]) for r in rows} == {
        ("real", "cnn/real=100%", 1), ("a_5", "cnn/real=100%", 0),
    }  # fmt: skip
    other = predictions(tmp_path / "other.parquet", truth, poor, variant="cnn/real=10%")
    with pytest.raises(ValueError, match="one split and variant"):
        choose_mix(tmp_path / "c.parquet", tmp_path / "c_choice.parquet", mixes=[real, other])


def test_gains_are_over_as_many_real_clips(tmp_path: Path) -> None:
    truth = [3, 3, 7, 7, 8, 8]
    rows = [
        {"clip_id": f"{role}-{n:02d}", "class_id": c, "recording_id": f"{role}-{n}", "role": role}
        for role in (TRAIN, VALIDATION, TEST) for n, c in enumerate(truth)
    ]  # fmt: skip
    tables.write(tmp_path / "partition.parquet", AUDIO_PARTITION, rows)
    half = [[3, 7, 7, 3, 8, 3]]
    files = [
        predictions(tmp_path / "1.parquet", truth, half),
        predictions(tmp_path / "2.parquet", truth, [truth], method="g_5"),
        predictions(tmp_path / "3.parquet", truth, half, method="g_5", variant="cnn/real=0%"),
    ]
    compare_mixes(
        tmp_path / "scores.parquet", predictions=files, partitions={"fold1": tmp_path / "partition.parquet"},
        draws=200, seed=0,
    )  # fmt: skip
    found = {
        (r["variant"], r["method"], r["metric"]): r["value"]
        for r in tables.read(tmp_path / "scores.parquet", SCORES).to_pylist()
        if r["class_id"] is None and r["seed"] is None
    }
    assert found["cnn/real=100%", "g_5", "gain_over_real"] == pytest.approx(0.5)
    assert found["cnn/real=0%", "g_5", "accuracy"] == pytest.approx(0.5)
    assert ("cnn/real=0%", "g_5", "gain_over_real") not in found
    assert {r["study"] for r in tables.read(tmp_path / "scores.parquet", SCORES).to_pylist()} == {
        "foundation"
    }


# Costs


def request(number: int, tokens: Mapping[str, int | None]) -> dict[str, Any]:
    return {
        "class_id": 3, "round": number, "purpose": "write", "label": "bell", "request_hash": f"{number:064d}",
        "model": "m", "request": "words?", "answer": "{}", "status": "ok", **tokens,
    }  # fmt: skip


def test_costs_are_summed_and_a_lost_benchmark_is_no_zero(tmp_path: Path) -> None:
    made = synthetic(tmp_path / "made.parquet", {3: 4}, duration_s=1.5)
    times = []
    for number, value in enumerate((2.5, 4.0)):
        times.append(tmp_path / f"{number}.tsv")
        times[-1].write_text(f"s\th:m:s\n{value}\t0:00:0{value:.0f}\n", encoding="utf-8")
    asked = tmp_path / "requests.parquet"
    tables.write(
        asked, LLM_REQUESTS, [request(n, {"input_tokens": 100, "output_tokens": 7}) for n in range(3)]
    )
    spent = [
        {"device": device, "generator": "g", "prompts": "llm", "clips": 2, "seconds": value}
        for device, value in (("cpu", 3.0), ("H100", 0.5))
    ]
    tables.write(tmp_path / "spent.parquet", GENERATION_COST, spent)
    common: dict[str, Any] = {"dataset": "toy", "clips": [made]}
    write_costs(
        tmp_path / "costs.parquet",
        [
            Expense(split=None, source="g-llm", generator="g", prompts="llm", measured=[tmp_path / "spent.parquet"],
                    requests=asked, **common),
            Expense(split="fold1", source="h", generator="h", prompts=None, benchmarks=times, **common),
            Expense(split="fold2", source="h", generator="h", prompts=None, benchmarks=[tmp_path / "gone"], **common),
        ],
    )  # fmt: skip
    first, second, third = tables.read(tmp_path / "costs.parquet", COSTS).to_pylist()
    assert (first["clips"], first["compute_s"], first["device"]) == (4, 3.5, "H100, cpu")
    assert (first["requests"], first["input_tokens"], first["output_tokens"]) == (3, 300, 21)
    assert first["audio_h"] == pytest.approx(6 / 3600)
    assert (second["compute_s"], second["requests"]) == (6.5, None)
    assert third["compute_s"] is None
    (tmp_path / "bad.tsv").write_text("no\n1\n", encoding="utf-8")
    bad = Expense(
        split=None, source="g", generator="g", prompts=None, benchmarks=[tmp_path / "bad.tsv"], **common
    )
    with pytest.raises(ValueError, match="no benchmark of a job"):
        write_costs(tmp_path / "x.parquet", [bad])


# Probes


def embeddings(path: Path, class_of: Mapping[str, int], windows: int = 2) -> Path:
    """Two windows a clip around a point of its class."""
    rows = []
    for clip_id, class_id in class_of.items():
        generator = np.random.default_rng([class_id, *clip_id.encode()])
        point = np.eye(6)[class_id % 6] + 0.1 * generator.normal(size=6)
        spread = generator.normal(size=6)
        for window in range(windows):
            offset = spread * (-1) ** window if windows > 1 else 0 * spread
            rows.append({"clip_id": clip_id, "window": window, "vector": (point + offset).tolist()})
    tables.write(path, EMBEDDINGS.with_vectors(vector=6), rows)
    return path


def test_probes_read_the_mean_of_the_windows(tmp_path: Path) -> None:
    class_of = {"b": 3, "a": 7}
    found = clip_vectors([embeddings(tmp_path / "two.parquet", class_of)], ["a", "b"])
    alone = clip_vectors([embeddings(tmp_path / "one.parquet", class_of, windows=1)], ["a", "b"])
    np.testing.assert_allclose(found, alone, atol=1e-6)
    with pytest.raises(ValueError, match="1 clips have no embedding: `c`"):
        clip_vectors([tmp_path / "two.parquet"], ["a", "b", "c"])


def test_a_probe_learns_from_a_mix_and_names_all_held_out_clips(store: Store, tmp_path: Path) -> None:
    made = synthetic(tmp_path / "made.parquet", dict.fromkeys(CLASSES, 6))
    pool = read_pool([made], CLASSES)
    real = embeddings(tmp_path / "real.parquet", store.class_of)
    fake = embeddings(tmp_path / "fake.parquet", pool)
    for mix in (Mix(50), Mix(0, "g", 4), Mix(100, "g", 4)):
        out = tmp_path / f"{mix.real_percent}.parquet"
        fit_probes(
            out, tmp_path / "clips.parquet", mix=mix, protocol="clean", real=[real], embedded=[fake],
            partition=store.partition, synthetic=[made], options=LinearProbeOptions(), seeds=[0, 1], draw_seed=0,
            labels={"dataset": "toy", "split": "fold1", "method": mix.name, "variant": "probe/real=50%"},
        )  # fmt: skip
        assert len(tables.read(tmp_path / "clips.parquet", MIX_CLIPS)) == 2 * len(CLASSES)
        rows = tables.read(out, PREDICTIONS).to_pylist()
        assert Counter((r["seed"], r["role"]) for r in rows) == {
            (seed, role): 6 for seed in (0, 1) for role in (VALIDATION, TEST)
        }
        assert {r["role"] for r in rows} == {VALIDATION, TEST}
        # Points of a class lie together, so that a probe that learnt anything tells them apart.
        assert np.mean([r["class_id"] == r["predicted_class_id"] for r in rows]) > 0.9
