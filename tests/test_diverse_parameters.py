"""Baselines are as large as all that is trained on the study's labels: counted in the files of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from foley import tables
from foley.classifiers.chunk_yamnet import ChunkYAMNet, ChunkYAMNetOptions
from foley.classifiers.diverse_transformer import DiverseTransformer, DiverseTransformerOptions
from foley.classifiers.subset_heads import SubsetHeadsOptions
from foley.encoders.neuralogram import NeuralogramOptions
from foley.features.extract import chunk_rows
from foley.features.frames import frame_facts, pack
from foley.studies.diverse.compare import Said, compare_representations
from foley.studies.diverse.heads import Branch, train_heads, train_jointly
from foley.studies.diverse.networks import Part, train_network, train_neuralogram
from foley.tables.diverse import LABELLED_CLIPS
from foley.tables.features import FRAMES
from foley.tables.scores import SCORES

CLASSES = 3
TINY = DiverseTransformerOptions(layers=1, width=8, heads=2, head_dim=4, feed_forward=8, epochs=1)
YAMNET = ChunkYAMNetOptions(dim=4, window_frames=24, epochs=1)
# What a network keeps beside its trained weights.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "mean", "deviation")


def weights(path: Path, head: bool) -> int:
    """Trained numbers in a file of weights, with or without those of the network's own head."""
    return sum(
        value.size
        for name, value in load_file(path).items()
        if name.rpartition(".")[2] not in BUFFERS and (head or not name.startswith("head."))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two representations, one of them activations of a network trained here, and of two baselines."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    ids = [f"clip{n}" for n in range(9)]
    with tables.writer(folder / "frames.parquet", FRAMES, frame_facts(16, 25, "float16", True)) as out:
        frames = [pack(rng.normal(size=(30, 16)).astype(np.float32), "float16") for _ in ids]
        out.write(chunk_rows(ids, frames, 25))
    labelled = folder / "labelled.parquet"
    roles = ["train", "validation", "test"]
    rows = [
        {"clip_id": name, "class_ids": [n % CLASSES], "recording_id": name, "role": roles[n // 3]}
        for n, name in enumerate(ids)
    ]
    tables.write(labelled, LABELLED_CLIPS, rows)
    train_neuralogram(
        folder / "own_frames.parquet", folder / "history.parquet", folder / "behind.safetensors",
        frames=[folder / "frames.parquet"], labelled=labelled, kind=ChunkYAMNet, options=YAMNET,
        neuralogram=NeuralogramOptions(frames_per_second=2), multi_label=False, seed=0,
    )  # fmt: skip
    read = {"plain": "frames", "own": "own_frames", "wide": "frames", "wide_own": "own_frames"}
    yamnet = Part(ChunkYAMNet, YAMNET, folder / "frames.parquet")  # type: ignore[arg-type]
    behind = {"own": yamnet, "wide_own": yamnet}
    parts = [
        Part(DiverseTransformer, TINY, folder / f"{read[name]}.parquet", behind.get(name))
        for name in ("plain", "own")
    ]
    for name, frames_of in read.items():
        train_network(
            folder / f"{name}.embeddings.parquet", folder / f"{name}.scores.parquet", folder / "history.parquet",
            folder / f"{name}.safetensors", frames=[folder / f"{frames_of}.parquet"], labelled=labelled,
            kind=DiverseTransformer, options=TINY, multi_label=False, system=name, seed=0,
            match=[parts] if name.startswith("wide") else [], behind=behind.get(name),
        )  # fmt: skip
    names = ("plain", "own")
    train_heads(
        folder / "heads.parquet", folder / "history.parquet",
        embeddings={name: folder / f"{name}.embeddings.parquet" for name in names},
        scores=[folder / f"{name}.scores.parquet" for name in names], labelled=labelled,
        options=SubsetHeadsOptions(epochs=1), multi_label=False, seed=0,
    )  # fmt: skip
    train_jointly(
        folder / "joint.parquet", folder / "history.parquet", folder / "joint.safetensors",
        branches=[Branch(DiverseTransformer, TINY, [folder / f"{read[name]}.parquet"]) for name in names],
        labelled=labelled, training=TINY, heads=SubsetHeadsOptions(), multi_label=False, seed=0,
    )  # fmt: skip
    said = [Said("fold1", "own_head", 0, folder / f"{name}.scores.parquet") for name in read]
    said += [Said("fold1", "both", 0, folder / f"{file}.parquet") for file in ("heads", "joint")]
    compare_representations(
        folder / "scores.parquet", dataset="mine", labelled={"fold1": labelled}, multi_label=False, said=said,
        embedded=[], sets={"both": list(names)}, baselines=["wide", "wide_own"], draws=100, seed=0, behind=behind,
    )  # fmt: skip
    return folder


def test_joint_training_begins_where_frozen_heads_end(folder: Path, tmp_path: Path) -> None:
    heads, names = SubsetHeadsOptions(epochs=5), {"plain": "frames", "own": "own_frames"}
    train_heads(
        tmp_path / "heads.parquet", tmp_path / "history.parquet",
        embeddings={name: folder / f"{name}.embeddings.parquet" for name in names},
        scores=[folder / f"{name}.scores.parquet" for name in names], labelled=folder / "labelled.parquet",
        options=heads, multi_label=False, seed=0,
    )  # fmt: skip
    for rate in (1e-12, 0.1):
        train_jointly(
            tmp_path / f"{rate}.parquet", tmp_path / "history.parquet", tmp_path / "joint.safetensors",
            branches=[
                Branch(DiverseTransformer, TINY, [folder / f"{file}.parquet"], folder / f"{name}.safetensors")
                for name, file in names.items()
            ],
            labelled=folder / "labelled.parquet", training=replace(TINY, learning_rate=rate), heads=heads,
            multi_label=False, seed=0,
        )  # fmt: skip
    frozen, still, moved = (
        {(r["system"], r["clip_id"]): np.array(r["vector"]) for r in tables.read(tmp_path / name).to_pylist()}
        for name in ("heads.parquet", "1e-12.parquet", "0.1.parquet")
    )
    for clip in ("clip6", "clip7", "clip8"):
        np.testing.assert_allclose(still["joint", clip], frozen["plain+own", clip], atol=0.005)
    assert any(np.abs(moved[key] - still[key]).max() > 0.02 for key in still)


def test_parameters_are_those_in_the_files_of_weights(folder: Path) -> None:
    found = {
        (row["method"], row["variant"]): row["value"]
        for row in tables.read(folder / "scores.parquet", SCORES).to_pylist()
        if row["metric"] == "parameters"
    }
    behind = weights(folder / "behind.safetensors", head=False)
    assert behind > 200_000
    alone = {
        name: weights(folder / f"{name}.safetensors", head=True)
        for name in ("plain", "own", "wide", "wide_own")
    }
    whole = weights(folder / "joint.safetensors", head=True) + behind
    assert found == {
        ("plain", "own_head"): alone["plain"],
        ("own", "own_head"): alone["own"] + behind,
        ("wide", "own_head"): alone["wide"],
        ("wide_own", "own_head"): alone["wide_own"] + behind,
        # A linear head on one is as large as its own.
        ("plain", "both"): alone["plain"],
        ("own", "both"): alone["own"] + behind,
        ("plain+own", "both"): whole,
        ("joint", "both"): whole,
        ("wide", "both"): alone["wide"],
        ("wide_own", "both"): alone["wide_own"] + behind,
    }


@pytest.mark.parametrize(("name", "counted"), [("wide", False), ("wide_own", True)])
def test_a_baseline_is_as_large_as_all_that_the_set_has_trained(
    folder: Path, name: str, counted: bool
) -> None:
    behind = weights(folder / "behind.safetensors", head=False)
    whole = weights(folder / "joint.safetensors", head=True) + behind
    size = weights(folder / f"{name}.safetensors", head=True) + behind * counted
    assert whole <= size < 1.02 * whole
