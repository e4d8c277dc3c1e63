# The study of diverse embeddings.
#
#   clips -> results/diverse/dataset=<id>/split=<id>/labelled.parquet
#   clips -> …/neuralogram=<id>/shard=<n>.parquet (pretrained), …/split=<id>/neuralogram=<id>/seed=<n>/ (trained here)
#   frames -> …/split=<id>/network=<id>/seed=<n>/{embeddings,clip_scores,history}.parquet
#   embeddings -> …/split=<id>/set=<id>/seed=<n>/{heads,joint}.parquet
#   -> results/diverse/dataset=<id>/diverse.parquet


rule label_clips:
    """Give each clip its part in one split of the study, and the numbers of its classes."""
    input:
        clips=f"{CLIPS}/clips.parquet",
        classes=f"{CLIPS}/classes.parquet",
        # Nothing is trained on a dataset whose own folds leak.
        leaks=f"{CLIPS}/leaks.parquet",
    output:
        f"{DIVERSE_SPLIT}/labelled.parquet",
    log:
        f"{RESULTS}/logs/label_clips/dataset={{dataset}}/split={{split}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        settings=lambda wc: P.audio.split_settings(wc.split),
        multi_label=lambda wc: P.diverse.is_multi_label(wc.dataset),
        code=lambda wc: code("label_clips"),
    script:
        "../scripts/label_clips.py"


rule extract_neuralogram:
    """Activations over time of a pretrained encoder, for one shard of clips."""
    input:
        audio=f"{CLIPS}/audio/shard={{shard}}.parquet",
        weights=lambda wc: weight_files(
            P.diverse.representation(wc.representation).embedding
        ),
    output:
        f"{NEURALOGRAM}/shard={{shard}}.parquet",
    log:
        f"{RESULTS}/logs/extract_neuralogram/dataset={{dataset}}/{{representation}}/shard={{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/extract_neuralogram/dataset={{dataset}}/{{representation}}/shard={{shard}}.tsv"
    wildcard_constraints:
        representation=one_of(P.diverse.pretrained),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000),
        runtime=minutes(240),
    params:
        embedding=lambda wc: P.diverse.representation(wc.representation).embedding,
        encoder=lambda wc: P.encoder_target(
            P.diverse.representation(wc.representation).embedding
        ),
        weights=lambda wc: P.weights_shown(
            P.diverse.representation(wc.representation).embedding
        ),
        sha256=lambda wc: P.config.embeddings[
            P.diverse.representation(wc.representation).embedding
        ].sha256,
        window_s=lambda wc: P.diverse.representation(wc.representation).window_s,
        frames_per_second=lambda wc: P.diverse.representation(
            wc.representation
        ).frames_per_second,
        code=lambda wc: code(
            "extract_neuralogram",
            P.encoder_target(P.diverse.representation(wc.representation).embedding),
        ),
    script:
        "../scripts/extract_neuralogram.py"


rule train_neuralogram:
    """Train a network on the training clips of one split, and write its activations over time for every clip."""
    input:
        frames=lambda wc: expand(
            f"{FEATURES}/shard={{shard}}.parquet",
            dataset=wc.dataset,
            feature=P.diverse.representation(wc.representation).feature,
            shard=P.data.shards(wc.dataset),
        ),
        labelled=f"{DIVERSE_SPLIT}/labelled.parquet",
    output:
        frames=f"{OWN_NEURALOGRAM}/frames.parquet",
        history=f"{OWN_NEURALOGRAM}/history.parquet",
        model=f"{OWN_NEURALOGRAM}/network.safetensors",
    log:
        f"{RESULTS}/logs/train_neuralogram/dataset={{dataset}}/split={{split}}/{{representation}}/seed={{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_neuralogram/dataset={{dataset}}/split={{split}}/{{representation}}/seed={{seed}}.tsv"
    wildcard_constraints:
        representation=one_of(P.diverse.trained),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000, of_input=3),
        runtime=minutes(720),
    params:
        network=lambda wc: P.diverse.neuralogram_target(wc.representation),
        options=lambda wc: P.diverse.neuralogram_options(wc.representation),
        frames_per_second=lambda wc: P.diverse.representation(
            wc.representation
        ).frames_per_second,
        multi_label=lambda wc: P.diverse.is_multi_label(wc.dataset),
        code=lambda wc: code(
            "train_neuralogram", P.diverse.neuralogram_target(wc.representation)
        ),
    script:
        "../scripts/train_neuralogram.py"


rule train_network:
    """Train the network of one representation, or a baseline as large as a whole set, and embed every chunk with it."""
    input:
        frames=lambda wc: frames_of(P.diverse.read_by(wc.network), wc),
        # One file of each says how large its network is.
        matched=lambda wc: [frames_of(name, wc)[0] for name in matched(wc)],
        behind=lambda wc: behind_files(sized(wc), wc.dataset),
        labelled=f"{DIVERSE_SPLIT}/labelled.parquet",
    output:
        embeddings=f"{NETWORK}/embeddings.parquet",
        scores=f"{NETWORK}/clip_scores.parquet",
        history=f"{NETWORK}/history.parquet",
        model=f"{NETWORK}/network.safetensors",
    log:
        f"{RESULTS}/logs/train_network/dataset={{dataset}}/split={{split}}/{{network}}/seed={{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_network/dataset={{dataset}}/split={{split}}/{{network}}/seed={{seed}}.tsv"
    conda:
        "../../envs/torch.yaml"
    # One core a training: networks run side by side, which beats sharing cores within one.
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000, of_input=3),
        runtime=minutes(720),
    params:
        network=lambda wc: network_setup(wc.network),
        matched=lambda wc: {name: network_setup(name) for name in matched(wc)},
        sets=lambda wc: P.diverse.matched(wc.network),
        behind=lambda wc: behind(sized(wc)),
        multi_label=lambda wc: P.diverse.is_multi_label(wc.dataset),
        code=lambda wc: code(
            "train_network",
            *map(P.diverse.target, [wc.network, *matched(wc)]),
            *(target for target, _ in behind(sized(wc)).values()),
        ),
    script:
        "../scripts/train_network.py"


rule train_heads:
    """Train a linear head on the frozen embeddings of every subset of a set, all as one model."""
    input:
        embeddings=set_files("embeddings.parquet"),
        scores=set_files("clip_scores.parquet"),
        labelled=f"{DIVERSE_SPLIT}/labelled.parquet",
    output:
        heads=f"{COMBINATION}/heads.parquet",
        history=f"{COMBINATION}/heads_history.parquet",
    log:
        f"{RESULTS}/logs/train_heads/dataset={{dataset}}/split={{split}}/{{combination}}/seed={{seed}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(4000, of_input=3),
        runtime=minutes(120),
    params:
        names=lambda wc: P.diverse.study.sets[wc.combination],
        options=lambda wc: P.diverse.study.heads,
        multi_label=lambda wc: P.diverse.is_multi_label(wc.dataset),
        code=lambda wc: code("train_heads"),
    script:
        "../scripts/train_heads.py"


rule train_jointly:
    """Train the networks of a set and one linear head together."""
    input:
        # Representation by representation; how many files each has stands in the parameters.
        frames=lambda wc: [
            file
            for name in P.diverse.study.sets[wc.combination]
            for file in frames_of(name, wc)
        ],
        weights=lambda wc: (
            set_files("network.safetensors")(wc)
            if P.diverse.study.joint.start == "trained"
            else []
        ),
        labelled=f"{DIVERSE_SPLIT}/labelled.parquet",
    output:
        scores=f"{COMBINATION}/joint.parquet",
        history=f"{COMBINATION}/joint_history.parquet",
        model=f"{COMBINATION}/joint.safetensors",
    log:
        f"{RESULTS}/logs/train_jointly/dataset={{dataset}}/split={{split}}/{{combination}}/seed={{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_jointly/dataset={{dataset}}/split={{split}}/{{combination}}/seed={{seed}}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000, of_input=3),
        runtime=minutes(720),
    params:
        networks=lambda wc: [
            network_setup(name) for name in P.diverse.study.sets[wc.combination]
        ],
        counts=lambda wc: [
            len(frames_of(name, wc)) for name in P.diverse.study.sets[wc.combination]
        ],
        options=lambda wc: P.diverse.study.joint.options,
        heads=lambda wc: P.diverse.study.heads,
        multi_label=lambda wc: P.diverse.is_multi_label(wc.dataset),
        code=lambda wc: code(
            "train_jointly",
            *map(P.diverse.target, P.diverse.study.sets[wc.combination]),
        ),
    script:
        "../scripts/train_jointly.py"


rule compare_representations:
    """Scores of every subset and baseline, leave-one-out, and how alike representations are, with intervals."""
    input:
        scores=lambda wc: [file for *_, file in compared(wc.dataset)],
        embeddings=lambda wc: [file for *_, file in embedded(wc.dataset)],
        labelled=lambda wc: expand(
            f"{DIVERSE_SPLIT}/labelled.parquet",
            dataset=wc.dataset,
            split=P.diverse.splits(wc.dataset),
        ),
        # They say how large the networks behind neuralograms are.
        behind=lambda wc: behind_files(P.diverse.networks, wc.dataset),
    output:
        f"{DIVERSE}/diverse.parquet",
    log:
        f"{RESULTS}/logs/compare_representations/dataset={{dataset}}.log",
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    params:
        splits=lambda wc: P.diverse.splits(wc.dataset),
        multi_label=lambda wc: P.diverse.is_multi_label(wc.dataset),
        scores=lambda wc: [list(key) for *key, _ in compared(wc.dataset)],
        embeddings=lambda wc: [list(key) for *key, _ in embedded(wc.dataset)],
        sets=lambda wc: P.diverse.study.sets,
        baselines=lambda wc: P.diverse.baselines,
        draws=lambda wc: P.diverse.study.bootstrap,
        seed=lambda wc: P.diverse.study.seed,
        behind=lambda wc: behind(P.diverse.networks),
        code=lambda wc: code(
            "compare_representations",
            *(target for target, _ in behind(P.diverse.networks).values()),
        ),
    script:
        "../scripts/compare_representations.py"
