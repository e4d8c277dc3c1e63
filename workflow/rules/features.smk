# Clips -> features.
#
#   results/clips/dataset=<id>/audio/shard=<n>.parquet
#   -> results/features/dataset=<id>/feature=<id>/shard=<n>.parquet


rule extract_features:
    """Extract one feature from one shard of clips."""
    input:
        audio=f"{CLIPS}/audio/shard={{shard}}.parquet",
    output:
        f"{FEATURES}/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/extract_features/dataset={{dataset}}/feature={{feature}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_features/dataset={{dataset}}/feature={{feature}}/shard={{shard}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(3000),
        runtime=minutes(120),
    params:
        kind=lambda wc: P.feature_target(wc.feature),
        options=lambda wc: P.config.features[wc.feature].options_on(wc.dataset),
        code=lambda wc: code("extract_features", P.feature_target(wc.feature)),
    script:
        "../scripts/extract_features.py"
