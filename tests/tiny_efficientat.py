"""A tiny EfficientAT checkpoint in the published format."""

from __future__ import annotations

from pathlib import Path

import torch

from foley.encoders import efficientat


def write_tiny_efficientat(path: Path) -> Path:
    """Random weights of width 0.1 for 7 classes; embeddings differ from clip to clip."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = efficientat.MobileNet(0.1, n_classes=7)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.18)  # fresh layers let next to nothing through
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return path
