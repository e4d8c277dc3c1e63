"""The study ``foundation`` on one dataset: scores of every mix, and what synthetic clips gain over real ones alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foley.studies.audio.compare_arms import compare_arms

STUDY = "foundation"


def compare_mixes(
    output: Path,
    *,
    predictions: Sequence[Path],
    partitions: Mapping[str, Path],
    draws: int,
    seed: int,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Scores of all mixes; see :func:`foley.studies.audio.compare_arms.compare_arms`, which measures all of it.

    A variant is a recogniser and its part of the real clips; gains are over ``real`` in the same variant, so over as
    many real clips. Synthetic clips alone (``real=0%``) have none to be measured against, and no gains: their accuracy
    on real clips is the source's zero-shot score.
    """
    compare_arms(
        output, predictions=predictions, partitions=partitions, draws=draws, seed=seed, study=STUDY,
        without_baseline=True, provenance=provenance,
    )  # fmt: skip
