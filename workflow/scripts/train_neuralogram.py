"""Train a network on the training clips of one split, and write its activations over time for every clip."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.encoders.neuralogram import NeuralogramOptions
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.diverse.networks import train_neuralogram

    params, output = snakemake.params, snakemake.output
    kind = load(params.network)
    where = f"diverse_embeddings.representations.{snakemake.wildcards.representation}.network.options"
    train_neuralogram(
        Path(output.frames),
        Path(output.history),
        Path(output.model),
        frames=[Path(path) for path in snakemake.input.frames],
        labelled=Path(snakemake.input.labelled),
        kind=kind,
        options=parse_options(kind.Options, params.options, where),
        neuralogram=NeuralogramOptions(frames_per_second=params.frames_per_second),
        multi_label=params.multi_label,
        seed=int(snakemake.wildcards.seed),
        threads=snakemake.threads,
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
