"""Quality of synthetic embeddings in the mean over splits."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.zero_shot.quality import average_quality

    average_quality(
        Path(snakemake.output[0]),
        scores=[Path(path) for path in snakemake.input],
        splits=snakemake.params.splits,
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
