"""Whole prompts for each class from a file: the user's own captions."""

from __future__ import annotations

from collections.abc import Sequence

from foley.prompts.listed import ListedPrompts
from foley.prompts.protocol import ClassBrief, Prompt


class FilePrompts(ListedPrompts):
    """The captions of a file as they stand, each a prompt."""

    form = "captions"
    strategy = "file"

    def prompts_of(self, brief: ClassBrief, texts: Sequence[str]) -> list[Prompt]:
        return [
            Prompt(brief.class_id, brief.label, position, self.strategy, text)
            for position, text in enumerate(dict.fromkeys(texts))
        ]
