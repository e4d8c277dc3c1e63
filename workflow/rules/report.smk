# Scores of all studies, and the page.
#
#   …/scores.parquet, references.parquet, comparison.parquet -> results/scores.parquet
#   -> results/report/index.html


def score_files(wildcards):
    """Every table of scores that the configured studies write."""
    found = []
    for dataset in P.datasets:
        found += runs("scores.parquet", dataset)
        found += expand(f"{SPLIT}/references.parquet", dataset=dataset, split=P.splits(dataset))
        found += expand(f"{ZERO_SHOT}/comparison.parquet", dataset=dataset)
    return found


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
    params:
        code=code("collect_scores"),
    script:
        "../scripts/collect_scores.py"
