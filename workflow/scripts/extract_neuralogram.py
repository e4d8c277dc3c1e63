"""Activations over time of a pretrained encoder, for one shard of clips."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.encoders.neuralogram import NeuralogramOptions, extract_neuralogram
    from foley.encoders.weights import resolve

    params = snakemake.params
    entry = snakemake.config["embeddings"][params.embedding]
    cache = Path(snakemake.config["cache"]).expanduser() / "weights"
    extract_neuralogram(
        Path(snakemake.output[0]),
        audio=Path(snakemake.input.audio),
        target=params.encoder,
        # The parameter goes into tables and so lacks the secrets that a URL may hold.
        weights=resolve(entry["weights"], params.sha256, cache),
        options=NeuralogramOptions(params.window_s, params.frames_per_second),
        threads=snakemake.threads,
        progress=partial(job.progress, size=lambda batch: len(batch[0])),
        provenance=job.provenance,
    )
