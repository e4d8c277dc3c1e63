"""What the study of diverse embeddings asks for: representations, networks and sets, by dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foley.classifiers.registry import FRAME_KINDS as CLASSIFIER_KINDS
from foley.classifiers.registry import NEURALOGRAM_KINDS
from foley.config import Config, DiverseEmbeddings, Representation
from foley.encoders.registry import PRETRAINED_KINDS
from foley.features.registry import FRAME_KINDS as FEATURE_KINDS
from foley.options import ConfigError
from foley.plan.audio import AudioPlan
from foley.plan.components import check_feature, check_options, target
from foley.plan.data import DataPlan

KEY = "diverse_embeddings"
HEADS = "foley.classifiers.subset_heads:SubsetHeads"
JOINT_OPTIONS = "foley.studies.diverse.heads:Joint"
OFFICIAL, RANDOM = "official", "random"


class DiversePlan:
    """The study `diverse_embeddings` of a checked config.

    Args:
        data: which datasets are there; those that are left out are in no study.
        audio: knows which splits a dataset has.

    Raises:
        ConfigError: an unknown kind or option, or something that the study cannot use.
    """

    def __init__(self, config: Config, data: DataPlan, audio: AudioPlan) -> None:
        self.config = config
        self.data = data
        self.audio = audio
        self.study: DiverseEmbeddings = config.diverse_embeddings or DiverseEmbeddings()
        self._check()

    @property
    def datasets(self) -> list[str]:
        return [d for d in self.study.datasets if d in self.data.datasets]

    def is_multi_label(self, dataset: str) -> bool:
        return self.data.kind(dataset).multi_label

    def splits(self, dataset: str) -> list[str]:
        """Splits that the study runs on a dataset; one with several labels a clip has its official one alone."""
        return [OFFICIAL] if self.is_multi_label(dataset) else list(self.study.splits)

    @property
    def seeds(self) -> list[int]:
        return list(range(self.study.seed, self.study.seed + self.study.seeds))

    # Representations

    @property
    def used(self) -> list[str]:
        """Representations that a set or a baseline reads, in the order of the config."""
        named = {r for chosen in self.study.sets.values() for r in chosen}
        named |= {baseline.representation for baseline in self.study.baselines.values()}
        return [r for r in self.study.representations if r in named] if self.datasets else []

    @property
    def combined(self) -> list[str]:
        """Representations of the sets."""
        named = {r for chosen in self.study.sets.values() for r in chosen}
        return [r for r in self.used if r in named]

    def representation(self, name: str) -> Representation:
        return self.study.representations[name]

    @property
    def pretrained(self) -> list[str]:
        """Representations that are neuralograms of pretrained encoders."""
        return [r for r in self.used if self.representation(r).embedding is not None]

    @property
    def trained(self) -> list[str]:
        """Representations that are neuralograms of networks trained here."""
        return [r for r in self.used if self.representation(r).network is not None]

    @property
    def embeddings(self) -> list[str]:
        """Pretrained encoders that neuralograms are made of."""
        return list(dict.fromkeys(str(self.representation(r).embedding) for r in self.pretrained))

    def neuralogram_target(self, representation: str) -> str:
        network = self.representation(representation).network
        assert network is not None
        where = f"{KEY}.representations.{representation}.network.kind"
        return target(NEURALOGRAM_KINDS, network.kind, where)

    def neuralogram_options(self, representation: str) -> dict[str, Any]:
        network = self.representation(representation).network
        assert network is not None
        return network.options

    def behind(self, networks: Sequence[str]) -> dict[str, str]:
        """Network -> the representation that it reads, of those whose frames a network trained here has made."""
        read = {network: self.read_by(network) for network in networks}
        return {network: name for network, name in read.items() if self.representation(name).network}

    # Networks: one of each representation, and the baselines

    @property
    def networks(self) -> list[str]:
        return [*self.combined, *self.baselines]

    @property
    def baselines(self) -> list[str]:
        return list(self.study.baselines) if self.datasets else []

    def read_by(self, network: str) -> str:
        """The representation that a network reads."""
        baseline = self.study.baselines.get(network)
        return network if baseline is None else baseline.representation

    def target(self, network: str) -> str:
        baseline = self.study.baselines.get(network)
        if baseline is None:
            return target(CLASSIFIER_KINDS, self.study.classifier.kind, f"{KEY}.classifier.kind")
        return target(CLASSIFIER_KINDS, baseline.kind, f"{KEY}.baselines.{network}.kind")

    def options(self, network: str) -> dict[str, Any]:
        """Options of a network; a baseline of the study's own kind takes the study's and its representation's, too."""
        baseline = self.study.baselines.get(network)
        own = self.study.classifier.options | self.representation(self.read_by(network)).options
        if baseline is None:
            return own
        return (
            own | baseline.options if baseline.kind == self.study.classifier.kind else dict(baseline.options)
        )

    def matched(self, network: str) -> list[list[str]]:
        """Sets of representations whose parameters a baseline must have."""
        baseline = self.study.baselines.get(network)
        return list(self.study.sets.values()) if baseline is not None and baseline.match else []

    def summary(self) -> dict[str, Any]:
        """What the page says of how the results of the study were made."""
        if not self.datasets:
            return {}
        shown = self.study.model_dump(mode="json", exclude_defaults=True)
        return {KEY: shown | {"datasets": self.datasets, "seeds": self.seeds}}

    # Checks

    def _check(self) -> None:
        if not self.datasets:
            return
        if RANDOM in self.study.splits:
            raise ConfigError(
                f"config: `{KEY}.splits` names `random`, which puts recordings on both sides; name folds or `official`"
            )
        split = [d for d in self.datasets if not self.is_multi_label(d)]
        self.audio.check_splits(f"{KEY}.splits", self.study.splits, split)
        cache = Path(self.config.cache)
        for name in self.used:
            self._check_representation(name, cache)
        for network in self.networks:
            place = (
                f"baselines.{network}" if network in self.study.baselines else f"representations.{network}"
            )
            check_options(self.target(network), self.options(network), f"{KEY}.{place}.options", cache)
        check_options(HEADS, self.study.heads, f"{KEY}.heads", cache)
        if self.study.joint is not None:
            check_options(JOINT_OPTIONS, self.study.joint.options, f"{KEY}.joint.options", cache)

    def _check_representation(self, name: str, cache: Path) -> None:
        entry, where = self.representation(name), f"{KEY}.representations.{name}"
        if entry.embedding is not None:
            if self.config.embeddings[entry.embedding].encoder not in PRETRAINED_KINDS:
                raise ConfigError(
                    f"config: `{where}.embedding` names `{entry.embedding}`, which is trained on the splits of another "
                    "study; name a pretrained one, or give `feature` and `network` to train one here"
                )
            return
        assert entry.feature is not None
        feature = self.config.features[entry.feature]
        if feature.kind not in FEATURE_KINDS:
            raise ConfigError(
                f"config: `{where}.feature` names `{entry.feature}` of kind `{feature.kind}`, which has windows of one "
                f"size; the study reads frames: {', '.join(f'`{kind}`' for kind in FEATURE_KINDS)}"
            )
        check_feature(self.config, entry.feature, FEATURE_KINDS[feature.kind], cache)
        if entry.network is not None:
            check_options(
                self.neuralogram_target(name), entry.network.options, f"{where}.network.options", cache
            )
