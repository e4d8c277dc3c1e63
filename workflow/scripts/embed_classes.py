"""A vector for each class, from words, attributes or a sentence."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.classes.describe import embed_classes

    table = snakemake.input.get("class_table")
    embed_classes(
        Path(snakemake.output.vectors),
        Path(snakemake.output.missing),
        classes=Path(snakemake.input.classes),
        class_table=Path(table) if table else None,
        options=dict(snakemake.params.options),
        provenance=job.provenance,
    )
