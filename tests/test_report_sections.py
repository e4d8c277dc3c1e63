"""The report's comparisons of a whole study, from a score table alone: sentences, tables, figures, and a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from foley import tables
from foley.report import comparison_figures, page
from foley.report.class_vectors import class_vectors
from foley.report.data_summary import DatasetTables
from foley.report.how_made import data_queries
from foley.report.learning_curves import learning_curves
from foley.report.scores import ScoreBook
from foley.report.spread import spread
from foley.report.synthetic_quality import METRICS, synthetic_quality
from foley.report.values import ValueTable
from foley.report.verdict import verdicts
from foley.report.who_wins import who_wins
from foley.tables.scores import SCORES

BASELINE = "ale"
SVG = "{http://www.w3.org/2000/svg}"
GENERATIVE = (
    "zerodiffusion", "zerodiffusion_first", "zerodiffusion_second", "ddpm", "cada_vae", "lisgan",
    "latent_diffusion", "latent_diffusion_no_ema", "latent_diffusion_no_guidance", "latent_diffusion_one",
)  # fmt: skip
METHODS = (BASELINE, "ridge", "gaussian_process", "conse", *GENERATIVE)
VARIANTS = ("scratch/words", "mn04/words")
AMOUNTS = (1, 2, 5, 10, 20, 50, 100, 200)

Rows = list[dict[str, Any]]


def row(method: str, variant: str, metric: str, value: float, **more: Any) -> dict[str, Any]:
    given = {"study": "zero_shot", "dataset": "esc50", "split": "test", "n": 400}
    return given | {"method": method, "variant": variant, "metric": metric, "value": value} | more


def pair_rows(
    variant: str, one: str, other: str, value: float, half: float = 0.01, p: float | None = 0.01, **more: Any
) -> Rows:
    """A difference with its interval, and its p, in one direction."""
    ends = {"low": value - half, "high": value + half}
    rows = [row(one, variant, f"difference_to_{other}", value, **ends, **more)]
    return rows if p is None else [*rows, row(one, variant, f"p_difference_to_{other}", p, **more)]


def study_rows(
    dataset: str = "esc50",
    methods: Sequence[str] = METHODS,
    variants: Sequence[str] = VARIANTS,
    splits: Sequence[str] = ("fold0", "fold1", "fold2", "fold3", "test"),
    classes: int = 10,
    seed: int = 0,
) -> Rows:
    """What a whole zero-shot study writes, with invented values."""
    numbers = np.random.default_rng(seed)
    rows: Rows = []

    def add(method: str, variant: str, metric: str, value: float, **more: Any) -> None:
        rows.append(row(method, variant, metric, value, dataset=dataset, **more))

    skill = {
        (m, v): 0.2 + 0.18 * (v != variants[0]) + 0.12 * numbers.random() for m in methods for v in variants
    }
    for number, split in enumerate((*splits, "mean")):
        add("chance", "", "accuracy", 0.1, split=split)
        add("majority", "", "accuracy", 0.13, split=split)
        add("clap", "", "accuracy", 0.93, split=split, low=0.9, high=0.95)
        for embedding in dict.fromkeys(variant.split("/")[0] for variant in variants):
            add("oracle", embedding, "accuracy", 0.82, split=split, low=0.78, high=0.85)
        here = {key: value + 0.02 * (number % 3) for key, value in skill.items()}
        for (method, variant), value in here.items():
            for metric in ("accuracy", "accuracy_macro", "accuracy_seen", "accuracy_unseen", "harmonic_mean"):
                add(method, variant, metric, value, split=split, low=value - 0.03, high=value + 0.03)
                add(method, variant, f"{metric}_seed_std", 0.012, split=split)
            add(method, variant, "accuracy", value, split=split, seed=1)
            for other in methods:
                if other != method:
                    gap = value - here[other, variant]
                    rows += pair_rows(
                        variant,
                        method,
                        other,
                        gap,
                        0.025,
                        0.8 * np.exp(-60 * abs(gap)),
                        split=split,
                        dataset=dataset,
                    )
            for class_id in range(classes if split != "mean" else 0):
                which = {"split": split, "class_id": class_id + classes * number}
                for metric in ("recall", "precision"):
                    add(method, variant, metric, numbers.random(), **which)
                if method in GENERATIVE:
                    gain = 0.2 * numbers.normal()
                    ends = {"low": gain - 0.1, "high": gain + 0.1}
                    add(method, variant, f"gain_over_{BASELINE}", gain, **which, **ends)
            spreads = {"embedding": 0.03, "generator": 0.02, "classifier": 0.006}
            if method not in GENERATIVE:
                del spreads["generator"]
            spreads = {source: most * numbers.uniform(0.3, 1) for source, most in spreads.items()}
            spreads["total"] = float(np.linalg.norm(list(spreads.values())))
            for source, deviation in spreads.items():
                ends = {"split": split, "low": 0.5 * deviation, "high": 3 * deviation}
                add(method, variant, f"spread_{source}", deviation, **ends)
            if method not in GENERATIVE:
                continue
            gain = value - here[BASELINE, variant]
            ends = {"split": split, "low": gain - 0.03, "high": gain + 0.03}
            add(method, variant, f"gain_over_{BASELINE}", gain, **ends)
            for count in AMOUNTS:
                at = value * (0.6 + 0.4 * np.log(count + 1) / np.log(max(AMOUNTS) + 1))
                ends = {"split": split, "low": at - 0.03, "high": at + 0.03}
                add(method, variant, f"accuracy_at_{count}_samples", at, **ends)
                add(method, variant, f"accuracy_at_{count}_samples_seed_std", 0.01, split=split)
            for metric in METRICS:
                add(method, variant, metric, numbers.random(), split=split)
                add(method, variant, metric, numbers.random(), split=split, class_id=100)
        for variant in variants:
            for metric, (_, higher) in METRICS.items():
                add("real", variant, metric, 0.95 if higher else 0.02, split=split)
        for method in methods:
            for other in ("words_plain", "attributes", "sentences"):
                gap = 0.03 * numbers.normal()
                for variant in variants:
                    name = f"variant_{variant.split('/')[0]}/{other}"
                    rows += pair_rows(variant, method, name, gap, 0.02, 0.03, split=split, dataset=dataset)
    return rows


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., ScoreBook]:
    def read(rows: Rows, methods: Sequence[str] = ()) -> ScoreBook:
        tables.write(tmp_path / "scores.parquet", SCORES, rows)
        return ScoreBook(tmp_path / "scores.parquet", methods)

    return read


def write(folder: Path, rows: Rows, **more: Any) -> str:
    tables.write(folder / "scores.parquet", SCORES, rows)
    given: dict[str, Any] = {"datasets": [], "config_summary": {}, "methods": METHODS}
    page.write_report(folder / "index.html", scores=folder / "scores.parquet", **(given | more))
    return (folder / "index.html").read_text(encoding="utf-8")


def cells(table: ValueTable) -> list[list[str]]:
    return [[*r.head, *(f"{c.text} {c.interval}".strip() for c in r.cells)] for r in table.rows]


def parse(figure: str) -> ElementTree.Element:
    """A figure of the page; there it needs no namespace."""
    return ElementTree.fromstring(str(figure).replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


# ---- who wins ----


def test_winner_is_named_with_its_margins_and_what_is_noise(book: Callable[..., ScoreBook]) -> None:
    accuracy = {"gp": 0.5, "ridge": 0.461, "ale": 0.4, "ddpm": 0.35}
    rows = [row(m, "e/w", "accuracy", value) for m, value in accuracy.items()]
    rows += pair_rows("e/w", "gp", "ridge", 0.039, half=0.05)
    rows += pair_rows("e/w", "gp", "ale", 0.1) + pair_rows("e/w", "gp", "ddpm", 0.15)
    rows += pair_rows("e/w", "ridge", "ale", 0.061) + pair_rows("e/w", "ridge", "ddpm", 0.111)
    rows += pair_rows("e/w", "ale", "ddpm", 0.05, p=0.2)
    section = who_wins(book(rows, ["ale", "ddpm", "ridge", "gp"]))
    assert section is not None
    (panel,) = section.panels
    assert panel.sentences == (
        (
            "e/w",
            "gp beats 2 of 3 other methods, by +10.0 (ale) to +15.0 points (ddpm); "
            "its lead over ridge, +3.9 points, is noise.",
        ),
    )
    # The better method first, whichever direction was stored; the p above 0.05 and the zero in an interval are noise.
    assert cells(panel.tables[0]) == [
        ["ale", "ddpm", "noise", "+5.0 [+4.0, +6.0]", "0.200"],
        ["ridge", "ale", "better", "+6.1 [+5.1, +7.1]", "0.010"],
        ["gp", "ale", "better", "+10.0 [+9.0, +11.0]", "0.010"],
        ["ridge", "ddpm", "better", "+11.1 [+10.1, +12.1]", "0.010"],
        ["gp", "ddpm", "better", "+15.0 [+14.0, +16.0]", "0.010"],
        ["gp", "ridge", "noise", "+3.9 [−1.1, +8.9]", "0.010"],
    ]


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([("a", "b", 0.05, 0.01, 0.01)], "a beats b, by +5.0 points."),
        (
            [("a", "b", 0.05, 0.06, 0.01)],
            "No method wins: a comes first, but its lead over b, +5.0 points, is noise.",
        ),
        (
            [("a", "b", 0.05, 0.01, 0.051)],
            "No method wins: a comes first, but its lead over b, +5.0 points, is noise.",
        ),
        ([("b", "a", -0.05, 0.01, None)], "a beats b, by +5.0 points."),
        (
            [("a", "b", 0.05, 0.01, 0.0), ("a", "c", 0.08, 0.01, 0.0), ("b", "c", 0.03, 0.01, 0.0)],
            "a beats all 2 other methods, by +5.0 (b) to +8.0 points (c).",
        ),
        (
            [("a", x, 0.01 * n, 0.2, 1.0) for n, x in enumerate("bcdef", 1)],
            "No method wins: a comes first, but its leads over b (+1.0 points), c (+2.0 points) and 3 more are noise.",
        ),
    ],
)
def test_sentences_of_who_wins(book: Callable[..., ScoreBook], pairs: list[Any], sentence: str) -> None:
    """Without accuracies the mean difference ranks; without a p the interval alone says what is noise."""
    rows = [r for one, other, value, half, p in pairs for r in pair_rows("v", one, other, value, half, p)]
    section = who_wins(book(rows))
    assert section is not None and section.panels[0].sentences == (("v", sentence),)


def test_pair_without_interval_and_p_is_noise(book: Callable[..., ScoreBook]) -> None:
    section = who_wins(book([row("a", "v", "difference_to_b", 0.3)]))
    assert section is not None and cells(section.panels[0].tables[0]) == [["a", "b", "noise", "+30.0", "–"]]


def test_pairs_are_of_the_mean_or_of_the_only_split(book: Callable[..., ScoreBook]) -> None:
    fold = pair_rows("v", "a", "b", 0.1, split="fold0")
    mean = pair_rows("v", "a", "b", 0.2, split="mean")
    alone, both = who_wins(book(fold)), who_wins(book(fold + mean))
    apart = who_wins(book(fold + pair_rows("v", "a", "b", -0.3, split="fold1")))
    assert alone is not None and both is not None and apart is not None
    assert [s for p in alone.panels for s in p.sentences] == [("v", "a beats b, by +10.0 points.")]
    assert [s for p in both.panels for s in p.sentences] == [("v", "a beats b, by +20.0 points.")]
    assert [s for p in apart.panels for s in p.sentences] == [
        ("v, split fold0", "a beats b, by +10.0 points."),
        ("v, split fold1", "b beats a, by +30.0 points."),
    ]


def test_matrix_colours_by_sign_and_greys_noise() -> None:
    difference = comparison_figures.Difference
    given = {
        (0, 1): difference(0.052, False, "a minus b"), (1, 0): difference(-0.052, False, "b minus a"),
        (0, 2): difference(0.2, True, "<noise>"),
    }  # fmt: skip
    root = ElementTree.fromstring(
        comparison_figures.differences_svg(list("abc"), list("abc"), given, "title")
    )
    tiles = {
        group.findtext(f"{SVG}title"): (group.find(f"{SVG}path").get("class"), group.findtext(f"{SVG}text"))  # type: ignore[union-attr]
        for group in root.iter(f"{SVG}g")
        if group.find(f"{SVG}title") is not None
    }
    assert tiles == {"a minus b": ("f2", "+5.2"), "b minus a": ("f3", "−5.2"), "<noise>": ("f7", "+20.0")}


def test_verdict_reads_no_difference_as_a_gain(book: Callable[..., ScoreBook]) -> None:
    rows = [*pair_rows("v", "a", "ale", 0.3), row("b", "v", "gain_over_ale", 0.1, low=0.05, high=0.2)]
    rows += [row("oracle", "e", "gain_over_ale", 0.5, low=0.4, high=0.6)]
    (verdict,) = verdicts(book(rows))
    assert [(f.system.method, f.gain.value) for f in verdict.findings] == [("b", 0.1)]
    assert verdicts(book(pair_rows("v", "a", "ale", 0.3))) == []


# ---- curves, spread, quality, vectors ----


def test_curves_lie_where_their_axes_say(book: Callable[..., ScoreBook]) -> None:
    values = {1: 0.2, 10: 0.3, 100: 0.4}
    rows = [
        row("m", "v", f"accuracy_at_{n}_samples", x, low=x - 0.05, high=x + 0.05) for n, x in values.items()
    ]
    rows += [
        row("ale", "v", "accuracy", 0.25),
        row("m", "v", "accuracy", 0.4),
        row("m", "v", "gain_over_ale", 0.15),
    ]
    rows += [
        row("m", "v", "accuracy_at_10_samples", 0.9, seed=3),
        row("m", "v", "accuracy_at_10_samples_seed_std", 0.1),
    ]
    section = learning_curves(book(rows))
    assert section is not None
    (panel,) = section.panels
    assert cells(panel.tables[0]) == [
        ["m", "20.0 [15.0, 25.0]", "30.0 [25.0, 35.0]", "40.0 [35.0, 45.0]"],
        ["ale", "25.0", "–", "–"],
    ]
    (figure,) = panel.figures
    assert {"m", "ale", "1", "10", "100", "synthetic samples per class"} <= {
        "".join(t.itertext()) for t in parse(figure).iter(f"{SVG}text")
    }
    root = parse(figure)
    dots = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter(f"{SVG}circle")]
    (x1, y1), (x2, y2), (x3, y3) = dots
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2) and x2 - x1 > 50  # decades are equally wide
    ticks = {
        t.text: float(t.get("y", "")) - 4
        for t in root.iter(f"{SVG}text")
        if re.fullmatch(r"\d0( %)?", t.text or "")
    }
    assert (y1, y2, y3) == pytest.approx((ticks["20"], ticks["30"], ticks["40"]), abs=0.2)
    bands = [p for p in root.iter(f"{SVG}path") if "band" in (p.get("class") or "")]
    assert len(bands) == 1 and len(re.findall(r"[ML]", bands[0].get("d", ""))) == 6


def test_sections_say_which_methods_the_config_left_out(tmp_path: Path) -> None:
    rows = [
        row("m", "v", "accuracy_at_5_samples", 0.2),
        row("m", "v", "spread_total", 0.02),
        row("m", "v", "quality_cosine", 0.5),
    ]
    left_out = {"learning_curve": ["slow"], "quality": ["slow", "slower"]}
    text = write(tmp_path, rows, config_summary={"not_measured": left_out, "seeds": [0]})
    for section, said in (("curves", "slow"), ("quality", "slow, slower")):
        (part,) = re.findall(rf'<section id="{section}".*?</section>', text, re.DOTALL)
        assert f"Left out by the config: {said}." in part
    assert text.count("Left out by the config") == 2 and "not_measured" not in text


def test_verdict_says_that_schedules_differ(tmp_path: Path) -> None:
    rows = [
        row("ale", "v", "accuracy", 0.2),
        row("m", "v", "accuracy", 0.3),
        row("m", "v", "gain_over_ale", 0.1, low=0.05, high=0.15),
    ]
    (dataset,) = {r["dataset"] for r in rows}
    schedules = {dataset: {"ale": {"epochs": 50, "batch_size": 1}, "m": {}, "n": {}}}
    text = write(tmp_path, rows, config_summary={"schedules": schedules, "seeds": [0]})
    (verdict,) = re.findall(r'<article class="verdict">.*?</article>', text, re.DOTALL)
    assert "ale: batch_size 1, epochs 50; m, n: as its kind has them" in verdict
    assert "not trained alike" not in write(tmp_path, rows)


def test_one_amount_and_a_lone_baseline_still_draw(book: Callable[..., ScoreBook]) -> None:
    section = learning_curves(book([row("m", "v", "accuracy_at_5_samples", 0.2)]))
    assert section is not None and "nan" not in section.panels[0].figures[0]
    assert learning_curves(book([row("m", "v", "accuracy_at_0_samples", 0.2)])) is None


def test_labels_at_the_ends_of_curves_keep_apart() -> None:
    places = comparison_figures._apart([100.0, 100.0, 101.0, 250.0, 259.0], 13.0, 30.0, 260.0)
    ordered = sorted(places)
    assert all(b - a >= 13 - 1e-9 for a, b in pairwise(ordered))
    assert ordered[0] >= 30 and ordered[-1] <= 260
    assert sorted(range(5), key=places.__getitem__) == [0, 1, 2, 3, 4]


def test_spread_shows_the_sources_that_were_measured(book: Callable[..., ScoreBook]) -> None:
    rows = [
        row("m", "v", f"spread_{n}", x)
        for n, x in (("generator", 0.03), ("classifier", 0.04), ("total", 0.05))
    ]
    rows += [row("ridge", "v", "spread_classifier", 0.01, low=0.005, high=0.02)]
    section = spread(book(rows, ["m", "ridge"]))
    assert section is not None
    (panel,) = section.panels
    assert [name for name, _ in panel.tables[0].columns] == ["generator", "classifier", "total"]
    assert cells(panel.tables[0]) == [["m", "3.0", "4.0", "5.0"], ["ridge", "–", "1.0 [0.5, 2.0]", "–"]]
    root = parse(panel.figures[0])
    # Bars start at the axis; the swatches of the legend are filled too, but are 12 wide.
    drawn = [
        (p.get("class"), float(m[1]))
        for p in root.iter(f"{SVG}path")
        if (m := re.search(r"h([\d.]+)v6h", p.get("d", "")))
    ]
    assert [name for name, _ in drawn] == ["f0", "f1", "f1"]
    (_, generator), (_, classifier), (_, ridge) = drawn
    assert (generator / classifier, ridge / classifier) == pytest.approx((3 / 4, 1 / 4), abs=0.01)


def test_quality_marks_the_best_method_in_the_right_direction(book: Callable[..., ScoreBook]) -> None:
    values = {"a": (0.5, 30.0, 1.2), "b": (0.9, 40.0, 0.8), "real": (0.99, 5.0, 1.0)}
    rows = [
        row(method, "e/w", f"quality_{name}", value)
        for method, its in values.items()
        for name, value in zip(("cosine", "frechet", "density"), its, strict=True)
    ]
    section = synthetic_quality(book([*rows, row("a", "e/w", "quality_cosine", 0.7, class_id=3)]))
    assert section is not None and not section.folded
    (table,) = section.panels[0].tables
    assert table.columns == (
        ("cosine similarity", "higher is better"),
        ("Fréchet distance", "lower is better"),
        ("density", "higher is better"),
    )
    assert cells(table) == [
        ["a", "0.500", "30.0", "1.20"],
        ["b", "0.900", "40.0", "0.80"],
        ["real", "0.990", "5.0", "1.00"],
    ]
    assert [[c.mark for c in r.cells] for r in table.rows] == [
        ["", "best", "best"],
        ["best", "", ""],
        ["", "", ""],
    ]


def test_quality_of_one_method_has_no_best(book: Callable[..., ScoreBook]) -> None:
    section = synthetic_quality(
        book([row("a", "e/w", "quality_mmd", 0.5), row("real", "e", "quality_mmd", 0.0)])
    )
    assert section is not None
    (table,) = section.panels[0].tables
    assert [r.cells[0].mark for r in table.rows] == ["", ""] and cells(table)[1][0] == "real"
    assert synthetic_quality(book([row("real", "e/w", "quality_mmd", 0.5)])) is None


def test_class_vectors_say_whom_they_help(book: Callable[..., ScoreBook]) -> None:
    given = {"a": (0.04, 0.01, 0.01), "b": (-0.03, 0.01, 0.01), "c": (0.02, 0.03, 0.4)}
    rows: Rows = []
    for method, (value, half, p) in given.items():
        rows += pair_rows("e/words", method, "variant_e/words_plain", value, half, p)
        rows += pair_rows("e/words_plain", method, "variant_e/words", -value, half, p)  # says the same again
    rows += pair_rows("e/sentences", "a", "variant_e/words", 0.01, 0.002, 0.02)
    section = class_vectors(book(rows))
    assert section is not None and who_wins(book(rows)) is None
    (panel,) = section.panels
    assert panel.sentences == (
        ("e", "sentences instead of words changes the accuracy of a by +1.0 points, more than noise."),
        (
            "e",
            "words instead of words_plain: better for 1 (a), worse for 1 (b), noise for 1 of 3 methods; "
            "+1.0 points in the mean of the methods.",
        ),
    )
    assert cells(panel.tables[1]) == [
        ["a", "better", "+4.0 [+3.0, +5.0]", "0.010"],
        ["b", "worse", "−3.0 [−4.0, −2.0]", "0.010"],
        ["c", "noise", "+2.0 [−1.0, +5.0]", "0.400"],
    ]


def test_a_method_may_be_called_like_a_variant(book: Callable[..., ScoreBook]) -> None:
    rows = [*pair_rows("e/w", "a", "variant_x", 0.1), row("variant_x", "e/w", "accuracy", 0.1)]
    found = who_wins(book(rows))
    assert found is not None and [r.head[:2] for r in found.panels[0].tables[0].rows] == [("a", "variant_x")]
    assert class_vectors(book(rows)) is None


# ---- page ----


def test_sections_vanish_without_their_rows(tmp_path: Path) -> None:
    html = write(tmp_path, [row("a", "v", "accuracy", 0.3)])
    for name in ("wins", "curves", "spread", "quality", "vectors"):
        assert f'id="{name}"' not in html and f'href="#{name}"' not in html
    assert "Left out" not in html and "upper reference:" not in html


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write(folder, study_rows(splits=("fold0", "test"), classes=4))
    return folder / "index.html"


def test_study_has_every_section_and_each_value_once(study: Path) -> None:
    html = study.read_text(encoding="utf-8")
    for name in ("wins", "curves", "spread", "quality", "vectors"):
        assert html.count(f'<section id="{name}"') == 1 and f'href="#{name}"' in html
    for metric in ("difference_to_", "accuracy_at_", "spread_", "quality_"):
        assert metric not in html  # "All other metrics" does not repeat what has a section
    assert "upper reference: trained on real clips of the unseen classes" in html
    assert "upper reference: has heard such sounds" in html
    board = html[html.index('id="leaderboard"') :]
    assert board.index(">lisgan<") < board.index(">chance<") < board.index(">oracle<") < board.index(">clap<")
    figures = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    for figure in figures:
        ElementTree.fromstring(figure)
    # Two variants of gains, pairs, leaderboard, curves and spread; two variants of two splits of class gains.
    assert len(figures) == 5 * 2 + 2 * 2 and "nan" not in "".join(figures)


def test_left_out_datasets_are_named_with_their_reason(tmp_path: Path) -> None:
    summary = {"seeds": [0, 1], "left_out": {"fsc22": "<b>no folder</b> at /data"}}
    html = write(tmp_path, [row("a", "v", "accuracy", 0.3)], config_summary=summary)
    assert "<b>fsc22</b>: &lt;b&gt;no folder&lt;/b&gt; at /data" in html
    assert (
        html.count("fsc22") == 1 and summary["left_out"]
    )  # not again among the settings; the caller's is as it was
    assert "Left out" not in write(
        tmp_path, [row("a", "v", "accuracy", 0.3)], config_summary={"left_out": {}}
    )


def test_names_are_escaped_in_every_section(tmp_path: Path) -> None:
    evil = "<script>x</script>"
    rows = study_rows(methods=(BASELINE, evil, "zerodiffusion"), variants=("e/<i>",), splits=("test",))
    for metric, value in (("accuracy_at_5_samples", 0.3), ("quality_mmd", 0.2)):
        rows.append(row(evil, "e/<i>", metric, value, split="mean"))
    html = write(tmp_path, rows)
    assert html.count("<script>") == 1 and "<i>" not in html and "&lt;script&gt;" in html


def test_datasets_are_seen_together_and_one_at_a_time(tmp_path: Path) -> None:
    rows = [r for d in ("d1", "d2", "d3") for r in study_rows(d, METHODS[:6], VARIANTS[:1], ("test",), 2)]
    html = write(tmp_path, rows)
    assert "All datasets: accuracy on unseen classes, in % (zero_shot)" in html
    wins = html[html.index('id="wins"') : html.index('id="leaderboard"')]
    assert [f"<b>{d}, scratch/words</b>: " in wins for d in ("d1", "d2", "d3")] == [True] * 3
    assert wins.index("<b>d3") < wins.index('class="panels"')


def test_queries_of_many_datasets_keep_short_lines_and_run(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    from foley.tables.clips import CLIPS, REJECTED

    found = []
    for number in range(12):
        folder = tmp_path / f"a_long_name_of_a_dataset_{number}"
        clip = {"dataset": str(number), "clip_id": "a", "class_id": 0, "label": "x"}
        clip |= {"recording_id": "a", "duration_s": 1.0, "sample_rate_hz": 16_000, "sha256": "a", "shard": 0}
        tables.write(folder / "clips.parquet", CLIPS, [clip])
        refused = {
            "dataset": str(number),
            "clip_id": "b",
            "label": "x",
            "source": "b.wav",
            "reason": "silent",
        }
        tables.write(folder / "rejected.parquet", REJECTED, [refused])
        found.append(
            DatasetTables(str(number), folder / "clips.parquet", folder / "rejected.parquet", folder / "c")
        )
    clips, rejected = data_queries(found)
    longest = len(str(found[-1].rejected)) + 12
    assert max(len(line) for query in (clips, rejected) for line in query["text"].splitlines()) <= max(
        longest, 75
    )
    assert len(duckdb.sql(clips["text"]).fetchall()) == 12
    printed: list[str] = []
    exec(rejected["text"], {"print": lambda frame: printed.append(str(frame))})
    assert printed[0].count("silent") == 12


# ---- browser ----


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


OPEN_ALL = "document.querySelectorAll('details').forEach((d) => (d.open = true))"
# Elements with text that stick out of the window, or figures out of their column.
STICKING_OUT = """(width) => [...document.querySelectorAll("main p, main li, main svg, main pre, main summary")]
    .filter((e) => e.getClientRects().length && e.getBoundingClientRect().right > width + 0.5
        && !e.closest(".scroll"))
    .map((e) => e.tagName + ": " + e.textContent.slice(0, 60))"""
# Cells of a matrix whose number is wider than the cell.
OVERFULL = """() => [...document.querySelectorAll("#wins svg g")].filter((g) => {
    const [tile, text] = [g.querySelector("path"), g.querySelector("text")];
    return tile && text && text.getBBox().width > tile.getBBox().width + 1;
}).map((g) => g.textContent)"""


@pytest.mark.parametrize("width", [360, 1280])
def test_study_fits_phone_and_desktop(study: Path, chromium: Any, width: int) -> None:
    complaints: list[str] = []
    tab = chromium.new_page(viewport={"width": width, "height": 900})
    tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(study.as_uri())
    tables_of_pairs = tab.locator("#wins table")
    assert [tables_of_pairs.nth(n).is_visible() for n in range(2)] == [False, False]
    tab.locator("#wins summary").nth(1).click()
    assert [tables_of_pairs.nth(n).is_visible() for n in range(2)] == [False, True]
    tab.evaluate(OPEN_ALL)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(STICKING_OUT, width) == []
    assert tab.evaluate(OVERFULL) == []
    assert tab.locator("#wins svg g > title").first.text_content() == _tip(study)
    assert complaints == []
    tab.close()


def _tip(study: Path) -> str:
    """The tooltip of the first cell, from the score table: ale against ridge on the variant first in the alphabet."""
    wanted = {"split": "mean", "method": BASELINE, "variant": min(VARIANTS)}
    found = {
        r["metric"]: r
        for r in tables.read(study.parent / "scores.parquet").to_pylist()
        if wanted.items() <= r.items()
    }
    gap, p = found["difference_to_ridge"], found["p_difference_to_ridge"]["value"]
    shown = [f"{100 * gap[end]:+.1f}".replace("-", "−") for end in ("value", "low", "high")]
    noise = p > 0.05 or gap["low"] <= 0 <= gap["high"]
    word = "noise" if noise else "better" if gap["value"] > 0 else "worse"
    return f"{BASELINE} minus ridge: {shown[0]} points, [{shown[1]}, {shown[2]}], p {p:.3f}, {word}"


def test_pointing_at_a_curve_dims_the_others(study: Path, chromium: Any) -> None:
    tab = chromium.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(study.as_uri())
    lines = tab.locator("#curves svg >> nth=0").locator("g.curves > g")
    lines.nth(1).locator("text").hover()
    opacity = [lines.nth(n).evaluate("g => getComputedStyle(g).opacity") for n in (0, 1)]
    assert [float(value) for value in opacity] == [0.15, 1.0]
    tab.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_long_queries_stay_in_their_box(tmp_path: Path, chromium: Any, width: int) -> None:
    folder = tmp_path / "/".join(["a_folder_with_a_name_that_goes_on_and_on"] * 4)
    write(folder, [row("a", "v", "accuracy", 0.3)])
    tab = chromium.new_page(viewport={"width": width, "height": 900})
    tab.goto((folder / "index.html").as_uri())
    boxes = tab.locator("pre[data-engine]")
    assert boxes.count() == 3
    for number in range(3):
        assert boxes.nth(number).evaluate("e => e.scrollWidth - e.clientWidth") <= 0
    tab.close()
