"""Random AudioGen and MusicGen checkpoints of some 100,000 weights, in the files that audiocraft publishes."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest

RATE_HZ = 8000
# The length that each language model "was trained on"; audiocraft wants more than its stride of 2 and 18 s.
LONGEST_S = {1: 2.5, 2: 20.0}
TOKENS = 64  # of a codebook


def write_tiny_t5(folder: Path, *, seed: int = 0, **size: int) -> Path:
    """A T5 encoder with a tokenizer of letters and a few words, so that prompts differ in length."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = tiny_t5_tokenizer(transformers)
    small = {"d_model": 512, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=len(tokenizer), dropout_rate=0.0, **{**small, **size})
    torch.manual_seed(seed)
    transformers.T5EncoderModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_t5_tokenizer(transformers: Any) -> Any:
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁dog", "▁rain", "▁sound", *string.ascii_lowercase]
    scores = [0.0] * 3 + [-2.0] + [-1.0] * 3 + [-5.0] * 26
    return transformers.T5Tokenizer(
        vocab=list(zip(pieces, scores, strict=True)), extra_ids=0, model_max_length=32
    )


def write_tiny_audiocraft(folder: Path, *, channels: int = 1, seed: int = 0) -> Path:
    """``state_dict.bin``, ``compression_state_dict.bin`` and a T5 beside them; the codec's frames last 20 ms."""
    folder.mkdir(parents=True)
    write_tiny_t5(folder / "t5-small", seed=seed)
    return write_audiocraft(folder, codec_config(), language_model_config(channels), seed=seed)


def write_audiocraft(
    folder: Path,
    codec_settings: dict[str, Any],
    settings: dict[str, Any],
    *,
    seed: int = 0,
    loudness: float = 0.3,
) -> Path:
    """A model of any size, beside its T5."""
    torch = pytest.importorskip("torch")
    omegaconf = pytest.importorskip("omegaconf")
    from foley.generators.audio.audiocraft_models import _text_encoders, import_audiocraft

    import_audiocraft()
    from audiocraft.models import builders

    torch.manual_seed(seed)
    codec = builders.get_compression_model(omegaconf.OmegaConf.create(codec_settings)).eval()
    with torch.no_grad():
        for layer in codec.quantizer.vq.layers:
            layer._codebook.embed.normal_()
        # From its random weights, to the wanted level.
        tokens = torch.randint(codec.quantizer.bins, (1, 4, 25))
        last = [module for module in codec.decoder.modules() if hasattr(module, "weight_g")][-1]
        last.bias.zero_()
        last.weight_g.mul_(loudness / codec.decode(tokens, None).square().mean().sqrt())
    with _text_encoders(lambda name: folder / name):
        model = builders.get_lm_model(omegaconf.OmegaConf.create(settings))
    with torch.no_grad():
        # Wide enough for prompts and tokens to matter, which the small weights of a fresh model do not.
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1.5 / weight.shape[-1] ** 0.5)
    for name, state, config in (
        ("state_dict.bin", model.state_dict(), settings),
        ("compression_state_dict.bin", codec.state_dict(), codec_settings),
    ):
        package = {
            "best_state": state, "xp.cfg": omegaconf.OmegaConf.to_yaml(config), "version": "1.3.0", "exported": True
        }  # fmt: skip
        torch.save(package, folder / name)
    return folder


def codec_config() -> dict[str, Any]:
    return {
        "compression_model": "encodec",
        "device": "cpu",
        "encodec": {
            "autoencoder": "seanet", "quantizer": "rvq", "sample_rate": RATE_HZ, "channels": 1, "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "dimension": 16, "channels": 1, "n_filters": 2, "n_residual_layers": 1, "ratios": [10, 8, 2],
            "norm": "weight_norm", "encoder": {}, "decoder": {}, "lstm": 0,
        },
        "rvq": {"n_q": 4, "bins": TOKENS, "kmeans_init": False, "q_dropout": False},
    }  # fmt: skip


def language_model_config(channels: int) -> dict[str, Any]:
    streams = 4 * channels
    return {
        "lm_model": "transformer_lm",
        "device": "cpu",
        "dtype": "float32",
        "dataset": {"segment_duration": LONGEST_S[channels]},
        "transformer_lm": {
            "dim": 32, "num_heads": 4, "num_layers": 2, "hidden_scale": 2, "n_q": streams, "card": TOKENS,
            "dropout": 0.0, "norm_first": True, "bias_proj": False, "bias_ff": False, "bias_attn": False,
            "causal": True, "custom": False, "memory_efficient": True, "positional_embedding": "sin",
            "cross_attention": False, "attention_as_float32": False,
        },
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {"delays": [n // channels for n in range(streams)], "flatten_first": 0, "empty_initial": 0},
        },
        "attribute_dropout": {"args": {"active_on_eval": False}, "text": {}, "wav": {}},
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "conditioners": {
            "args": {"merge_text_conditions_p": 0.25, "drop_desc_p": 0.5},
            "description": {
                "model": "t5",
                "t5": {"name": "t5-small", "finetune": False, "word_dropout": 0.3, "normalize_text": False},
            },
        },
        "fuser": {
            "cross_attention_pos_emb": False, "cross_attention_pos_emb_scale": 1, "sum": [], "prepend": [],
            "cross": ["description"], "input_interpolate": [],
        },
        # As stereo checkpoints have it: the codec's streams of left and right in turn.
        **(
            {"interleave_stereo_codebooks": {"use": True, "per_timestep": False}}
            if channels == 2
            else {}
        ),
    }  # fmt: skip
