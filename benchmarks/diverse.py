"""Extraction of the four representations against librosa, heads of all subsets batched, and a step of each network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import REPOSITORY, Table, interleaved, one_core, times

from foley.classifiers.chunk_network import ChunkNetwork, Measure, Targets
from foley.classifiers.diverse_transformer import DiverseTransformer, DiverseTransformerOptions
from foley.classifiers.subset_heads import SubsetHeads, SubsetHeadsOptions, subsets
from foley.encoders.efficientat import EfficientAT, MobileNet
from foley.encoders.neuralogram import Neuralogram, NeuralogramOptions
from foley.features.mfcc import MFCC
from foley.features.spectral_peaks import SpectralPeaks
from foley.features.waveform_patches import WaveformPatches

TITLE = "Diverse embeddings"
RATE, SECONDS = 16_000, 5
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
    whole, windows = torch.from_numpy(np.stack(sounds)), Neuralogram(encoder, NeuralogramOptions())

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
        taken = interleaved({"ours": ours, "librosa": theirs}, repeats)
        number = 2 if name.startswith("neuralogram") else len(whole)
        rows.append(
            (
                name,
                f"{number / taken['ours']:.0f}",
                f"{number / taken['librosa']:.0f}",
                times(taken["librosa"] / taken["ours"]),
            )
        )
    caption = (
        f"Extraction from clips of {SECONDS} s at 16 kHz, one core, without decoding. The neuralogram is held against "
        "librosa's resampling and the same windows one by one."
    )
    return Table(caption, ("representation", "clips/s", "librosa, clips/s", "faster"), rows)


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

    taken = interleaved({"batched": lambda: fit(None), "one by one": apart}, 1)
    rows = [(name, f"{seconds:.1f}", times(taken["one by one"] / seconds)) for name, seconds in taken.items()]
    caption = (
        f"15 linear heads on {count} clips of {chunks_of_clip} chunks, 256 numbers, {classes} classes, {epochs} epochs "
        "with validation, one core."
    )
    return Table(caption, ("way", "seconds", "faster"), rows)


def cpu_seconds(network: ChunkNetwork, inputs: int, frames: int, classes: int, batch: int) -> float:
    """CPU time of a training step, the better of two after one that is not counted."""
    x, valid = torch.randn(batch, frames, inputs), torch.ones(batch, frames, dtype=torch.bool)
    wanted = torch.randint(0, classes, (batch,))
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    taken = []
    for _ in range(3):
        start = time.process_time()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x, valid), wanted).backward()
        optimiser.step()
        taken.append(time.process_time() - start)
    return min(taken[1:])


def steps(preset: Path = PRESET, clips_trained: int = 1200) -> Table:
    """A training step of each network of the ESC-50 preset, and what follows for all of it."""
    study = yaml.safe_load(preset.read_text())["diverse_embeddings"]
    shared = study["classifier"]["options"]
    sizes = {"pitch": (513, 50), "timbre": (12, 50), "waveform": (400, 40), "neuralogram": (384, 4)}
    runs = len(study["splits"]) * study["seeds"]
    rows, joint, total, parameters = [], 0.0, 0.0, 0
    for name, (inputs, frames) in sizes.items():
        options = DiverseTransformerOptions(**shared, **study["representations"][name].get("options", {}))
        network = DiverseTransformer(inputs, frames, 50, options)
        own = sum(p.numel() for p in network.parameters())
        parameters += own
        spent = cpu_seconds(network, inputs, frames, 50, options.batch_size)
        whole = spent * options.epochs * -(-clips_trained // options.batch_size)
        # The own neuralogram's transformer costs what the pretrained one's does.
        times_trained = 2 if name == "neuralogram" else 1
        joint, total = joint + spent, total + whole * times_trained
        rows.append((name, f"{own:,}", f"{1000 * spent:.0f}", f"{whole / 60:.1f}"))
    options = DiverseTransformerOptions(**shared, **study["representations"]["waveform"]["options"])
    wide = DiverseTransformer.with_parameters(parameters, 400, 40, 50, options)
    spent = cpu_seconds(DiverseTransformer(400, 40, 50, wide), 400, 40, 50, wide.batch_size)
    whole = spent * wide.epochs * -(-clips_trained // wide.batch_size)
    rows.append(("end_to_end, widened", f"{parameters:,}", f"{1000 * spent:.0f}", f"{whole / 60:.1f}"))
    together = joint * study["joint"]["options"]["epochs"] * -(-clips_trained // 64)
    rows.append(("joint, all four", f"{parameters:,}", f"{1000 * joint:.0f}", f"{together / 60:.1f}"))
    total += whole + len(study["sets"]) * together
    caption = (
        f"CPU time of a training step of the ESC-50 preset, {clips_trained} clips, one core. All {runs} folds and "
        f"seeds: {runs * total / 3600:.1f} core hours of such steps; validation, the network from scratch, "
        "features and heads come on top."
    )
    return Table(caption, ("network", "parameters", "ms a step", "CPU minutes a training"), rows)


def run(quick: bool) -> list[Table]:
    with one_core():
        return [
            extraction(4 if quick else 16, 1 if quick else 5),
            heads(100 if quick else 1200, 1 if quick else 3),
            steps(clips_trained=1200),
        ]
