"""Decode, mix, resample, hash and store one shard of clips."""

from pathlib import Path
from tempfile import TemporaryDirectory

from foley.runtime.job import run_job

with run_job(snakemake) as job, TemporaryDirectory() as scratch:
    from foley.audio.ingest import IngestOptions, ingest_shard
    from foley.datasets.index import index_dataset
    from foley.options import parse_options
    from foley.runtime.code import load

    kind = load(snakemake.params.kind)
    root, manifest = Path(snakemake.params.root), Path(scratch) / "manifest.parquet"
    # A list of its own, as the rule says why.
    index_dataset(
        manifest,
        kind=kind(parse_options(kind.Options, snakemake.params.options, "datasets.options")),
        root=root,
        shards=snakemake.params.shards,
    )
    ingest_shard(
        Path(snakemake.output.audio),
        Path(snakemake.output.rejected),
        dataset=snakemake.wildcards.dataset,
        root=root,
        manifest=manifest,
        shard=int(snakemake.wildcards.shard),
        options=IngestOptions(**snakemake.params.ingest),
        threads=snakemake.threads,
        progress=job.progress,
        provenance=job.provenance,
    )
