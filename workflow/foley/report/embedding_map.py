"""The embedding map: do synthetic embeddings lie where the real ones of the class lie?

Real and synthetic embeddings are projected to the plane together (t-SNE, van der Maaten and Hinton 2008).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from foley import tables
from foley.report.places import iter_places
from foley.runtime.seeds import derive
from foley.tables.classes import CLASSES
from foley.tables.report import EMBEDDING_MAP
from foley.tables.zero_shot import PARTITION, SYNTHETIC_EMBEDDINGS

log = logging.getLogger(__name__)
_SHARE = 0.4  # of the points, for unseen and for synthetic each; seen classes get what is left
_PERPLEXITY = 30.0


def project_embeddings(
    output: Path,
    *,
    embeddings: Path | Sequence[Path],
    partition: Path,
    synthetic: Path,
    projected: Path | None = None,
    classes: Path,
    seed: int,
    max_points: int = 2000,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the EMBEDDING_MAP of one experiment.

    Takes real clips of unseen classes, the synthetic embeddings of the lowest generator seed, and a sample of
    seen clips. Where that is more than ``max_points``, large classes are thinned before small ones.

    Args:
        output: Table to write.
        embeddings: EMBEDDINGS of the dataset, one table or its shards; windows of a clip are averaged.
        partition: PARTITION of the split: which clip is seen or unseen.
        synthetic: SYNTHETIC_EMBEDDINGS of the experiment.
        projected: PROJECTED_EMBEDDINGS of the experiment; where it has rows, clips lie where those say.
        classes: CLASSES of the dataset, for the names.
        seed: Seed of the sample and of t-SNE.
        max_points: Most points in the map.
        provenance: What is recorded in the table's metadata.

    Raises:
        ValueError: real and synthetic embeddings differ in length.
    """
    names = tables.read(classes, CLASSES, ["class_id", "label"]).to_pylist()
    labels = {row["class_id"]: row["label"] for row in names}
    shards = [embeddings] if isinstance(embeddings, Path) else list(embeddings)
    items, points = _synthetic_embeddings(synthetic)
    unseen, seen = _roles(partition)

    budget = int(_SHARE * max_points)
    made = _thin(items, budget, seed, "synthetic")
    real = _thin(unseen, budget, seed, "unseen")
    kinds = {"unseen": real, "seen": _thin(seen, max(max_points - len(made) - len(real), 0), seed, "seen")}

    wanted = [clip for chosen in kinds.values() for clip in chosen]
    vectors = _clip_embeddings(shards, projected, wanted)
    rows = [("synthetic", item, items[item]) for item in made]
    parts = [points[item] for item in made]
    for kind, chosen in kinds.items():
        for clip, class_id in chosen.items():
            rows.append((kind, clip, class_id))
            parts.append(vectors[clip])
    lengths = {len(part) for part in parts}
    if len(lengths) > 1:
        raise ValueError(
            f"{embeddings} and {synthetic} hold embeddings of different lengths: {sorted(lengths)}"
        )

    plane = _project(np.stack(parts) if parts else np.zeros((0, 2), np.float32), seed)
    log.info("projected %d embeddings", len(rows))
    tables.write(
        output,
        EMBEDDING_MAP,
        [
            {
                "kind": kind,
                "item": item,
                "class_id": class_id,
                "label": labels.get(class_id, str(class_id)),
                "x": float(x),
                "y": float(y),
            }
            for (kind, item, class_id), (x, y) in zip(rows, plane, strict=True)
        ],
        provenance,
    )


def _roles(partition: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Clips of unseen classes and of seen ones, each clip -> class."""
    unseen: dict[str, int] = {}
    seen: dict[str, int] = {}
    for row in tables.read(partition, PARTITION, ["clip_id", "class_id", "role"]).to_pylist():
        if row["role"] == "unseen":
            unseen[row["clip_id"]] = row["class_id"]
        elif row["role"].startswith("seen_"):  # and not excluded from the split
            seen[row["clip_id"]] = row["class_id"]
    return unseen, seen


def _synthetic_embeddings(path: Path) -> tuple[dict[str, int], dict[str, np.ndarray[Any, Any]]]:
    """Item -> class and item -> vector, for the lowest seed; an item is `seed/class/index`."""
    table = tables.read(path, SYNTHETIC_EMBEDDINGS)
    if not table.num_rows:
        return {}, {}
    table = table.filter(pc.equal(table["seed"], pc.min(table["seed"])))
    keys = table.select(["seed", "class_id", "index"]).to_pylist()
    items = [f"{key['seed']}/{key['class_id']}/{key['index']}" for key in keys]
    matrix = tables.to_matrix(table["vector"])
    return (
        {item: key["class_id"] for item, key in zip(items, keys, strict=True)},
        dict(zip(items, matrix, strict=True)),
    )


def _thin(items: Mapping[str, int], budget: int, seed: int, kind: str) -> dict[str, int]:
    """At most ``budget`` items, drawn from the large classes until all classes fit under one ceiling."""
    by_class: dict[int, list[str]] = {}
    for item in sorted(items):
        by_class.setdefault(items[item], []).append(item)
    sizes = np.array([len(members) for members in by_class.values()])
    ceiling = int(sizes.max(initial=0))
    while ceiling > 0 and np.minimum(sizes, ceiling).sum() > budget:
        ceiling -= 1
    chosen = {}
    for class_id, members in sorted(by_class.items()):
        order = np.random.default_rng(derive(seed, "map", kind, class_id)).permutation(len(members))
        chosen.update({members[i]: class_id for i in order[:ceiling]})
    return chosen


def _clip_embeddings(
    shards: Sequence[Path], projected: Path | None, clips: list[str]
) -> dict[str, np.ndarray[Any, Any]]:
    """Mean over the windows of each wanted clip; streams the tables."""
    wanted = set(clips)
    sums: dict[str, np.ndarray[Any, Any]] = {}
    windows: dict[str, int] = {}
    for names, vectors in iter_places(shards, projected):
        for clip, vector in zip(names, vectors, strict=True):
            if clip in wanted:
                sums[clip] = sums.get(clip, 0.0) + vector.astype(np.float64)
                windows[clip] = windows.get(clip, 0) + 1
    lacking = sorted(clip for clip in wanted if clip not in sums)
    if lacking:
        names_of = ", ".join(map(str, shards))
        raise ValueError(f"{names_of}: no embedding of {len(lacking)} clips, for example {lacking[0]!r}")
    return {clip: (total / windows[clip]).astype(np.float32) for clip, total in sums.items()}


def _project(points: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Points [n, dim] in the plane [n, 2]."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(points) < 5:  # too few for neighbourhoods to mean anything; a circle shows them all
        angle = 2 * np.pi * np.arange(len(points)) / max(len(points), 1)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # Length says how loud an embedding network found a clip; classes differ in direction.
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    state = derive(seed, "map") % 2**32
    # One thread: sums over several come out in another order from run to run.
    with threadpool_limits(limits=1):
        reduced = PCA(min(50, *points.shape), svd_solver="full").fit_transform(points)
        tsne = TSNE(
            perplexity=min(_PERPLEXITY, (len(points) - 1) / 3),
            init="pca" if reduced.shape[1] >= 2 else "random",
            learning_rate="auto",
            random_state=state,
        )
        return np.asarray(tsne.fit_transform(reduced.astype(np.float32)))
