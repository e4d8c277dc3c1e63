# What the rules of the study `speech` share: path templates, and who reads which clips.

SPEECH = f"{RESULTS}/speech/dataset={{dataset}}"
SPEECH_SPLIT = f"{SPEECH}/split={{split}}"
SPEECH_ARM = f"{SPEECH_SPLIT}/recogniser={{recogniser}}/arm={{arm}}"
BACKGROUNDS = f"{RESULTS}/speech/backgrounds/background={{background}}.parquet"


def background_clips(background):
    """The clips of a source of backgrounds; none of recordings, which lie in their dataset's shards."""
    if background == "real":
        return []
    place = P.speech.study.background
    return clips_of_source(P.speech.source(background), place.dataset, place.split)


def background_audio(background):
    """Shards that hold the audio of a background."""
    if background == "real":
        dataset = P.speech.study.background.dataset
        return expand(
            f"{CLIPS}/audio/shard={{shard}}.parquet",
            dataset=dataset,
            shard=P.data.shards(dataset),
        )
    return background_clips(background)


def arm_background(wildcards):
    """The backgrounds that an arm mixes into its training clips."""
    if P.speech.mixing(wildcards.arm) is None:
        return []
    return BACKGROUNDS.format(background=wildcards.arm)


def arm_background_audio(wildcards):
    if P.speech.mixing(wildcards.arm) is None:
        return []
    return background_audio(wildcards.arm)


def response_files(wildcards):
    """Recorded room responses that the augmentations of an arm read."""
    return [
        file
        for part in P.speech.augmentations_of(wildcards.arm)
        for file in model_files(part["options"].get("path"))
    ]


def speech_predictions(dataset):
    """What every recogniser says in every arm and split, clean and in noise."""
    return [
        f"{SPEECH_ARM}/{heard}.parquet".format(
            dataset=dataset, split=split, recogniser=recogniser, arm=arm
        )
        for split in P.speech.splits(dataset)
        for recogniser in P.speech.recognisers_of(dataset)
        for arm in P.speech.arms
        for heard in ("clean", "noisy")
    ]


def shown_speech(dataset):
    """Predictions whose confusions the page shows: of clean clips, in the first split."""
    return expand(
        f"{SPEECH_ARM}/clean.parquet",
        dataset=dataset,
        split=P.speech.splits(dataset)[0],
        recogniser=P.speech.recognisers_of(dataset),
        arm=P.speech.arms,
    )


def backgrounds_gallery():
    """A few generated backgrounds to hear."""
    if not P.speech.datasets or not P.speech.sources:
        return []
    return [f"{RESULTS}/speech/backgrounds/gallery.parquet"]


def prompt_sets():
    """Dataset and prompt id of every set of prompts that a study uses."""
    return list(dict.fromkeys([*P.foundation.prompt_sets, *P.speech.prompt_sets]))


def backgrounds_drawn():
    """The table of every kind of background."""
    return expand(BACKGROUNDS, background=P.speech.backgrounds)


wildcard_constraints:
    background=one_of(P.speech.backgrounds),
