"""Prompts of words that describe a class's sound, from a list: published, or the user's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from foley.options import ConfigError
from foley.prompts.accept import Rules, accept
from foley.prompts.draw import draw_words
from foley.prompts.label import label_prompt
from foley.prompts.lists import match_classes, read_lists
from foley.prompts.protocol import ClassBrief, Progress, Prompt, Setting, Written, check_template, fill

log = logging.getLogger(__name__)

Fallback = Literal["fail", "label"]


def texts_for(
    briefs: Sequence[ClassBrief], path: str, aliases: Mapping[str, str], missing: Fallback, where: str
) -> dict[str, list[str]]:
    """Label -> its texts in the file at ``path``; none for a class that it lacks, where that is allowed.

    Raises:
        ValueError: the file lacks classes and ``missing`` is `fail`; names them and what it has left.
    """
    lists = read_lists(Path(path))
    names = match_classes([brief.label for brief in briefs], list(lists), aliases)
    lacking = [brief.label for brief in briefs if brief.label not in names]
    if lacking and missing == "fail":
        unused = [name for name in lists if name not in names.values()]
        raise ValueError(
            f"{path} lacks the classes {lacking}; it has these that fit none: {unused[:20]}. Match them by "
            f"`{where}.aliases` (class: name in the file), or set `{where}.missing: label` to name the class alone"
        )
    respelt = {label: name for label, name in names.items() if label != name}
    if respelt:
        log.info("%s: classes under other names: %s", path, respelt)
    return {brief.label: lists[names[brief.label]] if brief.label in names else [] for brief in briefs}


def stand_in(brief: ClassBrief, template: str, missing: Fallback, why: str) -> Prompt:
    """The prompt of a class that has no other: its name alone.

    Raises:
        ValueError: that is not wanted.
    """
    if missing == "fail":
        raise ValueError(
            f"class `{brief.label}`: {why}. Add texts that describe its sound, or set `missing: label` to name the "
            "class alone"
        )
    log.warning("class `%s`: %s; its prompt names the class alone", brief.label, why)
    return label_prompt(brief, template)


def check_path(path: str, where: str) -> None:
    if not path:
        raise ConfigError(f"config: `{where}.path`: name the file that holds the texts of each class")


class WordPrompts:
    """A few words of a class's list drawn for each prompt; published lists are used this way (arXiv 2406.08800)."""

    @dataclass(frozen=True)
    class Options:
        """
        path: a JSON, YAML or CSV file (`foley.prompts.lists`).
        template: with {label} and {words}; that of the dataset kind when left out ("{label} sound, {words}").
        per_prompt: words drawn for a prompt, without replacement.
        prompts: prompts a class: one for each clip, if there are as many combinations.
        seed: of the draws.
        check: leave out words of another sense and near-duplicates; false takes the list as it was published.
            Markup, addresses, paths and instructions are refused either way.
        similarity: from where on a word repeats one before it (`foley.prompts.similarity`).
        aliases: class -> its name in the file, where the two do not match.
        missing: what to do with a class without words: fail, or name the class alone.
        """

        path: str = ""
        template: str | None = None
        per_prompt: int = 3
        prompts: int = 30
        seed: int = 0
        check: bool = True
        similarity: float = 0.7
        aliases: dict[str, str] = field(default_factory=dict)
        missing: Fallback = "fail"

        def __post_init__(self) -> None:
            if self.template is not None:
                check_template(self.template, ("label", "words"), "options")
            if self.per_prompt < 1 or self.prompts < 1:
                raise ValueError("per_prompt and prompts must be at least 1")

    def __init__(self, options: Options, setting: Setting) -> None:
        check_path(options.path, setting.where)
        self.options, self.setting = options, setting
        self.template = options.template or setting.templates.words

    def write(self, briefs: Sequence[ClassBrief], progress: Progress = iter) -> Written:
        given = self.options
        texts = texts_for(briefs, given.path, given.aliases, given.missing, self.setting.where)
        rules = Rules("words", given.check, given.similarity if given.check else 2.0)
        written = Written()
        for brief in progress(briefs):
            words, refused = accept(texts[brief.label], brief, rules, "words")
            written.rejected += refused
            if not words:
                why = f"none of its {len(texts[brief.label])} words in {given.path} can be used"
                written.prompts.append(stand_in(brief, self.setting.templates.label, given.missing, why))
                continue
            written.prompts += prompts_of_words(
                brief, words, self.template, given.per_prompt, given.prompts, given.seed
            )
        return written


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
