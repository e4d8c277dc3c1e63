"""The mix that validation clips choose among those with as many real clips."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.foundation.choose_mix import choose_mix

    choose_mix(
        Path(snakemake.output.predictions),
        Path(snakemake.output.choice),
        mixes=[Path(path) for path in snakemake.input.mixes],
        provenance=job.provenance,
    )
