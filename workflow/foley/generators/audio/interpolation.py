"""New clips between two: DDIM inversion, spherical interpolation, decoding (study ``interpolation``).

Two clips of one class, cut from different recordings, are taken back to the noise that the deterministic sampler would
have made them from (DDIM with eta 0: Song et al. 2021, section 4.3), interpolated there along the sphere (Shoemake
1985), and sampled. PROTOCOLS.md, section 4: weight 0.5, 100 pairs a class. Encoding and decoding use one set of mel
parameters, those of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foley.generators.audio.mel import Vocoder, root_mean_square
from foley.generators.audio.mel_diffusion import MelDiffusion, make_scheduler
from foley.runtime.seeds import derive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Two clips to interpolate: their row numbers, in the order of the clips."""

    class_id: str
    first: int
    second: int


def draw_pairs(
    classes: Sequence[str], recording_ids: Sequence[str], count: int, seed: int, clip_ids: Sequence[str] = ()
) -> list[Pair]:
    """``count`` pairs of each class, of clips from different recordings, classes in sorted order.

    No pair comes twice before all have come once; where a class has fewer than ``count``, a warning says so. A class's
    pairs depend on its own clips, in their order, and the seed.

    Raises:
        ValueError: a class has clips of one recording only, so it has no pair.
    """
    if len(classes) != len(recording_ids):
        raise ValueError(
            f"{len(classes)} classes and {len(recording_ids)} recording ids: give one of each a clip"
        )
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(classes):
        rows_of.setdefault(name, []).append(row)
    pairs: list[Pair] = []
    for name in sorted(rows_of):
        # Clips of a recording lie together, so a clip's partners are all that come after its recording's end.
        recordings = np.array([recording_ids[row] for row in rows_of[name]], dtype=object)
        _, recording = np.unique(recordings.astype(str), return_inverse=True)
        order = np.argsort(recording, kind="stable")
        end = np.searchsorted(recording[order], recording[order], side="right")
        before = np.concatenate([[0], np.cumsum(len(order) - end)])
        total = int(before[-1])
        if total == 0:
            raise ValueError(
                f"class `{name}` has {len(order)} clips of one recording ({recordings[0]}), so there is no pair of "
                "different recordings; leave the class out or add a recording"
            )
        if total < count:
            log.warning("class `%s` has %d pairs of different recordings, %d are wanted", name, total, count)
        random = np.random.default_rng(derive(seed, "interpolation_pairs", name))
        numbers: list[int] = []
        while len(numbers) < count:
            numbers += random.choice(total, size=min(total, count - len(numbers)), replace=False).tolist()
        for number in numbers:
            first = int(np.searchsorted(before, number, side="right")) - 1
            second = int(end[first]) + number - int(before[first])
            rows = sorted(rows_of[name][int(order[place])] for place in (first, second))
            pairs.append(Pair(name, *rows))
    return pairs


def slerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """Spherical interpolation of each item [N, ...] from ``a`` (weight 0) to ``b`` (1), computed in float64.

    sin((1 - w) t) / sin t * a + sin(w t) / sin t * b, with t the angle between both (Shoemake 1985); the straight line
    where they are parallel, also when opposite, since no arc is then singled out.

    Args:
        weight: one for all, or [N].
    """
    if a.shape != b.shape:
        raise ValueError(
            f"shapes {tuple(a.shape)} and {tuple(b.shape)} differ; interpolate clips of one length"
        )
    x, y = a.double().flatten(1), b.double().flatten(1)
    w = torch.as_tensor(weight, dtype=torch.float64, device=a.device).expand(len(a))[:, None]
    norms = x.norm(dim=1, keepdim=True) * y.norm(dim=1, keepdim=True)
    cosine = ((x * y).sum(1, keepdim=True) / norms.clamp_min(torch.finfo(torch.float64).tiny)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    curved = sine > 1e-6
    safe = torch.where(curved, sine, 1.0)
    of_x = torch.where(curved, torch.sin((1 - w) * angle) / safe, 1 - w)
    of_y = torch.where(curved, torch.sin(w * angle) / safe, w)
    return (of_x * x + of_y * y).view_as(a).to(a.dtype)


class DDIMPath:
    """The deterministic sampler of a model, there and back, with the same steps.

    Args:
        refinements: of each step back. One step back needs the noise predicted where it arrives; 0 takes that of where
            it starts, as published; each refinement predicts it again where the last one arrived (fixed-point
            iteration, Pan et al. 2023), and brings the round trip closer to exact, for one more pass of the network.
    """

    def __init__(self, model: MelDiffusion, steps: int, refinements: int = 0) -> None:
        if refinements < 0:
            raise ValueError(f"refinements must not be negative, not {refinements}")
        model.options.check_sampling("ddim", steps, 1.0)
        self.model = model
        self.refinements = refinements
        # Without clipping: what it cuts off could not be found again.
        self.scheduler = make_scheduler(model.options, "ddim", clip=False)
        self.scheduler.set_timesteps(steps)

    def _step_back(self, step: int) -> tuple[float, float]:
        """(scale, shift) of a step of sampling: x_previous = scale * x + shift * noise (Song et al. 2021, eq. 12)."""
        now, then = self.scheduler.kept(step)
        scale = (then / now) ** 0.5
        return scale, (1 - then) ** 0.5 - scale * (1 - now) ** 0.5

    def invert(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Images [N, 1, M, F] -> the noise that :meth:`decode` makes them from, of the same shape."""
        x = images
        for step in reversed(self.scheduler.timesteps.tolist()):
            scale, shift = self._step_back(step)
            arrived = x
            for _ in range(1 + self.refinements):
                arrived = (x - shift * self.model.predict_noise(arrived, step, labels)) / scale
            x = arrived
        return x

    def decode(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Noise [N, 1, M, F] -> images."""
        x = latents
        for step in self.scheduler.timesteps:
            x = self.scheduler.step(self.model.predict_noise(x, int(step), labels), step, x).prev_sample
        return x


class Diverged(ValueError):
    """The network gives no finite numbers for these ``rows``."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(
            f"pairs {list(rows)}: images with cells that are NaN or infinite; the generator has diverged, train it "
            "anew with a lower learning rate"
        )
        self.rows = list(rows)


@dataclass(frozen=True)
class Interpolated:
    """Clips between two.

    ``audio`` [N, T] float32; ``images`` [N, 1, M, F]; ``round_trip_db`` [N, 2]: of each source, the mean distance in
    dB between its mel image and what inversion and decoding make of it.
    """

    audio: Tensor
    images: Tensor
    round_trip_db: Tensor


@torch.inference_mode()
def interpolate(
    model: MelDiffusion,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    classes: Sequence[str],
    seeds: Sequence[int],
    *,
    sample_rate_hz: int,
    weight: float = 0.5,
    steps: int = 50,
    refinements: int = 0,
    vocoder: Vocoder | None = None,
    batch_size: int | None = None,
) -> Interpolated:
    """A clip between each clip [T_i] of ``first`` and its fellow of ``second``, both of the same class.

    Its loudness is the geometric mean, by ``weight``, of the loudness of its sources, where the mel images keep none.
    The network runs in float32: an inversion adds up its rounding.

    Args:
        seeds: of the vocoder's phases; nothing else is random.

    Raises:
        ValueError: lists of different lengths, an unknown class, or a clip that cannot be used.
        Diverged: images that are not finite; its ``rows`` are their pairs.
    """
    if not len(first) == len(second) == len(classes) == len(seeds):
        raise ValueError(
            f"{len(first)} first and {len(second)} second clips, {len(classes)} classes, {len(seeds)} seeds: not alike"
        )
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie in [0, 1], not {weight}")
    path = DDIMPath(model, steps, refinements)
    labels = model.numbers(classes) if model.is_conditional else None
    sources = [
        model.mel.cut(clips, sample_rate_hz, [f"{number} of the {side} ones" for number in range(len(clips))])
        for clips, side in ((first, "first"), (second, "second"))
    ]

    def run(part: slice) -> Tensor:
        images = torch.cat([model.mel.images(source[part].to(model.device)) for source in sources])
        own = labels[part].to(model.device) if labels is not None else None
        twice = own.repeat(2) if own is not None else None
        a, b = path.invert(images, twice).chunk(2)
        between = path.decode(slerp(a, b, weight), own)
        again = path.decode(torch.cat([a, b]), twice)
        made = torch.cat([between, again]).flatten(1).isfinite().all(dim=1).view(3, -1).all(dim=0)
        if not bool(made.all()):
            raise Diverged([part.start + row for row in (~made).nonzero().squeeze(1).tolist()])
        distance = model.mel.decibels(again) - model.mel.decibels(images)
        error = distance.abs().mean(dim=(1, 2, 3)).view(2, -1).T
        # The two errors travel as columns beside the image, so that one tensor goes through the batching.
        return torch.cat([between.clamp(*model.mel.limits).flatten(1), error], dim=1).cpu()

    # Three images go through the network for each pair.
    out = model.in_batches(run, len(classes), max(1, (batch_size or model.options.sampling_batch) // 2))
    if not len(classes):
        empty = torch.empty(0, *model.mel.shape)
        return Interpolated(torch.empty(0, model.options.mel.samples), empty, torch.empty(0, 2))
    images, errors = out[:, :-2].reshape(-1, *model.mel.shape), out[:, -2:]
    levels = root_mean_square(sources[0]) ** (1 - weight) * root_mean_square(sources[1]) ** weight
    audio = model.audio_of(images, seeds, vocoder=vocoder, levels=levels, batch_size=batch_size)
    log.info(
        "%d clips interpolated; a round trip is off by %.2f dB on average", len(classes), float(errors.mean())
    )
    return Interpolated(audio, images, errors)
