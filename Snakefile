# Foley: will synthetic audio help my classifier?
#
# The map of the house. What runs is named in config.yaml; presets of whole studies lie in experiments/:
#     snakemake --cores all
#     snakemake --cores all --resources gpu=4 --configfile experiments/zero_shot_esc50.yaml
#
# Paths spell their keys: results/<stage>/dataset=<id>/…/<table>.parquet


# Named by its place beside this file, so that `--directory elsewhere` finds it too.
configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster_common.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/classes.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/zero_shot.smk"
include: "workflow/rules/zero_shot_questions.smk"
include: "workflow/rules/audio_common.smk"
include: "workflow/rules/audio.smk"
include: "workflow/rules/diffusion.smk"
include: "workflow/rules/foundation_common.smk"
include: "workflow/rules/prompts.smk"
include: "workflow/rules/prompted.smk"
include: "workflow/rules/foundation.smk"
include: "workflow/rules/diverse_common.smk"
include: "workflow/rules/diverse.smk"
include: "workflow/rules/speech_common.smk"
include: "workflow/rules/speech.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        [f"{RESULTS}/scores.parquet"] if P.has_studies else [],
        expand(CARD, dataset=P.datasets),
        synthetic_cards(),
        f"{RESULTS}/report/index.html",
