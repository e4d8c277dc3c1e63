"""Several words of a class drawn for each prompt, as in the published study (arXiv 2406.08800: three, per clip)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from foley.runtime.seeds import derive


def draw_words(
    words: Sequence[str], per_prompt: int, prompts: int, seed: int, label: str
) -> list[tuple[str, ...]]:
    """Sets of ``per_prompt`` words at different places of the list, in the order drawn; no such set comes twice.

    Fewer words than ``per_prompt`` give sets of all of them, and there are as many sets as combinations where those
    are fewer than ``prompts``. The first sets stay what they are when ``prompts`` grows.
    """
    size = min(per_prompt, len(words))
    if not size:
        return []
    # By place, as the list may hold a word twice.
    drawn: dict[frozenset[int], tuple[int, ...]] = {}
    wanted = min(prompts, math.comb(len(words), size))
    attempt = 0
    while len(drawn) < wanted:
        chosen = random.Random(derive(seed, "words", label, attempt)).sample(range(len(words)), size)
        drawn.setdefault(frozenset(chosen), tuple(chosen))
        attempt += 1
    return [tuple(words[place] for place in chosen) for chosen in drawn.values()]
