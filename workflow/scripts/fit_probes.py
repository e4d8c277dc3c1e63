"""Fit a linear probe on stored embeddings of a mix, all seeds; it names validation and test clips."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.foundation.fit_probes import fit_probes
    from foley.studies.foundation.mix import Mix

    wc, params, files = snakemake.wildcards, snakemake.params, snakemake.input
    options = load(params.classifier).Options
    fit_probes(
        Path(snakemake.output.predictions),
        Path(snakemake.output.clips),
        mix=Mix(**params.mix),
        protocol=wc.protocol,
        real=[Path(path) for path in files.real],
        embedded=[Path(path) for path in files.embedded],
        partition=Path(files.partition),
        synthetic=[Path(path) for path in files.synthetic],
        choice=Path(str(files.choice)) if files.choice else None,
        prompted=[Path(str(files.asked))] if files.asked else [],
        drop_fraction=params.drop_fraction,
        options=parse_options(options, params.options, f"audio_classifiers.{wc.recogniser}.options"),
        seeds=params.seeds,
        draw_seed=params.draw_seed,
        labels={"dataset": wc.dataset, "split": wc.split, "method": wc.mix, "variant": params.variant},
        threads=snakemake.threads,
        provenance=job.provenance,
    )
