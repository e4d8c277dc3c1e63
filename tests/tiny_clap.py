"""A random CLAP of a few thousand weights in the format of the hub, with windows of 1 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

WORDS = "this is a sound of the noise dog rain crying baby sea waves chainsaw clock tick ."
RATE_HZ = 48_000


def write_tiny_clap(folder: Path, *, fusion: bool = False, seed: int = 0, **front_end: Any) -> Path:
    """Save model, front end and tokenizer as a published checkpoint has them."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = _tokenizer(transformers)
    config = transformers.ClapConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 80,
        },
        # 64 = 4 patches of 4 x 4 for each window of 4: what is merged must stay whole.
        audio_config={
            "window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4],
            "hidden_size": 32, "depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2,
            "patch_embeds_hidden_size": 16, "num_classes": 4,
            "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None,
        },
        projection_dim=12,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.ClapModel(config)
    with torch.no_grad():
        # As wide as needed for inputs to be told apart, which the small weights of a fresh model do not.
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 2 / weight[0].numel() ** 0.5)
        norm = model.audio_model.audio_encoder.batch_norm  # of log-mel bins in dB
        norm.running_mean.fill_(-20.0)
        norm.running_var.fill_(100.0)
    model.save_pretrained(folder)
    settings = {"feature_size": 16, "max_length_s": 1, "truncation": "fusion" if fusion else "rand_trunc"}
    transformers.ClapFeatureExtractor(**(settings | front_end)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(transformers: Any) -> Any:
    """RoBERTa's special tokens in its order, and whole words instead of byte pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS.split()])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>", mask_token="<mask>", model_max_length=512,
    )  # fmt: skip
