"""What the study of prompted generators asks for: sources, mixes and recognisers, by dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foley.augment.registry import KINDS as AUGMENTATION_KINDS
from foley.classifiers.registry import AUDIO_KINDS
from foley.classifiers.registry import EMBEDDING_KINDS as PROBE_KINDS
from foley.config import INTERPOLATED, Config, Foundation, SyntheticSource
from foley.encoders.registry import PRETRAINED_KINDS
from foley.generators.registry import AUDIO_KINDS as TRAINED_GENERATORS
from foley.generators.registry import PROMPTED_KINDS
from foley.options import ConfigError, did_you_mean
from foley.plan.audio import AudioPlan
from foley.plan.components import check_options, target
from foley.plan.data import DataPlan
from foley.prompts.registry import KINDS as PROMPT_KINDS
from foley.prompts.registry import targets
from foley.studies.foundation.mix import ALL, CLAP, CLEAN, Mix, variant


class FoundationPlan:
    """The study `foundation` of a checked config.

    Args:
        data: which datasets are there; those that are left out are in no study.
        audio: the studies that share its splits, generators and classifiers.

    Raises:
        ConfigError: an unknown kind or option, a source that cannot be, or a dataset that the study cannot use.
    """

    def __init__(self, config: Config, data: DataPlan, audio: AudioPlan) -> None:
        self.config = config
        self.data = data
        self.audio = audio
        self.study: Foundation | None = config.foundation
        self._check()

    @property
    def datasets(self) -> list[str]:
        return [d for d in self.study.datasets if d in self.data.datasets] if self.study is not None else []

    @property
    def _of(self) -> Foundation:
        assert self.study is not None  # asked by rules of the study alone
        return self.study

    # Sources

    @property
    def sources(self) -> list[str]:
        return [source.id for source in self.study.sources] if self.study is not None else []

    def source(self, source: str) -> SyntheticSource:
        return next(s for s in self._of.sources if s.id == source)

    @property
    def prompted(self) -> list[SyntheticSource]:
        """Sources whose generator is asked by prompts; their clips belong to no split."""
        return (
            [s for s in self.study.sources if s.prompts is not None] if self.study and self.datasets else []
        )

    @property
    def prompt_sets(self) -> list[tuple[str, str]]:
        """Dataset and prompt id of every set of prompts that is written."""
        ids = list(dict.fromkeys(s.prompts for s in self.prompted if s.prompts is not None))
        return [(dataset, prompts) for dataset in self.datasets for prompts in ids]

    def generator_target(self, generator: str) -> str:
        kind = self.config.audio_generators[generator].kind
        return target(PROMPTED_KINDS, kind, f"audio_generators.{generator}.kind")

    def prompts_target(self, prompts: str) -> str:
        return target(PROMPT_KINDS, self.config.prompts[prompts].kind, f"prompts.{prompts}.kind")

    def prompts_targets(self, prompts: str) -> list[str]:
        """What writes a set of prompts: the writer, and the client of a language model if it asks one."""
        entry = self.config.prompts[prompts]
        return targets(entry.kind, entry.options)

    def prompts_options(self, prompts: str) -> dict[str, Any]:
        """The options without what changes no prompt (budgets, patience, threads): a rerun would cost anew."""
        return {key: value for key, value in self.config.prompts[prompts].options.items() if key != "limits"}

    def prompts_files(self, prompts: str) -> list[str]:
        """Files that a set of prompts is read from, as inputs: a word list, or a local language model."""
        found = []
        for key in ("path", "model"):
            place = Path(str(self.config.prompts[prompts].options.get(key) or "")).expanduser()
            if place.is_file():
                found.append(str(place))
            elif key == "model" and place.is_dir() and place != Path():
                found += sorted(str(path) for path in place.iterdir() if path.is_file())
        return found

    def prompts_gpus(self, prompts: str) -> int:
        """A language model of one's own runs on a GPU; a service does not."""
        return int(self.config.prompts[prompts].options.get("client") == "local")

    # Mixes

    @property
    def percents(self) -> list[int]:
        """Parts of the real clips; 0 is the zero-shot score."""
        return [0, *self.study.real_percents] if self.study is not None else []

    def mixes(self, percent: int) -> list[Mix]:
        """What recognisers learn from at a part of the real clips, in the order of the report."""
        study = self._of
        # Nothing is known of classes before a first training, and active generation needs real clips to gain over.
        filters = [ALL] if percent == 0 else study.filters
        found = [Mix(percent)] if percent else []
        return found + [
            Mix(percent, source, amount, chosen)
            for source in self.sources
            for amount in study.amounts
            for chosen in filters
        ]

    def mix(self, percent: int | str, name: str) -> Mix:
        return next(mix for mix in self.mixes(int(percent)) if mix.name == name)

    @property
    def mix_names(self) -> list[str]:
        return list(dict.fromkeys(mix.name for percent in self.percents for mix in self.mixes(percent)))

    def variant(self, recogniser: str, percent: int | str, protocol: str = CLEAN) -> str:
        return variant(recogniser, int(percent), protocol)

    @property
    def clap_is_asked(self) -> bool:
        return self.study is not None and CLAP in self.study.filters

    # Recognisers

    @property
    def recognisers(self) -> list[str]:
        return list(self.study.recognisers) if self.study is not None and self.datasets else []

    @property
    def probes(self) -> list[str]:
        """Recognisers that read stored embeddings, not audio."""
        return [r for r in self.recognisers if self.config.audio_classifiers[r].kind in PROBE_KINDS]

    @property
    def networks(self) -> list[str]:
        """Recognisers that read audio."""
        return [r for r in self.recognisers if r not in self.probes]

    def recogniser_target(self, recogniser: str) -> str:
        kinds = PROBE_KINDS if recogniser in self.probes else AUDIO_KINDS
        kind = self.config.audio_classifiers[recogniser].kind
        return target(kinds, kind, f"audio_classifiers.{recogniser}.kind")

    def augmentations_of(self, recogniser: str) -> list[dict[str, Any]]:
        """Target and options of what changes the clips of a recogniser's training, in order."""
        return [
            {
                "target": target(
                    AUGMENTATION_KINDS, part.kind, f"audio_classifiers.{recogniser}.augmentations.{n}.kind"
                ),
                "options": part.options,
            }
            for n, part in enumerate(self.config.audio_classifiers[recogniser].augmentations)
        ]

    def embedding(self, probe: str) -> str:
        """The stored embedding that a probe reads."""
        embedding = self.config.audio_classifiers[probe].embedding
        assert embedding is not None  # checked
        return embedding

    @property
    def embeddings(self) -> list[str]:
        return list(dict.fromkeys(self.embedding(probe) for probe in self.probes))

    def summary(self) -> dict[str, Any]:
        """What the page says of how the results of this study were made."""
        if self.study is None or not self.datasets:
            return {}
        config = self.config
        named = [s.generator.removesuffix(INTERPOLATED) for s in self.study.sources]
        interpolation = config.interpolation
        lent = any(s.generator == self.audio.interpolating for s in self.study.sources)
        how = (
            {"interpolation": interpolation.model_dump(mode="json", exclude_defaults=True)}
            if interpolation is not None and lent
            else {}
        )
        return how | {
            "foundation": self.study.model_dump(mode="json", exclude_defaults=True)
            | {"datasets": self.datasets},
            "prompts": {
                s.prompts: config.prompts[s.prompts].model_dump(mode="json", exclude_defaults=True)
                for s in self.prompted
                if s.prompts is not None
            },
            "audio_generators": {
                g: config.audio_generators[g].model_dump(mode="json", exclude_defaults=True, exclude={"gpus"})
                for g in dict.fromkeys(named)
            },
            "audio_classifiers": {
                r: config.audio_classifiers[r].model_dump(mode="json", exclude_defaults=True)
                for r in self.recognisers
            },
        }

    # Checks

    def _check(self) -> None:
        if self.study is None or not self.datasets:
            return
        for dataset in self.datasets:
            if self.data.kind(dataset).multi_label:
                raise ConfigError(
                    f"config: `foundation.datasets` names `{dataset}`, whose clips have several labels each; "
                    "the study `foundation` needs one label a clip"
                )
        self.audio.check_splits("foundation.splits", self.study.splits, self.datasets)
        cache = Path(self.config.cache)
        for source in self.study.sources:
            self.check_source("foundation.sources", source)
        for recogniser in self.recognisers:
            entry = self.config.audio_classifiers[recogniser]
            where = f"audio_classifiers.{recogniser}"
            check_options(self.recogniser_target(recogniser), entry.options, f"{where}.options", cache)
            for number, part in enumerate(self.augmentations_of(recogniser)):
                check_options(
                    part["target"], part["options"], f"{where}.augmentations.{number}.options", cache
                )
            if recogniser in self.probes:
                self._check_probe(recogniser)

    def check_source(self, key: str, source: SyntheticSource) -> None:
        """Raise ConfigError where a source that ``key`` has cannot be."""
        cache = Path(self.config.cache)
        generator = source.generator.removesuffix(INTERPOLATED)
        entry = self.config.audio_generators[generator]
        if entry.kind not in (*TRAINED_GENERATORS, *PROMPTED_KINDS):
            known = [*TRAINED_GENERATORS, *PROMPTED_KINDS]
            raise ConfigError(
                f"config: `audio_generators.{generator}.kind` is `{entry.kind}`, which is no generator of clips; "
                f"{did_you_mean(entry.kind, known)}"
            )
        prompted = entry.kind in PROMPTED_KINDS
        if prompted != (source.prompts is not None):
            raise ConfigError(
                f"config: `{key}` has `{source.id}`: a generator of kind `{entry.kind}` "
                + ("needs `prompts`" if prompted else "is trained on the split and takes no `prompts`")
            )
        if source.generator != generator and self.audio.interpolating != source.generator:
            raise ConfigError(
                f"config: `{key}` has `{source.id}`: interpolated clips are made as the study "
                f"`interpolation` says; set `interpolation.generator: {generator}` with the arm `interpolated`"
            )
        if prompted:
            assert source.prompts is not None
            where = f"audio_generators.{generator}.options"
            check_options(self.generator_target(generator), entry.options, where, cache)
            check_options(
                self.prompts_target(source.prompts), self.config.prompts[source.prompts].options,
                f"prompts.{source.prompts}.options", cache,
            )  # fmt: skip
        else:
            where = f"audio_generators.{generator}.options"
            check_options(self.audio.generator_target(generator), entry.options, where, cache)
            self.audio.check_sampling(generator)

    def _check_probe(self, probe: str) -> None:
        embedding = self.config.audio_classifiers[probe].embedding
        where = f"audio_classifiers.{probe}.embedding"
        if embedding is None:
            raise ConfigError(
                f"config: `{where}` is missing: name a pretrained embedding that the probe reads"
            )
        if embedding not in self.config.embeddings:
            raise ConfigError(
                f"config: `{where}` names `{embedding}`, which is not configured; "
                f"{did_you_mean(embedding, self.config.embeddings)}"
            )
        if self.config.embeddings[embedding].encoder not in PRETRAINED_KINDS:
            raise ConfigError(
                f"config: `{where}` names `{embedding}`, which is trained on the splits of another study; name a "
                "pretrained one"
            )
