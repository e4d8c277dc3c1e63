"""What the config asks for: which components, on which data, in which splits; checked before any job starts.

The rules ask a :class:`Plan`; the plan reads no audio and imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from foley import config as configuration
from foley.classifiers.registry import BY_EXAMPLE, ZERO_SHOT_KINDS
from foley.encoders.registry import FOLDER_KINDS, PRETRAINED_KINDS, TRAINED_KINDS
from foley.encoders.weights import PINNED, without_secrets
from foley.features.registry import FRAME_KINDS
from foley.features.registry import KINDS as FEATURE_KINDS
from foley.generators.registry import EMBEDDING_KINDS
from foley.options import ConfigError, did_you_mean
from foley.plan.audio import AudioPlan
from foley.plan.components import check_datasets, check_feature, check_options, need_file, target
from foley.plan.data import DataPlan
from foley.plan.diverse import DiversePlan
from foley.plan.foundation import FoundationPlan
from foley.plan.speech import SpeechPlan
from foley.runtime.seeds import derive

# Splits become parts of paths, and the score table keeps `mean` for the mean over them.
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MEAN = "mean"


@cache
def _split_names(file: str) -> list[str]:
    """Names of the class splits in a file, in its order.

    Raises:
        ConfigError: the file holds none, or a name cannot stand in a path or is taken; names the file.
    """
    try:
        names = [str(name) for name in dict(yaml.safe_load(Path(file).read_text(encoding="utf-8"))["splits"])]
    except (yaml.YAMLError, TypeError, ValueError, KeyError) as error:
        raise ConfigError(
            f"config: {file} holds no class splits: expected `splits: {{name: {{unseen: [labels]}}}}`, got {error!r}"
        ) from None
    if not names:
        raise ConfigError(f"config: {file} holds no class splits: `splits` is empty")
    for name in names:
        if not _SPLIT_NAME.fullmatch(name) or name == _MEAN:
            raise ConfigError(
                f"config: {file} names a split `{name}`: a name holds letters, digits, `_`, `-` and `.` only, "
                f"and `{_MEAN}` is the mean over splits"
            )
    return names


class Plan:
    """The checked config with everything resolved that the rules need.

    Args:
        raw: the config as Snakemake merged it.
        resources: the folder of class tables, splits and published figures.
        trust_cache: in the jobs of a run, whose main process has just looked: don't look at raw trees again.

    Raises:
        ConfigError, FileNotFoundError, ValueError: one clear message about a key, a folder or a file.
    """

    def __init__(self, raw: Mapping[str, Any], resources: Path, *, trust_cache: bool = False) -> None:
        self.config = configuration.load(raw)
        self.resources = resources
        self.cache = Path(self.config.cache)
        study, shown = self.config.zero_shot, self.config.report.datasets
        audio = (
            self.config.diffusion, self.config.interpolation, self.config.foundation,
            self.config.diverse_embeddings, self.config.speech,
        )  # fmt: skip
        wanted = [*(study.datasets if study else []), *shown]
        wanted += [dataset for part in audio if part is not None for dataset in part.datasets]
        wanted += [self.config.speech.background.dataset] if self.config.speech is not None else []
        vectors = study.class_vectors if study else []
        self.data = DataPlan(self.config, resources, wanted, vectors, trust_cache=trust_cache)
        self._check()
        self.audio = AudioPlan(self.config, self.data)
        self.foundation = FoundationPlan(self.config, self.data, self.audio)
        self.diverse = DiversePlan(self.config, self.data, self.audio)
        self.speech = SpeechPlan(self.config, self.data, self.audio, self.foundation)
        needed = [*self.audio.embeddings, *self.foundation.embeddings, *self.diverse.embeddings]
        for embedding in dict.fromkeys(needed):
            self._check_embedding(embedding)

    @property
    def datasets(self) -> list[str]:
        """Datasets that take part: those of the studies, and those that only the page asks for."""
        return self.data.datasets

    @property
    def has_studies(self) -> bool:
        """Whether any study runs; the page may show data alone."""
        studies = (self.study, self.audio, self.foundation, self.diverse, self.speech)
        return any(study.datasets for study in studies)

    # The zero-shot study

    @cached_property
    def study(self) -> configuration.ZeroShot:
        """The zero-shot study, without the datasets that are left out; empty where none is configured."""
        study = self.config.zero_shot or configuration.ZeroShot()
        return study.model_copy(update={"datasets": [d for d in study.datasets if d in self.data.datasets]})

    def splits_file(self, dataset: str) -> str | None:
        """The user's splits, published ones of the dataset's kind, or None for random ones."""
        own = self.config.datasets[dataset].splits
        if own is not None:
            need_file(own, f"datasets.{dataset}.splits", "class splits (see resources/splits/zero_shot)")
            return own
        name = self.data.kind(dataset).splits or self.data.kind_name(dataset)
        ours = self.resources / "splits" / "zero_shot" / f"{name}.yaml"
        return str(ours) if ours.is_file() else None

    def splits(self, dataset: str) -> list[str]:
        """Splits that the study runs on a dataset."""
        file = self.splits_file(dataset)
        if file is not None:
            known = _split_names(file)
        else:
            known = [f"fold{k}" for k in range(self.study.random_splits.count)]
        wanted = self.study.splits
        if wanted is None:
            return known
        for name in wanted:
            if name not in known:
                raise ConfigError(
                    f"config: `zero_shot.splits` names `{name}`, which {dataset} does not have; "
                    f"{did_you_mean(name, known)}"
                )
        return list(wanted)

    def variance_splits(self, dataset: str) -> list[str]:
        """Splits in which the spread over seeds is split by its source."""
        assert self.study.variance is not None
        wanted = self.study.variance.splits
        return [s for s in self.splits(dataset) if wanted is None or s in wanted]

    def replicates(self, embedding: str) -> list[str]:
        """Ids of an embedding's networks, seed by seed, itself first; a pretrained one has no others."""
        more = (
            self.study.variance.embedding_seeds if self.study.variance and self.is_trained(embedding) else 1
        )
        first = self.config.embeddings[embedding].seed
        return [embedding, *(f"{embedding}.seed{first + k}" for k in range(1, more))]

    @cached_property
    def _replicate_of(self) -> dict[str, tuple[str, int]]:
        """Id of a network -> the embedding that it belongs to, and its seed."""
        return {
            name: (embedding, self.config.embeddings[embedding].seed + k)
            for embedding in self.study.embeddings
            for k, name in enumerate(self.replicates(embedding))
        }

    def embedding(self, embedding: str) -> configuration.Embedding:
        """An embedding of the config, or one of its replicates."""
        if embedding in self.config.embeddings:
            return self.config.embeddings[embedding]
        base, seed = self._replicate_of[embedding]
        return self.config.embeddings[base].model_copy(update={"seed": seed})

    @property
    def networks(self) -> list[str]:
        """Ids of all embeddings and of their replicates."""
        return sorted({*self.config.embeddings, *self._replicate_of})

    def variant(self, embedding: str, vectors: str) -> str:
        """Embedding and class vectors as tables name them: a replicate goes by its embedding's name."""
        return f"{self._replicate_of.get(embedding, (embedding,))[0]}/{vectors}"

    def is_trained(self, embedding: str) -> bool:
        return self.embedding(embedding).encoder in TRAINED_KINDS

    def encoder_target(self, embedding: str) -> str:
        name = self.embedding(embedding).encoder
        return target({**TRAINED_KINDS, **PRETRAINED_KINDS}, name, f"embeddings.{embedding}.encoder")

    def local_weights(self, embedding: str) -> str | None:
        """Path of pretrained weights on disk; None for a URL or a trained encoder."""
        weights = self.config.embeddings[embedding].weights
        return None if weights is None or "://" in weights else str(Path(weights).expanduser())

    def feature_target(self, feature: str) -> str:
        return target(FEATURE_KINDS, self.config.features[feature].kind, f"features.{feature}.kind")

    def generator_target(self, method: str) -> str | None:
        name = self.config.methods[method].generator
        return None if name is None else target(EMBEDDING_KINDS, name, f"methods.{method}.generator")

    def classifier_target(self, method: str) -> str:
        name = self.config.methods[method].classifier
        return target(ZERO_SHOT_KINDS, name, f"methods.{method}.classifier")

    def compared_with_baseline(self) -> list[str]:
        """Methods with a generator whose classifier is of the baseline's kind, so that their gain is of interest.

        It need not be trained as the baseline's is: see ``schedules``.
        """
        base = self.config.methods[self.study.baseline].classifier
        chosen = {method: self.config.methods[method] for method in self.study.methods}
        return [m for m, entry in chosen.items() if entry.generator is not None and entry.classifier == base]

    def schedules(self, dataset: str) -> dict[str, dict[str, Any]]:
        """Classifier options of the baseline and of the methods that are compared with it, as the config gives them,
        if not all have the same: a gain is then not that of synthetic data alone."""
        compared = self.compared_with_baseline()
        found = {m: self.method(m, dataset).classifier_options for m in (self.study.baseline, *compared)}
        return found if any(found[m] != found[self.study.baseline] for m in compared) else {}

    def method(self, method: str, dataset: str) -> configuration.Method:
        """A method as it is used on a dataset."""
        return self.config.methods[method].on(dataset)

    def samples_made(self, method: str, dataset: str, embedding: str, vectors: str) -> int:
        """Synthetic embeddings per class and seed: what the classifier learns from, or the last point of the curve
        that reads them."""
        learnt_from = self.method(method, dataset).samples_per_class
        curve = self.study.learning_curve
        is_traced = (
            method in self.curve_methods
            and embedding in self.study.embeddings
            and vectors == self.study.class_vectors[0]
        )
        return max(learnt_from, *curve.samples_per_class) if curve and is_traced else learnt_from

    def methods_with(self, vectors: str) -> list[str]:
        """Methods that run with certain class vectors, in the order of the report."""
        some = self.study.class_vectors_methods
        if some is None or vectors == self.study.class_vectors[0]:
            return list(self.study.methods)
        return [m for m in self.study.methods if m in some]

    @property
    def generated(self) -> list[str]:
        """Methods with a generator, in the order of the report."""
        return [m for m in self.study.methods if self.config.methods[m].generator is not None]

    @property
    def curve_methods(self) -> list[str]:
        """Methods whose learning curves are traced, in the order of the report."""
        return self._measured(self.study.learning_curve, self.generated)

    @property
    def variance_methods(self) -> list[str]:
        """Methods whose spread over seeds is split by its source, in the order of the report."""
        return self._measured(self.study.variance, self.study.methods)

    @property
    def quality_methods(self) -> list[str]:
        """Methods whose synthetic embeddings are compared with real ones, in the order of the report."""
        return self._measured(self.study.quality, self.generated)

    @staticmethod
    def _measured(
        part: configuration.LearningCurve
        | configuration.VarianceSplit
        | configuration.EmbeddingQuality
        | None,
        possible: list[str],
    ) -> list[str]:
        if part is None:
            return []
        return [m for m in possible if part.methods is None or m in part.methods]

    @property
    def not_measured(self) -> dict[str, list[str]]:
        """Key of the study -> methods that its ``methods`` leaves out, where it leaves some out."""
        study = self.study
        chosen = {
            "learning_curve": (study.learning_curve, self.generated, self.curve_methods),
            "variance": (study.variance, study.methods, self.variance_methods),
            "quality": (study.quality, self.generated, self.quality_methods),
        }
        left_out = {
            name: [m for m in possible if m not in methods]
            for name, (part, possible, methods) in chosen.items()
            if part is not None
        }
        return {name: methods for name, methods in left_out.items() if methods}

    @property
    def seeds(self) -> list[int]:
        return list(range(self.study.seed, self.study.seed + self.study.seeds))

    def generator_seeds(self, embedding: str) -> list[int]:
        """Seeds of the generators on a network: fewer on a replicate, which only shows the spread.

        A replicate's generators have seeds of their own, derived from its network's: shared ones would be crossed
        with the networks, and not nested in them as the split of the spread takes them. They fit the tables' 32 bits.
        """
        if embedding in self.config.embeddings or self.study.variance is None:
            return self.seeds
        network = self.embedding(embedding).seed
        return sorted(
            derive(seed, "generator of a replicate", network) >> 32
            for seed in self.seeds[: self.study.variance.generator_seeds]
        )

    def grid_seeds(self, embedding: str) -> list[int]:
        """Of these, those that the spread over seeds is split by."""
        assert self.study.variance is not None
        return self.generator_seeds(embedding)[: self.study.variance.generator_seeds]

    def weights_shown(self, embedding: str) -> str | None:
        """The weights as tables and the page may name them: without a password or token in the URL."""
        weights = self.config.embeddings[embedding].weights
        return without_secrets(weights) if weights is not None and "://" in weights else weights

    def _vectors_shown(self, vectors: str) -> dict[str, Any]:
        """Class vectors as the page may show them: without a password or token in the URL."""
        entry = self.config.class_vectors[vectors].model_dump(mode="json", exclude_defaults=True)
        if "://" in entry.get("path", ""):
            entry["path"] = without_secrets(entry["path"])
        return entry

    def summary(self) -> dict[str, Any]:
        """What the page says of how its results were made."""
        study = self.study
        schedules = {d: self.schedules(d) for d in study.datasets if study.baseline in study.methods}
        schedules = {d: options for d, options in schedules.items() if options}
        return {
            "datasets": {
                d: {"kind": self.data.kind_name(d)}
                | ({"splits": self.splits(d)} if d in study.datasets else {})
                for d in self.datasets
            },
            "embeddings": {
                e: self.config.embeddings[e].model_dump(
                    mode="json", exclude_defaults=True, exclude={"weights"}
                )
                | ({"weights": self.weights_shown(e)} if self.config.embeddings[e].weights else {})
                for e in study.embeddings
            },
            "class_vectors": {v: self._vectors_shown(v) for v in study.class_vectors},
            "methods": {
                m: self.config.methods[m].model_dump(mode="json", exclude_defaults=True)
                for m in study.methods
            },
            **({"seeds": self.seeds} if study.datasets else {}),
            **self._clip_studies(),
            **self.diverse.summary(),
            "results": self.config.results,
            "left_out": dict(self.data.left_out),
            **({"schedules": schedules} if schedules else {}),
            **({"not_measured": self.not_measured} if study.datasets and self.not_measured else {}),
        }

    def _clip_studies(self) -> dict[str, Any]:
        """What the studies of clips say of themselves; they share generators and classifiers."""
        found = self.audio.summary()
        for summary in (self.foundation.summary(), self.speech.summary()):
            for key, value in summary.items():
                found[key] = {**found.get(key, {}), **value}
        return found

    # Checks

    def _check(self) -> None:
        study = self.study
        if not self.datasets and not self.data.left_out:
            raise ConfigError(
                "config: nothing to do: name datasets in `zero_shot.datasets`, `diffusion.datasets`, "
                "`interpolation.datasets`, `foundation.datasets`, `diverse_embeddings.datasets`, `speech.datasets` or "
                "`report.datasets`"
            )
        if not self.datasets:
            reasons = "; ".join(f"{dataset}: {reason}" for dataset, reason in self.data.left_out.items())
            raise ConfigError(f"config: nothing to do: every dataset is `optional` and left out. {reasons}")
        if not study.datasets:
            return
        for dataset in study.datasets:
            if self.data.kind(dataset).multi_label:
                raise ConfigError(
                    f"config: `zero_shot.datasets` names `{dataset}`, whose clips have several labels each; "
                    "the zero-shot study needs one label a clip"
                )
            self.splits(dataset)
        self._check_references(study)
        if (
            any(self.config.methods[m].generator for m in study.methods)
            and study.baseline not in study.methods
        ):
            raise ConfigError(
                f"config: `zero_shot.baseline` is `{study.baseline}`, which is not among `zero_shot.methods`; "
                "gains need a method without synthetic data to be measured against"
            )
        if self.config.methods[study.baseline].generator is not None:
            raise ConfigError(
                f"config: `zero_shot.baseline` is `{study.baseline}`, which has a generator; "
                "gains are measured against a method without synthetic data"
            )
        for embedding in study.embeddings:
            self._check_embedding(embedding)
        for vectors in study.class_vectors:
            entry = self.config.class_vectors[vectors]
            check_datasets(self.config, entry.classes, f"class_vectors.{vectors}.classes")
            for dataset, table in entry.classes.items():
                if dataset in study.datasets:
                    need_file(table, f"class_vectors.{vectors}.classes.{dataset}", "a class table in YAML")
            if entry.kind == "words" and self.data.words(vectors) is None:
                need_file(entry.path, f"class_vectors.{vectors}.path", "word vectors in word2vec format")
        for method in study.methods:
            self._check_method(method)

    def _check_method(self, method: str) -> None:
        chosen = self.config.methods[method]
        if chosen.generator is None and chosen.classifier in BY_EXAMPLE:
            raise ConfigError(
                f"config: `methods.{method}.classifier` is `{chosen.classifier}`, which knows a class by examples; "
                "give the method a `generator`"
            )
        check_datasets(self.config, chosen.for_dataset, f"methods.{method}.for_dataset")
        places = [(f"methods.{method}", chosen)]
        places += [(f"methods.{method}.for_dataset.{d}", chosen.on(d)) for d in chosen.for_dataset]
        generator = self.generator_target(method)
        for where, entry in places:
            if generator is not None:
                check_options(generator, entry.generator_options, f"{where}.generator_options", self.cache)
            check_options(
                self.classifier_target(method),
                entry.classifier_options,
                f"{where}.classifier_options",
                self.cache,
            )

    def _check_references(self, study: configuration.ZeroShot) -> None:
        if study.variance is not None and study.variance.splits is not None:
            known = sorted({split for dataset in study.datasets for split in self.splits(dataset)})
            for name in study.variance.splits:
                if name not in known:
                    raise ConfigError(
                        f"config: `zero_shot.variance.splits` names `{name}`, which no dataset of the study has; "
                        f"{did_you_mean(name, known)}"
                    )
        for embedding in study.embeddings:
            for name in self.replicates(embedding)[1:]:
                if name in self.config.embeddings:
                    raise ConfigError(
                        f"config: `embeddings.{name}` has the id of a network that `zero_shot.variance` trains; "
                        "choose another"
                    )
        clap = study.references.clap
        if clap is not None and not Path(clap.model).expanduser().is_dir() and clap.revision is None:
            raise ConfigError(
                f"config: `zero_shot.references.clap.model` is `{clap.model}`, which is no folder here; "
                "for a hub id give `revision`, so that a rerun reads the same weights"
            )

    def _check_embedding(self, embedding: str) -> None:
        entry = self.config.embeddings[embedding]
        encoder = self.encoder_target(embedding)
        where = f"embeddings.{embedding}"
        if self.is_trained(embedding):
            if entry.feature is None:
                raise ConfigError(
                    f"config: `{where}.feature` is missing: a trained encoder reads a stored feature"
                )
            check_options(encoder, entry.options, f"{where}.options", self.cache)
            feature = self.config.features[entry.feature]
            if feature.kind in FRAME_KINDS:
                raise ConfigError(
                    f"config: `{where}.feature` names `{entry.feature}` of kind `{feature.kind}`, whose length varies "
                    "with the clip; name one with windows of one size, such as `logmel`"
                )
            check_feature(self.config, entry.feature, self.feature_target(entry.feature), self.cache)
        else:
            if entry.options or entry.feature is not None:
                raise ConfigError(
                    f"config: `{where}` has `feature` or `options`, which a pretrained encoder does not read; "
                    "leave them out"
                )
            if entry.weights is None:
                raise ConfigError(f"config: `{where}.weights` is missing: a path or a URL of the weights")
            local = self.local_weights(embedding)
            if entry.encoder in FOLDER_KINDS:
                if local is None or not Path(local).is_dir():
                    raise ConfigError(
                        f"config: `{where}.weights` is `{self.weights_shown(embedding)}`: the encoder "
                        f"`{entry.encoder}` reads a folder with a checkpoint in the format of the Hugging Face hub: "
                        "`hf download laion/clap-htsat-unfused --revision <commit> --local-dir <folder>`"
                    )
            elif local is not None:
                need_file(local, f"{where}.weights", f"weights of {entry.encoder}")
            elif entry.sha256 is None and entry.weights not in PINNED:
                raise ConfigError(f"config: `{where}.sha256` is missing: a download is checked against it")
