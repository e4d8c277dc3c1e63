"""How near the prompt of its class comes to each real test clip, in CLAP's space."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.studies.audio.prompted import prompt_real

    torch.set_num_threads(snakemake.threads)
    prompt_real(
        Path(snakemake.output[0]),
        audio=[Path(path) for path in snakemake.input.audio],
        partition=Path(snakemake.input.partition),
        classes=Path(snakemake.input.classes),
        **snakemake.params.clap,
        progress=partial(job.progress, unit="shards"),
        provenance=job.provenance,
    )
