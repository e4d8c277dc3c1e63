"""Chance and the majority class of one split."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.zero_shot.score import score_references

    score_references(
        Path(snakemake.output[0]),
        partition=Path(snakemake.input.partition),
        dataset=snakemake.wildcards.dataset,
        split=snakemake.wildcards.split,
        provenance=job.provenance,
    )
