"""Give each clip its part in one split of the study, and the numbers of its classes."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.audio.splits import Splits
    from foley.studies.diverse.label_clips import label_clips

    label_clips(
        Path(snakemake.output[0]),
        clips=Path(snakemake.input.clips),
        classes=Path(snakemake.input.classes),
        split=snakemake.wildcards.split,
        settings=Splits(**snakemake.params.settings),
        multi_label=snakemake.params.multi_label,
        provenance=job.provenance,
    )
