"""The yardstick: the same measures of real clips that no generator was trained on."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.studies.audio.quality import ProbeTables, QualityOptions, measure_real

    torch.set_num_threads(snakemake.threads)
    wc, files, params = snakemake.wildcards, snakemake.input, snakemake.params
    each = len(files.real) // max(1, len(params.embeddings))
    measure_real(
        Path(snakemake.output.quality),
        Path(snakemake.output.scores),
        dataset=wc.dataset,
        split=wc.split,
        partition=Path(files.partition),
        embeddings={
            embedding: [Path(path) for path in files.real[n * each : (n + 1) * each]]
            for n, embedding in enumerate(params.embeddings)
        },
        probes={params.probe: ProbeTables(Path(files.recognised), Path(files.embeddings))},
        prompted=Path(str(files.prompted)) if files.prompted else None,
        clips_per_class=params.clips_per_class,
        options=QualityOptions(draws=params.draws, seed=params.seed),
        provenance=job.provenance,
    )
