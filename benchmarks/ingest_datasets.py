"""Taking a folder of clips in: Foley against `datasets`' AudioFolder and against a loop with librosa."""

from __future__ import annotations

import importlib
import io
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from types import ModuleType

import librosa
import numpy as np
import soundfile
import soxr
from frontend import SOURCE_HZ, ingest, make_clip
from measure import REPOSITORY, Table, one_core, times

TITLE = "Ingest"
SAMPLE_RATE_HZ = 16_000
SHARED = Path(os.environ.get("FOLEY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))


def write_wav(folder: Path, count: int) -> list[Path]:
    """Clips of 5 s at 44.1 kHz: `<folder>/raw/clips/<number>.wav`."""
    (folder / "raw" / "clips").mkdir(parents=True)
    paths = [folder / "raw" / "clips" / f"{number:04d}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        soundfile.write(path, make_clip(number), SOURCE_HZ, subtype="PCM_16")
    return paths


def copy_esc50(folder: Path, count: int) -> list[Path]:
    """Real recordings, every so many of ESC-50: `<folder>/raw/clips/<name>`; none where there are none."""
    found = sorted((SHARED / "esc50" / "audio").glob("*.ogg"))
    (folder / "raw" / "clips").mkdir(parents=True)
    paths = []
    for source in found[:: max(1, len(found) // count)][:count]:
        paths.append(folder / "raw" / "clips" / source.name)
        shutil.copy(source, paths[-1])
    return paths


def librosa_loop(folder: Path, paths: Sequence[Path]) -> None:
    """Each clip to FLAC at 16 kHz, as a script with librosa does it: no hashes, no table."""
    target = folder / "librosa"
    target.mkdir(exist_ok=True)
    for path in paths:
        samples, rate = librosa.load(path, sr=SAMPLE_RATE_HZ)
        soundfile.write(target / f"{path.stem}.flac", samples, rate, subtype="PCM_16")


def resampled(row: dict) -> dict:
    """What `cast_column("audio", Audio(16000))` decodes to, as FLAC; torchcodec, its own decoder, is not needed."""
    samples, rate = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE_HZ)
    buffer = io.BytesIO()
    soundfile.write(buffer, mono, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return {"audio": {"bytes": buffer.getvalue(), "path": row["audio"]["path"]}}


def allow_without_torchcodec() -> None:
    """Let `datasets` list audio files where torchcodec does not load (it is built against CUDA).

    `Audio.encode_example` imports its encoder before it looks at what it was given, and calls it for arrays only.
    """
    try:
        importlib.import_module("torchcodec.encoders")
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
            del sys.modules[name]
        sys.modules["torchcodec"] = ModuleType("torchcodec")
        encoders = sys.modules["torchcodec.encoders"] = ModuleType("torchcodec.encoders")
        encoders.AudioEncoder = None  # type: ignore[attr-defined]


def with_datasets(folder: Path, *, decoded: bool) -> None:
    """AudioFolder to Parquet: the files as they are, or decoded and resampled first.

    `cast_column("audio", Audio(16000))` alone changes what is decoded later, not what `to_parquet` writes.
    """
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        table = datasets.load_dataset(
            "audiofolder", data_dir=str(folder / "raw"), split="train", cache_dir=cache
        ).cast_column("audio", datasets.Audio(SAMPLE_RATE_HZ, decode=not decoded))
        if decoded:
            table = table.map(_embedded).map(resampled)
        table.to_parquet(str(folder / "datasets.parquet"))


def _embedded(row: dict) -> dict:
    audio = row["audio"]
    return {"audio": {"bytes": audio["bytes"] or Path(audio["path"]).read_bytes(), "path": audio["path"]}}


def cpu_seconds(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median processor time of each call, taken in turns: other work on the machine then counts little."""
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = process_time()
            call()
            taken[name].append(process_time() - start)
    return {name: median(values) for name, values in taken.items()}


def check_equal(folder: Path, path: Path) -> None:
    """Refuse to compare programs that store different samples."""
    import pyarrow.parquet as pq

    ingest(folder)
    librosa_loop(folder, [path])
    table = pq.read_table(folder / "audio.parquet", columns=["source", "audio"]).to_pylist()
    stored = next(row["audio"]["bytes"] for row in table if row["source"].endswith(path.name))
    ours = soundfile.read(io.BytesIO(stored), dtype="int16")[0].astype(int)
    theirs = soundfile.read(folder / "librosa" / f"{path.stem}.flac", dtype="int16")[0].astype(int)
    # Rounding differs where a float's last bit does.
    if len(ours) != len(theirs) or np.abs(ours - theirs).max() > 1:
        raise AssertionError(f"Foley and librosa store different samples of {path.name}")


def run(quick: bool) -> list[Table]:
    import datasets

    allow_without_torchcodec()
    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    count, repeats = (8, 1) if quick else (200, 5)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        sets = {
            "wav, 5 s, 44.1 kHz": (write_wav, Path(temporary) / "wav"),
            "ESC-50 as Ogg Vorbis, 5 s, 16 kHz": (copy_esc50, Path(temporary) / "esc50"),
        }
        for name, (make, folder) in sets.items():
            paths = make(folder, count)
            if not paths:
                continue
            check_equal(folder, paths[0])
            with one_core():
                found = cpu_seconds(
                    {
                        "Foley": partial(ingest, folder),
                        "librosa loop to FLAC files": partial(librosa_loop, folder, paths),
                        "AudioFolder to Parquet, decoded at 16 kHz to FLAC": partial(
                            with_datasets, folder, decoded=True
                        ),
                        "AudioFolder to Parquet, files as they are": partial(
                            with_datasets, folder, decoded=False
                        ),
                    },
                    repeats,
                )
            for what, seconds in found.items():
                rate = len(paths) / seconds
                rows.append((name, what, f"{rate:.0f}", times(found["Foley"] / seconds)))
    caption = f"Clips per second of one core's time, {count} clips; what each writes differs, see above."
    return [Table(caption, ("clips", "what", "clips/s", "speed against Foley"), rows)]
