"""A random Whisper as transformers saves it: config.json, preprocessor_config.json and model.safetensors."""

from __future__ import annotations

from pathlib import Path

import torch


def write_tiny_whisper(folder: Path, *, seed: int = 0, seconds: float = 30.0) -> Path:
    """Encoder and decoder of two layers with 16 dimensions, tied output weights as in the published checkpoints."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=60, num_mel_bins=80, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=16,
        max_source_positions=round(50 * seconds), pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=3, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    for name, value in model.named_parameters():
        if value.dim() > 1 and "embed_positions" not in name:
            torch.nn.init.normal_(value, 0, 0.2)  # far enough from zero that layers differ
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder
