"""Clips of three classes that any recogniser tells apart: low tones, high tones and hiss."""

from __future__ import annotations

import numpy as np
import torch

from foley.classifiers.audio_protocol import LabelledClips

RATE_HZ = 16_000


def toy_clips(count: int, seed: int = 0, samples: int = 8000) -> LabelledClips:
    """[count, samples], one class after the other; each begins within the first 0.1 s."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    time = np.arange(samples) / RATE_HZ
    low = np.sin(2 * np.pi * generator.uniform(150, 300, (count, 1)) * time)
    high = np.sin(2 * np.pi * generator.uniform(3000, 6000, (count, 1)) * time)
    kinds = np.stack([low, high, generator.normal(size=(count, samples))])[labels, np.arange(count)]
    kinds *= time > generator.uniform(0, 0.1, (count, 1))
    waveforms = 0.2 * kinds + 0.001 * generator.normal(size=kinds.shape)
    ids = [f"{seed}-{number}" for number in range(count)]
    return LabelledClips(
        torch.from_numpy(waveforms.astype(np.float32)), torch.from_numpy(labels), ids, RATE_HZ
    )
