"""Class-conditional diffusion on mel images: diffusers' ``UNet2DModel`` and schedulers.

The defaults are the study's (PROTOCOLS.md, section 3): channels 128-128-256-256-512-512, attention at one level, class
embedding added to the time embedding, DDPM with 1,000 steps (Ho et al. 2020), AdamW 1e-4 (0.95, 0.999), cosine
schedule with 500 warm-up steps, batch 16, 100 epochs, EMA. Weight decay, gradient clipping and the EMA's warm-up are
those of the audio-diffusion trainer. Not published: the class is left out of one training clip in ten, so that
samples can be guided (Ho & Salimans 2022); a guidance scale of 1 is the plain conditional model.

In several processes (``foley.training.processes``) each takes its share of every batch; gradients are added up once all
have theirs, so that one that ran out of memory may cut its share into more parts than the others. Batches and noise are
those of one process, so the weights are as well, up to rounding (with ``dropout``, each draws its own).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foley.generators.audio.mel import MelOptions, MelTransform, Vocoder
from foley.generators.audio.protocol import LabelledClips
from foley.options import ConfigError, did_you_mean, parse_options
from foley.runtime.seeds import SeedStreams, derive
from foley.tables import atomic_file
from foley.training.checkpoint import Checkpoint
from foley.training.loop import History, NonFiniteLoss, Precision, autocast_dtype, choose_device, fit
from foley.training.processes import current

log = logging.getLogger(__name__)

Attention = Literal["one_level", "none", "published_none"]
Sampler = Literal["ddpm", "ddim", "dpm_solver"]

# What a saved model is described by, beside diffusers' own files.
DESCRIPTION = "foley.json"
# The published network with Adam's moments and its average is 1.8 GB: writing it takes seconds.
CHECKPOINT_EVERY_S = 120.0


@dataclass(frozen=True)
class MelDiffusionOptions:
    """Network, training and sampling.

    Args:
        loss: L1 or L2 between what is predicted and its true value.
        prediction: what the network predicts: the ``noise`` (published), or the ``velocity`` sqrt(a) noise - sqrt(1 -
            a) image (Salimans & Ho 2022), a being the cumulative product of 1 - beta. Where there is almost only noise,
            predicting it says next to nothing of the image, so the class is learnt late; velocity learns it at once.
        attention: ``one_level`` has it in the last level but one and in the middle block. ``none`` has nowhere any, at
            equal depth. ``published_none`` is the study's form, confounded with depth: the level with attention is
            taken out whole, and the middle block keeps its own.
        channels: of each resolution level; the image is halved between them.
        ema_decay: greatest decay of the moving average of weights; 0 keeps the last weights.
        ema_power: its decay at step n is 1 - n^-power until then (n from 1).
        class_dropout: share of training clips whose class is withheld; 0 leaves no unconditional model to guide by.
        batch_size: clips of a step, of all processes together.
        accumulation: parts that a process cuts its share of a batch into, one after the other, to save memory.
        compile_network: ``torch.compile`` the network (worth it on CUDA and for long trainings only).
        guidance: scale of classifier-free guidance; 1 is the conditional model.
        sampling_steps: of ``ddim`` and ``dpm_solver``; ``ddpm`` takes all ``train_steps``.
        sampling_batch: clips sampled at once.
    """

    mel: MelOptions = field(default_factory=MelOptions)
    loss: Literal["l1", "l2"] = "l2"
    prediction: Literal["noise", "velocity"] = "noise"
    attention: Attention = "one_level"
    channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    attention_head_dim: int = 8
    dropout: float = 0.0
    train_steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    epochs: int = 100
    batch_size: int = 16
    accumulation: int = 1
    learning_rate: float = 1e-4
    beta1: float = 0.95
    beta2: float = 0.999
    weight_decay: float = 1e-6
    warm_up_steps: int = 500
    max_grad_norm: float = 1.0
    ema_decay: float = 0.9999
    ema_power: float = 0.75
    class_dropout: float = 0.1
    precision: Precision = "auto"
    compile_network: bool = False
    sampler: Sampler = "ddim"
    sampling_steps: int = 50
    guidance: float = 1.0
    sampling_batch: int = 64

    def __post_init__(self) -> None:
        if self.loss not in ("l1", "l2") or self.attention not in ("one_level", "none", "published_none"):
            raise ValueError("loss must be `l1` or `l2`, attention `one_level`, `none` or `published_none`")
        if self.prediction not in ("noise", "velocity"):
            raise ValueError(f"prediction must be `noise` or `velocity`, not {self.prediction!r}")
        if len(self.channels) < 3:
            raise ValueError(
                f"channels {self.channels}: at least 3 levels, since the last but one has attention"
            )
        if any(c < 1 or c % self.norm_groups or c % self.attention_head_dim for c in self.channels):
            raise ValueError(
                f"channels {self.channels} must be multiples of norm_groups {self.norm_groups} and of "
                f"attention_head_dim {self.attention_head_dim}"
            )
        factor = 2 ** (len(self.channels) - 1)
        if self.mel.n_mels % factor or self.mel.frames % factor:
            raise ValueError(
                f"{len(self.channels)} levels halve the image {len(self.channels) - 1} times: n_mels "
                f"{self.mel.n_mels} and frames {self.mel.frames} must be multiples of {factor}"
            )
        if min(self.epochs, self.batch_size, self.layers_per_block, self.sampling_batch) < 1:
            raise ValueError("epochs, batch_size, layers_per_block and sampling_batch must be at least 1")
        if not 1 <= self.accumulation <= self.batch_size:
            raise ValueError(f"accumulation must lie between 1 and batch_size {self.batch_size}")
        if (
            self.learning_rate <= 0
            or self.max_grad_norm <= 0
            or self.warm_up_steps < 0
            or self.ema_power <= 0
        ):
            raise ValueError(
                "learning_rate, max_grad_norm and ema_power must be positive, warm_up_steps not negative"
            )
        if not all(0 <= p < 1 for p in (self.dropout, self.class_dropout, self.ema_decay)):
            raise ValueError("dropout, class_dropout and ema_decay must lie in [0, 1)")
        if self.train_steps < 2 or not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError("train_steps must be at least 2, and 0 < beta_start <= beta_end < 1")
        self.check_sampling(self.sampler, self.sampling_steps, self.guidance)

    def check_sampling(self, sampler: str, steps: int, guidance: float) -> None:
        """Raises ValueError for settings that such a model cannot sample with."""
        if sampler not in ("ddpm", "ddim", "dpm_solver"):
            raise ValueError(f"unknown sampler {sampler!r}; take `ddpm`, `ddim` or `dpm_solver`")
        if not 1 <= steps <= self.train_steps:
            raise ValueError(f"steps {steps} must lie between 1 and train_steps {self.train_steps}")
        if not math.isfinite(guidance) or guidance < 0:
            raise ValueError(f"guidance must be a finite number from 0 on, not {guidance}")
        if guidance != 1 and self.class_dropout == 0:
            raise ValueError(
                f"guidance {guidance} needs an unconditional model: train with class_dropout above 0, or take 1"
            )


def build_unet(options: MelDiffusionOptions, classes: int) -> nn.Module:
    """The network, with random weights from torch's global stream; class ``classes`` (one past the last) is none."""
    from diffusers import UNet2DModel

    channels, attended = list(options.channels), len(options.channels) - 2
    if options.attention == "published_none":
        del channels[attended]
    levels = len(channels)
    with_attention = {attended} if options.attention == "one_level" else set()
    network: Any = UNet2DModel(
        sample_size=(options.mel.n_mels, options.mel.frames),
        in_channels=1,
        out_channels=1,
        block_out_channels=tuple(channels),
        down_block_types=tuple(
            "AttnDownBlock2D" if n in with_attention else "DownBlock2D" for n in range(levels)
        ),
        up_block_types=tuple(
            "AttnUpBlock2D" if n in with_attention else "UpBlock2D" for n in reversed(range(levels))
        ),
        add_attention=options.attention != "none",
        layers_per_block=options.layers_per_block,
        norm_num_groups=options.norm_groups,
        attention_head_dim=options.attention_head_dim,
        dropout=options.dropout,
        num_class_embeds=classes + 1,
    )
    return network


def make_scheduler(options: MelDiffusionOptions, sampler: Sampler, *, clip: bool = True) -> Any:
    """The sampler's scheduler of diffusers.

    Steps are spaced from the very last one on (``trailing``, Lin et al. 2023): sampling starts with pure noise.

    Args:
        clip: hold the predicted image in [-1, 1] at each step. DDIM inversion needs it off; DPM-Solver++ has none.
    """
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    common: dict[str, Any] = {
        "num_train_timesteps": options.train_steps,
        "beta_start": options.beta_start,
        "beta_end": options.beta_end,
        "beta_schedule": "linear",
        "timestep_spacing": "trailing",
    }
    if sampler == "ddpm":
        return DDPMScheduler(**common, clip_sample=clip)
    if sampler == "ddim":
        return _joined_ddim()(**common, clip_sample=clip)
    return DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++")


@cache
def _joined_ddim() -> type:
    """diffusers' DDIM (eta 0), whose steps join up for every number of them.

    Its own goes back by the whole part of train_steps / steps from each step, wherever the next one lies, and so leaves
    noise behind where that is no whole number.
    """
    from diffusers import DDIMScheduler

    base: Any = DDIMScheduler

    class JoinedDDIM(base):
        def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
            trained = self.config.num_train_timesteps
            ends = [round(trained * n / num_inference_steps) for n in range(num_inference_steps, 0, -1)]
            self.num_inference_steps = num_inference_steps
            self.timesteps = torch.tensor(ends, device=device) - 1
            self._next = dict(zip(self.timesteps.tolist(), [*self.timesteps.tolist()[1:], -1], strict=True))

        def kept(self, step: int) -> tuple[float, float]:
            """Share of the image's power at a step, and where it leads (Song et al. 2021, eq. 12)."""
            after = self._next[int(step)]
            then = self.alphas_cumprod[after] if after >= 0 else self.final_alpha_cumprod
            return float(self.alphas_cumprod[int(step)]), float(then)

        def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **_: Any) -> Any:
            now, then = self.kept(timestep)
            image = (sample - (1 - now) ** 0.5 * model_output) / now**0.5
            if self.config.clip_sample:
                image = image.clamp(-1, 1)
            return SimpleNamespace(prev_sample=then**0.5 * image + (1 - then) ** 0.5 * model_output)

    return JoinedDDIM


class WarmUpAndAverage:
    """What happens after each optimiser step: the learning rate's schedule, and the moving average of weights (EMA).

    It stands in for a scheduler in the training loop, which steps it after each batch and keeps its state in the
    checkpoint. After step n (from 1) the average moves by 1 - d_n towards the weights, d_n = min(decay, 1 - n^-power);
    so it starts as the weights after the first step.
    """

    def __init__(
        self, schedule: torch.optim.lr_scheduler.LRScheduler, network: nn.Module, decay: float, power: float
    ) -> None:
        self.schedule = schedule
        self.parameters: list[Tensor] = list(network.parameters())
        self.decay, self.power = decay, power
        self.steps = 0
        self.average = [p.detach().clone() for p in self.parameters] if decay else []

    def decay_at(self, step: int) -> float:
        return min(self.decay, 1 - step**-self.power)

    @torch.no_grad()
    def step(self) -> None:
        self.schedule.step()
        self.steps += 1
        if self.average:
            torch._foreach_lerp_(self.average, self.parameters, 1 - self.decay_at(self.steps))

    def state_dict(self) -> dict[str, Any]:
        return {"schedule": self.schedule.state_dict(), "steps": self.steps, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.schedule.load_state_dict(state["schedule"])
        self.steps = int(state["steps"])
        for own, saved in zip(self.average, state["average"], strict=True):
            own.copy_(saved)

    @torch.no_grad()
    def keep_average(self) -> None:
        """Put the average in the network's place; training is over."""
        for parameter, average in zip(self.parameters, self.average, strict=False):
            parameter.copy_(average)


@dataclass
class _Batch:
    """What a process has of a batch of ``size`` clips: row numbers, and of each its step, noise and class number."""

    number: int
    size: int
    rows: Tensor
    steps: Tensor
    noise: Tensor
    labels: Tensor


class MelDiffusion:
    """See the module. ``history`` says how the training went.

    Args:
        seed: of the initial weights, the order, the noise and the dropped classes of the training.
    """

    Options: ClassVar[type] = MelDiffusionOptions
    name = "mel_diffusion"

    def __init__(self, options: MelDiffusionOptions, seed: int) -> None:
        self.options = options
        self.seed = seed
        self.device = choose_device()
        self.mel = MelTransform(options.mel).to(self.device)
        self.network: nn.Module | None = None
        self.history = History()
        self._class_ids: tuple[str, ...] = ()

    @property
    def sample_rate_hz(self) -> int:
        return self.options.mel.sample_rate_hz

    @property
    def class_ids(self) -> tuple[str, ...]:
        return self._class_ids

    @property
    def is_conditional(self) -> bool:
        """A checkpoint from elsewhere may know no classes."""
        return bool(self._class_ids)

    @property
    def trained(self) -> nn.Module:
        if self.network is None:
            raise RuntimeError("fit() or load() first")
        return self.network

    def begin(self, class_ids: Sequence[str]) -> nn.Module:
        """A network with random weights for ``class_ids``; the seed decides them."""
        self._class_ids = tuple(class_ids)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, self.name, "initialise"))
            self.network = build_unet(self.options, len(self._class_ids)).to(self.device)
        return self.network

    def fit(self, data: LabelledClips, *, checkpoint: Checkpoint | None = None) -> None:
        """Train on the first seconds of each clip; the classes are those of ``data``, sorted.

        Raises:
            ValueError: a clip cannot be used; names it.
            NonFiniteLoss: with the ids of the clips in the batch.
        """
        audio = self.mel.cut(data.waveforms, data.sample_rate_hz, data.clip_ids)
        images = torch.cat([self.mel.images(part.to(self.device)) for part in audio.split(256)])
        self.fit_images(images, data.classes, data.clip_ids, checkpoint=checkpoint)

    def fit_images(
        self,
        images: Tensor,
        classes: Sequence[str],
        clip_ids: Sequence[str],
        *,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Train on mel images [N, 1, n_mels, frames] of ``classes`` [N]."""
        o = self.options
        class_ids = tuple(sorted(set(classes)))
        network = self.begin(class_ids)
        images, labels = images.to(self.device), self.numbers(classes)
        scheduler = make_scheduler(o, "ddpm")
        optimiser = torch.optim.AdamW(
            network.parameters(),
            lr=o.learning_rate,
            betas=(o.beta1, o.beta2),
            weight_decay=o.weight_decay,
            fused=True,
        )
        from diffusers.optimization import get_cosine_schedule_with_warmup

        total = o.epochs * -(-len(images) // o.batch_size)
        after_step = WarmUpAndAverage(
            get_cosine_schedule_with_warmup(optimiser, o.warm_up_steps, total),
            network,
            o.ema_decay,
            o.ema_power,
        )
        forward = torch.compile(network) if o.compile_network else network
        autocast = autocast_dtype(o.precision, self.device)
        parameters = list(network.parameters())
        parts = o.accumulation
        group = current()
        # The first batch of the epoch whose loss is not finite; on the device, so that nothing waits for it.
        never = torch.iinfo(torch.int64).max
        first_bad = torch.full((), never, device=self.device)
        now: tuple[int, int] = (0, 0)

        def batches(epoch: int) -> Iterator[_Batch]:
            nonlocal now
            first_bad.fill_(never)
            if group.size > 1:
                # What the network itself draws (dropout), or all would leave out the same cells.
                torch.manual_seed(derive(self.seed, self.name, "epoch", epoch, "process", group.rank))
            streams = SeedStreams([self.seed], self.name, "epoch", epoch)
            for number, rows in enumerate(streams.permutations(len(images))[0].split(o.batch_size)):
                count = len(rows)
                steps, noise = (
                    streams.integers(o.train_steps, count)[0],
                    streams.normal(count, *self.mel.shape)[0],
                )
                withheld = streams.uniform(count)[0] < o.class_dropout
                wanted = torch.where(withheld, len(class_ids), labels[rows])
                now = epoch, number
                own = group.share(count)
                device_side = (
                    t[own].to(self.device, non_blocking=True) for t in (rows, steps, noise, wanted)
                )
                yield _Batch(number, count, *device_side)

        def part_of_loss(batch: _Batch, part: slice) -> Tensor:
            noise, steps = batch.noise[part], batch.steps[part]
            clean = images[batch.rows[part]]
            noisy = scheduler.add_noise(clean, noise, steps)
            wanted = noise if o.prediction == "noise" else scheduler.get_velocity(clean, noise, steps)
            predicted = forward(noisy, steps, class_labels=batch.labels[part]).sample.float()
            distance = functional.l1_loss if o.loss == "l1" else functional.mse_loss
            return distance(predicted, wanted) * (len(noise) / batch.size)

        def loss(batch: _Batch) -> Tensor:
            nonlocal parts
            while True:
                try:
                    total_loss = torch.zeros((), device=self.device)
                    size = -(-len(batch.rows) // parts)
                    for start in range(0, len(batch.rows), max(size, 1)):
                        value = part_of_loss(batch, slice(start, start + size))
                        with torch.autocast(self.device.type, enabled=False):
                            value.backward()
                        total_loss += value.detach()
                    break
                except torch.OutOfMemoryError:
                    if parts >= len(batch.rows):
                        raise
                    network.zero_grad(set_to_none=True)
                parts = min(2 * parts, len(batch.rows))
                log.warning("%s: out of memory; a batch is now taken in %d parts", self.name, parts)
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
            if group.size > 1:
                for parameter in parameters:
                    if parameter.grad is None:  # of a process without a share of a small batch
                        parameter.grad = torch.zeros_like(parameter)
                group.add_up([*(p.grad for p in parameters if p.grad is not None), total_loss])
            bad = torch.where(torch.isfinite(total_loss), never, batch.number)
            torch.minimum(first_bad, bad, out=first_bad)
            # The gradients are there already, part by part; what the loop does with this adds nothing to them.
            return total_loss + 0 * parameters[0].sum()

        def clip(parameters: Sequence[nn.Parameter]) -> None:
            nn.utils.clip_grad_norm_(parameters, o.max_grad_norm)

        started = time.monotonic()
        try:
            self.history = fit(
                network, optimiser, batches=batches, loss=loss, epochs=o.epochs, seed=self.seed,
                scheduler=after_step,  # type: ignore[arg-type]
                before_step=clip, autocast=autocast, checkpoint=checkpoint,
                checkpoint_every_s=CHECKPOINT_EVERY_S, name=self.name,
            )  # fmt: skip
        except NonFiniteLoss as error:
            epoch, number = now[0], min(int(first_bad), now[1])
            order = SeedStreams([self.seed], self.name, "epoch", epoch).permutations(len(images))[0]
            rows = order[number * o.batch_size : (number + 1) * o.batch_size].tolist()
            raise NonFiniteLoss(
                f"{error}. The first such batch, number {number}, has the clips {', '.join(clip_ids[r] for r in rows)}"
            ) from None
        after_step.keep_average()
        if group.size > 1 and not group.agree(
            float(sum(p.detach().double().sum() for p in parameters)).hex()
        ):
            raise RuntimeError(f"{self.name}: the processes hold different weights; train anew on one device")
        network.eval()
        seconds = time.monotonic() - started
        log.info("%s: %d clips, at most %d steps in %.1f s", self.name, len(images), total, seconds)

    def numbers(self, classes: Sequence[str]) -> Tensor:
        """Class ids -> the network's class numbers [N].

        Raises:
            ValueError: a class that the model has not learnt.
        """
        known = {name: number for number, name in enumerate(self._class_ids)}
        for name in classes:
            if name not in known:
                raise ValueError(f"the model has not learnt class `{name}`; {did_you_mean(str(name), known)}")
        return torch.tensor([known[name] for name in classes], dtype=torch.int64)

    def predict_noise(
        self, x: Tensor, step: int | Tensor, labels: Tensor | None, guidance: float = 1.0
    ) -> Tensor:
        """Noisy images [N, 1, M, F] at one step -> their noise, guided away from the unconditional prediction.

        eps(x, none) + guidance * (eps(x, class) - eps(x, none)) (Ho & Salimans 2022, with guidance = 1 + w).

        Args:
            labels: class numbers [N]; None for a model without classes.
        """
        network = self.trained
        if labels is None:
            predicted = network(x, step).sample
        elif guidance == 1:
            predicted = network(x, step, class_labels=labels).sample
        else:
            none = torch.full_like(labels, len(self._class_ids))
            both = network(torch.cat([x, x]), step, class_labels=torch.cat([labels, none])).sample
            of_class, of_none = both.chunk(2)
            predicted = of_none + guidance * (of_class - of_none)
        if self.options.prediction == "noise":
            return predicted
        kept = self._alphas_cumprod[step].view(-1, 1, 1, 1)
        return kept.sqrt() * predicted.float() + (1 - kept).sqrt() * x

    @cached_property
    def _alphas_cumprod(self) -> Tensor:
        # A tensor made in inference mode could not be used outside of it.
        with torch.inference_mode(False):
            return make_scheduler(self.options, "ddpm").alphas_cumprod.to(self.device)

    @cached_property
    def _autocast(self) -> torch.autocast:
        dtype = autocast_dtype(self.options.precision, self.device)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    @torch.inference_mode()
    def sample(
        self,
        classes: Sequence[str],
        seeds: Sequence[int],
        *,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """One mel image for each (class, seed): [N, 1, n_mels, frames] float32 on the CPU.

        All random numbers of a clip come from its seed, so it does not depend on its place or batch (but for rounding:
        a batch of another size may take another kernel). Settings left out are the options'; DDPM takes all the
        steps of the training unless ``steps`` is given here.
        """
        o = self.options
        sampler = sampler or o.sampler
        if steps is None:
            steps = o.train_steps if sampler == "ddpm" else o.sampling_steps
        guidance = o.guidance if guidance is None else guidance
        o.check_sampling(sampler, steps, guidance)
        if len(classes) != len(seeds):
            raise ValueError(f"{len(classes)} classes and {len(seeds)} seeds: give one seed for each clip")
        labels = self.numbers(classes) if self.is_conditional else None

        def draw(part: slice) -> Tensor:
            streams = SeedStreams(list(seeds[part]), self.name, "sample")
            scheduler = make_scheduler(o, sampler)
            scheduler.set_timesteps(steps)
            x = streams.normal(*self.mel.shape).to(self.device)
            own = labels[part].to(self.device) if labels is not None else None
            noise: dict[str, Any] = {"generator": streams.generators} if sampler == "ddpm" else {}
            for step in scheduler.timesteps:
                with self._autocast:
                    predicted = self.predict_noise(x, int(step), own, guidance)
                x = scheduler.step(predicted.float(), step, x, **noise).prev_sample
            # DPM-Solver++ clips nothing on its way.
            return x.clamp(*self.mel.limits).cpu()

        started = time.monotonic()
        images = self.in_batches(draw, len(seeds), batch_size or o.sampling_batch)
        seconds = time.monotonic() - started
        rate = len(seeds) / max(seconds, 1e-9)
        log.info("%s: %d clips by %s in %d steps, %.2f a second", self.name, len(seeds), sampler, steps, rate)
        return images

    def in_batches(self, run: Callable[[slice], Tensor], count: int, batch_size: int) -> Tensor:
        """``run`` on parts of ``count`` clips, joined; out of memory, it goes on with half the batch."""
        if count == 0:
            return torch.empty(0, *self.mel.shape)
        done: list[Tensor] = []
        start = 0
        while start < count:
            try:
                done.append(run(slice(start, start + batch_size)))
                start += batch_size
                continue
            except torch.OutOfMemoryError:
                if batch_size == 1:
                    raise
            batch_size //= 2
            log.warning("%s: out of memory; going on with %d clips at once", self.name, batch_size)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return torch.cat(done)

    def audio_of(
        self,
        images: Tensor,
        seeds: Sequence[int],
        *,
        vocoder: Vocoder | None = None,
        levels: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Mel images -> audio [N, T] on the CPU; see :meth:`MelTransform.audio`."""
        if len(seeds) != len(images):
            raise ValueError(f"{len(images)} images and {len(seeds)} seeds: give one seed for each")

        def decode(part: slice) -> Tensor:
            own = levels[part] if levels is not None else None
            seeds_here = seeds[part]
            return self.mel.audio(images[part].to(self.device), seeds_here, vocoder=vocoder, levels=own).cpu()

        if not len(images):
            return torch.empty(0, self.options.mel.samples)
        return self.in_batches(decode, len(images), batch_size or self.options.sampling_batch)

    def generate(
        self,
        classes: Sequence[str],
        seeds: Sequence[int],
        *,
        vocoder: Vocoder | None = None,
        sampler: Sampler | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """One clip for each (class, seed): [N, T] float32 on the CPU; settings as in :meth:`sample`."""
        images = self.sample(
            classes, seeds, sampler=sampler, steps=steps, guidance=guidance, batch_size=batch_size
        )
        return self.audio_of(images, seeds, vocoder=vocoder, batch_size=batch_size)

    def save(self, folder: Path) -> None:
        """Keep the model as diffusers keeps a pipeline (safetensors), and its options and classes in ``foley.json``."""
        from diffusers import DDPMPipeline

        if not self.is_conditional:
            raise ValueError(
                "a model without classes is not saved anew; keep the folder that it was read from"
            )
        folder = Path(folder)
        scheduler = make_scheduler(self.options, "ddpm")
        if self.options.prediction == "velocity":
            # Our samplers are given noise; whoever reads the folder with diffusers alone gets the network's own output.
            scheduler.register_to_config(prediction_type="v_prediction")
        pipeline: Any = DDPMPipeline(unet=self.trained, scheduler=scheduler)
        pipeline.save_pretrained(folder, safe_serialization=True)
        facts = {
            "options": dataclasses.asdict(self.options),
            "class_ids": list(self._class_ids),
            "seed": self.seed,
            "history": self.history.as_rows(),
        }
        with atomic_file(folder / DESCRIPTION) as temporary:
            temporary.write_text(json.dumps(facts, indent=1))

    @classmethod
    def load(cls, folder: Path, *, expected: MelDiffusionOptions | None = None) -> MelDiffusion:
        """A model that :meth:`save` kept.

        Args:
            expected: refuse a model that was trained with other options.

        Raises:
            FileNotFoundError: no model there.
            ValueError: it is damaged or of other options; the message has the differences.
        """
        folder = Path(folder)
        path = folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(
                f"no mel diffusion model in {folder}: {DESCRIPTION} is missing; train it first"
            )
        try:
            facts = json.loads(path.read_text())
            options = parse_options(cls.Options, facts["options"], "options")
            class_ids, seed = tuple(map(str, facts["class_ids"])), int(facts["seed"])
            rows = [(int(r["epoch"]), str(r["quantity"]), float(r["value"])) for r in facts["history"]]
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise ValueError(
                f"{path} does not describe a model of this version: {error}; train it anew"
            ) from None
        if expected is not None:
            differences = _differences(dataclasses.asdict(expected), dataclasses.asdict(options))
            if differences:
                raise ValueError(
                    f"the model in {folder} was trained with other options: {'; '.join(differences)}"
                )
        model = cls(options, seed)
        model._class_ids = class_ids
        network = read_unet(folder / "unet", use_safetensors=True)
        with torch.device("meta"):
            _check_alike(build_unet(options, len(class_ids)), network, folder)
        model.network = network.to(model.device).eval()
        model.history = History(rows, max((epoch for epoch, _, _ in rows), default=0))
        return model


def read_unet(folder: Path, **how: Any) -> Any:
    """The network of a folder, with all of its weights.

    Raises:
        ValueError: files are missing or damaged, or lack parameters; names the folder.
    """
    from diffusers import UNet2DModel
    from safetensors import SafetensorError

    try:
        network, loading = UNet2DModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **how
        )
    except (OSError, SafetensorError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"no network can be read from {folder}: {reason}; get its files again, or delete the model's folder so "
            "that it is trained anew"
        ) from error
    # They would stay random numbers.
    lacking = sorted(loading["missing_keys"])
    if lacking:
        raise ValueError(
            f"the weights in {folder} lack {len(lacking)} parameters, for example {lacking[0]}; get the file again"
        )
    return network


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any], where: str = "") -> list[str]:
    """Which keys differ, each as ``key: found (not wanted)``."""
    out = []
    for key, value in wanted.items():
        if isinstance(value, Mapping):
            out += _differences(value, found[key], f"{where}{key}.")
        elif value != found[key]:
            out.append(f"{where}{key}: {found[key]} (not {value})")
    return out


def _check_alike(expected: nn.Module, found: nn.Module, folder: Path) -> None:
    """The saved network must be the one that its options describe."""
    ours = {name: tuple(p.shape) for name, p in expected.state_dict().items()}
    theirs = {name: tuple(p.shape) for name, p in found.state_dict().items()}
    wrong = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"the network in {folder / 'unet'} is not what {DESCRIPTION} describes: {len(wrong)} parameters differ, "
            f"for example {name} ({theirs.get(name)}, not {ours.get(name)}); take both from one training"
        )
