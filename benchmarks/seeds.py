"""Twenty seeds as one batched model, against one after another and against plain PyTorch, for each method."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import plain_methods
import torch
import yaml
from measure import REPOSITORY, Table, one_core, times
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from foley import config as configuration
from foley.classifiers.protocol import ZeroShotData
from foley.classifiers.registry import ZERO_SHOT_KINDS
from foley.config import Method
from foley.generators.embedding.protocol import SeenData
from foley.generators.registry import EMBEDDING_KINDS
from foley.options import parse_options
from foley.runtime.code import load

TITLE = "Seeds as a batch"
SEEDS = list(range(20))
# ESC-50: 40 clips a class, 10 of 50 classes unseen. Embeddings of a network from scratch, and mn04's.
SEEN, UNSEEN, CLIPS, DIM, CONDITION, MN04 = 40, 10, 1600, 128, 300, 384
# Where an epoch of 20 seeds takes long it is measured on fewer clips, in full batches, and scaled up.
FEW_CLIPS = {"ale": 64, "cada_vae": 52, "lisgan": 64}
TARGET = 6.0


@dataclass(frozen=True)
class Stage:
    """A part of a method whose time grows with ``rounds`` (epochs of training, steps of sampling)."""

    name: str
    rounds: int
    run: Callable[[list[int], int], Callable[[], object]]  # seeds, rounds -> what is timed
    plain: Callable[[int], Callable[[], object]] | None = (
        None  # rounds -> the same in plain PyTorch, one seed
    )
    scale: float = 1.0  # rounds on all clips are so many times as long
    least: int = 1  # rounds


@dataclass(frozen=True)
class Timed:
    """CPU seconds of a whole stage: one seed, all seeds in a batch, one seed in plain PyTorch, and no less than."""

    one: float = 0.0
    batched: float = 0.0
    plain: float | None = 0.0
    floor: float = 0.0

    def __add__(self, other: Timed) -> Timed:
        plain = None if self.plain is None or other.plain is None else self.plain + other.plain
        return Timed(self.one + other.one, self.batched + other.batched, plain, self.floor + other.floor)


def made_data(dim: int, clips: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings [clips, dim], classes [clips], class vectors [classes, CONDITION]; only their sizes matter."""
    stream = torch.Generator().manual_seed(0)
    vectors = torch.randn(SEEN + UNSEEN, CONDITION, generator=stream)
    classes = torch.arange(clips) % SEEN
    centres = torch.randn(SEEN, dim, generator=stream)
    embeddings = centres[classes] + 0.5 * torch.randn(clips, dim, generator=stream)
    return embeddings.relu() / 4, classes, vectors / vectors.norm(dim=1, keepdim=True)


def classifier_stage(method: Method, name: str, generator_options: Any, dim: int) -> Stage:
    kind: Any = load(ZERO_SHOT_KINDS[method.classifier])
    options = parse_options(kind.Options, method.classifier_options, "classifier_options")
    clips = FEW_CLIPS.get(method.classifier, CLIPS) if method.generator is None else CLIPS
    embeddings, classes, vectors = made_data(dim, clips)
    latent = getattr(generator_options, "latent", None)
    if latent is not None:  # the generator's own space: draws of each seen class
        classes = torch.arange(SEEN).repeat_interleave(generator_options.seen_draws)

    def data(seeds: int) -> ZeroShotData:
        if method.generator is None:
            return ZeroShotData(embeddings, classes, vectors, SEEN)
        real = embeddings if latent is None else torch.rand(seeds, len(classes), latent)
        made = torch.rand(seeds, UNSEEN, method.samples_per_class, real.shape[-1])
        return ZeroShotData(real, classes, vectors, SEEN, made)

    def run(seeds: list[int], epochs: int) -> Callable[[], object]:
        model, given = kind(_lasting(options, epochs), seeds), data(len(seeds))
        return lambda: model.fit(given)

    def plain(epochs: int) -> Callable[[], object]:
        given = data(1)
        real = (given.embeddings.reshape(-1, given.embeddings.shape[-1]), classes)
        made = (given.made[0][0], given.made[1]) if given.synthetic is not None else None
        competing = vectors if made is not None else vectors[:SEEN]
        train = plain_methods.CLASSIFIERS[method.classifier]
        return lambda: train(options, real, competing, made, epochs)

    has_plain = method.classifier in plain_methods.CLASSIFIERS
    return Stage(name, getattr(options, "epochs", 1), run, plain if has_plain else None, CLIPS / clips)


def generator_stages(method: Method, name: str, options: Any) -> list[Stage]:
    kind: Any = load(EMBEDDING_KINDS[method.generator or ""])
    clips = FEW_CLIPS.get(method.generator or "", CLIPS)
    embeddings, classes, vectors = made_data(DIM, clips)
    seen = SeenData(embeddings, classes, vectors[:SEEN])

    def fit(seeds: list[int], epochs: int) -> Callable[[], object]:
        model = kind(_lasting(options, epochs), seeds)
        return lambda: model.fit(seen)

    def fit_plain(epochs: int) -> Callable[[], object]:
        train, given = plain_methods.GENERATORS[method.generator or ""], _lasting(options, epochs)
        return lambda: train(given, embeddings, classes, vectors[:SEEN], epochs)

    def sample(seeds: list[int], steps: int) -> Callable[[], object]:
        short = _lasting(options, 1)
        model = kind(replace(short, steps=steps) if hasattr(options, "steps") else short, seeds)
        model.fit(SeenData(embeddings[:SEEN], classes[:SEEN], vectors[:SEEN]))
        return lambda: model.sample(vectors[SEEN:], method.samples_per_class)

    def sample_plain(steps: int) -> Callable[[], object]:
        short = replace(options, steps=steps)
        net = plain_methods.NoisePredictor(short, DIM, CONDITION)
        return lambda: plain_methods.sample_ddpm(short, net, vectors[SEEN:], DIM, method.samples_per_class)

    has_plain = method.generator in plain_methods.GENERATORS
    stages = [
        Stage(
            f"{name}: train",
            getattr(options, "epochs", 1),
            fit,
            fit_plain if has_plain else None,
            CLIPS / clips,
        )
    ]
    # Others sample in one forward pass, which takes milliseconds.
    if hasattr(options, "steps"):
        stages.append(Stage(f"{name}: sample", options.steps, sample, sample_plain, least=2))
    return stages


def method_stages(method: Method, name: str, dim: int = DIM) -> list[Stage]:
    options = None
    if method.generator is not None:
        kind: Any = load(EMBEDDING_KINDS[method.generator])
        options = parse_options(kind.Options, method.generator_options, "generator_options")
        options = options.resolved() if hasattr(options, "resolved") else options
    stages = generator_stages(method, name, options) if method.generator is not None else []
    return [*stages, classifier_stage(method, f"{name}: classify", options, dim)]


def _lasting(options: Any, epochs: int) -> Any:
    """Options with so many epochs; as they are where a method is solved in closed form. All losses of CADA-VAE count
    from the first epoch on, as they do in most of its epochs."""
    if hasattr(options, "cross_epochs"):
        options = replace(options, kl_epochs=(-2, -1), cross_epochs=(-2, -1), distance_epochs=(-2, -1))
    return replace(options, epochs=epochs) if hasattr(options, "epochs") else options


def cpu_seconds(call: Callable[[], object]) -> float:
    """Of this process, so that it counts little what else the machine does."""
    start = time.process_time()
    call()
    return time.process_time() - start


@dataclass(frozen=True)
class Rates:
    """What a core does at best: seconds for one operation of a matrix product, and for a parameter in Adam."""

    operation: float
    parameter: float

    @classmethod
    def measure(cls) -> Rates:
        a = torch.randn(512, 512)
        operation = _best(lambda: a @ a) / (2 * 512**3)
        # The slope between two sizes whose state stays in the core's own cache: Adam has a price of its own to call.
        small, large = 10_000, 50_000
        taken = []
        for size in (small, large):
            weights = torch.nn.Parameter(torch.randn(size))
            weights.grad = torch.randn(size)
            taken.append(_best(torch.optim.Adam([weights], fused=True).step))
        return cls(operation, (taken[1] - taken[0]) / (large - small))


def _best(call: Callable[[], object], calls: int = 50, repeats: int = 20) -> float:
    """CPU seconds of one call where nothing gets in its way."""
    return min(cpu_seconds(lambda: [call() for _ in range(calls)]) for _ in range(repeats)) / calls


def work(call: Callable[[], object]) -> tuple[int, int]:
    """Floating-point operations of the matrix products, and parameters updated, in one call."""
    updated = 0

    def count(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal updated
        updated += sum(p.numel() for group in optimiser.param_groups for p in group["params"])

    hook = register_optimizer_step_post_hook(count)
    try:
        with FlopCounterMode(display=False) as counter:
            call()
    finally:
        hook.remove()
    return counter.get_total_flops(), updated


def measure_stage(stage: Stage, rates: Rates, repeats: int, seconds: float) -> Timed:
    """Medians of ``repeats``, in turns. Where a whole stage takes longer than ``seconds``, the time of one round and
    the slope from one round to as many as take that long."""
    variants: list[tuple[Callable[[int], Callable[[], object]], int]] = [
        (lambda rounds: stage.run(SEEDS[:1], rounds), 4),  # quicker, so that more rounds are run
        (lambda rounds: stage.run(SEEDS, rounds), 1),
    ]
    if stage.plain is not None:
        variants.append((stage.plain, 4))
    least = min(stage.least, stage.rounds)
    many = []
    for make, more in variants:
        cpu_seconds(make(least))
        each = cpu_seconds(make(min(stage.rounds, least + 1))) / (least + 1)
        many.append(max(min(stage.rounds, least + 1), min(stage.rounds, round(seconds / more / each))))
    found: list[list[float]] = [[] for _ in variants]
    for _ in range(repeats):
        for (make, _), rounds, values in zip(variants, many, found, strict=True):
            if rounds == stage.rounds and stage.scale == 1:
                values.append(cpu_seconds(make(rounds)))
                continue
            first, last = cpu_seconds(make(least)), cpu_seconds(make(rounds))
            slope = (last - first) / (rounds - least) * stage.scale
            values.append(first + max(slope, 0.0) * (stage.rounds - least))
    one, batched, *plain = (statistics.median(values) for values in found)
    if stage.plain is None:  # solved once for all seeds
        return Timed(one, batched, None)
    few, more_rounds = least, least + 1
    pairs = zip(work(stage.run(SEEDS[:1], few)), work(stage.run(SEEDS[:1], more_rounds)), strict=True)
    operations, updates = ((b - a) * stage.rounds * stage.scale for a, b in pairs)
    floor = len(SEEDS) * (operations * rates.operation + updates * rates.parameter)
    return Timed(one, batched, plain[0], floor)


def run(quick: bool) -> list[Table]:
    study = configuration.load(yaml.safe_load((REPOSITORY / "config.yaml").read_text()))
    repeats, seconds = (1, 0.05) if quick else (3, 1.5)
    rows = []
    whole = Timed()
    with one_core():
        rates = Rates.measure()
        for name, method in study.methods.items():
            total = Timed()
            stages = method_stages(method, name)
            for stage in stages:
                found = measure_stage(stage, rates, repeats, seconds)
                total += found
                if len(stages) > 1:
                    rows.append(_row(stage.name, found))
            rows.append(_row(f"**{name}**", total))
            whole += replace(total, plain=total.plain if total.plain is not None else total.one)
            if name == "ale":
                (stage,) = method_stages(method, name, MN04)
                rows.append(_row(f"{name}, {MN04} numbers", measure_stage(stage, rates, repeats, seconds)))
    rows.append(_row("**all methods**", whole))
    columns = (
        "what", "one seed, s", "20 in one batch, s", "one after another / batch", "plain PyTorch, one seed, s",
        "plain, one after another / batch", "no less than, s", f"{TARGET:g}x",
    )  # fmt: skip
    caption = (
        f"CPU seconds on one core; {CLIPS} embeddings of {DIM} numbers, class vectors of {CONDITION}, {SEEN} seen "
        f"and {UNSEEN} unseen classes, one split. Long stages are scaled up from fewer epochs or steps. *One after "
        f"another* is {len(SEEDS)} times one seed: here, and in plain PyTorch (`benchmarks/plain_methods.py`; methods "
        "solved in closed form have none). *No less than* is what the matrix products and Adam's updates of 20 seeds "
        f"would take alone, at the rates measured here: {1e-9 / rates.operation:.0f} GFLOP/s, and "
        f"{1e9 * rates.parameter:.2f} ns for a parameter in the core's cache. The last column says which comparison "
        "reaches the target."
    )
    return [Table(caption, columns, rows)]


def _row(what: str, found: Timed) -> tuple[str, ...]:
    own = len(SEEDS) * found.one / found.batched
    plain = len(SEEDS) * found.plain / found.batched if found.plain is not None else None
    reached = [
        label for label, value in (("one", own), ("plain", plain)) if value is not None and value >= TARGET
    ]
    return (
        what,
        f"{found.one:.3g}",
        f"{found.batched:.3g}",
        times(own),
        f"{found.plain:.3g}" if found.plain is not None else "",
        times(plain) if plain is not None else "",
        f"{found.floor:.3g}" if found.plain is not None else "",
        ", ".join(reached) or "no",
    )
