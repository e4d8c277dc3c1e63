"""How good generated clips are: held against real clips in embeddings, recognised by a probe, and prompted.

Distances and manifolds hold the synthetic clips against the real **test** clips, which no generator has heard;
memorisation holds them against the **training** clips, which it has. Fréchet and kernel distances take every window of
a clip as a vector, as published; all else is about clips, and takes the mean over a clip's windows.

**The yardstick** is the generator id ``real``: for distances, manifolds and diversity the training clips stand in for
synthetic ones (a generator that remembered everything would do as well), for memorisation, recognition and prompts the
test clips do. Most measures depend on the numbers of clips, so as many training clips are drawn as are generated.

Intervals: of FAD∞ the jackknife over clips; of what is a mean over clips (recognition, prompts, memorisation) the
bootstrap over clips (of real ones, over recordings) and over the probe's seeds, each drawn with replacement (the
pigeonhole bootstrap, Owen 2007, "The pigeonhole bootstrap"); of what is a mean over classes the bootstrap over classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foley import tables
from foley.metrics.bootstrap import interval, resample_recordings
from foley.metrics.by_class import row_groups
from foley.metrics.frechet_audio import ExtrapolationOptions, frechet_audio_distances
from foley.metrics.kernel_audio import kernel_audio_distances
from foley.metrics.manifold import compare_manifolds
from foley.metrics.memorisation import diversity_scores, find_memorised, memorisation_scores
from foley.runtime.seeds import derive
from foley.studies.audio.clips import named
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

log = logging.getLogger(__name__)

STUDY = "diffusion"
REAL = "real"
CLAP = "clap"
SYNTHETIC, TEST, TRAIN = "synthetic", "test", "train"
FRECHET, SHRUNK, INFINITE = (f"frechet_audio_distance{kind}" for kind in ("", "_shrunk", "_infinity"))
KERNEL = "kernel_audio_distance"
MEMORISED = "memorised"
RECOGNITION = "recognition_accuracy"
CLASS_MEAN = "_class_mean"
# Depends on the number of vectors as much as on their distance: never without n and its warning.
NEVER_ALONE = frozenset({FRECHET, FRECHET + CLASS_MEAN})
BIASED = f"not 0 for equal sets; read it against `{REAL}`"
# A value of these stands in spite of a warning, which is a note on how to read it: the page shows both.
NOTED = frozenset({MEMORISED, SHRUNK, SHRUNK + CLASS_MEAN})
RECOGNITION_RANKS = (1, 5)
PROMPT_RANKS = (1, 5, 10)


@dataclass(frozen=True)
class QualityOptions:
    """How quality is measured.

    neighbours: k of precision, recall, density and coverage; 3 as in Kynkäänniemi et al. 2019.
    level: part of new real clips that memorisation would flag, about, with many recordings.
    points, groups: of FAD∞; see ``ExtrapolationOptions``. It is a line, for a start, and its interval a jackknife.
    draws: of the bootstrap.
    seed: of bootstrap, subsamples and the yardstick's choice of training clips.
    """

    neighbours: int = 3
    level: float = 0.05
    points: int = 15
    groups: int = 10
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.draws < 1 or not 0 < self.level < 1:
            raise ValueError("neighbours and draws must be at least 1, level between 0 and 1")
        _ = ExtrapolationOptions(points=self.points, groups=self.groups)  # which checks its own


@dataclass(frozen=True)
class EmbeddingTables:
    """Tables of one pretrained embedding: shards of the dataset's clips, and of the synthetic ones."""

    real: Sequence[Path]
    synthetic: Sequence[Path]


@dataclass(frozen=True)
class ProbeTables:
    """What one classifier made of the clips: answers, and its last hidden layer."""

    recognised: Path
    embeddings: Path


@dataclass(frozen=True)
class VectorSet:
    """Vectors [N, D] with, of each, its clip, class and recording [N]; a clip may have several."""

    vectors: np.ndarray
    clip_ids: np.ndarray
    class_ids: np.ndarray
    recordings: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def of_clips(self) -> VectorSet:
        """One vector a clip, the mean over its windows."""
        names, first, owner, counts = np.unique(
            self.clip_ids, return_index=True, return_inverse=True, return_counts=True
        )
        if len(names) == len(self):
            return self.rows(first)
        sums = np.zeros((len(names), self.vectors.shape[1]))
        np.add.at(sums, owner, self.vectors)
        return replace(self.rows(first), vectors=sums / counts[:, None])

    def rows(self, rows: np.ndarray) -> VectorSet:
        return VectorSet(self.vectors[rows], self.clip_ids[rows], self.class_ids[rows], self.recordings[rows])

    def thinned(self, clips_per_class: int, seed: int) -> VectorSet:
        """At most so many clips of each class, drawn by seed; with all of their windows."""
        class_of = dict(zip(self.clip_ids.tolist(), self.class_ids.tolist(), strict=True))
        kept: set[str] = set()
        for class_id in sorted(set(class_of.values())):
            own = sorted(clip_id for clip_id, its in class_of.items() if its == class_id)
            random = np.random.default_rng(derive(seed, "yardstick", class_id))
            kept.update(random.permutation(np.array(own, dtype=object))[:clips_per_class])
        return self.rows(np.flatnonzero([clip_id in kept for clip_id in self.clip_ids]))


def measure_generator(
    quality: Path,
    scores: Path,
    *,
    dataset: str,
    split: str,
    generator: str,
    partition: Path,
    synthetic: Sequence[Path],
    embeddings: Mapping[str, EmbeddingTables],
    probes: Mapping[str, ProbeTables],
    prompted: Path | None = None,
    options: QualityOptions | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write everything measured of one generator's clips in one split, and those values that may stand alone.

    Args:
        quality, scores: tables to write.
        dataset, split, generator: ids, as the tables name them.
        synthetic: tables of its clips.
        embeddings: by embedding id.
        probes: by classifier id.
        prompted: ranks of prompts in CLAP's space.

    Raises:
        ValueError: a clip without an embedding or answer, one of another class, or fewer than two clips; names it.
    """
    if generator == REAL:
        raise ValueError(f"`{REAL}` is the yardstick's id; give the generator another one")
    o = options or QualityOptions()
    parts = _Parts.read(partition)
    made_class: dict[str, int] = {}
    for shard in synthetic:
        table = tables.read(shard, SYNTHETIC_CLIPS, columns=["clip_id", "class_id"])
        made_class.update(zip(table["clip_id"].to_pylist(), table["class_id"].to_pylist(), strict=True))
    strange = sorted(c for c, class_id in made_class.items() if class_id not in parts.classes)
    if strange:
        raise ValueError(f"generator {generator}: clips of classes that {partition} lacks: {named(strange)}")
    measured = _Measured(dataset, split, generator)
    for name, of_embedding in embeddings.items():
        test, train = parts.sets(of_embedding.real, EMBEDDINGS)
        made = _vectors(of_embedding.synthetic, EMBEDDINGS, made_class, {})
        measured.add(name, compare_sets(test, made, train=train, near=made, options=o))
    for name, probe in probes.items():
        test, train = parts.sets([probe.embeddings], PROBE_EMBEDDINGS)
        made = _vectors([probe.embeddings], PROBE_EMBEDDINGS, made_class, {})
        rows = compare_sets(test, made, train=train, near=made, options=o)
        rows += _recognition(probe.recognised, SYNTHETIC, made_class, {}, len(parts.classes), o)
        measured.add(f"probe:{name}", rows)
    if prompted is not None:
        measured.add(CLAP, _prompts(prompted, made_class, {}, len(parts.classes), o, real=False))
    measured.write(quality, scores, provenance)


def measure_real(
    quality: Path,
    scores: Path,
    *,
    dataset: str,
    split: str,
    partition: Path,
    embeddings: Mapping[str, Sequence[Path]],
    probes: Mapping[str, ProbeTables],
    prompted: Path | None = None,
    clips_per_class: int | None = None,
    options: QualityOptions | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the yardstick ``real`` of one split; see the module.

    Args:
        embeddings: shards of the dataset's clips, by embedding id.
        probes: by classifier id; answers for real clips.
        prompted: ranks of the test clips' prompts.
        clips_per_class: how many clips of a class the generators made; None for all training clips.

    Raises:
        ValueError: as ``measure_generator``.
    """
    o = options or QualityOptions()
    parts = _Parts.read(partition)
    measured = _Measured(dataset, split, REAL)

    def compare(paths: Sequence[Path], kind: tables.TableKind) -> list[dict[str, Any]]:
        test, train = parts.sets(paths, kind)
        made = train if clips_per_class is None else train.thinned(clips_per_class, o.seed)
        return compare_sets(test, made, train=train, near=test, options=o)

    for name, paths in embeddings.items():
        measured.add(name, compare(paths, EMBEDDINGS))
    test_class = parts.class_of[TEST]
    for name, probe in probes.items():
        rows = compare([probe.embeddings], PROBE_EMBEDDINGS)
        rows += _recognition(probe.recognised, TEST, test_class, parts.recording_of, len(parts.classes), o)
        measured.add(f"probe:{name}", rows)
    if prompted is not None:
        rows = _prompts(prompted, test_class, parts.recording_of, len(parts.classes), o, real=True)
        measured.add(CLAP, rows)
    measured.write(quality, scores, provenance)


def quality_scores(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of AUDIO_QUALITY -> rows of SCORES: those whose value may stand alone.

    That is: it is there, has no warning (or one that is a note, ``NOTED``), and is no plain Fréchet distance.
    """
    return [
        {
            "study": STUDY,
            "dataset": row["dataset"],
            "split": row["split"],
            "fold": None,
            "method": row["generator"],
            "variant": row["embedding"],
            "seed": None,
            "class_id": row["class_id"],
            "metric": row["metric"],
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "n": row["n_real"] if row["n_synthetic"] is None else row["n_synthetic"],
        }
        for row in rows
        if stands_alone(row)
    ]


def stands_alone(row: Mapping[str, Any]) -> bool:
    trusted = row["warning"] is None or row["metric"] in NOTED
    return row["value"] is not None and trusted and row["metric"] not in NEVER_ALONE


# Reading


@dataclass(frozen=True)
class _Parts:
    """Classes of a split [C], test and training clips with their classes, and their recordings."""

    classes: frozenset[int]
    class_of: dict[str, dict[str, int]]
    recording_of: dict[str, str]

    @classmethod
    def read(cls, partition: Path) -> _Parts:
        rows = tables.read(partition, AUDIO_PARTITION).to_pylist()
        return cls(
            frozenset(row["class_id"] for row in rows),
            {
                role: {row["clip_id"]: row["class_id"] for row in rows if row["role"] == role}
                for role in (TEST, TRAIN)
            },
            {row["clip_id"]: row["recording_id"] for row in rows},
        )

    def sets(self, paths: Sequence[Path], kind: tables.TableKind) -> tuple[VectorSet, VectorSet]:
        """Test and training vectors."""
        test, train = (_vectors(paths, kind, self.class_of[r], self.recording_of) for r in (TEST, TRAIN))
        return test, train


def _vectors(
    paths: Sequence[Path],
    kind: tables.TableKind,
    class_of: Mapping[str, int],
    recording_of: Mapping[str, str],
) -> VectorSet:
    """The vectors of some clips, ordered by clip (and window). A clip without a recording is one of its own."""
    columns = ["clip_id", "vector", *(["window"] if "window" in kind.columns else [])]
    parts = []
    for path in paths:
        table = tables.read(path, kind, columns=columns)
        wanted = pc.is_in(table["clip_id"], pa.array(list(class_of), pa.string()))
        parts.append(table.filter(wanted).replace_schema_metadata(None))
    where = ", ".join(sorted({str(path.parent) for path in paths})) or "no tables"
    if not class_of:
        raise ValueError(f"{where}: no clips to compare; check the split and the generator")
    table = pa.concat_tables(parts) if parts else None
    known = set(table["clip_id"].to_pylist()) if table is not None else set()
    lacking = sorted(class_of.keys() - known)
    if table is None or lacking:
        raise ValueError(
            f"{where}: {len(lacking)} clips have no embedding: {named(lacking)}; embed them again"
        )
    table = table.sort_by([(name, "ascending") for name in columns if name != "vector"])
    ids = table["clip_id"].to_pylist()
    return VectorSet(
        np.asarray(tables.to_matrix(table["vector"]), dtype=np.float64),
        np.array(ids, dtype=object),
        np.array([class_of[i] for i in ids], dtype=np.int64),
        np.array([recording_of.get(i, i) for i in ids], dtype=object),
    )


class _Measured:
    """Rows of AUDIO_QUALITY of one generator in one split."""

    def __init__(self, dataset: str, split: str, generator: str) -> None:
        self.labels = {"dataset": dataset, "split": split, "generator": generator}
        self.rows: list[dict[str, Any]] = []

    def add(self, embedding: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self.rows += [{**self.labels, "embedding": embedding, **row} for row in rows]

    def write(self, quality: Path, scores: Path, provenance: Mapping[str, Any] | None) -> None:
        doubtful = sum(row["warning"] is not None for row in self.rows)
        log.info("%d values, %d of them with a warning", len(self.rows), doubtful)
        tables.write(quality, AUDIO_QUALITY, self.rows, provenance)
        tables.write(scores, SCORES, quality_scores(self.rows), provenance)


def _row(
    metric: str,
    class_id: int | None,
    value: float,
    n_real: int | None,
    n_synthetic: int | None,
    *,
    low: float = float("nan"),
    high: float = float("nan"),
    dimension: int | None = None,
    warning: str = "",
) -> dict[str, Any]:
    there = bool(np.isfinite(value))
    bounded = there and bool(np.isfinite([low, high]).all())
    return {
        "class_id": class_id,
        "metric": metric,
        "value": float(value) if there else None,
        "low": float(low) if bounded else None,
        "high": float(high) if bounded else None,
        "n_real": n_real,
        "n_synthetic": n_synthetic,
        "dimension": dimension,
        "warning": warning or None,
    }


# Embeddings


def compare_sets(
    test: VectorSet, made: VectorSet, *, train: VectorSet, near: VectorSet, options: QualityOptions
) -> list[dict[str, Any]]:
    """All that embeddings say: ``made`` against ``test``, and the nearest of ``train`` to each of ``near``.

    Returns:
        Rows of AUDIO_QUALITY without their labels: over all clips (``class_id`` None) and of each class.

    Raises:
        ValueError: a set has fewer than two clips, or their vectors do not fit.
    """
    rows = _frechet(test, made, options) + _kernel(test, made, options)
    test, made, train, near = (part.of_clips() for part in (test, made, train, near))
    rows += _manifold(test, made, options.neighbours)
    rows += _memorised(train, near, options)
    rows += _diversity(test, made, options)
    dimension = made.vectors.shape[1]
    return [{**row, "dimension": dimension} for row in rows]


def _frechet(test: VectorSet, made: VectorSet, o: QualityOptions) -> list[dict[str, Any]]:
    dim = test.vectors.shape[1]
    rows = []
    for class_id, (a, b) in row_groups(test.class_ids, made.class_ids):
        n, m = len(a), len(b)
        if min(n, m) < 2:
            few = f"{n} real and {m} synthetic vectors: a covariance needs two of each"
            rows += [_row(name, class_id, np.nan, n, m, warning=few) for name in (FRECHET, SHRUNK, INFINITE)]
            continue
        # Where subsamples are smaller than the dimensions, the interval would not hold and is not worth its time.
        holds = min(n, m) >= 2 * dim
        line = ExtrapolationOptions(points=o.points, groups=o.groups if holds else 0)
        x, y = test.rows(a), made.rows(b)
        score = frechet_audio_distances(
            x.vectors, y.vectors, real_clips=_numbers(x.clip_ids), made_clips=_numbers(y.clip_ids),
            seed=o.seed, options=line,
        )[0]  # fmt: skip
        # One warning tells of all three values: what is about covariances concerns the first, what is about
        # subsamples the last.
        singular = score.warning if min(n, m) <= dim else ""
        # Shrinking makes a covariance whole again, not right: two sets of one kind are apart.
        biased = (
            f"{n} real and {m} synthetic vectors in {dim} dimensions: {BIASED}" if min(n, m) <= dim else ""
        )
        of_line = score.warning if np.isnan(score.infinite) or "FAD∞" in score.warning else ""
        rows += [
            _row(FRECHET, class_id, score.sample, n, m, warning=singular),
            _row(SHRUNK, class_id, score.shrunk, n, m, warning=biased),
            _row(INFINITE, class_id, score.infinite, n, m, low=score.low, high=score.high, warning=of_line),
        ]
    return rows + [_class_mean(name, rows, o) for name in (FRECHET, SHRUNK)]


def _numbers(clip_ids: np.ndarray) -> np.ndarray:
    return np.unique(clip_ids, return_inverse=True)[1]


def _kernel(test: VectorSet, made: VectorSet, o: QualityOptions) -> list[dict[str, Any]]:
    found = kernel_audio_distances(
        test.vectors, made.vectors, real_classes=test.class_ids, made_classes=made.class_ids
    )
    rows = [_row(KERNEL, s.class_id, s.value, s.n_real, s.n_made, warning=s.warning) for s in found]
    return [*rows, _class_mean(KERNEL, rows, o)]


def _class_mean(name: str, rows: Sequence[Mapping[str, Any]], o: QualityOptions) -> dict[str, Any]:
    """The mean over classes, which is what published tables of class-conditional generators show."""
    own = [row for row in rows if row["metric"] == name and row["class_id"] is not None]
    there = [row for row in own if row["value"] is not None]
    value, low, high = _over_classes(
        np.array([row["value"] for row in there]), np.array([row["class_id"] for row in there]), o
    )
    doubtful = sum(row["warning"] is not None for row in own)
    warning = f"{doubtful} of {len(own)} classes have a warning" if doubtful else ""
    if name in NOTED and doubtful:
        if len(there) == len(own):
            warning = f"{doubtful} of {len(own)} classes have few vectors: {BIASED}"
        else:  # of a note the value stands, and would stand for other classes than another generator's
            value, warning = np.nan, f"{len(own) - len(there)} of {len(own)} classes have no value"
    return _row(
        name + CLASS_MEAN, None, value, sum(row["n_real"] for row in there),
        sum(row["n_synthetic"] for row in there), low=low, high=high, warning=warning,
    )  # fmt: skip


def _over_classes(values: np.ndarray, class_ids: np.ndarray, o: QualityOptions) -> tuple[float, float, float]:
    """Mean over classes, and its interval by the bootstrap over them; NaN without a class, or with a single one."""
    if len(values) < 2:
        return float(values[0]) if len(values) else float("nan"), float("nan"), float("nan")
    resamples = resample_recordings(class_ids, o.draws, o.seed, "classes")
    drawn = resamples.sums(values) / resamples.sums(np.ones(len(values)))
    return float(values.mean()), *interval(drawn)


def _manifold(test: VectorSet, made: VectorSet, neighbours: int) -> list[dict[str, Any]]:
    names = ("precision", "recall", "density", "coverage")
    rows = []
    for class_id, (a, b) in row_groups(test.class_ids, made.class_ids):
        n, m = len(a), len(b)
        k = min(neighbours, n - 1, m - 1)
        if k < 1:
            few = f"{n} real and {m} synthetic clips: a manifold needs two of each"
            rows += [_row(name, class_id, np.nan, n, m, warning=few) for name in names]
            continue
        warning = "" if k == neighbours else f"{k} neighbours instead of {neighbours}: too few clips"
        found = compare_manifolds(test.vectors[a], made.vectors[b], k)
        rows += [_row(name, class_id, float(getattr(found, name)), n, m, warning=warning) for name in names]
    return rows


def _memorised(train: VectorSet, near: VectorSet, o: QualityOptions) -> list[dict[str, Any]]:
    found = find_memorised(
        train.vectors, near.vectors, real_recordings=_numbers(train.recordings), level=o.level,
        real_classes=train.class_ids, made_classes=near.class_ids,
    )  # fmt: skip
    scores = memorisation_scores(
        found, level=o.level, real_classes=train.class_ids, made_classes=near.class_ids
    )
    judged = np.isin(near.class_ids, [s.class_id for s in scores if s.class_id is not None and s.judged])
    flags = (
        _mean_rows(
            MEMORISED,
            found.flagged[None, judged].astype(float),
            near.class_ids[judged],
            near.recordings[judged],
            o,
        )
        if judged.any()
        else []
    )
    ends = {row["class_id"]: (row["low"], row["high"]) for row in flags}
    rows = []
    for score in scores:
        n, m = score.n_real, score.n_made
        of = score.judged if score.class_id is None else m
        of_class = [
            _row(MEMORISED, score.class_id, score.flagged, n, of, warning=score.warning),
            _row(
                "nearest_distance", score.class_id, score.median_distance, n, m,
                warning="" if m else "no synthetic clips",
            ),
            _row(
                "real_nearest_distance", score.class_id, score.median_real_distance, n, m,
                warning="" if score.median_real_distance >= 0 else "no training clip of another recording",
            ),
        ]  # fmt: skip
        if score.judged:
            of_class[0]["low"], of_class[0]["high"] = ends[score.class_id]
        rows += of_class
    return rows


def _diversity(test: VectorSet, made: VectorSet, o: QualityOptions) -> list[dict[str, Any]]:
    rows = []
    wanted: tuple[tuple[VectorSet, bool, str, Callable[[Any], float]], ...] = (
        (made, False, "diversity", lambda score: score.cosine_distance),
        (test, True, "real_diversity", lambda score: score.cosine_distance),
        (made, False, "vendi", lambda score: score.vendi),
    )
    for part, is_real, name, value_of in wanted:
        found = diversity_scores(part.vectors, part.class_ids)
        classes = [score for score in found if score.class_id is not None and score.n > 1]
        mean, low, high = _over_classes(
            np.array([value_of(score) for score in classes]),
            np.array([score.class_id for score in classes]),
            o,
        )
        for score in found:
            n_real, n_made = (score.n, None) if is_real else (None, score.n)
            if score.class_id is None:
                few = "" if classes else "no class has two clips"
                rows.append(_row(name, None, mean, n_real, n_made, low=low, high=high, warning=few))
            else:
                few = "" if score.n > 1 else "a single clip"
                rows.append(_row(name, score.class_id, value_of(score), n_real, n_made, warning=few))
    return rows


# Means over clips


def _mean_rows(
    name: str,
    values: np.ndarray,
    class_ids: np.ndarray,
    recordings: np.ndarray,
    o: QualityOptions,
    *,
    real: bool = False,
) -> list[dict[str, Any]]:
    """Values [seeds, N] -> their mean over all clips and over those of each class, with intervals."""
    rows = []
    for class_id, (own,) in row_groups(class_ids):
        value, low, high = mean_and_interval(
            values[:, own], recordings[own], o.draws, o.seed, "clips", class_id
        )
        n_real, n_made = (len(own), None) if real else (None, len(own))
        rows.append(_row(name, class_id, value, n_real, n_made, low=low, high=high))
    return rows


def mean_and_interval(
    values: np.ndarray, recordings: np.ndarray, draws: int, seed: int, *names: object
) -> tuple[float, float, float]:
    """Mean of values [seeds, N] and its 95 % interval over recordings [N] and seeds, both drawn with replacement.

    The pigeonhole bootstrap (Owen 2007): the weight of a value is that of its recording times that of its seed. A
    single recording says nothing of how much recordings vary: there is no interval, NaN.
    """
    if len(np.unique(recordings)) < 2:
        return float(values.mean()), float("nan"), float("nan")
    resamples = resample_recordings(recordings, draws, seed, *names)
    of_seeds = resamples.sums(values.T) / resamples.sums(np.ones(values.shape[1]))[:, None]
    count = len(values)
    random = np.random.default_rng(derive(seed, "bootstrap of seeds"))
    weights = random.multinomial(count, np.full(count, 1 / count), size=draws) / count
    return float(values.mean()), *interval((of_seeds * weights).sum(axis=1))


def _recognition(
    recognised: Path,
    kind: str,
    class_of: Mapping[str, int],
    recording_of: Mapping[str, str],
    classes: int,
    o: QualityOptions,
) -> list[dict[str, Any]]:
    """Accuracy of the probe; at 5 where there are more than five classes."""
    table = tables.read(recognised, RECOGNISED)
    table = table.filter(pc.equal(table["kind"], kind)).sort_by(
        [("seed", "ascending"), ("clip_id", "ascending")]
    )
    seeds = pc.unique(table["seed"]).to_pylist()
    ids = sorted(class_of)
    if table["clip_id"].to_pylist() != ids * len(seeds) or not seeds:
        raise ValueError(
            f"{recognised}: does not answer for the {len(ids)} clips of kind {kind}, each with every seed; "
            "recognise them again"
        )
    ranks = table["rank"].to_numpy().reshape(len(seeds), len(ids))
    found = [(RECOGNITION if k == 1 else f"{RECOGNITION}_at_{k}", ranks <= k) for k in RECOGNITION_RANKS]
    return _of_clips(found, ids, class_of, recording_of, classes, o, real=kind != SYNTHETIC)


def _prompts(
    prompted: Path,
    class_of: Mapping[str, int],
    recording_of: Mapping[str, str],
    classes: int,
    o: QualityOptions,
    *,
    real: bool,
) -> list[dict[str, Any]]:
    """Accuracy of the prompts at several ranks, as far as there are more classes, and mean average precision."""
    table = tables.read(prompted, PROMPTED).sort_by("clip_id")
    ids = sorted(class_of)
    if table["clip_id"].to_pylist() != ids:
        raise ValueError(
            f"{prompted}: is not of the {len(ids)} clips of this split; hold them against prompts again"
        )
    ranks, precision = table["rank"].to_numpy()[None], table["average_precision"].to_numpy()[None]
    found = [(f"clap_accuracy_at_{k}", ranks <= k) for k in PROMPT_RANKS]
    rows = _of_clips(found, ids, class_of, recording_of, classes, o, real=real)
    return rows + _of_clips([("map_at_10", precision)], ids, class_of, recording_of, classes, o, real=real)


def _of_clips(
    found: Sequence[tuple[str, np.ndarray]],
    ids: Sequence[str],
    class_of: Mapping[str, int],
    recording_of: Mapping[str, str],
    classes: int,
    o: QualityOptions,
    *,
    real: bool,
) -> list[dict[str, Any]]:
    truth = np.array([class_of[i] for i in ids])
    recordings = np.array([recording_of.get(i, i) for i in ids], dtype=object)
    rows = []
    for name, values in found:
        at = name.rpartition("_at_")[2]
        # Among five classes every answer is among the first five.
        if "accuracy_at_" in name and int(at) >= classes:
            continue
        rows += _mean_rows(name, values.astype(float), truth, recordings, o, real=real)
    return rows
