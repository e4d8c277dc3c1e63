"""What may not be in a prompt: rules that every text of a language model or of a file passes before it is used.

A text is data. One that holds markup, an address, a path or an instruction to its reader is no description of a sound
and is refused with the reason; nothing in it is ever followed, opened or executed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["captions", "words"]

# Reasons, as the table has them.
REASONS = {
    "empty": "nothing in it",
    "too_long": "more characters or words than allowed",
    "too_short": "fewer words than a caption needs",
    "control_characters": "control, zero-width or text-direction characters",
    "markup": "HTML, an entity, Markdown or code",
    "url": "a web or mail address",
    "path": "a path of a file system",
    "instruction": "an instruction to its reader",
    "refusal": "the model says that it won't or can't",
    "placeholder": "an unfilled placeholder",
    "script": "letters that are not Latin",
    "language": "words of another language than English",
    "no_words": "no letters",
    "banned_sense": "another sense of the class's name",
    "duplicate": "nearly the same as one before",
    "surplus": "more than were asked for",
    "critic": "the second opinion says that it is no such sound",
    "not_judged": "the second opinion could not be had",
}


@dataclass(frozen=True)
class Bounds:
    """Sizes of a text; words are what blanks separate."""

    max_chars: int
    min_words: int
    max_words: int


CAPTION_BOUNDS = Bounds(max_chars=240, min_words=3, max_words=40)
WORD_BOUNDS = Bounds(max_chars=40, min_words=1, max_words=4)


@dataclass(frozen=True)
class Finding:
    reason: str
    detail: str


_MARKUP = re.compile(
    r"<\s*[!/?a-z][^>]*>?|&(?:[a-z]{2,8}|#x?[0-9a-f]+);|`|\*\*|\]\(|^\s*#{1,6}\s|javascript:|\bon[a-z]{3,12}\s*=",
    re.IGNORECASE,
)
_URL = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,15}://|\bwww\.|\b[\w.+-]+@[\w-]+\.\w|\b[\w-]+\.(?:com|org|net|io|dev|info|ru|cn|de|ai)\b",
    re.IGNORECASE,
)
_PATH = re.compile(
    r"(?:^|[\s\"'(=])(?:~|\.{1,2})?/[\w.~-]+|(?:^|[\s\"'(=])[a-z]:[\\/]|\.\.[\\/]|\\\\|\\[a-z]|"
    r"\b[\w-]+\.(?:exe|sh|py|bat|cmd|dll|so|js|php|json|ya?ml|txt|wav|mp3|flac|parquet)\b",
    re.IGNORECASE,
)
# Where an order to the reader stands; after a subject (`hands open`, `a mouse click`) a verb or noun describes.
_CLAUSE = r"(?:^|[.!?;:,–—]\s*|\b(?:and|then|now|but|instead|please)\s+)[\"'(“‘]*"
_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:previous|prior|above|earlier|instructions?|rules?|prompts?"
    r"|everything|all)\b"
    r"|\b(?:system|developer)\s+(?:prompt|message|instruction)"
    rf"|{_CLAUSE}(?:execute|run|open|visit|download|install|click|send|delete|write|print|output)\s+(?:\w+\s+){{0,3}}"
    r"(?:files?|commands?|links?|urls?|websites?|code|scripts?|prompts?|folders?|following|secrets?)\b"
    rf"|{_CLAUSE}(?:print|output|reply|respond|answer)\s+(?:with|only|in|exactly|to\s+this)\b"
    r"|\b(?:you|the\s+reader|the\s+user|whoever\s+reads)\s+(?:must|should|shall|have\s+to|need\s+to|are\s+(?:now|to))\b"
    rf"|{_CLAUSE}(?:please|kindly|do\s+not|don['’]t)\b|\bapi[ _-]?key\b|\bpassword\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i\s+(?:can(?:no|['’])t|can\s+not|won['’]t|will\s+not|am\s+(?:unable|not\s+able|sorry))|i['’]m\s+(?:sorry|unable|not\s+able)"
    r"|as\s+an?\s+(?:ai|language\s+model)|unable\s+to\s+(?:help|assist|comply))\b",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"[{}]|\$\w|\[(?:insert|class|label|sound|name)[^\]]*\]|%s|<\|", re.IGNORECASE)

# Short words that are frequent in one language and no English words (so without no, do, as, die, met, pour, van, …).
_FOREIGN = {
    "French": "le la les des une du dans et est avec sur qui pas aux ce cette rue d'un d'une",
    "German": "der das und ist ein eine einen einem im mit auf von zu nicht laut wird über aus dem",
    "Spanish": "el la los las una y es con por que del en sonido muy fuerte calle perro",
    "Italian": "il lo gli una che di della nel con suono è",
    "Portuguese": "os uma que da na com por muito som é",
    "Dutch": "de het een en op niet luid wordt geluid",
}
_FOREIGN_SETS = {language: frozenset(words.split()) for language, words in _FOREIGN.items()}
_SHORT = (
    "a an the of and with in on at to from by for as is are its it over under into while then through near"
)
_ENGLISH = frozenset(_SHORT.split())


def tidy(text: str) -> str:
    """A text in Unicode's compatibility form, its blanks made single, without quotation marks around it."""
    plain = " ".join(unicodedata.normalize("NFKC", text).split())
    for opening, closing in (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’")):
        if len(plain) > 1 and plain.startswith(opening) and plain.endswith(closing):
            plain = plain[1:-1].strip()
    return plain


def is_refusal(text: str) -> bool:
    return _REFUSAL.search(text[:2000]) is not None


def screen(text: str, bounds: Bounds) -> Finding | None:
    """What is wrong with a text (after `tidy`); None where nothing is.

    The rules know nothing of the class; see `other_sense` and `foley.prompts.similarity` for those that do.
    """
    if not text:
        return Finding("empty", "")
    if len(text) > bounds.max_chars:
        return Finding("too_long", f"{len(text):,} characters, at most {bounds.max_chars}")
    odd = next((letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cn")), None)
    if odd is not None:
        return Finding("control_characters", f"U+{ord(odd):04X}")
    for reason, pattern in (
        ("markup", _MARKUP),
        ("url", _URL),
        ("path", _PATH),
        ("refusal", _REFUSAL),
        ("instruction", _INSTRUCTION),
        ("placeholder", _PLACEHOLDER),
    ):
        found = pattern.search(text)
        if found is not None:
            return Finding(reason, found[0].strip())
    letters = [letter for letter in text if letter.isalpha()]
    if not letters:
        return Finding("no_words", text)
    foreign = [letter for letter in letters if not unicodedata.name(letter, "").startswith("LATIN")]
    if foreign:
        return Finding("script", "".join(foreign[:20]))
    words = text.split()
    if len(words) > bounds.max_words:
        return Finding("too_long", f"{len(words)} words, at most {bounds.max_words}")
    if len(words) < bounds.min_words:
        return Finding("too_short", f"{len(words)} words, at least {bounds.min_words}")
    return _other_language(text)


def _other_language(text: str) -> Finding | None:
    """Another language in Latin letters, told by two of its function words; one alone, however often, tells nothing."""
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text.casefold())
    english = sum(word in _ENGLISH for word in words)
    language, count = max(
        ((name, len(known.intersection(words))) for name, known in _FOREIGN_SETS.items()),
        key=lambda pair: pair[1],
    )
    if count >= 2 and count > english:
        return Finding("language", language)
    return None


def other_sense(text: str, senses: Sequence[tuple[str, Sequence[str]]]) -> Finding | None:
    """The first banned sense (see `foley.classes.table`) that a text betrays."""
    folded = text.casefold()
    for sense, words in senses:
        for word in words:
            ending = r"\w*" if word.endswith("*") else ""
            body = r"[\s-]+".join(map(re.escape, word.removesuffix("*").casefold().split()))
            found = re.search(rf"(?<!\w){body}{ending}(?!\w)", folded)
            if found is not None:
                return Finding("banned_sense", f"{sense}: {found[0]}")
    return None
