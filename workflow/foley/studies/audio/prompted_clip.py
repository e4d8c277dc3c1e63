"""One batch of clips from prompts: draw, check, draw again, describe and encode.

What a finished clip in the cache depends on beside its generator lies here and in what this module imports. An edit of
the checks, the seeds of candidates, the levels or the encoding changes `code_of_clips`, and clips are made anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foley.audio.decode import SILENCE_PEAK, encode_flac, to_mono, to_pcm16
from foley.audio.loudness import loudness_lufs, rms_db
from foley.generators.audio.prompted import PromptedGenerator, Ranking
from foley.runtime.code import code_hash, module_file
from foley.runtime.seeds import derive

log = logging.getLogger(__name__)

# A sample this near to full scale counts as clipped: generators that end in a tanh reach no further.
CLIPPED_AT = 0.999


def code_of_clips(generator: str) -> str:
    """A hash of the code that makes, checks and encodes clips; ``generator`` is ``package.module:Name``."""
    here = module_file(__name__)
    assert here is not None
    return code_hash(here, generator)


def fault_of(audio: np.ndarray, max_clipped: float) -> tuple[str, str] | None:
    """Why a clip [C, T] will not do, and what was seen; None for a good one."""
    if not np.isfinite(audio).all():
        return "not_finite", f"{int((~np.isfinite(audio)).sum())} samples are NaN or infinite"
    mono = to_mono(audio.T)
    loudest = float(np.abs(mono - mono.mean()).max(initial=0.0))
    if loudest < SILENCE_PEAK:
        return "silent", f"no sample above {loudest:.1e} of full scale"
    clipped = float((np.abs(mono) >= CLIPPED_AT).mean())
    if clipped > max_clipped:
        return "clipped", f"{clipped:.1%} of the samples at full scale or beyond, at most {max_clipped:.1%}"
    return None


def candidates_of(generator: PromptedGenerator) -> int:
    """Clips that are drawn for one that stays."""
    return generator.candidates() if isinstance(generator, Ranking) else 1


@dataclass(frozen=True)
class _Drawn:
    """A draw of one clip: the best of its candidates that will do, or why none will."""

    seed: int
    audio: np.ndarray | None
    fault: tuple[str, str] | None = None
    rank: int | None = None
    score: float | None = None


def make_clips(generator: PromptedGenerator, wanted: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """Clips that go through the model together, accepted or refused, as the cache keeps them but for their keys.

    Args:
        wanted: prompt and first seed of each.
    """
    options = generator.options
    candidates = candidates_of(generator)
    found: dict[int, dict[str, Any]] = {}
    seconds = [0.0] * len(wanted)
    left = list(range(len(wanted)))
    for attempt in range(options.attempts):
        seeds = [wanted[row][1] if attempt == 0 else derive(wanted[row][1], "again", attempt) for row in left]
        started = time.perf_counter()
        drawn = _draw(generator, [wanted[row][0] for row in left], seeds, candidates)
        spent = (time.perf_counter() - started) / len(left)
        again = []
        for row, one in zip(left, drawn, strict=True):
            seconds[row] += spent
            if one.audio is None and attempt + 1 < options.attempts:
                again.append(row)
                continue
            found[row] = {
                "seed": one.seed,
                "attempts": attempt + 1,
                "drawn": (attempt + 1) * candidates,
                "seconds": seconds[row],
                "device": _device_name(),
                **_described(one, generator.sample_rate_hz, candidates),
            }
        if not again:
            break
        log.warning("%d clips will not do and are drawn again (%s)", len(again), _reasons(drawn))
        left = again
    return [found[row] for row in range(len(wanted))]


def _draw(
    generator: PromptedGenerator, texts: Sequence[str], seeds: Sequence[int], candidates: int
) -> list[_Drawn]:
    options = generator.options

    def made_of(prompts: Sequence[str], own: Sequence[int]) -> tuple[Tensor, list[tuple[str, str] | None]]:
        audio = generator.generate(prompts, own, options.duration_s)
        return audio, [fault_of(one, options.max_clipped) for one in audio.numpy()]

    if candidates == 1 or not isinstance(generator, Ranking):
        audio, faults = made_of(texts, seeds)
        return [
            _Drawn(seed, one if fault is None else None, fault)
            for seed, one, fault in zip(seeds, audio.numpy(), faults, strict=True)
        ]
    every = [text for text in texts for _ in range(candidates)]
    own = [derive(seed, "candidate", number) for seed in seeds for number in range(candidates)]
    audio, faults = made_of(every, own)
    good = [row for row, fault in enumerate(faults) if fault is None]
    score = dict(
        zip(good, generator.scores([every[row] for row in good], audio[good]), strict=True) if good else []
    )
    found = []
    for first in range(0, len(every), candidates):
        rows = [row for row in range(first, first + candidates) if row in score]
        if not rows:
            found.append(_Drawn(own[first], None, faults[first]))
            continue
        best = max(rows, key=lambda row: (score[row], -row))
        found.append(_Drawn(own[best], audio[best].numpy(), None, 0, score[best]))
    return found


def _described(one: _Drawn, sample_rate_hz: int, candidates: int) -> dict[str, Any]:
    if one.audio is None:
        reason, detail = one.fault or ("", "")
        return {"reason": reason, "detail": detail}
    mono = np.ascontiguousarray(to_mono(one.audio.T))
    return {
        "candidate_rank": one.rank,
        "candidates": candidates if one.rank is not None else None,
        "candidate_score": one.score,
        "channels": len(one.audio),
        "peak": float(np.abs(mono).max()),
        "rms_db": rms_db(mono),
        "loudness_lufs": loudness_lufs(mono, sample_rate_hz),
        "duration_s": len(mono) / sample_rate_hz,
        "flac": encode_flac(to_pcm16(mono), sample_rate_hz),
    }


def _reasons(drawn: Iterable[_Drawn]) -> str:
    named = [one.fault[0] for one in drawn if one.fault is not None]
    return ", ".join(f"{named.count(reason)} {reason}" for reason in sorted(set(named)))


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
