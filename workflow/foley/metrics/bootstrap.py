"""Bootstrap intervals over recordings.

Clips cut from one recording are not independent, so whole recordings are drawn (the cluster bootstrap; Cameron,
Gelbach & Miller 2008). Seeds are averaged within a draw: the interval is over the data, the spread over seeds is
reported beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foley.runtime.seeds import derive


@dataclass(frozen=True)
class Resamples:
    """How often each recording was drawn: ``weights`` [draws, recordings]; ``recording`` [clips] maps clips to them."""

    weights: np.ndarray
    recording: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Values per clip [clips, ...] -> their sum in each draw [draws, ...]."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        per_recording = np.zeros((self.weights.shape[1], flat.shape[1]))
        np.add.at(per_recording, self.recording, flat)
        return (self.weights @ per_recording).reshape(len(self.weights), *values.shape[1:])


def resample_recordings(recordings: np.ndarray, draws: int, seed: int, *names: object) -> Resamples:
    """Draw as many recordings as there are, with replacement, ``draws`` times.

    Args:
        recordings: [clips] recording of each clip.
    """
    unique, recording = np.unique(recordings, return_inverse=True)
    generator = np.random.default_rng(derive(seed, "bootstrap", *names))
    count = len(unique)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    return Resamples(weights.astype(np.float64), recording)


def interval(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of draws; draws without a value (no clip of a class was drawn) are left out."""
    valid = draws[np.isfinite(draws)]
    if not len(valid):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(valid, [tail, 1 - tail])
    return float(low), float(high)
