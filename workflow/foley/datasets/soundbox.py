"""`soundbox`: the embedded dataset. Twelve everyday sounds, synthesised, because no recording may be shipped.

A class has `recordings` (one source, one room, one microphone) of a few `takes` each (another onset, performance and
noise). Clips of one recording are near-duplicates in all but performance, as they are in real collections, so a split
that ignores `recording_id` leaks and one that respects it does not.

Loudness and length tell nothing about the class: duration, RMS level and crest factor are drawn from distributions
that all classes share.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.random import Generator, SeedSequence
from scipy import ndimage, signal

from foley.datasets.soundbox_models import MODELS, SAMPLE_RATE_HZ, shaped_noise, time_axis

CLASSES: tuple[str, ...] = tuple(MODELS)

DURATION_S = (2.0, 4.0)
RMS_DBFS = (-34.0, -22.0)
CREST_DB = (13.5, 18.0)  # with the loudest RMS this still leaves 4 dB below full scale
SNR_DB = (10.0, 32.0)


@dataclass(frozen=True)
class SoundboxOptions:
    """How much to synthesise. `clips_per_class` takes are grouped in recordings of `takes_per_recording`."""

    clips_per_class: int = 40
    takes_per_recording: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("clips_per_class", "takes_per_recording"):
            if getattr(self, name) < 1:
                raise ValueError(f"soundbox: {name} must be at least 1, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"soundbox: seed must not be negative, got {self.seed}")


def synthesise(class_label: str, recording: int, take: int, seed: int) -> np.ndarray:
    """One clip, float32 [T] at `SAMPLE_RATE_HZ`, peak below 1, T between 2 and 4 s.

    The same four arguments give the same samples on every machine with the same numpy and scipy.

    Raises `ValueError` for a class that is not in `CLASSES`.
    """
    if class_label not in MODELS:
        raise ValueError(f"soundbox has no class {class_label!r}; it has {', '.join(CLASSES)}")
    # SeedSequence pads with zeros, so the recording itself takes slot 0 and takes count from 1.
    key = (seed, CLASSES.index(class_label), recording)
    source_seed, place_seed = SeedSequence((*key, 0)).spawn(2)
    source, place = np.random.default_rng(source_seed), np.random.default_rng(place_seed)
    performance, capture = (np.random.default_rng(s) for s in SeedSequence((*key, take + 1)).spawn(2))

    samples = round(capture.uniform(*DURATION_S) * SAMPLE_RATE_HZ)
    dry = MODELS[class_label](source, performance, samples)
    # Limiting comes before the room (it would lift the reverberation) and once more, gently, at the very end.
    crest_target_db = capture.uniform(*CREST_DB)
    clip = record(set_crest(dry, crest_target_db, capture), place)
    clip = clip / rms(clip) + background(capture, place, samples)
    clip = set_crest(clip, crest_target_db, capture)
    clip = clip / rms(clip) * 10 ** (capture.uniform(*RMS_DBFS) / 20)
    return np.clip(clip, -0.999, 0.999).astype(np.float32)


def rms(clip: np.ndarray) -> float:
    """Root mean square of a clip [T]."""
    return float(np.sqrt(np.mean(np.square(clip))) + 1e-12)


def record(dry: np.ndarray, place: Generator) -> np.ndarray:
    """Put a source [T] into the room and before the microphone that `place` draws, [T]."""
    t60_s = place.uniform(0.1, 0.4)
    wet = place.uniform(0.03, 0.15)
    low_cut_hz, high_cut_hz = place.uniform(35, 90), place.uniform(6500, 7800)
    tilt = place.uniform(-0.15, 0.15)

    t = time_axis(round(t60_s * SAMPLE_RATE_HZ))
    tail = place.standard_normal(len(t)) * np.exp(-6.908 * t / t60_s)
    tail[: round(0.004 * SAMPLE_RATE_HZ)] = 0
    response = wet * tail / np.linalg.norm(tail)
    response[0] = 1.0
    clip = signal.fftconvolve(dry, response)[: len(dry)]
    clip = signal.lfilter([1.0, tilt], [1.0], clip)
    sos = signal.butter(1, (low_cut_hz, high_cut_hz), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return signal.sosfilt(sos, clip)


def background(capture: Generator, place: Generator, samples: int) -> np.ndarray:
    """Room tone below a source of RMS 1, [T]; its colour belongs to the place, its level to the take."""
    slope_db = place.uniform(-9.0, -3.0)  # a decade of frequency spans 3.3 octaves
    tone = shaped_noise(capture, samples, [(50, 0.0), (8000, 7.3 * slope_db)])
    return tone * 10 ** (-capture.uniform(*SNR_DB) / 20)


def set_crest(clip: np.ndarray, target_db: float, capture: Generator) -> np.ndarray:
    """Bring the crest factor (peak over RMS) of a clip [T] to `target_db` without clipping it.

    Impulsive clips go through a look-ahead limiter; steady ones get a slow swell, as of a source that comes nearer
    and leaves. The strength of either is found by bisection. Without this, crest alone would tell knocks from rain.
    """
    # Drawn in either case, so the branch does not shift later draws.
    nearest, width = capture.uniform(0.15, 0.85), capture.uniform(0.3, 0.5)
    peak = np.abs(clip).max()
    if crest_db(clip) > target_db:
        # The maximum over the window never lets a peak through, and its smoothing keeps the gain from buzzing.
        window = round(0.0015 * SAMPLE_RATE_HZ)
        level = ndimage.maximum_filter1d(np.abs(clip), 2 * window)
        level = ndimage.uniform_filter1d(level, window)

        def shape(strength: float) -> np.ndarray:
            return clip * np.minimum(1.0, peak * 10 ** (-3 * strength) / (level + 1e-9 * peak))

        def too_weak(track: np.ndarray) -> bool:
            return crest_db(track) > target_db
    else:
        swell = np.exp(-0.5 * ((np.linspace(0, 1, len(clip)) - nearest) / width) ** 2)

        def shape(strength: float) -> np.ndarray:
            return clip * np.exp(12 * strength * (swell - 1))

        def too_weak(track: np.ndarray) -> bool:
            return crest_db(track) < target_db

    weak, strong = 0.0, 1.0
    for _ in range(10):
        middle = (weak + strong) / 2
        weak, strong = (middle, strong) if too_weak(shape(middle)) else (weak, middle)
    return shape(strong)


def crest_db(clip: np.ndarray) -> float:
    """Peak over RMS of a clip [T], in dB."""
    return float(20 * np.log10(np.abs(clip).max() / rms(clip)))


def recording_id(class_label: str, recording: int) -> str:
    """Name of a recording; file names start with it."""
    return f"{class_label}-r{recording:02d}"


def clip_keys(options: SoundboxOptions) -> Iterator[tuple[str, int, int]]:
    """(class label, recording, take) of every clip, in file order."""
    for label in CLASSES:
        for number in range(options.clips_per_class):
            yield label, *divmod(number, options.takes_per_recording)


def write_tree(
    root: Path, options: SoundboxOptions, progress: Callable[..., Iterable[Any]] | None = None
) -> None:
    """Write the dataset as a folder of clips: `root/<label>/<label>-r<recording>-t<take>.wav`, 16-bit PCM.

    Each file appears whole or not at all. `progress(iterable, total=…)` may wrap the loop, as `tqdm` does.
    """
    keys = list(clip_keys(options))
    for label in CLASSES:
        (root / label).mkdir(parents=True, exist_ok=True)
    for label, recording, take in progress(keys, total=len(keys)) if progress else keys:
        path = root / label / f"{recording_id(label, recording)}-t{take}.wav"
        write_clip(path, synthesise(label, recording, take, options.seed))


def write_clip(path: Path, clip: np.ndarray) -> None:
    """Write a clip [T] as 16-bit WAV through a temporary file in the same folder and an atomic rename."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            soundfile.write(file, clip, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
