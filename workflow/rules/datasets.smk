# Raw audio -> clips.
#
#   datasets.<id>.path; or data/<kind>/ for datasets that are downloaded, or results/raw/dataset=<id>/ for generated ones
#   -> results/clips/dataset=<id>/{manifest,raw_classes}.parquet   one row a raw clip, one a class
#   -> results/clips/dataset=<id>/{audio,rejected}/shard=<n>.parquet
#   -> results/clips/dataset=<id>/{clips,rejected}.parquet
#   -> results/clips/dataset=<id>/leaks.parquet, results/report/cards/<id>.md


# One job an archive, so that each is fetched, checked, unpacked and retried by itself. Where the nodes of a cluster have
# no network, the login node has: this rule runs where Snakemake runs.
rule download_dataset:
    """Fetch, check and unpack one archive of a dataset, or a file of word vectors."""
    output:
        str(Path(P.config.data, "{storage}", ".foley", "{source}.json")),
    log:
        f"{RESULTS}/logs/download_dataset/{{storage}}/{{source}}.log",
    localrule: True
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        download=1,
    params:
        # Snakemake compares no parameter that asks for `output`: where the files come from may change, what they
        # are may not.
        source=lambda wc, output: P.data.source_as_data(wc.storage, wc.source),
        content=lambda wc: P.data.content(wc.storage, wc.source),
        root=lambda wc: f"{P.config.data}/{wc.storage}",
        archives=lambda wc: P.data.archives(wc.storage),
    script:
        "../scripts/download_dataset.py"


rule synthesise_dataset:
    """Make the raw audio of a generated dataset."""
    output:
        directory(f"{RESULTS}/raw/dataset={{dataset}}"),
    log:
        f"{RESULTS}/logs/synthesise_dataset/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        kind=lambda wc: P.data.target(wc.dataset),
        options=lambda wc: dataset_options(wc.dataset),
        code=lambda wc: code("synthesise_dataset", P.data.target(wc.dataset)),
    script:
        "../scripts/synthesise_dataset.py"


rule index_dataset:
    """List the raw clips of a dataset with their labels, folds and recordings, and its classes."""
    input:
        raw=raw_files,
    output:
        manifest=f"{CLIPS}/manifest.parquet",
        classes=f"{CLIPS}/raw_classes.parquet",
    log:
        f"{RESULTS}/logs/index_dataset/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        kind=lambda wc: P.data.target(wc.dataset),
        options=lambda wc: dataset_options(wc.dataset),
        root=lambda wc: P.data.root(wc.dataset),
        shards=lambda wc: P.config.datasets[wc.dataset].shards,
        files=lambda wc: getattr(P.data.fingerprint(wc.dataset), "index", None),
        code=lambda wc: code("index_dataset", P.data.target(wc.dataset)),
    script:
        "../scripts/index_dataset.py"


rule ingest_shard:
    """Decode, mix to mono, resample, hash and store one shard of clips; quarantine the bad."""

    # The manifest is no input: a shard reads the names of its own files, which the main process has left in the cache
    # (`cache`), or lists the raw tree, and `files` says when they changed. Were the manifest an input, one new file would
    # ingest all shards again; were it an `ancient` one, Snakemake would not look at this rule's params in a run that
    # writes the manifest, and would miss the new file.
    input:
        raw=raw_files,
    output:
        audio=f"{CLIPS}/audio/shard={{shard}}.parquet",
        rejected=f"{CLIPS}/rejected/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/ingest_shard/dataset={{dataset}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/ingest_shard/dataset={{dataset}}/shard={{shard}}.tsv"
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        root=lambda wc: P.data.root(wc.dataset),
        shards=lambda wc: P.config.datasets[wc.dataset].shards,
        files=lambda wc: (lambda f: f.shards[int(wc.shard)] if f else None)(
            P.data.fingerprint(wc.dataset)
        ),
        # It asks for `output`, so that Snakemake does not compare it: where the cache lies changes nothing.
        cache=lambda wc, output: CACHE if P.data.fingerprint(wc.dataset) else None,
        kind=lambda wc: P.data.target(wc.dataset),
        options=lambda wc: dataset_options(wc.dataset),
        ingest=lambda wc: P.config.datasets[wc.dataset].model_dump(
            include={"sample_rate_hz", "min_duration_s", "max_duration_s"}
        ),
        code=lambda wc: code("ingest_shard", P.data.target(wc.dataset)),
    script:
        "../scripts/ingest_shard.py"


rule collect_clips:
    """Join a dataset's shards into one clip table, and refuse duplicates."""
    input:
        manifest=f"{CLIPS}/manifest.parquet",
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        rejected=all_shards(f"{CLIPS}/rejected/shard={{shard}}.parquet"),
    output:
        clips=f"{CLIPS}/clips.parquet",
        rejected=f"{CLIPS}/rejected.parquet",
    log:
        f"{RESULTS}/logs/collect_clips/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        max_rejected=lambda wc: P.config.datasets[wc.dataset].max_rejected,
        duplicates=lambda wc: P.config.datasets[wc.dataset].duplicates,
        code=lambda wc: code("collect_clips"),
    script:
        "../scripts/collect_clips.py"


rule check_leaks:
    """What lies on both sides of the official folds or splits; an error where the dataset claims that nothing does."""
    input:
        clips=f"{CLIPS}/clips.parquet",
        rejected=f"{CLIPS}/rejected.parquet",
        manifest=f"{CLIPS}/manifest.parquet",
    output:
        f"{CLIPS}/leaks.parquet",
    log:
        f"{RESULTS}/logs/check_leaks/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        claims=lambda wc: P.data.claims(wc.dataset),
        policy=lambda wc: P.config.datasets[wc.dataset].leaks,
        code=lambda wc: code("check_leaks"),
    script:
        "../scripts/check_leaks.py"


rule write_dataset_card:
    """A dataset in Markdown: counts, durations, balance, licence, folds, what was rejected, leaks."""
    input:
        clips=f"{CLIPS}/clips.parquet",
        rejected=f"{CLIPS}/rejected.parquet",
        classes=f"{CLIPS}/classes.parquet",
        leaks=f"{CLIPS}/leaks.parquet",
        manifest=f"{CLIPS}/manifest.parquet",
    output:
        CARD,
    log:
        f"{RESULTS}/logs/write_dataset_card/dataset={{dataset}}.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        facts=lambda wc: P.data.facts(wc.dataset),
        root=lambda wc: P.data.root(wc.dataset),
        code=lambda wc: code("write_dataset_card"),
    script:
        "../scripts/write_dataset_card.py"
