# The study `foundation`: do clips of prompted generators, or of one's own, help recognition?
#
#   clips of a source, real clips -> …/recogniser=<id>/protocol=<id>/real=<%>/mix=<id>/predictions.parquet
#   real=0: synthetic clips alone, the zero-shot score -> …/kept/<source>_<amount>.parquet: the class filter
#   -> …/real=<%>/{chosen,choice}.parquet: what validation clips choose
#   -> results/foundation/dataset=<id>/{foundation,costs}.parquet


rule ask_clap:
    """How near the prompt of its class comes to each clip of a source, in CLAP's space."""
    input:
        synthetic=lambda wc: source_files(wc.dataset, wc.split, wc.origin),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        classes=f"{CLIPS}/classes.parquet",
        model=lambda wc: model_files(P.foundation.study.clap.model),
    output:
        ASKED,
    log:
        f"{RESULTS}/logs/ask_clap/dataset={{dataset}}/split={{split}}/{{origin}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/ask_clap/dataset={{dataset}}/split={{split}}/{{origin}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime=minutes(240),
    params:
        clap=lambda wc: P.foundation.study.clap.model_dump(),
        code=lambda wc: code("prompt_clips"),
    script:
        "../scripts/prompt_clips.py"


rule train_mix:
    """Train a recogniser on a mix of real and synthetic clips, all seeds; it names validation and test clips."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        synthetic=mix_clips,
        choice=mix_choice,
        asked=mix_asked,
        checkpoint=lambda wc: checkpoint_files(wc.recogniser),
    output:
        predictions=f"{MIX}/predictions.parquet",
        history=f"{MIX}/history.parquet",
        clips=f"{MIX}/clips.parquet",
    log:
        f"{RESULTS}/logs/train_mix/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{protocol}}-{{percent}}-{{mix}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_mix/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{protocol}}-{{percent}}-{{mix}}.tsv"
    wildcard_constraints:
        recogniser=one_of(P.foundation.networks),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000, of_input=3),
        runtime=minutes(720),
    params:
        mix=lambda wc: asdict(mix_of(wc)),
        variant=lambda wc: P.foundation.variant(wc.recogniser, wc.percent, wc.protocol),
        classifier=lambda wc: P.foundation.recogniser_target(wc.recogniser),
        options=lambda wc: P.config.audio_classifiers[wc.recogniser].options,
        seeds=lambda wc: P.audio.classifier_seeds(wc.recogniser),
        augmentations=lambda wc: P.foundation.augmentations_of(wc.recogniser),
        drop_fraction=mix_drops,
        draw_seed=lambda wc: P.foundation.study.seed,
        code=lambda wc: code(
            "train_mix",
            P.foundation.recogniser_target(wc.recogniser),
            *[part["target"] for part in P.foundation.augmentations_of(wc.recogniser)],
        ),
    script:
        "../scripts/train_mix.py"


rule embed_prompted:
    """Embed one shard of a prompted generator's clips with a pretrained encoder."""
    input:
        audio=f"{PROMPTED_CLIPS}/clips/shard={{shard}}.parquet",
        weights=lambda wc: weight_files(wc.embedding),
    output:
        f"{PROMPTED_CLIPS}/embedding={{embedding}}/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/embed_prompted/dataset={{dataset}}/{{generator}}-{{prompts}}-{{embedding}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed_prompted/dataset={{dataset}}/{{generator}}-{{prompts}}-{{embedding}}/shard={{shard}}.tsv"
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


rule embed_interpolated:
    """Embed interpolated clips with a pretrained encoder."""
    input:
        audio=f"{MADE}/interpolated.parquet",
        weights=lambda wc: weight_files(wc.embedding),
    output:
        f"{MADE}/interpolated-{{embedding}}.parquet",
    log:
        f"{RESULTS}/logs/embed_interpolated/dataset={{dataset}}/split={{split}}/{{generator}}-{{embedding}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/embed_interpolated/dataset={{dataset}}/split={{split}}/{{generator}}-{{embedding}}.tsv"
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


rule fit_probes:
    """Fit a linear probe on stored embeddings of a mix, all seeds; it names validation and test clips."""
    input:
        real=lambda wc: embeddings_of(
            wc.dataset, P.foundation.embedding(wc.recogniser), wc.split
        ),
        embedded=lambda wc: (
            source_files(
                wc.dataset,
                wc.split,
                mix_of(wc).source,
                P.foundation.embedding(wc.recogniser),
            )
            if mix_of(wc).source is not None
            else []
        ),
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        synthetic=mix_clips,
        choice=mix_choice,
        asked=mix_asked,
    output:
        predictions=f"{MIX}/predictions.parquet",
        clips=f"{MIX}/clips.parquet",
    log:
        f"{RESULTS}/logs/fit_probes/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{protocol}}-{{percent}}-{{mix}}.log",
    wildcard_constraints:
        recogniser=one_of(P.foundation.probes),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(60),
    params:
        mix=lambda wc: asdict(mix_of(wc)),
        variant=lambda wc: P.foundation.variant(wc.recogniser, wc.percent, wc.protocol),
        classifier=lambda wc: P.foundation.recogniser_target(wc.recogniser),
        options=lambda wc: P.config.audio_classifiers[wc.recogniser].options,
        seeds=lambda wc: P.audio.classifier_seeds(wc.recogniser),
        drop_fraction=mix_drops,
        draw_seed=lambda wc: P.foundation.study.seed,
        code=lambda wc: code(
            "fit_probes", P.foundation.recogniser_target(wc.recogniser)
        ),
    script:
        "../scripts/fit_probes.py"


rule filter_classes:
    """Which classes keep their synthetic clips: precision on validation clips after training on synthetic ones alone."""
    input:
        predictions=f"{OF_RECOGNISER}/protocol=clean/real=0/mix={{origin}}_{{amount}}/predictions.parquet",
        partition=f"{AUDIO_SPLIT}/partition.parquet",
    output:
        KEPT,
    log:
        f"{RESULTS}/logs/filter_classes/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{origin}}_{{amount}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        drop_fraction=lambda wc: P.foundation.study.drop_fraction,
        code=lambda wc: code("filter_classes"),
    script:
        "../scripts/filter_classes.py"


rule allocate_clips:
    """How many synthetic clips each class gets: at most so many in all, more where validation clips gained."""
    input:
        without=f"{OF_RECOGNISER}/protocol=clean/real={{percent}}/mix=real/predictions.parquet",
        added=f"{OF_RECOGNISER}/protocol=clean/real={{percent}}/mix={{origin}}_{{amount}}/predictions.parquet",
        partition=f"{AUDIO_SPLIT}/partition.parquet",
        synthetic=lambda wc: source_files(wc.dataset, wc.split, wc.origin),
    output:
        ALLOCATED,
    log:
        f"{RESULTS}/logs/allocate_clips/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{percent}}-{{origin}}_{{amount}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        floor=lambda wc: P.foundation.study.active_floor,
        code=lambda wc: code("allocate_clips"),
    script:
        "../scripts/allocate_clips.py"


rule choose_mix:
    """The mix that validation clips choose among those with as many real clips."""
    input:
        mixes=lambda wc: mix_files(
            wc.dataset, wc.split, wc.recogniser, int(wc.percent), wc.protocol
        ),
    output:
        predictions=f"{OF_REAL}/chosen.parquet",
        choice=f"{OF_REAL}/choice.parquet",
    log:
        f"{RESULTS}/logs/choose_mix/dataset={{dataset}}/split={{split}}/{{recogniser}}-{{protocol}}-{{percent}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        code=lambda wc: code("choose_mix"),
    script:
        "../scripts/choose_mix.py"


rule compare_mixes:
    """Scores of all mixes, and what synthetic clips gain over real ones alone, with intervals."""
    input:
        predictions=lambda wc: foundation_predictions(wc.dataset),
        partitions=lambda wc: expand(
            f"{AUDIO_SPLIT}/partition.parquet",
            dataset=wc.dataset,
            split=P.foundation.study.splits,
        ),
    output:
        f"{FOUNDATION}/foundation.parquet",
    log:
        f"{RESULTS}/logs/compare_mixes/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        splits=lambda wc: P.foundation.study.splits,
        draws=lambda wc: P.foundation.study.bootstrap,
        seed=lambda wc: P.foundation.study.seed,
        code=lambda wc: code("compare_mixes"),
    script:
        "../scripts/compare_mixes.py"


rule count_costs:
    """What the clips of each source cost: time, and tokens of the model that wrote the prompts."""
    input:
        clips=lambda wc: [
            file for expense in expenses(wc.dataset) for file in expense["clips"]
        ],
        measured=lambda wc: [
            file
            for expense in expenses(wc.dataset)
            for file in expense.get("measured", ())
        ],
        requests=lambda wc: list(
            dict.fromkeys(
                expense["requests"]
                for expense in expenses(wc.dataset)
                if "requests" in expense
            )
        ),
    output:
        f"{FOUNDATION}/costs.parquet",
    log:
        f"{RESULTS}/logs/count_costs/dataset={{dataset}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        expenses=lambda wc: expenses(wc.dataset),
        code=lambda wc: code("count_costs"),
    script:
        "../scripts/count_costs.py"


rule pick_sources:
    """A few clips of each source to hear, each beside the nearest training clip where an embedding tells which."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        clips=f"{CLIPS}/clips.parquet",
        partition=lambda wc: f"{AUDIO_SPLIT}/partition.parquet".format(
            dataset=wc.dataset, split=P.foundation.study.splits[0]
        ),
        synthetic=lambda wc: [
            file for made, _ in heard_sources(wc.dataset) for file in made
        ],
        embeddings=lambda wc: [
            file for _, vectors in heard_sources(wc.dataset) for file in vectors
        ],
    output:
        f"{FOUNDATION}/gallery.parquet",
    log:
        f"{RESULTS}/logs/pick_sources/dataset={{dataset}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=1),
        runtime=minutes(60),
    params:
        generators=lambda wc: [
            [source, len(made), len(vectors)]
            for source, (made, vectors) in zip(
                P.foundation.sources, heard_sources(wc.dataset)
            )
        ],
        per_class=P.config.report.clips_per_class,
        max_duration_s=P.config.report.clip_seconds,
        seed=0,
        code=lambda wc: code("pick_synthetic"),
    script:
        "../scripts/pick_synthetic.py"
