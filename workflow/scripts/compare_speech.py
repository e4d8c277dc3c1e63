"""Scores of all arms in all conditions, what backgrounds gain, and what was kept apart."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.speech.compare import compare_speech

    files, params, written = snakemake.input, snakemake.params, snakemake.output
    compare_speech(
        Path(written.scores),
        Path(written.curves),
        Path(written.kept_apart),
        predictions=[Path(path) for path in files.predictions],
        partitions=dict(zip(params.splits, map(Path, files.partitions), strict=True)),
        backgrounds=dict(zip(params.backgrounds, map(Path, files.backgrounds), strict=True)),
        background_split=params.background_split,
        draws=params.draws,
        seed=params.seed,
        quantity=params.metric,
        provenance=job.provenance,
    )
