"""Raw audio to log-mel: Foley against librosa clip by clip, and against decoding and a bare FFT."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import librosa
import numpy as np
import soundfile
import soxr
import torch
from measure import Table, cores, interleaved, one_core, times

from foley.audio.decode import decode
from foley.datasets.folder import Folder
from foley.datasets.ingest import IngestOptions, ingest_shard
from foley.features.extract import extract_shard
from foley.features.logmel import LogMel
from foley.runtime.memory import keep_freed_memory

TITLE = "Decode, resample, log-mel"
FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS")}
SOURCE_HZ, CLIP_S, BATCH = 44_100, 5, 32
# The feature's window of 25 ms every 10 ms, at the rate of the files; FFT lengths are products of small primes.
SOURCE_WINDOW, SOURCE_HOP, SOURCE_FFT = 1102, 441, 1440


def make_clip(number: int) -> np.ndarray:
    """Fading harmonics and bursts of noise over a quiet floor, float32 [T]."""
    rng = np.random.default_rng(number)
    time = np.arange(SOURCE_HZ * CLIP_S) / SOURCE_HZ
    pitch, fade = rng.uniform(100, 900), np.exp(-3 * (time % rng.uniform(0.5, 2)))
    tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 9))
    burst = rng.standard_normal(len(time)) * np.exp(-20 * (time % rng.uniform(0.3, 1)))
    clip = 0.15 * tone * fade + 0.1 * burst + 0.003 * rng.standard_normal(len(time))
    return np.clip(clip, -1, 1).astype(np.float32)


def write_clips(folder: Path, count: int) -> dict[str, list[Path]]:
    """The same clips in each format: `<folder>/<format>/raw/clips/<number>.<format>`."""
    paths: dict[str, list[Path]] = {name: [] for name in FORMATS}
    for name in FORMATS:
        (folder / name / "raw" / "clips").mkdir(parents=True)
    for number in range(count):
        clip = make_clip(number)
        for name, (container, subtype) in FORMATS.items():
            path = folder / name / "raw" / "clips" / f"{number:04d}.{name}"
            soundfile.write(path, clip, SOURCE_HZ, format=container, subtype=subtype)
            paths[name].append(path)
    return paths


@cache
def log_mel() -> LogMel:
    return LogMel()


def foley_features(paths: Sequence[Path]) -> np.ndarray:
    """What the workflow computes for a shard, in its batches [clips, frames, bands]."""
    feature = log_mel()
    rate = feature.options.sample_rate_hz
    parts = []
    for start in range(0, len(paths), BATCH):
        waveforms = [decode(path, rate).samples for path in paths[start : start + BATCH]]
        parts.append(feature.extract(waveforms, rate)[0])
    return np.concatenate(parts).reshape(len(paths), *feature.shape)


def librosa_features(paths: Sequence[Path]) -> np.ndarray:
    """The same feature with the same parameters, clip by clip, as a script with librosa does it."""
    feature = log_mel()
    o = feature.options
    found = []
    for path in paths:
        samples, rate = librosa.load(path, sr=o.sample_rate_hz)
        mel = librosa.feature.melspectrogram(
            y=samples[: feature.window_samples],
            sr=rate,
            n_fft=o.n_fft,
            hop_length=o.hop_length,
            win_length=o.win_length,
            center=False,
            power=o.power,
            n_mels=o.n_mels,
            fmin=o.f_min_hz,
            fmax=o.f_max_hz,
            htk=True,
            norm=None,
        )
        found.append(np.log(mel + o.log_offset).T)
    return np.stack(found)


def decode_and_fft(paths: Sequence[Path]) -> None:
    """Decoding, and the FFT of as many windows of 25 ms as the feature has: no resampling, no mel."""
    for path in paths:
        samples, _ = soundfile.read(path, dtype="float32")
        frames = torch.from_numpy(samples).unfold(0, SOURCE_WINDOW, SOURCE_HOP)[: log_mel().frames]
        torch.fft.rfft(frames, n=SOURCE_FFT)


def decode_resample_and_fft(paths: Sequence[Path]) -> None:
    """The same at the feature's rate, so that the files are resampled too: no mel."""
    o = log_mel().options
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        samples = soxr.resample(samples, rate, o.sample_rate_hz)
        frames = torch.from_numpy(samples).unfold(0, o.win_length, o.hop_length)[: log_mel().frames]
        torch.fft.rfft(frames, n=o.n_fft)


def decode_and_resample(paths: Sequence[Path]) -> int:
    """Foley's reading and resampling, with no feature after it: what no front end on them can be below."""
    for path in paths:
        decode(path, log_mel().options.sample_rate_hz)
    return len(paths)


def ingest(folder: Path) -> None:
    """The raw clips of one format -> a shard of the clip store."""
    ingest_shard(
        folder / "audio.parquet",
        folder / "rejected.parquet",
        dataset="bench",
        kind=Folder(),
        root=folder / "raw",
        shards=1,
        shard=0,
        options=IngestOptions(),
    )


def extract(folder: Path) -> None:
    """A shard of the clip store -> a shard of features."""
    extract_shard(
        folder / "features.parquet", audio=folder / "audio.parquet", feature=log_mel(), batch_size=BATCH
    )


def check_equal(path: Path) -> None:
    """Refuse to compare programs that compute different things."""
    difference = float(np.abs(foley_features([path]) - librosa_features([path])).max())
    if difference > 1e-3:
        raise AssertionError(f"Foley's and librosa's log-mel differ by {difference:g}")


def _start_worker() -> None:
    """What `run_job` does for a job."""
    torch.set_num_threads(1)
    keep_freed_memory()


def _worker(paths: Sequence[Path]) -> int:
    return len(foley_features(paths))


def run(quick: bool) -> list[Table]:
    count, repeats = (8, 2) if quick else (96, 7)
    shape = f"{count} clips of {CLIP_S} s, {SOURCE_HZ} Hz, mono; ms a clip"
    single, many = [], []
    keep_freed_memory()  # for both sides
    with tempfile.TemporaryDirectory() as temporary:
        paths = write_clips(Path(temporary), count)
        with one_core():
            for name, files in paths.items():
                check_equal(files[0])
                folder = Path(temporary) / name
                ingest(folder)
                found = interleaved(
                    {
                        "foley": partial(foley_features, files),
                        "librosa": partial(librosa_features, files),
                        "decode + FFT": partial(decode_and_fft, files),
                        "decode + resample + FFT": partial(decode_resample_and_fft, files),
                        "stored": partial(extract, folder),
                        "ingest": partial(ingest, folder),
                    },
                    repeats,
                )
                ms = {key: value / count * 1000 for key, value in found.items()}
                both = ms["ingest"] + ms["stored"]
                for what, value, peer in (
                    ("file to log-mel", ms["foley"], "librosa"),
                    ("stored clip to feature table", ms["stored"], "librosa"),
                    ("file to clip store to feature table", both, "librosa"),
                    ("file to log-mel", ms["foley"], "decode + FFT"),
                    ("file to log-mel", ms["foley"], "decode + resample + FFT"),
                ):
                    is_slower_peer = peer == "librosa"
                    ratio = ms[peer] / value if is_slower_peer else value / ms[peer]
                    single.append(
                        (
                            name,
                            what,
                            f"{value:.2f}",
                            f"{peer}: {ms[peer]:.2f}",
                            f"{times(ratio)} the {'speed' if is_slower_peer else 'time'}",
                            "at least 4x" if is_slower_peer else "at most 1.5x",
                        )
                    )
        # More clips and several shards a core, as a run has: a few clips are over before all cores are at work.
        workers, per_core, again = cores(), 4, 1 if quick else 4
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
            for name, files in paths.items():
                files = files * again
                shards = [files[n :: workers * per_core] for n in range(workers * per_core)]
                found = interleaved(
                    {
                        "foley": lambda shards=shards: list(pool.map(_worker, shards)),
                        "floor": lambda shards=shards: list(pool.map(decode_and_resample, shards)),
                        "librosa": partial(librosa_features, files),
                    },
                    repeats,
                )
                ms = {key: value / len(files) * 1000 for key, value in found.items()}
                for what, value, budget in (
                    ("file to log-mel", ms["foley"], "at least 4x"),
                    ("decode + resample alone", ms["floor"], "the bound"),
                ):
                    many.append(
                        (
                            name,
                            f"{what}, {len(shards)} shards on {workers} cores",
                            f"{value:.2f}",
                            f"librosa: {ms['librosa']:.2f}",
                            f"{times(ms['librosa'] / value)} the speed",
                            budget,
                        )
                    )
    columns = ("format", "what", "Foley", "peer", "ratio", "budget")
    return [
        Table(f"One core each ({shape}).", columns, single),
        Table(f"The whole machine: the workflow's jobs against one loop ({shape}).", columns, many),
    ]
