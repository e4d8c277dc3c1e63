"""Accuracies of all arms, and what each gains over real clips alone, with intervals."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.audio.compare_arms import compare_arms

    compare_arms(
        Path(snakemake.output[0]),
        predictions=[Path(path) for path in snakemake.input.predictions],
        partitions={
            split: Path(path)
            for split, path in zip(snakemake.params.splits, snakemake.input.partitions, strict=True)
        },
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
