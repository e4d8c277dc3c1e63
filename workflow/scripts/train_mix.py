"""Train a recogniser on a mix of real and synthetic clips, all seeds; it names validation and test clips."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.augment.protocol import Augmentations
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.foundation.mix import Mix
    from foley.studies.foundation.train_mix import train_mix

    wc, params, files = snakemake.wildcards, snakemake.params, snakemake.input
    kind = load(params.classifier)
    changes = []
    for number, part in enumerate(params.augmentations):
        augmentation = load(part["target"])
        where = f"audio_classifiers.{wc.recogniser}.augmentations.{number}.options"
        changes.append(augmentation(parse_options(augmentation.Options, part["options"], where)))
    train_mix(
        Path(snakemake.output.predictions),
        Path(snakemake.output.history),
        Path(snakemake.output.clips),
        mix=Mix(**params.mix),
        protocol=wc.protocol,
        audio=[Path(path) for path in files.audio],
        partition=Path(files.partition),
        synthetic=[Path(path) for path in files.synthetic],
        choice=Path(str(files.choice)) if files.choice else None,
        prompted=[Path(str(files.asked))] if files.asked else [],
        drop_fraction=params.drop_fraction,
        classifier=kind,
        options=parse_options(kind.Options, params.options, f"audio_classifiers.{wc.recogniser}.options"),
        augmentations=Augmentations.of(changes),
        seeds=params.seeds,
        draw_seed=params.draw_seed,
        labels={"dataset": wc.dataset, "split": wc.split, "method": wc.mix, "variant": params.variant},
        threads=snakemake.threads,
        progress=partial(job.progress, unit="shards"),
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
