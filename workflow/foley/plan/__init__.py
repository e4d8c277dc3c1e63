"""What the config asks for: which components, on which data, in which splits; checked before any job starts.

The rules ask a :class:`Plan`; the plan reads no audio and imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from foley import config as configuration
from foley.classifiers.registry import BY_EXAMPLE, ZERO_SHOT_KINDS
from foley.encoders.registry import PRETRAINED_KINDS, TRAINED_KINDS
from foley.encoders.weights import PINNED, without_secrets
from foley.features.registry import KINDS as FEATURE_KINDS
from foley.generators.registry import EMBEDDING_KINDS
from foley.options import ConfigError, did_you_mean
from foley.plan.components import check_options, need_file, target
from foley.plan.data import DataPlan


@cache
def _split_names(file: str) -> list[str]:
    return [str(name) for name in yaml.safe_load(Path(file).read_text(encoding="utf-8"))["splits"]]


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
        wanted = [*(study.datasets if study else []), *shown]
        vectors = study.class_vectors if study else []
        self.data = DataPlan(self.config, resources, wanted, vectors, trust_cache=trust_cache)
        self._check()

    @property
    def datasets(self) -> list[str]:
        """Datasets that take part: those of the studies, and those that only the page asks for."""
        return self.data.datasets

    # The zero-shot study

    @cached_property
    def study(self) -> configuration.ZeroShot:
        """The zero-shot study, without the datasets that are left out; empty where none is configured."""
        study = self.config.zero_shot or configuration.ZeroShot()
        return study.model_copy(update={"datasets": [d for d in study.datasets if d in self.data.datasets]})

    def splits_file(self, dataset: str) -> str | None:
        """Published splits of the dataset's kind, or None for random ones."""
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

    def is_trained(self, embedding: str) -> bool:
        return self.config.embeddings[embedding].encoder in TRAINED_KINDS

    def encoder_target(self, embedding: str) -> str:
        name = self.config.embeddings[embedding].encoder
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
        """Methods with a generator whose gain is that of their synthetic data: all else is as in the baseline."""
        base = self.config.methods[self.study.baseline].classifier
        chosen = {method: self.config.methods[method] for method in self.study.methods}
        return [m for m, entry in chosen.items() if entry.generator is not None and entry.classifier == base]

    @property
    def seeds(self) -> list[int]:
        return list(range(self.study.seed, self.study.seed + self.study.seeds))

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
            "seeds": self.seeds,
            "results": self.config.results,
        }

    # Checks

    def _check(self) -> None:
        study = self.study
        if not self.datasets and not self.data.left_out:
            raise ConfigError(
                "config: nothing to do: name datasets in `zero_shot.datasets` or `report.datasets`"
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
            if entry.kind == "words" and self.data.words(vectors) is None:
                need_file(entry.path, f"class_vectors.{vectors}.path", "word vectors in word2vec format")
        for method in study.methods:
            chosen = self.config.methods[method]
            if chosen.generator is None and chosen.classifier in BY_EXAMPLE:
                raise ConfigError(
                    f"config: `methods.{method}.classifier` is `{chosen.classifier}`, which knows a class by examples; "
                    "give the method a `generator`"
                )
            generator = self.generator_target(method)
            if generator is not None:
                check_options(
                    generator, chosen.generator_options, f"methods.{method}.generator_options", self.cache
                )
            check_options(
                self.classifier_target(method),
                chosen.classifier_options,
                f"methods.{method}.classifier_options",
                self.cache,
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
            check_options(
                self.feature_target(entry.feature),
                feature.options,
                f"features.{entry.feature}.options",
                self.cache,
            )
        else:
            if entry.options or entry.feature is not None:
                raise ConfigError(
                    f"config: `{where}` has `feature` or `options`, which a pretrained encoder does not read; "
                    "leave them out"
                )
            if entry.weights is None:
                raise ConfigError(f"config: `{where}.weights` is missing: a path or a URL of the weights")
            local = self.local_weights(embedding)
            if local is not None:
                need_file(local, f"{where}.weights", f"weights of {entry.encoder}")
            elif entry.sha256 is None and entry.weights not in PINNED:
                raise ConfigError(f"config: `{where}.sha256` is missing: a download is checked against it")
