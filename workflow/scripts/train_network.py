"""Train the network of one representation, or a baseline as large as a whole set, and embed every chunk with it."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.options import parse_options
    from foley.runtime.code import load
    from foley.studies.diverse.networks import Part, train_network

    params, output, where = snakemake.params, snakemake.output, "diverse_embeddings"

    def network(setup):
        kind = load(setup[0])
        return kind, parse_options(kind.Options, setup[1], where)

    made_by = zip(params.behind.items(), snakemake.input.behind, strict=True)
    behind = {name: Part(*network(setup), Path(file)) for (name, setup), file in made_by}
    files = zip(params.matched.items(), snakemake.input.matched, strict=True)
    parts = {name: Part(*network(setup), Path(file), behind.get(name)) for (name, setup), file in files}
    kind, options = network(params.network)
    train_network(
        Path(output.embeddings),
        Path(output.scores),
        Path(output.history),
        Path(output.model),
        frames=[Path(path) for path in snakemake.input.frames],
        labelled=Path(snakemake.input.labelled),
        kind=kind,
        options=options,
        multi_label=params.multi_label,
        system=snakemake.wildcards.network,
        seed=int(snakemake.wildcards.seed),
        match=[[parts[name] for name in names] for names in params.sets],
        behind=behind.get(snakemake.wildcards.network),
        threads=snakemake.threads,
        checkpoints=Path(snakemake.config["cache"]).expanduser(),
        facts=job.provenance,
        provenance=job.provenance,
    )
