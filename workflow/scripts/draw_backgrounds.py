"""Which clips of one kind of background are mixed into training clips, and which into test clips alone."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.speech.backgrounds import Wanted, draw_backgrounds

    wanted = dict(snakemake.params.background)
    draw_backgrounds(
        Path(snakemake.output[0]),
        background=snakemake.wildcards.background,
        partition=Path(snakemake.input.partition),
        split=wanted.pop("split"),
        clips=Path(snakemake.input.clips),
        synthetic=[Path(path) for path in snakemake.input.synthetic],
        wanted=Wanted(**wanted, seed=snakemake.params.seed),
        provenance=job.provenance,
    )
