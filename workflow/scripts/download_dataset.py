"""Fetch, check and unpack one source of a dataset."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.download.fetch import fetch_source, source_from

    fetch_source(
        Path(snakemake.output[0]),
        source=source_from(snakemake.params.source),
        root=Path(snakemake.params.root),
        archives=Path(snakemake.params.archives),
        title=snakemake.wildcards.storage,
        provenance=job.provenance,
    )
