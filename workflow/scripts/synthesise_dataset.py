"""Make the raw audio of a generated dataset."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.options import parse_options
    from foley.runtime.code import load

    kind = load(snakemake.params.kind)
    options = parse_options(kind.Options, snakemake.params.options, "datasets.options")
    kind(options).generate(Path(snakemake.output[0]), job.progress)
