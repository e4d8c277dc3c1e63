"""Scores of all mixes, and what synthetic clips gain over real ones alone, with intervals."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.foundation.compare_mixes import compare_mixes

    files, params = snakemake.input, snakemake.params
    compare_mixes(
        Path(snakemake.output[0]),
        predictions=[Path(path) for path in files.predictions],
        partitions=dict(zip(params.splits, map(Path, files.partitions), strict=True)),
        draws=params.draws,
        seed=params.seed,
        provenance=job.provenance,
    )
