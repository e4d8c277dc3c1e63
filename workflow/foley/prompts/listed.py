"""Prompts from a file with texts of each class: what captions and words share."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from foley.options import ConfigError
from foley.prompts.accept import Rules, accept
from foley.prompts.label import label_prompt
from foley.prompts.lists import match_classes, read_lists
from foley.prompts.protocol import ClassBrief, Progress, Prompt, Setting, Written
from foley.prompts.screen import Form

log = logging.getLogger(__name__)

Fallback = Literal["fail", "label"]
# No similarity is above 1: nothing is a near-duplicate.
_NEVER = 2.0


@dataclass(frozen=True)
class ListedOptions:
    """
    path: a JSON, YAML or CSV file (`foley.prompts.lists`).
    check: leave out texts of another sense and near-duplicates; false takes the list as it was published. Markup,
        addresses, paths and instructions are refused either way.
    similarity: from where on a text repeats one before it (`foley.prompts.similarity`).
    aliases: class -> its name in the file, where the two do not match.
    missing: what to do with a class without texts: fail, or name the class alone.
    """

    path: str = ""
    check: bool = True
    similarity: float = 0.7
    aliases: dict[str, str] = field(default_factory=dict)
    missing: Fallback = "fail"


class ListedPrompts(ABC):
    """Reads the file, refuses what describes no sound, and leaves to a kind what prompts become of a class's texts."""

    Options: ClassVar[type] = ListedOptions
    form: ClassVar[Form]
    strategy: ClassVar[str]

    def __init__(self, options: Any, setting: Setting) -> None:
        if not options.path:
            raise ConfigError(
                f"config: `{setting.where}.path`: name the file that holds the texts of each class"
            )
        self.options, self.setting = options, setting

    @abstractmethod
    def prompts_of(self, brief: ClassBrief, texts: Sequence[str]) -> list[Prompt]:
        """The prompts of a class; ``texts`` are those that passed, one at least."""

    def write(self, briefs: Sequence[ClassBrief], progress: Progress = iter) -> Written:
        given = self.options
        texts = texts_for(briefs, given.path, given.aliases, given.missing, self.setting.where)
        rules = Rules(self.form, given.check, given.similarity if given.check else _NEVER)
        written = Written()
        for brief in progress(briefs):
            passed, refused = accept(texts[brief.label], brief, rules, self.strategy)
            written.rejected += refused
            if passed:
                written.prompts += self.prompts_of(brief, passed)
                continue
            why = f"none of its {len(texts[brief.label])} {self.form} in {given.path} can be used"
            written.prompts.append(stand_in(brief, self.setting.templates.label, given.missing, why))
        return written


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
