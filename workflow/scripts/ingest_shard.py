"""Decode, mix, resample, hash and store one shard of clips."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.audio.ingest import IngestOptions, ingest_shard

    ingest_shard(
        Path(snakemake.output.audio),
        Path(snakemake.output.rejected),
        dataset=snakemake.wildcards.dataset,
        root=Path(snakemake.params.root),
        manifest=Path(snakemake.input.manifest),
        shard=int(snakemake.wildcards.shard),
        options=IngestOptions(**snakemake.params.ingest),
        threads=snakemake.threads,
        progress=job.progress,
        provenance=job.provenance,
    )
