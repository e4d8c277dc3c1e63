"""Real and synthetic embeddings of one run on a plane."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.report.embedding_map import project_embeddings

    project_embeddings(
        Path(snakemake.output[0]),
        embeddings=[Path(path) for path in snakemake.input.embeddings],
        partition=Path(snakemake.input.partition),
        synthetic=Path(snakemake.input.synthetic),
        projected=Path(snakemake.input.projected),
        classes=Path(snakemake.input.classes),
        seed=snakemake.params.seed,
        max_points=snakemake.params.max_points,
        provenance=job.provenance,
    )
