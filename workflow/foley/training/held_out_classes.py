"""Seen classes that play unseen ones in turn: what is chosen by them was chosen without an unseen class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from foley.runtime.seeds import derive


@dataclass(frozen=True)
class HeldOutClasses:
    """One part of the classes is held out, the others are kept.

    ``out`` [C] marks the classes; ``held`` [N] marks their clips. ``kept_rows`` [N kept] and ``held_rows`` [N held]
    are the clips' classes, numbered among the classes kept and among those held out.
    """

    out: Tensor
    held: Tensor
    kept_rows: Tensor
    held_rows: Tensor


def part_count(classes: int, held_out: int) -> int:
    """Parts of about ``held_out`` classes each; two at least."""
    return max(2, classes // held_out)


def hold_out_classes(
    rows: Tensor, classes: int, *, held_out: int, groupings: int, name: str
) -> Iterator[HeldOutClasses]:
    """Each class is held out once in each of ``groupings``, in company that a stream called ``name`` draws.

    Args:
        rows: class of each clip [N], below ``classes``.
    """
    parts = part_count(classes, held_out)
    for grouping in range(groupings):
        stream = torch.Generator().manual_seed(derive(0, name, grouping))
        of_class = torch.randperm(classes, generator=stream).to(rows.device) % parts
        for part in range(parts):
            out = of_class == part
            held = out[rows]
            renumbered = torch.where(out, out.cumsum(0), (~out).cumsum(0)) - 1
            yield HeldOutClasses(out, held, renumbered[rows[~held]], renumbered[rows[held]])


def class_means(x: Tensor, classes: Tensor, count: int) -> Tensor:
    """Rows [N, D] or [S, N, D] of classes [N] -> means [count, D] or [S, count, D]; zero for a class without rows."""
    sums = x.new_zeros(*x.shape[:-2], count, x.shape[-1]).index_add_(-2, classes, x)
    return sums / torch.bincount(classes, minlength=count).clamp(min=1).unsqueeze(1)
