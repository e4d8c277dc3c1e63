"""The study behind docs/better_generator.md, on the tables of a finished zero-shot run.

    python benchmarks/better_generator.py ablation results/zero_shot_esc50 --dataset esc50 --vectors words
    python benchmarks/better_generator.py halves results/zero_shot_esc50 --dataset esc50 --vectors words
    python benchmarks/better_generator.py published results/zero_shot_esc50 --dataset esc50 --vectors words
    python benchmarks/better_generator.py calibration results/zero_shot_esc50 --dataset esc50 --vectors words
    python benchmarks/better_generator.py confirm results/zero_shot_esc50 --dataset esc50 --vectors words \
        --embedding mn04

`ablation` leaves out each part of the Gaussian-process method and sets what seen classes say of it (held out in turn)
beside what unseen ones do. `halves` crosses the two methods' generators and classifiers, and makes ensembles of
ZeroDiffusion. `published` takes ZeroDiffusion apart. `calibration` sets the generalised setting without
calibration beside that with it. `confirm` draws class splits that nobody looked at; it needs a pretrained embedding.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from measure import Table
from scipy import special, stats
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from foley import tables
from foley.classifiers.ale import ALE, ALEOptions
from foley.classifiers.protocol import ZeroShotData
from foley.classifiers.prototype import Prototype, PrototypeOptions
from foley.classifiers.ridge import Ridge, RidgeOptions
from foley.generators.embedding.gaussian_process import GaussianProcess, GaussianProcessOptions
from foley.generators.embedding.protocol import SeenData
from foley.generators.embedding.zerodiffusion import ZeroDiffusion, ZeroDiffusionOptions
from foley.metrics import classification as metric
from foley.metrics.paired import corrected_t_test
from foley.runtime.seeds import derive
from foley.studies.partition import TRAINING_ROLES, partition_clips
from foley.studies.zero_shot.experiment import Experiment, load_experiment
from foley.studies.zero_shot.selection import HeldOutAccuracy, held_out_accuracy
from foley.training.held_out_classes import class_means, hold_out_classes
from foley.training.scaling import Scaling, ScalingKind


@dataclass(frozen=True)
class Form:
    """A method as it is compared here; ``seeds`` 1 where nothing is random."""

    name: str
    generator: type | None
    generator_options: Any
    classifier: type
    classifier_options: Any
    seeds: int = 1


def gaussian(
    name: str,
    *,
    classifier: type = Prototype,
    options: Any = None,
    seeds: int = 1,
    shrinkage: float | None = None,
    **o: Any,
) -> Form:
    """The Gaussian-process method with some options changed; those that generator and classifier share, in both."""
    shared = {key: o[key] for key in ("scaling", "score") if key in o}
    if shrinkage is not None:
        o["shrinkages"] = (shrinkage,)
    # Calibration changes nothing among unseen classes alone, and takes its time.
    options = (
        PrototypeOptions(**shared, shrinkage=shrinkage, calibration="none") if options is None else options
    )
    return Form(name, GaussianProcess, GaussianProcessOptions(**o), classifier, options, seeds)


FULL = gaussian("full")
RIDGE = Form("ridge, no generator", None, None, Ridge, RidgeOptions())
# As the configuration has them.
ZERODIFFUSION = Form("ZeroDiffusion + ALE", ZeroDiffusion, ZeroDiffusionOptions(), ALE, ALEOptions(), seeds=3)
FORMS = (
    FULL,
    gaussian("class vectors not centred", centre=False),
    gaussian("linear kernel", kernels=("linear",)),
    gaussian("linear or radial kernel, by seen classes", kernels=("radial", "linear")),
    gaussian("embeddings not scaled", scaling="none"),
    gaussian("length scale and noise fixed at 1", length_scales=(1.0,), noises=(1.0,)),
    gaussian("always whitened, shrinkage 0.3", shrinkage=0.3),
    gaussian("always whitened, shrinkage 0", shrinkage=0.0),
    gaussian("never whitened", shrinkage=1.0),
    gaussian("distance instead of cosine", score="distance"),
    gaussian("never whitened, distance: nearest mean", shrinkage=1.0, score="distance"),
    RIDGE,
    gaussian("generator alone: samples + ALE", classifier=ALE, options=ALEOptions(), seeds=3),
    gaussian("generator alone: mean + ALE", classifier=ALE, options=ALEOptions(), seeds=3, samples="mean"),
    Form(
        "classifier alone: ZeroDiffusion + prototype",
        *(ZeroDiffusion, ZeroDiffusionOptions(), Prototype, PrototypeOptions(calibration="none"), 3),
    ),
    ZERODIFFUSION,
)


def scores(experiment: Experiment, form: Form, rows: np.ndarray, first: int, count: int = 40) -> np.ndarray:
    """Train as the study does -> scores [seeds, rows, classes from ``first`` on]."""
    train = experiment.rows(*TRAINING_ROLES)
    x = torch.from_numpy(experiment.embeddings[train])
    classes = torch.from_numpy(experiment.class_rows(train))
    vectors, seen = torch.from_numpy(experiment.vectors), len(experiment.seen)
    seeds = list(range(form.seeds))
    made = None
    if form.generator is not None:
        generator = form.generator(form.generator_options, seeds)
        generator.fit(SeenData(x, classes, vectors[:seen]))
        made = generator.sample(vectors[seen:], count)
    model = form.classifier(form.classifier_options, seeds)
    model.fit(ZeroShotData(x, classes, vectors, seen, made))
    asked = torch.from_numpy(experiment.embeddings[rows])
    return model.score(asked, torch.arange(first, len(vectors))).numpy()


def unseen_accuracy(experiment: Experiment, form: Form) -> np.ndarray:
    """Of each seed, over unseen classes alone [seeds]."""
    rows, seen = experiment.rows("unseen"), len(experiment.seen)
    said = scores(experiment, form, rows, seen).argmax(axis=2) + seen
    return (said == experiment.class_rows(rows)).mean(axis=1)


def held_out(experiment: Experiment, form: Form, groupings: int) -> HeldOutAccuracy:
    return held_out_accuracy(
        experiment,
        generator=form.generator,
        generator_options=form.generator_options,
        classifier=form.classifier,
        classifier_options=form.classifier_options,
        seeds=range(min(2, form.seeds)),
        groupings=groupings,
    )


@dataclass(frozen=True)
class Run:
    """Where the tables of a finished run lie."""

    folder: Path
    dataset: str
    vectors: str

    @property
    def splits(self) -> list[str]:
        found = (self.folder / f"zero_shot/dataset={self.dataset}").glob("split=*/partition.parquet")
        return sorted(path.parent.name.removeprefix("split=") for path in found)

    @property
    def class_vectors(self) -> Path:
        return (
            self.folder / f"class_vectors/dataset={self.dataset}/vectors={self.vectors}/class_vectors.parquet"
        )

    def embeddings(self, embedding: str, split: str | None) -> list[Path]:
        folder = self.folder / f"embeddings/dataset={self.dataset}/embedding={embedding}"
        shards = sorted(folder.glob("shard=*.parquet"))
        return shards or [folder / f"split={split}/embeddings.parquet"]

    def experiment(self, embedding: str, split: str) -> Experiment:
        partition = self.folder / f"zero_shot/dataset={self.dataset}/split={split}/partition.parquet"
        return load_experiment(self.embeddings(embedding, split), partition, self.class_vectors)


def percent(values: Any) -> str:
    return f"{100 * np.mean(values):.1f}"


def paired(differences: Sequence[float]) -> str:
    """Mean and standard error, in points."""
    d = 100 * np.asarray(differences)
    return f"{d.mean():+.1f} ± {d.std(ddof=1) / np.sqrt(len(d)):.1f}" if len(d) > 1 else f"{d.mean():+.1f}"


def ablation(run: Run, embedding: str, groupings: int) -> tuple[list[Table], Any]:
    recalls: dict[str, list[np.ndarray]] = {form.name: [] for form in FORMS}
    unseen: dict[str, list[np.ndarray]] = {form.name: [] for form in FORMS}
    experiments = {split: run.experiment(embedding, split) for split in run.splits}
    for form in sorted(FORMS, key=lambda form: form.seeds > 1):  # those that train last
        for split, experiment in experiments.items():
            start = time.perf_counter()
            of_form = 1 if form.seeds > 1 else groupings
            recalls[form.name].append(held_out(experiment, form, of_form).recalls)
            unseen[form.name].append(unseen_accuracy(experiment, form))
            print(
                f"{split} {form.name}: held-out seen {percent(recalls[form.name][-1])}, "
                f"unseen {percent(unseen[form.name][-1])} ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )
    rows = []
    full = np.concatenate(recalls[FULL.name])
    for form in FORMS:
        seen = np.concatenate(recalls[form.name])
        means = [values.mean() for values in unseen[form.name]]
        rows.append(
            (
                form.name,
                percent([values.mean() for values in recalls[form.name]]),
                "" if form is FULL else paired(seen - full),
                percent(means),
                " ".join(f"{100 * value:.1f}" for value in means),
                f"{100 * np.mean([v.std(ddof=1) for v in unseen[form.name]]):.1f}" if form.seeds > 1 else "0",
            )
        )
    columns = (
        "form",
        "held-out seen, %",
        "less full, points ± standard error",
        "unseen, %",
        ", ".join(run.splits),
        "deviation over seeds",
    )
    raw = {
        name: {"held_out": [v.tolist() for v in recalls[name]], "unseen": [v.tolist() for v in unseen[name]]}
        for name in recalls
    }
    return [Table(f"{run.dataset}, {embedding}", columns, rows)], raw


POOLED = 20


class PooledZeroDiffusion:
    """Samples of :data:`POOLED` ZeroDiffusion generators together, instead of one generator's for each classifier."""

    def __init__(self, options: ZeroDiffusionOptions, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)
        self.generators = ZeroDiffusion(options, range(POOLED))

    def fit(self, data: SeenData) -> None:
        self.generators.fit(data)

    def sample(self, vectors: torch.Tensor, count: int) -> torch.Tensor:
        made, number = self.generators.sample(vectors, count), torch.arange(count)
        return torch.stack([made[(number + seed) % POOLED, :, number].transpose(0, 1) for seed in self.seeds])


def halves(run: Run, embedding: str, seeds: int) -> tuple[list[Table], Any]:
    """Unseen accuracy of each generator with each classifier, and of ensembles; nothing is chosen here."""
    forms = [
        FULL,
        gaussian("Gaussian process + ALE", classifier=ALE, options=ALEOptions(), seeds=seeds),
        Form(
            "ZeroDiffusion + prototype",
            *(ZeroDiffusion, ZeroDiffusionOptions(), Prototype, PrototypeOptions(calibration="none"), seeds),
        ),
        dataclasses.replace(ZERODIFFUSION, seeds=seeds),
        Form(
            f"samples of {POOLED} ZeroDiffusion generators + ALE",
            *(PooledZeroDiffusion, ZeroDiffusionOptions(), ALE, ALEOptions(), seeds),
        ),
    ]
    together = f"{ZERODIFFUSION.name}, answers of {seeds} seeds together"
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*(form.name for form in forms), together)}
    for split in run.splits:
        experiment = run.experiment(embedding, split)
        rows, seen = experiment.rows("unseen"), len(experiment.seen)
        truth = experiment.class_rows(rows) - seen
        for form in forms:
            said = scores(experiment, form, rows, seen)
            found[form.name].append((said.argmax(axis=2) == truth).mean(axis=1))
            if form.name == ZERODIFFUSION.name:
                mean = special.log_softmax(said, axis=2).mean(axis=0)
                found[together].append((mean.argmax(axis=1) == truth).mean(keepdims=True))
            print(split, form.name, percent(found[form.name][-1]), flush=True)
    rows_out = []
    for name, values in found.items():
        spread = [f"{100 * v.std(ddof=1):.1f}" if len(v) > 1 else "0" for v in values]
        cells = [f"{percent(v)} ± {s}" for v, s in zip(values, spread, strict=True)]
        rows_out.append([name, *cells, percent([v.mean() for v in values])])
    table = Table(f"{run.dataset}, {embedding}", ("method", *run.splits, "mean"), rows_out)
    return [table], {name: [v.tolist() for v in values] for name, values in found.items()}


def calibration(run: Run, embedding: str) -> tuple[list[Table], Any]:
    rows, raw = [], {}
    for split in run.splits:
        experiment = run.experiment(embedding, split)
        asked = np.sort(np.concatenate([experiment.rows("unseen"), experiment.rows("seen_test")]))
        truth, seen = experiment.class_rows(asked), len(experiment.seen)
        cells = [split]
        for name in ("none", "held_out"):
            form = dataclasses.replace(FULL, classifier_options=PrototypeOptions(calibration=name))  # type: ignore[arg-type]
            found = scores(experiment, form, asked, 0)[0]
            sides = []
            for side in (truth < seen, truth >= seen):
                classes = np.unique(truth[side])
                right = (found[side].argmax(axis=1) == truth[side])[None]
                sides.append(np.nanmean(metric.recalls(right, truth[side], classes)))
            harmonic = float(metric.harmonic_mean(np.array(sides[:1]), np.array(sides[1:]))[0])
            cells += [percent(value) for value in (*sides, harmonic)]
            raw[f"{split} {name}"] = [*map(float, sides), harmonic]
        rows.append(cells)
    together = np.array(list(raw.values())).reshape(len(rows), 6).mean(axis=0)
    rows.append(["mean", *map(percent, together)])
    columns = ("split", *(f"{what}{how}" for how in ("", ", calibrated") for what in ("seen", "unseen", "H")))
    return [Table(f"{run.dataset}, {embedding}", columns, rows)], raw


# ZeroDiffusion taken apart. The library's class holds the published forms as they are; the changed ones live here.


@dataclass(frozen=True)
class Denoising:
    """``noise``: its share grows with the epoch, or is 1, as in sampling, throughout. ``centre``: class vectors are
    brought to unit length, less the seen classes' mean, and to unit length again. ``ema``: decay of the average of
    weights that samples are drawn with. ``guidance``: samples go that many times as far from what is said without a
    class as the class alone would take them; class vectors are then left out for a tenth of the rows in training."""

    name: str
    output: Literal["tanh", "relu", "linear"] = "tanh"
    scaling: ScalingKind = "none"
    noise: Literal["epoch", "full"] = "epoch"
    centre: bool = False
    ema: float | None = None
    guidance: float | None = None
    hidden: int = 64
    epochs: int = 80


DENOISING = (
    Denoising("published, written again"),
    Denoising("ReLU output", output="relu"),
    Denoising("linear output", output="linear"),
    Denoising("embeddings at deviation 1, linear output", scaling="standardise", output="linear"),
    Denoising("noise share 1 throughout", noise="full"),
    Denoising("deviation 1, linear, noise share 1", scaling="standardise", output="linear", noise="full"),
    Denoising(
        "deviation 1, linear, noise share 1, centred class vectors",
        scaling="standardise",
        output="linear",
        noise="full",
        centre=True,
    ),
    Denoising("average of weights (0.99)", ema=0.99),
    Denoising("guidance by the class, 2", guidance=2.0),
)


class Denoiser:
    """ZeroDiffusion's network and training with one thing or another changed, seed by seed."""

    def __init__(self, options: Denoising, seeds: Sequence[int]) -> None:
        self.options, self.seeds = options, list(seeds)

    def fit(self, data: SeenData, *, checkpoint: object = None) -> None:
        o = self.options
        self.scaling = Scaling.of(o.scaling, data.embeddings)
        x = self.scaling.apply(data.embeddings)
        unit = functional.normalize(data.vectors, dim=1)
        self.middle = unit.mean(dim=0)
        vectors = self._placed(data.vectors)[data.classes]
        self.norm = x.norm(dim=1).mean()
        self.networks = []
        for seed in self.seeds:
            torch.manual_seed(derive(seed, "denoiser"))
            network = nn.Sequential(
                nn.Linear(x.shape[1] + vectors.shape[1], o.hidden),
                nn.LeakyReLU(),
                nn.Dropout(0.3),
                nn.Linear(o.hidden, x.shape[1]),
                {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}[o.output](),
            )
            optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
            average = (
                None if o.ema is None else AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(o.ema))
            )
            for epoch in range(o.epochs):
                for rows in torch.randperm(len(x)).split(128):
                    real = x[rows]
                    share = {
                        "epoch": torch.full((len(rows), 1), epoch / o.epochs),
                        "full": torch.ones(len(rows), 1),
                    }[o.noise]
                    noise = functional.normalize(torch.randn_like(real), dim=1) * real.norm(
                        dim=1, keepdim=True
                    )
                    condition = vectors[rows]
                    if o.guidance is not None:
                        condition = condition * (torch.rand(len(rows), 1) >= 0.1)
                    said = network(torch.cat([(1 - share) * real + share * noise, condition], dim=1))
                    optimiser.zero_grad()
                    functional.mse_loss(said, real).backward()
                    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                    optimiser.step()
                    if average is not None:
                        average.update_parameters(network)
            self.networks.append((network if average is None else average.module).eval())

    @torch.inference_mode()
    def sample(self, vectors: torch.Tensor, count: int) -> torch.Tensor:
        out = []
        dim = self.scaling.shift.shape[-1]
        for seed, network in zip(self.seeds, self.networks, strict=True):
            stream = torch.Generator().manual_seed(derive(seed, "denoiser", "sample"))
            noise = torch.randn(len(vectors) * count, dim, generator=stream)
            noise = functional.normalize(noise, dim=1) * self.norm
            condition = self._placed(vectors).repeat_interleave(count, dim=0)
            said = network(torch.cat([noise, condition], dim=1))
            if self.options.guidance is not None:
                without = network(torch.cat([noise, torch.zeros_like(condition)], dim=1))
                said = without + self.options.guidance * (said - without)
            made = self.scaling.undo(said)
            out.append(made.view(len(vectors), count, dim))
        return torch.stack(out)

    def _placed(self, vectors: torch.Tensor) -> torch.Tensor:
        if not self.options.centre:
            return vectors
        return functional.normalize(functional.normalize(vectors, dim=1) - self.middle, dim=1)


def published(run: Run, embedding: str, seeds: int, splits: Sequence[str] | None) -> tuple[list[Table], Any]:
    """All of it on seen classes that were held out in turn: real clips of theirs are what samples should be like."""
    prototype = PrototypeOptions(shrinkage=0.3, calibration="none")
    forms = [
        Form("library's ZeroDiffusion", ZeroDiffusion, ZeroDiffusionOptions(), Prototype, prototype, seeds),
        *(Form(o.name, Denoiser, o, Prototype, prototype, seeds) for o in DENOISING),
        gaussian("Gaussian process", options=prototype, seeds=seeds),
    ]
    measured: dict[str, list[dict[str, float]]] = {form.name: [] for form in forms}
    for split in splits or run.splits:
        experiment = run.experiment(embedding, split)
        train, classes = experiment.rows(*TRAINING_ROLES), len(experiment.seen)
        x = torch.from_numpy(experiment.embeddings[train])
        rows = torch.from_numpy(experiment.class_rows(train))
        vectors = torch.from_numpy(experiment.vectors[:classes])
        for part in hold_out_classes(rows, classes, held_out=8, groupings=1, name="published"):
            kept, asked = x[~part.held], x[part.held]
            ordered = torch.cat([vectors[~part.out], vectors[part.out]])
            seen = int((~part.out).sum())
            real = class_means(asked, part.held_rows, classes - seen)
            within = (asked - real[part.held_rows]).square().sum(dim=1).mean()
            for form in forms:
                assert form.generator is not None
                generator = form.generator(form.generator_options, range(seeds))
                generator.fit(SeenData(kept, part.kept_rows, ordered[:seen]))
                made = generator.sample(ordered[seen:], 40)
                model = Prototype(prototype, range(seeds))
                model.fit(ZeroShotData(kept, part.kept_rows, ordered, seen, made))
                said = model.score(asked, torch.arange(seen, classes)).argmax(dim=2)
                right = (said == part.held_rows).double().mean(dim=1)
                means, middle = made.mean(dim=2), kept.mean(dim=0)
                apart = functional.cosine_similarity(means - middle, real - middle, dim=-1)
                found = {
                    "norm": made.norm(dim=-1).mean() / asked.norm(dim=1).mean(),
                    # From the middle of the kept clips: what is said of the class, not of all sounds.
                    "cosine": apart.mean(),
                    "within": made.var(dim=2).sum(dim=-1).mean() / within,
                    "between": means.var(dim=1).sum(dim=-1).mean() / real.var(dim=0).sum(),
                    "accuracy": right.mean(),
                    "spread": right.std(),
                }
                measured[form.name].append({key: float(value) for key, value in found.items()})
                print(split, form.name, {k: round(float(v), 3) for k, v in found.items()}, flush=True)
    rows_out = []
    for form in forms:
        m = {key: np.mean([found[key] for found in measured[form.name]]) for key in measured[form.name][0]}
        cells = [f"{m[key]:.2f}" for key in ("norm", "cosine", "within", "between")]
        rows_out.append([form.name, *cells, f"{100 * m['accuracy']:.1f} ± {100 * m['spread']:.1f}"])
    columns = ("generator", "norm", "cosine", "within", "between", "held-out seen, %, ± over seeds")
    return [Table(f"{run.dataset}, {embedding}", columns, rows_out)], measured


def random_class_splits(labels: Sequence[str], count: int, unseen: int, seed: int) -> dict[str, Any]:
    """Splits drawn one by one, so that they overlap: what the corrected test is for."""
    found = {}
    for number in range(count):
        order = np.random.default_rng(derive(seed, "confirm", number)).permutation(sorted(labels))
        found[f"draw{number}"] = {"unseen": sorted(map(str, order[:unseen]))}
    return found


def confirm(
    run: Run, embedding: str, count: int, unseen: int, seed: int, seeds: int
) -> tuple[list[Table], Any]:
    clips = run.folder / f"clips/dataset={run.dataset}/clips.parquet"
    labels = sorted(set(tables.read(clips, columns=["label"])["label"].to_pylist()))
    forms = (FULL, RIDGE, dataclasses.replace(ZERODIFFUSION, seeds=seeds))
    # Of each split, its seeds.
    accuracies: dict[str, list[list[float]]] = {form.name: [] for form in forms}
    with tempfile.TemporaryDirectory() as folder:
        splits = Path(folder) / "splits.yaml"
        drawn = random_class_splits(labels, count, unseen, seed)
        splits.write_text(yaml.safe_dump({"splits": drawn}))
        experiments = {}
        for split in drawn:
            partition = Path(folder) / split / "partition.parquet"
            partition_clips(
                partition,
                clips=clips,
                split=split,
                splits_file=splits,
                random={},
                validation_fraction=0.1,
                test_fraction=0.1,
                seed=0,
            )
            embedded = run.embeddings(embedding, None)
            experiments[split] = load_experiment(embedded, partition, run.class_vectors)
    for form in forms:
        for split, experiment in experiments.items():
            accuracies[form.name].append(unseen_accuracy(experiment, form).tolist())
            print(f"{split} {form.name}: {percent(accuracies[form.name][-1])}", flush=True)
    rows = []
    full = np.mean(accuracies[FULL.name], axis=1)
    ratio = unseen / (len(labels) - unseen)
    for form in forms:
        of_seeds = 100 * np.array(accuracies[form.name])
        own = of_seeds.mean(axis=1) / 100
        spread = f"{of_seeds.std(axis=1, ddof=1).mean():.1f}" if form.seeds > 1 else ""
        cells = [form.name, str(len(own)), f"{percent(own)} ± {100 * own.std(ddof=1):.1f}", spread]
        if form is not FULL:
            differences = full[: len(own)] - own
            # The interval that belongs to the corrected test: the same variance, that of Nadeau & Bengio.
            half = stats.t.ppf(0.975, len(own) - 1) * differences.std(ddof=1)
            half *= np.sqrt(1 / len(own) + ratio)
            cells += [
                f"{100 * differences.mean():+.1f}",
                f"[{100 * (differences.mean() - half):+.1f}, {100 * (differences.mean() + half):+.1f}]",
                f"{corrected_t_test(differences, ratio):.2g}",
                f"{int((differences > 0).sum())} of {len(own)}",
            ]
        rows.append([*cells, *[""] * (8 - len(cells))])
    columns = (
        "method", "splits", "accuracy, % ± deviation over splits", "± over seeds", "full is ahead by", "95 %", "p",
        "full wins",
    )  # fmt: skip
    return [Table(f"{run.dataset}, {embedding}", columns, rows)], accuracies


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=("ablation", "halves", "published", "calibration", "confirm"))
    parser.add_argument("results", type=Path, help="folder of a finished zero-shot run")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--vectors", required=True, help="id of the class vectors")
    parser.add_argument("--embedding", action="append", required=True, help="repeatable")
    parser.add_argument("--split", action="append", help="of `published`; repeatable; all when left out")
    parser.add_argument(
        "--seeds", type=int, default=3, help="of what trains in `published`, `halves` and `confirm`"
    )
    parser.add_argument(
        "--groupings",
        type=int,
        default=2,
        help="of seen classes into parts, in `ablation`; 1 for forms that train",
    )
    parser.add_argument("--splits", type=int, default=20, help="drawn by `confirm`")
    parser.add_argument("--unseen", type=int, default=10, help="classes in each split that `confirm` draws")
    parser.add_argument("--seed", type=int, default=0, help="of the splits that `confirm` draws")
    parser.add_argument("--json", type=Path, help="also write what was measured here")
    a = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(a.results, a.dataset, a.vectors)
    studies: dict[str, Callable[[str], tuple[list[Table], Any]]] = {
        "ablation": lambda embedding: ablation(run, embedding, a.groupings),
        "halves": lambda embedding: halves(run, embedding, a.seeds),
        "published": lambda embedding: published(run, embedding, a.seeds, a.split),
        "calibration": lambda embedding: calibration(run, embedding),
        "confirm": lambda embedding: confirm(run, embedding, a.splits, a.unseen, a.seed, a.seeds),
    }
    measured = {}
    for embedding in a.embedding:
        found, measured[embedding] = studies[a.study](embedding)
        print("\n" + "\n\n".join(table.markdown() for table in found) + "\n", flush=True)
    if a.json is not None:
        a.json.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
