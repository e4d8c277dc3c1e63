"""A classifier trained on real clips of the unseen classes says what could be reached."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.studies.zero_shot.experiment import load_experiment
    from foley.studies.zero_shot.references import predict_by_oracle

    torch.set_num_threads(snakemake.threads)
    wc = snakemake.wildcards
    predict_by_oracle(
        Path(snakemake.output[0]),
        experiment=load_experiment(
            snakemake.input.embeddings, snakemake.input.partition, snakemake.input.class_vectors[0]
        ),
        labels={"dataset": wc.dataset, "split": wc.split, "method": "oracle", "variant": wc.embedding},
        seed=snakemake.params.seed,
        provenance=job.provenance,
    )
