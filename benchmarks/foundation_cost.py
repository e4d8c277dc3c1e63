"""What the published set-ups of the study `foundation` cost, before any is spent: clips, trainings, GPU-hours, tokens.

    python benchmarks/foundation_cost.py [--teraflops 30]

GPU-hours are floating-point operations, counted in the built networks, over an assumed sustained rate: an estimate, and
for language models that write token by token a lower bound, since they wait for memory rather than compute.
"""

from __future__ import annotations

import argparse
import functools
import math

import torch
import yaml
from measure import REPOSITORY, Table
from prompted import unet_of_audioldm2
from torch.utils.flop_counter import FlopCounterMode

from foley.classifiers.ssast import SSASTOptions
from foley.config import Foundation

TITLE = "Cost of the published set-ups of `foundation`"
# Classes with clips: of UCF101 those with sound.
CLASSES = {"esc50": 50, "gtzan": 10, "ucf101": 51, "activitynet": 200}
# Requests and input tokens of ten texts a class with a second opinion, at four characters a token (docs/prompts.md).
ASKED = {"esc50": (102, 41_000), "gtzan": (20, 8_000), "ucf101": (102, 41_000), "activitynet": (404, 161_000)}
# AudioGen and MusicGen medium: weights of the transformer that every token passes, frames a second, guided and not.
LANGUAGE_MODEL, FRAMES_A_SECOND, PASSES = 48 * (4 + 8 + 4) * 1536**2, 50, 2
AUDIOLDM2_STEPS, LATENT_FRAMES_A_SECOND, LATENT_MELS = 50, 25, 16
SSAST = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def clip_operations(kind: str, duration_s: float) -> float:
    """Floating-point operations of one clip, without text encoder, decoder and vocoder."""
    if kind in ("audiogen", "musicgen"):
        return 2.0 * LANGUAGE_MODEL * PASSES * math.ceil(duration_s * FRAMES_A_SECOND)
    return _unet_operations(math.ceil(duration_s * LATENT_FRAMES_A_SECOND)) * AUDIOLDM2_STEPS * PASSES


@functools.cache
def _unet_operations(frames: int) -> float:
    frames = math.ceil(frames / 8) * 8  # three halvings
    with torch.device("meta"):
        unet = unet_of_audioldm2()
        image = torch.empty(1, 8, frames, LATENT_MELS)
        text, words = torch.empty(1, 12, 768), torch.empty(1, 12, 1024)
        mask = torch.ones(1, 12)
        step = torch.zeros(1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(
            image, step, encoder_hidden_states=text, encoder_hidden_states_1=words, encoder_attention_mask=mask,
            encoder_attention_mask_1=mask,
        )  # fmt: skip
    return float(counter.get_total_flops())


@functools.cache
def step_operations(frames: int, batch_size: int) -> float:
    """Floating-point operations of a training step of SSAST Base with strides of 10."""
    from transformers import ASTConfig, ASTModel

    with torch.device("meta"):
        network = ASTModel(
            ASTConfig(max_length=frames, frequency_stride=10, time_stride=10, num_mel_bins=128, **SSAST)
        )
        features = torch.empty(batch_size, frames, 128)
    with FlopCounterMode(display=False) as counter:
        network(features).last_hidden_state.sum().backward()
    return float(counter.get_total_flops())


def table(teraflops: float) -> Table:
    """A row for each preset."""
    rows = []
    for name, classes in CLASSES.items():
        path = REPOSITORY / "experiments" / f"foundation_{name}.yaml"
        preset = yaml.safe_load(path.read_text(encoding="utf-8"))
        study = Foundation.model_validate(preset["foundation"])
        clips, making = 0, 0.0
        for source in study.sources:
            entry = preset["audio_generators"][source.generator]
            made = classes * entry["clips_per_class"]
            clips += made
            making += made * clip_operations(entry["kind"], entry["options"]["duration_s"])
        ((_, recogniser),) = preset["audio_classifiers"].items()
        options = SSASTOptions(**recogniser["options"])
        mixes = len(study.sources) * len(study.amounts)
        of_split = mixes + len(study.real_percents) * (1 + mixes * len(study.filters))
        trainings = of_split * len(study.splits) * len(study.protocols) * recogniser["seeds"]
        training = trainings * options.steps * step_operations(options.frames, options.batch_size)
        requests, tokens = ASKED[name]
        hours = [operations / (teraflops * 1e12) / 3600 for operations in (making, training)]
        rows.append(
            (
                f"foundation_{name}", f"{clips:,}", f"{making / 1e15:.1f}", f"{hours[0]:.1f}", f"{trainings:,}",
                f"{training / trainings / 1e15:.1f}", f"{hours[1]:,.0f}", f"{requests}", f"{tokens:,}",
            )
        )  # fmt: skip
    caption = (
        "Operations are counted in the networks at full size (SSAST Base; the U-Net of AudioLDM 2 large, whose exact "
        "widths are not known here; for AudioGen and MusicGen 2 x weights x tokens x 2 for guidance). Hours are "
        f"**estimates** at an assumed sustained {teraflops:g} TFLOP/s; what a GPU does, `benchmarks/prompted.py` "
        "measures. Tokens are those of the questions, at four characters each; answers and thinking come on top."
    )
    columns = (
        "preset", "clips", "making them, PFLOP", "GPU h", "trainings", "PFLOP a training", "GPU h", "requests",
        "tokens sent",
    )  # fmt: skip
    return Table(caption, columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teraflops", type=float, default=30.0, help="assumed sustained rate")
    print(table(parser.parse_args().teraflops).markdown())


if __name__ == "__main__":
    main()
