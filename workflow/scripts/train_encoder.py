"""Train an encoder on the seen classes of one split, and embed all clips with it."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.encoders.embed import train_and_embed
    from foley.options import parse_options
    from foley.runtime.code import load

    kind = load(snakemake.params.encoder)
    options = parse_options(kind.Options, snakemake.params.options, "embeddings.options")
    train_and_embed(
        Path(snakemake.output.embeddings),
        Path(snakemake.output.weights),
        Path(snakemake.output.history),
        features=[Path(path) for path in snakemake.input.features],
        partition=Path(snakemake.input.partition),
        encoder=kind(options, snakemake.params.seed),
        threads=snakemake.threads,
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
