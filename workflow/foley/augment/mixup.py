"""mixup (Zhang et al. 2018, "mixup: beyond empirical risk minimization", equation 2).

x = λ x_i + (1 - λ) x_j, and the same for the class probabilities; λ from Beta(α, α) for each clip. As in the paper's
experiments on speech commands, spectrograms are mixed just before the network, and partners come from the same batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import betaincinv
from torch import Tensor

from foley.augment.protocol import Draws


@dataclass(frozen=True)
class MixupOptions:
    """``alpha``: of the beta distribution; small values leave most clips nearly as they are."""

    alpha: float = 0.2

    def __post_init__(self) -> None:
        if self.alpha <= 0:
            raise ValueError("alpha must be positive")


class Mixup:
    """See the module."""

    Options = MixupOptions

    def __init__(self, options: MixupOptions | None = None) -> None:
        self.options = options if options is not None else MixupOptions()

    def change_batch(self, features: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """[B, ...] and class probabilities [B, C] -> the same shapes.

        A clip's partner depends on which clips are in the batch, not on their places there.
        """
        u = draws.streams("mixup").uniform(2).double()
        # By the distribution's inverse, one number makes one λ.
        weight = torch.from_numpy(betaincinv(self.options.alpha, self.options.alpha, u[:, 0].numpy()))
        partners = torch.tensor(_partners(u[:, 1].tolist(), draws), device=features.device)
        weight = weight.to(features.device, features.dtype)
        return _mix(features, partners, weight), _mix(targets, partners, weight)


def _partners(keys: list[float], draws: Draws) -> list[int]:
    """For each row the one that follows it, in a random order of clips that knows nothing of the rows."""
    order = sorted(range(len(keys)), key=lambda row: (keys[row], draws.clip_ids[row], draws.visits[row]))
    partners = [0] * len(keys)
    for row, partner in zip(order, order[1:] + order[:1], strict=True):
        partners[row] = partner
    return partners


def _mix(values: Tensor, partners: Tensor, weight: Tensor) -> Tensor:
    return torch.lerp(values[partners], values, weight.view(-1, *[1] * (values.dim() - 1)))
