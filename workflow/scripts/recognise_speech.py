"""What the recognisers of an arm say of the test clips, clean and with each background at each ratio."""

from functools import partial
from itertools import islice
from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.speech.recognise import recognise_speech
    from foley.studies.speech.train import MixedIn

    wc, params, files = snakemake.wildcards, snakemake.params, snakemake.input
    kind = load(params.classifier)
    audio = iter([Path(path) for path in files.background_audio])
    recognise_speech(
        Path(snakemake.output.clean),
        Path(snakemake.output.noisy),
        models=Path(files.models),
        kind=kind,
        options=parse_options(kind.Options, params.options, f"audio_classifiers.{wc.recogniser}.options"),
        seeds=params.seeds,
        audio=[Path(path) for path in files.audio],
        partition=Path(files.partition),
        backgrounds={
            name: MixedIn(Path(table), list(islice(audio, count)))
            for (name, count), table in zip(params.backgrounds, files.backgrounds, strict=True)
        },
        ratios_db=params.ratios_db,
        draw_seed=params.draw_seed,
        labels={"dataset": wc.dataset, "split": wc.split, "method": wc.arm},
        recogniser=wc.recogniser,
        silent_speech=params.silent_speech,
        threads=snakemake.threads,
        progress=partial(job.progress, unit="shards"),
        provenance=job.provenance,
    )
