"""What the studies of generated audio ask for: generators, classifiers and splits, by dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foley.augment.registry import KINDS as AUGMENTATION_KINDS
from foley.classifiers.registry import AUDIO_KINDS as CLASSIFIER_KINDS
from foley.config import Config, Diffusion, Interpolation
from foley.encoders.registry import PRETRAINED_KINDS
from foley.encoders.registry import TRAINED_KINDS as TRAINED_ENCODERS
from foley.generators.audio.published import pinned
from foley.generators.registry import AUDIO_KINDS as TRAINED_KINDS
from foley.generators.registry import UNCONDITIONAL_KINDS
from foley.options import ConfigError, did_you_mean, parse_options
from foley.plan.components import check_options, check_sampling, target
from foley.plan.data import DataPlan
from foley.runtime.code import code_hash, load, module_file

GENERATOR_KINDS = TRAINED_KINDS | UNCONDITIONAL_KINDS
# The arm whose classifiers know real clips alone; they judge generated ones.
REAL = "real"
# Arms that need clips of a generator.
GENERATED_ARMS = ("interpolated", "sampled")
# Behind a generator's id: its interpolated clips, which are measured like those of another generator.
INTERPOLATED = ".interpolated"
# Options of a generator that have a place of their own in the config: key there by option.
SAMPLING = {"sampler": "sampler", "sampling_steps": "steps", "guidance": "guidance"}


class AudioPlan:
    """The studies `diffusion` and `interpolation` of a checked config.

    Args:
        data: which datasets are there; those that are left out are in no study.

    Raises:
        ConfigError: an unknown kind or option, or a dataset that a study cannot use.
    """

    def __init__(self, config: Config, data: DataPlan) -> None:
        self.config = config
        self.data = data
        self.diffusion: Diffusion | None = config.diffusion
        self.interpolation: Interpolation | None = config.interpolation
        self._check()

    # Which data

    def _present(self, study: Diffusion | Interpolation | None) -> list[str]:
        return [d for d in study.datasets if d in self.data.datasets] if study is not None else []

    @property
    def judged(self) -> list[str]:
        """Datasets of the study of generators."""
        return self._present(self.diffusion)

    @property
    def augmented(self) -> list[str]:
        """Datasets of the study of augmentation."""
        return self._present(self.interpolation)

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys([*self.judged, *self.augmented]))

    def splits(self, dataset: str) -> list[str]:
        """Splits that either study runs on a dataset."""
        found: list[str] = []
        if self.diffusion is not None and dataset in self.judged:
            found += self.diffusion.splits
        if self.interpolation is not None and dataset in self.augmented:
            found += self.interpolation.splits
        return list(dict.fromkeys(found))

    # Generators

    def generator_target(self, generator: str) -> str:
        kind = self.config.audio_generators[generator].kind
        return target(GENERATOR_KINDS, kind, f"audio_generators.{generator}.kind")

    def pretrained(self, generator: str) -> dict[str, Any] | None:
        """Options of a checkpoint from elsewhere; None for a generator that is trained on the split."""
        entry = self.config.audio_generators[generator]
        return entry.options if entry.kind in UNCONDITIONAL_KINDS else None

    def origin(self, generator: str) -> list[str | None]:
        """What tables say of a generator's weights: the kind of one trained here, else model and commit."""
        options = self.pretrained(generator)
        if options is None:
            return [self.config.audio_generators[generator].kind, None]
        model = options["model"]
        here = Path(model).expanduser().is_dir()
        return [model, None if here else pinned(model, options.get("revision"))]

    def vocoder(self, generator: str) -> dict[str, Any] | None:
        """A generator's neural vocoder; None = Griffin-Lim."""
        entry = self.config.audio_generators[generator].vocoder
        return None if entry is None else entry.model_dump()

    def shards(self, generator: str) -> range:
        """Parts in which a generator's clips are sampled."""
        return range(self.config.audio_generators[generator].shards)

    @property
    def model(self) -> str | None:
        """The generator behind the synthetic arms."""
        study = self.interpolation
        wanted = study is not None and set(GENERATED_ARMS) & set(study.arms)
        return study.generator if study is not None and wanted else None

    @property
    def interpolating(self) -> str | None:
        """The id under which the interpolated clips are measured."""
        study = self.interpolation
        wanted = study is not None and "interpolated" in study.arms and study.generator is not None
        return f"{study.generator}{INTERPOLATED}" if study is not None and wanted else None

    @property
    def ids(self) -> list[str]:
        """Whatever clips are measured of: generators, interpolated clips, and real ones as the yardstick."""
        own = self.interpolating
        return [*self.config.audio_generators, *([own] if own is not None else []), REAL]

    def measured(self, dataset: str, split: str) -> list[str]:
        """What is measured in a split, in the order of the report; the yardstick last."""
        if self.diffusion is None or dataset not in self.judged or split not in self.diffusion.splits:
            return []
        found = list(self.diffusion.generators)
        study, own = self.interpolation, self.interpolating
        if study is not None and own is not None and dataset in self.augmented and split in study.splits:
            found.append(own)
        return [*found, REAL]

    def clips_per_class(self, dataset: str, split: str) -> int:
        """Clips of a class that the yardstick takes: as many as whatever is measured beside it and has fewest."""
        study = self.interpolation
        return min(
            study.pairs_per_class
            if study is not None and generator == self.interpolating
            else self.config.audio_generators[generator].clips_per_class
            for generator in self.measured(dataset, split)[:-1]
        )

    def embeddings_of(self, generator: str) -> list[str]:
        """Pretrained embeddings that clips are measured in; interpolated ones only in the probe's."""
        return [] if generator == self.interpolating else self.embeddings

    # The gallery

    def shown_split(self, dataset: str) -> str:
        """The split whose generated clips the page plays."""
        return self.splits(dataset)[0]

    def shown(self, dataset: str) -> list[str]:
        """What made the clips that the page plays."""
        split = self.shown_split(dataset)
        found = self.measured(dataset, split)[:-1]
        study = self.interpolation
        if study is not None and dataset in self.augmented and split in study.splits:
            if "sampled" in study.arms and study.generator is not None:
                found.append(study.generator)
            if self.interpolating is not None:
                found.append(self.interpolating)
        return list(dict.fromkeys(found))

    def judge(self, dataset: str) -> str:
        """The classifier in whose last hidden layer the page's clips are held against real ones."""
        if self.diffusion is not None and dataset in self.judged:
            return self.diffusion.probe
        assert self.interpolation is not None
        return self.interpolation.classifiers[0]

    # Classifiers

    def classifier_target(self, classifier: str) -> str:
        kind = self.config.audio_classifiers[classifier].kind
        return target(CLASSIFIER_KINDS, kind, f"audio_classifiers.{classifier}.kind")

    def classifier_seeds(self, classifier: str) -> list[int]:
        entry = self.config.audio_classifiers[classifier]
        return list(range(entry.seed, entry.seed + entry.seeds))

    @property
    def probe(self) -> str | None:
        return self.diffusion.probe if self.diffusion is not None else None

    @property
    def arms(self) -> list[str]:
        """Arms of the study of augmentation; `real` is there for the other study, too."""
        return list(dict.fromkeys([REAL, *(self.interpolation.arms if self.interpolation else [])]))

    def augmentations_of(self, arm: str) -> list[dict[str, Any]]:
        return self.augmentations if arm == "classic" else []

    def added_per_class(self, arm: str) -> int:
        """Clips that an arm adds to each class."""
        if self.interpolation is None or arm in (REAL, "classic"):
            return 0
        return self.interpolation.pairs_per_class

    def draw_seed(self, arm: str) -> int:
        """Seed of the copies and of the choice among generated clips; of no concern to the other arms."""
        return self.interpolation.seed if self.interpolation is not None and self.added_per_class(arm) else 0

    @property
    def augmentations(self) -> list[dict[str, Any]]:
        """The parts of the arm `classic`: target and options, in their order."""
        parts = self.interpolation.augmentations if self.interpolation is not None else []
        return [
            {
                "target": target(AUGMENTATION_KINDS, part.kind, f"interpolation.augmentations.{n}.kind"),
                "options": part.options,
            }
            for n, part in enumerate(parts)
        ]

    @property
    def embeddings(self) -> list[str]:
        """Pretrained embeddings that generated clips are judged in."""
        return list(self.diffusion.embeddings) if self.diffusion is not None and self.judged else []

    def known_splits(self, dataset: str) -> list[str] | None:
        """The splits of a dataset; None where its kind leaves it to the data, so that only the job can tell."""
        official = self.data.kind(dataset).official_splits
        if official is None:
            return None
        drawn = [f"fold{number}" for number in range(1, self.config.audio_splits.folds + 1)]
        return [*(official or drawn), "random"]

    def check_splits(self, key: str, splits: Sequence[str], datasets: Sequence[str]) -> None:
        """Raise ConfigError where ``key`` names a split that one of its datasets does not have."""
        for dataset in datasets:
            known = self.known_splits(dataset)
            for split in splits:
                if known is not None and split not in known:
                    raise ConfigError(
                        f"config: `{key}` names `{split}`, which the dataset `{dataset}` does not have; "
                        f"{did_you_mean(split, known)}"
                    )

    def split_settings(self, split: str) -> dict[str, Any]:
        """How clips are split; only what concerns this split, so that nothing else reruns it."""
        other = "folds" if split == "random" else "test_fraction"
        return self.config.audio_splits.model_dump(exclude={other})

    def summary(self) -> dict[str, Any]:
        """What the page says of how the results of these studies were made."""
        config, found = self.config, {}
        for key, study, present in (
            ("diffusion", self.diffusion, self.judged),
            ("interpolation", self.interpolation, self.augmented),
        ):
            if study is not None and present:
                found[key] = study.model_dump(mode="json", exclude_defaults=True) | {"datasets": present}
        if found:
            found["audio_splits"] = config.audio_splits.model_dump(mode="json")
            # On how many devices a generator was trained says nothing of its clips.
            found["audio_generators"] = {
                g: config.audio_generators[g].model_dump(mode="json", exclude_defaults=True, exclude={"gpus"})
                for g in self._generators()
            }
            found["audio_classifiers"] = {
                c: config.audio_classifiers[c].model_dump(mode="json", exclude_defaults=True)
                for c in self._classifiers()
            }
        return found

    # Checks

    def _check(self) -> None:
        for key, chosen in (("diffusion", self.judged), ("interpolation", self.augmented)):
            for dataset in chosen:
                if self.data.kind(dataset).multi_label:
                    raise ConfigError(
                        f"config: `{key}.datasets` names `{dataset}`, whose clips have several labels each; "
                        f"the study `{key}` needs one label a clip"
                    )
        for key, study in (("diffusion", self.diffusion), ("interpolation", self.interpolation)):
            if study is not None:
                self.check_splits(f"{key}.splits", study.splits, self._present(study))
        for generator in self.config.audio_generators:
            if generator == REAL or generator.endswith(INTERPOLATED):
                raise ConfigError(
                    f"config: `audio_generators.{generator}`: the report computes rows of that name itself; "
                    "choose another id"
                )
        for generator in self._generators():
            options = self.config.audio_generators[generator].options
            where = f"audio_generators.{generator}.options"
            for option in options:
                if option in SAMPLING:
                    raise ConfigError(
                        f"config: `{where}.{option}`: options are what a generator is trained with; give "
                        f"`audio_generators.{generator}.sampling.{SAMPLING[option]}`"
                    )
            check_options(self.generator_target(generator), options, where, Path(self.config.cache))
            self._check_pretrained(generator)
            self.check_sampling(generator)
            self._check_vocoder(generator)
        for classifier in self._classifiers():
            options = self.config.audio_classifiers[classifier].options
            where = f"audio_classifiers.{classifier}.options"
            check_options(self.classifier_target(classifier), options, where, Path(self.config.cache))
        for number, part in enumerate(self.augmentations):
            where = f"interpolation.augmentations.{number}.options"
            check_options(part["target"], part["options"], where, Path(self.config.cache))
        for embedding in self.embeddings:
            encoder = self.config.embeddings[embedding].encoder
            target({**TRAINED_ENCODERS, **PRETRAINED_KINDS}, encoder, f"embeddings.{embedding}.encoder")
            if encoder not in PRETRAINED_KINDS:
                raise ConfigError(
                    f"config: `diffusion.embeddings` names `{embedding}`, which is trained on the splits of "
                    "another study; name pretrained ones, or none: the probe's own embedding is always measured"
                )
        self._check_clap()

    def _check_pretrained(self, generator: str) -> None:
        """A checkpoint from elsewhere has a place, and is asked for no clip of a class."""
        options = self.pretrained(generator)
        if options is None:
            return
        kind = self.config.audio_generators[generator].kind
        if "model" not in options:
            raise ConfigError(
                f"config: `audio_generators.{generator}.options.model` is missing: a folder or a hub id"
            )
        told = f"`{generator}`, whose kind `{kind}` knows no classes: it has no clips of a class to give"
        if self.diffusion is not None and self.judged and generator in self.diffusion.generators:
            raise ConfigError(f"config: `diffusion.generators` names {told}; leave it out")
        study = self.interpolation
        if study is not None and study.generator == generator and "sampled" in study.arms:
            raise ConfigError(
                f"config: `interpolation.generator` is {told}, only what lies between two; leave `sampled` out of "
                "`interpolation.arms`"
            )

    def check_sampling(self, generator: str) -> None:
        """Steps and guidance that the model will not be able to sample with, before it is trained."""
        if self.pretrained(generator) is not None:
            return
        entry, component, cache = (
            self.config.audio_generators[generator],
            self.generator_target(generator),
            Path(self.config.cache),
        )
        how = entry.sampling
        if how.model_dump(exclude_none=True):
            where = f"audio_generators.{generator}.sampling"
            check_sampling(component, entry.options, [how.sampler, how.steps, how.guidance], where, cache)
        if self.interpolation is not None and self.interpolating == f"{generator}{INTERPOLATED}":
            settings = ["ddim", self.interpolation.steps, 1.0]
            check_sampling(component, entry.options, settings, "interpolation.steps", cache)

    def _check_vocoder(self, generator: str) -> None:
        """A neural vocoder reads the mel images that the generator makes; of a hub's, only the commit is seen here."""
        entry = self.config.audio_generators[generator]
        vocoder, where = entry.vocoder, f"audio_generators.{generator}.vocoder"
        if vocoder is None:
            return
        folder = Path(vocoder.model).expanduser()
        if not folder.is_dir():
            try:
                pinned(vocoder.model, vocoder.revision)
            except ValueError as error:
                raise ConfigError(f"config: `{where}`: {error}") from None
            return
        file = folder / (vocoder.subfolder or "") / "config.json"
        if not file.is_file():
            raise ConfigError(f"config: `{where}.model`: no vocoder there, {file} is missing")
        # Mel options are those of a module that imports torch: the answer is kept, as `check_options` keeps its own.
        component, text = self.generator_target(generator), file.read_text(encoding="utf-8")
        code = module_file("foley.generators.audio.hifi_gan")
        assert code is not None
        facts = json.dumps(
            [component, entry.options, vocoder.model_dump(), text, code_hash(code)], sort_keys=True
        )
        mark = Path(self.config.cache) / "checked" / hashlib.sha256(facts.encode()).hexdigest()[:24]
        if mark.is_file():
            return
        from foley.generators.audio.hifi_gan import vocoder_differences, vocoder_mismatch

        kind: Any = load(component)
        options = parse_options(kind.Options, entry.options, f"audio_generators.{generator}.options")
        if not hasattr(options, "mel"):
            raise ConfigError(
                f"config: `{where}`: a generator of kind `{entry.kind}` has mel images of its own; leave it out"
            )
        try:
            differences = vocoder_differences(
                json.loads(text), options.mel, n_fft=vocoder.n_fft, f_min_hz=vocoder.f_min_hz,
                f_max_hz=vocoder.f_max_hz,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"config: `{where}.model`: {file} describes no HiFi-GAN: {error!r}") from None
        if differences:
            raise ConfigError(f"config: `{where}`: {vocoder_mismatch(vocoder.model, differences)}")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    def _generators(self) -> Sequence[str]:
        named = list(self.diffusion.generators) if self.diffusion is not None and self.judged else []
        if self.model is not None and self.augmented:
            named.append(self.model)
        return list(dict.fromkeys(named))

    def _classifiers(self) -> Sequence[str]:
        named = [self.diffusion.probe] if self.diffusion is not None and self.judged else []
        if self.interpolation is not None and self.augmented:
            named += self.interpolation.classifiers
        return list(dict.fromkeys(named))

    def _check_clap(self) -> None:
        clap = self.diffusion.clap if self.diffusion is not None and self.judged else None
        if clap is not None and not Path(clap.model).expanduser().is_dir() and clap.revision is None:
            raise ConfigError(
                f"config: `diffusion.clap.model` is `{clap.model}`, which is no folder here; "
                "for a hub id give `revision`, so that a rerun reads the same weights"
            )
