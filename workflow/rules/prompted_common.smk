# What the rules of prompted generators share.

# Files of a local model, in the layouts of audiocraft and of diffusers; more are nobody's weights.
MODEL_SUFFIXES = {".bin", ".json", ".model", ".safetensors", ".txt"}


def prompted_model_files(wildcards):
    """The files of a generator in a local folder, as inputs; of a hub id its commit counts, a parameter."""
    options = P.config.audio_generators[wildcards.generator].options
    found = []
    for model in (options.get("model"), options.get("t5")):
        folder = Path(str(model or "")).expanduser()
        if model and folder.is_dir():
            found += [
                str(path)
                for path in folder.rglob("*")
                if path.suffix in MODEL_SUFFIXES and path.is_file()
            ]
    return sorted(found)


def prompted_shards(part):
    """A table of every shard of a generator's clips."""
    return lambda wildcards: expand(
        f"{PROMPTED_CLIPS}/{part}/shard={{shard}}.parquet",
        shard=P.audio.shards(wildcards.generator),
        **wildcards,
    )
