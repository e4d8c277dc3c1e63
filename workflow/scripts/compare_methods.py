"""Means over splits, and paired gains over the method without synthetic data."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.zero_shot.compare import compare_methods

    compare_methods(
        Path(snakemake.output[0]),
        predictions=[Path(path) for path in snakemake.input.predictions],
        partitions={
            split: Path(path)
            for split, path in zip(snakemake.params.splits, snakemake.input.partitions, strict=True)
        },
        references=[Path(path) for path in snakemake.input.references],
        baseline=snakemake.params.baseline,
        generated=snakemake.params.generated,
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
