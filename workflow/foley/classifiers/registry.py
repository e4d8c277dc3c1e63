"""Zero-shot classifier kinds by name: one line each."""

ZERO_SHOT_KINDS = {
    "ale": "foley.classifiers.ale:ALE",
    "prototype": "foley.classifiers.prototype:Prototype",
    "ridge": "foley.classifiers.ridge:Ridge",
    "softmax": "foley.classifiers.softmax:SoftmaxClassifier",
}
# Those that know a class by examples alone, and so need synthetic ones of unseen classes.
BY_EXAMPLE = frozenset({"prototype", "softmax"})

# Classifiers of clips, from their waveforms.
AUDIO_KINDS = {
    "small_cnn": "foley.classifiers.cnn:SmallCNN",
    "log_mel_cnn": "foley.classifiers.cnn:LogMelCNN",
    "ssast": "foley.classifiers.ssast:SSAST",
    "ast": "foley.classifiers.ast:AST",
    "bc_resnet": "foley.classifiers.bc_resnet:BCResNet",
    "whisper": "foley.classifiers.whisper:Whisper",
}

# Classifiers of clips, from stored embeddings.
EMBEDDING_KINDS = {
    "linear_probe": "foley.classifiers.linear_probe:LinearProbe",
}

# Networks of chunks of frames.
FRAME_KINDS = {
    "diverse_transformer": "foley.classifiers.diverse_transformer:DiverseTransformer",
    "frame_probe": "foley.classifiers.frame_probe:FrameProbe",
}
# Those whose activations over time are a representation themselves.
NEURALOGRAM_KINDS = {
    "chunk_efficientat": "foley.classifiers.chunk_efficientat:ChunkEfficientAT",
    "chunk_yamnet": "foley.classifiers.chunk_yamnet:ChunkYAMNet",
}
