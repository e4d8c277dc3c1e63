"""Write the card of a set of clips that were made from prompts."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.report.synthetic_card import SyntheticSet, write_synthetic_card

    wildcards = snakemake.wildcards
    write_synthetic_card(
        Path(snakemake.output[0]),
        SyntheticSet(
            wildcards.dataset,
            wildcards.generator,
            wildcards.prompts,
            clips=[Path(path) for path in snakemake.input.clips],
            rejected=[Path(path) for path in snakemake.input.rejected],
            costs=[Path(path) for path in snakemake.input.costs],
            prompt_table=Path(snakemake.input.prompts),
            licence=snakemake.params.licence,
        ),
        provenance=job.provenance,
    )
