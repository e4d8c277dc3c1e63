"""Make clips between two training clips of a class, from different recordings."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.runtime.code import load
    from foley.studies.audio.generate import Origin
    from foley.studies.audio.interpolate import interpolate_clips

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    interpolate_clips(
        Path(snakemake.output[0]),
        model=load(params.generator).load(Path(snakemake.input.model)),
        origin=Origin(snakemake.wildcards.generator, params.kind),
        audio=[Path(path) for path in snakemake.input.audio],
        partition=Path(snakemake.input.partition),
        classes=Path(snakemake.input.classes),
        clips_per_class=params.clips_per_class,
        seed=params.seed,
        weight=params.weight,
        steps=params.steps,
        refinements=params.refinements,
        progress=partial(job.progress, unit="classes"),
        provenance=job.provenance,
    )
