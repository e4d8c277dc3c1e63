"""Make clips between two training clips of a class, from different recordings."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.generators.audio.hifi_gan import HifiGan
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.audio.generate import Origin
    from foley.studies.audio.interpolate import interpolate_clips

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    generator, kind = snakemake.wildcards.generator, load(params.generator)
    if params.pretrained is None:
        model = kind.load(Path(snakemake.input.model))
    else:
        where = f"audio_generators.{generator}.options"
        model = kind(parse_options(kind.Options, params.pretrained, where))
    interpolate_clips(
        Path(snakemake.output.clips),
        Path(snakemake.output.rejected),
        model=model,
        origin=Origin(generator, *params.origin),
        audio=[Path(path) for path in snakemake.input.audio],
        partition=Path(snakemake.input.partition),
        classes=Path(snakemake.input.classes),
        clips_per_class=params.clips_per_class,
        split=snakemake.wildcards.split,
        seed=params.seed,
        weight=params.weight,
        steps=params.steps,
        refinements=params.refinements,
        vocoder=HifiGan(options=model.options.mel, **params.vocoder) if params.vocoder else None,
        max_rejected=params.max_rejected,
        progress=partial(job.progress, unit="classes"),
        provenance=job.provenance,
    )
