# Raw audio -> clips.
#
#   datasets.<id>.path, or results/raw/dataset=<id>/ for generated datasets
#   -> results/clips/dataset=<id>/manifest.parquet                 one row a raw file
#   -> results/clips/dataset=<id>/{audio,rejected}/shard=<n>.parquet
#   -> results/clips/dataset=<id>/{clips,rejected,classes}.parquet


rule synthesise_dataset:
    """Make the raw audio of a generated dataset."""
    output:
        directory(f"{RESULTS}/raw/dataset={{dataset}}"),
    log:
        f"{RESULTS}/logs/synthesise_dataset/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    params:
        kind=lambda wc: P.dataset_target(wc.dataset),
        options=lambda wc: P.config.datasets[wc.dataset].options,
        code=lambda wc: code("synthesise_dataset", P.dataset_target(wc.dataset)),
    script:
        "../scripts/synthesise_dataset.py"


rule index_dataset:
    """List the raw files of a dataset with their labels, folds and recordings."""
    input:
        root=generated_root,
    output:
        manifest=f"{CLIPS}/manifest.parquet",
    log:
        f"{RESULTS}/logs/index_dataset/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    params:
        kind=lambda wc: P.dataset_target(wc.dataset),
        options=lambda wc: P.config.datasets[wc.dataset].options,
        root=lambda wc: P.raw_root(wc.dataset),
        shards=lambda wc: P.config.datasets[wc.dataset].shards,
        files=lambda wc: getattr(P.fingerprint(wc.dataset), "index", None),
        code=lambda wc: code("index_dataset", P.dataset_target(wc.dataset)),
    script:
        "../scripts/index_dataset.py"


rule ingest_shard:
    """Decode, mix to mono, resample, hash and store one shard of clips; quarantine the bad."""

    # The manifest is no input: each shard lists the raw tree itself, and `files` says when its own files changed. Were
    # it an input, one new file would ingest all shards again; were it an `ancient` one, Snakemake would not look at
    # this rule's params in a run that writes the manifest, and would miss the new file.
    input:
        root=generated_root,
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
    params:
        root=lambda wc: P.raw_root(wc.dataset),
        shards=lambda wc: P.config.datasets[wc.dataset].shards,
        files=lambda wc: (lambda f: f.shards[int(wc.shard)] if f else None)(
            P.fingerprint(wc.dataset)
        ),
        kind=lambda wc: P.dataset_target(wc.dataset),
        options=lambda wc: P.config.datasets[wc.dataset].options,
        ingest=lambda wc: P.config.datasets[wc.dataset].model_dump(
            include={"sample_rate_hz", "min_duration_s", "max_duration_s"}
        ),
        code=lambda wc: code("ingest_shard", P.dataset_target(wc.dataset)),
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
    params:
        max_rejected=lambda wc: P.config.datasets[wc.dataset].max_rejected,
        duplicates=lambda wc: P.config.datasets[wc.dataset].duplicates,
        code=code("collect_clips"),
    script:
        "../scripts/collect_clips.py"
