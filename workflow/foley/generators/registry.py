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
