"""One split's data in memory: who is trained on what."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foley import tables
from foley.tables.zero_shot import PARTITION

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """One split's data in memory: embeddings per clip with roles, and class vectors, seen classes first."""

    clip_ids: np.ndarray
    embeddings: np.ndarray
    class_ids: np.ndarray
    recordings: np.ndarray
    roles: np.ndarray
    seen: tuple[int, ...]
    unseen: tuple[int, ...]
    vectors: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Class ids in the order of ``vectors``."""
        return np.array(self.seen + self.unseen)

    def rows(self, *roles: str) -> np.ndarray:
        return np.flatnonzero(np.isin(self.roles, roles))

    def class_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows into ``vectors`` of the clips' classes."""
        position = {class_id: row for row, class_id in enumerate(self.known)}
        return np.array([position[c] for c in self.class_ids[rows]], dtype=np.int64)


def load_experiment(embeddings: Sequence[Path], partition: Path, class_vectors: Path) -> Experiment:
    """Join embeddings (mean over a clip's windows), partition and class vectors.

    Raises:
        ValueError: a clip of the partition has no embedding, or a class no vector; names them.
    """
    parts = tables.read(partition, PARTITION).sort_by("clip_id")
    embedded = tables.read(list(embeddings), columns=["clip_id", "vector"])
    ids = np.array(embedded["clip_id"].to_pylist(), dtype=object)
    matrix = tables.to_matrix(embedded["vector"])
    unique, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    means = np.zeros((len(unique), matrix.shape[1]))
    np.add.at(means, inverse, matrix)
    means /= counts[:, None]
    position = {clip_id: row for row, clip_id in enumerate(unique)}
    clip_ids = parts["clip_id"].to_pylist()
    lacking = [clip_id for clip_id in clip_ids if clip_id not in position]
    if lacking:
        raise ValueError(
            f"{len(lacking)} clips have no embedding in {embeddings[0]}, for example {lacking[0]}"
        )
    vectors = tables.read(class_vectors, columns=["class_id", "vector"])
    by_class = dict(zip(vectors["class_id"].to_pylist(), tables.to_matrix(vectors["vector"]), strict=True))
    class_ids, roles = np.array(parts["class_id"].to_pylist()), np.array(parts["role"].to_pylist())
    seen = tuple(sorted({int(c) for c, r in zip(class_ids, roles, strict=True) if r.startswith("seen")}))
    unseen = tuple(sorted({int(c) for c, r in zip(class_ids, roles, strict=True) if r == "unseen"}))
    without = [c for c in seen + unseen if c not in by_class]
    if without:
        raise ValueError(f"classes {without} have no vector in {class_vectors}")
    _warn_of_twins(seen + unseen, by_class, class_vectors)
    return Experiment(
        clip_ids=np.array(clip_ids, dtype=object),
        embeddings=means[[position[c] for c in clip_ids]].astype(np.float32),
        class_ids=class_ids,
        recordings=np.array(parts["recording_id"].to_pylist(), dtype=object),
        roles=roles,
        seen=seen,
        unseen=unseen,
        vectors=np.stack([by_class[c] for c in seen + unseen]),
    )


def _warn_of_twins(classes: Sequence[int], vectors: Mapping[int, np.ndarray], path: Path) -> None:
    by_vector: dict[bytes, list[int]] = {}
    for class_id in classes:
        by_vector.setdefault(vectors[class_id].tobytes(), []).append(class_id)
    for twins in by_vector.values():
        if len(twins) > 1:
            log.warning(
                "classes %s have the same vector in %s: nothing that knows a class by its vector can tell them "
                "apart, and the first is said; give each words of its own",
                twins,
                path,
            )


def checkpoint_for(
    folder: Path | None, facts: Any, experiment: Experiment, train: np.ndarray, *more: np.ndarray
) -> Any:
    """Where a training of this study is continued; None without a folder."""
    if folder is None:
        return None
    from foley.training.checkpoint import Checkpoint

    data = (experiment.embeddings[train], experiment.class_rows(train), experiment.vectors)
    return Checkpoint(folder, [facts, len(experiment.seen)], *data, *more)
