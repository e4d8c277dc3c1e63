"""Whole prompts for each class from a file: the user's own captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from foley.prompts.accept import Rules, accept
from foley.prompts.protocol import ClassBrief, Progress, Prompt, Setting, Written
from foley.prompts.words import Fallback, check_path, stand_in, texts_for


class FilePrompts:
    """The captions of a file as they stand, each a prompt."""

    @dataclass(frozen=True)
    class Options:
        """
        path: a JSON, YAML or CSV file (`foley.prompts.lists`).
        check: leave out captions of another sense and near-duplicates. Markup, addresses, paths and instructions are
            refused either way.
        similarity: from where on a caption repeats one before it (`foley.prompts.similarity`).
        aliases: class -> its name in the file, where the two do not match.
        missing: what to do with a class without captions: fail, or name the class alone.
        """

        path: str = ""
        check: bool = True
        similarity: float = 0.7
        aliases: dict[str, str] = field(default_factory=dict)
        missing: Fallback = "fail"

    def __init__(self, options: Options, setting: Setting) -> None:
        check_path(options.path, setting.where)
        self.options, self.setting = options, setting

    def write(self, briefs: Sequence[ClassBrief], progress: Progress = iter) -> Written:
        given = self.options
        texts = texts_for(briefs, given.path, given.aliases, given.missing, self.setting.where)
        rules = Rules("captions", given.check, given.similarity if given.check else 2.0)
        written = Written()
        for brief in progress(briefs):
            captions, refused = accept(texts[brief.label], brief, rules, "file")
            written.rejected += refused
            if not captions:
                why = f"none of its {len(texts[brief.label])} captions in {given.path} can be used"
                written.prompts.append(stand_in(brief, self.setting.templates.label, given.missing, why))
                continue
            written.prompts += [
                Prompt(brief.class_id, brief.label, position, "file", text)
                for position, text in enumerate(dict.fromkeys(captions))
            ]
        return written
