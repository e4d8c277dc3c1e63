"""Synthetic embeddings of seen classes that the generator was not shown, against the real ones."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.zero_shot.experiment import load_experiment
    from foley.studies.zero_shot.quality import measure_quality

    torch.set_num_threads(snakemake.threads)
    kind = load(snakemake.params.generator)
    experiment = load_experiment(
        snakemake.input.embeddings, snakemake.input.partition, snakemake.input.class_vectors
    )
    wc = snakemake.wildcards
    measure_quality(
        Path(snakemake.output[0]),
        experiment=experiment,
        generator=kind,
        options=parse_options(kind.Options, snakemake.params.options, "methods.generator_options"),
        seeds=snakemake.params.seeds,
        held_out=snakemake.params.held_out,
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        labels={
            "dataset": wc.dataset,
            "split": wc.split,
            "method": wc.method,
            "variant": f"{wc.embedding}/{wc.vectors}",
        },
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
