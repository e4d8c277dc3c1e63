"""What the study of diverse embeddings makes of what networks say: scores, contributions, means, and the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from foley import tables
from foley.metrics.similarity import linear_cka
from foley.report.diverse import diverse_embeddings
from foley.report.scores import ScoreBook
from foley.studies.diverse.compare import Embedded, Said, clip_embeddings, compare_representations
from foley.studies.diverse.label_clips import official_rows, read_labelled, score_rows
from foley.tables.diverse import CHUNK_EMBEDDINGS, CLIP_SCORES, LABELLED_CLIPS
from foley.tables.scores import SCORES

CLASSES, CLIPS = 3, 20
SYSTEMS = ["a", "b", "a+b"]


def write_study(
    folder: Path, multi_label: bool, folds: tuple[str, ...] = ("fold1", "fold2")
) -> tuple[dict[str, Path], list[Said], list[Embedded]]:
    """Made-up answers of two seeds; the joined head is the surest."""
    rng = np.random.default_rng(0)
    labelled, said, embedded = {}, [], []
    for fold in folds:
        truth = rng.integers(0, CLASSES, CLIPS)
        rows = [
            {
                "clip_id": f"{fold}-{n:02d}",
                "class_ids": sorted({int(c), 0}) if multi_label and n % 2 else [int(c)],
                "recording_id": f"{fold}-{n // 2}",
                "role": "test",
            }
            for n, c in enumerate(truth)
        ]
        labelled[fold] = folder / f"{fold}.parquet"
        tables.write(labelled[fold], LABELLED_CLIPS, rows)
        names = [row["clip_id"] for row in rows]
        for seed in (0, 1):
            parts = []
            for number, system in enumerate(SYSTEMS):
                scores = rng.random((CLIPS, CLASSES)) + (0.2 + 0.4 * number) * np.eye(CLASSES)[truth]
                parts.append(score_rows(system, names, scores.astype(np.float32)))
            path = folder / f"{fold}-{seed}-heads.parquet"
            kind = CLIP_SCORES.with_vectors(vector=CLASSES)
            tables.write(path, kind, pa.concat_tables(parts), {"parameters": {"a": 5, "b": 6, "a+b": 11}})
            said.append(Said(fold, "both", seed, path))
            for system in ("a", "b", "wide"):
                path = folder / f"{fold}-{seed}-{system}.parquet"
                scores = rng.random((CLIPS, CLASSES)).astype(np.float32)
                tables.write(path, kind, score_rows(system, names, scores), {"parameters": {system: 11}})
                said.append(Said(fold, "own_head", seed, path))
                path = folder / f"{fold}-{seed}-{system}-embeddings.parquet"
                if system != "wide":
                    vectors = rng.normal(size=(2 * CLIPS, 4)).astype(np.float32)
                    table = pa.table(
                        {
                            "clip_id": np.repeat(names, 2),
                            "window": pa.array([0, 1] * CLIPS, pa.int32()),
                            "vector": tables.from_matrix(vectors),
                        }
                    )
                    tables.write(path, CHUNK_EMBEDDINGS.with_vectors(vector=4), table)
                    embedded.append(Embedded(fold, system, seed, path))
    return labelled, said, embedded


def compare(folder: Path, multi_label: bool) -> tuple[dict, list[Said], list[Embedded], Path]:
    labelled, said, embedded = write_study(folder, multi_label)
    output = folder / "scores.parquet"
    compare_representations(
        output, dataset="mine", labelled=labelled, multi_label=multi_label, said=said, embedded=embedded,
        sets={"both": ["a", "b"]}, baselines=["wide"], draws=200, seed=0,
    )  # fmt: skip
    rows = tables.read(output, SCORES).to_pylist()
    return (
        {(r["split"], r["method"], r["variant"], r["metric"], r["seed"]): r for r in rows},
        said,
        embedded,
        output,
    )


def test_scores_of_clips_with_one_label(tmp_path: Path) -> None:
    found, said, _, _ = compare(tmp_path, multi_label=False)
    for fold in ("fold1", "fold2"):
        clips = read_labelled(tmp_path / f"{fold}.parquet", False)
        table = tables.read(said[0].path if fold == "fold1" else tmp_path / "fold2-0-heads.parquet")
        rows = np.array(table["system"].to_pylist()) == "a+b"
        right = (
            tables.to_matrix(table["vector"])[rows].argmax(1) == clips.targets.rows(clips.clip_ids).numpy()
        )
        assert found[fold, "a+b", "both", "accuracy", 0]["value"] == pytest.approx(right.mean())
    both = [found[fold, "a+b", "both", "accuracy", None]["value"] for fold in ("fold1", "fold2")]
    mean = found["mean", "a+b", "both", "accuracy", None]
    assert mean["value"] == pytest.approx(np.mean(both)) and mean["n"] == 2 * CLIPS
    assert mean["low"] <= mean["value"] <= mean["high"]
    for split in ("fold1", "mean"):
        part = found[split, "a", "both", "contribution", None]
        wanted = (
            found[split, "a+b", "both", "accuracy", None]["value"]
            - found[split, "b", "both", "accuracy", None]["value"]
        )
        assert part["value"] == pytest.approx(wanted)
    # The baseline stands beside the set, with the same value.
    assert (
        found["fold1", "wide", "both", "accuracy", None]["value"]
        == found["fold1", "wide", "own_head", "accuracy", None]["value"]
    )
    assert found["fold1", "chance", "", "accuracy", None]["value"] == pytest.approx(1 / CLASSES)
    assert found["fold1", "a+b", "both", "parameters", None]["value"] == 11


def test_cka_and_agreement_are_of_test_clips(tmp_path: Path) -> None:
    found, said, embedded, _ = compare(tmp_path, multi_label=False)
    of = {(e.split, e.representation, e.seed): e.path for e in embedded}
    names = [f"fold1-{n:02d}" for n in range(CLIPS)]
    table = tables.to_matrix(tables.read(of["fold1", "a", 1])["vector"])
    np.testing.assert_allclose(
        clip_embeddings(of["fold1", "a", 1], names), table.reshape(CLIPS, 2, 4).mean(1), rtol=1e-6
    )
    wanted = linear_cka(
        clip_embeddings(of["fold1", "a", 1], names), clip_embeddings(of["fold1", "b", 1], names)
    )
    assert found["fold1", "a", "own_head", "cka_with_b", 1]["value"] == pytest.approx(wanted)
    seeds = [found["fold1", "a", "own_head", "cka_with_b", seed]["value"] for seed in (0, 1)]
    assert found["fold1", "a", "own_head", "cka_with_b", None]["value"] == pytest.approx(np.mean(seeds))
    first = {
        s.path.stem.rpartition("-")[2]: tables.to_matrix(tables.read(s.path)["vector"]).argmax(1)
        for s in said
        if s.variant == "own_head" and s.split == "fold1" and s.seed == 0
    }
    other = {
        s.path.stem.rpartition("-")[2]: tables.to_matrix(tables.read(s.path)["vector"]).argmax(1)
        for s in said
        if s.variant == "own_head" and s.split == "fold1" and s.seed == 1
    }
    same = np.mean([(part["a"] == part["wide"]).mean() for part in (first, other)])
    assert found["fold1", "a", "own_head", "agreement_with_wide", None]["value"] == pytest.approx(same)


def test_scores_of_clips_with_several_labels(tmp_path: Path) -> None:
    found, _, _, _ = compare(tmp_path, multi_label=True)
    clips = read_labelled(tmp_path / "fold1.parquet", True)
    table = tables.read(tmp_path / "fold1-1-heads.parquet")
    said = tables.to_matrix(table["vector"])[np.array(table["system"].to_pylist()) == "b"]
    wanted = average_precision_score(clips.targets.rows(clips.clip_ids).numpy(), said, average="macro")
    assert found["fold1", "b", "both", "map", 1]["value"] == pytest.approx(wanted)
    row = found["fold1", "b", "both", "map", None]
    assert row["low"] < row["value"] < row["high"]


def test_other_clips_are_refused(tmp_path: Path) -> None:
    labelled, said, _ = write_study(tmp_path, False)
    with pytest.raises(ValueError, match="answers for other clips than the test clips of split fold2"):
        compare_representations(
            tmp_path / "out.parquet", dataset="mine", labelled=labelled, multi_label=False,
            said=[Said("fold2", "both", 0, said[0].path)], embedded=[], sets={"both": ["a", "b"]},
            baselines=[], draws=100, seed=0,
        )  # fmt: skip


def test_the_page_states_the_claim(tmp_path: Path) -> None:
    found, _, _, output = compare(tmp_path, multi_label=False)
    section = diverse_embeddings(ScoreBook(output))
    assert section is not None
    (panel,) = section.panels
    ((what, sentence),) = panel.sentences
    whole = found["mean", "a+b", "both", "accuracy", None]["value"]
    assert what == "set both" and f"all together reach {100 * whole:.1f} %" in sentence
    assert "of 2 single representations" in sentence and "against wide of equal size" in sentence
    titles = " ".join(table.title for table in panel.tables)
    for words in ("Single representations", "All subsets, set both", "leave-one-out", "CKA", "call the same"):
        assert words in titles
    assert diverse_embeddings(ScoreBook(None)) is None


def clips_table(rows: list[tuple[str, list[str], str | None]]) -> pa.Table:
    return pa.table(
        {
            "clip_id": [name for name, _, _ in rows],
            "labels": [labels for _, labels, _ in rows],
            "split": pa.array([split for _, _, split in rows], pa.string()),
            "recording_id": [name for name, _, _ in rows],
        }
    )


def test_official_parts_of_clips_with_several_labels() -> None:
    table = clips_table(
        [
            ("1", ["Bark", "Dog"], "train"),
            ("2", ["Dog", "Rain"], "test"),
            ("3", ["Rain"], "test"),
            ("4", ["Dog"], None),
            ("5", ["Dog"], "validation"),
        ]
    )
    numbers = {"Bark": 4, "Dog": 1, "Rain": 0}
    rows = {row["clip_id"]: row for row in official_rows(table, numbers, "official")}
    # Nothing teaches `Rain`: it leaves the labels, and a clip that has nothing else leaves with it.
    assert {name: row["class_ids"] for name, row in rows.items()} == {"1": [1, 4], "2": [1], "5": [1]}
    assert rows["5"]["role"] == "validation"
    with pytest.raises(ValueError, match="a dataset with several labels a clip has `official` alone"):
        official_rows(table, numbers, "fold1")
    with pytest.raises(ValueError, match="label 'Rain' is no class"):
        official_rows(table, {"Bark": 4, "Dog": 1}, "official")
    with pytest.raises(ValueError, match="needs official parts"):
        official_rows(clips_table([("1", ["Dog"], "train")]), numbers, "official")
