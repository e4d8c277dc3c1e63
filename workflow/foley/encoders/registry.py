"""Encoder kinds by name: one line each. Trained ones learn from a stored feature, pretrained ones bring weights."""

TRAINED_KINDS = {
    "yamnet": "foley.encoders.yamnet:YAMNetEncoder",
}

PRETRAINED_KINDS = {
    "clap": "foley.encoders.clap_audio:ClapAudio",
    "efficientat": "foley.encoders.efficientat:EfficientAT",
    "pretrained_yamnet": "foley.encoders.pretrained_yamnet:PretrainedYAMNet",
    "vggish": "foley.encoders.vggish:VGGish",
}

# Of these, `weights` is a folder with a whole checkpoint, not a file.
FOLDER_KINDS = frozenset({"clap"})
