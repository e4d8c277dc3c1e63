"""Train a linear head on the frozen embeddings of every subset of a set, all as one model."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.classifiers.subset_heads import SubsetHeadsOptions
    from foley.options import parse_options
    from foley.studies.diverse.heads import train_heads

    params = snakemake.params
    files = zip(params.names, map(Path, snakemake.input.embeddings), strict=True)
    train_heads(
        Path(snakemake.output.heads),
        Path(snakemake.output.history),
        embeddings=dict(files),
        scores=[Path(path) for path in snakemake.input.scores],
        labelled=Path(snakemake.input.labelled),
        options=parse_options(SubsetHeadsOptions, params.options, "diverse_embeddings.heads"),
        multi_label=params.multi_label,
        seed=int(snakemake.wildcards.seed),
        threads=snakemake.threads,
        provenance=job.provenance,
    )
