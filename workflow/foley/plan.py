"""What the config asks for: which components, on which data, in which splits; checked before any job starts.

The rules ask a :class:`Plan`; the plan reads no audio and imports nothing heavy. A component's options are checked
against the dataclass in its own file, which may import torch; the answer is kept under the cache folder, keyed by
options and code, so that only a new combination costs that second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from foley import config as configuration
from foley.classifiers.registry import ZERO_SHOT_KINDS
from foley.datasets.registry import KINDS as DATASET_KINDS
from foley.datasets.tree import Fingerprint, fingerprint
from foley.encoders.registry import PRETRAINED_KINDS, TRAINED_KINDS
from foley.encoders.weights import PINNED, without_secrets
from foley.features.registry import KINDS as FEATURE_KINDS
from foley.generators.registry import EMBEDDING_KINDS
from foley.options import ConfigError, did_you_mean, parse_options
from foley.runtime.code import code_hash, load, module_file


@cache
def _split_names(file: str) -> list[str]:
    return [str(name) for name in yaml.safe_load(Path(file).read_text(encoding="utf-8"))["splits"]]


def _target(kinds: Mapping[str, str], name: str, where: str) -> str:
    if name not in kinds:
        raise ConfigError(
            f"config: `{where}` is `{name}`, which Foley does not know; {did_you_mean(name, kinds)}"
        )
    return kinds[name]


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
        self.trust_cache = trust_cache
        self.cache = Path(self.config.cache)
        self._fingerprints: dict[str, Fingerprint] = {}
        self._check()

    # Which components are in use

    @cached_property
    def datasets(self) -> list[str]:
        """Datasets that a study uses; configured but unused ones cost nothing."""
        return list(self.config.zero_shot.datasets) if self.config.zero_shot else []

    def dataset_kind(self, dataset: str) -> str:
        entry = self.config.datasets[dataset]
        return entry.kind or ("folder" if entry.folder is not None else dataset)

    def dataset_target(self, dataset: str) -> str:
        kind = self.dataset_kind(dataset)
        where = f"datasets.{dataset}.kind"
        if self.config.datasets[dataset].kind is None and kind not in DATASET_KINDS:
            raise ConfigError(
                f"config: `datasets.{dataset}` has no `kind`, and its id is none either "
                f"({did_you_mean(kind, DATASET_KINDS)}); for your own clips give `folder: path/`"
            )
        return _target(DATASET_KINDS, kind, where)

    def is_generated(self, dataset: str) -> bool:
        """Whether a rule makes the raw audio."""
        return bool(load(self.dataset_target(dataset)).generated)  # type: ignore[attr-defined]

    def raw_root(self, dataset: str) -> str:
        """Folder of the raw audio."""
        if self.is_generated(dataset):
            return f"{self.config.results}/raw/dataset={dataset}"
        entry = self.config.datasets[dataset]
        path = entry.folder if entry.folder is not None else entry.path
        if path is None:
            raise ConfigError(
                f"config: `datasets.{dataset}.path` is missing: point it at the folder that holds the dataset"
            )
        return path

    def fingerprint(self, dataset: str) -> Fingerprint | None:
        """Content hashes of a raw tree on disk; None for a generated one, which follows its rule."""
        if self.is_generated(dataset):
            return None
        if dataset not in self._fingerprints:
            kind = load(self.dataset_target(dataset))
            self._fingerprints[dataset] = fingerprint(
                Path(self.raw_root(dataset)),
                self.config.datasets[dataset].shards,
                self.cache,
                tables=kind.tables,  # type: ignore[attr-defined]
                trust_cache=self.trust_cache,
            )
        return self._fingerprints[dataset]

    def shards(self, dataset: str) -> range:
        return range(self.config.datasets[dataset].shards)

    def class_table(self, dataset: str) -> str | None:
        """The class table: the user's, the one of the kind in resources, or None (words of the labels)."""
        entry = self.config.datasets[dataset]
        if entry.classes is not None:
            return entry.classes
        ours = self.resources / "classes" / f"{self.dataset_kind(dataset)}.yaml"
        return str(ours) if ours.is_file() else None

    # The zero-shot study

    @property
    def study(self) -> configuration.ZeroShot:
        if self.config.zero_shot is None:
            raise ConfigError("config: no study is configured: give `zero_shot`, as config.yaml does")
        return self.config.zero_shot

    def splits_file(self, dataset: str) -> str | None:
        """Published splits of the dataset's kind, or None for random ones."""
        ours = self.resources / "splits" / "zero_shot" / f"{self.dataset_kind(dataset)}.yaml"
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
        return _target({**TRAINED_KINDS, **PRETRAINED_KINDS}, name, f"embeddings.{embedding}.encoder")

    def local_weights(self, embedding: str) -> str | None:
        """Path of pretrained weights on disk; None for a URL or a trained encoder."""
        weights = self.config.embeddings[embedding].weights
        return None if weights is None or "://" in weights else str(Path(weights).expanduser())

    def feature_target(self, feature: str) -> str:
        return _target(FEATURE_KINDS, self.config.features[feature].kind, f"features.{feature}.kind")

    def generator_target(self, method: str) -> str | None:
        name = self.config.methods[method].generator
        return None if name is None else _target(EMBEDDING_KINDS, name, f"methods.{method}.generator")

    def classifier_target(self, method: str) -> str:
        name = self.config.methods[method].classifier
        return _target(ZERO_SHOT_KINDS, name, f"methods.{method}.classifier")

    @property
    def seeds(self) -> list[int]:
        return list(range(self.study.seed, self.study.seed + self.study.seeds))

    def weights_shown(self, embedding: str) -> str | None:
        """The weights as tables and the page may name them: without a password or token in the URL."""
        weights = self.config.embeddings[embedding].weights
        return without_secrets(weights) if weights is not None and "://" in weights else weights

    def summary(self) -> dict[str, Any]:
        """What the page says of how its results were made."""
        study = self.study
        return {
            "datasets": {d: {"kind": self.dataset_kind(d), "splits": self.splits(d)} for d in study.datasets},
            "embeddings": {
                e: self.config.embeddings[e].model_dump(
                    mode="json", exclude_defaults=True, exclude={"weights"}
                )
                | ({"weights": self.weights_shown(e)} if self.config.embeddings[e].weights else {})
                for e in study.embeddings
            },
            "class_vectors": {
                v: self.config.class_vectors[v].model_dump(mode="json", exclude_defaults=True)
                for v in study.class_vectors
            },
            "methods": {
                m: self.config.methods[m].model_dump(mode="json", exclude_defaults=True)
                for m in study.methods
            },
            "seeds": self.seeds,
            "results": self.config.results,
        }

    # Checks

    def _check(self) -> None:
        for dataset in self.datasets:
            self._check_dataset(dataset)
        study = self.study
        for dataset in study.datasets:
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
        for method in study.methods:
            mine, base = self.config.methods[method], self.config.methods[study.baseline]
            if mine.generator is not None and mine.classifier != base.classifier:
                raise ConfigError(
                    f"config: `methods.{method}.classifier` is `{mine.classifier}`, the baseline's is "
                    f"`{base.classifier}`; a gain by synthetic data needs the same classifier"
                )
        for embedding in study.embeddings:
            self._check_embedding(embedding)
        for vectors in study.class_vectors:
            entry = self.config.class_vectors[vectors]
            if entry.kind == "words":
                self._need_file(
                    entry.path, f"class_vectors.{vectors}.path", "word vectors in word2vec format"
                )
        for method in study.methods:
            chosen = self.config.methods[method]
            target = self.generator_target(method)
            if target is not None:
                self._check_options(target, chosen.generator_options, f"methods.{method}.generator_options")
            self._check_options(
                self.classifier_target(method),
                chosen.classifier_options,
                f"methods.{method}.classifier_options",
            )

    def _check_dataset(self, dataset: str) -> None:
        entry = self.config.datasets[dataset]
        target = self.dataset_target(dataset)
        self._check_options(target, entry.options, f"datasets.{dataset}.options")
        if entry.classes is not None:
            self._need_file(entry.classes, f"datasets.{dataset}.classes", "a class table in YAML")
        if self.trust_cache or self.is_generated(dataset):
            return
        root = Path(self.raw_root(dataset))
        try:
            load(target)().check(root)
        except FileNotFoundError as error:
            key = "folder" if entry.folder is not None else "path"
            raise ConfigError(f"config: `datasets.{dataset}.{key}`: {error}") from None

    def _check_embedding(self, embedding: str) -> None:
        entry = self.config.embeddings[embedding]
        target = self.encoder_target(embedding)
        where = f"embeddings.{embedding}"
        if self.is_trained(embedding):
            if entry.feature is None:
                raise ConfigError(
                    f"config: `{where}.feature` is missing: a trained encoder reads a stored feature"
                )
            self._check_options(target, entry.options, f"{where}.options")
            feature = self.config.features[entry.feature]
            self._check_options(
                self.feature_target(entry.feature), feature.options, f"features.{entry.feature}.options"
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
                self._need_file(local, f"{where}.weights", f"weights of {entry.encoder}")
            elif entry.sha256 is None and entry.weights not in PINNED:
                raise ConfigError(f"config: `{where}.sha256` is missing: a download is checked against it")

    @staticmethod
    def _need_file(path: str | None, where: str, what: str) -> None:
        if path is None or not Path(path).is_file():
            raise ConfigError(f"config: `{where}`: no file at {path}; it should hold {what}")

    def _check_options(self, target: str, options: Mapping[str, Any], where: str) -> None:
        if not options:
            return
        file = module_file(target.partition(":")[0])
        assert file is not None
        facts = json.dumps([target, dict(options), code_hash(file)], sort_keys=True, default=str)
        mark = self.cache / "checked" / hashlib.sha256(facts.encode()).hexdigest()[:24]
        if mark.is_file():
            return
        parse_options(load(target).Options, options, where)  # type: ignore[attr-defined]
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
