"""Prompted generators at full size with random weights: clips a second by batch size and precision, against a loop that
makes clip by clip in float32, and peak memory.

    python benchmarks/prompted.py                     # all; needs CUDA
    python benchmarks/prompted.py --only audiogen
    python benchmarks/prompted.py --tiny              # tiny checkpoints on the CPU, to see that all works

Random weights take as long as trained ones: nothing in these models ends early. Checkpoints are written to a temporary
folder in the published formats (16 GB for all, one at a time) and loaded by the real loading code.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import REPOSITORY, Table, times

sys.path.insert(0, str(REPOSITORY / "tests"))
import tiny_audiocraft
import tiny_audioldm
from foley.generators.registry import PROMPTED_KINDS
from foley.options import parse_options
from foley.runtime.code import load

TITLE = "Prompted generators"
# Of one length in tokens, as the generators put them into batches.
PROMPT = "a dog sound"
T5 = {
    "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    "t5-large": {"d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_layers": 24, "num_heads": 16},
}


def write_audiocraft(folder: Path, *, t5: str, rate_hz: int, ratios: Sequence[int], longest_s: float) -> Path:
    """A language model of 1.5 B weights over EnCodec's four streams at 50 Hz (arXiv 2306.05284, table 1)."""
    folder.mkdir(parents=True)
    tiny_audiocraft.write_tiny_t5(folder / t5, **T5[t5])
    codec, model = tiny_audiocraft.codec_config(), tiny_audiocraft.language_model_config(1)
    codec["encodec"]["sample_rate"] = rate_hz
    codec["seanet"] |= {"dimension": 128, "n_filters": 64, "ratios": list(ratios), "lstm": 2}
    codec["rvq"]["bins"] = 2048
    model["dataset"]["segment_duration"] = longest_s
    model["transformer_lm"] |= {
        "dim": 1536,
        "num_heads": 24,
        "num_layers": 48,
        "hidden_scale": 4,
        "card": 2048,
    }
    model["conditioners"]["description"]["t5"]["name"] = t5
    return tiny_audiocraft.write_audiocraft(folder, codec, model)


def write_audiogen(folder: Path) -> Path:
    return write_audiocraft(folder, t5="t5-large", rate_hz=16_000, ratios=[8, 5, 4, 2], longest_s=10.0)


def write_musicgen(folder: Path) -> Path:
    return write_audiocraft(folder, t5="t5-base", rate_hz=32_000, ratios=[8, 5, 4, 4], longest_s=30.0)


def unet_of_audioldm2() -> Any:
    """Of cvssp/audioldm2, with channels for the 0.76 B weights that the network of the large model has about."""
    import diffusers

    return diffusers.AudioLDM2UNet2DConditionModel(
        block_out_channels=(192, 384, 576, 960), layers_per_block=2, in_channels=8, out_channels=8, sample_size=256,
        attention_head_dim=8, down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
        up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"), cross_attention_dim=((None, 768, 1024),) * 4,
    )  # fmt: skip


def write_audioldm2(folder: Path) -> Path:
    """As cvssp/audioldm2, with the network of :func:`unet_of_audioldm2`."""
    import diffusers
    import transformers

    small = tiny_audioldm.audioldm2_parts()
    vae = diffusers.AutoencoderKL(
        in_channels=1, out_channels=1, latent_channels=8, layers_per_block=2, block_out_channels=[128, 256, 512],
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3, sample_size=1024,
    )  # fmt: skip
    vocoder = transformers.SpeechT5HifiGan(
        transformers.SpeechT5HifiGanConfig(
            model_in_dim=64, sampling_rate=16_000, upsample_initial_channel=1024, upsample_rates=[5, 4, 2, 2, 2],
            upsample_kernel_sizes=[16, 16, 8, 4, 4], normalize_before=False,
        )
    )  # fmt: skip
    t5 = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=len(small["tokenizer_2"]), d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_heads=16,
            feed_forward_proj="gated-gelu",
        )
    )  # fmt: skip
    parts = small | {
        "unet": unet_of_audioldm2(),
        "vae": vae,
        "vocoder": vocoder,
        "text_encoder": transformers.ClapModel(transformers.ClapConfig()),
        "text_encoder_2": t5,
        "language_model": transformers.GPT2Model(transformers.GPT2Config(max_new_tokens=8)),
        "projection_model": diffusers.AudioLDM2ProjectionModel(
            text_encoder_dim=512, text_encoder_1_dim=1024, langauge_model_dim=768
        ),
        "feature_extractor": transformers.ClapFeatureExtractor(truncation="rand_trunc"),
    }
    diffusers.AudioLDM2Pipeline(**parts).save_pretrained(folder)
    return folder


def write_stable_audio(folder: Path) -> Path:
    """Stable Audio Open 1.0: the transformer of 1.1 B weights and the autoencoder are diffusers' defaults."""
    import diffusers
    import transformers

    small = tiny_audioldm.stable_audio_parts()
    parts = small | {
        "transformer": diffusers.StableAudioDiTModel(),
        "vae": diffusers.AutoencoderOobleck(),
        "text_encoder": transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=len(small["tokenizer"]), **T5["t5-base"])
        ),
        "projection_model": diffusers.StableAudioProjectionModel(
            text_encoder_dim=768, conditioning_dim=768, min_value=0, max_value=512
        ),
    }
    diffusers.StableAudioPipeline(**parts).save_pretrained(folder)
    return folder


# Kind: (writes the checkpoint at full size, at tiny size, length of a clip, largest batch).
MODELS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Path], float, int]] = {
    "audiogen": (write_audiogen, tiny_audiocraft.write_tiny_audiocraft, 5.0, 128),
    "musicgen": (write_musicgen, lambda p: tiny_audiocraft.write_tiny_audiocraft(p, channels=2), 10.0, 64),
    "audioldm2": (write_audioldm2, tiny_audioldm.write_tiny_audioldm2, 5.0, 64),
    "stable_audio": (write_stable_audio, tiny_audioldm.write_tiny_stable_audio, 5.0, 16),
}


def clips_a_second(generator: Any, batch: int, duration_s: float, count: int) -> float:
    """Throughput of batches of ``batch`` until ``count`` clips are made; one batch runs before the clock starts."""

    def make(first: int) -> None:
        generator.generate([PROMPT] * batch, list(range(first, first + batch)), duration_s)

    make(0)
    rounds = max(1, count // batch)
    started = time.perf_counter()
    for number in range(rounds):
        make(number * batch)
    return rounds * batch / (time.perf_counter() - started)


def measure(kind: str, tiny: bool) -> Table:
    write_full, write_tiny, duration_s, largest = MODELS[kind]
    cuda = torch.cuda.is_available()
    if tiny:
        duration_s, largest = 0.2, 4
    batches = [n for n in (1, 4, 16, 32, 64, 128) if n <= largest]
    target = load(PROMPTED_KINDS[kind])
    steps = {"steps": 2} if tiny and kind in ("audioldm2", "stable_audio") else {}
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = (write_tiny if tiny else write_full)(Path(folder) / kind)
        loop = None
        for precision in ("float32", "bfloat16", *(["float16"] if cuda else [])):
            options = {"model": str(model), "precision": precision, "batch_size": largest, **steps}
            generator = target(parse_options(target.Options, options, "options"))
            for batch in batches:
                if cuda:
                    torch.cuda.reset_peak_memory_stats()
                generator.batch_size = largest
                rate = clips_a_second(generator, batch, duration_s, count=max(batch, 2))
                loop = rate if loop is None else loop  # the first is one clip at once, in float32
                peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if cuda else "–"
                # Half of a batch at once is another size.
                fitted = "" if generator.batch_size >= batch else f" ({generator.batch_size} fitted)"
                rows.append([precision, f"{batch}{fitted}", f"{rate:.3g}", times(rate / loop), peak])
                print(kind, *rows[-1], flush=True)
            del generator
            gc.collect()
            if cuda:
                torch.cuda.empty_cache()
    device = torch.cuda.get_device_name() if cuda else "CPU"
    size = "tiny" if tiny else "full size"
    return Table(
        f"{kind}, {size}, random weights, clips of {duration_s:g} s, {device}. The first row is the loop.",
        ("precision", "clips at once", "clips/s", "against the loop", "peak memory, GiB"),
        rows,
    )


def run(quick: bool, kinds: Sequence[str] = tuple(MODELS)) -> list[Table]:
    return [measure(kind, tiny=quick) for kind in kinds]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", "--quick", action="store_true", help="tiny checkpoints; also on the CPU")
    parser.add_argument("--only", action="append", choices=MODELS, help="one kind; repeatable")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        print("Full-size generators need a CUDA device, and there is none; --tiny runs tiny ones on the CPU.")
        return 1
    for table in run(arguments.tiny, arguments.only or tuple(MODELS)):
        print(f"\n{table.markdown()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
