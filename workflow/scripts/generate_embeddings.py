"""Train a generator on seen classes and make embeddings of the unseen ones."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.zero_shot.experiment import load_experiment
    from foley.studies.zero_shot.generate import generate_embeddings

    torch.set_num_threads(snakemake.threads)
    kind = load(snakemake.params.generator)
    generate_embeddings(
        Path(snakemake.output.synthetic),
        projected=Path(snakemake.output.projected),
        experiment=load_experiment(
            snakemake.input.embeddings, snakemake.input.partition, snakemake.input.class_vectors
        ),
        generator=kind,
        options=parse_options(kind.Options, snakemake.params.options, "methods.generator_options"),
        seeds=snakemake.params.seeds,
        count=snakemake.params.samples_per_class,
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
