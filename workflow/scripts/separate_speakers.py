"""Give each clip of speech its part in one split, speakers and recordings kept apart."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.speech.speakers import separate_speakers

    separate_speakers(
        Path(snakemake.output[0]),
        partition=Path(snakemake.input.partition),
        clips=Path(snakemake.input.clips),
        split=snakemake.wildcards.split,
        provenance=job.provenance,
    )
