"""What classifiers that were trained on real clips make of generated ones, and of real ones."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.audio.recognise import recognise_clips

    torch.set_num_threads(snakemake.threads)
    kind = load(snakemake.params.classifier)
    where = f"audio_classifiers.{snakemake.wildcards.classifier}.options"
    recognise_clips(
        Path(snakemake.output.recognised),
        Path(snakemake.output.embeddings),
        models=Path(snakemake.input.models),
        kind=kind,
        options=parse_options(kind.Options, snakemake.params.options, where),
        seeds=snakemake.params.seeds,
        synthetic=[Path(path) for path in snakemake.input.synthetic],
        audio=[Path(path) for path in snakemake.input.audio],
        partition=Path(snakemake.input.partition),
        progress=partial(job.progress, unit="shards"),
        provenance=job.provenance,
    )
