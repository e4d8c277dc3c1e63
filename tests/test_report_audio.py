"""The report on generated audio: the verdict on augmenting, the quality of clips, and the gallery to hear them."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile as sf

from foley import tables
from foley.report import page
from foley.report.audio_gallery import GeneratedSource, in_pairs, pick_synthetic
from foley.report.audio_quality import CLOSE, MEASURES, NEW, OF_CLASS, audio_quality
from foley.report.class_gains import class_panels
from foley.report.comparison_figures import shares_svg
from foley.report.data_summary import DatasetTables
from foley.report.leaderboard import boards, read_published
from foley.report.scores import ScoreBook
from foley.report.sections import Section
from foley.report.study_words import ARMS
from foley.report.values import ValueTable
from foley.report.verdict import verdicts
from foley.report.who_wins import who_wins
from foley.tables.audio_studies import AUDIO_PARTITION, AUDIO_QUALITY, PROBE_EMBEDDINGS, SYNTHETIC_CLIPS
from foley.tables.classes import CLASSES
from foley.tables.clips import AUDIO, CLIPS, REJECTED
from foley.tables.features import EMBEDDINGS
from foley.tables.report import GALLERY
from foley.tables.scores import PREDICTIONS, SCORES

PUBLISHED = Path(__file__).resolve().parents[1] / "resources" / "published"
RATE = 16_000
LABELS = ["alarm", "bell", "crow", "door knock", "engine", "footsteps"]
FOLDS = ("fold1", "fold2", "fold3")
CLASSIFIERS = ("log_mel_cnn", "small_cnn")
GENERATORS = ("mel_l1", "mel_l2", "mel_l2_no_attention")
# Arm -> gain on leak-free folds and on the random split, with half the interval.
GAINS = {
    "duplicates": (0.002, 0.001, 0.02),
    "classic": (0.041, 0.02, 0.015),
    "interpolated": (0.031, 0.05, 0.012),
    "sampled": (-0.006, 0.04, 0.02),
}

Rows = list[dict[str, Any]]


def row(study: str, split: str, method: str, variant: str, metric: str, value: float, **more: Any) -> Any:
    given = {"study": study, "dataset": "soundbox", "split": split, "method": method, "n": 120}
    return given | {"variant": variant, "metric": metric, "value": value} | more


def between(value: float, half: float) -> dict[str, float]:
    return {"low": value - half, "high": value + half}


def interpolation_rows(
    dataset: str = "soundbox",
    folds: Sequence[str] = FOLDS,
    classifiers: Sequence[str] = CLASSIFIERS,
    leaky: bool = True,
) -> Rows:
    """What `compare_arms` writes, with invented values."""
    numbers = np.random.default_rng(1)
    rows: Rows = []

    def add(*fields: Any, **more: Any) -> None:
        rows.append(row("interpolation", *fields, **more) | {"dataset": dataset})

    splits = [*folds, *(["mean"] if len(folds) > 1 else []), *(["random"] if leaky else [])]
    for split in splits:
        add(split, "chance", "", "accuracy", 1 / len(LABELS))
        add(split, "majority", "", "accuracy", 1 / len(LABELS))
        for number, classifier in enumerate(classifiers):
            level = (0.9 if split == "random" else 0.6) - 0.08 * number
            accuracy = {
                arm: level + GAINS.get(arm, (0.0, 0.0))[split == "random"] for arm in ("real", *GAINS)
            }
            for arm, value in accuracy.items():
                for metric in ("accuracy", "accuracy_macro", "f1_macro"):
                    add(split, arm, classifier, metric, value, **between(value, 0.03))
                    add(split, arm, classifier, f"{metric}_seed_std", 0.011)
                add(split, arm, classifier, "accuracy", value, seed=0)
                for class_id in range(len(LABELS)):
                    for metric in ("recall", "precision"):
                        add(split, arm, classifier, metric, numbers.random(), class_id=class_id, n=20)
                for other, its in accuracy.items():
                    if other != arm:
                        gap = value - its
                        add(split, arm, classifier, f"difference_to_{other}", gap, **between(gap, 0.02))
                        add(
                            split,
                            arm,
                            classifier,
                            f"p_difference_to_{other}",
                            0.2 if abs(gap) < 0.02 else 0.01,
                        )
                if arm == "real":
                    continue
                gain, half = value - accuracy["real"], GAINS[arm][2]
                add(split, arm, classifier, "gain_over_real", gain, **between(gain, half))
                for class_id in range(len(LABELS)):
                    gain = 0.1 * numbers.normal()
                    more = between(gain, 0.08) | {"class_id": class_id}
                    add(split, arm, classifier, "gain_over_real", gain, **more)
    return rows


def diffusion_rows(dataset: str = "soundbox", generators: Sequence[str] = GENERATORS) -> Rows:
    """What `compare_generators` writes, with invented values."""
    rows: Rows = []
    variants = {"clap": [m for m in OF_CLASS if m.startswith(("clap", "map"))]}
    variants |= {"probe:log_mel_cnn": ["recognition_accuracy", "recognition_accuracy_at_5", *CLOSE, *NEW]}
    variants |= {"vggish": [*CLOSE, *NEW]}
    for split in (*FOLDS, "random", "mean"):
        for number, generator in enumerate((*generators, "real")):
            for variant, metrics in variants.items():
                for metric in metrics:
                    quality = 1.0 if generator == "real" else 0.5 + 0.1 * number
                    measure = MEASURES[metric]
                    value = 0.9 * quality if measure.better > 0 else 12.34 * (1.3 - quality)
                    value = 0.03 * number if metric == "memorised" else value
                    more = between(value, 0.08 * abs(value))
                    rows.append(row("diffusion", split, generator, variant, metric, value, **more))
                    rows[-1]["dataset"] = dataset
        for one, other in permutations(generators, 2):
            for variant, metric, unit in (
                ("probe:log_mel_cnn", "recognition_accuracy", 0.1),
                ("vggish", "frechet_audio_distance_shrunk", -1.2),
            ):
                gap = unit * (generators.index(one) - generators.index(other))
                name = f"{metric}_difference_to_{other}"
                half = 0.15 * abs(unit) + (2 * abs(gap) if "mel_l1" in (one, other) else 0)
                pair = row("diffusion", split, one, variant, name, gap, **between(gap, half))
                p = row("diffusion", split, one, variant, f"p_{name}", 0.01)
                rows += [pair | {"dataset": dataset}, p | {"dataset": dataset}]
    return rows


def quality_rows(dataset: str = "soundbox", generators: Sequence[str] = GENERATORS) -> Rows:
    """What `measure_clips` writes of two splits: recognition and Fréchet distance of each class."""
    rows: Rows = []
    for split in ("fold1", "fold2", "random"):
        for number, generator in enumerate((*generators, "real")):
            for class_id in (None, *range(len(LABELS))):
                given = {"dataset": dataset, "split": split, "generator": generator, "class_id": class_id}
                given |= {"n_real": 40, "n_synthetic": 40}
                share = 0.2 * number + (0 if class_id is None else 0.05 * class_id) + 0.1 * (split == "fold2")
                rows.append(
                    given
                    | {"embedding": "probe:log_mel_cnn", "metric": "recognition_accuracy", "value": share}
                )
                n = 120 + (class_id or 0)
                rows.append(
                    given
                    | {
                        "embedding": "vggish",
                        "metric": "frechet_audio_distance",
                        "value": 10.0 + number + (class_id or 0),
                        "dimension": 128,
                        "warning": f"{n} synthetic vectors in 128 dimensions: the sample covariance is singular",
                    }
                )
    return rows


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., ScoreBook]:
    def read(rows: Rows, methods: Sequence[str] = ()) -> ScoreBook:
        tables.write(tmp_path / "scores.parquet", SCORES, rows)
        return ScoreBook(tmp_path / "scores.parquet", [*methods, *ARMS])

    return read


def cells(table: ValueTable) -> list[list[str]]:
    return [[*r.head, *(f"{c.text} {c.interval}".strip() for c in r.cells)] for r in table.rows]


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html)).replace("\xa0", " ").replace("&nbsp;", " ")


# ---- a dataset with generated clips ----


def flac(hertz: float, seconds: float = 0.3, rate: int = RATE) -> bytes:
    time = np.arange(round(seconds * rate)) / rate
    buffer = io.BytesIO()
    sf.write(buffer, 0.5 * np.sin(2 * np.pi * hertz * time), rate, format="FLAC")
    return buffer.getvalue()


def real_clips(per_class: int = 4) -> list[dict[str, Any]]:
    """Clips of which every two share a recording; the last of each class tests."""
    return [
        {
            "dataset": "soundbox", "clip_id": f"r{class_id}-{n}", "class_id": class_id, "label": label,
            "recording_id": f"r{class_id}/{n // 2}", "duration_s": 0.3, "sample_rate_hz": RATE,
            "sha256": f"{class_id}{n}", "shard": n % 2, "role": "test" if n == per_class - 1 else "train",
        }
        for class_id, label in enumerate(LABELS)
        for n in range(per_class)
    ]  # fmt: skip


def made_clip(generator: str, method: str, class_id: int, number: int, **more: Any) -> dict[str, Any]:
    clip_id = f"{generator}:{method}:{LABELS[class_id]}:{number:05d}"
    given = {
        "clip_id": clip_id, "class_id": class_id, "label": LABELS[class_id], "generator": generator,
        "model_id": "mel_diffusion", "method": method, "sources": [], "sampler": "ddim", "steps": 50,
        "guidance": 2.0, "seed": 100 + number, "duration_s": 0.3, "sample_rate_hz": 22_050,
        "audio": {"bytes": flac(300 + 50 * number, rate=22_050), "path": "x.flac"},
    }  # fmt: skip
    return given | more


def direction(class_id: int, angle: float) -> np.ndarray:
    """A unit vector of a plane of the class's own: distances within a class are 1 - cos of the angle between."""
    vector = np.zeros(2 * len(LABELS), dtype=np.float32)
    vector[2 * class_id : 2 * class_id + 2] = np.cos(angle), np.sin(angle)
    return vector


def write_generated(folder: Path, generators: Sequence[str] = GENERATORS[:2]) -> list[GeneratedSource]:
    """Real clips lie at angles 0, 0.1, 0.5 and 0.6 of their class's plane, sampled ones at 0.45 + n / 50, interpolated
    ones at 0.02.
    """
    clips = real_clips()
    tables.write(folder / "clips.parquet", CLIPS, [{k: c[k] for k in c if k in CLIPS.columns} for c in clips])
    kept = [{k: c[k] for k in c if k in AUDIO_PARTITION.columns} for c in clips]
    tables.write(folder / "partition.parquet", AUDIO_PARTITION, kept)
    for shard in (0, 1):
        mine = [
            {k: c[k] for k in c if k in AUDIO.columns}
            | {"audio": {"bytes": flac(200 + 100 * c["class_id"]), "path": "x"}}
            for c in clips
            if c["shard"] == shard
        ]
        tables.write(folder / f"audio{shard}.parquet", AUDIO, mine)
    angles = dict(enumerate((0.0, 0.1, 0.5, 0.6)))
    sources = []
    for generator in generators:
        sampled = [made_clip(generator, "sampled", c, n) for c in range(len(LABELS)) for n in range(3)]
        between_two = [
            made_clip(generator, "interpolated", c, 0, sources=[f"r{c}-0", f"r{c}-2"], round_trip_db=1.25)
            for c in range(len(LABELS))
        ]
        tables.write(folder / f"{generator}-sampled.parquet", SYNTHETIC_CLIPS, sampled)
        tables.write(folder / f"{generator}-interpolated.parquet", SYNTHETIC_CLIPS, between_two)
        vectors = [
            {"clip_id": c["clip_id"], "kind": c["role"], "class_id": c["class_id"],
             "vector": 3 * direction(c["class_id"], angles[int(c["clip_id"][-1])])}
            for c in clips
        ] + [
            {"clip_id": c["clip_id"], "kind": "synthetic", "class_id": c["class_id"],
             "vector": direction(c["class_id"], 0.02 if c["sources"] else 0.45 + (c["seed"] - 100) / 50)}
            for c in sampled + between_two
        ]  # fmt: skip
        tables.write(folder / f"{generator}-embeddings.parquet", PROBE_EMBEDDINGS, vectors)
        made = [folder / f"{generator}-sampled.parquet", folder / f"{generator}-interpolated.parquet"]
        sources.append(GeneratedSource(generator, made, [folder / f"{generator}-embeddings.parquet"]))
    return sources


def pick(folder: Path, sources: Sequence[GeneratedSource], **changes: Any) -> list[dict[str, Any]]:
    given: dict[str, Any] = {
        "sources": sources, "audio": [folder / "audio0.parquet", folder / "audio1.parquet"],
        "clips": folder / "clips.parquet", "partition": folder / "partition.parquet", "per_class": 2,
        "max_duration_s": 0.2, "seed": 3,
    }  # fmt: skip
    pick_synthetic(folder / "gallery.parquet", **(given | changes))
    return tables.read(folder / "gallery.parquet", GALLERY).to_pylist()


def write_dataset(folder: Path) -> DatasetTables:
    pick(folder, write_generated(folder))
    tables.write(
        folder / "classes.parquet", CLASSES, [{"class_id": n, "label": x} for n, x in enumerate(LABELS)]
    )
    tables.write(folder / "rejected.parquet", REJECTED, [])
    names = ("clips", "rejected", "classes", "gallery")
    clips, rejected, classes, gallery = (folder / f"{name}.parquet" for name in names)
    return DatasetTables("soundbox", clips, rejected, classes, synthetic_galleries=[gallery])


# ---- augmenting: the verdict ----


def test_verdict_takes_leak_free_folds_and_shows_the_random_split_beside(
    book: Callable[..., ScoreBook],
) -> None:
    (verdict,) = verdicts(book(interpolation_rows(classifiers=["small_cnn"])))
    assert [(f.system.method, f.split, f.outcome) for f in verdict.findings] == [
        ("interpolated", "mean", "helps"),
        ("sampled", "mean", "unclear"),
    ]
    assert [f.gain.value for f in verdict.findings] == pytest.approx([0.031, -0.006])
    assert [[beside.split for beside in f.leaky] for f in verdict.findings] == [["random"], ["random"]]
    assert [beside.gain.value for f in verdict.findings for beside in f.leaky] == pytest.approx([0.05, 0.04])
    # Copies and classic augmentation are no generated clips: the first sentence does not count them.
    assert [f.system.method for f in verdict.controls] == ["duplicates", "classic"]
    assert verdict.summary == "helps in 1 of 2 comparisons and has no clear effect in 1"
    assert not verdict.leaky


def test_a_lone_fold_is_not_mixed_with_the_random_split(book: Callable[..., ScoreBook]) -> None:
    scores = book(interpolation_rows(folds=["fold1"], classifiers=["small_cnn"]))
    (verdict,) = verdicts(scores)
    assert [(f.split, len(f.leaky)) for f in verdict.findings] == [("fold1", 1), ("fold1", 1)]
    assert scores.split_count("interpolation", "soundbox") == 1
    assert scores.splits_shown("interpolation", "soundbox", ["accuracy"]) == ["fold1"]


def test_a_random_split_alone_is_said_to_leak(book: Callable[..., ScoreBook], tmp_path: Path) -> None:
    rows = interpolation_rows(folds=[], classifiers=["small_cnn"])
    (verdict,) = verdicts(book(rows))
    assert verdict.leaky and [f.split for f in verdict.findings] == ["random", "random"]
    assert all(f.leaky == () for f in verdict.findings)
    html = plain(write(tmp_path, rows))
    assert "Measured only on a split that puts clips of one recording into training and test" in html


def write(folder: Path, rows: Rows, quality: Rows | None = None, **more: Any) -> str:
    tables.write(folder / "scores.parquet", SCORES, rows)
    if quality is not None:
        tables.write(folder / "quality.parquet", AUDIO_QUALITY, quality)
        more["quality"] = [folder / "quality.parquet"]
    given: dict[str, Any] = {"datasets": [], "config_summary": {}, "methods": GENERATORS}
    page.write_report(folder / "index.html", scores=folder / "scores.parquet", **(given | more))
    return (folder / "index.html").read_text(encoding="utf-8")


def test_page_answers_whether_generated_clips_help(tmp_path: Path) -> None:
    text = plain(write(tmp_path, interpolation_rows(classifiers=["small_cnn"])))
    assert "Augmenting with generated clips helps in 1 of 2 comparisons and has no clear effect in 1." in text
    assert (
        "interpolated changes accuracy by +3.1 points (95 % interval +1.9 to +4.3), from 60.0 % with real to 63.1 %. "
        "A random split, whose recordings leak, would have said +5.0 (+3.8 to +6.2), from 90.0 % to 95.0 %."
    ) in text
    assert (
        "For comparison, without any generator: duplicates +0.2 points (−1.8 to +2.2); "
        "classic +4.1 points (+2.6 to +5.6)."
    ) in text
    assert "unseen" not in text  # those are words of another study
    assert text.index("duplicates +0.2") < text.index("Every method against every other")


def test_leaderboard_has_real_as_a_method_and_says_which_split_leaks(book: Callable[..., ScoreBook]) -> None:
    ((board,), _) = boards(book(interpolation_rows(classifiers=["small_cnn"])), [])
    table = board.tables[0]
    assert table.title == "Accuracy on real test clips, in %"
    assert [(r.head[0], r.reference) for r in table.rows] == [
        *((arm, False) for arm in ARMS), ("chance", True), ("majority", True),
    ]  # fmt: skip
    assert table.columns == (
        ("mean", ""), *((fold, "120 clips") for fold in FOLDS), ("random", "leaky, 120 clips"),
    )  # fmt: skip


def test_pairs_of_arms_and_gains_per_class_are_of_the_mean(
    book: Callable[..., ScoreBook], tmp_path: Path
) -> None:
    rows = interpolation_rows(classifiers=["small_cnn"])
    section = who_wins(book(rows))
    assert section is not None
    assert [name for name, _ in section.panels[0].sentences] == ["small_cnn"]
    assert section.panels[0].sentences[0][1].startswith("classic beats ")
    html = write(tmp_path, rows)
    classes = html[html.index('id="classes"') : html.index('id="confusion"')]
    assert "soundbox, mean of 3 splits" in classes and "fold1" not in classes


def test_confusions_of_both_studies_are_counted(tmp_path: Path) -> None:
    from foley.report.confusion import read_confusions

    given = {"dataset": "soundbox", "split": "fold1", "method": "real", "variant": "small_cnn", "seed": 0}
    rows = [
        given | {"setting": setting, "role": role, "clip_id": f"{n}", "class_id": n, "predicted_class_id": 0}
        for setting, role in (("closed", "test"), ("closed", "validation"), ("generalised", "unseen"))
        for n in range(2)
    ]
    for number, part in enumerate((rows[:2], rows[2:])):
        tables.write(tmp_path / f"{number}.parquet", PREDICTIONS, part)
    (found,) = read_confusions([tmp_path / "0.parquet", tmp_path / "1.parquet"])
    assert found.setting == "closed" and found.counts.tolist() == [[1, 0], [1, 0]]
    text = plain(
        write(tmp_path, interpolation_rows(), predictions=[tmp_path / "0.parquet", tmp_path / "1.parquet"])
    )
    assert (
        "What each class was taken for. Off the diagonal" in text
        and "WHERE setting = 'closed'" in text.replace("&#39;", "'")
    )


def test_two_studies_of_one_dataset_are_told_apart(tmp_path: Path) -> None:
    zero = {"study": "zero_shot", "dataset": "soundbox", "split": "test", "variant": "v", "n": 9}
    rows = [zero | {"method": m, "metric": "accuracy", "value": 0.3} for m in ("ale", "ddpm")]
    html = write(tmp_path, interpolation_rows() + rows)
    assert 'data-title="soundbox · interpolation"' in html and 'data-title="soundbox · zero_shot"' in html
    assert "Conventional setting: unseen classes only" in html and "Accuracy on real test clips, in %" in html


# ---- quality of generated clips ----


def quality_section(book: ScoreBook, folder: Path, rows: Rows | None = None, **more: Any) -> Section:
    tables.write(folder / "q.parquet", AUDIO_QUALITY, quality_rows() if rows is None else rows)
    labels = {"soundbox": dict(enumerate(LABELS))}
    section = audio_quality(book, [folder / "q.parquet"], labels=labels, **more)
    assert section is not None
    return section


def found(tables_: Sequence[ValueTable], title: str) -> ValueTable:
    (one,) = [table for table in tables_ if table.title.startswith(title)]
    return one


def test_lower_is_better_for_distances(book: Callable[..., ScoreBook]) -> None:
    values = {"a": (0.5, 30.0, 0.02), "b": (0.7, 40.0, 0.08), "real": (0.9, 5.0, 0.05)}
    rows = []
    for method, (recognised, distance, copies) in values.items():
        rows.append(row("diffusion", "fold1", method, "probe:cnn", "recognition_accuracy", recognised))
        rows.append(row("diffusion", "fold1", method, "vggish", "frechet_audio_distance_infinity", distance))
        rows.append(row("diffusion", "fold1", method, "vggish", "nearest_distance", distance))
        rows.append(row("diffusion", "fold1", method, "vggish", "memorised", copies))
    section = audio_quality(book(rows, ["a", "b"]))
    assert section is not None
    (panel,) = section.panels
    judged, close, new = panel.tables
    assert judged.columns == (("recognised, %", "↑ higher is better"),)
    assert close.columns == (("FAD∞", "↓ lower is better"),)
    assert [[r.head[0], r.cells[0].text, r.cells[0].mark] for r in judged.rows] == [
        ["a", "50.0", ""], ["b", "70.0", "best"], ["real", "90.0", ""],
    ]  # fmt: skip
    assert [[r.head[0], r.cells[0].text, r.cells[0].mark] for r in close.rows] == [
        ["a", "30.0", "best"], ["b", "40.0", ""], ["real", "5.0", ""],
    ]  # fmt: skip
    # Neither far nor near is better: real clips say what is usual.
    assert dict(new.columns)["to training clips"] == "compare with real"
    assert [[c.mark for c in r.cells] for r in new.rows] == [["best", ""], ["", ""], ["", ""]]
    assert panel.sentences == (
        ("cnn", "clips of b are recognised most often, 70.0 % (real test clips 90.0 %)."),
        (
            "vggish",
            "a comes closest to real clips, FAD∞ 30 (real clips 5). At most 8.0 % of clips (b) are flagged as copies "
            "of training clips; of real test clips 5.0 %.",
        ),
    )


def test_a_lead_is_noise_by_the_pairs_or_else_by_the_intervals(book: Callable[..., ScoreBook]) -> None:
    def add(rows: Rows, method: str, metric: str, value: float, **more: Any) -> None:
        rows.append(row("diffusion", "fold1", method, "v", metric, value, **more))

    rows: Rows = []
    for method, value in (("a", 10.0), ("b", 11.0), ("c", 12.0), ("d", 20.0)):
        add(rows, method, "frechet_audio_distance_shrunk", value, **between(value, 1.2))
    # Of the pairs, that with b is noise and that with c goes the other way: c is nearer in the mean of the classes.
    pair = "frechet_audio_distance_shrunk_difference_to_"
    add(rows, "a", f"{pair}b", -1.0, **between(-1.0, 2.0))
    add(rows, "a", f"{pair}c", 2.0, **between(2.0, 0.5))
    add(rows, "a", f"p_{pair}c", 0.01)
    section = audio_quality(book(rows))
    assert section is not None
    (panel,) = section.panels
    assert panel.sentences == (
        (
            "v",
            "a comes closest to real clips, FAD, shrunk 10 [8.8, 11.2]; class by class its lead over b is noise, and "
            "class by class c is better in the mean.",
        ),
    )
    assert cells(panel.details[0]) == [
        ["a", "b", "FAD, shrunk", "noise", "−1 [−3, 1]", "–"],
        ["c", "a", "FAD, shrunk", "better", "−2 [−2.5, −1.5]", "0.010"],
    ]
    without = audio_quality(book([r for r in rows if "difference" not in r["metric"]]))
    assert without is not None
    assert without.panels[0].sentences[0][1].endswith("; its interval overlaps that of b and c.")


def test_equal_generators_have_no_best_and_no_copies_are_said_plainly(book: Callable[..., ScoreBook]) -> None:
    rows = [
        row("diffusion", "fold1", method, "v", metric, value)
        for method in ("a", "b")
        for metric, value in (("memorised", 0.0), ("coverage", 0.5))
    ]
    section = audio_quality(book(rows))
    assert section is not None
    (table,) = section.panels[0].tables
    assert [cell.mark for r in table.rows for cell in r.cells] == [""] * 4
    assert section.panels[0].sentences == (("v", "No clip is flagged as a copy of a training clip."),)


def test_warnings_are_counted_with_their_reason(book: Callable[..., ScoreBook], tmp_path: Path) -> None:
    section = quality_section(book(diffusion_rows()), tmp_path)
    table = found(section.panels[0].details, "Warnings")
    reason = "… synthetic vectors in … dimensions: the sample covariance is singular"
    # Four generators (real is one), seven rows each, in the two folds; what leaks is not counted.
    assert cells(table) == [["FAD, sample", "vggish", reason, "56", "56"]]


def test_a_part_of_copies_that_is_not_of_all_classes_is_no_best(
    book: Callable[..., ScoreBook], tmp_path: Path
) -> None:
    rows = [
        row("diffusion", split, method, "v", "memorised", value)
        for method, value in (("a", 0.0), ("b", 0.2))
        for split in ("fold1", "fold2", "mean")
    ]
    more = [
        {
            "dataset": "soundbox", "split": "fold2", "generator": method, "embedding": "v", "metric": "memorised",
            "value": 0.1, "n_synthetic": 10, "warning": "1 of 3 classes have too few real clips",
        }
        for method in "ab"
    ]  # fmt: skip
    tables.write(tmp_path / "q.parquet", AUDIO_QUALITY, more)
    for quality, hint, marks in (
        ([], "↓ lower is better", ["best", ""]),
        ([tmp_path / "q.parquet"], "↓ lower is better; not of all classes", ["", ""]),
    ):
        section = audio_quality(book(rows), quality)
        assert section is not None
        (table,) = section.panels[0].tables
        assert table.columns == (("copies, %", hint),)
        assert [r.cells[0].mark for r in table.rows] == marks
        told = "in the classes with enough real clips to tell" in section.panels[0].sentences[0][1]
        assert told == bool(quality)


def test_a_shrunk_distance_of_few_vectors_is_shown_with_its_note(
    book: Callable[..., ScoreBook], tmp_path: Path
) -> None:
    name = "frechet_audio_distance_shrunk"
    rows = [
        row("diffusion", "fold1", method, variant, name, value)
        for method, value in (("a", 3.0), ("b", 4.0), ("real", 2.5))
        for variant in ("few", "many")
    ]
    more = [
        {
            "dataset": "soundbox", "split": "fold1", "generator": r["method"], "embedding": r["variant"],
            "metric": name, "value": r["value"], "n_real": 8, "n_synthetic": 8,
            "warning": "8 real and 8 synthetic vectors in 40 dimensions" if r["variant"] == "few" else None,
        }
        for r in rows
    ]  # fmt: skip
    tables.write(tmp_path / "q.parquet", AUDIO_QUALITY, more)
    section = audio_quality(book(rows), [tmp_path / "q.parquet"])
    assert section is not None
    few, many = section.panels[0].tables
    assert few.columns[0][1] == "↓ lower is better; not 0 for equal sets: read it against real"
    assert many.columns[0][1] == "↓ lower is better"
    assert [r.cells[0].text for r in few.rows] == ["3.00", "4.00", "2.50"]


def test_generators_of_other_numbers_have_no_best_where_the_number_matters(
    book: Callable[..., ScoreBook], tmp_path: Path
) -> None:
    values = {
        "frechet_audio_distance_shrunk": (3.0, 4.0),
        "kernel_audio_distance": (6.0, 5.0),
        "vendi": (9.0, 8.0),
    }
    given = [
        (metric, method, value)
        for metric, both in values.items()
        for method, value in zip("ab", both, strict=True)
    ]
    rows = [row("diffusion", "fold1", method, "v", metric, value) for metric, method, value in given]
    for a_number in (40, 24):
        quality = [
            {
                "dataset": "soundbox", "split": "fold1", "generator": method, "embedding": "v", "metric": metric,
                "value": value, "n_real": 40, "n_synthetic": 40 if method == "b" else a_number,
            }
            for metric, method, value in given
        ]  # fmt: skip
        tables.write(tmp_path / "q.parquet", AUDIO_QUALITY, quality)
        section = audio_quality(book(rows), [tmp_path / "q.parquet"])
        assert section is not None
        (panel,) = section.panels
        marks = {
            name: [r.cells[number].mark for r in table.rows]
            for table in panel.tables
            for number, (name, _) in enumerate(table.columns)
        }
        hints = {name: hint for table in panel.tables for name, hint in table.columns}
        equal = a_number == 40
        assert marks == {
            "FAD, shrunk": ["best", ""] if equal else ["", ""],
            "KAD": ["", "best"],
            "Vendi": ["best", ""] if equal else ["", ""],
        }
        for name, hint in hints.items():
            assert ("number of clips, which differs" in hint) == (not equal and name != "KAD")
        assert ("a comes closest" if equal else "b comes closest") in panel.sentences[0][1]
        if equal:
            assert not panel.details
        else:
            assert cells(panel.details[0]) == [
                ["a", "b", "FAD, shrunk", "not compared: 24 and 40 vectors", "–", "–"]
            ]


def test_a_gain_without_an_interval_is_greyed_as_noise_is(book: Callable[..., ScoreBook]) -> None:
    rows = []
    for class_id, more in enumerate(({}, between(0.2, 0.1), between(0.2, 0.3))):
        for method, value in (("real", 0.5), ("sampled", 0.7)):
            rows.append(row("interpolation", "fold1", method, "cnn", "recall", value, class_id=class_id))
        gain = row(
            "interpolation", "fold1", "sampled", "cnn", "gain_over_real", 0.2, class_id=class_id, **more
        )
        rows.append(gain)
    rows += [
        row("interpolation", "fold1", method, "cnn", metric, 0.5)
        for method, metric in (("real", "accuracy"), ("sampled", "accuracy"), ("sampled", "gain_over_real"))
    ]
    (panel,), _ = class_panels(book(rows), {})
    assert [[cell.mark for cell in r.cells if cell.signed] for r in panel["table"].rows] == [
        ["noise"], [""], ["noise"],
    ]  # fmt: skip


def test_recognition_per_class_is_the_mean_over_folds(book: Callable[..., ScoreBook], tmp_path: Path) -> None:
    section = quality_section(book(diffusion_rows(), GENERATORS), tmp_path)
    table = found(section.panels[0].details, "Recognised clips of each class")
    assert [name for name, _ in table.columns] == [*GENERATORS, "real"]
    # 0.2 per generator and 0.05 per class, and half of fold2's 0.1.
    assert cells(table)[2] == ["crow", "15.0", "35.0", "55.0", "75.0"]
    figures = [str(figure) for figure in section.panels[0].figures]
    (matrix,) = [figure for figure in figures if "in % of each class" in figure]
    tips = re.findall(r"<title>([^<]+ %)</title>", matrix)
    assert "crow, mel_l2: 35.0 %" in tips and len(tips) == 4 * len(LABELS)
    assert any("chance 16.7 %" in figure for figure in figures)


def test_recognition_per_class_can_come_from_the_scores(book: Callable[..., ScoreBook]) -> None:
    rows = [
        row("diffusion", "fold1", "a", "probe:cnn", "recognition_accuracy", 0.1 * (c or 0), class_id=c)
        for c in (None, 1, 2)
    ]
    section = audio_quality(book(rows))
    assert section is not None
    assert cells(found(section.panels[0].details, "Recognised")) == [["1", "10.0"], ["2", "20.0"]]


def test_published_figures_stand_beside_ours_in_the_same_space(
    book: Callable[..., ScoreBook], tmp_path: Path
) -> None:
    literature = read_published(sorted(PUBLISHED.glob("*.yaml")))
    rows = diffusion_rows("esc50", ["l1", "mine"])
    quality = [r | {"dataset": "esc50"} for r in quality_rows("esc50", ["l1", "mine"])]
    tables.write(tmp_path / "q.parquet", AUDIO_QUALITY, quality)
    section = audio_quality(book(rows, ["l1", "mine"]), [tmp_path / "q.parquet"], literature)
    assert section is not None
    (panel,) = section.panels
    clap = found(panel.tables, "Of their class, says clap")
    assert [r.head[0] for r in clap.rows][:3] == ["l1", "mine", "real"]
    assert [r.head[0] for r in clap.rows if r.detail == "published only"] == [
        "l2", "l1_no_attention", "l2_no_attention", "l1_not_normalised",
    ]  # fmt: skip
    assert [p.text for cell in clap.rows[0].cells for p in cell.published] == [
        "15.60", "41.05", "56.20", "26.59",
    ]  # fmt: skip
    distance = found(panel.details, "As published")
    first = distance.rows[0]
    # Our classes have 10 + class number each; the published distances are no shares.
    assert first.head == ("l1",) and first.detail == "6 classes with a warning"
    assert [(c.text, c.published[0].text) for c in first.cells] == [("12.500", "15.47"), ("12.500", "25.34")]
    assert panel.sources and all(source for source in panel.sources)


def test_published_figures_without_ours_are_still_shown(book: Callable[..., ScoreBook]) -> None:
    rows = [row("diffusion", "fold1", "a", "probe:cnn", "recognition_accuracy", 0.4) | {"dataset": "esc50"}]
    section = audio_quality(book(rows), literature=read_published([PUBLISHED / "diffusion.yaml"]))
    assert section is not None
    titles = [table.title for table in section.panels[0].details]
    assert [t.split(":")[0] for t in titles] == ["As published", "Published, without a figure of ours (clap)"]
    assert [r.head[0] for r in section.panels[0].details[1].rows] == [
        "l1", "l2", "l1_no_attention", "l2_no_attention", "l1_not_normalised",
    ]  # fmt: skip


def test_published_files_hold_the_known_figures() -> None:
    known = {(p.split, p.method, p.metric): p for p in read_published(sorted(PUBLISHED.glob("*.yaml")))}
    assert known["random", "real", "accuracy"].value == pytest.approx(0.578)
    assert known["random", "interpolated", "accuracy"].value == pytest.approx(0.628)
    assert known["random", "interpolated", "gain_over_real"].text == "5.00"
    distance = known["all", "l2", "frechet_audio_distance_class_mean"]
    assert (distance.value, distance.share, distance.text) == (25.064, False, "25.06")
    assert known["all", "l2", "map_at_10"].value == pytest.approx(0.3412)


def test_a_unit_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "figures:\n- {study: diffusion, dataset: d, split: all, method: m, metric: x, value: 3, source: s, unit: dB}\n"
    )
    with pytest.raises(ValueError, match=r"p.yaml: figures\[0\].*dB"):
        read_published([tmp_path / "p.yaml"])


def test_generators_are_in_no_section_on_accuracy(book: Callable[..., ScoreBook], tmp_path: Path) -> None:
    scores = book(diffusion_rows())
    assert boards(scores, []) == ([], []) and who_wins(scores) is None and verdicts(scores) == []
    html = write(tmp_path, diffusion_rows(), quality_rows())
    assert html.count('<section id="clips"') == 1 and 'href="#clips"' in html
    assert "There are no scores per class." in html
    assert "how good generated clips are is said below." in plain(html)
    assert audio_quality(book(interpolation_rows())) is None


def test_matrix_of_shares_draws_what_is_there() -> None:
    root = ElementTree.fromstring(shares_svg(["a<b", "c"], ["x", "y"], {(0, 0): 0.5, (1, 1): 1.0}, "t"))
    svg = "{http://www.w3.org/2000/svg}"
    tiles = list(root.iter(f"{svg}g"))
    assert [t.findtext(f"{svg}title") for t in tiles] == ["a<b, x: 50.0 %", "c, y: 100.0 %"]
    opacity = [float(t.find(f"{svg}path").get("fill-opacity", "")) for t in tiles]  # type: ignore[union-attr]
    assert opacity == pytest.approx([0.06 + 0.45, 0.96])


# ---- gallery ----


def test_each_generated_clip_has_its_nearest_training_clip(tmp_path: Path) -> None:
    (source,) = write_generated(tmp_path, ["mel_l1"])
    rows = pick(tmp_path, [source])
    made = {r["clip_id"]: r for r in rows if r["kind"] == "synthetic"}
    assert len(made) == len(LABELS) * (2 + 1)  # two of three sampled, the only interpolated one
    alarm = next(r for r in made.values() if r["clip_id"] == "mel_l1:interpolated:alarm:00000")
    # At 0.02, between training clips at 0 and 0.1. Real ones: those of the other recording are 0.5, 0.4 and 0.4 away.
    near, usual = 1 - np.cos(0.02), 1 - np.cos(0.4)
    assert alarm["note"] == (
        "mel_l1, interpolated: between r0-0 and r0-2, ddim, 50 steps, guidance 2, seed 100, round trip of its sources "
        f"1.2 dB off. Nearest training clip: r0-0, distance {near:.3f}, one of the clips it was made from "
        f"(real clips of the class: median {usual:.3f})"
    )
    assert (alarm["class_id"], alarm["label"], alarm["dataset"]) == (0, "alarm", "soundbox")
    # Sampled ones lie next to r?-2 at 0.5; r?-3 at 0.6 is a test clip and never named.
    nearest = {(r["class_id"], r["clip_id"]): r for r in rows if r["kind"] == "nearest"}
    assert sorted(nearest) == [(c, f"r{c}-{n}") for c in range(len(LABELS)) for n in (0, 2)]
    shared = nearest[1, "r1-2"]
    two = sorted(r["clip_id"] for r in made.values() if r["class_id"] == 1 and "sampled" in r["clip_id"])
    assert all(clip_id in shared["note"] for clip_id in two)
    assert shared["note"].endswith("; its class: bell") and shared["label"] == "bell"


def test_gallery_of_generated_clips_plays(tmp_path: Path) -> None:
    (source,) = write_generated(tmp_path, ["mel_l1"])
    for entry in pick(tmp_path, [source]):
        wave, rate = sf.read(io.BytesIO(entry["audio_mp3"]))
        assert rate == (22_050 if entry["kind"] == "synthetic" else RATE)
        assert (
            0.15 < len(wave) / rate < 0.36 and np.abs(wave).max() > 0.2
        )  # cut to 0.2 s, in whole MP3 frames
        assert entry["spectrogram_png"].startswith(b"\x89PNG")


def test_draw_depends_on_seed_generator_and_class_alone(tmp_path: Path) -> None:
    sources = write_generated(tmp_path)
    alone = [r["clip_id"] for r in pick(tmp_path, sources[:1]) if r["kind"] == "synthetic"]
    both = [r["clip_id"] for r in pick(tmp_path, sources) if r["kind"] == "synthetic"]
    assert [clip_id for clip_id in both if clip_id.startswith("mel_l1:")] == alone
    other = [r["clip_id"] for r in pick(tmp_path, sources[:1], seed=4) if r["kind"] == "synthetic"]
    assert len(other) == len(alone) and other != alone


def test_embeddings_with_windows_are_averaged(tmp_path: Path) -> None:
    (source,) = write_generated(tmp_path, ["mel_l1"])
    rows = []
    for entry in tables.read(source.embeddings[0], PROBE_EMBEDDINGS).to_pylist():
        vector = np.array(entry["vector"])
        shift = np.full(len(vector), 7.0) * (-1.0) ** np.arange(len(vector))
        rows += [
            {"clip_id": entry["clip_id"], "window": n, "vector": vector + sign * shift}
            for n, sign in enumerate((1, -1))
        ]
    half = len(rows) // 2 + 1  # the windows of one clip in two tables
    tables.write(tmp_path / "e0.parquet", EMBEDDINGS, rows[:half])
    tables.write(tmp_path / "e1.parquet", EMBEDDINGS, rows[half:])
    windowed = GeneratedSource("mel_l1", source.clips, [tmp_path / "e0.parquet", tmp_path / "e1.parquet"])
    assert [r["note"] for r in pick(tmp_path, [windowed])] == [r["note"] for r in pick(tmp_path, [source])]


def test_gallery_says_what_is_wrong(tmp_path: Path) -> None:
    (source,) = write_generated(tmp_path, ["mel_l1"])
    vectors = tables.read(source.embeddings[0]).to_pylist()

    def with_vectors(rows: list[dict[str, Any]]) -> GeneratedSource:
        tables.write(tmp_path / "v.parquet", PROBE_EMBEDDINGS, rows)
        return GeneratedSource("mel_l1", source.clips, [tmp_path / "v.parquet"])

    with pytest.raises(
        ValueError, match=r"generator mel_l1: 18 clips of the gallery have no vector in .*v\.parquet"
    ):
        pick(tmp_path, [with_vectors([r for r in vectors if r["kind"] != "synthetic"])])
    with pytest.raises(ValueError, match="no training clip has a vector"):
        pick(tmp_path, [with_vectors([r for r in vectors if r["kind"] == "synthetic"])])
    short = [r | {"vector": r["vector"][:3]} for r in vectors if r["kind"] == "synthetic"]
    tables.write(tmp_path / "short.parquet", PROBE_EMBEDDINGS, short)
    mixed = with_vectors([r for r in vectors if r["kind"] != "synthetic"])
    mixed = GeneratedSource("mel_l1", source.clips, [*mixed.embeddings, tmp_path / "short.parquet"])
    with pytest.raises(ValueError, match="vectors of 3 and of 12 numbers"):
        pick(tmp_path, [mixed])
    with pytest.raises(ValueError, match=r"have no audio in .*audio1\.parquet, for example 'r0-0'"):
        pick(tmp_path, [source], audio=[tmp_path / "audio1.parquet"])
    roles = [r | {"role": "test"} for r in tables.read(tmp_path / "partition.parquet").to_pylist()]
    tables.write(tmp_path / "none.parquet", AUDIO_PARTITION, roles)
    with pytest.raises(ValueError, match="has no training clips"):
        pick(tmp_path, [source], partition=tmp_path / "none.parquet")
    named_real = [made_clip("mel_l1", "sampled", 0, 0, clip_id="r0-1")]
    tables.write(tmp_path / "s.parquet", SYNTHETIC_CLIPS, named_real)
    with pytest.raises(ValueError, match="clip id 'r0-1' is also that of another clip"):
        pick(tmp_path, [GeneratedSource("mel_l1", [tmp_path / "s.parquet"], source.embeddings)])


def test_clips_stand_in_pairs() -> None:
    def clip(clip_id: str, kind: str, note: str | None = None) -> dict[str, Any]:
        return {"clip_id": clip_id, "kind": kind, "note": note}

    one, ten = "Nearest training clip: r1, distance 0.1", "Nearest training clip: r1-0, distance 0.2"
    clips = [
        clip("r1", "nearest"), clip("r1-0", "nearest"), clip("other", "nearest", "nearest real clip to what ddpm …"),
        clip("x", "real"), clip("a", "synthetic", ten), clip("b", "synthetic", one), clip("c", "synthetic", one),
        clip("y", "real"),
    ]  # fmt: skip
    assert [c["clip_id"] for c in in_pairs(clips)] == ["x", "y", "a", "r1-0", "b", "r1", "c", "other"]


def test_page_plays_generated_clips_beside_their_nearest(tmp_path: Path) -> None:
    html = write(tmp_path, interpolation_rows(), datasets=[write_dataset(tmp_path)])
    gallery = html[html.index('id="gallery"') : html.index('id="data"')]
    kinds = re.findall(r'<span class="kind (\w+)">', gallery)
    assert kinds.count("synthetic") == len(LABELS) * 2 * 3 and kinds[:4] == ["synthetic", "nearest"] * 2
    assert "compare them by ear" in plain(gallery) and gallery.count("<audio") == len(kinds)
    assert "soundbox: generated clips" in html


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>x</script>"
    quality = [r | {"warning": evil, "generator": evil} for r in quality_rows(generators=())]
    rows = diffusion_rows(generators=[evil, "b"]) + [
        r | {"method": evil} for r in interpolation_rows(classifiers=[evil]) if r["method"] == "sampled"
    ]
    html = write(tmp_path, rows, quality)
    assert html.count("<script>") == 1 and "&lt;script&gt;" in html


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


@pytest.mark.parametrize("width", [360, 1280])
def test_page_fits_phone_and_desktop(tmp_path: Path, chromium: Any, width: int) -> None:
    rows = interpolation_rows() + diffusion_rows()
    write(tmp_path, rows, quality_rows(), datasets=[write_dataset(tmp_path)])
    complaints: list[str] = []
    tab = chromium.new_page(viewport={"width": width, "height": 900})
    tab.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto((tmp_path / "index.html").as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    outside = """(width) => [...document.querySelectorAll("main p, main li, main svg, main summary")]
        .filter((e) => e.getClientRects().length && e.getBoundingClientRect().right > width + 0.5
            && !e.closest(".scroll")).map((e) => e.tagName + ": " + e.textContent.slice(0, 60))"""
    assert tab.evaluate(outside, width) == []
    clipped = """() => [...document.querySelectorAll("#clips svg text, #verdict svg text")].filter((t) => {
        const box = t.getBBox();
        return box.x + box.width > t.ownerSVGElement.viewBox.baseVal.width + 30;
    }).map((t) => t.textContent)"""
    assert tab.evaluate(clipped) == []
    assert complaints == []
    tab.close()
