"""Train a generator on seen classes, make embeddings of unseen ones, and read them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foley import tables
from foley.studies.partition import TRAINING_ROLES
from foley.studies.zero_shot.experiment import Experiment, checkpoint_for
from foley.tables.zero_shot import PROJECTED_EMBEDDINGS, SYNTHETIC_EMBEDDINGS


@dataclass(frozen=True)
class Projected:
    """Real embeddings in the space that a generator draws in.

    ``clips`` [seeds, clips, L]: where each clip of the experiment lies, to be recognised there. ``train_rows`` [M]
    and ``train`` [seeds, M, L]: draws that classifiers learn seen classes from, and the clips that they are of.
    """

    clips: np.ndarray
    train_rows: np.ndarray
    train: np.ndarray


def generate_embeddings(
    output: Path,
    *,
    projected: Path,
    experiment: Experiment,
    generator: type,
    options: Any,
    seeds: Sequence[int],
    count: int,
    checkpoints: Path | None = None,
    facts: Any = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Train a generator on seen classes and write ``count`` embeddings of each unseen class and seed.

    Args:
        projected: gets the real embeddings in the generator's own space; no rows for a generator without one.
    """
    import torch

    from foley.generators.embedding.protocol import LatentGenerator, SeenData

    train = experiment.rows(*TRAINING_ROLES)
    model = generator(options, seeds)
    data = SeenData(
        torch.from_numpy(experiment.embeddings[train]),
        torch.from_numpy(experiment.class_rows(train)),
        torch.from_numpy(experiment.vectors[: len(experiment.seen)]),
    )
    checkpoint = checkpoint_for(checkpoints, [facts, repr(options), list(seeds)], experiment, train)
    model.fit(data, checkpoint=checkpoint)
    made = model.sample(torch.from_numpy(experiment.vectors[len(experiment.seen) :]), count).numpy()
    if not np.isfinite(made).all():
        raise FloatingPointError("the generator made embeddings that are not finite; lower its learning rate")
    s, u, k, dim = made.shape
    table = pa.table(
        {
            "seed": pa.array(np.repeat(seeds, u * k), pa.int32()),
            "class_id": pa.array(np.tile(np.repeat(experiment.unseen, k), s), pa.int32()),
            "index": pa.array(np.tile(np.arange(k), s * u), pa.int32()),
            "vector": tables.from_matrix(made.reshape(-1, dim)),
        }
    )
    if isinstance(model, LatentGenerator):
        rows, drawn = model.draw_seen(data)
        clips = model.project(torch.from_numpy(experiment.embeddings)).numpy()
        _write_projected(
            projected, Projected(clips, train[rows.numpy()], drawn.numpy()), experiment, seeds, provenance
        )
    else:
        tables.write(projected, PROJECTED_EMBEDDINGS, [], provenance)
    tables.write(output, SYNTHETIC_EMBEDDINGS.with_vectors(vector=dim), table, provenance)
    if checkpoint is not None:
        checkpoint.discard()


def _write_projected(
    path: Path,
    projected: Projected,
    experiment: Experiment,
    seeds: Sequence[int],
    provenance: Mapping[str, Any] | None,
) -> None:
    clips, drawn = len(experiment.clip_ids), len(projected.train_rows)
    # Of a clip that is drawn several times, the draws in their order.
    order = np.argsort(projected.train_rows, kind="stable")
    sorted_rows = projected.train_rows[order]
    draws = np.empty(drawn, dtype=np.int64)
    draws[order] = np.arange(drawn) - np.searchsorted(sorted_rows, sorted_rows) + 1
    rows = np.concatenate([np.arange(clips), projected.train_rows])
    vectors = np.concatenate([projected.clips, projected.train], axis=1)
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the generator's projections are not finite; lower its learning rate")
    dim = vectors.shape[2]
    table = pa.table(
        {
            "seed": pa.array(np.repeat(seeds, len(rows)), pa.int32()),
            "clip_id": pa.array(np.tile(experiment.clip_ids[rows], len(seeds)), pa.string()),
            "draw": pa.array(np.tile(np.concatenate([np.zeros(clips), draws]), len(seeds)), pa.int32()),
            "vector": tables.from_matrix(vectors.reshape(-1, dim)),
        }
    )
    tables.write(path, PROJECTED_EMBEDDINGS.with_vectors(vector=dim), table, provenance)


def read_synthetic(path: Path, unseen: Sequence[int], seeds: Sequence[int]) -> np.ndarray:
    """Synthetic embeddings of these seeds, all that the table holds or some: [seeds, unseen classes, count, dim].

    Raises:
        ValueError: the table lacks a seed, or its seeds and classes don't have equally many embeddings.
    """
    table, found = _of_seeds(tables.read(path, columns=list(SYNTHETIC_EMBEDDINGS.columns)), seeds)
    count = table.num_rows // (len(seeds) * len(unseen))
    # Rows are ordered by seed, class and index.
    expected = np.repeat(np.array(unseen), count)
    class_ids = table["class_id"].to_numpy()
    if found != sorted(seeds) or class_ids.tolist() != np.tile(expected, len(seeds)).tolist():
        raise ValueError(
            f"{path} does not hold equally many embeddings for each seed and class: wanted seeds {sorted(seeds)} and "
            f"classes {list(unseen)}, found seeds {found} and classes {sorted(set(class_ids.tolist()))}"
        )
    matrix = tables.to_matrix(table["vector"]).reshape(len(seeds), len(unseen), count, -1)
    return _as_asked(matrix, seeds)


def read_projected(path: Path, experiment: Experiment, seeds: Sequence[int]) -> Projected | None:
    """Real embeddings in the generator's own space, of these seeds; None for a generator without one.

    Raises:
        ValueError: the table lacks a seed, or is of other clips.
    """
    whole = tables.read(path, columns=list(PROJECTED_EMBEDDINGS.columns))
    if not whole.num_rows:
        return None
    table, found = _of_seeds(whole, seeds)
    rows = table.num_rows // len(seeds)
    # Rows are ordered by seed, clip and draw; each seed has the same clips and draws.
    head = table.slice(0, rows)
    draws = head["draw"].to_numpy()
    clip_ids = np.array(head["clip_id"].to_pylist(), dtype=object)
    if (
        found != sorted(seeds)
        or table.num_rows != len(seeds) * rows
        or clip_ids[draws == 0].tolist() != experiment.clip_ids.tolist()
    ):
        raise ValueError(
            f"{path} does not hold the experiment's clips for each seed: wanted seeds {sorted(seeds)}, found {found}"
        )
    vectors = _as_asked(tables.to_matrix(table["vector"]).reshape(len(seeds), rows, -1), seeds)
    position = {clip_id: row for row, clip_id in enumerate(experiment.clip_ids)}
    return Projected(
        clips=vectors[:, draws == 0],
        train_rows=np.array([position[c] for c in clip_ids[draws > 0]], dtype=np.int64),
        train=vectors[:, draws > 0],
    )


def _of_seeds(table: pa.Table, seeds: Sequence[int]) -> tuple[pa.Table, list[int]]:
    """The rows of these seeds, and which of them there are."""
    kept = table.filter(pc.is_in(table["seed"], pa.array(list(seeds), table["seed"].type)))
    return kept, sorted(pc.unique(kept["seed"]).to_pylist())


def _as_asked(values: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """Values [seeds, ...] of ascending seeds, in the order in which the seeds were asked for."""
    if list(seeds) == sorted(seeds):
        return values
    return values[np.argsort(np.argsort(seeds))]
