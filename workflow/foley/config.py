"""The one typed config: what may stand in config.yaml, its defaults, and errors that name key and remedy.

`workflow/schemas/config.schema.json` is made from these models (``make docs``); a test keeps the two equal.
The options of a component (a dataset, generator, encoder, classifier) belong to its own file: a dataclass
``Options`` there, checked by `foley.options.parse_options`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from foley.options import ConfigError, did_you_mean, explain

# Ids become parts of paths (`dataset=<id>`) and of wildcards.
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# Paths as a user writes them: `~` is home, a slash at the end changes nothing.
UserPath = Annotated[
    str, Field(min_length=1), AfterValidator(lambda path: os.path.normpath(os.path.expanduser(path)))
]
# A path, or a URL, which stays as it is.
Place = Annotated[
    str,
    Field(min_length=1),
    AfterValidator(lambda place: place if "://" in place else os.path.normpath(os.path.expanduser(place))),
]
Checksum = Annotated[
    str,
    AfterValidator(str.lower),
    Field(pattern=r"^(?i:md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$"),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
# Behind a generator's id: its interpolated clips, which are measured like those of another generator.
INTERPOLATED = ".interpolated"


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Download(Model):
    """Another place or checksum of one file of a dataset, for example of a repacked mirror."""

    url: str | None = Field(None, description="where to fetch it")
    checksum: Checksum | None = Field(None, description="md5:<hex> or sha256:<hex>")
    size_bytes: int | None = Field(None, ge=0, description="its size")


class Dataset(Model):
    """Where a dataset's audio is and how it is taken in."""

    kind: str | None = Field(None, description="dataset kind; the dataset's own id when left out")
    path: UserPath | None = Field(None, description="folder of the raw dataset in its published layout")
    folder: UserPath | None = Field(
        None, description="short for `kind: folder` with this path: one sub-folder a class"
    )
    classes: UserPath | None = Field(
        None, description="class table (YAML) instead of the one in resources/classes"
    )
    splits: UserPath | None = Field(
        None, description="zero-shot class splits (YAML) instead of published or random ones"
    )
    shards: int = Field(8, ge=1, le=100_000, description="parts that are ingested independently")
    sample_rate_hz: int = Field(16_000, ge=1_000, le=192_000, description="rate at which clips are stored")
    min_duration_s: float = Field(0.1, gt=0, description="shorter clips are rejected")
    max_duration_s: float = Field(600.0, gt=0, description="longer clips are rejected")
    max_rejected: Fraction = Field(0.05, description="fail when more than this part of the clips is rejected")
    duplicates: Literal["reject", "keep"] = Field("reject", description="what to do with equal audio")
    leaks: Literal["fail", "report"] = Field(
        "fail", description="what to do where official folds or splits share what they claim to keep apart"
    )
    optional: bool = Field(
        False, description="leave the dataset out, and say so, where it is neither here nor can be downloaded"
    )
    mirror: str | None = Field(None, description="base URL that holds the published files under their names")
    downloads: dict[str, Download] = Field({}, description="other places or checksums, by file name")
    options: dict[str, Any] = Field({}, description="options of the dataset kind")

    @model_validator(mode="after")
    def _folder_is_a_kind(self) -> Dataset:
        if self.folder is not None and (self.path is not None or self.kind not in (None, "folder")):
            raise ValueError("give either `folder` or `path` and `kind`, not both")
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError("min_duration_s must be below max_duration_s")
        return self


class Feature(Model):
    """A feature that is extracted once per clip and stored."""

    kind: str = Field("logmel", description="feature kind")
    options: dict[str, Any] = Field({}, description="options of the feature kind")
    for_dataset: dict[Id, dict[str, Any]] = Field(
        {}, description="options that are laid over these on single datasets"
    )

    def options_on(self, dataset: str) -> dict[str, Any]:
        """The options with which a dataset's feature is extracted."""
        return self.options | self.for_dataset.get(dataset, {})


class Embedding(Model):
    """A network that turns a clip into one vector: trained here on seen classes, or pretrained."""

    encoder: str = Field(description="encoder kind")
    feature: str | None = Field(None, description="feature id that a trained encoder reads")
    weights: str | None = Field(None, description="path or URL of pretrained weights")
    sha256: str | None = Field(None, description="hash of the weights, checked after a download")
    seed: int = Field(0, ge=0, description="seed of the training")
    options: dict[str, Any] = Field({}, description="options of the encoder kind")


class ClassVectors(Model):
    """How a class without audio is described to a model."""

    kind: Literal["words", "attributes", "sentence"]
    synonyms: bool = Field(True, description="add the synonyms of the class table to the label's words")
    classes: dict[Id, UserPath] = Field(
        {},
        description="class tables (YAML) by dataset, in place of the datasets' own: other words, other attributes",
    )
    path: Place | None = Field(
        None, description="word vectors in word2vec format, text or binary, also .gz: a path or a URL"
    )
    checksum: Checksum | None = Field(None, description="of a URL: md5:<hex> or sha256:<hex>")
    size_bytes: int | None = Field(None, ge=0, description="of a URL: size of the file")
    model: str | None = Field(None, description="sentence encoder: local folder or hub id")
    revision: str | None = Field(None, description="pinned revision of the sentence encoder")
    template: str = Field("the sound of {label}", description="sentence for a class")

    @model_validator(mode="after")
    def _needs(self) -> ClassVectors:
        if self.kind == "words" and self.path is None:
            raise ValueError("class vectors of kind `words` need `path`, a file of word vectors")
        if self.path is None or "://" not in self.path:
            for key in ("checksum", "size_bytes"):
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` is for a `path` that is a URL")
        if self.kind == "sentence" and self.model is None:
            raise ValueError("class vectors of kind `sentence` need `model`, a local folder or a hub id")
        return self


class MethodForDataset(Model):
    """What a method does otherwise on one dataset."""

    samples_per_class: int | None = Field(None, ge=1, description="synthetic embeddings per unseen class")
    generator_options: dict[str, Any] = Field({}, description="laid over the method's own")
    classifier_options: dict[str, Any] = Field({}, description="laid over the method's own")


class Method(Model):
    """A way to recognise unseen classes: a classifier, with or without a generator of embeddings."""

    generator: str | None = Field(None, description="generator kind; none = no synthetic embeddings")
    generator_options: dict[str, Any] = Field({}, description="options of the generator kind")
    samples_per_class: int = Field(40, ge=1, description="synthetic embeddings per unseen class")
    classifier: str = Field("ale", description="classifier kind")
    classifier_options: dict[str, Any] = Field({}, description="options of the classifier kind")
    for_dataset: dict[Id, MethodForDataset] = Field({}, description="what changes on single datasets")

    def on(self, dataset: str) -> Method:
        """The method as it is used on a dataset."""
        change = self.for_dataset.get(dataset)
        if change is None:
            return self
        return self.model_copy(
            update={
                "samples_per_class": change.samples_per_class or self.samples_per_class,
                "generator_options": self.generator_options | change.generator_options,
                "classifier_options": self.classifier_options | change.classifier_options,
            }
        )


class RandomSplits(Model):
    """Splits for datasets that have no published ones: folds of classes, drawn by seed."""

    count: int = Field(4, ge=1, description="number of splits fold0, fold1, …")
    unseen_fraction: float = Field(0.25, gt=0, lt=1, description="part of the classes left out in each")
    seed: int = Field(0, ge=0)


class LearningCurve(Model):
    """Accuracy against synthetic embeddings per unseen class."""

    samples_per_class: list[int] = Field(
        [1, 5, 10, 20, 40, 80],
        min_length=1,
        description="synthetic embeddings per unseen class, point by point",
    )
    seeds: int = Field(5, ge=1, description="seeds a point, the first of the study's")
    methods: list[Id] | None = Field(
        None, description="methods with a generator to trace; all of the study when left out"
    )

    @field_validator("samples_per_class")
    @classmethod
    def _ascend(cls, counts: list[int]) -> list[int]:
        if min(counts) < 1 or sorted(set(counts)) != counts:
            raise ValueError(f"must be positive numbers in ascending order, each once; got {counts}")
        return counts


class VarianceSplit(Model):
    """Where the spread over seeds comes from: embedding networks, generators in each, classifiers in each of those."""

    splits: list[Id] | None = Field(
        None, description="splits to measure it in; all of the study when left out"
    )
    embedding_seeds: int = Field(
        3, ge=1, description="trainings of each trained embedding network, seeds ascending from its own"
    )
    generator_seeds: int = Field(
        5, ge=1, description="generators on each network: the first of the study's, further networks' own"
    )
    classifier_seeds: int = Field(5, ge=1, description="classifiers on each generator")
    methods: list[Id] | None = Field(None, description="methods to measure; all of the study when left out")


class EmbeddingQuality(Model):
    """Synthetic embeddings of seen classes that the generator was not shown, against real ones."""

    held_out: int = Field(8, ge=1, description="seen classes held out at a time; each is held out once")
    seeds: int = Field(5, ge=1, description="seeds of the generator, the first of the study's")
    methods: list[Id] | None = Field(
        None, description="methods with a generator to measure; all of the study when left out"
    )


class ClapReference(Model):
    """CLAP, asked which unseen class a clip is; it has heard such sounds with their names."""

    model: str = Field(description="local folder or hub id")
    revision: str | None = Field(None, description="pinned revision of a hub id")
    template: str = Field("This is a sound of {label}.", description="sentence for a class")

    @field_validator("template")
    @classmethod
    def _names_the_class(cls, template: str) -> str:
        if "{label}" not in template:
            raise ValueError("must contain `{label}`")
        return template


class References(Model):
    """Upper references beside chance and majority."""

    oracle: bool = Field(False, description="a classifier trained on real clips of the unseen classes")
    clap: ClapReference | None = Field(None, description="CLAP zero-shot; none = left out")


class ZeroShot(Model):
    """The zero-shot study: which datasets, embeddings, class vectors and methods are crossed."""

    datasets: list[Id] = Field([], description="dataset ids")
    splits: list[Id] | None = Field(None, description="splits to run; all of the dataset when left out")
    random_splits: RandomSplits = RandomSplits()
    embeddings: list[Id] = Field([], description="embedding ids")
    class_vectors: list[Id] = Field(
        [], description="class-vector ids; curves, variance and quality are measured with the first"
    )
    class_vectors_methods: list[Id] | None = Field(
        None, description="methods that run with the class vectors after the first, too; all when left out"
    )
    methods: list[Id] = Field([], description="method ids, in the order of the report")
    baseline: Id = Field("ale", description="method without synthetic data that gains are measured against")
    seeds: int = Field(10, ge=1, description="seeds per method, trained as one batched model")
    seed: int = Field(0, ge=0, description="first seed, and seed of the partition and of the bootstrap")
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="part of each seen class for early stopping"
    )
    test_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="part of each seen class for the generalised test"
    )
    bootstrap: int = Field(2000, ge=100, description="bootstrap draws of an interval")
    references: References = References()
    learning_curve: LearningCurve | None = Field(None, description="null leaves it out")
    variance: VarianceSplit | None = Field(None, description="null leaves it out")
    quality: EmbeddingQuality | None = Field(None, description="null leaves it out")

    @model_validator(mode="after")
    def _enough_seeds(self) -> ZeroShot:
        for name, asked in (
            ("learning_curve.seeds", self.learning_curve and self.learning_curve.seeds),
            ("variance.generator_seeds", self.variance and self.variance.generator_seeds),
            ("quality.seeds", self.quality and self.quality.seeds),
        ):
            if asked and asked > self.seeds:
                raise ValueError(f"{name} is {asked}, more than the {self.seeds} of `zero_shot.seeds`")
        return self


class AudioSplits(Model):
    """How clips are split where a dataset has no folds of its own, and for the split `random`."""

    folds: int = Field(5, ge=3, description="folds fold1, fold2, …: recordings stay whole, classes balanced")
    seed: int = Field(0, ge=0)
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="part held out where no fold is for validation"
    )
    test_fraction: float = Field(0.1, gt=0, lt=0.5, description="part held out by the split `random`")


class Component(Model):
    """A kind of something and its options."""

    kind: str
    options: dict[str, Any] = Field({}, description="options of the kind")


class Sampling(Model):
    """How clips are made from noise; what is left out is as the generator kind has it."""

    sampler: Literal["ddpm", "ddim", "dpm_solver"] | None = None
    steps: int | None = Field(None, ge=1, description="of the sampler")
    guidance: float | None = Field(None, ge=0, description="scale of classifier-free guidance; 1 = none")


class NeuralVocoder(Model):
    """HiFi-GAN in the format of transformers, and what its files don't say; left out, that is AudioLDM's.

    Of SpeechT5's: log log10, floor 1e-10, f_min_hz 80, f_max_hz 7600.
    """

    model: str = Field(description="local folder or hub id")
    revision: str | None = Field(None, description="pinned revision of a hub id")
    subfolder: str | None = Field(None, description="folder of the hub id, such as `vocoder`")
    log: Literal["natural", "log10"] = Field("natural", description="logarithm of the mel that it reads")
    floor: float = Field(1e-5, gt=0, description="least value that the logarithm is taken of")
    n_fft: int = Field(1024, ge=4, description="of the mel that it was trained on")
    f_min_hz: float = Field(0.0, ge=0, description="of the mel that it was trained on")
    f_max_hz: float = Field(8000.0, gt=0, description="of the mel that it was trained on")


class AudioGenerator(Component):
    """A generator of clips, trained on the training clips of a split.

    What only concerns the sampling stands apart from the options, so that a change of it trains nothing anew.
    """

    kind: str = Field("mel_diffusion", description="generator kind")
    seed: int = Field(
        0, ge=0, description="seed of the training and, with split, class and number, of each clip"
    )
    gpus: int = Field(1, ge=1, description="devices that train it together; the result is that of one")
    sampling: Sampling = Sampling()
    vocoder: NeuralVocoder | None = Field(
        None, description="what makes audio of mel images; none = Griffin-Lim, which needs no weights"
    )
    clips_per_class: int = Field(100, ge=1, description="clips sampled from noise for each class")
    shards: int = Field(4, ge=1, le=100_000, description="parts that are sampled independently")


class AudioClassifier(Component):
    """A classifier of clips."""

    kind: str = Field("log_mel_cnn", description="classifier kind")
    seed: int = Field(0, ge=0, description="first seed")
    seeds: int = Field(5, ge=1, description="trainings, seeds ascending")
    embedding: Id | None = Field(
        None, description="of a probe: id of the pretrained embedding that it reads instead of audio"
    )
    augmentations: list[Component] = Field(
        [], description="of its training clips in the study `foundation`, in their order"
    )


# `fold1` …, `official` (the dataset's own train, validation and test) or `random` (recordings leak, as published).
AudioSplit = Annotated[str, Field(pattern=r"^(fold[1-9][0-9]*|official|random)$")]


class Diffusion(Model):
    """The study of generators: how good are the clips that each makes?"""

    datasets: list[Id] = Field([], description="dataset ids")
    splits: list[AudioSplit] = Field(
        ["fold1"], min_length=1, description="fold<k> (its clips are held out), official or random"
    )
    generators: list[Id] = Field([], description="audio generator ids, in the order of the report")
    probe: Id = Field(
        "log_mel_cnn", description="audio classifier, trained on real clips, that must recognise the others"
    )
    embeddings: list[Id] = Field(
        [], description="pretrained embeddings to measure distances in, beside the probe's own"
    )
    clap: ClapReference | None = Field(
        None, description="CLAP, asked for the class of each clip; none = left out"
    )
    bootstrap: int = Field(2000, ge=100, description="bootstrap draws of an interval")
    seed: int = Field(0, ge=0, description="seed of the bootstrap and of subsamples")


Arm = Literal["real", "duplicates", "classic", "interpolated", "sampled"]


class Interpolation(Model):
    """The study of augmentation: does a classifier gain from generated clips, and more than from simpler means?"""

    datasets: list[Id] = Field(
        [], description="dataset ids; none where only `foundation.sources` has its interpolated clips"
    )
    splits: list[AudioSplit] = Field(
        ["fold1", "random"], min_length=1, description="fold<k> (its clips are held out), official or random"
    )
    classifiers: list[Id] = Field([], description="audio classifier ids")
    generator: Id | None = Field(None, description="audio generator that the synthetic arms take clips from")
    arms: list[Arm] = Field(
        ["real", "duplicates", "classic", "interpolated", "sampled"],
        min_length=1,
        description="what the classifier learns from; `real` is what gains are measured against",
    )
    augmentations: list[Component] = Field(
        [], description="augmentations of the arm `classic`, in their order"
    )
    pairs_per_class: int = Field(100, ge=1, description="clips that the arms add to each class")
    weight: Fraction = Field(0.5, description="where a clip lies between its two sources")
    steps: int = Field(50, ge=1, description="steps of the inversion and of the decoding")
    refinements: int = Field(0, ge=0, description="fixed-point iterations of each step of the inversion")
    max_rejected: Fraction = Field(
        0.05,
        description="fail when more than this part of the interpolated clips (and more than one) is silent",
    )
    bootstrap: int = Field(2000, ge=100, description="bootstrap draws of an interval")
    seed: int = Field(0, ge=0, description="seed of the pairs, of the duplicates and of the bootstrap")

    @model_validator(mode="after")
    def _can_be_built(self) -> Interpolation:
        _all_exist("arms", self.arms)
        if "real" not in self.arms:
            raise ValueError("arms lacks `real`, which gains are measured against")
        if "classic" in self.arms and not self.augmentations:
            raise ValueError("arms has `classic`: name its `augmentations`, or leave the arm out")
        if self.generator is None and {"interpolated", "sampled"} & set(self.arms):
            raise ValueError("arms has generated clips: name their `generator`, or leave those arms out")
        return self


class SyntheticSource(Model):
    """Where synthetic clips come from: a generator, and the prompts that it is given if it takes any."""

    generator: Id = Field(description="audio generator id; `<id>.interpolated` for its interpolated clips")
    prompts: Id | None = Field(
        None, description="prompt id, for generators that take prompts; none for one trained on the split"
    )

    @property
    def id(self) -> str:
        """Its name in paths and tables."""
        return self.generator if self.prompts is None else f"{self.generator}-{self.prompts}"


ClassFilter = Literal["none", "precision", "clap", "active"]


class Foundation(Model):
    """The study of prompted generators: zero-shot score, class filter, and training on real and synthetic clips."""

    datasets: list[Id] = Field([], description="dataset ids")
    splits: list[AudioSplit] = Field(
        ["fold1"], min_length=1, description="fold<k> (its clips are held out), official or random"
    )
    recognisers: list[Id] = Field([], description="audio classifier ids, in the order of the report")
    sources: list[SyntheticSource] = Field(
        [], min_length=1, description="where synthetic clips come from, in the order of the report"
    )
    real_percents: list[int] = Field(
        [100],
        min_length=1,
        description="parts of the real training clips that are there, %; 0 (synthetic clips alone) always is",
    )
    amounts: list[int] = Field([30], min_length=1, description="synthetic clips of each class, mix by mix")
    filters: list[ClassFilter] = Field(
        ["none", "precision"],
        min_length=1,
        description="which synthetic clips are used: all; those of classes with the higher precision; those that CLAP "
        "finds nearest to their class; or at most as many in all, more of the classes that gain on validation clips",
    )
    drop_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="part of the classes (`precision`) or of a class's clips (`clap`) that leave",
    )
    active_floor: float = Field(
        0.5,
        ge=0,
        le=1,
        description="part of its clips that `active` spends on all classes evenly, if any gains; the rest by gains",
    )
    protocols: list[Literal["clean", "published"]] = Field(
        ["clean"],
        min_length=1,
        description="`clean` chooses weights on validation clips; `published` takes the epoch that is best on the "
        "test clips, as the source did, and is no honest figure",
    )
    clap: ClapReference | None = Field(None, description="CLAP, for the filter `clap`")
    bootstrap: int = Field(2000, ge=100, description="bootstrap draws of an interval")
    seed: int = Field(0, ge=0, description="seed of the draws of clips and of the bootstrap")

    @model_validator(mode="after")
    def _can_be_built(self) -> Foundation:
        _all_exist("sources", [source.id for source in self.sources])
        for name in ("real_percents", "amounts"):
            values = getattr(self, name)
            if sorted(set(values)) != values or values[0] < 1:
                raise ValueError(f"{name} must be positive, ascending, each once; got {values}")
        if self.real_percents[-1] > 100:
            raise ValueError(f"real_percents are percentages: {self.real_percents[-1]} is above 100")
        for name in ("filters", "protocols"):
            _all_exist(name, getattr(self, name))
        if "none" not in self.filters:
            raise ValueError("filters lacks `none`, which the others are measured against")
        if "clap" in self.filters and self.clap is None:
            raise ValueError("filters has `clap`: give `clap`, the model that listens")
        return self


SpeechArm = Literal["none", "real", "classic", "sources"]
SpeechMetric = Literal["accuracy", "uar"]


class SpeechBackground(Model):
    """The recordings that are mixed under speech, and how many clips of each class every arm has of its own kind."""

    dataset: Id = Field(description="dataset id of the recordings; generated backgrounds are of its classes")
    split: AudioSplit = Field(
        "fold1", description="its training part serves training, its test part the test; recordings whole"
    )
    exclude: list[str] = Field(
        [], description="class labels that are left out, for example those of human voices"
    )
    clips_per_class: int = Field(
        20,
        ge=1,
        description="clips of each class to train with, the same number of recordings and of each source",
    )
    test_clips_per_class: int = Field(
        5,
        ge=1,
        description="clips of each class that only the test has, the same for recordings and each source",
    )
    max_duration_s: float | None = Field(
        None,
        gt=0,
        description="clips are cut to this length, so that no arm has longer ones; none = as they are, which `sources` "
        "do not allow",
    )


class Speech(Model):
    """The study of speech: do synthetic backgrounds in training make recognition robust, and as much as real ones?"""

    datasets: list[Id] = Field([], description="dataset ids of words, emotions or any other labelled speech")
    splits: list[AudioSplit] | dict[Id, list[AudioSplit]] = Field(
        ["official"],
        description="fold<k> (its clips are held out) or official, of all datasets or by dataset id; speakers are "
        "kept apart in each",
    )
    recognisers: list[Id] | dict[Id, list[Id]] = Field(
        [], description="audio classifier ids, in the order of the report, of all datasets or by dataset id"
    )
    background: SpeechBackground = Field(description="what is mixed under speech")
    sources: list[SyntheticSource] = Field(
        [], description="where generated backgrounds come from, in the order of the report"
    )
    arms: list[SpeechArm] = Field(
        ["none", "real", "classic", "sources"],
        min_length=1,
        description="what training clips go through: nothing, recorded backgrounds, `augmentations`, or the generated "
        "backgrounds of each source (an arm each); `none` is what gains are measured against",
    )
    augmentations: list[Component] | dict[Id, list[Component]] = Field(
        [],
        description="augmentations of the arm `classic`, in their order; or, by name, those of several arms "
        "`classic-<name>`",
    )
    metric: SpeechMetric | dict[Id, SpeechMetric] = Field(
        "accuracy",
        description="what the verdict is about, of all datasets or by dataset id: accuracy, or `uar`, the mean recall "
        "of the classes, which is usual for emotions; all are measured",
    )
    snr_db: tuple[float, float] = Field(
        (3.0, 30.0), description="bounds of the signal-to-noise ratio in training, drawn evenly, dB"
    )
    probability: Fraction = Field(1.0, description="that a training clip gets a background, at each visit")
    silent_speech: Literal["refuse", "keep"] = Field(
        "refuse",
        description="what to do with a silent clip, to which no background has a ratio: stop, or leave it as it is",
    )
    test_snr_db: list[float] = Field(
        [-5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0],
        min_length=1,
        description="signal-to-noise ratios of the test, dB; clean speech is always tested",
    )
    test_backgrounds: list[Id] | None = Field(
        None, description="what the test mixes in: `real`, source ids; `real` and all sources when left out"
    )
    bootstrap: int = Field(2000, ge=100, description="bootstrap draws of an interval")
    seed: int = Field(
        0, ge=0, description="seed of the draws of backgrounds, of the noisy test clips and of the bootstrap"
    )

    @field_validator("test_snr_db")
    @classmethod
    def _ratios_ascend(cls, ratios: list[float]) -> list[float]:
        if sorted(set(ratios)) != ratios:
            raise ValueError(f"must ascend, each once; got {ratios}")
        return ratios

    @model_validator(mode="after")
    def _can_be_built(self) -> Speech:
        ids = [source.id for source in self.sources]
        _all_exist("sources", ids)
        for name in ids:
            if name in RESERVED_BACKGROUNDS or name.startswith("classic-"):
                raise ValueError(
                    f"sources has `{name}`: the study itself names something so; choose another id"
                )
        _all_exist("arms", self.arms)
        if "none" not in self.arms:
            raise ValueError("arms lacks `none`, which gains are measured against")
        if "classic" in self.arms and not (self.classic_arms and all(self.classic_arms.values())):
            raise ValueError("arms has `classic`: name its `augmentations`, or leave the arm out")
        if "sources" in self.arms and not self.sources:
            raise ValueError("arms has `sources`: name some `sources`, or leave the arms out")
        if self.sources and self.background.max_duration_s is None:
            raise ValueError(
                "background lacks `max_duration_s`: without it the arm with the longer clips would have more of them; "
                "give the length of the generated ones"
            )
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db is [least, most], got {list(self.snr_db)}")
        if self.test_backgrounds is not None:
            _all_exist("test_backgrounds", self.test_backgrounds, ["real", *ids], least=1)
        for name in ("splits", "recognisers"):
            chosen = getattr(self, name)
            if isinstance(chosen, dict):
                lacking = [dataset for dataset in self.datasets if not chosen.get(dataset)]
                if lacking:
                    raise ValueError(
                        f"{name} names none of `{lacking[0]}`; give it some, or one list for all"
                    )
                _all_exist(name, list(chosen), self.datasets)
        if isinstance(self.metric, dict):
            _all_exist("metric", list(self.metric), self.datasets, least=0)
        return self

    @property
    def classic_arms(self) -> dict[str, list[Component]]:
        """Arms of classic augmentation, and what each does."""
        if isinstance(self.augmentations, dict):
            return {f"classic-{name}": parts for name, parts in self.augmentations.items()}
        return {"classic": self.augmentations} if self.augmentations else {}

    def metric_of(self, dataset: str) -> str:
        """What the verdict on a dataset is about."""
        return self.metric if isinstance(self.metric, str) else self.metric.get(dataset, "accuracy")

    def of_dataset(self, name: Literal["splits", "recognisers"], dataset: str) -> list[str]:
        """What is chosen for a dataset."""
        chosen = getattr(self, name)
        return list(chosen[dataset] if isinstance(chosen, dict) else chosen)


# Names that the study of speech gives to arms and test conditions itself.
RESERVED_BACKGROUNDS = ("none", "real", "classic", "sources", "clean", "mean")


class Representation(Model):
    """What a network of the study of diverse embeddings reads: a stored feature, or activations of another network."""

    feature: Id | None = Field(None, description="feature id whose frames are read, or that `network` reads")
    embedding: Id | None = Field(
        None, description="embedding id of a pretrained encoder: its neuralogram is read"
    )
    network: Component | None = Field(
        None, description="network that is trained on `feature` in each split; its neuralogram is read"
    )
    window_s: float = Field(0.96, gt=0, description="neuralogram of an embedding: what one frame hears")
    frames_per_second: int = Field(4, ge=1, description="neuralogram: frames a second")
    options: dict[str, Any] = Field({}, description="laid over those of `classifier`")

    @model_validator(mode="after")
    def _one_source(self) -> Representation:
        if (self.feature is None) == (self.embedding is None):
            raise ValueError("give either `feature` or `embedding`")
        if self.network is not None and self.feature is None:
            raise ValueError("a `network` that is trained here needs a `feature` to read")
        return self


class DiverseBaseline(Component):
    """A network of one representation with as many parameters as a whole set."""

    kind: str = Field("diverse_transformer", description="kind of network of chunks")
    representation: Id = Field(description="representation id that it reads")
    match: bool = Field(True, description="widen it until it has the parameters of the largest set")


class JointTraining(Model):
    """All networks of a set and their head, trained together."""

    start: Literal["trained", "scratch"] = Field(
        "trained",
        description="begin with the weights of the single networks and a head that is trained on them, or with new "
        "ones",
    )
    options: dict[str, Any] = Field({}, description="how it is trained (epochs, learning_rate, …)")


class DiverseEmbeddings(Model):
    """The study of diverse embeddings: do hand-made features add to end-to-end learning?"""

    datasets: list[Id] = Field([], description="dataset ids; with one label a clip or several")
    splits: list[AudioSplit] = Field(
        ["fold1"],
        min_length=1,
        description="fold<k> (its clips are held out) or official; a dataset with several labels a clip has `official`",
    )
    representations: dict[Id, Representation] = Field({}, description="representations by id")
    sets: dict[Id, list[Id]] = Field(
        {}, description="representations that are combined, by id; every subset of a set is measured"
    )
    classifier: Component = Field(
        Component(kind="diverse_transformer"), description="network of each representation"
    )
    heads: dict[str, Any] = Field({}, description="how linear heads on frozen embeddings are trained")
    joint: JointTraining | None = Field(JointTraining(), description="null leaves it out")
    baselines: dict[Id, DiverseBaseline] = Field({}, description="networks that gains are measured against")
    seed: int = Field(0, ge=0, description="first seed, and seed of the bootstrap")
    seeds: int = Field(2, ge=1, description="trainings of each network, seeds ascending")
    bootstrap: int = Field(2000, ge=100, description="bootstrap draws of an interval")

    @model_validator(mode="after")
    def _fits_together(self) -> DiverseEmbeddings:
        _all_exist("splits", self.splits)
        for name, chosen in self.sets.items():
            _all_exist(f"sets.{name}", chosen, self.representations, least=1)
        for name, baseline in self.baselines.items():
            _all_exist(f"baselines.{name}.representation", [baseline.representation], self.representations)
            if name in self.representations:
                raise ValueError(f"baselines.{name}: a representation has that id; choose another")
        for name in (*self.representations, *self.baselines, *self.sets):
            if name in ("joint", *REFERENCE_METHODS) or name.startswith("own_head"):
                raise ValueError(f"`{name}`: the report computes rows of that name itself; choose another id")
        return self


# Rows that are computed beside the configured methods.
REFERENCE_METHODS = ("chance", "majority", "oracle", "clap", "real")


class Report(Model):
    """What the page shows."""

    title: str = "Foley"
    datasets: list[Id] = Field([], description="datasets to take in and show although no study uses them")
    clips_per_class: int = Field(2, ge=0, description="real clips per class in the gallery")
    clip_seconds: float = Field(4.0, gt=0, description="clips are cut to this length in the gallery")
    map_points: int = Field(1200, ge=10, description="points in the embedding map")


class Cluster(Model):
    """The most that a job asks a cluster for. Rules ask for twice as much with each further attempt."""

    max_mem_mb: int | None = Field(None, ge=1, description="memory of the largest node, MiB; null: no limit")
    max_runtime_min: int | None = Field(
        None, ge=1, description="longest time of the partition, minutes; null: no limit"
    )


class Config(Model):
    """config.yaml."""

    results: UserPath = Field("results", description="folder of all outputs")
    cache: UserPath = Field(".foley", description="folder of downloads, checkpoints and fingerprints")
    data: UserPath = Field("data", description="folder that downloaded datasets go to")
    offline: bool = Field(False, description="open no connection; say what is missing instead")
    datasets: dict[Id, Dataset] = Field({}, description="datasets by id")
    features: dict[Id, Feature] = Field({}, description="features by id")
    embeddings: dict[Id, Embedding] = Field({}, description="embeddings by id")
    class_vectors: dict[Id, ClassVectors] = Field({}, description="class vectors by id")
    methods: dict[Id, Method] = Field({}, description="methods by id")
    zero_shot: ZeroShot | None = Field(None, description="the zero-shot study; null leaves it out")
    audio_splits: AudioSplits = AudioSplits()
    audio_generators: dict[Id, AudioGenerator] = Field({}, description="generators of clips by id")
    prompts: dict[Id, Component] = Field(
        {}, description="how generators are asked for clips of a class, by id"
    )
    audio_classifiers: dict[Id, AudioClassifier] = Field({}, description="classifiers of clips by id")
    diffusion: Diffusion | None = Field(None, description="the study of generators; null leaves it out")
    interpolation: Interpolation | None = Field(
        None, description="the study of augmentation; null leaves it out"
    )
    foundation: Foundation | None = Field(
        None, description="the study of prompted generators; null leaves it out"
    )
    diverse_embeddings: DiverseEmbeddings | None = Field(
        None, description="the study of diverse embeddings; null leaves it out"
    )
    speech: Speech | None = Field(None, description="the study of speech; null leaves it out")
    report: Report = Report()
    cluster: Cluster = Cluster()

    @model_validator(mode="after")
    def _names_are_free(self) -> Config:
        for reserved in REFERENCE_METHODS:
            if reserved in self.methods:
                raise ValueError(
                    f"methods.{reserved}: the report computes this row itself; choose another id"
                )
        return self

    @model_validator(mode="after")
    def _references_exist(self) -> Config:
        _all_exist("report.datasets", self.report.datasets, self.datasets)
        if self.zero_shot is not None:
            study = self.zero_shot
            _all_exist("zero_shot.datasets", study.datasets, self.datasets, least=1)
            _all_exist("zero_shot.embeddings", study.embeddings, self.embeddings, least=1)
            _all_exist("zero_shot.class_vectors", study.class_vectors, self.class_vectors, least=1)
            _all_exist("zero_shot.methods", study.methods, self.methods, least=1)
            if study.class_vectors_methods is not None:
                _all_exist(
                    "zero_shot.class_vectors_methods", study.class_vectors_methods, study.methods, least=1
                )
            self._check_measured_methods(study)
        self._check_diffusion()
        self._check_interpolation()
        self._check_foundation()
        self._check_diverse()
        self._check_speech()
        for name, embedding in self.embeddings.items():
            if embedding.feature is not None and embedding.feature not in self.features:
                raise ValueError(unknown_name(f"embeddings.{name}.feature", embedding.feature, self.features))
        return self

    def _check_measured_methods(self, study: ZeroShot) -> None:
        for name, part in (
            ("learning_curve", study.learning_curve),
            ("variance", study.variance),
            ("quality", study.quality),
        ):
            if part is None or part.methods is None:
                continue
            key = f"zero_shot.{name}.methods"
            _all_exist(key, part.methods, study.methods, least=1)
            for method in part.methods:
                if name != "variance" and self.methods[method].generator is None:
                    raise ValueError(
                        f"{key} names `{method}`, which has no generator: there is nothing to measure; leave it out"
                    )

    def _check_diffusion(self) -> None:
        study = self.diffusion
        if study is None:
            return
        _all_exist("diffusion.datasets", study.datasets, self.datasets, least=1)
        _all_exist("diffusion.splits", study.splits)
        _all_exist("diffusion.generators", study.generators, self.audio_generators, least=1)
        _all_exist("diffusion.probe", [study.probe], self.audio_classifiers)
        _all_exist("diffusion.embeddings", study.embeddings, self.embeddings)

    def _check_diverse(self) -> None:
        study = self.diverse_embeddings
        if study is None:
            return
        _all_exist("diverse_embeddings.datasets", study.datasets, self.datasets, least=1)
        _all_exist("diverse_embeddings.sets", list(study.sets), least=1)
        for name, entry in study.representations.items():
            where = f"diverse_embeddings.representations.{name}"
            if entry.feature is not None:
                _all_exist(f"{where}.feature", [entry.feature], self.features)
            if entry.embedding is not None:
                _all_exist(f"{where}.embedding", [entry.embedding], self.embeddings)

    def _check_interpolation(self) -> None:
        study = self.interpolation
        if study is None:
            return
        # Without datasets of its own the section says how interpolated clips of another study are made.
        sources = self.foundation.sources if self.foundation is not None else []
        lent = any(source.generator == f"{study.generator}{INTERPOLATED}" for source in sources)
        least = 0 if lent and not study.datasets else 1
        _all_exist("interpolation.datasets", study.datasets, self.datasets, least=least)
        _all_exist("interpolation.splits", study.splits)
        _all_exist("interpolation.classifiers", study.classifiers, self.audio_classifiers, least=least)
        if study.generator is None:
            return
        _all_exist("interpolation.generator", [study.generator], self.audio_generators)
        made = self.audio_generators[study.generator].clips_per_class
        if "sampled" in study.arms and made < study.pairs_per_class:
            raise ValueError(
                f"interpolation.pairs_per_class is {study.pairs_per_class}, but "
                f"audio_generators.{study.generator}.clips_per_class is {made}: every arm adds as many clips"
            )

    def _check_foundation(self) -> None:
        study = self.foundation
        if study is None:
            return
        _all_exist("foundation.datasets", study.datasets, self.datasets, least=1)
        _all_exist("foundation.splits", study.splits)
        _all_exist("foundation.recognisers", study.recognisers, self.audio_classifiers, least=1)
        self._check_sources("foundation.sources", study.sources, "foundation.amounts", study.amounts[-1])

    def _check_speech(self) -> None:
        study = self.speech
        if study is None:
            return
        _all_exist("speech.datasets", study.datasets, self.datasets, least=1)
        for dataset in study.datasets:
            chosen = study.of_dataset("recognisers", dataset)
            _all_exist("speech.recognisers", chosen, self.audio_classifiers, least=1)
        _all_exist("speech.background.dataset", [study.background.dataset], self.datasets)
        wanted = study.background.clips_per_class + study.background.test_clips_per_class
        self._check_sources("speech.sources", study.sources, "speech.background", wanted)

    def _check_sources(self, key: str, sources: Sequence[SyntheticSource], why: str, wanted: int) -> None:
        """Sources are configured, and make as many clips of a class as ``why`` wants."""
        for source in sources:
            generator = source.generator.removesuffix(INTERPOLATED)
            _all_exist(f"{key}.generator", [generator], self.audio_generators)
            if source.prompts is not None:
                _all_exist(f"{key}.prompts", [source.prompts], self.prompts)
            made = self.audio_generators[generator].clips_per_class
            where = f"audio_generators.{generator}.clips_per_class"
            if generator != source.generator and self.interpolation is not None:
                made, where = self.interpolation.pairs_per_class, "interpolation.pairs_per_class"
            if made < wanted:
                raise ValueError(f"{why} asks for {wanted} clips a class, but {where} is {made}")


def _all_exist(key: str, names: Sequence[str], known: Iterable[str] | None = None, *, least: int = 0) -> None:
    """Raise ValueError where a key names what is not configured, names one thing twice, or too few."""
    for name in names:
        if known is not None and name not in known:
            raise ValueError(unknown_name(key, name, known))
    if len(names) < least:
        raise ValueError(f"{key} is empty: name at least one of `{key.rpartition('.')[2]}`")
    if len(set(names)) < len(names):
        raise ValueError(f"{key} names one twice: {list(names)}")


def unknown_name(key: str, name: str, known: Iterable[str]) -> str:
    return f"{key} names `{name}`, which is not configured; {did_you_mean(name, known)}"


class _Each:
    """Marks that the next part of a location is a free id."""

    def __init__(self, model: Any) -> None:
        self.model = model


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _models_in(annotation: Any) -> list[Any]:
    if _is_model(annotation):
        return [annotation]
    found: list[Any] = []
    for argument in getattr(annotation, "__args__", ()):
        found += _models_in(argument)
    return found


def _allowed(location: tuple[Any, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        if isinstance(model, _Each):
            model = model.model
            continue
        if not _is_model(model) or part not in model.model_fields:
            return []
        annotation = model.model_fields[part].annotation
        found = _models_in(annotation)
        if not found:
            return []
        model = _Each(found[0]) if str(annotation).startswith("dict[") else found[0]
    return list(model.model_fields) if _is_model(model) else []


def _explain(error: ValidationError, where: str = "") -> str:
    lines = []
    for item in error.errors(include_url=False):
        location = tuple(item["loc"])
        key = ".".join([*([where] if where else []), *map(str, location)])
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(str(location[-1]), _allowed(location[:-1]))
            lines.append(f"unknown key `{key}`; {hint}")
            continue
        if location and location[-1] == "[key]":
            bad = key.removesuffix(".[key]")
            lines.append(
                f"`{bad}`: an id holds letters, digits, `_`, `-` and `.` only (it becomes part of paths)"
            )
            continue
        lines.append(explain(key, item))
    return "config: " + "\n        ".join(lines)


def load(raw: Mapping[str, Any]) -> Config:
    """Check a raw config mapping.

    Raises:
        ConfigError: unknown keys (with a "did you mean"), wrong types, dangling names.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def json_schema() -> str:
    """The JSON schema of config.yaml, as written to workflow/schemas/config.schema.json."""
    return json.dumps(Config.model_json_schema(), indent=2, sort_keys=True) + "\n"


def describe() -> str:
    """docs/config.md: every key with its type, default and meaning, made from the models themselves."""
    schema = Config.model_json_schema()
    lines = ["# Config", "", "Made from `foley.config` by `make docs`; a test keeps it so.", ""]
    sections = {"top level": schema, **schema["$defs"]}
    for name, section in sections.items():
        lines += [f"## {name}", "", section.get("description", ""), ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        required = section.get("required", [])
        for key, field in section["properties"].items():
            default = "**required**" if key in required else f"`{json.dumps(field.get('default', {}))}`"
            lines.append(f"| `{key}` | {_type_name(field)} | {default} | {field.get('description', '')} |")
        lines.append("")
    return "\n".join(lines)


def _type_name(field: Mapping[str, Any]) -> str:
    """A JSON-schema type in words."""
    if "$ref" in field:
        return f"see {str(field['$ref']).rpartition('/')[2]}"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type_name(part) for part in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_type_name(field.get('items', {}))}"
    if field.get("type") == "object":
        each = field.get("additionalProperties")
        if not isinstance(each, Mapping):
            each = next(iter(field.get("patternProperties", {}).values()), None)
        return f"id → {_type_name(each)}" if isinstance(each, Mapping) else "mapping"
    return str(field.get("type", "any"))
