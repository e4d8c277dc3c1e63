# The study `diffusion`: how good are the clips of each generator?
#
#   generated clips -> …/generator=<id>/embedding=<id>/shard=<n>.parquet, classifier=<id>/{recognised,embeddings}.parquet
#   -> …/generator=<id>/{quality,scores}.parquet; generator=real is the yardstick: real test clips against training clips
#   -> results/audio/dataset=<id>/diffusion.parquet


rule recognise_clips:
    """What classifiers that were trained on real clips make of generated ones, and of real ones."""
    input:
        models=f"{AUDIO_SPLIT}/classifier={{classifier}}/arm=real/models",
        synthetic=made_clips,
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
        mem_mb=memory(6000, of_input=3),
        runtime=minutes(120),
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
        weights=lambda wc: weight_files(wc.embedding),
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
        mem_mb=memory(4000),
        runtime=minutes(120),
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
        synthetic=made_clips,
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        classes=f"{CLIPS}/classes.parquet",
        model=lambda wc: model_files(P.audio.diffusion.clap.model),
    output:
        f"{MADE}/prompted.parquet",
    log:
        f"{RESULTS}/logs/prompt_clips/dataset={{dataset}}/split={{split}}/{{generator}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prompt_clips/dataset={{dataset}}/split={{split}}/{{generator}}.tsv"
    wildcard_constraints:
        generator=one_of(set(P.audio.ids) - {"real"}),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        clap=lambda wc: P.audio.diffusion.clap.model_dump(),
        code=lambda wc: code("prompt_clips"),
    script:
        "../scripts/prompt_clips.py"


rule prompt_real_clips:
    """The same of the split's real test clips: what CLAP can hear at all."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        classes=f"{CLIPS}/classes.parquet",
        model=lambda wc: model_files(P.audio.diffusion.clap.model),
    output:
        f"{AUDIO_SPLIT}/generator=real/prompted.parquet",
    log:
        f"{RESULTS}/logs/prompt_real_clips/dataset={{dataset}}/split={{split}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prompt_real_clips/dataset={{dataset}}/split={{split}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        clap=lambda wc: P.audio.diffusion.clap.model_dump(),
        code=lambda wc: code("prompt_real_clips"),
    script:
        "../scripts/prompt_real_clips.py"


rule measure_clips:
    """Distances, precision, recall, memorisation, diversity and recognition of one generator's clips."""
    input:
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        synthetic=made_clips,
        real=real_embeddings(None),
        embedded=lambda wc: [
            file
            for embedding in P.audio.embeddings_of(wc.generator)
            for file in shards_of(
                f"embedding={embedding}", wc.dataset, wc.split, wc.generator
            )
        ],
        recognised=lambda wc: f"{JUDGED}/recognised.parquet".format(
            classifier=P.audio.probe, **wc
        ),
        embeddings=lambda wc: f"{JUDGED}/embeddings.parquet".format(
            classifier=P.audio.probe, **wc
        ),
        prompted=lambda wc: (
            f"{MADE}/prompted.parquet".format(**wc)
            if P.audio.diffusion.clap and wc.generator != P.audio.interpolating
            else []
        ),
    output:
        quality=f"{MADE}/quality.parquet",
        scores=f"{MADE}/scores.parquet",
    log:
        f"{RESULTS}/logs/measure_clips/dataset={{dataset}}/split={{split}}/{{generator}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_clips/dataset={{dataset}}/split={{split}}/{{generator}}.tsv"
    wildcard_constraints:
        generator=one_of(set(P.audio.ids) - {"real"}),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(120),
    params:
        embeddings=lambda wc: P.audio.embeddings_of(wc.generator),
        probe=lambda wc: P.audio.probe,
        draws=lambda wc: P.audio.diffusion.bootstrap,
        seed=lambda wc: P.audio.diffusion.seed,
        code=lambda wc: code("measure_clips"),
    script:
        "../scripts/measure_clips.py"


rule measure_real_clips:
    """The yardstick: the same measures of real clips that no generator was trained on."""
    input:
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        real=real_embeddings("real"),
        recognised=lambda wc: f"{JUDGED}/recognised.parquet".format(
            classifier=P.audio.probe, generator="real", **wc
        ),
        embeddings=lambda wc: f"{JUDGED}/embeddings.parquet".format(
            classifier=P.audio.probe, generator="real", **wc
        ),
        prompted=lambda wc: (
            f"{AUDIO_SPLIT}/generator=real/prompted.parquet".format(**wc)
            if P.audio.diffusion.clap
            else []
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
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(120),
    params:
        embeddings=lambda wc: P.audio.embeddings,
        probe=lambda wc: P.audio.probe,
        # As many as the generators made: the measures depend on numbers.
        clips_per_class=lambda wc: P.audio.clips_per_class(wc.dataset, wc.split),
        draws=lambda wc: P.audio.diffusion.bootstrap,
        seed=lambda wc: P.audio.diffusion.seed,
        code=lambda wc: code("measure_real_clips"),
    script:
        "../scripts/measure_real_clips.py"


rule compare_generators:
    """Generators against each other: means over splits, and differences with intervals."""
    input:
        quality=lambda wc: judged("quality.parquet", wc.dataset),
    output:
        f"{AUDIO}/diffusion.parquet",
    log:
        f"{RESULTS}/logs/compare_generators/dataset={{dataset}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        draws=lambda wc: P.audio.diffusion.bootstrap,
        seed=lambda wc: P.audio.diffusion.seed,
        code=lambda wc: code("compare_generators"),
    script:
        "../scripts/compare_generators.py"


rule pick_synthetic:
    """A few generated clips of each class to hear, each beside the real clip nearest to it."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        clips=f"{CLIPS}/clips.parquet",
        partition=lambda wc: f"{AUDIO_SPLIT}/partition.parquet".format(
            dataset=wc.dataset, split=P.audio.shown_split(wc.dataset)
        ),
        synthetic=shown_clips,
        embeddings=lambda wc: expand(
            f"{JUDGED}/embeddings.parquet",
            dataset=wc.dataset,
            split=P.audio.shown_split(wc.dataset),
            generator=P.audio.shown(wc.dataset),
            classifier=P.audio.judge(wc.dataset),
        ),
    output:
        f"{AUDIO}/gallery.parquet",
    log:
        f"{RESULTS}/logs/pick_synthetic/dataset={{dataset}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=1),
        runtime=minutes(60),
    params:
        # Each generator, and how many of the tables of clips and of vectors are its own.
        generators=lambda wc: [
            [
                generator,
                (
                    1
                    if generator == P.audio.interpolating
                    else len(P.audio.shards(generator))
                ),
                1,
            ]
            for generator in P.audio.shown(wc.dataset)
        ],
        per_class=P.config.report.clips_per_class,
        max_duration_s=P.config.report.clip_seconds,
        seed=0,
        code=lambda wc: code("pick_synthetic"),
    script:
        "../scripts/pick_synthetic.py"
