"""Vectors with classes: all of them together, then each class for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from foley.metrics.vector_sets import Vectors
from foley.training.loop import choose_device


def on_device(vectors: Vectors, device: torch.device | None = None) -> Tensor:
    """Vectors as float64 where metrics are computed: on a leased GPU when there is one."""
    return torch.as_tensor(vectors).to(choose_device() if device is None else device, torch.float64)


# A class (None: all) and its rows in each of the sets.
Group: TypeAlias = tuple[int | None, tuple[np.ndarray, ...]]


def everything(*counts: int) -> Iterator[Group]:
    """Sets of so many vectors, without classes -> one group with all rows."""
    yield None, tuple(np.arange(count) for count in counts)


def row_groups(*classes: np.ndarray) -> Iterator[Group]:
    """Class ids [N_i] of one or several sets -> (class, its rows in each set); first None with all rows.

    A class that only one of the sets has is among them, with no rows in the others.
    """
    sets = [np.asarray(part) for part in classes]
    yield from everything(*map(len, sets))
    for class_id in np.unique(np.concatenate(sets)):
        yield int(class_id), tuple(np.flatnonzero(part == class_id) for part in sets)


def check_length(vectors: Vectors, labels: np.ndarray | None, name: str) -> None:
    """Raises ValueError unless there is one label for each vector."""
    if labels is not None and len(labels) != len(vectors):
        raise ValueError(f"{len(vectors)} {name} vectors, but {len(labels)} labels for them; give one each")
