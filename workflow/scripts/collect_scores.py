"""All measured values of all studies in one table."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley import tables
    from foley.tables.scores import SCORES

    rows = tables.read([Path(path) for path in snakemake.input], SCORES)
    tables.write(Path(snakemake.output[0]), SCORES, rows, job.provenance)
