"""Extraction of the four representations against librosa, heads of all subsets batched, and what trainings cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from measure import REPOSITORY, Table, interleaved, one_core, times

from foley.classifiers.chunk_network import ChunkNetwork, ChunkTraining, Measure, Targets
from foley.classifiers.chunk_yamnet import ChunkYAMNet, ChunkYAMNetOptions
from foley.classifiers.diverse_transformer import DiverseTransformer, DiverseTransformerOptions
from foley.classifiers.frame_probe import FrameProbe, FrameProbeOptions
from foley.classifiers.subset_heads import SubsetHeads, SubsetHeadsOptions, subsets
from foley.encoders.efficientat import EfficientAT, MobileNet
from foley.encoders.neuralogram import Neuralogram, NeuralogramOptions
from foley.features.mfcc import MFCC
from foley.features.registry import FRAME_KINDS
from foley.features.spectral_peaks import SpectralPeaks
from foley.features.waveform_patches import WaveformPatches
from foley.options import parse_options
from foley.runtime.code import load
from foley.training.loop import Precision, autocast_dtype

TITLE = "Diverse embeddings"
RATE, SECONDS = 16_000, 5
# ESC-50: training and validation clips of a fold, chunks of each, classes.
CLIPS, LOOKED_AT, CHUNKS, CLASSES = 1200, 400, 5, 50
PRESET = REPOSITORY / "experiments" / "diverse_embeddings_esc50.yaml"


def clips(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    time_s = np.arange(SECONDS * RATE) / RATE
    tones = [np.sin(2 * np.pi * (200 + 50 * n) * time_s) for n in range(count)]
    return [(0.3 * x + 0.05 * rng.normal(size=len(x))).astype(np.float32) for x in tones]


def extraction(count: int, repeats: int) -> Table:
    """Clips a second and core, ours and librosa's way of the same feature."""
    import librosa

    sounds = clips(count)

    def peaks(x: np.ndarray) -> np.ndarray:
        power = np.abs(librosa.stft(x, n_fft=1024, hop_length=160)) ** 2
        lowest = np.maximum(power.max(axis=0) * 1e-6, 1e-9)
        return librosa.util.localmax(power, axis=0) & (power >= lowest)

    def cepstra(x: np.ndarray) -> np.ndarray:
        return librosa.feature.mfcc(
            y=x, sr=RATE, n_mfcc=13, n_fft=512, win_length=400, hop_length=160, n_mels=40
        )[1:]

    def patches(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(librosa.util.frame(x, frame_length=400, hop_length=400).T)

    # Random weights: time does not depend on them.
    encoder = EfficientAT(MobileNet(0.4), 0.4)
    windows = Neuralogram(encoder, NeuralogramOptions())

    def one_by_one(x: np.ndarray) -> list[torch.Tensor]:
        """The same windows, resampled by librosa and each embedded on its own."""
        wide = np.pad(librosa.resample(x, orig_sr=RATE, target_sr=32_000), (15_360, 30_720))
        starts = range(0, SECONDS * 32_000, 8_000)
        return [encoder.embed(torch.from_numpy(wide[None, s : s + 30_720])) for s in starts]

    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "spectral peaks": (
            lambda: SpectralPeaks().extract(sounds, RATE),
            lambda: [peaks(x) for x in sounds],
        ),
        "12 MFCC": (lambda: MFCC().extract(sounds, RATE), lambda: [cepstra(x) for x in sounds]),
        "waveform patches": (
            lambda: WaveformPatches().extract(sounds, RATE),
            lambda: [patches(x) for x in sounds],
        ),
        "neuralogram (mn04)": (
            lambda: windows.extract(sounds[:2], RATE),
            lambda: [one_by_one(x) for x in sounds[:2]],
        ),
    }
    rows = []
    for name, (ours, theirs) in pairs.items():
        taken = interleaved({"ours": ours, "librosa": theirs}, repeats, time.process_time)
        rows.append(
            (
                name,
                times(taken["librosa"] / taken["ours"]),
            )
        )
    caption = (
        f"CPU time of extraction from clips of {SECONDS} s at 16 kHz, one core, without decoding. The neuralogram is "
        "held against librosa's resampling and the same windows one by one; patches are a copy of microseconds."
    )
    return Table(caption, ("representation", "librosa / Foley"), rows)


def heads(count: int, epochs: int) -> Table:
    """Training 15 heads as one model, and one by one."""
    rng = np.random.default_rng(0)
    chunks_of_clip, classes = 5, 50
    clip_ids = np.array([f"c{n // chunks_of_clip:05d}" for n in range(count * chunks_of_clip)], dtype=object)
    targets = Targets({c: [n % classes] for n, c in enumerate(sorted(set(clip_ids)))}, classes, False)
    dims = dict.fromkeys(("pitch", "timbre", "waveform", "neuralogram"), 64)
    x = torch.from_numpy(rng.normal(size=(len(clip_ids), 256)).astype(np.float32))
    training = np.arange(int(0.75 * count) * chunks_of_clip)
    validation = np.arange(len(training), len(clip_ids))
    measure = Measure("accuracy", lambda truth, scores: float((scores.argmax(axis=1) == truth).mean()))
    options = SubsetHeadsOptions(epochs=epochs)

    def fit(chosen: list[tuple[str, ...]] | None) -> None:
        made = SubsetHeads(options, dims, targets, 0, chosen)
        made.fit(x, clip_ids, training=training, validation=validation, measure=measure)

    def apart() -> None:
        for own in subsets(list(dims)):
            fit([own])

    taken = interleaved({"as one model": lambda: fit(None), "one by one": apart}, 1, time.process_time)
    rows = [(name, times(taken["one by one"] / seconds)) for name, seconds in taken.items()]
    caption = (
        f"CPU time of 15 linear heads on {count} clips of {chunks_of_clip} chunks, 256 numbers, {classes} classes, "
        f"{epochs} epochs with validation, one core."
    )
    return Table(caption, ("way", "faster"), rows)


def one_step(
    network: ChunkNetwork, inputs: int, frames: int, batch: int, precision: Precision = "auto"
) -> Callable[[], None]:
    """A training step on random chunks, as the loop does it."""
    x, valid = torch.randn(batch, frames, inputs), torch.ones(batch, frames, dtype=torch.bool)
    wanted = torch.randint(0, CLASSES, (batch,))
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    dtype = autocast_dtype(precision, torch.device("cpu"))

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=dtype) if dtype is not None else nullcontext():
            loss = torch.nn.functional.cross_entropy(network(x, valid).float(), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    return step


def precisions(repeats: int) -> Table:
    """A training step of the published network in float32, in mixed precision, and with attention mixed as well."""

    class Mixed(torch.nn.Module):
        """Attention in the precision of everything else."""

        def __init__(self, own: torch.nn.Module) -> None:
            super().__init__()
            self.own = own

        def forward(self, x: torch.Tensor, readable: torch.Tensor | None) -> torch.Tensor:
            parts = self.own.read(x).unflatten(2, (3, self.own.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=readable)
            return self.own.write(mixed.transpose(1, 2).flatten(2))

    inputs, frames, batch = 12, 100, 64
    networks = [DiverseTransformer(inputs, frames, CLASSES, DiverseTransformerOptions()) for _ in range(3)]
    for layer in networks[2].layers:
        layer.attention = Mixed(layer.attention)
    calls = {
        "float32": one_step(networks[0], inputs, frames, batch, "float32"),
        "bfloat16, attention in float32 (ours)": one_step(networks[1], inputs, frames, batch, "bfloat16"),
        "bfloat16 throughout": one_step(networks[2], inputs, frames, batch, "bfloat16"),
    }
    taken = interleaved(calls, repeats, time.process_time)
    rows = [(name, times(taken["float32"] / seconds)) for name, seconds in taken.items()]
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    caption = (
        f"CPU time of a training step of the published size (6 layers, width 64, 12 heads of 64; {batch} chunks of "
        f"{frames} frames), one core {'with' if tiles else 'without'} AMX tiles."
    )
    return Table(caption, ("precision", "speed against float32"), rows)


def steps(repeats: int, preset: Path = PRESET) -> Table:
    """Where the time of the ESC-50 preset goes: steps and looks at validation clips of each network."""
    raw = yaml.safe_load(preset.read_text())
    study = raw["diverse_embeddings"]
    encoders = {"mn04": 384}

    def size(entry: Mapping[str, Any]) -> tuple[int, int]:
        """Numbers in a frame, and frames of a chunk."""
        rate = NeuralogramOptions(frames_per_second=entry.get("frames_per_second", 4)).chunk_frames
        if "embedding" in entry:
            return encoders[entry["embedding"]], rate
        if "network" in entry:
            return parse_options(ChunkYAMNetOptions, entry["network"]["options"], "preset").dim, rate
        stored = raw["features"][entry["feature"]]
        feature = load(FRAME_KINDS[stored["kind"]])
        made = feature(parse_options(feature.Options, stored.get("options", {}), "preset"))
        return made.dim, made.chunk_frames

    sizes = {name: size(entry) for name, entry in study["representations"].items()}
    shared, networks, schedules = study["classifier"]["options"], {}, {}
    for name, entry in study["representations"].items():
        schedules[name] = DiverseTransformerOptions(**shared | entry.get("options", {}))
        networks[name] = DiverseTransformer(*sizes[name], CLASSES, schedules[name])
    behind: dict[str, str] = {}
    for name, entry in study["representations"].items():
        if "network" in entry:
            own = behind[name] = f"{name}: the network behind it"
            stored = size({"feature": entry["feature"]})
            schedules[own], sizes[own] = ChunkYAMNetOptions(**entry["network"]["options"]), stored
            networks[own] = ChunkYAMNet(*stored, CLASSES, schedules[own])
    largest = max(
        sum(_without_head(networks[own]) for name in names for own in (name, behind.get(name)) if own)
        + (sum(networks[name].head.in_features for name in names) + 1) * CLASSES
        for names in study["sets"].values()
    )
    for name, entry in study["baselines"].items():
        read = entry["representation"]
        sizes[name] = sizes[read]
        if "kind" in entry:
            options: Any = FrameProbeOptions(**entry["options"])
            schedules[name] = FrameProbe.with_parameters(largest, *sizes[name], CLASSES, options)
            networks[name] = FrameProbe(*sizes[name], CLASSES, schedules[name])
        else:
            schedules[name] = DiverseTransformer.with_parameters(
                largest, *sizes[name], CLASSES, schedules[read]
            )
            networks[name] = DiverseTransformer(*sizes[name], CLASSES, schedules[name])
    joint = ChunkTraining(**study["joint"]["options"])
    learnt, looked = {}, {}
    for name, network in networks.items():
        step = one_step(network, *sizes[name], schedules[name].batch_size)
        learnt[name] = (
            interleaved({name: step}, repeats, time.process_time)[name] / schedules[name].batch_size
        )
        looked[name] = _look(network, *sizes[name], repeats)
    spent = {name: _training(schedules[name], learnt[name], looked[name]) for name in networks}
    for chosen, names in study["sets"].items():
        spent[f"joint, {chosen}"] = _training(
            joint, sum(learnt[n] for n in names), sum(looked[n] for n in names)
        )
    total = sum(spent.values())
    counts = {name: f"{sum(p.numel() for p in network.parameters()):,}" for name, network in networks.items()}
    rows = [(name, counts.get(name, ""), f"{100 * part / total:.0f} %") for name, part in spent.items()]
    caption = (
        "Where the CPU time of the trainings of the ESC-50 preset goes, steps and looks at validation clips "
        f"({CLIPS} clips of {CHUNKS} chunks train, {LOOKED_AT} validate). Extraction, heads and what is embedded at "
        "the end come on top."
    )
    return Table(caption, ("network", "parameters", "share"), rows)


def _look(network: ChunkNetwork, inputs: int, frames: int, repeats: int) -> float:
    """CPU seconds of scoring a chunk."""
    x, valid = torch.randn(256, frames, inputs), torch.ones(256, frames, dtype=torch.bool)

    @torch.inference_mode()
    def look() -> None:
        network.eval()
        network(x, valid)

    return interleaved({"look": look}, repeats, time.process_time)["look"] / len(x)


def _without_head(network: Any) -> int:
    """What a set trains of a network: all but the head, in whose place the set has one of its own."""
    return sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in network.head.parameters())


def _training(options: ChunkTraining, learnt: float, looked: float) -> float:
    """CPU seconds of a training, from those of a chunk that is learnt and of one that is looked at."""
    looks = -(-options.epochs // options.validate_every)
    return options.epochs * CLIPS * learnt + looks * LOOKED_AT * CHUNKS * looked


def run(quick: bool) -> list[Table]:
    with one_core():
        return [
            extraction(4 if quick else 16, 1 if quick else 5),
            heads(100 if quick else 1200, 1 if quick else 3),
            precisions(1 if quick else 5),
            steps(1 if quick else 3),
        ]
