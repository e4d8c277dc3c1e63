"""Mel diffusion: sampling by batch and sampler, training against diffusers' example loop, and the metrics' time.

    python benchmarks/run.py --only diffusion   # these, into docs/benchmarks.md
    python benchmarks/diffusion.py cost         # what the published form takes: parameters, steps, GPU-hours
    python benchmarks/diffusion.py inversion    # how exact DDIM inversion is, on a small model that is trained first

The last two print the tables of docs/audio_studies.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml
from measure import REPOSITORY, Table, one_core, times
from scipy import linalg
from scipy.spatial.distance import pdist
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.flop_counter import FlopCounterMode
from torchaudio.transforms import MelSpectrogram

from foley.datasets.soundbox import SAMPLE_RATE_HZ, SoundboxOptions, clip_keys, synthesise
from foley.generators.audio.interpolation import DDIMPath
from foley.generators.audio.mel import MelOptions, MelTransform
from foley.generators.audio.mel_diffusion import MelDiffusion, MelDiffusionOptions, Sampler, build_unet
from foley.generators.audio.protocol import LabelledClips
from foley.metrics.frechet_audio import ExtrapolationOptions, distance_of_sets, frechet_audio_distances
from foley.metrics.kernel_audio import kernel_audio_distances
from foley.metrics.manifold import compare_manifolds
from foley.metrics.memorisation import diversity_scores, find_memorised
from foley.options import parse_options
from foley.runtime.seeds import SeedStreams
from foley.training.loop import choose_device

TITLE = "Mel diffusion"
# ESC-50: what the published form learns from (three of five folds) and makes.
ESC50_CLASSES, ESC50_TRAINING_CLIPS, ESC50_MADE = 50, 1200, 2000
SAMPLERS: dict[Sampler, int] = {"ddpm": 1000, "ddim": 50, "dpm_solver": 20}
NEIGHBOURS = 3


def run(quick: bool) -> list[Table]:
    cuda = choose_device().type == "cuda"
    small, published = demo_options(), published_options()["l2"]
    if quick:
        tables = [sampling("demo", small, (1, 2), {"ddpm": 2, "ddim": 2, "dpm_solver": 2}, 1)]
        return [*tables, training(small, published, quick=True), metric_times(60, (8, 70))]
    if cuda:
        # Hundreds of clips at once fill the device; a call is twenty steps.
        timed: dict[Sampler, int] = dict.fromkeys(SAMPLERS, 20)
        tables = [sampling("published", published, (1, 4, 16, 64, 256), timed, 3)]
        return [*tables, training(small, published), metric_times(2000, (128, 1280, 2048))]
    with one_core():
        tables = [
            sampling("demo", small, (1, 4, 16, 32), {"ddpm": 20, "ddim": 20, "dpm_solver": 20}, 3),
            sampling("published", published, (1, 4, 16), dict.fromkeys(SAMPLERS, 1), 2),
        ]
        return [*tables, training(small, published), metric_times(2000, (128, 1280, 2048))]


def demo_options() -> MelDiffusionOptions:
    found = yaml.safe_load((REPOSITORY / "config.yaml").read_text())["audio_generators"]["small_diffusion"]
    return parse_options(MelDiffusionOptions, found["options"], "options")


def published_options() -> dict[str, MelDiffusionOptions]:
    """The arms of the published study, by name."""
    found = yaml.safe_load((REPOSITORY / "experiments" / "diffusion_esc50.yaml").read_text())
    return {
        name: parse_options(MelDiffusionOptions, arm["options"], name)
        for name, arm in found["audio_generators"].items()
    }


def seconds(call: Callable[[], object]) -> float:
    """One call: wall time on a GPU; on a CPU, where all runs in one thread, CPU time: other work adds little to it."""
    clock = time.perf_counter if choose_device().type == "cuda" else time.process_time
    start = clock()
    call()
    return clock() - start


def in_turns(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each; all are called once before, then they take turns."""
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds(call))
    return {name: statistics.median(values) for name, values in taken.items()}


def where(options: MelDiffusionOptions) -> str:
    """Device, threads and precision, as captions show them."""
    device = choose_device()
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, precision {options.precision}"
    return f"CPU seconds of {torch.get_num_threads()} thread, precision {options.precision}"


# Sampling


def sampling(
    name: str,
    options: MelDiffusionOptions,
    batches: Sequence[int],
    timed: dict[Sampler, int],
    repeats: int,
) -> Table:
    """Clips a second. Random weights: what a step costs does not depend on them."""
    model = MelDiffusion(options, seed=0)
    classes = [f"class{number}" for number in range(ESC50_CLASSES)]
    model.begin(classes).eval()

    def call(sampler: Sampler, batch: int) -> Callable[[], object]:
        wanted = [classes[number % len(classes)] for number in range(batch)]
        return lambda: model.sample(
            wanted, range(batch), sampler=sampler, steps=timed[sampler], batch_size=batch
        )

    places = {f"{sampler} {batch}": (sampler, batch) for sampler in timed for batch in batches}
    found = in_turns({key: call(*place) for key, place in places.items()}, repeats)
    rate = {
        place: place[1] / (found[key] * SAMPLERS[place[0]] / timed[place[0]]) for key, place in places.items()
    }
    rows = [
        (
            sampler,
            f"{SAMPLERS[sampler]}",
            f"{timed[sampler]}",
            str(batch),
            f"{1e3 * found[key] / timed[sampler] / batch:.3g}",
            f"{rate[sampler, batch]:.3g}",
            times(rate[sampler, batch] / rate["ddpm", batches[0]]),
        )
        for key, (sampler, batch) in places.items()
    ]
    parameters = sum(parameter.numel() for parameter in model.trained.parameters()) / 1e6
    caption = (
        f"Sampling, the {name} network ({parameters:.1f} million parameters, mel images of {options.mel.n_mels} x "
        f"{options.mel.frames}); {where(options)}. Median of {repeats} calls in turns. A call takes *timed* steps, and "
        "clips a second follow from the sampler's *steps*: all of them cost the same."
    )
    columns = (
        "sampler",
        "steps",
        "timed",
        "batch",
        "ms a step and clip",
        "clips/s",
        "against DDPM one by one",
    )
    return Table(caption, columns, rows)


# Training


@dataclass(frozen=True)
class Waveforms(Dataset[tuple[Tensor, int]]):
    """Clips that become mel images when asked for, as the example loop transforms its pictures."""

    waveforms: Sequence[np.ndarray]
    labels: Sequence[int]
    options: MelOptions

    def __post_init__(self) -> None:
        o = self.options
        transform = MelSpectrogram(
            o.sample_rate_hz, n_fft=o.n_fft, hop_length=o.hop_length, f_min=o.f_min_hz, f_max=o.highest_hz,
            n_mels=o.n_mels, power=o.power, norm="slaney", mel_scale="slaney",
        )  # fmt: skip
        object.__setattr__(self, "transform", transform)
        object.__setattr__(self, "reference", MelTransform(o).full_scale)

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        o = self.options
        mel = self.transform(torch.from_numpy(self.waveforms[number][: o.samples]))  # type: ignore[attr-defined]
        decibels = 10 * torch.log10((mel / self.reference).clamp_min(1e-20))  # type: ignore[attr-defined]
        return (decibels.clamp(-o.top_db, 0) / o.top_db * 2 + 1)[None], self.labels[number]


def example_loop(
    options: MelDiffusionOptions,
    classes: int,
    batches: Iterable[Any],
    count: int,
    epochs: int,
    network: torch.nn.Module | None = None,
    draws: Callable[[int], tuple[Tensor, Tensor]] | None = None,
) -> None:
    """Training as in diffusers' example of unconditional image generation, given classes, on one device.

    The example has its optimiser, data and device by accelerate, which need not be installed here: one device does
    without it, and saves its calls.

    Args:
        batches: (images, labels), an epoch each time it is gone through; ``count`` of them an epoch.
        network: to train; else a new one.
        draws: number of the step -> (noise, time steps); else from torch's global stream.
    """
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_cosine_schedule_with_warmup
    from diffusers.training_utils import EMAModel

    o, device = options, choose_device()
    model: Any = (build_unet(o, classes) if network is None else network).to(device)
    scheduler = DDPMScheduler(
        num_train_timesteps=o.train_steps,
        beta_start=o.beta_start,
        beta_end=o.beta_end,
        beta_schedule="linear",
    )
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=o.learning_rate, betas=(o.beta1, o.beta2), weight_decay=o.weight_decay
    )
    rate = get_cosine_schedule_with_warmup(optimiser, o.warm_up_steps, epochs * count)
    average = EMAModel(
        model.parameters(), decay=o.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=o.ema_power
    )
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    number = 0
    for _ in range(epochs):
        model.train()
        for batch in batches:
            images, labels = (part.to(device) for part in batch)
            if draws is None:
                noise = torch.randn(images.shape, device=device)
                steps = torch.randint(0, o.train_steps, (len(images),), device=device)
            else:
                noise, steps = (part.to(device) for part in draws(number))
            noisy = scheduler.add_noise(images, noise, steps)
            wanted = noise if o.prediction == "noise" else scheduler.get_velocity(images, noise, steps)
            with mixed:
                predicted = model(noisy, steps, class_labels=labels).sample
            distance = functional.l1_loss if o.loss == "l1" else functional.mse_loss
            loss = distance(predicted.float(), wanted)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), o.max_grad_norm)
            optimiser.step()
            rate.step()
            optimiser.zero_grad()
            average.step(model.parameters())
            loss.detach().item()  # the example logs it
            number += 1
    average.copy_to(model.parameters())


def check_same_training(options: MelDiffusionOptions) -> None:
    """Given the same random numbers, both loops end with the same weights.

    Raises:
        RuntimeError: they do not, so their times could not be compared.
    """
    o = dataclasses.replace(options, epochs=2, warm_up_steps=2, class_dropout=0.0, precision="float32")
    images, labels = made_images(o, 3 * o.batch_size - 5)
    ours = MelDiffusion(o, seed=0)
    names = [f"{label:02d}" for label in labels.tolist()]
    ours.fit_images(images, names, names)
    theirs = MelDiffusion(o, seed=0)
    network = theirs.begin(sorted(set(names)))
    numbers = theirs.numbers(names)
    parts, drawn = [], []
    for epoch in range(o.epochs):
        # In the order in which the training draws them.
        streams = SeedStreams([0], ours.name, "epoch", epoch)
        for rows in streams.permutations(len(images))[0].split(o.batch_size):
            parts.append((images[rows], numbers[rows]))
            steps, noise = (
                streams.integers(o.train_steps, len(rows))[0],
                streams.normal(len(rows), *images.shape[1:]),
            )
            drawn.append((noise[0], steps))
            streams.uniform(len(rows))
    one_epoch = len(parts) // o.epochs
    each_epoch = iter([parts[:one_epoch], parts[one_epoch:]])

    class Replayed:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(next(each_epoch))

    example_loop(
        o, len(ours.class_ids), Replayed(), one_epoch, o.epochs, network, lambda number: drawn[number]
    )
    apart = max(
        float((a - b).detach().abs().max())
        for a, b in zip(ours.trained.parameters(), network.parameters(), strict=True)
    )
    if not apart < 1e-4:
        raise RuntimeError(f"the two trainings end {apart:.2g} apart: they do not do the same")


def made_images(options: MelDiffusionOptions, count: int) -> tuple[Tensor, Tensor]:
    """Images [N, 1, n_mels, frames] in [-1, 1] and labels [N]; only their sizes matter."""
    stream = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, options.mel.n_mels, options.mel.frames, generator=stream) * 2 - 1
    return images, torch.arange(count) % 12


def training(small: MelDiffusionOptions, published: MelDiffusionOptions, *, quick: bool = False) -> Table:
    cuda = choose_device().type == "cuda"
    check_same_training(small)
    rows, clips = [], 32 if quick else 240
    # (what, options, clips, epochs, from waveforms, repeats)
    cases: list[tuple[str, MelDiffusionOptions, int, int, bool, int]] = [
        ("demo network, images ready", small, clips, 1, False, 1 if quick else 5),
        ("demo network, from waveforms", small, clips, 1 if quick else 2, True, 1 if quick else 3),
    ]
    if not quick:
        full = dataclasses.replace(published, class_dropout=0.0)
        # On a CPU a step of 16 takes half a minute.
        few = full if cuda else dataclasses.replace(full, batch_size=4)
        cases.append(
            ("published network, images ready", few, 1200 if cuda else 8, 1, False, 3 if cuda else 2)
        )
    for what, options, count, epochs, from_waveforms, repeats in cases:
        o = dataclasses.replace(options, epochs=epochs)
        images, labels = made_images(o, count)
        names = [f"{label:02d}" for label in labels.tolist()]
        rng = np.random.default_rng(0)
        long = int(o.mel.samples * 1.2)
        waveforms = (
            [0.1 * rng.standard_normal(long, dtype=np.float32) for _ in names] if from_waveforms else []
        )
        per_epoch = -(-count // o.batch_size)

        def ours(o: Any = o, images: Any = images, names: Any = names, waveforms: Any = waveforms) -> None:
            model = MelDiffusion(o, seed=0)
            if waveforms:
                model.fit(LabelledClips(names, names, waveforms, o.mel.sample_rate_hz))
            else:
                model.fit_images(images, names, names)
            settle()

        def plain(
            o: Any = o,
            images: Any = images,
            labels: Any = labels,
            waveforms: Any = waveforms,
            n: int = per_epoch,
        ) -> None:
            data: Any = (
                Waveforms(waveforms, labels.tolist(), o.mel) if waveforms else TensorDataset(images, labels)
            )
            example_loop(o, 12, DataLoader(data, batch_size=o.batch_size, shuffle=True), n, o.epochs)
            settle()

        found = in_turns({"ours": ours, "plain": plain}, repeats)
        steps = epochs * per_epoch
        rows.append(
            (
                what,
                str(o.batch_size),
                f"{epochs} x {per_epoch}",
                *(f"{1e3 * found[side] / steps:.4g}" for side in ("ours", "plain")),
                times(found["plain"] / found["ours"]),
                str(repeats),
            )
        )
    caption = (
        "Training against the loop of diffusers' example (`DataLoader`, `DDPMScheduler.add_noise`, AdamW, "
        "`EMAModel`) on the same network, batch and data; checked before the clock starts: given the same random "
        f"numbers, both end with the same weights. {where(small)}. A call builds the network and trains it; *from "
        "waveforms* includes mel images, which Foley makes once a training, a `Dataset` of the example once an epoch."
    )
    columns = ("what", "batch", "epochs x steps", "Foley, ms a step", "example, ms a step", "speed", "pairs")
    return Table(caption, columns, rows)


def settle() -> None:
    """Wait until the device is done."""
    if choose_device().type == "cuda":
        torch.cuda.synchronize()


# Metrics


def metric_times(count: int, dims: Sequence[int]) -> Table:
    rows = []
    for dim in dims:
        x, y = made_vectors(count, dim)
        line = ExtrapolationOptions(groups=10 if count >= 2 * dim else 0)
        distances = line.points * (1 + 2 * line.groups)
        single = 0.0
        for what, ours, plain in metric_cases(x, y, line):
            mine, theirs, pairs = compare(ours, plain)
            shown = f"{theirs:.3g}"
            if what == FRECHET:
                single = theirs
            elif plain is None:
                what = f"{what}: {distances + 1} distances"
                theirs = (distances + 1) * single
                shown = f"{theirs:.3g} (reckoned)"
            rows.append((str(dim), what, f"{mine:.3g}", shown, times(theirs / mine), str(pairs)))
    device = choose_device()
    kind = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU seconds of {torch.get_num_threads()} thread"
    )
    caption = (
        f"Metrics of {count:,} real and {count:,} synthetic vectors, {kind}, float64; both sides give the same values "
        "to 1e-6. Peers: scipy's `sqrtm` of the product of covariances; `pdist` and scikit-learn's `rbf_kernel`; "
        "scikit-learn's brute-force neighbours and distances; `pdist` and NumPy's `eigvalsh`. *Reckoned*: one "
        "distance by `sqrtm` times their number. FAD∞ is as the study has it: with a jackknife only "
        "where there are twice as many vectors as dimensions."
    )
    return Table(caption, ("dim", "metric", "Foley, s", "peer, s", "speed", "pairs"), rows)


FRECHET, KERNEL = "Fréchet distance", "KAD"


def made_vectors(count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated vectors whose variances fall off, as embeddings' do."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    scale = np.arange(1, dim + 1) ** -0.5
    x, y = (rng.standard_normal((count, dim)) * scale for _ in range(2))
    return x @ turn, (1.1 * y + 0.1 * scale) @ turn


def metric_cases(
    x: np.ndarray, y: np.ndarray, line: ExtrapolationOptions
) -> list[tuple[str, Callable[[], Any], Callable[[], Any] | None]]:
    """(name, ours, the peer) of each metric; both give the same numbers."""
    device = choose_device()
    a, b = (torch.from_numpy(part).to(device) for part in (x, y))

    def frechet() -> float:
        covariances = np.cov(x.T), np.cov(y.T)
        root = linalg.sqrtm(covariances[0] @ covariances[1]).real
        between = np.square(x.mean(0) - y.mean(0)).sum()
        return float(between + np.trace(covariances[0] + covariances[1] - 2 * root))

    def kernel() -> float:
        gamma = 1 / (2 * np.median(pdist(x)) ** 2)
        n, m = len(x), len(y)
        within = [(rbf_kernel(part, gamma=gamma).sum() - len(part)) for part in (x, y)]
        across = rbf_kernel(x, y, gamma=gamma).mean()
        return float(100 * (within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * across))

    def manifold() -> list[float]:
        radii = []
        for part in (x, y):
            search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(part)
            radii.append(search.kneighbors()[0][:, -1])
        apart = pairwise_distances(x, y)
        inside = apart <= radii[0][:, None]
        return [
            inside.any(0).mean(), (apart <= radii[1]).any(1).mean(),
            inside.sum() / (NEIGHBOURS * len(y)), inside.any(1).mean(),
        ]  # fmt: skip

    def our_manifold() -> list[float]:
        found = compare_manifolds(a, b, NEIGHBOURS)
        return [float(getattr(found, name)) for name in ("precision", "recall", "density", "coverage")]

    def nearest() -> list[float]:
        search = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(x)
        among, made = np.sort(search.kneighbors()[0][:, 0]), search.kneighbors(y)[0][:, 0]
        p = (1 + np.searchsorted(among, made, side="right")) / (1 + len(among))
        return [float(np.median(made)), float(np.median(among)), float((p <= 0.05).mean())]

    def our_nearest() -> list[float]:
        found = find_memorised(a, b)
        medians = [float(np.median(part.distance)) for part in (found.nearest, found.real)]
        return [*medians, float(found.flagged.mean())]

    def diversity() -> list[float]:
        apart = pdist(y, "cosine")
        unit = y / np.linalg.norm(y, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(unit @ unit.T / len(y)).clip(1e-300)
        return [float(apart.mean()), float(np.exp(-(values * np.log(values)).sum()))]

    def our_diversity() -> list[float]:
        score = diversity_scores(b)[0]
        return [score.cosine_distance, score.vendi]

    return [
        (FRECHET, lambda: distance_of_sets(a, b).item(), frechet),
        ("Fréchet, shrunk and FAD∞", lambda: frechet_audio_distances(a, b, options=line)[0].infinite, None),
        (KERNEL, lambda: kernel_audio_distances(a, b)[0].value, kernel),
        ("precision, recall, density, coverage", our_manifold, manifold),
        ("memorisation", our_nearest, nearest),
        ("diversity", our_diversity, diversity),
    ]


def compare(ours: Callable[[], Any], plain: Callable[[], Any] | None) -> tuple[float, float, int]:
    """Median seconds of both in turns, and the number of pairs: one where a call is long.

    Raises:
        AssertionError: the values differ.
    """
    said: dict[str, Any] = {}

    def keep(name: str, call: Callable[[], Any]) -> Callable[[], None]:
        return lambda: said.update({name: call()})

    calls = {"ours": keep("ours", ours)} | ({"plain": keep("plain", plain)} if plain is not None else {})
    found = {name: seconds(call) for name, call in calls.items()}
    if plain is not None:
        np.testing.assert_allclose(said["ours"], said["plain"], rtol=1e-6)
    pairs = 1 if max(found.values()) > 5 else 3
    if pairs > 1:
        found = in_turns(calls, pairs)
    return found["ours"], found.get("plain", 0.0), pairs


# What the published form costs


def cost(teraflops: float) -> Table:
    """Parameters, steps and GPU-hours of each arm; the rate is an assumption."""
    rows = []
    total = np.zeros(2)
    for name, o in published_options().items():
        with torch.device("meta"):
            network = build_unet(o, ESC50_CLASSES)
            images = torch.empty(o.batch_size, 1, o.mel.n_mels, o.mel.frames)
            steps, labels = (torch.zeros(o.batch_size, dtype=torch.int64) for _ in range(2))
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            network(images, steps, class_labels=labels)
        with FlopCounterMode(display=False) as both:
            network(images, steps, class_labels=labels).sample.sum().backward()
        optimiser_steps = o.epochs * -(-ESC50_TRAINING_CLIPS // o.batch_size)
        of_training = optimiser_steps * both.get_total_flops()
        of_clip = SAMPLERS["ddpm"] * forward.get_total_flops() / o.batch_size
        hours = np.array([of_training, ESC50_MADE * of_clip]) / (teraflops * 1e12) / 3600
        total += hours
        rows.append(
            (
                name,
                f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}",
                f"{optimiser_steps:,}",
                f"{both.get_total_flops() / 1e12:.2f}",
                f"{of_training / 1e15:.1f}",
                f"{ESC50_MADE * of_clip / 1e15:.1f}",
                *(f"{value:.2f}" for value in hours),
            )
        )
    rows.append(("all arms", "", "", "", "", "", *(f"{value:.2f}" for value in total)))
    caption = (
        f"`experiments/diffusion_esc50.yaml`, one split: {ESC50_TRAINING_CLIPS:,} training clips, {ESC50_MADE:,} clips "
        f"made by DDPM in {SAMPLERS['ddpm']:,} steps. Hours are **estimates**: floating-point operations (counted in "
        f"the built networks, batch 16) over an assumed sustained rate of {teraflops:g} TFLOP/s."
    )
    columns = (
        "arm", "parameters, million", "optimiser steps", "TFLOP a step", "training, PFLOP", "sampling, PFLOP",
        "training, GPU h", "sampling, GPU h",
    )  # fmt: skip
    return Table(caption, columns, rows)


def cpu_step(batch: int, repeats: int = 3) -> Table:
    """One training step of the published network on this machine's CPU."""
    o = dataclasses.replace(published_options()["l2"], batch_size=batch, epochs=1)
    model = MelDiffusion(o, seed=0)
    network = model.begin([f"class{number}" for number in range(ESC50_CLASSES)]).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=o.learning_rate, fused=True)
    images, labels = made_images(o, batch)
    steps = torch.arange(batch)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        functional.mse_loss(network(images, steps, class_labels=labels).sample, images).backward()
        optimiser.step()

    with FlopCounterMode(display=False) as counter:
        step()
    found = in_turns({"step": step}, repeats)["step"]
    operations = counter.get_total_flops()
    rows = [
        (
            str(batch), str(torch.get_num_threads()), f"{found:.1f}", f"{operations / 1e12:.2f}",
            f"{operations / found / 1e9:.0f}",
        )
    ]  # fmt: skip
    return Table(
        f"One optimiser step of the full network in float32 on the CPU, median of {repeats}.",
        ("batch", "threads", "s", "TFLOP", "GFLOP/s"),
        rows,
    )


# How exact DDIM inversion is


def inversion(clips_a_side: int) -> list[Table]:
    """A small model is trained on soundbox by the demo's settings; then clips go back to noise and return."""
    o = demo_options()
    wanted = SoundboxOptions()
    sounds = [
        (label, recording, synthesise(label, recording, take, 0))
        for label, recording, take in clip_keys(wanted)
    ]
    last = max(recording for _, recording, _ in sounds) - 3  # four of ten recordings are held out
    train = [(label, sound) for label, recording, sound in sounds if recording < last]
    held_out = [(label, sound) for label, recording, sound in sounds if recording >= last]
    model = MelDiffusion(o, seed=0)
    names = [f"clip{number}" for number in range(len(train))]
    data = LabelledClips(names, [label for label, _ in train], [sound for _, sound in train], SAMPLE_RATE_HZ)
    took = seconds(lambda: model.fit(data))
    chosen = [side[:: len(side) // clips_a_side][:clips_a_side] for side in (train, held_out)]
    both = [*chosen[0], *chosen[1]]
    labels = model.numbers([label for label, _ in both]).to(model.device)
    images = model.mel.images(model.mel.cut([sound for _, sound in both], SAMPLE_RATE_HZ).to(model.device))
    rows = []
    for steps in (20, 50, 100, 200):
        for refinements in (0, 1, 2):
            path = DDIMPath(model, steps, refinements)
            made: list[Tensor] = []

            def trip(path: DDIMPath = path, made: list[Tensor] = made) -> None:
                made.append(path.decode(path.invert(images, labels), labels))
                settle()

            with torch.inference_mode():
                each = seconds(trip) / len(both)
            error = mel_error(model.mel, images, made[0])
            rows.append(
                (
                    str(steps), str(refinements), str(steps * (2 + refinements)),
                    f"{error[:clips_a_side].mean():.3f}", f"{error[clips_a_side:].mean():.3f}",
                    f"{error.max():.3f}", f"{each:.2f}",
                )
            )  # fmt: skip
    steps_taken = o.epochs * -(-len(train) // o.batch_size)
    caption = (
        f"Round trip by DDIM inversion, mean |difference| of mel cells in dB (range {o.mel.top_db:g} dB). A model of "
        f"the demo's settings, {steps_taken} steps on {len(train)} soundbox clips in {took:.0f} s; {clips_a_side} "
        f"training clips and {clips_a_side} of held-out recordings, {len(both)} in one batch; {where(o)}."
    )
    columns = (
        "steps", "refinements", "network passes", "training clips, dB", "held-out clips, dB", "worst clip, dB",
        "s a clip, there and back",
    )  # fmt: skip
    return [Table(caption, columns, rows), vocoder_round_trip(held_out, o.mel)]


def vocoder_round_trip(clips: Sequence[tuple[str, np.ndarray]], demo: MelOptions) -> Table:
    """Mel -> Griffin-Lim -> mel, by the demo's and by the published parameters."""
    rows = []
    published = published_options()["l2"].mel
    for name, mel in (
        ("demo", demo),
        ("published", published),
        ("published, levels kept", dataclasses.replace(published, reference="full_scale")),
        ("published, hop 512", dataclasses.replace(published, hop_length=512, frames=128)),
    ):
        transform = MelTransform(mel)
        images = transform.images(transform.cut([sound for _, sound in clips], SAMPLE_RATE_HZ))
        made: list[Tensor] = []

        def decode(transform: MelTransform = transform, images: Tensor = images, made: Any = made) -> None:
            made.append(transform.audio(images, range(len(clips))))

        each = seconds(decode) / len(clips)
        error = mel_error(transform, images, transform.images(made[0]))
        rows.append(
            (
                name, f"{mel.n_mels} x {mel.frames}", f"{mel.hop_length / mel.n_fft:.3g}",
                f"{error.mean():.2f}", f"{error.max():.2f}", f"{1e3 * each:.0f}",
            )
        )  # fmt: skip
    caption = (
        f"Mel, Griffin-Lim ({demo.griffin_lim_iterations} iterations), mel again: {len(clips)} clips of held-out "
        "recordings."
    )
    columns = ("parameters", "image", "hop / window", "error, dB", "worst clip, dB", "ms a clip")
    return Table(caption, columns, rows)


def mel_error(transform: MelTransform, images: Tensor, again: Tensor) -> np.ndarray:
    """Mean absolute difference of each clip's cells in dB [N], as the study's round trips have it."""
    apart = transform.decibels(again) - transform.decibels(images)
    return apart.abs().mean(dim=(1, 2, 3)).cpu().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="what", required=True)
    of_cost = kinds.add_parser("cost")
    of_cost.add_argument("--tflops", type=float, default=30.0, help="sustained rate that is assumed")
    of_cost.add_argument("--batch", type=int, default=4, help="of the step that is measured on the CPU")
    of_inversion = kinds.add_parser("inversion")
    of_inversion.add_argument("--clips", type=int, default=12, help="from training, and held out")
    arguments = parser.parse_args()
    with one_core():
        if arguments.what == "cost":
            tables = [cost(arguments.tflops), cpu_step(arguments.batch)]
        else:
            tables = inversion(arguments.clips)
    print("\n\n".join(table.markdown() for table in tables))


if __name__ == "__main__":
    main()
