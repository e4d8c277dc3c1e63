"""Networks of one representation: trained on the training clips of a split, then asked for every chunk's embedding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file

from foley import tables
from foley.classifiers.chunk_network import (
    ChunkNetwork,
    ChunkTraining,
    Examples,
    Measure,
    Targets,
    clip_scores,
    initialise,
    run_in_batches,
    standardise,
    train,
)
from foley.encoders.neuralogram import NeuralogramOptions, network_neuralogram
from foley.features.chunks import Chunks, frame_facts, read_chunks
from foley.features.extract import chunk_rows
from foley.features.frames import frame_facts as facts_to_write
from foley.features.frames import pack
from foley.metrics.average_precision import mean_average_precision
from foley.studies.audio.splits import TEST, TRAIN, VALIDATION
from foley.studies.diverse.label_clips import LabelledClips, parts_of, read_labelled, score_rows
from foley.tables.diverse import CHUNK_EMBEDDINGS, CLIP_SCORES
from foley.tables.features import FRAMES, HISTORY
from foley.training.checkpoint import Checkpoint
from foley.training.loop import autocast_dtype, choose_device

log = logging.getLogger(__name__)

# Clips whose neuralogram is written at once.
_CLIPS_AT_ONCE = 32
# Activations that spread less, in parts of the largest one, are the same once they are stored in two bytes.
_LEAST_SPREAD = 2e-3


def measure_of(targets: Targets) -> Measure:
    """What the study's clips are measured by: accuracy, or mAP where they have several labels."""
    if targets.multi_label:
        return Measure("map", mean_average_precision)
    return Measure("accuracy", lambda truth, scores: float((scores.argmax(axis=1) == truth).mean()))


@dataclass(frozen=True)
class Part:
    """One of the networks whose parameters another must match: its kind and options, and a file of its frames.

    behind: the network that made those frames, if it was trained on the study's labels as well.
    """

    kind: type[ChunkNetwork]
    options: ChunkTraining
    frames: Path
    behind: Part | None = None


def combined_parameters(parts: Sequence[Part], classes: int) -> int:
    """Parameters of several networks without their own heads, of what is trained behind them, and of a linear head on
    all of them side by side."""
    total = widths = 0
    for part in parts:
        width, own = _without_head(part, classes)
        total += own + parameters_behind(part.behind, classes)
        widths += width
    return total + (widths + 1) * classes


def parameters_behind(part: Part | None, classes: int) -> int:
    """Parameters, without its own head, of a network trained here whose activations are another's frames."""
    return 0 if part is None else _without_head(part, classes)[1] + parameters_behind(part.behind, classes)


def _without_head(part: Part, classes: int) -> tuple[int, int]:
    """Width of a network's embedding, and its parameters but for those of its head; nothing is stored for it."""
    facts = frame_facts(part.frames)
    with torch.device("meta"):
        network = part.kind(facts.dim, facts.chunk_frames, classes, part.options)  # type: ignore[call-arg, arg-type]
    own = sum(p.numel() for p in network.head.parameters())
    return network.head.in_features, sum(p.numel() for p in network.parameters()) - own


def train_network(
    embeddings: Path,
    scores: Path,
    history: Path,
    model: Path,
    *,
    frames: Sequence[Path],
    labelled: Path,
    kind: type[ChunkNetwork],
    options: ChunkTraining,
    multi_label: bool,
    system: str,
    seed: int,
    match: Sequence[Sequence[Part]] = (),
    behind: Part | None = None,
    threads: int = 1,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train one network; write every chunk's embedding, what it says of the test clips, its history and its weights.

    Args:
        frames: shards of the representation (FRAMES).
        system: its name in CLIP_SCORES.
        match: sets of networks; this one gets the smallest options at which it has as many parameters as the
            largest set with its head.
        behind: the network trained here that made its frames, if there is one; its parameters count as well.
        facts: what the result depends on beside the data, for resuming.
    """
    torch.set_num_threads(threads)
    clips = read_labelled(labelled, multi_label)
    chunks = read_chunks(frames, clips.clip_ids.tolist())
    classes, inputs, longest = clips.targets.classes, chunks.facts.dim, chunks.facts.chunk_frames
    if match:
        whole = max(combined_parameters(parts, classes) for parts in match)
        least = whole - parameters_behind(behind, classes)
        options = kind.with_parameters(least, inputs, longest, classes, options)  # type: ignore[attr-defined]
        log.info(
            "%s: options %s, to have the %d parameters of the combination", system, asdict(options), whole
        )
    network, past = _fit(kind, options, chunks, clips, seed, system, checkpoints, facts)
    count = sum(p.numel() for p in network.parameters())
    log.info("%s: %d parameters, kept epoch %d", system, count, past.best_epoch)
    examples = Examples.of(chunks, choose_device())
    everything = np.arange(len(chunks))
    vectors = run_in_batches(network.embed, examples, everything)
    said = {**(provenance or {}), "parameters": {system: count}, "options": asdict(options)}
    write_embeddings(embeddings, chunks, vectors, said)
    rows = parts_of(chunks.clip_ids, clips)[TEST]
    table = score_rows(system, *clip_scores(network, examples, clips.targets, rows))
    tables.write(scores, CLIP_SCORES.with_vectors(vector=classes), table, said)
    tables.write(history, HISTORY, past.as_rows(), provenance)
    save_weights(model, network)


def train_neuralogram(
    output: Path,
    history: Path,
    model: Path,
    *,
    frames: Sequence[Path],
    labelled: Path,
    kind: type[ChunkNetwork],
    options: Any,
    neuralogram: NeuralogramOptions,
    multi_label: bool,
    seed: int,
    threads: int = 1,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train a network on log-mel frames of the split's training clips, and write what it makes of every clip over time.

    Its window is that of its options, in frames of the feature.

    Raises:
        ValueError: the network says the same of all clips.
    """
    torch.set_num_threads(threads)
    clips = read_labelled(labelled, multi_label)
    chunks = read_chunks(frames, clips.clip_ids.tolist())
    network, past = _fit(kind, options, chunks, clips, seed, "neuralogram", checkpoints, facts)
    device = choose_device()
    window, hop = options.window_frames, chunks.facts.chunk_frames / neuralogram.chunk_frames
    whole = torch.ones(1, window, dtype=torch.bool, device=device)

    def embed(windows: torch.Tensor) -> torch.Tensor:
        return network.embed(windows.to(device), whole.expand(len(windows), -1))

    about = {**(provenance or {}), **facts_to_write(options.dim, neuralogram.chunk_frames, "float16", True)}
    # Chunks are ordered by clip: each clip's lie side by side.
    names, starts = np.unique(chunks.clip_ids.astype(str), return_index=True)
    edges = [*starts.tolist(), len(chunks)]
    silence = network.mean.cpu()  # what padding is taken for
    low, high = np.full(options.dim, np.inf), np.full(options.dim, -np.inf)
    with tables.writer(output, FRAMES, about) as out, torch.inference_mode():
        for begin in range(0, len(names), _CLIPS_AT_ONCE):
            found = []
            for number in range(begin, min(begin + _CLIPS_AT_ONCE, len(names))):
                x, valid = chunks.take(np.arange(edges[number], edges[number + 1]), torch.device("cpu"))
                made = network_neuralogram(embed, x[valid], window, hop, silence)
                low, high = np.minimum(low, made.min(axis=0)), np.maximum(high, made.max(axis=0))
                found.append(pack(made, "float16"))
            chosen = names[begin : begin + _CLIPS_AT_ONCE].tolist()
            out.write(chunk_rows(chosen, found, neuralogram.chunk_frames))
        if not (high - low > _LEAST_SPREAD * np.maximum(np.abs(low), np.abs(high))).any():
            raise ValueError(
                f"the network kept of epoch {past.best_epoch} says the same of all clips, so its neuralogram tells "
                "nothing; train it longer (`epochs`), or with another `learning_rate`"
            )
    tables.write(history, HISTORY, past.as_rows(), provenance)
    save_weights(model, network)


def _fit(
    kind: type[ChunkNetwork],
    options: Any,
    chunks: Chunks,
    clips: LabelledClips,
    seed: int,
    name: str,
    checkpoints: Path | None,
    facts: Any,
) -> tuple[ChunkNetwork, Any]:
    device = choose_device()
    parts = parts_of(chunks.clip_ids, clips)
    initialise(seed, name)
    network = kind(
        chunks.facts.dim,
        chunks.facts.chunk_frames,
        clips.targets.classes,
        options,  # type: ignore[call-arg, arg-type]
    )
    standardise(network, chunks, parts[TRAIN])
    checkpoint = None
    if checkpoints is not None:
        arithmetic = [device.type, str(autocast_dtype("auto", device))]
        labels = {c: list(its) for c, its in clips.targets.classes_of.items()}
        checkpoint = Checkpoint(
            checkpoints,
            [facts, name, asdict(options), seed, labels, arithmetic],
            chunks.packed,
            chunks.frames,
            parts[TRAIN],
            parts[VALIDATION],
        )
    past = train(
        network, options, Examples.of(chunks, device), clips.targets, training=parts[TRAIN],
        validation=parts[VALIDATION], measure=measure_of(clips.targets), seed=seed, checkpoint=checkpoint, name=name,
    )  # fmt: skip
    if checkpoint is not None:
        checkpoint.discard()
    return network, past


def write_embeddings(
    path: Path, chunks: Chunks, vectors: np.ndarray, provenance: Mapping[str, Any] | None
) -> None:
    table = pa.table(
        {
            "clip_id": pa.array(chunks.clip_ids.tolist(), pa.string()),
            "window": pa.array(chunks.windows, pa.int32()),
            "share": pa.array(chunks.shares, pa.float64()),
            "vector": tables.from_matrix(vectors),
        }
    )
    tables.write(path, CHUNK_EMBEDDINGS.with_vectors(vector=vectors.shape[1]), table, provenance)


def read_chunk_embeddings(path: Path) -> tuple[pa.Table, np.ndarray]:
    """What `write_embeddings` wrote, and the real share of each chunk [N]; all of it where the file does not say."""
    table = tables.read(path)
    if "share" not in table.column_names:
        return tables.read(path, columns=["clip_id", "window", "vector"]), np.ones(len(table))
    return table, table["share"].to_numpy()


def save_weights(path: Path, network: torch.nn.Module) -> None:
    """Weights as safetensors, whole or not at all."""
    with tables.atomic_file(path) as temporary:
        save_file({k: v.contiguous().cpu() for k, v in network.state_dict().items()}, temporary)


def load_weights(path: Path, network: torch.nn.Module) -> None:
    network.load_state_dict(load_file(path))
