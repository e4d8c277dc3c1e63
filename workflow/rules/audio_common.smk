# What the rules of the audio studies share: path templates, and who reads which clips.

import os

AUDIO = f"{RESULTS}/audio/dataset={{dataset}}"
AUDIO_SPLIT = f"{AUDIO}/split={{split}}"
MADE = f"{AUDIO_SPLIT}/generator={{generator}}"
ARM = f"{AUDIO_SPLIT}/classifier={{classifier}}/arm={{arm}}"
JUDGED = f"{MADE}/classifier={{classifier}}"


def shards_of(file, dataset, split, generator):
    """A file of each shard of a generator."""
    return expand(
        f"{MADE}/{file}/shard={{shard}}.parquet",
        dataset=dataset,
        split=split,
        generator=generator,
        shard=P.audio.shards(generator),
    )


def clips_of(dataset, split, generator):
    """The clips that are measured under a generator's id; none of the yardstick `real`."""
    if generator == "real":
        return []
    if generator == P.audio.interpolating:
        return expand(
            f"{MADE}/interpolated.parquet",
            dataset=dataset,
            split=split,
            generator=P.audio.model,
        )
    return shards_of("clips", dataset, split, generator)


def generator_files(wildcards):
    """What a generator is read from: the folder of its training, or a checkpoint's files (none of a hub's: its commit
    counts)."""
    options = P.audio.pretrained(wildcards.generator)
    if options is None:
        return f"{MADE}/model".format(**wildcards)
    folder = Path(options["model"]).expanduser()
    return sorted(str(path) for path in folder.glob("*/*") if path.is_file())


def vocoder_files(wildcards):
    """The files of a generator's neural vocoder; none of a hub's, whose revision counts, a parameter."""
    vocoder = P.config.audio_generators[wildcards.generator].vocoder
    if vocoder is None:
        return []
    return model_files(os.path.join(vocoder.model, vocoder.subfolder or ""))


def made_clips(wildcards):
    return clips_of(wildcards.dataset, wildcards.split, wildcards.generator)


def arm_clips(wildcards):
    """The generated clips that an arm adds to the real ones."""
    place = wildcards.dataset, wildcards.split
    if wildcards.arm == "interpolated":
        return clips_of(*place, P.audio.interpolating)
    if wildcards.arm == "sampled":
        return clips_of(*place, P.audio.model)
    return []


def arms(file, dataset):
    """A file of every arm of every classifier, in every split of the study."""
    if dataset not in P.audio.augmented:
        return []
    return expand(
        f"{ARM}/{file}",
        dataset=dataset,
        split=P.audio.interpolation.splits,
        classifier=P.audio.interpolation.classifiers,
        arm=P.audio.interpolation.arms,
    )


def real_embeddings(generator):
    """Tables of the real clips in every pretrained embedding that clips are measured in, embedding by embedding."""

    def files(wildcards):
        return [
            file
            for embedding in P.audio.embeddings_of(generator or wildcards.generator)
            for file in embeddings_of(wildcards.dataset, embedding, wildcards.split)
        ]

    return files


def judged(file, dataset):
    """A file of whatever is measured, in every split of the study."""
    return [
        f"{MADE}/{file}".format(dataset=dataset, split=split, generator=generator)
        for split in P.audio.splits(dataset)
        for generator in P.audio.measured(dataset, split)
    ]


def shown_clips(wildcards):
    """The generated clips of what the page plays, generator by generator."""
    split = P.audio.shown_split(wildcards.dataset)
    return [
        file
        for generator in P.audio.shown(wildcards.dataset)
        for file in clips_of(wildcards.dataset, split, generator)
    ]


def checkpoint_files(classifier):
    """The local file or folder of a pretrained classifier as inputs; of a URL or hub id the option itself counts."""
    options = P.config.audio_classifiers[classifier].options
    found = []
    for key in ("weights", "model"):
        place = Path(str(options.get(key) or "")).expanduser()
        if options.get(key) and place.is_file():
            found.append(str(place))
        elif options.get(key):
            found += model_files(options[key])
    return found


def generator_gpus(wildcards):
    """Devices that one training is spread over, with a process for each."""
    return P.config.audio_generators[wildcards.generator].gpus


wildcard_constraints:
    generator=one_of(P.audio.ids),
    classifier=one_of(P.config.audio_classifiers),
    arm=one_of(P.audio.arms),
