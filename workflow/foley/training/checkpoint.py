"""Checkpoints: where an interrupted training goes on. They lie outside the rule's outputs, which Snakemake
removes when a job dies, and are found by a hash of everything that the result depends on."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foley.tables import atomic_file

log = logging.getLogger(__name__)


class Checkpoint:
    """One training's checkpoint file.

    Args:
        folder: where checkpoints are kept (config: ``cache``).
        facts: what the result depends on: configuration, code, seed. Any change starts anew.
        arrays: the data; hashed by content.
    """

    def __init__(self, folder: Path, facts: Any, *arrays: np.ndarray) -> None:
        whole = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for array in arrays:
            whole.update(str((array.shape, array.dtype)).encode())
            whole.update(np.ascontiguousarray(array).data)
        self.path = folder / "checkpoints" / f"{whole.hexdigest()[:32]}.pt"

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None when there is none or it cannot be read (training then starts anew)."""
        if not self.path.is_file():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged checkpoint must cost time, never the run
            log.warning("checkpoint %s cannot be read (%s): starting anew", self.path, error)
            return None

    def save(self, state: dict[str, Any]) -> None:
        with atomic_file(self.path) as temporary:
            torch.save(state, temporary)

    def discard(self) -> None:
        """Forget the checkpoint, once the outputs are written."""
        self.path.unlink(missing_ok=True)
