"""Zero-shot classifier kinds by name: one line each."""

ZERO_SHOT_KINDS = {
    "ale": "foley.classifiers.ale:ALE",
}
