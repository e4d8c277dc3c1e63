"""All measured values of all studies in one table."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley import tables

    rows = tables.read([Path(path) for path in snakemake.input], tables.SCORES)
    tables.write(Path(snakemake.output[0]), tables.SCORES, rows, job.provenance)
