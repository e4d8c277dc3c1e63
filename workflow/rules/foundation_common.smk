# What the rules of the study `foundation` share: path templates, and who reads which clips.

FOUNDATION = f"{RESULTS}/foundation/dataset={{dataset}}"
OF_SPLIT = f"{FOUNDATION}/split={{split}}"
OF_RECOGNISER = f"{OF_SPLIT}/recogniser={{recogniser}}"
OF_REAL = f"{OF_RECOGNISER}/protocol={{protocol}}/real={{percent}}"
MIX = f"{OF_REAL}/mix={{mix}}"
# What validation clips say of classes: from synthetic clips alone, and from real clips with and without them.
KEPT = f"{OF_RECOGNISER}/kept/{{origin}}_{{amount}}.parquet"
ALLOCATED = f"{OF_RECOGNISER}/allocated/real={{percent}}/{{origin}}_{{amount}}.parquet"
ASKED = f"{OF_SPLIT}/origin={{origin}}/prompted.parquet"
PROMPTS = f"{RESULTS}/prompts/dataset={{dataset}}/prompts={{prompts}}"
PROMPTED_CLIPS = f"{RESULTS}/prompted/dataset={{dataset}}/generator={{generator}}/prompts={{prompts}}"


def clips_of_source(made, dataset, split, embedding=None):
    """The clips of a generator, asked by its prompts if it takes any; or an embedding of them."""
    if made.prompts is None:
        if made.generator != P.audio.interpolating:
            part = "clips" if embedding is None else f"embedding={embedding}"
            return shards_of(part, dataset, split, made.generator)
        part = "interpolated" if embedding is None else f"interpolated-{embedding}"
        return expand(
            f"{MADE}/{part}.parquet",
            dataset=dataset,
            split=split,
            generator=P.audio.model,
        )
    part = "clips" if embedding is None else f"embedding={embedding}"
    return expand(
        f"{PROMPTED_CLIPS}/{part}/shard={{shard}}.parquet",
        dataset=dataset,
        generator=made.generator,
        prompts=made.prompts,
        shard=P.audio.shards(made.generator),
    )


def source_files(dataset, split, source, embedding=None):
    """The clips of a source of the study, or an embedding of them."""
    return clips_of_source(P.foundation.source(source), dataset, split, embedding)


def mix_of(wildcards):
    return P.foundation.mix(wildcards.percent, wildcards.mix)


def mix_clips(wildcards):
    """The synthetic clips of a mix."""
    mix = mix_of(wildcards)
    if mix.source is None:
        return []
    return source_files(wildcards.dataset, wildcards.split, mix.source)


def mix_choice(wildcards):
    """Which classes a mix takes synthetic clips of; empty where all are alike."""
    mix = mix_of(wildcards)
    template = {"precision": KEPT, "active": ALLOCATED}.get(mix.filter)
    if template is None:
        return []
    return template.format(origin=mix.source, amount=mix.amount, **wildcards)


def mix_asked(wildcards):
    """What CLAP says of a source's clips, where a mix asks."""
    mix = mix_of(wildcards)
    if mix.filter != "clap":
        return []
    return ASKED.format(
        dataset=wildcards.dataset, split=wildcards.split, origin=mix.source
    )


def mix_drops(wildcards):
    """The part of its clips that a mix drops itself; a part of the classes left before."""
    if mix_of(wildcards).filter != "clap":
        return 0.0
    return P.foundation.study.drop_fraction


def mix_files(dataset, split, recogniser, percent, protocol):
    """Predictions of all mixes with as many real clips."""
    return expand(
        f"{MIX}/predictions.parquet",
        dataset=dataset,
        split=split,
        recogniser=recogniser,
        percent=percent,
        protocol=protocol,
        mix=[mix.name for mix in P.foundation.mixes(percent)],
    )


def foundation_predictions(dataset):
    """Predictions of every mix, and of the ones that validation chose."""
    if dataset not in P.foundation.datasets:
        return []
    study = P.foundation.study
    found = []
    for split in study.splits:
        for recogniser in P.foundation.recognisers:
            for percent in P.foundation.percents:
                for protocol in study.protocols:
                    found += mix_files(dataset, split, recogniser, percent, protocol)
                if percent:
                    found.append(
                        f"{OF_REAL}/chosen.parquet".format(
                            dataset=dataset,
                            split=split,
                            recogniser=recogniser,
                            percent=percent,
                            protocol="clean",
                        )
                    )
    return found


def shown_mixes(dataset):
    """Predictions whose confusions the page shows: real clips alone, and what validation chose."""
    common = {
        "dataset": dataset,
        "split": P.foundation.study.splits,
        "recogniser": P.foundation.recognisers,
        "percent": P.foundation.study.real_percents,
        "protocol": "clean",
    }
    return [
        *expand(f"{MIX}/predictions.parquet", mix="real", **common),
        *expand(f"{OF_REAL}/chosen.parquet", **common),
    ]


def foundation_choices(dataset):
    """How each mix did on validation clips."""
    if dataset not in P.foundation.datasets:
        return []
    return expand(
        f"{OF_REAL}/choice.parquet",
        dataset=dataset,
        split=P.foundation.study.splits,
        recogniser=P.foundation.recognisers,
        percent=P.foundation.study.real_percents,
        protocol="clean",
    )


def foundation_counts(dataset):
    """How many clips each mix had; the published protocol has more real ones."""
    if dataset not in P.foundation.datasets:
        return []
    return [
        f"{MIX}/clips.parquet".format(
            dataset=dataset,
            split=split,
            recogniser=recogniser,
            protocol=protocol,
            percent=percent,
            mix=mix.name,
        )
        for protocol in P.foundation.study.protocols
        for split in P.foundation.study.splits
        for recogniser in P.foundation.recognisers
        for percent in P.foundation.percents
        for mix in P.foundation.mixes(percent)
    ]


def class_filters():
    """Every class filter of the study: dataset, recogniser, source and amount."""
    if "precision" not in getattr(P.foundation.study, "filters", ()):
        return []
    return [
        (dataset, recogniser, source, amount)
        for dataset in P.foundation.datasets
        for recogniser in P.foundation.recognisers
        for source in P.foundation.sources
        for amount in P.foundation.study.amounts
    ]


def synthetic_cards():
    """The card of every set of prompted clips."""
    return [
        f"{PROMPTED_CLIPS}/README.md".format(
            dataset=dataset, generator=generator, prompts=prompts
        )
        for dataset, generator, prompts in dict.fromkeys(
            [
                *[
                    (dataset, source.generator, source.prompts)
                    for dataset in P.foundation.datasets
                    for source in P.foundation.prompted
                ],
                *[
                    (
                        P.speech.study.background.dataset,
                        source.generator,
                        source.prompts,
                    )
                    for source in P.speech.prompted
                ],
            ]
        )
    ]


def heard_sources(dataset):
    """Of each source the clips, and vectors of them and of real clips (none without a probe), in the first split."""
    split = P.foundation.study.splits[0]
    found = []
    for source in P.foundation.sources:
        vectors = []
        for embedding in P.foundation.embeddings[:1]:
            vectors += embeddings_of(dataset, embedding, split)
            vectors += source_files(dataset, split, source, embedding)
        found.append((source_files(dataset, split, source), vectors))
    return found


def expenses(dataset):
    """Of each source, and of each split where its generator is trained on it: what it was made with."""
    found = []
    for name in P.foundation.sources:
        made = P.foundation.source(name)
        common = {
            "dataset": dataset,
            "source": name,
            "generator": made.generator,
            "prompts": made.prompts,
        }
        if made.prompts is not None:
            shards = [
                template.format(
                    dataset=dataset,
                    generator=made.generator,
                    prompts=made.prompts,
                    shard=shard,
                )
                for shard in P.audio.shards(made.generator)
                for template in [f"{PROMPTED_CLIPS}/cost/shard={{shard}}.parquet"]
            ]
            requests = f"{PROMPTS}/requests.parquet".format(
                dataset=dataset, prompts=made.prompts
            )
            common |= {"split": None, "measured": shards, "requests": requests}
            found.append(common | {"clips": source_files(dataset, None, name)})
            continue
        for split in P.foundation.study.splits:
            found.append(
                common
                | {
                    "split": split,
                    "clips": source_files(dataset, split, name),
                    "benchmarks": own_benchmarks(dataset, split, made.generator),
                }
            )
    return found


def own_benchmarks(dataset, split, generator):
    """Snakemake's benchmarks of the jobs that trained a generator and made its clips."""
    folder, place = f"{RESULTS}/benchmarks", f"dataset={dataset}/split={split}"
    model = generator.removesuffix(".interpolated")
    trained = f"{folder}/train_generator/{place}/{model}.tsv"
    if generator == P.audio.interpolating:
        return [trained, f"{folder}/interpolate_clips/{place}/{model}.tsv"]
    made = f"{folder}/generate_clips/{place}/{model}/shard={{shard}}.tsv"
    return [trained, *expand(made, shard=P.audio.shards(model))]


wildcard_constraints:
    recogniser=one_of(P.foundation.recognisers),
    origin=one_of(P.foundation.sources),
    mix=one_of(P.foundation.mix_names),
    percent=one_of(map(str, P.foundation.percents)),
    amount="[0-9]+",
    protocol="clean|published",
    prompts=one_of(P.config.prompts),
