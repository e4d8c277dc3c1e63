"""Train a recogniser of speech in one arm, all seeds."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.augment.background import BackgroundOptions
    from foley.augment.protocol import Augmentations
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.speech.train import MixedIn, train_speech

    wc, params, files = snakemake.wildcards, snakemake.params, snakemake.input
    kind = load(params.classifier)
    changes = []
    for number, part in enumerate(params.augmentations):
        augmentation = load(part["target"])
        where = f"speech.augmentations.{number}.options"
        changes.append(augmentation(parse_options(augmentation.Options, part["options"], where)))
    mixed = params.mixing is not None
    train_speech(
        Path(snakemake.output.models),
        Path(snakemake.output.history),
        arm=wc.arm,
        audio=[Path(path) for path in files.audio],
        partition=Path(files.partition),
        split=wc.split,
        classifier=kind,
        options=parse_options(kind.Options, params.options, f"audio_classifiers.{wc.recogniser}.options"),
        seeds=params.seeds,
        backgrounds=(
            MixedIn(Path(str(files.backgrounds)), [Path(path) for path in files.background_audio])
            if mixed
            else None
        ),
        mixing=BackgroundOptions(**params.mixing) if mixed else None,
        augmentations=Augmentations.of(changes) if changes else None,
        threads=snakemake.threads,
        progress=partial(job.progress, unit="shards"),
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
