"""Accuracy, recall and precision of one method in one split."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.zero_shot.score import score_method

    score_method(
        Path(snakemake.output[0]),
        predictions=Path(snakemake.input.predictions),
        partition=Path(snakemake.input.partition),
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
