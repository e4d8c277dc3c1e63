# Scores of all studies, and the page.
#
#   …/scores.parquet, references.parquet, comparison.parquet -> results/scores.parquet
#   -> results/report/index.html


rule collect_scores:
    """All measured values of all studies in one table."""
    input:
        score_files,
    output:
        f"{RESULTS}/scores.parquet",
    log:
        f"{RESULTS}/logs/collect_scores.log",
    conda:
        "../../envs/audio.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        code=lambda wc: code("collect_scores"),
    script:
        "../scripts/collect_scores.py"


rule project_embeddings:
    """Real and synthetic embeddings of one run on a plane."""
    input:
        embeddings=embedding_files,
        partition=f"{SPLIT}/partition.parquet",
        synthetic=f"{RUN}/synthetic.parquet",
        projected=f"{RUN}/projected.parquet",
        classes=f"{CLIPS}/classes.parquet",
    output:
        f"{RUN}/map.parquet",
    log:
        f"{RESULTS}/logs/project_embeddings/dataset={{dataset}}/split={{split}}/{{embedding}}-{{vectors}}-{{method}}.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=1),
        runtime=minutes(60),
    params:
        seed=lambda wc: P.study.seed,
        max_points=P.config.report.map_points,
        code=lambda wc: code("project_embeddings"),
    script:
        "../scripts/project_embeddings.py"


rule pick_gallery:
    """A few clips of each class to hear, and the real clips nearest to what the generators made."""
    input:
        audio=all_shards(f"{CLIPS}/audio/shard={{shard}}.parquet"),
        clips=f"{CLIPS}/clips.parquet",
        synthetic=lambda wc: shown_files("synthetic.parquet", wc.dataset),
        projected=lambda wc: shown_files("projected.parquet", wc.dataset),
        embeddings=lambda wc: [
            file
            for embedding, _, _ in shown(wc.dataset)
            for file in embeddings_of(wc.dataset, embedding, shown_split(wc.dataset))
        ],
    output:
        f"{RESULTS}/report/gallery/dataset={{dataset}}/gallery.parquet",
    log:
        f"{RESULTS}/logs/pick_gallery/dataset={{dataset}}.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000, of_input=1),
        runtime=minutes(60),
    params:
        # Name of each shown run, and how many of the embedding files are its own.
        methods=lambda wc: [
            [
                f"{method} ({embedding})",
                1 if P.is_trained(embedding) else len(P.data.shards(wc.dataset)),
            ]
            for embedding, _, method in shown(wc.dataset)
        ],
        per_class=P.config.report.clips_per_class,
        max_duration_s=P.config.report.clip_seconds,
        seed=lambda wc: P.study.seed,
        code=lambda wc: code("pick_gallery"),
    script:
        "../scripts/pick_gallery.py"


rule write_report:
    """One page: the verdict, leaderboards, classes, maps, a gallery and the data."""
    input:
        scores=f"{RESULTS}/scores.parquet" if P.has_studies else [],
        predictions=[
            *[
                file
                for dataset in P.study.datasets
                for file in runs("predictions.parquet", dataset)
            ],
            *[
                file
                for dataset in P.audio.augmented
                for file in arms("predictions.parquet", dataset)
            ],
            *[
                file
                for dataset in P.foundation.datasets
                for file in shown_mixes(dataset)
            ],
            *[file for dataset in P.speech.datasets for file in shown_speech(dataset)],
        ],
        clips=expand(f"{CLIPS}/clips.parquet", dataset=P.datasets),
        rejected=expand(f"{CLIPS}/rejected.parquet", dataset=P.datasets),
        classes=expand(f"{CLIPS}/classes.parquet", dataset=P.datasets),
        leaks=expand(f"{CLIPS}/leaks.parquet", dataset=P.datasets),
        manifests=expand(f"{CLIPS}/manifest.parquet", dataset=P.datasets),
        gallery=expand(rules.pick_gallery.output[0], dataset=P.datasets),
        synthetic_gallery=[
            *expand(f"{AUDIO}/gallery.parquet", dataset=P.audio.datasets),
            *expand(f"{FOUNDATION}/gallery.parquet", dataset=P.foundation.datasets),
            *backgrounds_gallery(),
        ],
        quality=[
            file
            for dataset in P.audio.judged
            for file in judged("quality.parquet", dataset)
        ],
        costs=expand(f"{FOUNDATION}/costs.parquet", dataset=P.foundation.datasets),
        choices=[
            file
            for dataset in P.foundation.datasets
            for file in foundation_choices(dataset)
        ],
        counts=[
            file
            for dataset in P.foundation.datasets
            for file in foundation_counts(dataset)
        ],
        kept=[
            KEPT.format(
                dataset=d, split=split, recogniser=r, origin=origin, amount=amount
            )
            for d, r, origin, amount in class_filters()
            for split in P.foundation.study.splits
        ],
        prompts=[
            f"{PROMPTS}/prompts.parquet".format(dataset=dataset, prompts=prompts)
            for dataset, prompts in prompt_sets()
        ],
        refused=[
            f"{PROMPTS}/rejected.parquet".format(dataset=dataset, prompts=prompts)
            for dataset, prompts in prompt_sets()
        ],
        kept_apart=expand(f"{SPEECH}/kept_apart.parquet", dataset=P.speech.datasets),
        backgrounds=backgrounds_drawn(),
        missing_words=[
            file
            for dataset in P.study.datasets
            for file in expand(
                f"{CLASS_VECTORS}/missing_words.parquet",
                dataset=dataset,
                vectors=P.study.class_vectors,
            )
        ],
        maps=[
            file
            for dataset in P.study.datasets
            for file in shown_files("map.parquet", dataset)
        ],
        published=sorted(
            map(
                str,
                (RESOURCES / "published").glob("*.yaml"),
            )
        ),
        templates=sorted(
            map(str, (ROOT / "workflow" / "foley" / "report" / "templates").iterdir())
        ),
    output:
        page=report(
            f"{RESULTS}/report/index.html",
            caption="../report/page.rst",
            category="Foley",
            labels={"what": "the whole page"},
        ),
        leaderboard=report(
            f"{RESULTS}/report/leaderboard.svg",
            caption="../report/leaderboard.rst",
            category="Foley",
            labels={"what": "leaderboard"},
        ),
        classes=report(
            f"{RESULTS}/report/classes.svg",
            caption="../report/classes.rst",
            category="Foley",
            labels={"what": "gains per class"},
        ),
        map=report(
            f"{RESULTS}/report/map.svg",
            caption="../report/map.rst",
            category="Foley",
            labels={"what": "embedding map"},
        ),
    log:
        f"{RESULTS}/logs/write_report.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        datasets=P.datasets,
        facts=[P.data.facts(dataset) for dataset in P.datasets],
        missing_words={
            dataset: expand(
                f"{CLASS_VECTORS}/missing_words.parquet",
                dataset=dataset,
                vectors=P.study.class_vectors,
            )
            for dataset in P.study.datasets
        },
        maps=[
            [dataset, shown_split(dataset), f"{embedding}/{vectors}", method]
            for dataset in P.study.datasets
            for embedding, vectors, method in shown(dataset)
        ],
        # Of which dataset each gallery of generated clips is.
        synthetic=[
            *P.audio.datasets,
            *P.foundation.datasets,
            *[P.speech.study.background.dataset for _ in backgrounds_gallery()],
        ],
        prompts=prompt_sets(),
        background_prompts=P.speech.prompt_sets,
        # Of which class filter each table is.
        kept=[
            [dataset, recogniser, f"{origin}_{amount}"]
            for dataset, recogniser, origin, amount in class_filters()
            for _ in P.foundation.study.splits
        ],
        methods=[
            *P.study.methods,
            *P.audio.ids,
            *P.audio.arms,
            *P.foundation.mix_names,
            *P.speech.arms,
        ],
        title=P.config.report.title,
        summary=P.summary(),
        code=lambda wc: code("write_report"),
    script:
        "../scripts/write_report.py"
