"""The measures of quality between two halves of the real embeddings."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.studies.zero_shot.experiment import load_experiment
    from foley.studies.zero_shot.quality import measure_real_quality

    torch.set_num_threads(snakemake.threads)
    experiment = load_experiment(
        snakemake.input.embeddings, snakemake.input.partition, snakemake.input.class_vectors[0]
    )
    wc = snakemake.wildcards
    measure_real_quality(
        Path(snakemake.output[0]),
        experiment=experiment,
        held_out=snakemake.params.held_out,
        draws=snakemake.params.draws,
        seed=snakemake.params.seed,
        labels={"dataset": wc.dataset, "split": wc.split, "variant": wc.embedding},
        provenance=job.provenance,
    )
