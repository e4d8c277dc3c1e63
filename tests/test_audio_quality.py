"""Quality of generated clips: tables in, figures out, each against its formula computed another way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist, pdist

from foley import tables
from foley.metrics.frechet_audio import ExtrapolationOptions, extrapolate
from foley.studies.audio import quality as module
from foley.studies.audio.compare_generators import compare_generators
from foley.studies.audio.quality import (
    NOTED,
    EmbeddingTables,
    ProbeTables,
    QualityOptions,
    mean_and_interval,
    measure_generator,
    measure_real,
    quality_scores,
)
from foley.tables.audio_studies import (
    AUDIO_PARTITION,
    AUDIO_QUALITY,
    PROBE_EMBEDDINGS,
    PROMPTED,
    RECOGNISED,
    SYNTHETIC_CLIPS,
)
from foley.tables.features import EMBEDDINGS
from foley.tables.scores import SCORES

CLASSES = (3, 5)
DIM = 3
OPTIONS = QualityOptions(points=4, groups=4, draws=200, seed=1)
Found = dict[tuple[str, str, int | None], dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Toy:
    """Real and synthetic clips of two classes in some tables, and their vectors by clip."""

    def __init__(self, folder: Path, *, tests: int = 9, trains: int = 12, made: int = 10) -> None:
        random = np.random.default_rng(0)
        self.folder = folder
        self.class_of: dict[str, int] = {}
        self.role: dict[str, str] = {}
        self.windows: dict[str, np.ndarray] = {}
        counts = {"test": tests, "train": trains, "validation": 1, "synthetic": made}
        for class_id in CLASSES:
            for role, count in counts.items():
                for number in range(count):
                    name = f"{role}-{class_id}-{number:02d}"
                    self.class_of[name], self.role[name] = class_id, role
                    # Synthetic clips are a little off, and half of all clips have two windows.
                    shift = class_id + 0.5 * (role == "synthetic")
                    self.windows[name] = shift + random.normal(size=(1 + number % 2, DIM)).astype("f4")
        # Two cuts of a recording that lie very near one another.
        self.windows["train-3-01"] = self.windows["train-3-00"][:1] + np.float32(1e-3)
        self.recording = {name: name for name in self.role} | {"train-3-01": "train-3-00"}
        self.write()

    def names(self, role: str, class_id: int | None = None) -> list[str]:
        return [n for n, r in self.role.items() if r == role and class_id in (None, self.class_of[n])]

    def vectors(self, role: str, class_id: int | None = None) -> np.ndarray:
        return np.concatenate([self.windows[n] for n in self.names(role, class_id)]).astype(float)

    def means(self, role: str, class_id: int | None = None) -> np.ndarray:
        return np.stack([self.windows[n].astype(float).mean(0) for n in self.names(role, class_id)])

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def write(self) -> None:
        real = [n for n, role in self.role.items() if role != "synthetic"]
        made = self.names("synthetic")
        rows = [
            {
                "clip_id": n,
                "class_id": self.class_of[n],
                "recording_id": self.recording[n],
                "role": self.role[n],
            }
            for n in real
        ]
        tables.write(self.path("partition"), AUDIO_PARTITION, rows)
        rows = [
            {
                "clip_id": n, "class_id": self.class_of[n], "label": "x", "generator": "g", "method": "sampled",
                "seed": 0, "sample_rate_hz": 1, "audio": {"bytes": b"", "path": n},
            }
            for n in made
        ]  # fmt: skip
        tables.write(self.path("clips"), SYNTHETIC_CLIPS, rows)
        kind = EMBEDDINGS.with_vectors(vector=DIM)
        # A rejected clip has an embedding and no role. Real shards come in any order.
        for number in (0, 1):
            names = [*real[number::2], *(["rejected"] if number else [])]
            self.windows["rejected"] = np.full((1, DIM), 99, "f4")
            tables.write(self.path(f"real-{number}"), kind, self._windows(names))
        tables.write(self.path("made"), kind, self._windows(made))

    def _windows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"clip_id": n, "window": w, "vector": vector}
            for n in names
            for w, vector in enumerate(self.windows[n].tolist())
        ]

    def write_probe(self, ranks: dict[str, list[int]]) -> ProbeTables:
        """Ranks of each clip for each seed; the last hidden layer is that of the first window."""
        wanted = [n for n in self.role if self.role[n] != "validation"]
        rows = [
            {"clip_id": n, "kind": self.role[n], "class_id": self.class_of[n], "seed": seed, "rank": rank}
            for n in wanted
            for seed, rank in enumerate(ranks[n])
        ]
        tables.write(self.path("recognised"), RECOGNISED, rows)
        rows = [
            {
                "clip_id": n, "kind": self.role[n], "class_id": self.class_of[n],
                "vector": self.windows[n][0].tolist(),
            }
            for n in wanted
        ]  # fmt: skip
        tables.write(self.path("probe"), PROBE_EMBEDDINGS.with_vectors(vector=DIM), rows)
        return ProbeTables(self.path("recognised"), self.path("probe"))

    def measure(self, **more: Any) -> tuple[Found, list[dict[str, Any]]]:
        real = [self.path("real-1"), self.path("real-0")]
        given: dict[str, Any] = {
            "dataset": "toy", "split": "fold1", "generator": "g", "partition": self.path("partition"),
            "synthetic": [self.path("clips")], "probes": {}, "options": OPTIONS,
            "embeddings": {"e": EmbeddingTables(real, [self.path("made")])},
        }  # fmt: skip
        measure_generator(self.path("quality"), self.path("scores"), **{**given, **more})
        return self.results()

    def measure_real(self, **more: Any) -> tuple[Found, list[dict[str, Any]]]:
        given: dict[str, Any] = {
            "dataset": "toy", "split": "fold1", "partition": self.path("partition"), "probes": {},
            "options": OPTIONS, "embeddings": {"e": [self.path("real-0"), self.path("real-1")]},
        }  # fmt: skip
        measure_real(self.path("quality"), self.path("scores"), **{**given, **more})
        return self.results()

    def results(self) -> tuple[Found, list[dict[str, Any]]]:
        rows = tables.read(self.path("quality"), AUDIO_QUALITY).to_pylist()
        found = {(row["embedding"], row["metric"], row["class_id"]): row for row in rows}
        assert len(found) == len(rows)
        return found, tables.read(self.path("scores"), SCORES).to_pylist()


@pytest.fixture(scope="module")
def toy(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def found(toy: Toy) -> Found:
    return toy.measure()[0]


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Heusel et al. 2017, equation 6, with scipy's root of a matrix."""
    a, b = np.cov(x.T), np.cov(y.T)
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b - 2 * sqrtm(a @ b).real))


def kernel(x: np.ndarray, y: np.ndarray) -> float:
    """Chung et al. 2025: 100 times the unbiased squared MMD, the median real distance for a bandwidth."""
    width = np.median(pdist(x))
    across = np.exp(-(cdist(x, y) ** 2) / (2 * width**2)).mean()
    within = [np.exp(-(pdist(part) ** 2) / (2 * width**2)).mean() for part in (x, y)]
    return float(100 * (sum(within) - 2 * across))


def manifolds(x: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage, pair by pair."""
    x_radius, y_radius = (np.sort(cdist(part, part), axis=1)[:, k] for part in (x, y))
    apart = cdist(x, y)
    in_real, in_made = apart <= x_radius[:, None], apart <= y_radius
    return (
        in_real.any(0).mean(), in_made.any(1).mean(), in_real.sum() / (k * len(y)), in_real.any(1).mean(),
    )  # fmt: skip


def vendi(x: np.ndarray) -> float:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(x))
    values = values[values > 1e-12]
    return float(np.exp(-np.sum(values * np.log(values))))


@pytest.mark.parametrize("class_id", [None, *CLASSES])
def test_distances_are_those_of_all_windows_to_the_test_clips(
    toy: Toy, found: Found, class_id: int | None
) -> None:
    x, y = toy.vectors("test", class_id), toy.vectors("synthetic", class_id)
    row = found["e", "frechet_audio_distance", class_id]
    assert row["value"] == pytest.approx(frechet(x, y), rel=1e-6)
    assert (row["n_real"], row["n_synthetic"], row["dimension"]) == (len(x), len(y), DIM)
    assert found["e", "kernel_audio_distance", class_id]["value"] == pytest.approx(kernel(x, y), rel=1e-6)
    assert found["e", "frechet_audio_distance_shrunk", class_id]["value"] > 0


def test_the_limit_of_many_clips_comes_with_its_interval(toy: Toy, found: Found) -> None:
    line = extrapolate(
        toy.vectors("test"), toy.vectors("synthetic"),
        real_clips=np.repeat(np.arange(18), [len(toy.windows[n]) for n in toy.names("test")]),
        made_clips=np.repeat(np.arange(20), [len(toy.windows[n]) for n in toy.names("synthetic")]),
        seed=1, options=ExtrapolationOptions(points=4, groups=4),
    )  # fmt: skip
    row = found["e", "frechet_audio_distance_infinity", None]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((line.value, line.low, line.high))
    assert row["low"] < row["value"] < row["high"] and row["warning"] is None


def test_means_over_classes_are_drawn_over_classes(found: Found) -> None:
    for name in ("frechet_audio_distance", "frechet_audio_distance_shrunk", "kernel_audio_distance"):
        values = [found["e", name, c]["value"] for c in CLASSES]
        row = found["e", f"{name}_class_mean", None]
        assert row["value"] == pytest.approx(np.mean(values))
        # A draw of two classes may be twice the same one.
        assert (row["low"], row["high"]) == pytest.approx((min(values), max(values)))


@pytest.mark.parametrize("class_id", [None, *CLASSES])
def test_manifolds_and_diversity_are_of_clips(toy: Toy, found: Found, class_id: int | None) -> None:
    x, y = toy.means("test", class_id), toy.means("synthetic", class_id)
    names = ("precision", "recall", "density", "coverage")
    for name, value in zip(names, manifolds(x, y, 3), strict=True):
        row = found["e", name, class_id]
        assert (row["value"], row["n_real"], row["n_synthetic"]) == (pytest.approx(value), len(x), len(y))
    of = (class_id,) if class_id is not None else CLASSES
    for name, role in (("diversity", "synthetic"), ("real_diversity", "test")):
        wanted = np.mean([pdist(toy.means(role, c), "cosine").mean() for c in of])
        assert found["e", name, class_id]["value"] == pytest.approx(wanted)
    assert found["e", "vendi", class_id]["value"] == pytest.approx(
        np.mean([vendi(toy.means("synthetic", c)) for c in of])
    )


@pytest.mark.parametrize("class_id", [None, *CLASSES])
def test_memorisation_is_held_against_training_clips(toy: Toy, found: Found, class_id: int | None) -> None:
    train, near = toy.means("train"), toy.means("synthetic", class_id)
    nearest = cdist(near, train, "cosine").min(1)
    row = found["e", "nearest_distance", class_id]
    assert (row["value"], row["n_real"]) == (
        pytest.approx(np.median(nearest)),
        24 if class_id is None else 12,
    )
    # Two cuts of one recording are not held against each other.
    names = toy.names("train")
    apart = cdist(train, train, "cosine")
    recordings = np.array([toy.recording[n] for n in names])
    apart[recordings[:, None] == recordings] = np.inf
    own = np.array([class_id in (None, toy.class_of[n]) for n in names])
    wanted = np.median(apart.min(1)[own])
    assert found["e", "real_nearest_distance", class_id]["value"] == pytest.approx(wanted)
    level, classes = 0.05, np.array([toy.class_of[n] for n in names])
    flags = [
        (1 + (apart.min(1)[classes == c] <= d + 1e-12).sum()) / 13 <= level
        for c in ((class_id,) if class_id is not None else CLASSES)
        for d in cdist(toy.means("synthetic", c), train, "cosine").min(1)
    ]
    row = found["e", "memorised", class_id]
    # Of 12 training clips none can be as rare as one in twenty: neither classes nor all together have a value.
    assert not any(flags) and row["value"] is None and row["low"] is None
    assert ("2 of 2 classes" if class_id is None else "12 real clips") in row["warning"]


def test_copies_of_training_clips_are_flagged(tmp_path: Path) -> None:
    toy = Toy(tmp_path, trains=30)
    for class_id in CLASSES:
        for made, real in zip(
            toy.names("synthetic", class_id)[:4], toy.names("train", class_id)[4:], strict=False
        ):
            toy.windows[made] = toy.windows[real]
    toy.write()
    found, scores = toy.measure()
    for class_id in (None, *CLASSES):
        row = found["e", "memorised", class_id]
        assert row["value"] >= 0.4 and row["low"] <= row["value"] <= row["high"] and row["warning"] is None
    assert sum(row["metric"] == "memorised" for row in scores) == 3


def test_memorisation_of_all_is_that_of_the_classes_that_can_tell(tmp_path: Path) -> None:
    toy = Toy(tmp_path, trains=30)
    for name in toy.names("train", 5)[15:]:
        toy.role[name] = "validation"
    for class_id in CLASSES:
        for made, real in zip(toy.names("synthetic", class_id), toy.names("train", class_id), strict=False):
            toy.windows[made] = toy.windows[real]
    toy.write()
    found, scores = toy.measure()
    whole, enough, few = (found["e", "memorised", c] for c in (None, 3, 5))
    assert few["value"] is None and "15 real clips" in few["warning"] and few["n_synthetic"] == 10
    assert enough["warning"] is None and enough["value"] > 0.4
    assert "1 of 2 classes" in whole["warning"] and whole["n_synthetic"] == 10
    assert whole["value"] == enough["value"] and whole["low"] <= whole["value"] <= whole["high"]
    # It stands, with its warning in the other table.
    stands = {s["class_id"]: s["value"] for s in scores if s["metric"] == "memorised"}
    assert stands == {None: whole["value"], 3: enough["value"]}


def test_too_few_vectors_are_told_and_do_not_stand_alone(tmp_path: Path) -> None:
    toy = Toy(tmp_path, tests=3, made=3)
    toy.class_of["synthetic-5-00"] = toy.class_of["synthetic-5-01"] = 3
    toy.write()
    found, scores = toy.measure()
    row = found["e", "frechet_audio_distance", 5]
    assert row["value"] is None and "needs two of each" in row["warning"] and row["n_synthetic"] == 1
    for name in ("diversity", "precision", "kernel_audio_distance", "frechet_audio_distance_shrunk"):
        assert found["e", name, 5]["value"] is None and found["e", name, 5]["warning"]
    assert "2 neighbours instead of 3" in found["e", "precision", 3]["warning"]
    assert "FAD∞ needs 8" in found["e", "frechet_audio_distance_infinity", None]["warning"]
    assert found["e", "frechet_audio_distance", None]["warning"] is None  # there are more than three vectors
    warned = {key for key, row in found.items() if row["warning"] is not None}
    warned = {key for key in warned if key[1] not in NOTED}
    assert warned and all((r["variant"], r["metric"], r["class_id"]) not in warned for r in scores)
    mean = found["e", "frechet_audio_distance_shrunk_class_mean", None]
    assert mean["value"] is None and mean["warning"] == "1 of 2 classes have no value"
    assert all(r["value"] is not None for r in scores)
    assert {r["metric"] for r in scores if r["class_id"] == 3} >= {
        "frechet_audio_distance_shrunk",
        "diversity",
    }


def test_a_singular_covariance_is_a_warning_of_the_plain_distance_and_a_note_on_the_shrunk(
    tmp_path: Path,
) -> None:
    toy = Toy(tmp_path, tests=4, made=4)
    wide = np.random.default_rng(1).normal(size=(DIM, 40)).astype("f4")
    toy.windows = {name: (windows[:1] @ wide) for name, windows in toy.windows.items()}
    monkey = pytest.MonkeyPatch()
    monkey.setattr(f"{__name__}.DIM", 40)
    toy.write()
    monkey.undo()
    found, scores = toy.measure()
    plain, shrunk = (found["e", f"frechet_audio_distance{kind}", None] for kind in ("", "_shrunk"))
    assert "8 real vectors in 40 dimensions: the sample covariance is singular" in plain["warning"]
    note = "in 40 dimensions: not 0 for equal sets; read it against `real`"
    assert shrunk["warning"] == f"8 real and 8 synthetic vectors {note}" and shrunk["dimension"] == 40
    mean = found["e", "frechet_audio_distance_shrunk_class_mean", None]
    assert mean["warning"].startswith("2 of 2 classes have few vectors: not 0 for equal sets")
    # What is noted stands all the same.
    stands = {(s["class_id"], s["value"]) for s in scores if s["metric"] == "frechet_audio_distance_shrunk"}
    assert stands == {(c, found["e", "frechet_audio_distance_shrunk", c]["value"]) for c in (None, *CLASSES)}
    assert mean["value"] in [s["value"] for s in scores if s["metric"].endswith("shrunk_class_mean")]
    infinite = found["e", "frechet_audio_distance_infinity", None]
    assert "too high" in infinite["warning"] and infinite["low"] is None
    names = {row["metric"] for row in scores}
    assert "frechet_audio_distance_shrunk" in names
    assert not names & {"frechet_audio_distance", "frechet_audio_distance_infinity"}


def test_recognition_counts_clips_and_seeds(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    random = np.random.default_rng(2)
    ranks = {n: random.integers(1, 3, 3).tolist() for n in toy.role}
    probe = toy.write_probe(ranks)
    for measure, role, n_name in (
        (toy.measure, "synthetic", "n_synthetic"), (toy.measure_real, "test", "n_real"),
    ):  # fmt: skip
        found, scores = measure(embeddings={}, probes={"cnn": probe})
        for class_id in (None, *CLASSES):
            hits = [[rank == 1 for rank in ranks[n]] for n in toy.names(role, class_id)]
            row = found["probe:cnn", "recognition_accuracy", class_id]
            assert row["value"] == pytest.approx(np.mean(hits))
            assert row["low"] < row["value"] < row["high"] and row[n_name] == len(hits)
        # Among two classes each is among the first five.
        assert ("probe:cnn", "recognition_accuracy_at_5", None) not in found
        assert ("probe:cnn", "kernel_audio_distance", None) in found
        (score,) = [r for r in scores if r["metric"] == "recognition_accuracy" and r["class_id"] is None]
        assert score["method"] == {"synthetic": "g", "test": "real"}[role]
        assert (score["study"], score["variant"], score["n"]) == (
            "diffusion",
            "probe:cnn",
            len(toy.names(role)),
        )


def test_the_interval_is_over_clips_and_over_seeds() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=400)
    for one, recordings in ((values[None], np.arange(400)), (np.stack([values] * 2, 1), np.arange(2))):
        value, low, high = mean_and_interval(one, recordings, 4000, 0, "x")
        assert value == pytest.approx(values.mean())
        half = 1.96 * values.std() / np.sqrt(400)
        assert (value - low, high - value) == pytest.approx((half, half), rel=0.1)
    # A single recording says nothing, however many clips and seeds it has.
    value, low, high = mean_and_interval(values.reshape(4, 100), np.zeros(100, int), 50, 0, "x")
    assert value == pytest.approx(values.mean()) and np.isnan([low, high]).all()
    # Copies of a recording add nothing.
    doubled = mean_and_interval(np.repeat(values, 2)[None], np.repeat(np.arange(400), 2), 4000, 0, "x")
    assert doubled == pytest.approx(mean_and_interval(values[None], np.arange(400), 4000, 0, "x"))


def test_prompts_count_ranks_and_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROMPT_RANKS", (1, 5))
    toy = Toy(tmp_path)
    names = toy.names("synthetic")
    rows = [
        {"clip_id": n, "class_id": toy.class_of[n], "rank": 1 + k % 2, "average_precision": 1 / (1 + k % 2)}
        for k, n in enumerate(names)
    ]
    tables.write(tmp_path / "prompted", PROMPTED, rows)
    found, _ = toy.measure(embeddings={}, prompted=tmp_path / "prompted")
    assert {metric for _, metric, _ in found} == {"clap_accuracy_at_1", "map_at_10"}
    assert found["clap", "clap_accuracy_at_1", None]["value"] == 0.5
    assert found["clap", "map_at_10", None]["value"] == 0.75
    assert found["clap", "map_at_10", 3]["n_synthetic"] == 10
    tables.write(tmp_path / "prompted", PROMPTED, rows[1:])
    with pytest.raises(ValueError, match="is not of the 20 clips"):
        toy.measure(embeddings={}, prompted=tmp_path / "prompted")


def test_training_clips_stand_in_for_synthetic_ones_in_the_yardstick(toy: Toy) -> None:
    found, scores = toy.measure_real()
    assert {row["generator"] for row in found.values()} == {row["method"] for row in scores} == {"real"}
    x, y = toy.vectors("test"), toy.vectors("train")
    assert found["e", "frechet_audio_distance", None]["value"] == pytest.approx(frechet(x, y), rel=1e-6)
    nearest = cdist(toy.means("test"), toy.means("train"), "cosine").min(1)
    assert found["e", "nearest_distance", None]["value"] == pytest.approx(np.median(nearest))
    fewer, _ = toy.measure_real(clips_per_class=4)
    assert (
        fewer["e", "precision", 3]["n_synthetic"] == 4 and fewer["e", "precision", None]["n_synthetic"] == 8
    )
    assert fewer["e", "nearest_distance", 3]["n_real"] == 12


def test_clips_without_embeddings_or_answers_are_named(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    with pytest.raises(ValueError, match="`real` is the yardstick's id"):
        toy.measure(generator="real")
    embeddings = {"e": EmbeddingTables([toy.path("real-0")], [toy.path("made")])}
    with pytest.raises(ValueError, match=r"\d+ clips have no embedding: `test-"):
        toy.measure(embeddings=embeddings)
    probe = toy.write_probe({n: [1, 1] for n in toy.role})
    rows = tables.read(probe.recognised, RECOGNISED)
    tables.write(probe.recognised, RECOGNISED, rows.slice(1))
    with pytest.raises(ValueError, match="does not answer for the 20 clips of kind synthetic"):
        toy.measure(embeddings={}, probes={"cnn": probe})
    toy.class_of["synthetic-3-00"] = 9
    toy.write()
    with pytest.raises(ValueError, match=r"clips of classes that .* lacks: `synthetic-3-00`"):
        toy.measure()


# Comparing generators


def quality_row(split: str, generator: str, metric: str, value: float, **more: Any) -> dict[str, Any]:
    return {
        "dataset": "toy", "split": split, "generator": generator, "embedding": "e", "class_id": None,
        "metric": metric, "value": value, "low": None, "high": None, "n_real": 8, "n_synthetic": 10,
        "dimension": 3, "warning": None, **more,
    }  # fmt: skip


def compare(folder: Path, rows: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    paths = []
    for number, (split, generator) in enumerate(sorted({(r["split"], r["generator"]) for r in rows})):
        paths.append(folder / f"{number}.parquet")
        own = [r for r in rows if (r["split"], r["generator"]) == (split, generator)]
        tables.write(paths[-1], AUDIO_QUALITY, own)
    compare_generators(folder / "out", quality=paths, draws=500, seed=1)
    found = tables.read(folder / "out", SCORES).to_pylist()
    assert {row["study"] for row in found} <= {"diffusion"} and {row["dataset"] for row in found} <= {"toy"}
    return {(r["split"], r["method"], r["metric"], r["class_id"]): r for r in found}


def test_means_are_over_folds_and_join_their_intervals(tmp_path: Path) -> None:
    name = "frechet_audio_distance_infinity"
    values = {"fold1": (1.0, 0.5, 2.0), "fold2": (4.0, 2.0, 5.0), "random": (9.0, 8.0, 10.0)}
    rows = [quality_row(s, "g", name, v, low=a, high=b) for s, (v, a, b) in values.items()]
    rows += [quality_row(s, "g", "precision", n, class_id=3) for n, s in enumerate(values)]
    rows += [quality_row(s, "g", "precision", n) for n, s in enumerate(values)]
    # One fold with a warning: no mean.
    rows += [
        quality_row("fold1", "g", "recall", 0.5),
        quality_row("fold2", "g", "recall", 0.7, warning="few"),
    ]
    rows += [quality_row(s, "g", "frechet_audio_distance", 1.0) for s in values]
    found = compare(tmp_path, rows)
    assert {key[:1] + key[2:] for key in found} == {
        ("mean", name, None), ("mean", "precision", 3), ("mean", "precision", None),
    }  # fmt: skip
    row = found["mean", "g", name, None]
    assert row["value"] == 2.5 and row["n"] == 20 and row["variant"] == "e"
    # Zou & Donner 2008 for (a + b) / 2: arms 0.5 and 2 below, 1 and 1 above.
    assert row["low"] == pytest.approx(2.5 - np.hypot(0.5, 2) / 2)
    assert row["high"] == pytest.approx(2.5 + np.hypot(1, 1) / 2)
    assert found["mean", "g", "precision", None]["value"] == 0.5
    assert found["mean", "g", "precision", None]["low"] is None


def test_means_over_classes_draw_the_same_classes_for_all_folds(tmp_path: Path) -> None:
    rows = [
        quality_row(split, "g", "diversity", value, class_id=class_id)
        for split, values in (("fold1", (0.1, 0.3)), ("fold2", (0.2, 0.6)))
        for class_id, value in enumerate(values)
    ]
    rows += [quality_row("fold1", "g", "diversity", 0.2), quality_row("fold2", "g", "diversity", 0.4)]
    row = compare(tmp_path, rows)["mean", "g", "diversity", None]
    # Both folds draw class 0 twice, or class 1.
    assert (row["value"], row["low"], row["high"]) == pytest.approx((0.3, 0.15, 0.45))


def test_pairs_are_compared_class_by_class(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    classes = range(12)
    noise = random.normal(size=12)
    value = {
        ("a", "fold1"): noise, ("b", "fold1"): noise + 1 + 0.1 * random.normal(size=12),
        ("a", "fold2"): 2 * noise, ("b", "fold2"): 2 * noise + 2 + 0.1 * random.normal(size=12),
    }  # fmt: skip
    value["c", "fold1"], value["c", "fold2"] = value["a", "fold1"], value["a", "fold2"]
    name = "kernel_audio_distance"
    rows = [
        quality_row(split, generator, name, float(values[c]), class_id=c)
        for (generator, split), values in value.items()
        for c in classes
        if (generator, c) != ("b", 0)
    ]
    rows += [quality_row(s, "real", name, 1.0, class_id=c) for s in ("fold1", "fold2") for c in classes]
    found = compare(tmp_path, rows)
    for split in ("fold1", "fold2", "mean"):
        folds = ("fold1", "fold2") if split == "mean" else (split,)
        difference = np.mean([value["b", f] - value["a", f] for f in folds], axis=0)[1:]
        row = found[split, "b", f"{name}_difference_to_a", None]
        assert (row["value"], row["n"]) == (pytest.approx(difference.mean()), 11)
        half = 1.96 * difference.std() / np.sqrt(11)
        arms = (row["value"] - row["low"], row["high"] - row["value"])
        assert arms == pytest.approx((half, half), rel=0.35)
        other = found[split, "a", f"{name}_difference_to_b", None]
        assert (other["value"], other["low"]) == (-row["value"], -row["high"])
        # The least of three p, times three: 2 / 501 is what 500 draws can say at least.
        assert found[split, "b", f"p_{name}_difference_to_a", None]["value"] == pytest.approx(3 * 2 / 501)
        assert found[split, "a", f"{name}_difference_to_c", None]["value"] == 0
        assert found[split, "a", f"p_{name}_difference_to_c", None]["value"] == 1
    assert not any("real" in key[2] for key in found)


def test_generators_of_other_numbers_are_no_pair_where_the_number_matters(tmp_path: Path) -> None:
    rows = [
        quality_row(split, generator, name, 1.0 + c * number, class_id=c) | {"n_synthetic": 24 if few else 40}
        for number, generator in enumerate("abc")
        for split in ("fold1", "fold2")
        for name in ("frechet_audio_distance_shrunk", "kernel_audio_distance")
        for c in range(4)
        # Another number of every clip of b, and of a class of c in one fold.
        for few in [generator == "b" or (generator, split, c) == ("c", "fold2", 3)]
    ]
    found = compare(tmp_path, rows)
    pairs = {
        (split, method, metric.removesuffix("_distance_difference_to_a")): row["n"]
        for (split, method, metric, _), row in found.items()
        if metric.endswith("to_a") and not metric.startswith("p_")
    }
    shrunk, kernel = "frechet_audio_distance_shrunk_difference_to_a", "kernel_audio"
    assert pairs == {
        ("fold1", "b", kernel): 4, ("fold2", "b", kernel): 4, ("mean", "b", kernel): 4,
        ("fold1", "c", kernel): 4, ("fold2", "c", kernel): 4, ("mean", "c", kernel): 4,
        ("fold1", "c", shrunk): 4, ("fold2", "c", shrunk): 3, ("mean", "c", shrunk): 3,
    }  # fmt: skip


def test_tables_of_one_dataset_are_wanted_once(tmp_path: Path) -> None:
    row = quality_row("fold1", "g", "precision", 0.5)
    tables.write(tmp_path / "a", AUDIO_QUALITY, [row])
    tables.write(tmp_path / "b", AUDIO_QUALITY, [{**row, "dataset": "other"}])
    with pytest.raises(ValueError, match=r"datasets \['other', 'toy'\]"):
        compare_generators(tmp_path / "out", quality=[tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="measured twice"):
        compare_generators(tmp_path / "out", quality=[tmp_path / "a", tmp_path / "a"])
    with pytest.raises(ValueError, match="no tables"):
        compare_generators(tmp_path / "out", quality=[])
    compare_generators(tmp_path / "out", quality=[tmp_path / "a"])
    assert tables.read(tmp_path / "out", SCORES).num_rows == 0
    (score,) = quality_scores([row])
    assert (score["method"], score["metric"], score["value"]) == ("g", "precision", 0.5)
