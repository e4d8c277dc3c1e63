"""The spread over seeds by its source."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.zero_shot.variance import split_variance

    split_variance(
        Path(snakemake.output[0]),
        grids=[Path(path) for path in snakemake.input],
        provenance=job.provenance,
    )
