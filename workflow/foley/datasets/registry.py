"""Dataset kinds by name: one line each."""

KINDS = {
    "esc50": "foley.datasets.esc50:ESC50",
    "folder": "foley.datasets.folder:Folder",
    "soundbox": "foley.datasets.soundbox:Soundbox",
}
