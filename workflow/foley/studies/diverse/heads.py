"""Linear heads on every subset of the representations of a set: on frozen embeddings, or together with the networks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from foley import tables
from foley.classifiers.chunk_network import (
    ChunkNetwork,
    ChunkTraining,
    Examples,
    Targets,
    clip_scores,
    initialise,
    run_in_batches,
    standardise,
    train,
)
from foley.classifiers.subset_heads import SubsetHeads, SubsetHeadsOptions
from foley.features.chunks import Chunks, align, read_chunks
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION
from foley.studies.diverse.label_clips import parts_of, read_labelled, score_rows
from foley.studies.diverse.networks import load_weights, measure_of, read_chunk_embeddings, save_weights
from foley.tables.diverse import CLIP_SCORES
from foley.tables.features import HISTORY
from foley.training.checkpoint import Checkpoint
from foley.training.loop import choose_device

log = logging.getLogger(__name__)

TOGETHER = "+"  # between the representations of a subset, in its name
JOINT = "joint"  # the system of all representations whose networks were trained together


def read_embeddings(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Embeddings of the same chunks: clip of each chunk [N], its real share [N], and vectors [N, D_i] of each file.

    Chunks that a file lacks are left out of all. The share is the least of all files: a rate of few frames rounds it
    up.
    """
    read, its_shares = zip(*map(read_chunk_embeddings, paths), strict=True)
    keys = [list(zip(t["clip_id"].to_pylist(), t["window"].to_pylist(), strict=True)) for t in read]
    common = set(keys[0]).intersection(*map(set, keys[1:]))
    vectors = [
        tables.to_matrix(t["vector"])[[key in common for key in own]]
        for t, own in zip(read, keys, strict=True)
    ]
    shares = [
        own[[key in common for key in its_keys]] for own, its_keys in zip(its_shares, keys, strict=True)
    ]
    clip_ids = [clip_id for clip_id, window in keys[0] if (clip_id, window) in common]
    return np.array(clip_ids, dtype=object), np.min(shares, axis=0), vectors


def train_heads(
    output: Path,
    history: Path,
    *,
    embeddings: Mapping[str, Path],
    scores: Sequence[Path],
    labelled: Path,
    options: SubsetHeadsOptions,
    multi_label: bool,
    seed: int,
    threads: int = 1,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train a head on each subset of frozen embeddings, all of them as one model; write what each says of test clips.

    Args:
        embeddings: representation -> its CHUNK_EMBEDDINGS, in the order of the study.
        scores: what each one's network said of test clips; from there its number of parameters.
    """
    torch.set_num_threads(threads)
    clips = read_labelled(labelled, multi_label)
    clip_ids, shares, vectors = read_embeddings(list(embeddings.values()))
    parts = parts_of(clip_ids, clips)
    dims = {name: own.shape[1] for name, own in zip(embeddings, vectors, strict=True)}
    heads = SubsetHeads(options, dims, clips.targets, seed)
    x = torch.from_numpy(np.concatenate(vectors, axis=1))
    past = heads.fit(
        x,
        clip_ids,
        training=parts[TRAIN],
        validation=parts[VALIDATION],
        measure=measure_of(clips.targets),
        shares=shares,
    )
    log.info("best epochs: %s", heads.model.best_epoch.tolist())
    names, said = heads.clip_scores(x, clip_ids, parts[TEST], shares)
    rows = [
        score_rows(TOGETHER.join(own), names, of_head)
        for own, of_head in zip(heads.subsets, said, strict=True)
    ]
    alone = {
        name: sum(tables.provenance(path)["parameters"].values())
        for name, path in zip(embeddings, scores, strict=True)
    }
    classes = clips.targets.classes
    counts = {
        TOGETHER.join(own): sum(alone[r] - (dims[r] + 1) * classes + dims[r] * classes for r in own) + classes
        for own in heads.subsets
    }
    about = {**(provenance or {}), "parameters": counts}
    tables.write(output, CLIP_SCORES.with_vectors(vector=classes), pa.concat_tables(rows), about)
    tables.write(history, HISTORY, past.as_rows(), provenance)


@dataclass(frozen=True)
class Branch:
    """One network of the joint training: its kind and options, its frames, and the weights that it begins with."""

    kind: Callable[..., ChunkNetwork]
    options: ChunkTraining
    frames: Sequence[Path]
    weights: Path | None = None


class Joint:
    """The joint training, whose options are those of any network of chunks."""

    Options = ChunkTraining


class JointNetwork(nn.Module):
    """Several networks side by side, and one linear head on all their embeddings."""

    def __init__(self, branches: Sequence[ChunkNetwork], classes: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.head = nn.Linear(sum(branch.head.in_features for branch in branches), classes)
        for branch in branches:  # their own heads have no part in it
            branch.head = nn.Identity()  # type: ignore[assignment]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Frames and validity of each branch in turn -> class scores [B, classes]."""
        return self.head(self.embed(*inputs))

    def embed(self, *inputs: Tensor) -> Tensor:
        """Frames and validity of each branch in turn -> their embeddings side by side [B, sum of dims]."""
        pairs = zip(self.branches, inputs[::2], inputs[1::2], strict=True)
        return torch.cat([branch.embed(x, valid) for branch, x, valid in pairs], dim=1)  # type: ignore[operator]


def train_jointly(
    output: Path,
    history: Path,
    model: Path,
    *,
    branches: Sequence[Branch],
    labelled: Path,
    training: ChunkTraining,
    heads: SubsetHeadsOptions,
    multi_label: bool,
    seed: int,
    threads: int = 1,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train the networks of all representations and one head together, from their own weights or from scratch.

    From their own weights the head begins as it is trained on the frozen networks (A. Kumar et al., "Fine-tuning can
    distort pretrained features and underperform out-of-distribution", 2022): a new head would first undo what the
    networks have learnt.

    Args:
        training: of all together.
        heads: of the head before, where all networks begin with weights.
    """
    torch.set_num_threads(threads)
    clips = read_labelled(labelled, multi_label)
    device = choose_device()
    everyone = clips.clip_ids.tolist()
    parts = align([read_chunks(branch.frames, everyone) for branch in branches])
    network = joint_network(branches, parts, clips.targets.classes, seed)
    clip_ids = parts[0].clip_ids
    roles = parts_of(clip_ids, clips)
    for branch, part, own in zip(branches, parts, network.branches, strict=True):
        if branch.weights is None:
            standardise(own, part, roles[TRAIN])  # type: ignore[arg-type]
    examples = Examples(
        clip_ids,
        lambda rows: tuple(x for part in parts for x in part.take(rows, device)),
        np.min([part.shares for part in parts], axis=0),
    )
    if all(branch.weights is not None for branch in branches):
        begin_with_fitted_head(network.to(device), examples, clips.targets, roles, heads, seed)
    checkpoint = None
    if checkpoints is not None:
        labels = {c: list(its) for c, its in clips.targets.classes_of.items()}
        known = [facts, asdict(training), asdict(heads), seed, labels, device.type]
        weights = [np.frombuffer(b.weights.read_bytes(), np.uint8) for b in branches if b.weights]
        checkpoint = Checkpoint(checkpoints, known, *(part.packed for part in parts), *weights)
    past = train(
        network, training, examples, clips.targets, training=roles[TRAIN], validation=roles[VALIDATION],
        measure=measure_of(clips.targets), seed=seed, checkpoint=checkpoint, name="joint",
    )  # fmt: skip
    table = score_rows(JOINT, *clip_scores(network, examples, clips.targets, roles[TEST]))
    about = {**(provenance or {}), "parameters": {JOINT: trainable(network)}}
    tables.write(output, CLIP_SCORES.with_vectors(vector=clips.targets.classes), table, about)
    tables.write(history, HISTORY, past.as_rows(), provenance)
    save_weights(model, network)
    if checkpoint is not None:
        checkpoint.discard()


def begin_with_fitted_head(
    network: JointNetwork,
    examples: Examples,
    targets: Targets,
    roles: Mapping[str, np.ndarray],
    options: SubsetHeadsOptions,
    seed: int,
) -> None:
    """Give the head the weights that it gets on the networks as they are."""
    network.eval()
    x = torch.from_numpy(run_in_batches(network.embed, examples, np.arange(len(examples.clip_ids))))
    one = SubsetHeads(options, {JOINT: x.shape[1]}, targets, seed)
    one.fit(
        x, examples.clip_ids, training=roles[TRAIN], validation=roles[VALIDATION], measure=measure_of(targets),
        shares=examples.shares,
    )  # fmt: skip
    weight, bias = one.linear(0)
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(bias)


def trainable(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def joint_network(
    branches: Sequence[Branch], parts: Sequence[Chunks], classes: int, seed: int
) -> JointNetwork:
    """The networks with the weights that they begin with, and a head with new ones."""
    initialise(seed, JOINT)
    networks = []
    for branch, part in zip(branches, parts, strict=True):
        network = branch.kind(part.facts.dim, part.facts.chunk_frames, classes, branch.options)
        if branch.weights is not None:
            load_weights(branch.weights, network)
        networks.append(network)
    return JointNetwork(networks, classes)
