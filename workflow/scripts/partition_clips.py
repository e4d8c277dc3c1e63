"""Give each clip its role in one split."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.partition import partition_clips

    splits = snakemake.input.get("splits")
    partition_clips(
        Path(snakemake.output[0]),
        clips=Path(snakemake.input.clips),
        split=snakemake.wildcards.split,
        splits_file=Path(splits) if splits else None,
        random=snakemake.params.random,
        validation_fraction=snakemake.params.validation_fraction,
        test_fraction=snakemake.params.test_fraction,
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
