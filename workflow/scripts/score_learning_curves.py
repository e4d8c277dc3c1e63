"""Accuracy at each point of the learning curves, with intervals."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.zero_shot.learning_curve_scores import score_learning_curves

    score_learning_curves(
        Path(snakemake.output[0]),
        curves=[Path(path) for path in snakemake.input.curves],
        partitions={
            split: Path(path)
            for split, path in zip(snakemake.params.splits, snakemake.input.partitions, strict=True)
        },
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
