"""Generator kinds by name: one line each."""

EMBEDDING_KINDS = {
    "ddpm": "foley.generators.embedding.ddpm:DDPM",
    "zerodiffusion": "foley.generators.embedding.zerodiffusion:ZeroDiffusion",
}
