# Clips from prompts, by pretrained generators: one set for each dataset, generator and set of prompts. They belong to
# no split, since nothing of the dataset but its class names went into them.
#
#   prompts/dataset=…/prompts=…/prompts.parquet ──> generate_prompted ──> clips, rejected, cost / shard=….parquet
#                                                   clips, …          ──> write_synthetic_card ──> README.md


include: "prompted_common.smk"


rule generate_prompted:
    """Clips of one shard; a job that died goes on with those that it lacks."""
    input:
        prompts=f"{PROMPTS}/prompts.parquet",
        classes=f"{CLIPS}/classes.parquet",
        model=prompted_model_files,
    output:
        clips=f"{PROMPTED_CLIPS}/clips/shard={{shard}}.parquet",
        rejected=f"{PROMPTED_CLIPS}/rejected/shard={{shard}}.parquet",
        cost=f"{PROMPTED_CLIPS}/cost/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/generate_prompted/dataset={{dataset}}/{{generator}}-{{prompts}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate_prompted/dataset={{dataset}}/{{generator}}-{{prompts}}/shard={{shard}}.tsv"
    conda:
        "../../envs/prompted.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(24000),
        runtime=minutes(1440),
    params:
        generator=lambda wc: P.foundation.generator_target(wc.generator),
        options=lambda wc: P.config.audio_generators[wc.generator].options,
        clips_per_class=lambda wc: P.config.audio_generators[
            wc.generator
        ].clips_per_class,
        shards=lambda wc: P.config.audio_generators[wc.generator].shards,
        seed=lambda wc: P.config.audio_generators[wc.generator].seed,
        cache=CACHE,
        code=lambda wc: code(
            "generate_prompted", P.foundation.generator_target(wc.generator)
        ),
    script:
        "../scripts/generate_prompted.py"


rule write_synthetic_card:
    """What the clips are, how they were made, and under which licence their model is."""
    input:
        clips=prompted_shards("clips"),
        rejected=prompted_shards("rejected"),
        costs=prompted_shards("cost"),
        prompts=f"{PROMPTS}/prompts.parquet",
    output:
        f"{PROMPTED_CLIPS}/README.md",
    log:
        f"{RESULTS}/logs/write_synthetic_card/dataset={{dataset}}/{{generator}}-{{prompts}}.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        licence=lambda wc: P.config.audio_generators[wc.generator].options.get(
            "licence"
        ),
        code=lambda wc: code("write_synthetic_card"),
    script:
        "../scripts/write_synthetic_card.py"
