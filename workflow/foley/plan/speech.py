"""What the study of speech asks for: recognisers, arms, backgrounds and test conditions, by dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foley.augment.registry import KINDS as AUGMENTATION_KINDS
from foley.classifiers.registry import AUDIO_KINDS
from foley.config import INTERPOLATED, Config, Speech, SyntheticSource
from foley.options import ConfigError
from foley.plan.audio import AudioPlan
from foley.plan.components import check_options, target
from foley.plan.data import DataPlan
from foley.plan.foundation import FoundationPlan
from foley.studies.speech.names import CLASSIC, NONE, REAL, is_classic

# Options that tell where a clip ends by the silence behind it, which no clip has to which a background was added: what
# they must be here, and what they are when left out.
WHOLE_WINDOW = {"padding": ("silence", "silence"), "pool": ("window", "clip")}
OF_KINDS = {"padding": ("ast", "ssast"), "pool": ("whisper",)}


class SpeechPlan:
    """The study `speech` of a checked config.

    Args:
        data: which datasets are there; those that are left out are in no study.
        audio: the studies that share its splits, generators and classifiers.
        foundation: the study that shares its sources.

    Raises:
        ConfigError: an unknown kind or option, a source that cannot be, or a dataset that the study cannot use.
    """

    def __init__(self, config: Config, data: DataPlan, audio: AudioPlan, foundation: FoundationPlan) -> None:
        self.config = config
        self.data = data
        self.audio = audio
        self.foundation = foundation
        self.study: Speech | None = config.speech
        self._check()

    @property
    def datasets(self) -> list[str]:
        """Datasets of speech; none where the backgrounds are left out, for without them there is no study."""
        if self.study is None or self.study.background.dataset not in self.data.datasets:
            return []
        return [dataset for dataset in self.study.datasets if dataset in self.data.datasets]

    @property
    def _of(self) -> Speech:
        assert self.study is not None  # asked by rules of the study alone
        return self.study

    def splits(self, dataset: str) -> list[str]:
        return self._of.of_dataset("splits", dataset)

    # Recognisers and arms

    @property
    def recognisers(self) -> list[str]:
        """Those of any dataset."""
        return list(dict.fromkeys(r for dataset in self.datasets for r in self.recognisers_of(dataset)))

    def recognisers_of(self, dataset: str) -> list[str]:
        return self._of.of_dataset("recognisers", dataset)

    def recogniser_target(self, recogniser: str) -> str:
        kind = self.config.audio_classifiers[recogniser].kind
        return target(AUDIO_KINDS, kind, f"audio_classifiers.{recogniser}.kind")

    @property
    def arms(self) -> list[str]:
        """What training clips go through, in the order of the report; generated backgrounds by their source."""
        if self.study is None or not self.datasets:
            return []
        several = {"sources": self.sources, CLASSIC: list(self._of.classic_arms)}
        return [arm for named in self.study.arms for arm in several.get(named, [named])]

    def augmentations_of(self, arm: str) -> list[dict[str, Any]]:
        """Target and options of what an arm of classic augmentation does; nothing for the others."""
        return [
            {
                "target": target(AUGMENTATION_KINDS, part.kind, f"speech.augmentations of {arm}, {n}: kind"),
                "options": part.options,
            }
            for n, part in enumerate(self._of.classic_arms.get(arm, ()))
        ]

    def mixing(self, arm: str) -> dict[str, Any] | None:
        """How backgrounds are mixed into the training clips of an arm; None for one that mixes none."""
        if arm == NONE or is_classic(arm):
            return None
        low, high = self._of.snr_db
        return {
            "snr_min_db": low, "snr_max_db": high, "probability": self._of.probability,
            "silent_speech": self._of.silent_speech,
        }  # fmt: skip

    # Backgrounds

    @property
    def sources(self) -> list[str]:
        return [source.id for source in self.study.sources] if self.study is not None else []

    def source(self, source: str) -> SyntheticSource:
        return next(s for s in self._of.sources if s.id == source)

    @property
    def prompted(self) -> list[SyntheticSource]:
        """Sources whose generator is asked by prompts."""
        sources = self.study.sources if self.study is not None and self.datasets else []
        return [source for source in sources if source.prompts is not None]

    @property
    def prompt_sets(self) -> list[tuple[str, str]]:
        """Dataset and prompt id of every set of prompts that is written."""
        ids = list(dict.fromkeys(s.prompts for s in self.prompted if s.prompts is not None))
        return [(self._of.background.dataset, prompts) for prompts in ids]

    @property
    def test_backgrounds(self) -> list[str]:
        """What the test mixes in, in the order of the report."""
        if self.study is None or not self.datasets:
            return []
        chosen = self.study.test_backgrounds
        return [REAL, *self.sources] if chosen is None else list(chosen)

    @property
    def backgrounds(self) -> list[str]:
        """Recordings and sources that any arm or test uses."""
        mixed = [arm for arm in self.arms if arm != NONE and not is_classic(arm)]
        return list(dict.fromkeys([*mixed, *self.test_backgrounds]))

    def summary(self) -> dict[str, Any]:
        """What the page says of how the results of this study were made."""
        if self.study is None or not self.datasets:
            return {}
        config = self.config
        named = [source.generator.removesuffix(INTERPOLATED) for source in self.study.sources]
        return {
            "speech": self.study.model_dump(mode="json", exclude_defaults=True) | {"datasets": self.datasets},
            "audio_splits": config.audio_splits.model_dump(mode="json"),
            "prompts": {
                prompts: config.prompts[prompts].model_dump(mode="json", exclude_defaults=True)
                for _, prompts in self.prompt_sets
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
        background = self.study.background
        for key, dataset in [
            *(("speech.datasets", dataset) for dataset in self.datasets),
            ("speech.background.dataset", background.dataset),
        ]:
            if self.data.kind(dataset).multi_label:
                raise ConfigError(
                    f"config: `{key}` names `{dataset}`, whose clips have several labels each; the study `speech` "
                    "needs one label a clip"
                )
        for dataset in self.datasets:
            self._check_splits("speech.splits", self.splits(dataset), dataset)
        self._check_splits("speech.background.split", [background.split], background.dataset)
        for source in self.study.sources:
            if source.generator.endswith(INTERPOLATED):
                raise ConfigError(
                    f"config: `speech.sources` has `{source.id}`: two interpolated clips may share a recording, so "
                    "none can be held out for the test; name the generator itself"
                )
            self.foundation.check_source("speech.sources", source)
        cache = Path(self.config.cache)
        for recogniser in self.recognisers:
            chosen = self.config.audio_classifiers[recogniser]
            where = f"audio_classifiers.{recogniser}.options"
            check_options(self.recogniser_target(recogniser), chosen.options, where, cache)
            for name, (needed, default) in WHOLE_WINDOW.items():
                if chosen.kind in OF_KINDS[name] and chosen.options.get(name, default) != needed:
                    raise ConfigError(
                        f"config: `{where}.{name}` must be `{needed}` in the study `speech`: backgrounds go on behind "
                        "short clips, so silence does not tell where a clip ends"
                    )
        for arm in filter(is_classic, self.arms):
            for number, part in enumerate(self.augmentations_of(arm)):
                where = f"speech.augmentations of {arm}, {number}: options"
                check_options(part["target"], part["options"], where, cache)

    def _check_splits(self, key: str, splits: list[str], dataset: str) -> None:
        if "random" in splits:
            raise ConfigError(
                f"config: `{key}` names `random`, which puts one recording on both sides; the study `speech` keeps "
                "speakers and recordings apart: name folds or `official`"
            )
        self.audio.check_splits(key, splits, [dataset])
