"""What experiments/foundation_smoke.yaml needs: few clips, tiny random checkpoints in the real formats of the models,
and a language model on loopback that speaks Gemini's REST protocol.

    python tests/smoke_parts.py [cores]     makes them below .foley/smoke, runs the preset, and stops the language model
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "workflow"))

from project import write_clips

from gemini_stub import KEY, GeminiStub
from tiny_audiocraft import write_tiny_audiocraft
from tiny_audioldm import write_tiny_audioldm2
from tiny_clap import write_tiny_clap
from tiny_efficientat import write_tiny_efficientat
from tiny_ssast import write_tiny_ssast

PRESET = "experiments/foundation_smoke.yaml"
PLACE = Path(".foley/smoke")


def write_parts(folder: Path) -> None:
    """Clips and checkpoints below ``folder``; those of audiocraft and diffusers load as the published ones do."""
    write_clips(folder / "clips")
    write_tiny_audiocraft(folder / "audiogen")
    write_tiny_audioldm2(folder / "audioldm2")
    write_tiny_ssast(folder / "ssast.pth")
    write_tiny_efficientat(folder / "mn01.pt")
    write_tiny_clap(folder / "clap")


def main(cores: str) -> int:
    if not (PLACE / "clap").is_dir():  # the last that is made
        write_parts(PLACE)
    with GeminiStub() as stub:
        url = {"base_url": stub.url}
        prompts = {name: {"options": url} for name in ("gemini", "gemini_legacy")}
        preset = ["--configfile", PRESET, "--config", f"prompts={prompts}"]
        return subprocess.call(
            [sys.executable, "-m", "snakemake", "--cores", cores, *preset],
            env=os.environ | {"GEMINI_API_KEY": KEY},
        )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or ["all"]))
