"""Train a generator of clips on the training clips of one split."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.audio.train_generator import train_generator

    torch.set_num_threads(snakemake.threads)
    kind = load(snakemake.params.generator)
    where = f"audio_generators.{snakemake.wildcards.generator}.options"
    train_generator(
        Path(snakemake.output.model),
        Path(snakemake.output.history),
        generator=kind,
        options=parse_options(kind.Options, snakemake.params.options, where),
        seed=snakemake.params.seed,
        audio=[Path(path) for path in snakemake.input.audio],
        partition=Path(snakemake.input.partition),
        classes=Path(snakemake.input.classes),
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        # Of the leased devices each has a process; without any, one process trains on the CPU.
        processes=max(1, min(int(snakemake.resources.gpu), torch.cuda.device_count())),
        provenance=job.provenance,
    )
