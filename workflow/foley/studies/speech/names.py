"""Arms and test conditions of the study ``speech``, and what tables call them.

An arm is what training clips go through: nothing (``none``), recorded backgrounds (``real``), classic augmentation
(``classic``, or ``classic-<name>`` of several), or the generated backgrounds of a source, by its id. A condition is
what test clips go through: nothing (``clean``), or a background at one signal-to-noise ratio; ``mean`` is the mean
over the ratios of a background.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STUDY = "speech"
NONE, REAL, CLASSIC = "none", "real", "classic"
CLEAN, MEAN_RATIO = "clean", "mean"
_VARIANT = re.compile(r"(?P<recogniser>[^/]+)/(?:clean|(?P<background>[^/]+)/(?:mean|(?P<snr>-?[\d.]+)dB))")


def is_classic(arm: str) -> bool:
    """Whether an arm is one of classic augmentation."""
    return arm == CLASSIC or arm.startswith(f"{CLASSIC}-")


@dataclass(frozen=True, order=True)
class Condition:
    """What test clips go through.

    background: what is mixed in; None = clean speech. snr_db: at which ratio; None = clean, or the mean over ratios.
    """

    background: str | None = None
    snr_db: float | None = None

    @property
    def name(self) -> str:
        """``clean``, ``<background>/<ratio>dB`` or ``<background>/mean``."""
        if self.background is None:
            return CLEAN
        return f"{self.background}/{MEAN_RATIO if self.snr_db is None else f'{self.snr_db:g}dB'}"

    @property
    def is_mean(self) -> bool:
        return self.background is not None and self.snr_db is None


def variant(recogniser: str, condition: Condition) -> str:
    """Name of what is compared with each other: one recogniser in one test condition."""
    return f"{recogniser}/{condition.name}"


def parse_variant(name: str) -> tuple[str, Condition]:
    """Recogniser and condition of a variant.

    Raises:
        ValueError: it is none of the study's.
    """
    match = _VARIANT.fullmatch(name)
    if match is None:
        raise ValueError(f"`{name}` is no variant of the study `{STUDY}`")
    snr = match["snr"]
    return match["recogniser"], Condition(match["background"], None if snr is None else float(snr))
