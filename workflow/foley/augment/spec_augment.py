"""SpecAugment (Park et al. 2019, "SpecAugment: a simple data augmentation method for automatic speech recognition").

Time warping, then bands of mel channels and of frames that are blanked with zero: the mean where features are
standardised, silence where they are powers.

The paper's policies are made for utterances of 80 mel channels and a thousand frames and more. Default is its mild
policy for Switchboard (SM), in which a time mask takes at most 20 % of the frames; here the same bound holds for the
warp, so that the policy suits windows of a second, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foley.augment.protocol import Draws


@dataclass(frozen=True)
class SpecAugmentOptions:
    """The paper's parameters (table 1).

    time_warp: W, frames by which the warped point moves at most. frequency_width: F, mel channels that a mask takes
    at most. frequency_masks, time_masks: how many. time_width: T, frames. max_time_fraction: p, the part of the
    frames that bounds T and W.
    """

    time_warp: int = 40
    frequency_width: int = 15
    frequency_masks: int = 2
    time_width: int = 70
    max_time_fraction: float = 0.2
    time_masks: int = 2

    def __post_init__(self) -> None:
        for name in ("time_warp", "frequency_width", "frequency_masks", "time_width", "time_masks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if not 0 <= self.max_time_fraction <= 1:
            raise ValueError("max_time_fraction must lie in [0, 1]")


class SpecAugment:
    """See the module. Every clip has masks and a warp of its own."""

    Options = SpecAugmentOptions

    def __init__(self, options: SpecAugmentOptions | None = None) -> None:
        self.options = options if options is not None else SpecAugmentOptions()

    def change_features(self, features: Tensor, draws: Draws) -> Tensor:
        """[B, frames, mels] -> the same shape."""
        o = self.options
        frames, mels = features.shape[1:]
        most = int(o.max_time_fraction * frames)
        numbers = draws.streams("spec_augment").uniform(2 + 2 * (o.frequency_masks + o.time_masks))
        u = numbers.to(features.device)
        out = _warp(features, u[:, 0], u[:, 1], min(o.time_warp, most))
        bands = u[:, 2:].unflatten(1, (-1, 2)) if u.shape[1] > 2 else u.new_empty(len(u), 0, 2)
        blank = _masks(bands[:, : o.frequency_masks], mels, min(o.frequency_width, mels)).unsqueeze(1)
        blank = blank | _masks(bands[:, o.frequency_masks :], frames, min(o.time_width, most)).unsqueeze(2)
        return out.masked_fill(blank, 0.0)


def _masks(u: Tensor, size: int, most: int) -> Tensor:
    """Uniform numbers [B, masks, 2] -> cells that the masks take [B, size].

    Width uniform in 0 ... ``most``, then start uniform in 0 ... size - width (section 2 of the paper).
    """
    width = (u[..., :1] * (most + 1)).floor()
    start = (u[..., 1:] * (size - width + 1)).floor()
    cells = torch.arange(size, device=u.device)
    return ((cells >= start) & (cells < start + width)).any(dim=1)


def _warp(features: Tensor, where: Tensor, by: Tensor, most: int) -> Tensor:
    """Move one frame of each clip along time by up to ``most`` frames; both ends stay.

    The paper warps the spectrogram as an image (TensorFlow's sparse_image_warp, six points of its edge fixed); with
    one point that moves along one axis this is two linear pieces, with linear interpolation between frames.
    """
    frames = features.shape[1]
    # A warped point needs `most` frames on either side.
    if most < 1 or frames < 2 * most + 3:
        return features.clone()
    source = most + 1 + (where * (frames - 2 * most - 2)).floor()
    target = source + ((by * (2 * most + 1)).floor() - most)
    last = frames - 1
    at = torch.arange(frames, device=features.device, dtype=features.dtype)
    source, target = source.unsqueeze(1), target.unsqueeze(1)
    left = at * source / target
    right = source + (at - target) * (last - source) / (last - target)
    position = torch.where(at <= target, left, right).clamp(0, last)
    lower = position.floor().clamp(max=last - 1)
    part = (position - lower).unsqueeze(2)
    index = lower.long().unsqueeze(2).expand(-1, -1, features.shape[2])
    return torch.lerp(features.gather(1, index), features.gather(1, index + 1), part)
