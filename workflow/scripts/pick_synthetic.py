"""A few generated clips of each class to hear, each beside the real clip nearest to it."""

from itertools import islice
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.report.audio_gallery import GeneratedSource, pick_synthetic

    files, params = snakemake.input, snakemake.params
    clips = iter([Path(path) for path in files.synthetic])
    pick_synthetic(
        Path(snakemake.output[0]),
        sources=[
            GeneratedSource(generator, list(islice(clips, count)), [Path(embeddings)])
            for (generator, count), embeddings in zip(params.generators, files.embeddings, strict=True)
        ],
        audio=[Path(path) for path in files.audio],
        clips=Path(files.clips),
        partition=Path(files.partition),
        per_class=params.per_class,
        max_duration_s=params.max_duration_s,
        seed=params.seed,
        provenance=job.provenance,
    )
