"""Join a dataset's shards into one clip table, and refuse duplicates."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.datasets.ingest import collect_clips

    collect_clips(
        Path(snakemake.output.clips),
        Path(snakemake.output.rejected),
        dataset=snakemake.wildcards.dataset,
        manifest=Path(snakemake.input.manifest),
        audio=[Path(path) for path in snakemake.input.audio],
        rejected=[Path(path) for path in snakemake.input.rejected],
        max_rejected=snakemake.params.max_rejected,
        duplicates=snakemake.params.duplicates,
        provenance=job.provenance,
    )
