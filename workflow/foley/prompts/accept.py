"""From raw texts of one class to those that may be used: all rules in one place, each refusal with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foley.prompts.protocol import ClassBrief, Rejected
from foley.prompts.screen import CAPTION_BOUNDS, WORD_BOUNDS, Form, other_sense, screen, tidy
from foley.prompts.similarity import nearest

# How much of a refused text the table keeps.
KEPT_CHARS = 500


@dataclass(frozen=True)
class Rules:
    """
    form: what a text is, a whole caption or a word (or a few) to be drawn.
    senses: refuse texts that betray another sense of the class's name.
    similarity: refuse a text that is at least so similar to one before (`foley.prompts.similarity`); above 1 = never.
    """

    form: Form
    senses: bool = True
    similarity: float = 0.7


def refuse(
    brief: ClassBrief, text: str, reason: str, detail: str, strategy: str, request_hash: str | None = None
) -> Rejected:
    """A row for a refused text, bounded."""
    return Rejected(
        brief.class_id,
        brief.label,
        text[:KEPT_CHARS],
        reason,
        detail[:KEPT_CHARS],
        strategy,
        request_hash,
    )


def accept(
    texts: Sequence[str],
    brief: ClassBrief,
    rules: Rules,
    strategy: str,
    *,
    before: Sequence[str] = (),
    request_hash: str | None = None,
) -> tuple[list[str], list[Rejected]]:
    """The texts that pass all rules, tidied and in their order, and the others.

    Args:
        before: texts of the class that were accepted earlier; later ones must not resemble them.
    """
    bounds = CAPTION_BOUNDS if rules.form == "captions" else WORD_BOUNDS
    passed: list[str] = []
    refused: list[Rejected] = []
    for raw in texts:
        text = tidy(raw)
        finding = screen(text, bounds)
        if finding is None and rules.senses:
            finding = other_sense(text, brief.banned_senses)
        if finding is not None:
            refused.append(refuse(brief, raw, finding.reason, finding.detail, strategy, request_hash))
            continue
        alike, other = nearest(text, [*before, *passed])
        if alike >= rules.similarity:
            detail = f"{alike:.2f} like: {other}"
            refused.append(refuse(brief, raw, "duplicate", detail, strategy, request_hash))
            continue
        passed.append(text)
    return passed, refused
