"""The report: its page is parsed, its queries are run, its clips are decoded, and a browser opens it."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile as sf
from PIL import Image

from foley import tables
from foley.datasets.leaks import check_leaks
from foley.report import embedding_map, figures, gallery, page, places, svg
from foley.report.confusion import read_confusions
from foley.report.scores import ScoreBook
from foley.report.verdict import verdicts
from foley.tables.classes import CLASSES, MISSING_WORDS
from foley.tables.clips import AUDIO, CLIPS, RAW_CLIPS, REJECTED
from foley.tables.features import EMBEDDINGS
from foley.tables.report import EMBEDDING_MAP, GALLERY
from foley.tables.scores import PREDICTIONS, SCORES
from foley.tables.zero_shot import PARTITION, PROJECTED_EMBEDDINGS, SYNTHETIC_EMBEDDINGS

SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'
RATE = 16_000
FACTS = {
    "title": "Mine, all mine",
    "licence": "CC BY 4.0",
    "url": "https://example.org/mine",
    "citation": "Doe 2020, https://doi.org/10.1/x",
    "published_clips": 42,
    "claims": [["recording", "fold"]],
}
METHODS = ("ale", "zerodiffusion", "ddpm", "chance", "majority")
# Gains whose intervals exclude zero, or not.
GAINS = {"zerodiffusion": (0.0321, 0.011, 0.053), "ddpm": (-0.004, -0.025, 0.017)}


@dataclass
class Experiment:
    """Tables of one invented dataset, and what the page is told of them."""

    folder: Path
    labels: list[str]
    splits: tuple[str, ...] = ("fold0", "test")
    variants: tuple[str, ...] = ("scratch/words",)
    dataset: str = "mine"
    clips_a_class: int = 6
    numbers: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def path(self, name: str) -> Path:
        return self.folder / self.dataset / f"{name}.parquet"

    @property
    def unseen(self) -> list[int]:
        return list(range(0, len(self.labels), 2))

    def clip_ids(self) -> list[tuple[str, int]]:
        return [(f"{c:02d}-{i:03d}", c) for c in range(len(self.labels)) for i in range(self.clips_a_class)]

    def write_data(self, rate: int = RATE, duration_s: float = 0.5) -> None:
        rows, time = [], np.arange(int(rate * duration_s)) / rate
        for clip_id, class_id in self.clip_ids():
            number = int(clip_id[-3:])
            wave = 0.5 * np.sin(2 * np.pi * (200 + 90 * class_id) * time) * np.exp(-3 * time)
            wave += 0.02 * self.numbers.normal(size=len(time))
            flac = io.BytesIO()
            sf.write(flac, wave, rate, format="FLAC")
            rows.append(
                {
                    "dataset": self.dataset,
                    "clip_id": clip_id,
                    "class_id": class_id,
                    "label": self.labels[class_id],
                    "labels": [self.labels[class_id]],
                    "fold": 1 + number // 2 % 2,
                    "recording_id": f"{class_id}/{number // 2}",
                    "duration_s": duration_s,
                    "sample_rate_hz": rate,
                    "source_sample_rate_hz": 44_100,
                    "sha256": clip_id,
                    "shard": number % 2,
                    "audio": {"bytes": flac.getvalue(), "path": f"{clip_id}.flac"},
                }
            )
        for shard in (0, 1):
            with tables.writer(self.path(f"audio{shard}"), AUDIO) as out:
                mine = [
                    {key: row[key] for key in row if key in AUDIO.columns}
                    for row in rows
                    if row["shard"] == shard
                ]
                for start in range(0, len(mine), 4):
                    out.write(mine[start : start + 4])
        plain = [{key: row[key] for key in row if key in CLIPS.columns} for row in rows]
        tables.write(self.path("clips"), CLIPS, plain)
        tables.write(
            self.path("manifest"),
            RAW_CLIPS,
            [
                {"source": "x.wav"} | {key: row[key] for key in row if key in RAW_CLIPS.columns}
                for row in rows
            ],
        )
        tables.write(
            self.path("classes"),
            CLASSES,
            [{"class_id": i, "label": label} for i, label in enumerate(self.labels)],
        )
        refused = [
            {
                "dataset": self.dataset,
                "clip_id": f"bad{i:03d}",
                "label": self.labels[0],
                "source": f"a/{i}.wav",
                "reason": "silent" if i % 3 else "truncated",
                "detail": SCRIPT,
            }
            for i in range(230)
        ]
        tables.write(self.path("rejected"), REJECTED, refused)
        check_leaks(
            self.path("leaks"),
            dataset=self.dataset,
            clips=self.path("clips"),
            rejected=self.path("rejected"),
            claims=FACTS["claims"],
            policy="fail",
        )
        tables.write(
            self.path("missing"), MISSING_WORDS, [{"class_id": 0, "label": "dog", "word": "woofing"}]
        )

    def write_vectors(self, windows: int = 2) -> None:
        centres = 3 * self.numbers.normal(size=(len(self.labels), 16))
        rows = []
        for clip_id, class_id in self.clip_ids():
            for window in range(windows):
                vector = centres[class_id] + self.numbers.normal(size=16)
                rows.append({"clip_id": clip_id, "window": window, "vector": vector.astype(np.float32)})
        tables.write(self.path("embeddings"), EMBEDDINGS, rows)
        tables.write(
            self.path("partition"),
            PARTITION,
            [
                {
                    "clip_id": clip_id,
                    "class_id": class_id,
                    "recording_id": clip_id,
                    "role": "unseen" if class_id in self.unseen else "seen_train",
                }
                for clip_id, class_id in self.clip_ids()
            ],
        )
        # What the generator imagines of an unseen class lies at the class after it: nearest clips show that.
        made = [
            {
                "seed": seed,
                "class_id": class_id,
                "index": index,
                "vector": (
                    centres[(class_id + 1) % len(centres)] + 0.7 * self.numbers.normal(size=16)
                ).astype(np.float32),
            }
            for seed in (3, 4)
            for class_id in self.unseen
            for index in range(8)
        ]
        tables.write(self.path("synthetic"), SYNTHETIC_EMBEDDINGS, made)

    def score_rows(self) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []

        def add(split: str, method: str, variant: str, metric: str, value: float, **more: object) -> None:
            rows.append(
                {
                    "study": "zero_shot",
                    "dataset": self.dataset,
                    "split": split,
                    "method": method,
                    "variant": variant,
                    "metric": metric,
                    "value": value,
                    "n": 400,
                    **more,
                }
            )

        for split in (*self.splits, "mean") if len(self.splits) > 1 else self.splits:
            add(split, "chance", "", "accuracy", 1 / len(self.unseen))
            add(split, "majority", "", "accuracy", 1.3 / len(self.unseen))
            for variant in self.variants:
                without = 0.25 + 0.1 * self.numbers.random()
                for method in ("ale", "zerodiffusion", "ddpm"):
                    base = without + GAINS.get(method, (0.0,))[0]
                    metrics = [
                        "accuracy",
                        "accuracy_macro",
                        "accuracy_seen",
                        "accuracy_unseen",
                        "harmonic_mean",
                    ]
                    for metric in metrics:
                        value = base * (2 if metric == "accuracy_seen" else 1)
                        low, high = value - 0.04, value + 0.05
                        add(split, method, variant, metric, value, low=low, high=high)
                        for seed in range(3):
                            add(split, method, variant, metric, value + 0.01 * (seed - 1), seed=seed)
                    for metric in ("accuracy", "harmonic_mean"):
                        add(split, method, variant, f"{metric}_seed_std", 0.01)
                    for class_id in self.unseen:
                        recall, precision = self.numbers.random(2)
                        add(split, method, variant, "recall", recall, class_id=class_id, n=40)
                        add(split, method, variant, "precision", precision, class_id=class_id, n=40)
                        if method in GAINS:
                            gain = self.numbers.normal() * 0.1
                            add(split, method, variant, "gain_over_ale", gain, class_id=class_id)
                    if method in GAINS:
                        gain, low, high = GAINS[method]
                        add(split, method, variant, "gain_over_ale", gain, low=low, high=high)
        return rows

    def write_scores(self) -> Path:
        path = self.folder / "scores.parquet"
        tables.write(path, SCORES, self.score_rows())
        return path

    def write_predictions(self) -> list[Path]:
        paths = []
        for method in ("ale", "zerodiffusion"):
            rows = []
            for setting, role in (
                ("conventional", "unseen"),
                ("generalised", "unseen"),
                ("generalised", "seen_test"),
            ):
                for seed in (0, 1):
                    for clip_id, class_id in self.clip_ids():
                        if (class_id in self.unseen) != (role == "unseen"):
                            continue
                        right = self.numbers.random() < 0.5
                        rows.append(
                            {
                                "dataset": self.dataset,
                                "split": "test",
                                "method": method,
                                "variant": self.variants[0],
                                "seed": seed,
                                "setting": setting,
                                "clip_id": clip_id,
                                "role": role,
                                "class_id": class_id,
                                "predicted_class_id": class_id
                                if right
                                else int(self.numbers.choice(self.unseen)),
                                "margin": 0.1,
                            }
                        )
            path = self.path(f"predictions_{method}")
            tables.write(path, PREDICTIONS, rows)
            paths.append(path)
        return paths

    def write_gallery(self, **changes: object) -> Path:
        nearest = gallery.NearestSource("zerodiffusion", self.path("synthetic"), self.path("embeddings"))
        settings: dict[str, object] = {"per_class": 2, "max_duration_s": 0.3, "seed": 1, "nearest": [nearest]}
        path = self.path("gallery")
        gallery.pick_gallery(
            path,
            audio=[self.path("audio0"), self.path("audio1")],
            clips=self.path("clips"),
            **(settings | changes),
        )
        return path

    def write_map(self, max_points: int = 60) -> Path:
        path = self.path("map")
        embedding_map.project_embeddings(
            path,
            embeddings=self.path("embeddings"),
            partition=self.path("partition"),
            synthetic=self.path("synthetic"),
            classes=self.path("classes"),
            seed=5,
            max_points=max_points,
        )
        return path

    def tables(self, with_gallery: bool = True) -> page.DatasetTables:
        return page.DatasetTables(
            self.dataset,
            self.path("clips"),
            self.path("rejected"),
            self.path("classes"),
            self.path("gallery") if with_gallery else None,
            [self.path("missing")],
            leaks=self.path("leaks"),
            manifest=self.path("manifest"),
            facts=FACTS,
        )

    def write_published(self) -> Path:
        path = self.folder / "published.yaml"
        path.write_text(
            "figures:\n"
            f"- {{study: zero_shot, dataset: {self.dataset}, split: test, method: zerodiffusion,"
            " metric: accuracy, value: 27.40, std: 1.10, source: 'Paper <b>2024</b>, table 2'}\n"
            f"- {{study: zero_shot, dataset: {self.dataset}, split: test, method: lisgan, metric: accuracy,"
            " value: 21.5, source: another}\n"
            "- {study: zero_shot, dataset: other, split: test, method: ddpm, metric: accuracy,"
            " value: 99.9, source: x}\n"
        )
        return path

    def build(self, output: Path) -> Path:
        """Everything, as the workflow would make it."""
        self.write_data()
        self.write_vectors()
        self.write_gallery()
        page.write_report(
            output,
            scores=self.write_scores(),
            predictions=self.write_predictions(),
            datasets=[self.tables()],
            maps=[page.MapTable((self.dataset, "test", "zerodiffusion"), self.write_map())],
            published=[self.write_published()],
            config_summary={
                "seeds": [0, 1, 2],
                "datasets": {self.dataset: {"folder": "clips/"}},
                "empty": {},
            },
            figures={name: output.parent / f"{name}.svg" for name in page.FIGURES},
            methods=METHODS,
            provenance={"rule": "write_report"},
        )
        return output


LABELS = ["dog", "engine", SCRIPT, "rain", IMAGE, "clock tick", "crackling fire & wind"]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    experiment = Experiment(tmp_path_factory.mktemp("report"), LABELS)
    experiment.build(experiment.folder / "index.html")
    return experiment


@pytest.fixture(scope="module")
def document(experiment: Experiment) -> Document:
    return Document.read(experiment.folder / "index.html")


class Document(HTMLParser):
    """A page as a browser would see it: elements with attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.rows: list[list[str]] = []
        self.pre: list[tuple[dict[str, str | None], str]] = []
        self._open: list[str] = []

    @classmethod
    def read(cls, path: Path) -> Document:
        document = cls()
        document.feed(path.read_text(encoding="utf-8"))
        return document

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        elif tag == "pre":
            self.pre.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self._open):
            return
        self.pieces.append(data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if "pre" in self._open:
            attributes, text = self.pre[-1]
            self.pre[-1] = (attributes, text + data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.pieces))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# ---- page ----


def test_verdict_comes_first_and_names_every_generator(document: Document) -> None:
    text = document.text
    assert "Synthetic data helps in 1 of 2 comparisons and has no clear effect in 1." in text
    assert "zerodiffusion changes accuracy by +3.2 points (95 % interval +1.1 to +5.3)" in text
    assert "ddpm changes accuracy by −0.4 points (95 % interval −2.5 to +1.7)" in text
    assert text.index("Synthetic data helps") < text.index("Mean over seeds")
    assert text.index("zerodiffusion changes") < text.index("ddpm changes")  # the config's order


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        ((0.001, 0.02), "helps"),
        ((-0.03, -0.001), "hurts"),
        ((-0.01, 0.02), "unclear"),
        ((None, None), "unclear"),
    ],
)
def test_verdict_follows_the_interval_alone(
    tmp_path: Path, interval: tuple[float | None, float | None], outcome: str
) -> None:
    row = {"study": "zero_shot", "dataset": "d", "split": "test", "method": "m", "variant": "v", "n": 9}
    gain = {**row, "metric": "gain_over_ale", "value": 0.01, "low": interval[0], "high": interval[1]}
    tables.write(tmp_path / "s.parquet", SCORES, [gain])
    (verdict,) = verdicts(ScoreBook(tmp_path / "s.parquet"))
    assert [finding.outcome for finding in verdict.findings] == [outcome]


def test_verdict_takes_the_mean_over_splits(tmp_path: Path) -> None:
    rows = [
        {
            "study": "s",
            "dataset": "d",
            "split": split,
            "method": "m",
            "metric": "gain_over_ale",
            "value": value,
        }
        for split, value in (("a", 0.1), ("b", 0.3), ("mean", 0.2))
    ]
    tables.write(tmp_path / "s.parquet", SCORES, rows)
    tables.write(tmp_path / "t.parquet", SCORES, rows[:2])
    (with_mean,) = verdicts(ScoreBook(tmp_path / "s.parquet"))
    (without,) = verdicts(ScoreBook(tmp_path / "t.parquet"))
    assert [(f.split, f.gain.value) for f in with_mean.findings] == [("mean", 0.2)]
    assert [(f.split, f.gain.value) for f in without.findings] == [("a", 0.1), ("b", 0.3)]


def test_leaderboard_shows_the_numbers_of_the_table(experiment: Experiment, document: Document) -> None:
    scores = tables.read(experiment.folder / "scores.parquet").to_pylist()
    (ours,) = [
        row
        for row in scores
        if (row["method"], row["split"], row["metric"], row["seed"])
        == ("zerodiffusion", "test", "accuracy", None)
    ]
    rows = [row for row in document.rows if row[:2] == ["zerodiffusionscratch/words", "3"]]
    low, high = (f"{100 * row:.1f}" for row in (ours["low"], ours["high"]))
    assert f"{100 * ours['value']:.1f} ± 1.0[{low}, {high}]published: 27.40 ± 1.10" in rows[0]
    head = next(row for row in document.rows if row[:2] == ["method", "seeds"])
    assert head[2:] == ["mean", "fold0400 clips", "test400 clips"]
    first = [row[0] for row in document.rows[document.rows.index(head) + 1 :][:6]]
    trained = [f"{method}scratch/words" for method in ("ale", "zerodiffusion", "ddpm")]
    assert first == [*trained, "chance", "majority", "lisganpublished only"]
    assert "Published: Paper <b>2024</b>, table 2; another." in document.text
    assert "99.90" not in document.text


def test_class_table_shows_the_numbers_of_the_table(experiment: Experiment, document: Document) -> None:
    scores = tables.read(experiment.folder / "scores.parquet").to_pylist()
    wanted = {
        (row["method"], row["metric"]): row["value"]
        for row in scores
        if (row["split"], row["class_id"]) == ("test", 4) and row["variant"]
    }
    (row,) = [row for row in document.rows if row[:2] == [IMAGE, "test"]]
    percent = [f"{100 * wanted['zerodiffusion', metric]:.1f}" for metric in ("recall", "precision")]
    gain = f"{100 * wanted['zerodiffusion', 'gain_over_ale']:+.1f}".replace("-", "−")
    assert row[2] == "40"
    assert row[5:8] == [*percent, gain]


def test_data_section_counts_what_was_refused(document: Document) -> None:
    text = document.text
    assert "230 of 272 clips were rejected: silent 153, truncated 77." in text
    assert "Rejected clips, the first 200 of 230" in text
    assert sum(row[0].startswith("bad") for row in document.rows) == 200
    assert ["dog", "woofing"] in document.rows


def test_data_section_says_where_the_data_are_from_and_whether_they_leak(document: Document) -> None:
    assert (
        "42 clips accepted of 42 listed, which is the published count. Licence: CC BY 4.0." in document.text
    )
    assert "example.org/mine" in document.text and "Doe 2020, doi.org/10.1/x" in document.text
    assert ["recordings", "folds", "claimed, holds"] in document.rows
    assert ["dog", "4", "2"] in document.rows  # clips of a class in each fold


def test_strings_from_data_stay_text(experiment: Experiment, document: Document) -> None:
    raw = (experiment.folder / "index.html").read_text(encoding="utf-8")
    assert SCRIPT in document.text and IMAGE in document.text
    assert "<script>alert" not in raw and "<img src=x" not in raw
    assert len(document.all("script")) == 1
    assert not [a for _, attributes in document.elements for a in attributes if a.startswith("on")]
    for name in page.FIGURES:
        ElementTree.parse(experiment.folder / f"{name}.svg")  # well-formed in spite of the labels


def test_page_refers_to_nothing_outside_itself(experiment: Experiment, document: Document) -> None:
    raw = (experiment.folder / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|@import|url\(", raw)
    for _, attributes in document.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))


def test_players_hold_mp3_that_decodes(document: Document) -> None:
    players = document.all("audio")
    assert len(players) == len(LABELS) * 2 + 4  # two a class, and one nearest for each unseen class
    for player in players:
        assert player["preload"] == "none"
        head, _, data = (player["src"] or "").partition(",")
        assert head == "data:audio/mpeg;base64"
        wave, rate = sf.read(io.BytesIO(base64.b64decode(data)))
        assert rate == RATE and 0.29 < len(wave) / rate < 0.45 and np.abs(wave).max() > 0.1


def test_page_and_figures_are_reproducible(experiment: Experiment, tmp_path: Path) -> None:
    names = ["index.html", *(f"{name}.svg" for name in page.FIGURES)]
    before = {name: (experiment.folder / name).read_bytes() for name in names}
    again = Experiment(experiment.folder, LABELS)
    again.build(experiment.folder / "again" / "index.html")
    assert {name: (experiment.folder / "again" / name).read_bytes() for name in names} == before


def test_queries_on_the_page_run(document: Document) -> None:
    duckdb = pytest.importorskip("duckdb")
    queries = [
        (attributes["data-engine"], text) for attributes, text in document.pre if "data-engine" in attributes
    ]
    assert [engine for engine, _ in queries] == ["duckdb", "pandas", "duckdb"]
    for engine, text in queries:
        if engine == "duckdb":
            assert duckdb.sql(text).fetchall()
        else:
            done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
            assert "zerodiffusion" in done.stdout


def test_page_without_any_results_says_so(tmp_path: Path) -> None:
    tables.write(tmp_path / "scores.parquet", SCORES, [])
    page.write_report(
        tmp_path / "index.html",
        scores=tmp_path / "scores.parquet",
        predictions=[],
        datasets=[],
        maps=[],
        published=[],
        config_summary={},
        figures={name: tmp_path / f"{name}.svg" for name in page.FIGURES},
    )
    text = Document.read(tmp_path / "index.html").text
    assert "No verdict yet: there are no scores." in text
    for words in (
        "There are no scores.",
        "There are no predictions.",
        "There is no gallery.",
        "No embedding map",
    ):
        assert words in text
    for name in page.FIGURES:
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")


def test_page_with_one_class_and_nothing_else(tmp_path: Path) -> None:
    lone = Experiment(tmp_path, ["dog"], splits=("test",))
    lone.write_data()
    lone.write_vectors()
    page.write_report(
        tmp_path / "index.html",
        scores=lone.write_scores(),
        predictions=lone.write_predictions(),
        datasets=[lone.tables(with_gallery=False)],
        maps=[page.MapTable(("mine",), lone.write_map())],
        published=[],
        config_summary={},
    )
    assert "split test" in Document.read(tmp_path / "index.html").text


def test_page_with_fifty_classes_stays_small(tmp_path: Path) -> None:
    many = Experiment(
        tmp_path, [f"class number {i}" for i in range(50)], variants=("scratch/words", "a/b"), clips_a_class=4
    )
    many.write_data(duration_s=4.0)
    many.write_vectors()
    many.write_gallery(max_duration_s=4.0)
    page.write_report(
        tmp_path / "index.html",
        scores=many.write_scores(),
        predictions=many.write_predictions(),
        datasets=[many.tables()],
        maps=[page.MapTable(("mine",), many.write_map(600))],
        published=[],
        config_summary={},
    )
    assert (tmp_path / "index.html").stat().st_size < 8e6


def test_rejects_a_published_figure_without_its_source(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("figures:\n- {study: zero_shot, dataset: mine, value: 3}\n")
    with pytest.raises(ValueError, match=r"p.yaml: figures\[0\]"):
        page.write_report(
            tmp_path / "index.html",
            scores=experiment.folder / "scores.parquet",
            predictions=[],
            datasets=[],
            maps=[],
            published=[tmp_path / "p.yaml"],
            config_summary={},
        )


def test_confusions_count_the_conventional_setting(experiment: Experiment) -> None:
    (ale, diffusion) = read_confusions(
        [experiment.path("predictions_ale"), experiment.path("predictions_zerodiffusion")]
    )
    assert (ale.method, diffusion.method) == ("ale", "zerodiffusion")
    assert ale.class_ids == tuple(experiment.unseen)
    assert ale.counts.sum(axis=1).tolist() == [12] * 4  # six clips a class, two seeds
    rows = [
        row
        for row in tables.read(experiment.path("predictions_ale")).to_pylist()
        if row["setting"] == "conventional" and (row["class_id"], row["predicted_class_id"]) == (0, 2)
    ]
    assert ale.counts[0, 1] == len(rows)


# ---- gallery and map ----


def test_gallery_takes_clips_of_different_recordings(experiment: Experiment) -> None:
    rows = tables.read(experiment.path("gallery"), GALLERY).to_pylist()
    recording = {
        row["clip_id"]: row["recording_id"] for row in tables.read(experiment.path("clips")).to_pylist()
    }
    for class_id in range(len(LABELS)):
        real = [row["clip_id"] for row in rows if row["class_id"] == class_id and row["kind"] == "real"]
        assert len(real) == len({recording[clip] for clip in real}) == 2
    for row in rows:
        image = Image.open(io.BytesIO(row["spectrogram_png"]))
        assert image.size == (gallery.SPECTROGRAM_WIDTH, gallery.SPECTROGRAM_HEIGHT)


def test_gallery_names_the_clip_nearest_to_what_was_imagined(experiment: Experiment) -> None:
    rows = tables.read(experiment.path("gallery"), GALLERY).to_pylist()
    nearest = {row["class_id"]: row for row in rows if row["kind"] == "nearest"}
    assert sorted(nearest) == experiment.unseen
    for class_id, row in nearest.items():
        after = (class_id + 1) % len(LABELS)
        assert row["label"] == LABELS[class_id]
        assert int(row["clip_id"][:2]) == after
        assert row["note"] == (
            f"nearest real clip to what zerodiffusion imagined; its true class: {LABELS[after]}"
        )


def test_a_clip_lies_at_the_mean_of_its_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "BATCH_ROWS", 2)  # windows of a clip in several batches
    windows = {"a": 1, "b": 3, "c": 1, "d": 2}
    vectors = {name: np.random.default_rng(n).normal(size=(n, 4)) for name, n in windows.items()}
    rows = [
        {"clip_id": name, "window": window, "vector": vector.astype(np.float32)}
        for name, its in vectors.items()
        for window, vector in enumerate(its)
    ]
    tables.write(tmp_path / "0.parquet", EMBEDDINGS, rows[:5])
    tables.write(tmp_path / "1.parquet", EMBEDDINGS, rows[5:])
    found = [
        pair
        for names, means in places.iter_places([tmp_path / "0.parquet", tmp_path / "1.parquet"], None)
        for pair in zip(names, means, strict=True)
    ]
    assert [name for name, _ in found] == list(windows)
    for name, mean in found:
        np.testing.assert_allclose(mean, vectors[name].mean(axis=0), atol=1e-6)


def test_gallery_depends_on_its_seed_alone(experiment: Experiment) -> None:
    before = tables.read(experiment.path("gallery"))
    assert tables.read(experiment.write_gallery()).equals(before)
    other = tables.read(experiment.write_gallery(seed=2))["clip_id"]
    experiment.write_gallery()
    assert other.to_pylist() != before["clip_id"].to_pylist()


def test_gallery_says_which_clip_has_no_audio(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no audio shard holds"):
        gallery.pick_gallery(
            tmp_path / "g.parquet",
            audio=[experiment.path("audio0")],
            clips=experiment.path("clips"),
            per_class=3,
            max_duration_s=1,
            seed=0,
        )


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 96_000, 18_900])
def test_mp3_of_any_sample_rate_keeps_pitch_and_length(rate: int) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    decoded, stored = sf.read(io.BytesIO(gallery.encode_mp3(wave, rate)))
    spectrum = np.abs(np.fft.rfft(decoded))
    assert len(decoded) / stored == pytest.approx(1, abs=0.16)  # whole MP3 frames
    assert spectrum.argmax() * stored / len(decoded) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros(100), np.ones(10), np.full(16_000, 1e-9)])
def test_spectrogram_of_almost_nothing(wave: np.ndarray) -> None:
    assert Image.open(io.BytesIO(gallery.draw_spectrogram(wave, RATE))).size == (160, 64)


def test_spectrogram_puts_high_tones_above_low_ones() -> None:
    time = np.arange(RATE) / RATE
    rows = []
    for hertz in (200, 1000, 5000):
        image = Image.open(io.BytesIO(gallery.draw_spectrogram(np.sin(2 * np.pi * hertz * time), RATE)))
        rows.append(int(np.asarray(image).mean(axis=1).argmax()))
    assert rows == sorted(rows, reverse=True) and rows[0] > rows[2] + 20


def test_map_has_every_kind_within_its_budget(experiment: Experiment) -> None:
    rows = tables.read(experiment.path("map"), EMBEDDING_MAP).to_pylist()
    assert len(rows) <= 60 and {row["kind"] for row in rows} == {"seen", "unseen", "synthetic"}
    assert all(row["item"].startswith("3/") for row in rows if row["kind"] == "synthetic")  # the lowest seed
    for kind in ("unseen", "synthetic"):
        assert {row["class_id"] for row in rows if row["kind"] == kind} == set(experiment.unseen)
    before = tables.read(experiment.path("map"))
    assert tables.read(experiment.write_map()).equals(before)


def test_map_reads_shards_and_leaves_excluded_clips_out(experiment: Experiment, tmp_path: Path) -> None:
    rows = tables.read(experiment.path("embeddings")).to_pylist()
    half = len(rows) // 2
    tables.write(tmp_path / "0.parquet", EMBEDDINGS, rows[:half])
    tables.write(tmp_path / "1.parquet", EMBEDDINGS, rows[half:])
    roles = tables.read(experiment.path("partition")).to_pylist()
    roles = [row | ({"role": "excluded"} if row["class_id"] == 1 else {}) for row in roles]
    tables.write(tmp_path / "partition.parquet", PARTITION, roles)
    embedding_map.project_embeddings(
        tmp_path / "map.parquet",
        embeddings=[tmp_path / "0.parquet", tmp_path / "1.parquet"],
        partition=tmp_path / "partition.parquet",
        synthetic=experiment.path("synthetic"),
        classes=experiment.path("classes"),
        seed=5,
    )
    found = tables.read(tmp_path / "map.parquet").to_pylist()
    real = {row["item"] for row in found if row["kind"] != "synthetic"}
    assert real == {clip for clip, class_id in experiment.clip_ids() if class_id != 1}


def test_map_and_gallery_follow_a_generator_into_a_space_of_its_own(
    experiment: Experiment, tmp_path: Path
) -> None:
    """Four dimensions in place of the embedding's; only the lowest seed and the clips' own places count."""
    clips = sorted(dict(experiment.clip_ids()).items())
    direction = {class_id: np.eye(4)[number] for number, class_id in enumerate(experiment.unseen)}
    places = [
        {
            "seed": seed, "clip_id": clip, "draw": draw,
            # Other seeds and draws would send every clip to one corner.
            "vector": direction.get(class_id, np.full(4, -1.0)) if (seed, draw) == (3, 0) else np.eye(4)[0],
        }
        for seed in (3, 4) for clip, class_id in clips for draw in (0, 1)
    ]  # fmt: skip
    tables.write(tmp_path / "projected.parquet", PROJECTED_EMBEDDINGS, places)
    made = [
        {"seed": seed, "class_id": class_id, "index": 0, "vector": direction[class_id] if seed == 3 else np.ones(4)}
        for seed in (3, 4) for class_id in experiment.unseen
    ]  # fmt: skip
    tables.write(tmp_path / "synthetic.parquet", SYNTHETIC_EMBEDDINGS, made)
    embedding_map.project_embeddings(
        tmp_path / "map.parquet",
        embeddings=experiment.path("embeddings"),
        partition=experiment.path("partition"),
        synthetic=tmp_path / "synthetic.parquet",
        projected=tmp_path / "projected.parquet",
        classes=experiment.path("classes"),
        seed=5,
    )
    rows = tables.read(tmp_path / "map.parquet").to_pylist()
    assert {row["item"] for row in rows if row["kind"] == "unseen"} == {c for c, k in clips if k in direction}
    source = gallery.NearestSource(
        "vae", tmp_path / "synthetic.parquet", experiment.path("embeddings"), tmp_path / "projected.parquet"
    )
    nearest = gallery._nearest_clips(source, dict(clips))
    assert {class_id: dict(clips)[clip] for class_id, clip in nearest.items()} == {c: c for c in direction}


def test_map_keeps_classes_together(experiment: Experiment) -> None:
    """Synthetic embeddings were made at the next class's centre: there the map must show them."""
    table = tables.read(experiment.write_map(400)).to_pylist()
    experiment.write_map()
    points: dict[tuple[bool, int], list[tuple[float, float]]] = defaultdict(list)
    for row in table:
        points[row["kind"] == "synthetic", row["class_id"]].append((row["x"], row["y"]))
    centre = {key: np.mean(value, axis=0) for key, value in points.items()}
    for class_id in experiment.unseen:
        distance = {c: np.linalg.norm(centre[True, class_id] - centre[False, c]) for c in range(len(LABELS))}
        assert min(distance, key=distance.__getitem__) == (class_id + 1) % len(LABELS)


def test_map_rejects_embeddings_of_different_lengths(experiment: Experiment, tmp_path: Path) -> None:
    short = [{"seed": 0, "class_id": 0, "index": 0, "vector": [1.0, 2.0]}]
    tables.write(tmp_path / "s.parquet", SYNTHETIC_EMBEDDINGS, short)
    with pytest.raises(ValueError, match="different lengths"):
        embedding_map.project_embeddings(
            tmp_path / "m.parquet",
            embeddings=experiment.path("embeddings"),
            partition=experiment.path("partition"),
            synthetic=tmp_path / "s.parquet",
            classes=experiment.path("classes"),
            seed=0,
        )


# ---- figures ----


def test_a_gain_is_drawn_as_the_verdict_has_it() -> None:
    def series(outcome: str) -> set[str]:
        row = figures.Interval("m", "", 0.3, 0.2, 0.4, outcome=outcome)
        (figure,) = figures.gains_svgs([("gains", [row])])
        found = {
            name for e in ElementTree.fromstring(figure).iter() for name in (e.get("class") or "").split()
        }
        return {name for name in found if name[0] in "sf" and name[1:].isdigit()}

    helps, hurts, unclear = series("helps"), series("hurts"), series("unclear")
    # An interval without zero whose p is large is no gain.
    assert unclear and helps.isdisjoint(hurts | unclear) and hurts.isdisjoint(unclear)


def test_figures_are_well_formed_and_name_what_they_show() -> None:
    rows = (
        figures.Interval("a<b", "v&w", 0.3, 0.2, 0.4, ((0.35, 0.02), (0.1, None))),
        figures.Interval("c", "", 0.0),
    )
    drawn = [
        *figures.gains_svgs([("gains", rows)]),
        *figures.leaderboard_svgs([figures.Panel("test", rows, (("chance", 0.1), ("majority", 0.1)))]),
        *figures.class_gains_svgs([("s", ["x", "y"]), ("t", ["x"])], {"m": 1}, {("s", "x", "m"): -0.2}),
        figures.map_svg(np.arange(3.0), np.zeros(3), ["seen", "unseen", "synthetic"], ["p", "q", "q"], "map"),
        figures.map_svg(np.zeros(0), np.zeros(0), [], [], "no points"),
        figures.histogram_svg([(0.5, 1.0, 3), (1.0, 2.0, 0), (2.0, 5.0, 100_000)], "durations"),
        figures.histogram_svg([], "no clips"),
        figures.confusion_svg(["k\x00l", "m"], np.array([[3, 1], [0, 0]]), "confusion"),
    ]
    for figure in (*drawn, svg.stack(drawn), svg.stack([])):
        assert ElementTree.fromstring(figure).tag == "{http://www.w3.org/2000/svg}svg"
        assert "nan" not in figure and "<style>" in figure
    text = "".join(ElementTree.fromstring(svg.stack(drawn)).itertext())
    for words in ("a<b", "v&w", "chance 10.0 %", "75", "q"):
        assert words in text


def test_figure_draws_values_where_its_axis_says() -> None:
    rows = (figures.Interval("a", "", 0.2, 0.1, 0.4), figures.Interval("b", "", 0.4))
    root = ElementTree.fromstring(figures.leaderboard_svgs([figures.Panel("test", rows)])[0])
    ticks = {
        element.text: float(element.get("x", "nan"))
        for element in root.iter("{http://www.w3.org/2000/svg}text")
        if re.fullmatch(r"\d+( %)?", element.text or "")
    }
    dots = [float(c.get("cx", "nan")) for c in root.iter("{http://www.w3.org/2000/svg}circle")][-2:]
    assert dots == pytest.approx([ticks["20"], ticks["40 %"]], abs=0.2)


# ---- browser ----


@dataclass
class Browser:
    """A headless browser that keeps what it complained about."""

    context: object
    complaints: list[str] = field(default_factory=list)

    def open(self, path: Path, width: int):
        tab = self.context.new_page(viewport={"width": width, "height": 900})  # type: ignore[attr-defined]
        tab.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:200]}"))
        tab.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        tab.goto(path.as_uri())
        return tab


@pytest.fixture
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield Browser(chromium)
        chromium.close()


def test_page_works_in_a_browser(experiment: Experiment, browser: Browser) -> None:
    tab = browser.open(experiment.folder / "index.html", 1280)
    assert tab.title() == "Does synthetic audio help?"

    state = tab.evaluate(
        """async () => {
            const audio = document.querySelector("audio");
            audio.preload = "auto";
            audio.load();
            const pause = () => new Promise((done) => setTimeout(done, 50));
            for (let i = 0; i < 100 && audio.readyState < 2; i++) await pause();
            return [audio.readyState, audio.duration];
        }"""
    )
    assert state[0] >= 2 and 0.2 < state[1] < 0.6

    table = "#leaderboard table.sortable >> nth=0"
    column = f"{table} >> tbody tr td:nth-child(4)"

    def values() -> list[float]:
        return [float(v) for v in tab.locator(column).evaluate_all("c => c.map((x) => x.dataset.v)") if v]

    heading = tab.locator(f"{table} >> thead th:nth-child(4)")
    heading.click()
    assert values() == sorted(values(), reverse=True) and heading.get_attribute("aria-sort") == "descending"
    heading.click()
    assert values() == sorted(values()) and len(values()) == 5
    tab.locator(f"{table} >> thead th:nth-child(1)").click()
    names = tab.locator(f"{table} >> tbody tr th").all_inner_texts()
    assert names == sorted(names)

    # Two confusion matrices: one shown, the other chosen from the list.
    panels = tab.locator("#confusion .panel")
    assert [panels.nth(i).is_visible() for i in range(2)] == [True, False]
    tab.locator("#confusion select").select_option(index=1)
    assert [panels.nth(i).is_visible() for i in range(2)] == [False, True]
    assert browser.complaints == []


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_page_never_scrolls_sideways(experiment: Experiment, browser: Browser, width: int) -> None:
    tab = browser.open(experiment.folder / "index.html", width)
    tab.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []


@pytest.mark.parametrize("width", [360, 1280])
def test_page_of_data_alone_folds_its_datasets(tmp_path: Path, browser: Browser, width: int) -> None:
    """Many datasets, no study: an overview, and each dataset behind its name."""
    many = []
    for number in range(3):
        one = Experiment(tmp_path, LABELS, dataset=f"dataset_{number}")
        one.write_data()
        many.append(one.tables(with_gallery=False))
    page.write_report(tmp_path / "index.html", datasets=many, config_summary={}, title="Data")
    tab = browser.open(tmp_path / "index.html", width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    shown = tab.locator("#data dl.facts")
    assert [shown.nth(n).is_visible() for n in range(3)] == [False] * 3
    tab.locator("details.dataset > summary").nth(1).click()
    assert [shown.nth(n).is_visible() for n in range(3)] == [False, True, False]
    tab.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.complaints == []
