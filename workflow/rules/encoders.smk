# Features or clips -> embeddings.
#
#   trained on a split's seen classes:
#     results/features/… -> results/embeddings/dataset=<id>/embedding=<id>/split=<id>/{embeddings,history}.parquet
#   pretrained:
#     results/clips/dataset=<id>/audio/shard=<n>.parquet -> results/embeddings/dataset=<id>/embedding=<id>/shard=<n>.parquet


rule train_encoder:
    """Train an encoder on the seen classes of one split, and embed all clips with it."""
    input:
        features=lambda wc: expand(
            f"{FEATURES}/shard={{shard}}.parquet",
            dataset=wc.dataset,
            feature=P.embedding(wc.embedding).feature,
            shard=P.data.shards(wc.dataset),
        ),
        partition=f"{RESULTS}/zero_shot/dataset={{dataset}}/split={{split}}/partition.parquet",
    output:
        embeddings=f"{EMBEDDINGS}/split={{split}}/embeddings.parquet",
        weights=f"{EMBEDDINGS}/split={{split}}/encoder.safetensors",
        history=f"{EMBEDDINGS}/split={{split}}/history.parquet",
    log:
        f"{RESULTS}/logs/train_encoder/dataset={{dataset}}/embedding={{embedding}}/split={{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_encoder/dataset={{dataset}}/embedding={{embedding}}/split={{split}}.tsv"
    conda:
        "../../envs/torch.yaml"
    # One core a training: splits run side by side, which beats sharing cores within one.
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(480),
    params:
        encoder=lambda wc: P.encoder_target(wc.embedding),
        options=lambda wc: P.embedding(wc.embedding).options,
        seed=lambda wc: P.embedding(wc.embedding).seed,
        code=lambda wc: code("train_encoder", P.encoder_target(wc.embedding)),
    script:
        "../scripts/train_encoder.py"


rule embed_clips:
    """Embed one shard of clips with a pretrained encoder."""
    input:
        audio=f"{CLIPS}/audio/shard={{shard}}.parquet",
        weights=lambda wc: weight_files(wc.embedding),
    output:
        f"{EMBEDDINGS}/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/embed_clips/dataset={{dataset}}/embedding={{embedding}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed_clips/dataset={{dataset}}/embedding={{embedding}}/shard={{shard}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        encoder=lambda wc: P.encoder_target(wc.embedding),
        weights=lambda wc: P.weights_shown(wc.embedding),
        sha256=lambda wc: P.config.embeddings[wc.embedding].sha256,
        code=lambda wc: code("embed_clips", P.encoder_target(wc.embedding)),
    script:
        "../scripts/embed_clips.py"
