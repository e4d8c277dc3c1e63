"""A random HiFi-GAN of a few thousand weights, in the format and with the steps of AudioLDM's."""

from __future__ import annotations

from pathlib import Path

import pytest


def write_tiny_vocoder(folder: Path, bands: int = 64) -> Path:
    """Save one for mel images of 16 kHz audio with a hop of 160."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SpeechT5HifiGanConfig(
        model_in_dim=bands,
        sampling_rate=16_000,
        upsample_initial_channel=32,
        upsample_rates=[5, 4, 2, 2, 2],
        upsample_kernel_sizes=[16, 16, 8, 4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
        normalize_before=False,
    )
    model = transformers.SpeechT5HifiGan(config)
    with torch.no_grad():
        # A fresh model's small weights give silence.
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1 / weight[0].numel() ** 0.5)
    model.save_pretrained(folder)
    return folder
