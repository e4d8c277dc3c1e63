"""Prompts back from their table, for the generators: which prompt a clip is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foley import tables
from foley.tables.prompts import PROMPTS


@dataclass(frozen=True)
class PromptText:
    """What a generator needs of a prompt, and what a clip's row keeps of it."""

    prompt_id: str
    text: str


def read_prompts(path: Path) -> dict[str, list[PromptText]]:
    """Label -> its prompts in their order; every label has at least one."""
    found: dict[str, list[PromptText]] = {}
    for row in tables.read(path, PROMPTS, columns=["label", "prompt_id", "text"]).to_pylist():
        found.setdefault(row["label"], []).append(PromptText(row["prompt_id"], row["text"]))
    return found


def prompt_of_clip(prompts: Sequence[PromptText], number: int) -> PromptText:
    """The prompt of a class's clip ``number`` (from 0): one after the other, and again from the first."""
    return prompts[number % len(prompts)]
