"""A dataset in Markdown: counts, durations, balance, licence, folds, what was rejected, leaks."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.datasets.checksums import compare
    from foley.report.dataset_card import write_dataset_card

    write_dataset_card(
        Path(snakemake.output[0]),
        dataset=snakemake.wildcards.dataset,
        facts=dict(snakemake.params.facts),
        clips=Path(snakemake.input.clips),
        rejected=Path(snakemake.input.rejected),
        classes=Path(snakemake.input.classes),
        leaks=Path(snakemake.input.leaks),
        manifest=Path(snakemake.input.manifest),
        published=compare(
            Path(snakemake.params.root), snakemake.params.facts["kind"], workers=snakemake.threads
        ),
        provenance=job.provenance,
    )
