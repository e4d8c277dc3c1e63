# What else is asked of the zero-shot study: upper references, learning curves, where the spread over seeds comes
# from, and how good synthetic embeddings are where real ones can be compared.
#
#   clips, embeddings -> …/method={oracle,clap}/predictions.parquet
#   synthetic, embeddings -> …/method=<id>/{learning_curve,seed_grid,quality}.parquet
#   -> results/zero_shot/dataset=<id>/{learning_curves,variance,quality}.parquet


rule predict_by_oracle:
    """What could be reached with audio: a classifier trained on real clips of the unseen classes, cross-validated."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        class_vectors=lambda wc: expand(
            f"{CLASS_VECTORS}/class_vectors.parquet",
            dataset=wc.dataset,
            vectors=P.study.class_vectors[0],
        ),
    output:
        f"{ORACLE}/predictions.parquet",
    log:
        f"{RESULTS}/logs/predict_by_oracle/dataset={{dataset}}/split={{split}}/{{embedding}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(60),
    params:
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("predict_by_oracle"),
    script:
        "../scripts/predict_by_oracle.py"


rule predict_by_clap:
    """CLAP's answer by the names of the unseen classes; it has heard such sounds."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        classes=f"{CLIPS}/classes.parquet",
        partition=f"{SPLIT}/partition.parquet",
        model=lambda wc: model_files(P.study.references.clap.model),
    output:
        f"{CLAP}/predictions.parquet",
    log:
        f"{RESULTS}/logs/predict_by_clap/dataset={{dataset}}/split={{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/predict_by_clap/dataset={{dataset}}/split={{split}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        clap=lambda wc: P.study.references.clap.model_dump(),
        code=lambda wc: code("predict_by_clap"),
    script:
        "../scripts/predict_by_clap.py"


rule trace_learning_curve:
    """The classifier trained again and again, on more and more synthetic embeddings a class."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        class_vectors=f"{CLASS_VECTORS}/class_vectors.parquet",
        synthetic=f"{RUN}/synthetic.parquet",
        projected=f"{RUN}/projected.parquet",
    output:
        f"{RUN}/learning_curve.parquet",
    log:
        f"{RESULTS}/logs/trace_learning_curve/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/trace_learning_curve/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(480),
    params:
        classifier=lambda wc: P.classifier_target(wc.method),
        options=lambda wc: P.method(wc.method, wc.dataset).classifier_options,
        counts=lambda wc: P.study.learning_curve.samples_per_class,
        seeds=lambda wc: P.seeds[: P.study.learning_curve.seeds],
        code=lambda wc: code("trace_learning_curve", P.classifier_target(wc.method)),
    script:
        "../scripts/trace_learning_curve.py"


rule score_learning_curves:
    """Accuracy at each point of the curves, with intervals, per split and in the mean."""
    input:
        curves=lambda wc: curves(wc.dataset),
        partitions=lambda wc: expand(
            f"{SPLIT}/partition.parquet",
            dataset=wc.dataset,
            split=P.splits(wc.dataset),
        ),
    output:
        f"{ZERO_SHOT}/learning_curves.parquet",
    log:
        f"{RESULTS}/logs/score_learning_curves/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        splits=lambda wc: P.splits(wc.dataset),
        draws=lambda wc: P.study.bootstrap,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("score_learning_curves"),
    script:
        "../scripts/score_learning_curves.py"


rule cross_seeds:
    """Accuracy of several classifiers on each of several generators on one embedding network."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        class_vectors=f"{CLASS_VECTORS}/class_vectors.parquet",
        synthetic=generator_file("synthetic.parquet"),
        projected=generator_file("projected.parquet"),
    output:
        f"{RUN}/seed_grid.parquet",
    log:
        f"{RESULTS}/logs/cross_seeds/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/cross_seeds/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(480),
    params:
        classifier=lambda wc: P.classifier_target(wc.method),
        options=lambda wc: P.method(wc.method, wc.dataset).classifier_options,
        samples_per_class=lambda wc: P.method(wc.method, wc.dataset).samples_per_class,
        variant=lambda wc: P.variant(wc.embedding, wc.vectors),
        embedding_seed=lambda wc: P.embedding(wc.embedding).seed,
        generator_seeds=lambda wc: P.grid_seeds(wc.embedding),
        classifier_seeds=lambda wc: P.study.variance.classifier_seeds,
        code=lambda wc: code("cross_seeds", P.classifier_target(wc.method)),
    script:
        "../scripts/cross_seeds.py"


rule split_variance:
    """The spread over seeds by its source: embedding network, generator, classifier."""
    input:
        lambda wc: seed_grids(wc.dataset),
    output:
        f"{ZERO_SHOT}/variance.parquet",
    log:
        f"{RESULTS}/logs/split_variance/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        code=lambda wc: code("split_variance"),
    script:
        "../scripts/split_variance.py"


rule measure_quality:
    """Synthetic embeddings of seen classes that the generator was not shown, against the real ones."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        class_vectors=f"{CLASS_VECTORS}/class_vectors.parquet",
    output:
        f"{RUN}/quality.parquet",
    log:
        f"{RESULTS}/logs/measure_quality/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_quality/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.tsv"
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
        held_out=lambda wc: P.study.quality.held_out,
        seeds=lambda wc: P.seeds[: P.study.quality.seeds],
        draws=lambda wc: P.study.bootstrap,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("measure_quality", P.generator_target(wc.method)),
    script:
        "../scripts/measure_quality.py"


rule measure_real_quality:
    """The same measures between two halves of the real embeddings: the best that can be expected."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        class_vectors=lambda wc: expand(
            f"{CLASS_VECTORS}/class_vectors.parquet",
            dataset=wc.dataset,
            vectors=P.study.class_vectors[0],
        ),
    output:
        f"{SPLIT}/embedding={{embedding}}/real_quality.parquet",
    log:
        f"{RESULTS}/logs/measure_real_quality/dataset={{dataset}}/split={{split}}/{{embedding}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(60),
    params:
        held_out=lambda wc: P.study.quality.held_out,
        draws=lambda wc: P.study.bootstrap,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("measure_real_quality"),
    script:
        "../scripts/measure_real_quality.py"


rule average_quality:
    """Quality in the mean over splits."""
    input:
        lambda wc: qualities(wc.dataset),
    output:
        f"{ZERO_SHOT}/quality.parquet",
    log:
        f"{RESULTS}/logs/average_quality/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        splits=lambda wc: P.splits(wc.dataset),
        draws=lambda wc: P.study.bootstrap,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("average_quality"),
    script:
        "../scripts/average_quality.py"
