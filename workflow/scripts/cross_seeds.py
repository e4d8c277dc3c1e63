"""Several classifiers on each of several generators on one embedding network."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.zero_shot.experiment import load_experiment
    from foley.studies.zero_shot.generate import read_projected, read_synthetic
    from foley.studies.zero_shot.seed_grid import cross_seeds

    torch.set_num_threads(snakemake.threads)
    kind = load(snakemake.params.classifier)
    experiment = load_experiment(
        snakemake.input.embeddings, snakemake.input.partition, snakemake.input.class_vectors
    )
    made, real = snakemake.input.get("synthetic"), snakemake.input.get("projected")
    seeds, wc = snakemake.params.generator_seeds, snakemake.wildcards
    cross_seeds(
        Path(snakemake.output[0]),
        experiment=experiment,
        synthetic=(
            read_synthetic(Path(made), experiment.unseen, seeds)[:, :, : snakemake.params.samples_per_class]
            if made
            else None
        ),
        projected=read_projected(Path(real), experiment, seeds) if real else None,
        classifier=kind,
        options=parse_options(kind.Options, snakemake.params.options, "methods.classifier_options"),
        embedding_seed=snakemake.params.embedding_seed,
        generator_seeds=seeds,
        classifier_seeds=snakemake.params.classifier_seeds,
        labels={
            "dataset": wc.dataset,
            "split": wc.split,
            "method": wc.method,
            "variant": snakemake.params.variant,
        },
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
