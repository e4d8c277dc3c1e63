"""Decode, mix, resample, hash and store one shard of clips."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.datasets.ingest import IngestOptions, ingest_shard
    from foley.options import parse_options
    from foley.runtime.code import load

    kind = load(snakemake.params.kind)
    ingest_shard(
        Path(snakemake.output.audio),
        Path(snakemake.output.rejected),
        dataset=snakemake.wildcards.dataset,
        kind=kind(parse_options(kind.Options, snakemake.params.options, "datasets.options")),
        root=Path(snakemake.params.root),
        shards=snakemake.params.shards,
        shard=int(snakemake.wildcards.shard),
        options=IngestOptions(**snakemake.params.ingest),
        cache=Path(snakemake.params.cache) if snakemake.params.cache else None,
        threads=snakemake.threads,
        progress=job.progress,
        provenance=job.provenance,
    )
