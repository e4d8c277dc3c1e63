"""Train a classifier of clips in one arm, all seeds, and let it say what the test clips are."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.augment.protocol import Augmentations
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.audio.arms import train_arm

    wc, params = snakemake.wildcards, snakemake.params
    kind = load(params.classifier)
    changes = []
    for part in params.augmentations:
        augmentation = load(part["target"])
        changes.append(
            augmentation(
                parse_options(augmentation.Options, part["options"], "interpolation.augmentations.options")
            )
        )
    train_arm(
        Path(snakemake.output.predictions),
        Path(snakemake.output.models),
        Path(snakemake.output.history),
        arm=wc.arm,
        audio=[Path(path) for path in snakemake.input.audio],
        partition=Path(snakemake.input.partition),
        synthetic=[Path(path) for path in snakemake.input.synthetic],
        added_per_class=params.added_per_class,
        classifier=kind,
        options=parse_options(kind.Options, params.options, f"audio_classifiers.{wc.classifier}.options"),
        augmentations=Augmentations.of(changes) if changes else None,
        seeds=params.seeds,
        draw_seed=params.draw_seed,
        labels={"dataset": wc.dataset, "split": wc.split, "method": wc.arm, "variant": wc.classifier},
        threads=snakemake.threads,
        progress=partial(job.progress, unit="shards"),
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
