"""Twenty seeds as one batched model, against one seed and against twenty one after another."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import yaml
from measure import REPOSITORY, Table, one_core, seconds, times

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
# ESC-50: 40 clips a class, 10 of 50 classes unseen.
SEEN, UNSEEN, CLIPS, DIM, CONDITION = 40, 10, 1600, 128, 300


@dataclass(frozen=True)
class Stage:
    """A part of a method whose time grows with ``rounds`` (epochs of training, steps of sampling)."""

    name: str
    rounds: int
    run: Callable[[list[int], int], float]  # seeds, rounds -> seconds


def made_data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings [clips, DIM], classes [clips], class vectors [classes, CONDITION]; only their sizes matter."""
    stream = torch.Generator().manual_seed(0)
    vectors = torch.randn(SEEN + UNSEEN, CONDITION, generator=stream)
    classes = torch.arange(CLIPS) % SEEN
    centres = torch.randn(SEEN, DIM, generator=stream)
    embeddings = centres[classes] + 0.5 * torch.randn(CLIPS, DIM, generator=stream)
    return embeddings.relu() / 4, classes, vectors / vectors.norm(dim=1, keepdim=True)


def classifier_stage(method: Method, name: str) -> Stage:
    kind: Any = load(ZERO_SHOT_KINDS[method.classifier])
    options = parse_options(kind.Options, method.classifier_options, "classifier_options")
    embeddings, classes, vectors = made_data()

    def run(seeds: list[int], epochs: int) -> float:
        synthetic = None
        if method.generator is not None:
            synthetic = torch.rand(len(seeds), UNSEEN, method.samples_per_class, DIM)
        data = ZeroShotData(embeddings, classes, vectors, SEEN, synthetic)
        model = kind(_lasting(options, epochs), seeds)
        return seconds(lambda: (model.fit(data), model.score(embeddings, torch.arange(SEEN + UNSEEN))))

    return Stage(name, getattr(options, "epochs", 1), run)


def generator_stages(method: Method, name: str) -> list[Stage]:
    kind: Any = load(EMBEDDING_KINDS[method.generator or ""])
    options = parse_options(kind.Options, method.generator_options, "generator_options")
    options = options.resolved() if hasattr(options, "resolved") else options
    embeddings, classes, vectors = made_data()
    seen = SeenData(embeddings, classes, vectors[:SEEN])

    def fit(seeds: list[int], epochs: int) -> float:
        model = kind(_lasting(options, epochs), seeds)
        return seconds(lambda: model.fit(seen))

    def sample(seeds: list[int], steps: int) -> float:
        short = _lasting(options, 1)
        model = kind(replace(short, steps=steps) if hasattr(options, "steps") else short, seeds)
        model.fit(seen)
        return seconds(lambda: model.sample(vectors[SEEN:], method.samples_per_class))

    return [
        Stage(f"{name}: train", getattr(options, "epochs", 1), fit),
        Stage(f"{name}: sample", getattr(options, "steps", 1), sample),
    ]


def _lasting(options: Any, epochs: int) -> Any:
    """Options with so many epochs; as they are where a method is solved in closed form."""
    return replace(options, epochs=epochs) if hasattr(options, "epochs") else options


@dataclass(frozen=True)
class Timed:
    """Seconds of a whole stage, scaled up from the rounds that were run."""

    one: float
    batched: float
    rounds_run: int


def measure_stage(stage: Stage, repeats: int, singles: int, limit_s: float, short_s: float) -> Timed:
    """Medians; the whole stage when the batch takes less than ``limit_s``, else rounds for ``short_s``."""
    probe = min(stage.rounds, 2)
    stage.run(SEEDS[:1], probe)
    stage.run(SEEDS, probe)
    each = stage.run(SEEDS, probe) / probe
    whole = each * stage.rounds <= limit_s
    rounds = stage.rounds if whole else max(probe, min(stage.rounds, round(short_s / each)))
    one, batched = [], []
    for repeat in range(repeats):
        batched.append(stage.run(SEEDS, rounds))
        for seed in range(singles):
            one.append(stage.run([SEEDS[(repeat * singles + seed) % len(SEEDS)]], rounds))
    scale = stage.rounds / rounds
    return Timed(statistics.median(one) * scale, statistics.median(batched) * scale, rounds)


def run(quick: bool) -> list[Table]:
    study = configuration.load(yaml.safe_load((REPOSITORY / "config.yaml").read_text()))
    assert study.zero_shot is not None
    effort = (1, 1, 0.0, 0.2) if quick else (3, 5, 60.0, 10.0)
    timed: dict[str, Timed] = {}
    rows = []
    total = Timed(0.0, 0.0, 0)
    with one_core():
        for name in study.zero_shot.methods:
            method = study.methods[name]
            stages = generator_stages(method, name) if method.generator is not None else []
            stages.append(classifier_stage(method, f"{name}: classify"))
            whole = Timed(0.0, 0.0, 0)
            for stage in stages:
                found = timed[stage.name] = measure_stage(stage, *effort)
                whole = _add(whole, found)
                rows.append(_row(stage.name, found, f"{found.rounds_run} of {stage.rounds}"))
            rows.append(_row(f"**{name}**", whole, ""))
            total = _add(total, whole)
    rows.append((*_row("**the study's methods together**", total, "")[:-1], "under 3x"))
    columns = (
        "what", "rounds run", "one seed, s", f"{len(SEEDS)} in one batch, s", "batch / one",
        f"{len(SEEDS)} one after another / batch", "budget",
    )  # fmt: skip
    caption = (
        f"One core, {CLIPS} embeddings of {DIM} numbers, class vectors of {CONDITION}, {SEEN} seen and {UNSEEN} unseen "
        "classes. A round is an epoch of training or a step of sampling; where fewer were run than the study has, the "
        f"seconds are scaled up. One after another is {len(SEEDS)} times the median of one."
    )
    return [Table(caption, columns, rows)]


def _add(a: Timed, b: Timed) -> Timed:
    return Timed(a.one + b.one, a.batched + b.batched, 0)


def _row(what: str, found: Timed, rounds: str) -> tuple[str, ...]:
    return (
        what,
        rounds,
        f"{found.one:.3g}",
        f"{found.batched:.3g}",
        times(found.batched / found.one),
        times(len(SEEDS) * found.one / found.batched),
        "",
    )
