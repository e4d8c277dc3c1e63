"""Ask CLAP which unseen class each clip is."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    import torch

    from foley.studies.zero_shot.references import predict_by_clap

    torch.set_num_threads(snakemake.threads)
    wc = snakemake.wildcards
    predict_by_clap(
        Path(snakemake.output[0]),
        audio=[Path(path) for path in snakemake.input.audio],
        classes=Path(snakemake.input.classes),
        partition=Path(snakemake.input.partition),
        **snakemake.params.clap,
        labels={"dataset": wc.dataset, "split": wc.split, "method": "clap", "variant": ""},
        provenance=job.provenance,
    )
