"""A vector for each class, from words, attributes or a sentence."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.classes.describe import embed_classes

    embed_classes(
        Path(snakemake.output.vectors),
        Path(snakemake.output.missing),
        classes=Path(snakemake.input.classes),
        options=dict(snakemake.params.options),
        provenance=job.provenance,
    )
