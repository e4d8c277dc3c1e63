"""Augmentations by name: one line each."""

KINDS = {
    "mixup": "foley.augment.mixup:Mixup",
    "noise": "foley.augment.noise:Noise",
    "pitch_shift": "foley.augment.pitch_time:PitchShift",
    "reverb": "foley.augment.reverb:Reverb",
    "spec_augment": "foley.augment.spec_augment:SpecAugment",
    "time_stretch": "foley.augment.pitch_time:TimeStretch",
}
