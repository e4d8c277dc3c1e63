"""Generator kinds by name: one line each."""

EMBEDDING_KINDS = {
    "cada_vae": "foley.generators.embedding.cada_vae:CADAVAE",
    "ddpm": "foley.generators.embedding.ddpm:DDPM",
    "gaussian_process": "foley.generators.embedding.gaussian_process:GaussianProcess",
    "lisgan": "foley.generators.embedding.lisgan:LisGAN",
    "zerodiffusion": "foley.generators.embedding.zerodiffusion:ZeroDiffusion",
}

# Generators of audio.
AUDIO_KINDS = {
    "mel_diffusion": "foley.generators.audio.mel_diffusion:MelDiffusion",
}

# Pretrained generators of audio that know no classes: they tell what lies between two clips, but no clip of a class.
UNCONDITIONAL_KINDS = {
    "audio_diffusion": "foley.generators.audio.audio_diffusion:AudioDiffusion",
}

# Pretrained generators of audio from sentences.
PROMPTED_KINDS = {
    "audiogen": "foley.generators.audio.audiogen:AudioGen",
    "audioldm": "foley.generators.audio.audioldm:AudioLDM",
    "audioldm2": "foley.generators.audio.audioldm2:AudioLDM2",
    "musicgen": "foley.generators.audio.musicgen:MusicGen",
    "noise": "foley.generators.audio.noise:Noise",
    "stable_audio": "foley.generators.audio.stable_audio:StableAudio",
}
