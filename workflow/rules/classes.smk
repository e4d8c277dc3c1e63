# What is known of classes without audio.
#
#   results/clips/dataset=<id>/{clips,raw_classes}.parquet, resources/classes/<kind>.yaml
#   -> results/clips/dataset=<id>/classes.parquet
#   that, class tables of the user's own
#   -> results/class_vectors/dataset=<id>/vectors=<id>/{class_vectors,missing_words}.parquet


rule describe_classes:
    """Words, synonyms and attributes of each class that has clips."""
    input:
        clips=f"{CLIPS}/clips.parquet",
        defined=f"{CLIPS}/raw_classes.parquet",
        class_table=lambda wc: P.data.class_table(wc.dataset) or [],
    output:
        f"{CLIPS}/classes.parquet",
    log:
        f"{RESULTS}/logs/describe_classes/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(15),
    params:
        code=lambda wc: code("describe_classes"),
    script:
        "../scripts/describe_classes.py"


rule embed_classes:
    """A vector for each class, from words, attributes or a sentence."""
    input:
        classes=f"{CLIPS}/classes.parquet",
        class_table=lambda wc: P.data.vectors_table(wc.dataset, wc.vectors) or [],
        words=words_file,
        model=lambda wc: model_files(P.config.class_vectors[wc.vectors].model),
    output:
        vectors=f"{CLASS_VECTORS}/class_vectors.parquet",
        missing=f"{CLASS_VECTORS}/missing_words.parquet",
    log:
        f"{RESULTS}/logs/embed_classes/dataset={{dataset}}/vectors={{vectors}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(6000),
        runtime=minutes(60),
    params:
        options=lambda wc: P.config.class_vectors[wc.vectors].model_dump(
            mode="json", exclude={"checksum", "size_bytes", "classes"}
        )
        | {"path": P.data.words_file(wc.vectors)},
        code=lambda wc: code("embed_classes"),
    script:
        "../scripts/embed_classes.py"
