"""Train the networks of a set and one linear head together."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from itertools import accumulate, pairwise

    from foley.classifiers.subset_heads import SubsetHeads
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.diverse.heads import Branch, Joint, train_jointly

    params, files = snakemake.params, [Path(path) for path in snakemake.input.frames]
    weights = [Path(path) for path in snakemake.input.weights] or [None] * len(params.networks)
    edges = pairwise([0, *accumulate(params.counts)])
    branches = []
    for (target, options), (begin, end), start in zip(params.networks, edges, weights, strict=True):
        kind = load(target)
        own = parse_options(kind.Options, options, "diverse_embeddings")
        branches.append(Branch(kind, own, files[begin:end], start))
    train_jointly(
        Path(snakemake.output.scores),
        Path(snakemake.output.history),
        Path(snakemake.output.model),
        branches=branches,
        labelled=Path(snakemake.input.labelled),
        training=parse_options(Joint.Options, params.options, "diverse_embeddings.joint.options"),
        heads=parse_options(SubsetHeads.Options, params.heads, "diverse_embeddings.heads"),
        multi_label=params.multi_label,
        seed=int(snakemake.wildcards.seed),
        threads=snakemake.threads,
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
