"""A few generated clips of each class to hear, each beside the real clip nearest to it."""

from itertools import islice
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.report.audio_gallery import GeneratedSource, pick_synthetic

    files, params = snakemake.input, snakemake.params
    clips, vectors = (iter([Path(path) for path in paths]) for paths in (files.synthetic, files.embeddings))
    pick_synthetic(
        Path(snakemake.output[0]),
        sources=[
            GeneratedSource(generator, list(islice(clips, made)), list(islice(vectors, embedded)))
            for generator, made, embedded in params.generators
        ],
        audio=[Path(path) for path in files.audio],
        clips=Path(files.clips),
        partition=Path(files.partition),
        per_class=params.per_class,
        max_duration_s=params.max_duration_s,
        seed=params.seed,
        provenance=job.provenance,
    )
