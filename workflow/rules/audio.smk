# Splits, generators and classifiers of clips, which both audio studies share.
#
#   clips -> results/audio/dataset=<id>/split=<id>/partition.parquet
#   training clips -> …/generator=<id>/{model/,clips/shard=<n>.parquet,interpolated.parquet}
#   training clips, with or without generated ones -> …/classifier=<id>/arm=<id>/{models/,predictions.parquet}


rule split_clips:
    """Give each clip its part in one split of the audio studies: train, validation or test."""
    input:
        clips=f"{CLIPS}/clips.parquet",
        # Nothing is trained on a dataset whose own folds leak.
        leaks=f"{CLIPS}/leaks.parquet",
    output:
        f"{AUDIO_SPLIT}/partition.parquet",
    log:
        f"{RESULTS}/logs/split_clips/dataset={{dataset}}/split={{split}}.log",
    # Before the encoders of other studies: generators wait for it.
    priority: 10
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        settings=lambda wc: P.audio.split_settings(wc.split),
        code=lambda wc: code("split_clips"),
    script:
        "../scripts/split_clips.py"


rule train_generator:
    """Train a generator of clips on the training clips of one split."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        classes=f"{CLIPS}/classes.parquet",
    output:
        model=directory(f"{MADE}/model"),
        history=f"{MADE}/history.parquet",
    log:
        f"{RESULTS}/logs/train_generator/dataset={{dataset}}/split={{split}}/{{generator}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_generator/dataset={{dataset}}/split={{split}}/{{generator}}.tsv"
    wildcard_constraints:
        generator=one_of(P.config.audio_generators),
    # Everything that a study of clips does waits for it.
    priority: 10
    conda:
        "../../envs/torch.yaml"
    # One core a device, beside other jobs; where cores would idle: --set-threads train_generator=8.
    threads: generator_gpus
    resources:
        gpu=generator_gpus,
        # One task, however many devices: the script starts a process for each itself.
        tasks=0,
        mem_mb=memory(8000, of_input=3, processes=generator_gpus),
        runtime=minutes(1440),
    params:
        generator=lambda wc: P.audio.generator_target(wc.generator),
        options=lambda wc: P.config.audio_generators[wc.generator].options,
        seed=lambda wc: P.config.audio_generators[wc.generator].seed,
        code=lambda wc: code("train_generator", P.audio.generator_target(wc.generator)),
    script:
        "../scripts/train_generator.py"


rule generate_clips:
    """Sample clips of some classes from noise."""
    input:
        model=rules.train_generator.output.model,
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        classes=f"{CLIPS}/classes.parquet",
        vocoder=vocoder_files,
    output:
        f"{MADE}/clips/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/generate_clips/dataset={{dataset}}/split={{split}}/{{generator}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate_clips/dataset={{dataset}}/split={{split}}/{{generator}}/shard={{shard}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(6000),
        runtime=minutes(480),
    params:
        generator=lambda wc: P.audio.generator_target(wc.generator),
        kind=lambda wc: P.config.audio_generators[wc.generator].kind,
        shards=lambda wc: len(P.audio.shards(wc.generator)),
        clips_per_class=lambda wc: P.config.audio_generators[
            wc.generator
        ].clips_per_class,
        sampling=lambda wc: P.config.audio_generators[
            wc.generator
        ].sampling.model_dump(),
        vocoder=lambda wc: P.audio.vocoder(wc.generator),
        seed=lambda wc: P.config.audio_generators[wc.generator].seed,
        code=lambda wc: code("generate_clips", P.audio.generator_target(wc.generator)),
    script:
        "../scripts/generate_clips.py"


rule interpolate_clips:
    """Make clips between two training clips of a class, from different recordings."""
    input:
        model=generator_files,
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        classes=f"{CLIPS}/classes.parquet",
        vocoder=vocoder_files,
    output:
        clips=f"{MADE}/interpolated.parquet",
        rejected=f"{MADE}/interpolated-rejected.parquet",
    log:
        f"{RESULTS}/logs/interpolate_clips/dataset={{dataset}}/split={{split}}/{{generator}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/interpolate_clips/dataset={{dataset}}/split={{split}}/{{generator}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(6000, of_input=3),
        runtime=minutes(480),
    params:
        generator=lambda wc: P.audio.generator_target(wc.generator),
        pretrained=lambda wc: P.audio.pretrained(wc.generator),
        origin=lambda wc: P.audio.origin(wc.generator),
        clips_per_class=lambda wc: P.audio.interpolation.pairs_per_class,
        seed=lambda wc: P.audio.interpolation.seed,
        weight=lambda wc: P.audio.interpolation.weight,
        steps=lambda wc: P.audio.interpolation.steps,
        refinements=lambda wc: P.audio.interpolation.refinements,
        max_rejected=lambda wc: P.audio.interpolation.max_rejected,
        vocoder=lambda wc: P.audio.vocoder(wc.generator),
        code=lambda wc: code(
            "interpolate_clips", P.audio.generator_target(wc.generator)
        ),
    script:
        "../scripts/interpolate_clips.py"


rule train_classifier:
    """Train a classifier of clips in one arm, all seeds, and let it say what the test clips are."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        synthetic=arm_clips,
        checkpoint=lambda wc: checkpoint_files(wc.classifier),
    output:
        predictions=f"{ARM}/predictions.parquet",
        models=directory(f"{ARM}/models"),
        history=f"{ARM}/history.parquet",
    log:
        f"{RESULTS}/logs/train_classifier/dataset={{dataset}}/split={{split}}/{{classifier}}-{{arm}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_classifier/dataset={{dataset}}/split={{split}}/{{classifier}}-{{arm}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(6000, of_input=3),
        runtime=minutes(480),
    params:
        classifier=lambda wc: P.audio.classifier_target(wc.classifier),
        options=lambda wc: P.config.audio_classifiers[wc.classifier].options,
        seeds=lambda wc: P.audio.classifier_seeds(wc.classifier),
        augmentations=lambda wc: P.audio.augmentations_of(wc.arm),
        added_per_class=lambda wc: P.audio.added_per_class(wc.arm),
        draw_seed=lambda wc: P.audio.draw_seed(wc.arm),
        code=lambda wc: code(
            "train_classifier",
            P.audio.classifier_target(wc.classifier),
            *[part["target"] for part in P.audio.augmentations_of(wc.arm)],
        ),
    script:
        "../scripts/train_classifier.py"


rule compare_arms:
    """Accuracies of all arms, and what each gains over real clips alone, with intervals."""
    input:
        predictions=lambda wc: arms("predictions.parquet", wc.dataset),
        partitions=lambda wc: expand(
            f"{AUDIO_SPLIT}/partition.parquet",
            dataset=wc.dataset,
            split=P.audio.interpolation.splits,
        ),
    output:
        f"{AUDIO}/interpolation.parquet",
    log:
        f"{RESULTS}/logs/compare_arms/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        splits=lambda wc: P.audio.interpolation.splits,
        draws=lambda wc: P.audio.interpolation.bootstrap,
        seed=lambda wc: P.audio.interpolation.seed,
        code=lambda wc: code("compare_arms"),
    script:
        "../scripts/compare_arms.py"
