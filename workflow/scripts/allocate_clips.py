"""How many synthetic clips each class gets: at most so many in all, more where validation clips gained."""

from collections import Counter
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.audio.splits import classes_in, read_partition
    from foley.studies.foundation.class_filter import allocate_clips
    from foley.studies.foundation.mixes import read_pool

    wc, files = snakemake.wildcards, snakemake.input
    class_ids = classes_in(read_partition(Path(files.partition), wc.split))
    there = Counter(read_pool([Path(path) for path in files.synthetic], class_ids).values())
    allocate_clips(
        Path(snakemake.output[0]),
        without=Path(files.without),
        added=Path(files.added),
        pool={class_id: there[class_id] for class_id in class_ids},
        amount=int(wc.amount),
        floor=snakemake.params.floor,
        provenance=job.provenance,
    )
