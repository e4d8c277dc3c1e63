"""Words, synonyms and attributes of each class that has clips."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.classes.describe import describe_classes

    table = snakemake.input.get("class_table")
    describe_classes(
        Path(snakemake.output[0]),
        clips=Path(snakemake.input.clips),
        defined=Path(snakemake.input.defined),
        class_table=Path(table) if table else None,
        provenance=job.provenance,
    )
