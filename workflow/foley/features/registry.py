"""Feature kinds by name: one line each."""

# Windows of one fixed size.
WINDOW_KINDS = {
    "logmel": "foley.features.logmel:LogMel",
}
# Frames of any length, stored in chunks of one second.
FRAME_KINDS = {
    "spectral_peaks": "foley.features.spectral_peaks:SpectralPeaks",
    "mfcc": "foley.features.mfcc:MFCC",
    "waveform_patches": "foley.features.waveform_patches:WaveformPatches",
    "logmel_frames": "foley.features.logmel_frames:LogMelFrames",
}
KINDS = {**WINDOW_KINDS, **FRAME_KINDS}
