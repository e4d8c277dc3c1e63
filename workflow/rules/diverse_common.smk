# What the rules of the study of diverse embeddings share: path templates, and who reads which frames.

DIVERSE = f"{RESULTS}/diverse/dataset={{dataset}}"
DIVERSE_SPLIT = f"{DIVERSE}/split={{split}}"
NEURALOGRAM = f"{DIVERSE}/neuralogram={{representation}}"
OWN_NEURALOGRAM = f"{DIVERSE_SPLIT}/neuralogram={{representation}}/seed={{seed}}"
NETWORK = f"{DIVERSE_SPLIT}/network={{network}}/seed={{seed}}"
COMBINATION = f"{DIVERSE_SPLIT}/set={{combination}}/seed={{seed}}"


def frames_of(representation, wildcards):
    """The tables of a representation's frames, for one dataset, split and seed."""
    entry = P.diverse.representation(representation)
    place = {
        "dataset": wildcards.dataset,
        "split": wildcards.split,
        "seed": wildcards.seed,
        "representation": representation,
    }
    if entry.network is not None:
        return [f"{OWN_NEURALOGRAM}/frames.parquet".format(**place)]
    shards = P.data.shards(wildcards.dataset)
    if entry.embedding is not None:
        return expand(f"{NEURALOGRAM}/shard={{shard}}.parquet", **place, shard=shards)
    return expand(
        f"{FEATURES}/shard={{shard}}.parquet",
        dataset=wildcards.dataset,
        feature=entry.feature,
        shard=shards,
    )


def matched(wildcards):
    """Representations whose networks a baseline must match in size."""
    sets = P.diverse.matched(wildcards.network)
    return list(dict.fromkeys(name for names in sets for name in names))


def behind(networks):
    """Of these networks those whose frames a network trained here has made, and what a script needs to build that."""
    return {
        network: [
            P.diverse.neuralogram_target(name),
            P.diverse.neuralogram_options(name),
        ]
        for network, name in P.diverse.behind(networks).items()
    }


def behind_files(networks, dataset):
    """A file of what each network behind a neuralogram reads: it says how large that network is."""
    return [
        f"{FEATURES}/shard={{shard}}.parquet".format(
            dataset=dataset,
            feature=P.diverse.representation(name).feature,
            shard=P.data.shards(dataset)[0],
        )
        for name in P.diverse.behind(networks).values()
    ]


def sized(wildcards):
    """Networks whose sizes a baseline must know: its own and those that it must match."""
    others = matched(wildcards)
    return [wildcards.network, *others] if others else []


def set_files(file):
    """A file of the network of each representation of a set."""
    return lambda wildcards: [
        f"{NETWORK}/{file}".format(**{**wildcards, "network": name})
        for name in P.diverse.study.sets[wildcards.combination]
    ]


def network_setup(network):
    """What a script needs to build a network: its kind and options."""
    return [P.diverse.target(network), P.diverse.options(network)]


def compared(dataset):
    """Scores of test clips: (split, variant, seed, file) of every training."""
    files = [
        (
            split,
            "own_head",
            seed,
            f"{NETWORK}/clip_scores.parquet",
            {"network": network},
        )
        for split in P.diverse.splits(dataset)
        for seed in P.diverse.seeds
        for network in P.diverse.networks
    ]
    ways = ["heads"] + (["joint"] if P.diverse.study.joint is not None else [])
    files += [
        (split, name, seed, f"{COMBINATION}/{way}.parquet", {"combination": name})
        for split in P.diverse.splits(dataset)
        for seed in P.diverse.seeds
        for name in P.diverse.study.sets
        for way in ways
    ]
    return [
        (
            split,
            variant,
            seed,
            path.format(dataset=dataset, split=split, seed=seed, **own),
        )
        for split, variant, seed, path, own in files
    ]


def embedded(dataset):
    """Chunk embeddings: (split, representation, seed, file) of every network of a representation."""
    return [
        (
            split,
            name,
            seed,
            f"{NETWORK}/embeddings.parquet".format(
                dataset=dataset, split=split, network=name, seed=seed
            ),
        )
        for split in P.diverse.splits(dataset)
        for seed in P.diverse.seeds
        for name in P.diverse.combined
    ]


wildcard_constraints:
    representation=one_of(P.diverse.study.representations),
    network=one_of(P.diverse.networks),
    combination=one_of(P.diverse.study.sets),
    seed=r"\d+",
