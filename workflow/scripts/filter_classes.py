"""Which classes keep their synthetic clips: precision on validation clips after training on synthetic ones alone."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.audio.splits import classes_in, read_partition
    from foley.studies.foundation.class_filter import filter_classes

    wc = snakemake.wildcards
    filter_classes(
        Path(snakemake.output[0]),
        predictions=Path(snakemake.input.predictions),
        class_ids=classes_in(read_partition(Path(snakemake.input.partition), wc.split)),
        amount=int(wc.amount),
        drop_fraction=snakemake.params.drop_fraction,
        provenance=job.provenance,
    )
