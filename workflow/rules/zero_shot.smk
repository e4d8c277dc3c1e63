# The zero-shot study, method by method.
#
#   clips -> results/zero_shot/dataset=<id>/split=<id>/{partition,references}.parquet
#   embeddings, class vectors, partition
#   -> …/embedding=<id>/vectors=<id>/method=<id>/{synthetic,projected,predictions,scores}.parquet
#   -> results/zero_shot/dataset=<id>/comparison.parquet


rule partition_clips:
    """Give each clip its role in one split: seen (train, validation, test), unseen or excluded."""
    input:
        clips=f"{CLIPS}/clips.parquet",
        # Nothing is trained on a dataset whose own folds leak.
        leaks=f"{CLIPS}/leaks.parquet",
        splits=lambda wc: P.splits_file(wc.dataset) or [],
    output:
        f"{SPLIT}/partition.parquet",
    log:
        f"{RESULTS}/logs/partition_clips/dataset={{dataset}}/split={{split}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        random=lambda wc: (
            None if P.splits_file(wc.dataset) else P.study.random_splits.model_dump()
        ),
        validation_fraction=lambda wc: P.study.validation_fraction,
        test_fraction=lambda wc: P.study.test_fraction,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("partition_clips"),
    script:
        "../scripts/partition_clips.py"


rule generate_embeddings:
    """Train a generator on seen classes, all seeds at once, and make embeddings of the unseen ones."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        class_vectors=f"{CLASS_VECTORS}/class_vectors.parquet",
    output:
        synthetic=f"{RUN}/synthetic.parquet",
        # Real embeddings where the generator has a space of its own; else without rows.
        projected=f"{RUN}/projected.parquet",
    log:
        f"{RESULTS}/logs/generate_embeddings/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate_embeddings/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(240),
    params:
        generator=lambda wc: P.generator_target(wc.method),
        options=lambda wc: P.method(wc.method, wc.dataset).generator_options,
        samples_per_class=lambda wc: P.samples_made(
            wc.method, wc.dataset, wc.embedding, wc.vectors
        ),
        seeds=lambda wc: P.generator_seeds(wc.embedding),
        code=lambda wc: code("generate_embeddings", P.generator_target(wc.method)),
    script:
        "../scripts/generate_embeddings.py"


rule classify_unseen:
    """Train the classifier on real and synthetic embeddings; predict clips of unseen classes."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        class_vectors=f"{CLASS_VECTORS}/class_vectors.parquet",
        synthetic=generator_file("synthetic.parquet"),
        projected=generator_file("projected.parquet"),
    output:
        f"{RUN}/predictions.parquet",
    log:
        f"{RESULTS}/logs/classify_unseen/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/classify_unseen/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.tsv"
    wildcard_constraints:
        # The references have their own rules.
        method=one_of(P.config.methods),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(240),
    params:
        classifier=lambda wc: P.classifier_target(wc.method),
        options=lambda wc: P.method(wc.method, wc.dataset).classifier_options,
        samples_per_class=lambda wc: P.method(wc.method, wc.dataset).samples_per_class,
        seeds=lambda wc: P.seeds,
        code=lambda wc: code("classify_unseen", P.classifier_target(wc.method)),
    script:
        "../scripts/classify_unseen.py"


rule score_method:
    """Accuracy, recall and precision of one method in one split, with intervals and per seed."""
    input:
        predictions=f"{RUN}/predictions.parquet",
        partition=f"{SPLIT}/partition.parquet",
    output:
        f"{RUN}/scores.parquet",
    log:
        f"{RESULTS}/logs/score_method/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        draws=lambda wc: P.study.bootstrap,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("score_method"),
    script:
        "../scripts/score_method.py"


rule score_references:
    """What needs no training: chance and the majority class."""
    input:
        partition=f"{SPLIT}/partition.parquet",
    output:
        f"{SPLIT}/references.parquet",
    log:
        f"{RESULTS}/logs/score_references/dataset={{dataset}}/split={{split}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(15),
    params:
        code=lambda wc: code("score_references"),
    script:
        "../scripts/score_references.py"


rule compare_methods:
    """Means over the splits of a dataset, and paired gains over the method without synthetic data."""
    input:
        predictions=lambda wc: [
            *runs("predictions.parquet", wc.dataset),
            *references("predictions.parquet", wc.dataset),
        ],
        partitions=lambda wc: expand(
            f"{SPLIT}/partition.parquet",
            dataset=wc.dataset,
            split=P.splits(wc.dataset),
        ),
        references=lambda wc: expand(
            f"{SPLIT}/references.parquet",
            dataset=wc.dataset,
            split=P.splits(wc.dataset),
        ),
    output:
        f"{ZERO_SHOT}/comparison.parquet",
    log:
        f"{RESULTS}/logs/compare_methods/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        splits=lambda wc: P.splits(wc.dataset),
        baseline=lambda wc: P.study.baseline,
        generated=lambda wc: P.compared_with_baseline(),
        draws=lambda wc: P.study.bootstrap,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("compare_methods"),
    script:
        "../scripts/compare_methods.py"
