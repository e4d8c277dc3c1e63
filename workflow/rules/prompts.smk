# What text-to-audio generators are asked for.
#
#   results/clips/dataset=<id>/classes.parquet, resources/prompts/*.yaml
#   -> results/prompts/dataset=<id>/prompts=<id>/{prompts,requests,rejected}.parquet


rule write_prompts:
    """Prompts for each class: from templates, a list of words or captions, or a language model."""
    input:
        classes=f"{CLIPS}/classes.parquet",
        class_table=lambda wc: P.data.class_table(wc.dataset) or [],
        templates=RESOURCES / "prompts" / "templates.yaml",
        instructions=RESOURCES / "prompts" / "instructions.yaml",
        files=lambda wc: P.foundation.prompts_files(wc.prompts),
    output:
        prompts=f"{PROMPTS}/prompts.parquet",
        requests=f"{PROMPTS}/requests.parquet",
        rejected=f"{PROMPTS}/rejected.parquet",
    log:
        f"{RESULTS}/logs/write_prompts/dataset={{dataset}}/{{prompts}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_prompts/dataset={{dataset}}/{{prompts}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=lambda wc: P.foundation.prompts_gpus(wc.prompts),
        mem_mb=memory(8000),
        runtime=minutes(720),
    params:
        writer=lambda wc: P.foundation.prompts_targets(wc.prompts)[0],
        # Without what changes no prompt: budgets, patience, threads.
        options=lambda wc: P.foundation.prompts_options(wc.prompts),
        dataset_kind=lambda wc: P.data.kind_name(wc.dataset),
        code=lambda wc: code("write_prompts", *P.foundation.prompts_targets(wc.prompts)),
    script:
        "../scripts/write_prompts.py"
