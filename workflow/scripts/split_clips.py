"""Give each clip its part in one split of the audio studies: train, validation or test."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.audio.splits import Splits, split_clips

    split_clips(
        Path(snakemake.output[0]),
        clips=Path(snakemake.input.clips),
        split=snakemake.wildcards.split,
        settings=Splits(**snakemake.params.settings),
        provenance=job.provenance,
    )
