"""Seeds: every random stream of the house is derived here, from a seed and the names of what it is for."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called ``names``, the same on every platform and Python version."""
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class SeedStreams:
    """One independent random stream per seed, drawn side by side: the seeds of a batched model.

    The numbers of one seed do not depend on which other seeds share the batch, so that a model trained with
    others is the model trained alone.
    """

    def __init__(self, seeds: list[int], *names: object) -> None:
        import torch

        self._torch = torch
        self.seeds = list(seeds)
        self.generators = [torch.Generator().manual_seed(derive(seed, *names)) for seed in seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal numbers [seeds, *shape]."""
        out = self._torch.empty(len(self.generators), *shape)
        for part, generator in zip(out, self.generators, strict=True):
            part.normal_(generator=generator)
        return out

    def normal_rows(self, count: int, size: int) -> torch.Tensor:
        """Standard normal numbers [seeds, count, size] of which the first n rows of many are n rows.

        Not so those of :meth:`normal`: torch draws the last 16 numbers of a tensor anew where their number is no
        multiple of 16. So rows are added until it is one, and dropped again.
        """
        rows = 16 // math.gcd(16, max(1, size))
        out = self._torch.empty(len(self.generators), -(-count // rows) * rows, size)
        for part, generator in zip(out, self.generators, strict=True):
            part.normal_(generator=generator)
        return out[:, :count]

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers uniform in [0, 1) [seeds, *shape]."""
        out = self._torch.empty(len(self.generators), *shape)
        for part, generator in zip(out, self.generators, strict=True):
            part.uniform_(generator=generator)
        return out

    def integers(self, high: int, *shape: int) -> torch.Tensor:
        """Integers uniform in [0, high) [seeds, *shape]."""
        return self._torch.stack(
            [self._torch.randint(high, shape, generator=generator) for generator in self.generators]
        )

    def permutations(self, n: int) -> torch.Tensor:
        """A random order of ``n`` things for each seed [seeds, n]."""
        return self._torch.stack(
            [self._torch.randperm(n, generator=generator) for generator in self.generators]
        )
