"""A few clips of each class to hear, and the real clips nearest to what the generators made."""

from itertools import islice
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.report.gallery import NearestSource, pick_gallery

    embeddings = iter([Path(path) for path in snakemake.input.embeddings])
    nearest = [
        NearestSource(name, Path(made), list(islice(embeddings, files)), Path(projected))
        for (name, files), made, projected in zip(
            snakemake.params.methods, snakemake.input.synthetic, snakemake.input.projected, strict=True
        )
    ]
    pick_gallery(
        Path(snakemake.output[0]),
        audio=[Path(path) for path in snakemake.input.audio],
        clips=Path(snakemake.input.clips),
        per_class=snakemake.params.per_class,
        max_duration_s=snakemake.params.max_duration_s,
        seed=snakemake.params.seed,
        nearest=nearest,
        provenance=job.provenance,
    )
