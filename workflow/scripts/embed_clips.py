"""Embed one shard of clips with a pretrained encoder."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.encoders.embed import embed_shard
    from foley.encoders.weights import resolve

    entry = snakemake.config["embeddings"][snakemake.wildcards.embedding]
    cache = Path(snakemake.config["cache"]).expanduser() / "weights"
    embed_shard(
        Path(snakemake.output[0]),
        audio=Path(snakemake.input.audio),
        target=snakemake.params.encoder,
        # The parameter goes into tables and so lacks the secrets that a URL may hold.
        weights=resolve(entry["weights"], snakemake.params.sha256, cache),
        threads=snakemake.threads,
        progress=partial(job.progress, size=lambda batch: len(batch[0])),
        provenance=job.provenance,
    )
