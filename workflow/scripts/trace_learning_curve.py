"""Train the classifier on more and more synthetic embeddings a class."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.zero_shot.experiment import load_experiment
    from foley.studies.zero_shot.generate import read_projected, read_synthetic
    from foley.studies.zero_shot.learning_curve import trace_learning_curve

    torch.set_num_threads(snakemake.threads)
    kind = load(snakemake.params.classifier)
    experiment = load_experiment(
        snakemake.input.embeddings, snakemake.input.partition, snakemake.input.class_vectors
    )
    seeds, wc = snakemake.params.seeds, snakemake.wildcards
    trace_learning_curve(
        Path(snakemake.output[0]),
        experiment=experiment,
        synthetic=read_synthetic(Path(snakemake.input.synthetic), experiment.unseen, seeds),
        projected=read_projected(Path(snakemake.input.projected), experiment, seeds),
        classifier=kind,
        options=parse_options(kind.Options, snakemake.params.options, "methods.classifier_options"),
        counts=snakemake.params.counts,
        seeds=seeds,
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
