"""Extract one feature from one shard of clips."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.features.extract import extract_shard
    from foley.options import parse_options
    from foley.runtime.code import load

    kind = load(snakemake.params.kind)
    extract_shard(
        Path(snakemake.output[0]),
        audio=Path(snakemake.input.audio),
        feature=kind(parse_options(kind.Options, snakemake.params.options, "features.options")),
        threads=snakemake.threads,
        progress=partial(job.progress, size=lambda batch: len(batch[0])),
        provenance=job.provenance,
    )
