"""Make the clips of one shard from prompts, by a pretrained generator."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley import tables
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.audio.generate_prompted import Asked, generate_prompted, wanted_clips
    from foley.studies.audio.prompted_clip import code_of_clips
    from foley.tables.classes import CLASSES

    torch.set_num_threads(snakemake.threads)
    target, wildcards = snakemake.params.generator, snakemake.wildcards
    kind = load(target)
    generator = kind(
        parse_options(
            kind.Options, snakemake.params.options, f"audio_generators.{wildcards.generator}.options"
        )
    )
    classes = tables.read(snakemake.input.classes, CLASSES, columns=["label", "class_id"]).to_pylist()
    asked = Asked(wildcards.generator, wildcards.prompts)
    wanted = wanted_clips(
        Path(snakemake.input.prompts),
        {row["label"]: row["class_id"] for row in classes},
        asked,
        snakemake.params.clips_per_class,
        snakemake.params.seed,
    )
    generate_prompted(
        Path(snakemake.output.clips),
        Path(snakemake.output.rejected),
        Path(snakemake.output.cost),
        generator=generator,
        asked=asked,
        wanted=wanted[int(wildcards.shard) :: snakemake.params.shards],
        cache=Path(snakemake.params.cache),
        code=code_of_clips(target),
        progress=partial(job.progress, unit="clips", size=len),
        provenance=job.provenance,
    )
