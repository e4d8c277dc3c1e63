"""List the raw clips of a dataset with their labels, folds and recordings, and its classes."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.datasets.index import index_dataset
    from foley.options import parse_options
    from foley.runtime.code import load

    kind = load(snakemake.params.kind)
    options = parse_options(kind.Options, snakemake.params.options, "datasets.options")
    index_dataset(
        Path(snakemake.output.manifest),
        Path(snakemake.output.classes),
        kind=kind(options),
        root=Path(snakemake.params.root),
        shards=snakemake.params.shards,
        provenance=job.provenance,
    )
