# The study `speech`: do synthetic backgrounds in training make recognition robust, and as much as real ones?
#
#   clips, split of speech -> results/speech/dataset=<id>/split=<id>/partition.parquet: speakers kept apart
#   clips, split and generated clips of the background dataset -> results/speech/backgrounds/background=<id>.parquet
#   -> …/recogniser=<id>/arm=<id>/{models/,clean.parquet,noisy.parquet}
#   -> results/speech/dataset=<id>/{speech,curves,kept_apart}.parquet


rule separate_speakers:
    """Give each clip of speech its part in one split, speakers and recordings kept apart."""
    input:
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        clips=f"{CLIPS}/clips.parquet",
    output:
        f"{SPEECH_SPLIT}/partition.parquet",
    log:
        f"{RESULTS}/logs/separate_speakers/dataset={{dataset}}/split={{split}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        code=lambda wc: code("separate_speakers"),
    script:
        "../scripts/separate_speakers.py"


rule draw_backgrounds:
    """Which clips of one kind of background are mixed into training clips, and which into test clips alone."""
    input:
        partition=lambda wc: f"{AUDIO_SPLIT}/partition.parquet".format(
            dataset=P.speech.study.background.dataset,
            split=P.speech.study.background.split,
        ),
        clips=lambda wc: f"{CLIPS}/clips.parquet".format(
            dataset=P.speech.study.background.dataset
        ),
        synthetic=lambda wc: background_clips(wc.background),
    output:
        BACKGROUNDS,
    log:
        f"{RESULTS}/logs/draw_backgrounds/{{background}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        background=lambda wc: P.speech.study.background.model_dump(exclude={"dataset"}),
        seed=lambda wc: P.speech.study.seed,
        code=lambda wc: code("draw_backgrounds"),
    script:
        "../scripts/draw_backgrounds.py"


rule train_speech:
    """Train a recogniser of speech in one arm, all seeds."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{SPEECH_SPLIT}/partition.parquet",
        backgrounds=arm_background,
        background_audio=arm_background_audio,
        responses=response_files,
        checkpoint=lambda wc: checkpoint_files(wc.recogniser),
    output:
        models=directory(f"{SPEECH_ARM}/models"),
        history=f"{SPEECH_ARM}/history.parquet",
    log:
        f"{RESULTS}/logs/train_speech/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{arm}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_speech/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{arm}}.tsv"
    wildcard_constraints:
        recogniser=one_of(P.speech.recognisers),
        arm=one_of(P.speech.arms),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000, of_input=3),
        runtime=minutes(720),
    params:
        classifier=lambda wc: P.speech.recogniser_target(wc.recogniser),
        options=lambda wc: P.config.audio_classifiers[wc.recogniser].options,
        seeds=lambda wc: P.audio.classifier_seeds(wc.recogniser),
        mixing=lambda wc: P.speech.mixing(wc.arm),
        augmentations=lambda wc: P.speech.augmentations_of(wc.arm),
        code=lambda wc: code(
            "train_speech",
            P.speech.recogniser_target(wc.recogniser),
            *[part["target"] for part in P.speech.augmentations_of(wc.arm)],
        ),
    script:
        "../scripts/train_speech.py"


rule recognise_speech:
    """What the recognisers of an arm say of the test clips, clean and with each background at each ratio."""
    input:
        models=rules.train_speech.output.models,
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{SPEECH_SPLIT}/partition.parquet",
        backgrounds=expand(BACKGROUNDS, background=P.speech.test_backgrounds),
        background_audio=[
            file
            for background in P.speech.test_backgrounds
            for file in background_audio(background)
        ],
        checkpoint=lambda wc: checkpoint_files(wc.recogniser),
    output:
        clean=f"{SPEECH_ARM}/clean.parquet",
        noisy=f"{SPEECH_ARM}/noisy.parquet",
    log:
        f"{RESULTS}/logs/recognise_speech/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{arm}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/recognise_speech/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{arm}}.tsv"
    wildcard_constraints:
        recogniser=one_of(P.speech.recognisers),
        arm=one_of(P.speech.arms),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000, of_input=3),
        runtime=minutes(240),
    params:
        classifier=lambda wc: P.speech.recogniser_target(wc.recogniser),
        options=lambda wc: P.config.audio_classifiers[wc.recogniser].options,
        seeds=lambda wc: P.audio.classifier_seeds(wc.recogniser),
        # Each background, and how many of the files of audio are its own.
        backgrounds=[
            [background, len(background_audio(background))]
            for background in P.speech.test_backgrounds
        ],
        ratios_db=lambda wc: P.speech.study.test_snr_db,
        silent_speech=lambda wc: P.speech.study.silent_speech,
        draw_seed=lambda wc: P.speech.study.seed,
        code=lambda wc: code(
            "recognise_speech", P.speech.recogniser_target(wc.recogniser)
        ),
    script:
        "../scripts/recognise_speech.py"


rule pick_backgrounds:
    """A few generated backgrounds of each class to hear."""
    input:
        audio=lambda wc: background_audio("real"),
        clips=lambda wc: f"{CLIPS}/clips.parquet".format(
            dataset=P.speech.study.background.dataset
        ),
        partition=lambda wc: f"{AUDIO_SPLIT}/partition.parquet".format(
            dataset=P.speech.study.background.dataset,
            split=P.speech.study.background.split,
        ),
        synthetic=lambda wc: [
            file for source in P.speech.sources for file in background_clips(source)
        ],
        embeddings=[],
    output:
        f"{RESULTS}/speech/backgrounds/gallery.parquet",
    log:
        f"{RESULTS}/logs/pick_backgrounds.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=1),
        runtime=minutes(60),
    params:
        generators=lambda wc: [
            [source, len(background_clips(source)), 0] for source in P.speech.sources
        ],
        per_class=P.config.report.clips_per_class,
        max_duration_s=P.config.report.clip_seconds,
        seed=0,
        code=lambda wc: code("pick_synthetic"),
    script:
        "../scripts/pick_synthetic.py"


rule compare_speech:
    """Scores of all arms in all conditions, what backgrounds gain, and what was kept apart."""
    input:
        predictions=lambda wc: speech_predictions(wc.dataset),
        partitions=lambda wc: expand(
            f"{SPEECH_SPLIT}/partition.parquet",
            dataset=wc.dataset,
            split=P.speech.splits(wc.dataset),
        ),
        backgrounds=backgrounds_drawn(),
    output:
        scores=f"{SPEECH}/speech.parquet",
        curves=f"{SPEECH}/curves.parquet",
        kept_apart=f"{SPEECH}/kept_apart.parquet",
    log:
        f"{RESULTS}/logs/compare_speech/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        splits=lambda wc: P.speech.splits(wc.dataset),
        backgrounds=P.speech.backgrounds,
        background_split=lambda wc: P.speech.study.background.split,
        draws=lambda wc: P.speech.study.bootstrap,
        metric=lambda wc: P.speech.study.metric_of(wc.dataset),
        seed=lambda wc: P.speech.study.seed,
        code=lambda wc: code("compare_speech"),
    script:
        "../scripts/compare_speech.py"
