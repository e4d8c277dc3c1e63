"""Prompts of words that describe a class's sound, from a list: published, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foley.prompts.draw import draw_words
from foley.prompts.listed import ListedOptions, ListedPrompts
from foley.prompts.protocol import ClassBrief, Prompt, Setting, check_template, fill


@dataclass(frozen=True)
class WordOptions(ListedOptions):
    """
    template: with {label} and {words}; that of the dataset kind when left out ("{label} sound, {words}").
    per_prompt: words drawn for a prompt, without replacement.
    prompts: prompts a class: one for each clip, if there are as many combinations.
    seed: of the draws.
    """

    template: str | None = None
    per_prompt: int = 3
    prompts: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        if self.template is not None:
            check_template(self.template, ("label", "words"), "options")
        if self.per_prompt < 1 or self.prompts < 1:
            raise ValueError("per_prompt and prompts must be at least 1")


class WordPrompts(ListedPrompts):
    """A few words of a class's list drawn for each prompt; published lists are used this way (arXiv 2406.08800)."""

    Options = WordOptions
    form = "words"
    strategy = "words"

    def __init__(self, options: WordOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.template = options.template or setting.templates.words

    def prompts_of(self, brief: ClassBrief, texts: Sequence[str]) -> list[Prompt]:
        given = self.options
        return prompts_of_words(brief, texts, self.template, given.per_prompt, given.prompts, given.seed)


def prompts_of_words(
    brief: ClassBrief, words: Sequence[str], template: str, per_prompt: int, prompts: int, seed: int
) -> list[Prompt]:
    """Prompts of drawn words; a word that the list holds twice is as likely as it stands there."""
    return [
        Prompt(
            brief.class_id,
            brief.label,
            position,
            "words",
            fill(template, label=brief.spoken, words=", ".join(drawn)),
            drawn,
        )
        for position, drawn in enumerate(draw_words(words, per_prompt, prompts, seed, brief.label))
    ]
