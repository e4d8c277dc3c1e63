"""Zero-shot classifier kinds by name: one line each."""

ZERO_SHOT_KINDS = {
    "ale": "foley.classifiers.ale:ALE",
    "prototype": "foley.classifiers.prototype:Prototype",
    "ridge": "foley.classifiers.ridge:Ridge",
    "softmax": "foley.classifiers.softmax:SoftmaxClassifier",
}
