"""Near-duplicates: texts that differ in endings, word order or little else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

# Words that carry no sound.
_SILENT = "a an the of and with in on at to from by for as is are its it some very"
_EMPTY = frozenset(_SILENT.split())
_ENDINGS = ("ingly", "ings", "edly", "ing", "ied", "ies", "ed", "es", "ly", "s")


def stem(word: str) -> str:
    """A word without its inflection, roughly: honk, honks, honked and honking share a stem, and only stems compare."""
    word = re.sub(r"['’]s$", "", word)
    for ending in _ENDINGS:
        kept = word.removesuffix(ending)
        least = {"ied": 2, "ies": 2, "ly": 4}.get(ending, 3)
        if kept != word and len(kept) >= least and not (ending == "s" and kept.endswith("s")):
            word = f"{kept}y" if ending in ("ied", "ies") else kept
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] in "bdfgklmnprt":
        word = word[:-1]  # slapping, slap
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def stems(text: str) -> list[str]:
    """The stems of a text's words in their order, without case, accents and words that carry no sound."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", plain)
    return [stem(word) for word in words if word not in _EMPTY]


@lru_cache(maxsize=4096)
def _grams(sentence: str, n: int = 3) -> frozenset[str]:
    text = f" {' '.join(sorted(stems(sentence)))} "
    return frozenset(text[start : start + n] for start in range(max(1, len(text) - n + 1)))


def similarity(one: str, other: str) -> float:
    """Jaccard index of the letter trigrams of two texts' stems, sorted: 1 = alike, 0 = nothing shared."""
    first, second = _grams(one), _grams(other)
    return len(first & second) / len(first | second)


def nearest(text: str, others: Iterable[str]) -> tuple[float, str]:
    """The most similar of ``others`` and how similar it is; (0, "") without any."""
    return max(((similarity(text, other), other) for other in others), default=(0.0, ""))
