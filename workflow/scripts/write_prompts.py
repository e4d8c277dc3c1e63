"""Write the prompts of a dataset's classes, and all that was asked, answered and refused on the way."""

from functools import partial
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.options import parse_options
    from foley.prompts.write import write_prompts
    from foley.runtime.code import load

    writer = load(snakemake.params.writer)
    prompts = snakemake.wildcards.prompts
    where = f"prompts.{prompts}.options"
    # Limits change no prompt: they are no parameters of the rule, and nothing is made anew for them.
    given = snakemake.config["prompts"][prompts].get("options", {})
    limits = {name: value for name, value in given.items() if name == "limits"}
    table = snakemake.input.get("class_table")
    write_prompts(
        Path(snakemake.output.prompts),
        Path(snakemake.output.requests),
        Path(snakemake.output.rejected),
        writer=writer,
        options=parse_options(writer.Options, {**snakemake.params.options, **limits}, where),
        where=where,
        classes=Path(snakemake.input.classes),
        class_table=Path(table) if table else None,
        dataset_kind=snakemake.params.dataset_kind,
        templates=Path(snakemake.input.templates),
        instructions=Path(snakemake.input.instructions),
        cache=Path(snakemake.config["cache"]).expanduser(),
        progress=partial(job.progress, unit="classes"),
        provenance=job.provenance,
    )
