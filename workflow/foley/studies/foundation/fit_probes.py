"""Fit a linear probe on stored embeddings of a mix of real and synthetic clips, all seeds at once.

Embeddings are made once and read by every mix; a probe has no weights to start from, so a seed is that of its draws.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from foley import tables
from foley.studies.audio.clips import named
from foley.studies.audio.splits import TEST, VALIDATION, classes_in, clips_in, read_partition
from foley.studies.audio.training import prediction_rows
from foley.studies.foundation.mix import PUBLISHED, Mix
from foley.studies.foundation.train_mix import MixClips, count_clips
from foley.tables.features import EMBEDDINGS
from foley.tables.foundation import MIX_CLIPS
from foley.tables.scores import PREDICTIONS

log = logging.getLogger(__name__)


def fit_probes(
    predictions: Path,
    counts: Path,
    *,
    mix: Mix,
    protocol: str,
    real: Sequence[Path],
    embedded: Sequence[Path] = (),
    partition: Path,
    synthetic: Sequence[Path] = (),
    choice: Path | None = None,
    prompted: Sequence[Path] = (),
    drop_fraction: float = 0.2,
    options: Any,
    seeds: Sequence[int],
    draw_seed: int,
    labels: Mapping[str, str],
    threads: int = 1,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write PREDICTIONS of validation and of test clips, and MIX_CLIPS.

    Args:
        protocol: which clips choose the L2 penalty: ``clean`` the validation clips, ``published`` the test clips; it
            learns from validation clips, too, and gives no answers for them.
        real, embedded: EMBEDDINGS of the dataset's clips, and of the source's.
        options: of :class:`foley.classifiers.linear_probe.LinearProbe`.
        seeds: of the draws, together with ``draw_seed``.
        labels: dataset, split, method (the mix) and variant, as the table names them.

    Raises:
        ValueError: see :meth:`MixClips.draw`; clips without an embedding, or a split without validation clips.
    """
    import torch

    from foley.classifiers.linear_probe import LinearProbe

    torch.set_num_threads(threads)
    rows = read_partition(partition, labels["split"])
    class_ids = classes_in(rows)
    source = MixClips(rows, synthetic, choice, prompted, drop_fraction, protocol)
    draws = {seed: source.draw(mix, draw_seed + seed) for seed in seeds}
    roles = (TEST,) if protocol == PUBLISHED else (VALIDATION, TEST)
    held_out = {role: clips_in(rows, role) for role in roles}
    if not held_out[roles[0]]:
        raise ValueError(
            f"split {labels['split']} has no validation clips, which choose filters and mixes; use another split"
        )
    class_of = {
        clip_id: class_id
        for part in (*held_out.values(), *(draw.made | draw.real for draw in draws.values()))
        for clip_id, class_id in part.items()
    }
    clip_ids = sorted(class_of)
    vectors = clip_vectors([*real, *embedded], clip_ids)
    row_of = {clip_id: row for row, clip_id in enumerate(clip_ids)}
    number = {class_id: place for place, class_id in enumerate(class_ids)}
    y = torch.tensor([number[class_of[clip_id]] for clip_id in clip_ids])
    x = torch.from_numpy(vectors)
    membership = torch.zeros(len(seeds), len(clip_ids), dtype=torch.bool)
    for row, draw in zip(membership, draws.values(), strict=True):
        row[[row_of[clip_id] for clip_id in (*draw.real, *draw.made)]] = True
    judge = torch.zeros(len(clip_ids), dtype=torch.bool)
    judge[[row_of[clip_id] for clip_id in held_out[roles[0]]]] = True
    probes = LinearProbe(options, len(class_ids)).fit(x, y, membership, judge)
    for seed, strength, count in zip(seeds, probes.strengths.tolist(), membership.sum(1), strict=True):
        log.info("seed %d: %d clips, L2 penalty %g", seed, count, strength)
    answers = []
    for role, clips in held_out.items():
        ids = sorted(clips)
        where = [row_of[clip_id] for clip_id in ids]
        scores = dict(zip(seeds, probes.score(x[where]).cpu(), strict=True))
        answers.append(prediction_rows(scores, ids, y[where].numpy(), class_ids, labels, role))
    tables.write(counts, MIX_CLIPS, count_clips(draws, class_ids, labels), provenance)
    tables.write(predictions, PREDICTIONS, pa.concat_tables(answers), provenance)


def clip_vectors(paths: Sequence[Path], clip_ids: Sequence[str]) -> np.ndarray:
    """One vector a clip, the mean of its windows: [N, D] float32, in the order of ``clip_ids``.

    Raises:
        ValueError: a clip without an embedding, or tables whose vectors differ in length.
    """
    wanted = pa.array(clip_ids)
    order = {clip_id: row for row, clip_id in enumerate(clip_ids)}
    total: np.ndarray | None = None
    counts = np.zeros(len(clip_ids))
    for path in paths:
        table = tables.read(path, EMBEDDINGS, columns=["clip_id", "vector"])
        table = table.filter(pc.is_in(table["clip_id"], wanted))
        if not len(table):
            continue
        column = table["vector"].combine_chunks()
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
        if total is None:
            total = np.zeros((len(clip_ids), vectors.shape[1]))
        if vectors.shape[1] != total.shape[1]:
            raise ValueError(
                f"{path}: vectors of {vectors.shape[1]} numbers, others have {total.shape[1]}: embed all clips with "
                "one encoder"
            )
        at = np.array([order[clip_id] for clip_id in table["clip_id"].to_pylist()])
        np.add.at(total, at, vectors)
        np.add.at(counts, at, 1)
    lacking = [clip_id for clip_id, count in zip(clip_ids, counts, strict=True) if not count]
    if total is None or lacking:
        raise ValueError(
            f"{len(lacking)} clips have no embedding: {named(lacking)}; delete the embeddings so that they are made "
            "again"
        )
    return (total / counts[:, None]).astype(np.float32)
