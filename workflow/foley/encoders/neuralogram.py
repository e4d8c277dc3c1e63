"""The neuralogram: a network's activations over time, as a picture of a clip (Verma, arXiv 2309.08751: 1024
activations of a pretrained MobileNet, YAMNet).

A frame is what an encoder makes of a short window around a point in time; windows follow one another by a hop. Any
encoder of this room will do: it sees windows, never the whole clip, so nothing is averaged over time but within a
window. The window and hop of the paper could not be verified here; 0.96 s is what YAMNet sees, four frames a
second are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from foley import tables
from foley.audio.decode import resample
from foley.audio.store import Progress, iter_waveforms
from foley.encoders.protocol import AudioEncoder
from foley.features.extract import chunk_rows
from foley.features.frames import CHUNK_S, frame_facts, pack
from foley.tables.features import FRAMES
from foley.training.halving import batches_that_fit

# Windows that an encoder sees at once.
_WINDOWS_AT_ONCE = 64


@dataclass(frozen=True)
class NeuralogramOptions:
    """``window_s``: what one frame hears; ``frames_per_second``: windows begin so often."""

    window_s: float = 0.96
    frames_per_second: int = 4

    def __post_init__(self) -> None:
        if self.window_s <= 0 or self.frames_per_second < 1:
            raise ValueError("window_s must be positive, frames_per_second at least 1")

    @property
    def chunk_frames(self) -> int:
        return round(CHUNK_S * self.frames_per_second)


def sliding_windows(values: Tensor, window: int, hop: float, count: int) -> Tensor:
    """[T, ...] -> [count, window, ...]: window k is centred at k x hop; zeros lie outside.

    Args:
        hop: may be a fraction of a sample; windows begin at the nearest one.
    """
    starts = torch.round(torch.arange(count, dtype=torch.float64) * hop).long()
    needed = int(starts[-1]) + window - window // 2
    padding = [0, 0] * (values.dim() - 1) + [window // 2, max(0, needed - len(values))]
    padded = functional.pad(values, padding)
    return padded[starts[:, None] + torch.arange(window)]


def frame_count(samples: int, hop: float) -> int:
    """Frames of a clip of so many samples, at least one."""
    return max(1, int(np.ceil(round(samples / hop, 6))))


class Neuralogram:
    """Clips -> frames [F_i, dim] of a pretrained encoder."""

    def __init__(self, encoder: AudioEncoder, options: NeuralogramOptions) -> None:
        self.encoder, self.options = encoder, options
        seconds = max(options.window_s, encoder.min_duration_s)
        self.window = round(seconds * encoder.sample_rate_hz)
        self.hop = encoder.sample_rate_hz / options.frames_per_second

    @torch.inference_mode()
    def extract(self, waveforms: Sequence[np.ndarray], sample_rate_hz: int) -> list[np.ndarray]:
        """Clips [T_i] at any rate -> [F_i, dim] float32. Windows of all clips go through together."""
        parts = []
        for samples in waveforms:
            own = torch.from_numpy(
                np.ascontiguousarray(resample(samples, sample_rate_hz, self.encoder.sample_rate_hz))
            )
            parts.append(sliding_windows(own, self.window, self.hop, frame_count(len(own), self.hop)))
        windows = torch.cat(parts)
        encoder = self.encoder
        found = torch.cat(
            list(
                batches_that_fit(
                    lambda part: encoder.embed(windows[part]).float().cpu(),
                    len(windows),
                    _WINDOWS_AT_ONCE,
                    encoder.name,
                )
            )
        )
        return [part.numpy() for part in found.split([len(part) for part in parts])]


def extract_neuralogram(
    output: Path,
    *,
    audio: Path,
    target: str,
    weights: Path,
    options: NeuralogramOptions,
    batch_size: int = 16,
    threads: int = 1,
    progress: Progress = iter,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """The neuralogram of one shard of clips, by a pretrained encoder (``target``; its module has ``load``)."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    made = Neuralogram(import_module(target.partition(":")[0]).load(weights, device), options)
    facts = {**(provenance or {}), **frame_facts(made.encoder.dim, options.chunk_frames, "float16", True)}
    with tables.writer(output, FRAMES, facts) as out:
        for ids, waveforms, rate in progress(iter_waveforms(audio, batch_size=batch_size)):
            frames = [pack(part, "float16") for part in made.extract(waveforms, rate)]
            out.write(chunk_rows(ids, frames, options.chunk_frames))


def network_neuralogram(
    embed: Callable[[Tensor], Tensor],
    spectrogram: Tensor,
    window_frames: int,
    spectrogram_hop: float,
    silence: Tensor | float = 0.0,
) -> np.ndarray:
    """Frames [F, dim] of a network that reads spectrogram windows [B, window_frames, mels].

    Args:
        spectrogram: [T, mels] of a whole clip.
        spectrogram_hop: spectrogram frames from one window to the next.
        silence: what lies outside the clip.
    """
    count = frame_count(len(spectrogram), spectrogram_hop)
    windows = sliding_windows(spectrogram - silence, window_frames, spectrogram_hop, count) + silence
    return torch.cat([embed(part) for part in windows.split(_WINDOWS_AT_ONCE)]).float().cpu().numpy()
