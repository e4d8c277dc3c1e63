"""Sample clips of some classes from noise."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.generators.audio.hifi_gan import HifiGan
    from foley.runtime.code import load
    from foley.studies.audio.generate import Origin, Sampling, generate_shard
    from foley.studies.audio.train_generator import clips_of_role

    torch.set_num_threads(snakemake.threads)
    clips = clips_of_role(Path(snakemake.input.partition), Path(snakemake.input.classes))
    class_of = dict(sorted(zip(clips.labels, clips.class_ids, strict=True)))
    labels = list(class_of)[int(snakemake.wildcards.shard) :: snakemake.params.shards]
    model = load(snakemake.params.generator).load(Path(snakemake.input.model))
    vocoder = snakemake.params.vocoder
    generate_shard(
        Path(snakemake.output[0]),
        model=model,
        origin=Origin(snakemake.wildcards.generator, snakemake.params.kind),
        class_of={label: class_of[label] for label in labels},
        clips_per_class=snakemake.params.clips_per_class,
        split=snakemake.wildcards.split,
        seed=snakemake.params.seed,
        sampling=Sampling(**snakemake.params.sampling),
        vocoder=HifiGan(options=model.options.mel, **vocoder) if vocoder else None,
        progress=partial(job.progress, unit="classes"),
        provenance=job.provenance,
    )
