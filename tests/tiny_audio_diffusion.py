"""A random checkpoint of the audio-diffusion library, a few thousand weights, as its pipeline writes one."""

from __future__ import annotations

from pathlib import Path

import pytest


def write_tiny_audio_diffusion(folder: Path, sample_rate_hz: int = 4000) -> Path:
    """Save one for 8 x 8 images, with weights in the older format of those on the hub (`.bin`)."""
    pytest.importorskip("librosa")  # which that library's own mel needs
    import torch
    from diffusers import AudioDiffusionPipeline, DDIMScheduler, Mel, UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=(8, 8),
        in_channels=1,
        out_channels=1,
        block_out_channels=(4, 4, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
    )
    mel = Mel(x_res=8, y_res=8, sample_rate=sample_rate_hz, n_fft=128, hop_length=64, top_db=80, n_iter=2)
    pipeline = AudioDiffusionPipeline(vqvae=None, unet=network, mel=mel, scheduler=DDIMScheduler())
    pipeline.save_pretrained(folder, safe_serialization=False)
    return folder
