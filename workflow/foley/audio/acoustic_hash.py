"""A hash of what a clip sounds like: copies that were resampled, re-encoded or made louder differ in few bits.

After J. Haitsma and T. Kalker, "A highly robust audio fingerprinting system", ISMIR 2002: its bits are the signs of
energy differences between neighbouring bands and neighbouring times. Theirs is a stream of bits for finding excerpts;
this is one hash for a whole clip of any length, which needs two changes:

- The clip is always cut into the same number of times, so hashes of equal length are compared bit by bit.
- A bit is the sign of a fixed random projection of all the differences (M. Charikar, "Similarity estimation techniques
  from rounding algorithms", STOC 2002), not of one difference. Silent or constant parts have no differences and add
  nothing to a projection. With a sign for each difference, their bits would be noise in copies of one clip, or alike
  in all clips that are padded with silence.

So the share of bits that differ is the angle between the two clips' differences as a part of a half turn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

BITS = 256
# What a clip gets that has nothing to tell it by: silence, or a sound that never changes. It equals no other.
NO_HASH = bytes(BITS // 8)

_TIMES, _BANDS = 32, 16
# The band of a telephone, so that copies from 8 kHz files match.
_LOWEST_HZ, _HIGHEST_HZ = 300.0, 3400.0
_FRAME_S = 0.032
# Frames at a time: few enough that numpy reuses small blocks of memory, which is four times as fast as fresh ones.
_CHUNK = 64
# Energy below this part of the clip's mean counts as silence: what lies there is dither and what codecs left.
_FLOOR = 1e-3
# Root mean square of the differences (natural logarithm of energy) below which they are rounding.
_LEAST_CHANGE = 0.05
# White noise of this mean square, one 16-bit step, is as loud as the quietest clip. Below lies rounding.
_QUIETEST = (1 / 32768) ** 2


@dataclass(frozen=True)
class _Plan:
    """What depends on the sample rate alone."""

    window: np.ndarray  # [W]
    bins: slice  # of the spectrum that fall into any band
    bands: (
        np.ndarray
    )  # [bins, _BANDS], weights that make white noise of mean square 1 an energy of 1 in each band


@lru_cache(maxsize=16)
def _plan(sample_rate_hz: int) -> _Plan:
    size = 2 * round(_FRAME_S / 2 * sample_rate_hz)
    highest = min(_HIGHEST_HZ, 0.45 * sample_rate_hz)
    edges = np.geomspace(min(_LOWEST_HZ, highest / 8), highest, _BANDS + 1) / sample_rate_hz * size
    bins = np.arange(size // 2 + 1)[:, None]
    shares = np.clip(np.minimum(bins + 0.5, edges[1:]) - np.maximum(bins - 0.5, edges[:-1]), 0, 1)
    used = np.flatnonzero(shares.any(axis=1))
    inside = slice(int(used[0]), int(used[-1]) + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    weights = shares[inside] / shares.sum(axis=0) / np.square(window).sum()
    return _Plan(window.astype(np.float32), inside, weights.astype(np.float32))


@lru_cache(maxsize=1)
def _projection() -> np.ndarray:
    """[differences, BITS] of +1 and -1. From SHAKE-256: numpy promises no equal streams between its versions."""
    rows = (_TIMES - 1) * (_BANDS - 1)
    stream = np.frombuffer(hashlib.shake_256(b"foley acoustic hash").digest(rows * BITS // 8), np.uint8)
    return (2.0 * np.unpackbits(stream).reshape(rows, BITS) - 1).astype(np.float32)


def _energies(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Mean energy [_TIMES, _BANDS]: times of equal length, bands of equal ratio."""
    plan = _plan(sample_rate_hz)
    size = len(plan.window)
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    per_time = max(2, round(len(samples) / (_TIMES * size)))
    count = _TIMES * per_time
    starts = np.rint(np.linspace(0, len(samples) - size, count)).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(samples, size)
    energy = np.empty((count, _BANDS), np.float32)
    for first in range(0, count, _CHUNK):
        some = slice(first, first + _CHUNK)
        spectrum = np.fft.rfft(windows[starts[some]] * plan.window)[:, plan.bins]
        energy[some] = (spectrum.real**2 + spectrum.imag**2) @ plan.bands
    return energy.reshape(_TIMES, per_time, _BANDS).mean(axis=1)


def acoustic_hash(samples: np.ndarray, sample_rate_hz: int) -> bytes:
    """The hash of a whole clip, 32 bytes.

    Args:
        samples: float32 [T], full scale = 1.
        sample_rate_hz: their rate. Hashes are meant to be compared between clips stored at one rate.

    Returns:
        256 bits; `NO_HASH` for a clip that is silent or never changes between 300 and 3400 Hz.

    Raises:
        ValueError: ``samples`` is empty or not one-dimensional, or the rate is below 500 Hz.
    """
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"a clip is a row of samples, got an array of shape {samples.shape}")
    if sample_rate_hz < 500:
        raise ValueError(f"no bands to hash at {sample_rate_hz} Hz; at least 500 Hz")
    energy = _energies(samples.astype(np.float32, copy=False), sample_rate_hz)
    mean = float(energy.mean())
    if not mean > _QUIETEST:
        return NO_HASH
    level = np.log(energy / mean + _FLOOR)
    # Between times and then between bands: what all bands do at once, and what all times share, cancels.
    change = np.diff(np.diff(level, axis=0), axis=1).ravel()
    if float(np.sqrt(np.mean(change**2))) < _LEAST_CHANGE:
        return NO_HASH
    return np.packbits(change @ _projection() > 0).tobytes()
