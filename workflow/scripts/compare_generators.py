"""Generators against each other: means over splits, and differences with intervals."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.audio.compare_generators import compare_generators

    compare_generators(
        Path(snakemake.output[0]),
        quality=[Path(path) for path in snakemake.input.quality],
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
