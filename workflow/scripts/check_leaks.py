"""What lies on both sides of the official folds or splits; an error where the dataset claims that nothing does."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.datasets.leaks import check_leaks

    check_leaks(
        Path(snakemake.output[0]),
        dataset=snakemake.wildcards.dataset,
        clips=Path(snakemake.input.clips),
        rejected=Path(snakemake.input.rejected),
        manifest=Path(snakemake.input.manifest),
        claims=snakemake.params.claims,
        policy=snakemake.params.policy,
        progress=lambda items: job.progress(items, unit="blocks"),
        provenance=job.provenance,
    )
