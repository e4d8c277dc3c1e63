"""Stored chunks of frames (FRAMES) as models read them: packed in memory, unpacked batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from foley import tables
from foley.features.frames import Storage, row_bytes, unpack


@dataclass(frozen=True)
class FrameFacts:
    """How the frames of a feature are stored (provenance of FRAMES)."""

    dim: int
    chunk_frames: int
    storage: Storage
    standardise: bool


@dataclass(frozen=True)
class Chunks:
    """Chunks of clips, ordered by clip and number.

    Attributes:
        clip_ids: [N] clip of each chunk.
        windows: [N] its number in the clip.
        frames: [N] frames that it has; the rest is padding.
        packed: [N, chunk_frames, row_bytes] uint8.
    """

    clip_ids: np.ndarray
    windows: np.ndarray
    frames: np.ndarray
    packed: np.ndarray
    facts: FrameFacts

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def shares(self) -> np.ndarray:
        """Share of each chunk that is real [N]: 1 but for the last one of a clip."""
        return self.frames / self.facts.chunk_frames

    def take(self, rows: Tensor | np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Some chunks: frames [B, T, dim] float32 and which of them are real [B, T]; T is the longest chunk's."""
        chosen = np.asarray(rows)
        counts = self.frames[chosen]
        longest = int(counts.max())
        packed = torch.from_numpy(self.packed[chosen, :longest])
        x = unpack(packed.to(device, non_blocking=True), self.facts.dim, self.facts.storage)
        valid = torch.arange(longest)[None] < torch.from_numpy(counts)[:, None]
        return x, valid.to(device)

    def of_clips(self, clip_ids: Collection[str]) -> np.ndarray:
        """Row numbers of the chunks of some clips, ascending."""
        wanted = frozenset(clip_ids)
        return np.flatnonzero([clip_id in wanted for clip_id in self.clip_ids])

    def only(self, rows: np.ndarray) -> Chunks:
        """Some of the chunks, in that order."""
        return Chunks(
            self.clip_ids[rows], self.windows[rows], self.frames[rows], self.packed[rows], self.facts
        )


def frame_facts(path: Path) -> FrameFacts:
    """How the frames of a FRAMES table are stored.

    Raises:
        ValueError: the file does not say; names it.
    """
    stored = tables.provenance(path)
    try:
        return FrameFacts(
            int(stored["dim"]), int(stored["chunk_frames"]), stored["storage"], bool(stored["standardise"])
        )
    except KeyError as error:
        raise ValueError(
            f"{path} does not say how its frames are stored ({error} is missing); delete it so that it is made again"
        ) from None


def read_chunks(paths: Sequence[Path], keep: Collection[str]) -> Chunks:
    """The chunks of some clips from the shards of one feature; their order does not depend on the shards.

    Memory holds them packed, once. Clips are looked up in all shards.

    Raises:
        ValueError: shards that are stored differently, a clip in two of them, or a clip in none; names it.
    """
    facts = frame_facts(paths[0])
    wanted = frozenset(keep)
    heads = []
    for path in paths:
        if frame_facts(path) != facts:
            raise ValueError(
                f"{path} is stored in another way than {paths[0]}; delete both, so that they are made"
            )
        heads.append(tables.read(path, columns=["clip_id", "window", "frames"]))
    clip_ids = np.array([c for head in heads for c in head["clip_id"].to_pylist()], dtype=object)
    windows = np.concatenate([head["window"].to_numpy() for head in heads])
    frames = np.concatenate([head["frames"].to_numpy() for head in heads])
    chosen = np.flatnonzero([c in wanted for c in clip_ids])
    order = chosen[np.lexsort((windows[chosen], clip_ids[chosen].astype(str)))]
    lacking = sorted(wanted - set(clip_ids[chosen]))
    if lacking:
        raise ValueError(
            f"{len(lacking)} clips have no frames in {paths[0].parent}, for example `{lacking[0]}`; delete the folder "
            "so that they are made again"
        )
    place = np.full(len(clip_ids), -1)
    place[order] = np.arange(len(order))
    if len(order) > 1:
        same = (clip_ids[order][1:] == clip_ids[order][:-1]) & (windows[order][1:] == windows[order][:-1])
        if same.any():
            raise ValueError(f"clip `{clip_ids[order][1:][same][0]}` is in two shards of {paths[0].parent}")
    width = row_bytes(facts.dim, facts.storage)
    packed = np.zeros((len(order), facts.chunk_frames, width), dtype=np.uint8)
    row = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                values = file.read_row_group(group, columns=["values"])["values"]
                targets = place[row : row + len(values)]
                row += len(values)
                for number in np.flatnonzero(targets >= 0).tolist():
                    own = np.frombuffer(values[number].as_buffer(), dtype=np.uint8)
                    packed[targets[number], : len(own) // width] = own.reshape(-1, width)
    return Chunks(clip_ids[order], windows[order], frames[order], packed, facts)


def align(parts: Sequence[Chunks]) -> list[Chunks]:
    """Several features of the same clips, chunk by chunk: those that all of them have, in one order.

    Rates that do not divide one another may leave a clip with a chunk more in one feature than in another.

    Raises:
        ValueError: a clip that has no chunk in common.
    """
    keys = [list(zip(part.clip_ids.tolist(), part.windows.tolist(), strict=True)) for part in parts]
    common = set(keys[0]).intersection(*map(set, keys[1:]))
    lost = set(parts[0].clip_ids.tolist()) - {clip_id for clip_id, _ in common}
    if lost:
        raise ValueError(f"clip `{sorted(lost)[0]}` has no chunk that all features share; extract them again")
    return [
        part.only(np.flatnonzero([key in common for key in own]))
        for part, own in zip(parts, keys, strict=True)
    ]
