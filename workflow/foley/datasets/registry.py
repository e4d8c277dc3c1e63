"""Dataset kinds by name: one line each."""

KINDS = {
    "activitynet": "foley.datasets.activitynet:ActivityNet",
    "arca23k_fsd": "foley.datasets.arca23k_fsd:ARCA23KFSD",
    "emodb": "foley.datasets.emodb:EmoDB",
    "esc50": "foley.datasets.esc50:ESC50",
    "folder": "foley.datasets.folder:Folder",
    "fsc22": "foley.datasets.fsc22:FSC22",
    "fsd50k": "foley.datasets.fsd50k:FSD50K",
    "gtzan": "foley.datasets.gtzan:GTZAN",
    "huggingface": "foley.datasets.huggingface:HuggingFace",
    "iemocap": "foley.datasets.iemocap:IEMOCAP",
    "ravdess": "foley.datasets.ravdess:RAVDESS",
    "soundbox": "foley.datasets.soundbox:Soundbox",
    "speech_commands": "foley.datasets.speech_commands:SpeechCommands",
    "tau2019": "foley.datasets.tau2019:TAU2019",
    "ucf101": "foley.datasets.ucf101:UCF101",
    "urbansound8k": "foley.datasets.urbansound8k:UrbanSound8K",
    "voicebox": "foley.datasets.voicebox:Voicebox",
}
