"""How loud a clip is: integrated loudness of ITU-R BS.1770-4, and root mean square."""

from __future__ import annotations

import math

import numpy as np
from scipy import signal

_BLOCK_S, _HOP_S = 0.4, 0.1
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0
# Below this rate the shelf's corner comes too near to half the rate.
_LOWEST_RATE_HZ = 4000


def k_weighting(sample_rate_hz: int) -> np.ndarray:
    """The two filters of the standard as second-order sections [2, 6]: a shelf for the head, and a high-pass.

    The standard has coefficients for 48 kHz only; these are of the analogue filters that give them, by the bilinear
    transform (B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018).
    """
    gain, quality = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    tangent = math.tan(math.pi * 1681.974450955533 / sample_rate_hz)
    # The shelf's middle gain is a shade below the root of its gain, in the standard's own coefficients.
    middle = gain**0.4996667741545416
    a0 = 1 + tangent / quality + tangent**2
    shelf = [
        (gain + middle * tangent / quality + tangent**2) / a0,
        2 * (tangent**2 - gain) / a0,
        (gain - middle * tangent / quality + tangent**2) / a0,
        1.0,
        2 * (tangent**2 - 1) / a0,
        (1 - tangent / quality + tangent**2) / a0,
    ]
    quality = 0.5003270373238773
    tangent = math.tan(math.pi * 38.13547087602444 / sample_rate_hz)
    a0 = 1 + tangent / quality + tangent**2
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (tangent**2 - 1) / a0, (1 - tangent / quality + tangent**2) / a0]
    return np.array([shelf, high_pass])


def loudness_lufs(samples: np.ndarray, sample_rate_hz: int) -> float | None:
    """Gated loudness of a mono clip [T], LUFS; None below 0.4 s or 4 kHz, and where no block passes the gate."""
    block, hop = round(_BLOCK_S * sample_rate_hz), round(_HOP_S * sample_rate_hz)
    if len(samples) < block or sample_rate_hz < _LOWEST_RATE_HZ:
        return None
    weighted = signal.sosfilt(k_weighting(sample_rate_hz), samples.astype(np.float64))
    total = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, len(samples) - block + 1, hop)
    power = (total[starts + block] - total[starts]) / block
    heard = power[power > _power(_ABSOLUTE_GATE)]
    if not len(heard):
        return None
    loud = heard[heard > _power(_level(heard.mean()) + _RELATIVE_GATE)]
    return _level(loud.mean())


def rms_db(samples: np.ndarray) -> float:
    """Root mean square [T] in dB of full scale; -inf for silence."""
    power = float(np.mean(samples.astype(np.float64) ** 2))
    return 10 * math.log10(power) if power > 0 else -math.inf


def _level(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def _power(level: float) -> float:
    return 10 ** ((level + 0.691) / 10)
