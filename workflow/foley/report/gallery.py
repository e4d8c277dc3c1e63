"""The gallery: a few clips per class to hear and see, small enough to lie inside the page."""

from __future__ import annotations

import io
import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import soundfile as sf

from foley import tables
from foley.report.places import has_own_space, iter_places
from foley.runtime.seeds import derive
from foley.tables.clips import CLIPS
from foley.tables.report import GALLERY
from foley.tables.zero_shot import SYNTHETIC_EMBEDDINGS

log = logging.getLogger(__name__)

SPECTROGRAM_WIDTH, SPECTROGRAM_HEIGHT = 160, 64
_RANGE_DB = 70.0
_SHADES = 64  # more cost bytes that no eye sees at this size
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class NearestSource:
    """One experiment whose synthetic embeddings are given a sound: the real clip nearest to them.

    Attributes:
        method: Generator, as named in the config.
        synthetic: SYNTHETIC_EMBEDDINGS that it made.
        embeddings: EMBEDDINGS of the real clips from the same encoder, one table or its shards.
        projected: PROJECTED_EMBEDDINGS of the experiment; where it has rows, clips lie where those say.
    """

    method: str
    synthetic: Path
    embeddings: Path | Sequence[Path]
    projected: Path | None = None


@dataclass(frozen=True)
class _Pick:
    class_id: int
    label: str
    clip_id: str
    kind: str
    note: str | None


def pick_gallery(
    output: Path,
    *,
    audio: Sequence[Path],
    clips: Path,
    per_class: int,
    max_duration_s: float,
    seed: int,
    nearest: Sequence[NearestSource] = (),
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the GALLERY of one dataset.

    ``per_class`` real clips of each class, from different recordings (fewer where a class has fewer), and for
    each class that a generator imagined the real clip nearest to the mean of its embeddings (cosine).

    Args:
        output: Table to write.
        audio: AUDIO shards; only row groups with a chosen clip are read.
        clips: CLIPS of the dataset.
        per_class: Real clips a class.
        max_duration_s: Longer clips are cut to their beginning.
        seed: Seed of the choice.
        nearest: Experiments to look up nearest clips for.
        provenance: What is recorded in the table's metadata.

    Raises:
        ValueError: a chosen clip lies in none of the shards.
    """
    known = tables.read(clips, CLIPS, ["dataset", "clip_id", "class_id", "label", "recording_id"]).to_pylist()
    picks = _pick_real(known, per_class, seed) + _pick_nearest(known, nearest)
    wanted = {pick.clip_id for pick in picks}
    media = {}
    for clip_id, encoded in read_audio(audio, wanted):
        wave, rate = decode_beginning(encoded, max_duration_s)
        media[clip_id] = (encode_mp3(wave, rate), draw_spectrogram(wave, rate))
    if lacking := sorted(wanted - media.keys()):
        raise ValueError(f"no audio shard holds {len(lacking)} clips of {clips}, for example {lacking[0]!r}")
    dataset = known[0]["dataset"] if known else ""
    tables.write(
        output,
        GALLERY,
        [
            {
                "dataset": dataset,
                "class_id": pick.class_id,
                "label": pick.label,
                "clip_id": pick.clip_id,
                "kind": pick.kind,
                "note": pick.note,
                "audio_mp3": media[pick.clip_id][0],
                "spectrogram_png": media[pick.clip_id][1],
            }
            for pick in picks
        ],
        provenance,
    )
    log.info("%d clips in the gallery", len(picks))


def _pick_real(clips: Sequence[Mapping[str, Any]], per_class: int, seed: int) -> list[_Pick]:
    """Clips in a drawn order, the first of each recording, ``per_class`` a class."""
    order = np.random.default_rng(derive(seed, "gallery")).permutation(len(clips))
    chosen: dict[int, dict[str, Mapping[str, Any]]] = {}
    for clip in (clips[i] for i in order):
        if clip["class_id"] is None:
            continue
        recordings = chosen.setdefault(clip["class_id"], {})
        if len(recordings) < per_class and clip["recording_id"] not in recordings:
            recordings[clip["recording_id"]] = clip
    return [
        _Pick(class_id, clip["label"], clip["clip_id"], "real", None)
        for class_id, recordings in sorted(chosen.items())
        for clip in recordings.values()
    ]


def _pick_nearest(clips: Sequence[Mapping[str, Any]], sources: Sequence[NearestSource]) -> list[_Pick]:
    """One clip per imagined class and source; sources that agree on a clip share its row."""
    by_id = {clip["clip_id"]: clip for clip in clips}
    labels = {clip["class_id"]: clip["label"] for clip in clips}
    methods: dict[tuple[int, str], list[str]] = {}
    for source in sources:
        for class_id, clip_id in _nearest_clips(source, by_id.keys()).items():
            methods.setdefault((class_id, clip_id), []).append(source.method)
    picks = []
    for (class_id, clip_id), names in sorted(methods.items()):
        who = " and ".join(dict.fromkeys(names))
        note = f"nearest real clip to what {who} imagined; its true class: {by_id[clip_id]['label']}"
        picks.append(_Pick(class_id, labels.get(class_id, str(class_id)), clip_id, "nearest", note))
    return picks


def _nearest_clips(source: NearestSource, known: Container[str]) -> dict[int, str]:
    """Class -> clip with the highest cosine to the class's mean synthetic embedding; streams the clips."""
    synthetic = tables.read(source.synthetic, SYNTHETIC_EMBEDDINGS, ["seed", "class_id", "vector"])
    if not synthetic.num_rows:
        return {}
    if has_own_space(source.projected):  # each seed has another one
        synthetic = synthetic.filter(pc.equal(synthetic["seed"], pc.min(synthetic["seed"])))
    of = synthetic["class_id"].to_numpy()
    vectors = tables.to_matrix(synthetic["vector"])
    ids = np.unique(of)
    centres = _unit(np.stack([vectors[of == class_id].mean(axis=0) for class_id in ids]))
    best = np.full(len(ids), -np.inf)
    clip = [""] * len(ids)
    shards = [source.embeddings] if isinstance(source.embeddings, Path) else source.embeddings
    for names, places in iter_places(shards, source.projected):
        similarity = _unit(places) @ centres.T
        similarity[[name not in known for name in names]] = -np.inf
        for number, row in enumerate(similarity.argmax(axis=0)):
            if similarity[row, number] > best[number]:
                best[number], clip[number] = similarity[row, number], names[row]
    return {int(class_id): name for class_id, name in zip(ids, clip, strict=True) if name}


def _unit(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def read_audio(shards: Sequence[Path], wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """(clip id, encoded bytes) of the wanted clips; only their row groups' audio is read."""
    names = pa.array(sorted(wanted), pa.string())
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            for group in range(file.num_row_groups):
                ids = file.read_row_group(group, columns=["clip_id"])
                mask = pc.is_in(ids["clip_id"], value_set=names)
                if not pc.any(mask).as_py():
                    continue
                chosen = file.read_row_group(group, columns=["clip_id", "audio"]).filter(mask)
                for row in chosen.to_pylist():
                    yield row["clip_id"], row["audio"]["bytes"]


def decode_beginning(encoded: bytes, max_duration_s: float) -> tuple[np.ndarray[Any, Any], int]:
    """The beginning of a clip, mono."""
    with sf.SoundFile(io.BytesIO(encoded)) as file:
        wave = file.read(max(int(max_duration_s * file.samplerate), 1), dtype="float32", always_2d=True)
        return wave.mean(axis=1), int(file.samplerate)


def encode_mp3(wave: np.ndarray[Any, Any], sample_rate_hz: int) -> bytes:
    """A mono wave [samples] as MP3 (about 25 kbit/s); sample rates that MP3 lacks are resampled."""
    if sample_rate_hz not in _MP3_RATES_HZ:
        import soxr

        rate = max((r for r in _MP3_RATES_HZ if r <= sample_rate_hz), default=_MP3_RATES_HZ[0])
        wave, sample_rate_hz = soxr.resample(wave, sample_rate_hz, rate), rate
    buffer = io.BytesIO()
    sf.write(
        buffer,
        np.clip(wave, -1, 1),
        sample_rate_hz,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=0.8,
        bitrate_mode="VARIABLE",
    )
    return buffer.getvalue()


def draw_spectrogram(wave: np.ndarray[Any, Any], sample_rate_hz: int) -> bytes:
    """The log-mel spectrogram of a mono wave [samples] as a PNG, low frequencies at the bottom."""
    from matplotlib import colormaps
    from PIL import Image

    size = 2 ** int(np.ceil(np.log2(0.05 * sample_rate_hz)))
    padded = np.pad(wave, (size // 2, size // 2 + size))
    starts = np.linspace(0, max(len(wave) - 1, 0), SPECTROGRAM_WIDTH).astype(int)
    frames = padded[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ _mel_filters(size, sample_rate_hz)
    decibel = 10 * np.log10(np.maximum(power, 1e-10))
    loudness = np.clip((decibel - decibel.max()) / _RANGE_DB + 1, 0, 1)
    if decibel.max() <= -100:  # silence: nothing to scale by
        loudness = np.zeros_like(loudness)
    shades = np.round(loudness.T[::-1] * (_SHADES - 1)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(shades), mode="P")
    palette = colormaps["magma"](np.linspace(0, 1, _SHADES), bytes=True)[:, :3]
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _mel_filters(size: int, sample_rate_hz: int) -> np.ndarray[Any, Any]:
    """Triangular filters [bins, mels] from 50 Hz to half the sample rate (O'Shaughnessy's mel scale)."""
    hertz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    edges = np.linspace(_mel(50.0), _mel(sample_rate_hz / 2), SPECTROGRAM_HEIGHT + 2)
    # Narrow filters at low frequencies may fall between two bins; half a bin of slack keeps every row filled.
    centres = 700 * (10 ** (edges / 2595) - 1)
    width = np.maximum(np.diff(centres), sample_rate_hz / size)
    rising = (hertz[:, None] - centres[1:-1] + width[:-1]) / width[:-1]
    falling = (centres[1:-1] + width[1:] - hertz[:, None]) / width[1:]
    return np.maximum(0, np.minimum(rising, falling))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
