"""Distances, precision, recall, memorisation, diversity and recognition of one generator's clips."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.studies.audio.quality import EmbeddingTables, ProbeTables, QualityOptions, measure_generator

    torch.set_num_threads(snakemake.threads)
    wc, files, params = snakemake.wildcards, snakemake.input, snakemake.params

    def tables_of(paths, number):
        """The tables of one embedding among those of all, which have as many each."""
        each = len(paths) // len(params.embeddings)
        return [Path(path) for path in paths[number * each : (number + 1) * each]]

    measure_generator(
        Path(snakemake.output.quality),
        Path(snakemake.output.scores),
        dataset=wc.dataset,
        split=wc.split,
        generator=wc.generator,
        partition=Path(files.partition),
        synthetic=[Path(path) for path in files.synthetic],
        embeddings={
            embedding: EmbeddingTables(tables_of(files.real, n), tables_of(files.embedded, n))
            for n, embedding in enumerate(params.embeddings)
        },
        probes={params.probe: ProbeTables(Path(files.recognised), Path(files.embeddings))},
        prompted=Path(str(files.prompted)) if files.prompted else None,
        options=QualityOptions(draws=params.draws, seed=params.seed),
        provenance=job.provenance,
    )
