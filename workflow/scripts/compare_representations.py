"""Scores of every subset and baseline, leave-one-out, and how alike representations are, with intervals."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.diverse.compare import Embedded, Said, compare_representations
    from foley.studies.diverse.networks import Part

    params, files = snakemake.params, snakemake.input
    behind = {}
    for (network, (target, options)), file in zip(params.behind.items(), files.behind, strict=True):
        kind = load(target)
        behind[network] = Part(kind, parse_options(kind.Options, options, "diverse_embeddings"), Path(file))
    compare_representations(
        Path(snakemake.output[0]),
        dataset=snakemake.wildcards.dataset,
        labelled=dict(zip(params.splits, map(Path, files.labelled), strict=True)),
        multi_label=params.multi_label,
        said=[Said(*key, Path(file)) for key, file in zip(params.scores, files.scores, strict=True)],
        embedded=[
            Embedded(*key, Path(file)) for key, file in zip(params.embeddings, files.embeddings, strict=True)
        ],
        sets={name: list(its) for name, its in params.sets.items()},
        baselines=list(params.baselines),
        draws=params.draws,
        seed=params.seed,
        behind=behind,
        provenance=job.provenance,
    )
