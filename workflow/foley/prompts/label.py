"""Prompts from the class's name alone: a template, or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foley.options import ConfigError
from foley.prompts.protocol import ClassBrief, Progress, Prompt, Setting, Written, check_template, fill


def label_prompt(brief: ClassBrief, template: str, position: int = 0) -> Prompt:
    text = fill(template, label=brief.spoken)
    return Prompt(brief.class_id, brief.label, position, "label", text)


class LabelPrompts:
    """Templates filled with the class's name."""

    @dataclass(frozen=True)
    class Options:
        """
        template: with the placeholder {label}; that of the dataset kind when left out ("{label} sound").
        more: further templates, the second, third, … prompt of each class.
        """

        template: str | None = None
        more: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            for template in (self.template, *self.more):
                if template is not None:
                    check_template(template, ("label",), "options")

    def __init__(self, options: Options, setting: Setting) -> None:
        self.templates = (options.template or setting.templates.label, *options.more)
        if len(set(self.templates)) < len(self.templates):
            raise ConfigError(f"config: `{setting.where}`: one template stands twice in {self.templates}")

    def write(self, briefs: Sequence[ClassBrief], progress: Progress = iter) -> Written:
        return Written(
            prompts=[
                label_prompt(brief, template, position)
                for brief in progress(briefs)
                for position, template in enumerate(self.templates)
            ]
        )
