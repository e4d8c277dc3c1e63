# The study `diffusion`: how good are the clips of each generator?
#
#   generated clips -> …/generator=<id>/embedding=<id>/shard=<n>.parquet, classifier=<id>/{recognised,embeddings}.parquet
#   -> …/generator=<id>/{quality,scores}.parquet; generator=real is the yardstick: real test clips against training clips
#   -> results/audio/dataset=<id>/diffusion.parquet

JUDGED = f"{MADE}/classifier={{classifier}}"


rule recognise_clips:
    """What classifiers that were trained on real clips make of generated ones, and of real ones."""
    input:
        models=f"{AUDIO_SPLIT}/classifier={{classifier}}/arm=real/models",
        synthetic=sampled_clips,
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
    output:
        recognised=f"{JUDGED}/recognised.parquet",
        embeddings=f"{JUDGED}/embeddings.parquet",
    log:
        f"{RESULTS}/logs/recognise_clips/dataset={{dataset}}/split={{split}}/{{generator}}-{{classifier}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/recognise_clips/dataset={{dataset}}/split={{split}}/{{generator}}-{{classifier}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
    params:
        classifier=lambda wc: P.audio.classifier_target(wc.classifier),
        options=lambda wc: P.config.audio_classifiers[wc.classifier].options,
        seeds=lambda wc: P.audio.classifier_seeds(wc.classifier),
        code=lambda wc: code(
            "recognise_clips", P.audio.classifier_target(wc.classifier)
        ),
    script:
        "../scripts/recognise_clips.py"


rule embed_synthetic:
    """Embed one shard of generated clips with a pretrained encoder."""
    input:
        audio=f"{MADE}/clips/shard={{shard}}.parquet",
        weights=lambda wc: P.local_weights(wc.embedding) or [],
    output:
        f"{MADE}/embedding={{embedding}}/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/embed_synthetic/dataset={{dataset}}/split={{split}}/{{generator}}-{{embedding}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed_synthetic/dataset={{dataset}}/split={{split}}/{{generator}}-{{embedding}}/shard={{shard}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
    params:
        encoder=lambda wc: P.encoder_target(wc.embedding),
        weights=lambda wc: P.weights_shown(wc.embedding),
        sha256=lambda wc: P.config.embeddings[wc.embedding].sha256,
        code=lambda wc: code("embed_clips", P.encoder_target(wc.embedding)),
    script:
        "../scripts/embed_clips.py"


rule prompt_clips:
    """How near the prompt of its class comes to each generated clip, in CLAP's space."""
    input:
        synthetic=sampled_clips,
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        classes=f"{CLIPS}/classes.parquet",
        model=lambda wc: model_files(P.audio.diffusion.clap.model),
    output:
        f"{MADE}/prompted.parquet",
    log:
        f"{RESULTS}/logs/prompt_clips/dataset={{dataset}}/split={{split}}/{{generator}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prompt_clips/dataset={{dataset}}/split={{split}}/{{generator}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
    params:
        clap=lambda wc: P.audio.diffusion.clap.model_dump(),
        code=code("prompt_clips"),
    script:
        "../scripts/prompt_clips.py"


def real_embeddings(wildcards):
    """Tables of the real clips in every pretrained embedding of the study, embedding by embedding."""
    return [
        file
        for embedding in P.audio.embeddings
        for file in embeddings_of(wildcards.dataset, embedding, wildcards.split)
    ]


rule measure_clips:
    """Distances, precision, recall, memorisation, diversity and recognition of one generator's clips."""
    input:
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        synthetic=sampled_clips,
        real=real_embeddings,
        embedded=lambda wc: [
            f"{MADE}/embedding={embedding}/shard={shard}.parquet".format(**wc)
            for embedding in P.audio.embeddings
            for shard in P.audio.shards(wc.generator)
        ],
        recognised=lambda wc: f"{JUDGED}/recognised.parquet".format(
            classifier=P.audio.probe, **wc
        ),
        embeddings=lambda wc: f"{JUDGED}/embeddings.parquet".format(
            classifier=P.audio.probe, **wc
        ),
        prompted=lambda wc: (
            f"{MADE}/prompted.parquet".format(**wc) if P.audio.diffusion.clap else []
        ),
    output:
        quality=f"{MADE}/quality.parquet",
        scores=f"{MADE}/scores.parquet",
    log:
        f"{RESULTS}/logs/measure_clips/dataset={{dataset}}/split={{split}}/{{generator}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_clips/dataset={{dataset}}/split={{split}}/{{generator}}.tsv"
    wildcard_constraints:
        generator=one_of(P.config.audio_generators),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
    params:
        embeddings=lambda wc: P.audio.embeddings,
        probe=lambda wc: P.audio.probe,
        draws=lambda wc: P.audio.diffusion.bootstrap,
        seed=lambda wc: P.audio.diffusion.seed,
        code=code("measure_clips"),
    script:
        "../scripts/measure_clips.py"


rule measure_real_clips:
    """The yardstick: the same measures of real clips that no generator was trained on."""
    input:
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        real=real_embeddings,
        recognised=lambda wc: f"{JUDGED}/recognised.parquet".format(
            classifier=P.audio.probe, generator="real", **wc
        ),
        embeddings=lambda wc: f"{JUDGED}/embeddings.parquet".format(
            classifier=P.audio.probe, generator="real", **wc
        ),
    output:
        quality=f"{AUDIO_SPLIT}/generator=real/quality.parquet",
        scores=f"{AUDIO_SPLIT}/generator=real/scores.parquet",
    log:
        f"{RESULTS}/logs/measure_real_clips/dataset={{dataset}}/split={{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_real_clips/dataset={{dataset}}/split={{split}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
    params:
        embeddings=lambda wc: P.audio.embeddings,
        probe=lambda wc: P.audio.probe,
        # As many as the generators made: the measures depend on numbers.
        clips_per_class=lambda wc: min(
            P.config.audio_generators[g].clips_per_class
            for g in P.audio.diffusion.generators
        ),
        draws=lambda wc: P.audio.diffusion.bootstrap,
        seed=lambda wc: P.audio.diffusion.seed,
        code=code("measure_real_clips"),
    script:
        "../scripts/measure_real_clips.py"


def judged(file, dataset):
    """A file of every generator, and of the yardstick, in every split of the study."""
    if dataset not in P.audio.judged:
        return []
    return expand(
        f"{MADE}/{file}",
        dataset=dataset,
        split=P.audio.diffusion.splits,
        generator=[*P.audio.diffusion.generators, "real"],
    )


rule compare_generators:
    """Generators against each other: means over splits, and differences with intervals."""
    input:
        quality=lambda wc: judged("quality.parquet", wc.dataset),
    output:
        f"{AUDIO}/diffusion.parquet",
    log:
        f"{RESULTS}/logs/compare_generators/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    params:
        draws=lambda wc: P.audio.diffusion.bootstrap,
        seed=lambda wc: P.audio.diffusion.seed,
        code=code("compare_generators"),
    script:
        "../scripts/compare_generators.py"
