"""What the tests of `foley.training.processes` run in several processes; they import it by name."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

from foley.training.processes import SharedCheckpoint, current


def train_until_killed(folder: Path, saves: int, **training: Any) -> None:
    """Train a generator; when the main process has saved its checkpoint so often, the caller is killed."""
    from foley.generators.audio import mel_diffusion
    from foley.studies.audio.train_generator import train_generator

    (folder / f"{os.getpid()}.pid").touch()
    mel_diffusion.CHECKPOINT_EVERY_S = 0.0
    save, done = SharedCheckpoint.save, []

    def save_and_kill(self: SharedCheckpoint, state: dict[str, Any]) -> None:
        save(self, state)
        done.append(state["epochs_done"])
        if current().is_main and len(done) == saves:
            launcher = Path(f"/proc/{os.getppid()}/stat").read_text()
            os.kill(int(launcher.rpartition(")")[2].split()[1]), signal.SIGKILL)
            time.sleep(60)

    SharedCheckpoint.save = save_and_kill  # type: ignore[method-assign]
    train_generator(**training)


def train_with_scarce_memory(output: Path, options: Any) -> None:
    """Train where process 1 has memory for one image at a time; then with a clip that makes the loss infinite."""
    import torch
    from diffusers import UNet2DModel

    from foley.generators.audio.mel_diffusion import MelDiffusion
    from test_mel_diffusion import toy_clips

    forward, seen = UNet2DModel.forward, []

    def scarce(self: Any, sample: Any, *args: Any, **more: Any) -> Any:
        seen.append(len(sample))
        if current().rank == 1 and len(sample) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, sample, *args, **more)

    UNet2DModel.forward = scarce
    clips = toy_clips()
    model = MelDiffusion(options, seed=3)
    model.fit(clips)
    if current().is_main:
        assert seen == [2, 1]  # its shares of two batches, whole: the other's need is not its own
        torch.save([[p.detach() for p in model.trained.parameters()], model.history.rows], output)
    images = model.mel.images(model.mel.cut(clips.waveforms, clips.sample_rate_hz))
    images[4] = torch.inf
    MelDiffusion(dataclasses.replace(options, epochs=1), seed=3).fit_images(
        images, clips.classes, clips.clip_ids
    )


def lose_one(folder: Path) -> None:
    """Process 1 is killed while the others wait for it."""
    import torch

    if current().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    current().add_up([torch.ones(3)])
    (folder / "went on").touch()
