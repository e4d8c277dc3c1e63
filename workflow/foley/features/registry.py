"""Feature kinds by name: one line each."""

KINDS = {
    "logmel": "foley.features.logmel:LogMel",
}
