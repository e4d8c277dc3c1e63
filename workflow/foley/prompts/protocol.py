"""What a prompt writer is: from what is known of the classes to the prompts of each, and what it threw away."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

# What passes classes through and may show how many are done (`Job.progress`).
Progress = Callable[[Iterable[Any]], Iterator[Any]]


def spoken(label: str) -> str:
    """A label as a person would write it: `sea_waves`, `Sea+waves` and `SeaWaves` are `sea waves`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
    return " ".join(re.sub(r"[_+]", " ", apart).split()).lower()


@dataclass(frozen=True)
class ClassBrief:
    """What a prompt writer knows of a class.

    banned_senses: other meanings of its name, each with the words that betray it (`foley.classes.table`).
    """

    class_id: int
    label: str
    synonyms: tuple[str, ...] = ()
    banned_senses: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def spoken(self) -> str:
        return spoken(self.label)


@dataclass(frozen=True)
class Templates:
    """How prompts of a dataset kind read, and what its clips are (`resources/prompts/templates.yaml`).

    label: with the placeholder {label}.
    words: with the placeholders {label} and {words}.
    context: what the clips of the dataset are, in a few words, for the instruction of a language model.
    """

    label: str
    words: str
    context: str


@dataclass(frozen=True)
class Setting:
    """What a writer is given beside its options.

    where: key of its options in the config, for errors.
    instructions: texts for a language model by name (`resources/prompts/instructions.yaml`).
    cache: folder that outlives the rule's outputs.
    """

    where: str
    templates: Templates
    instructions: dict[str, str]
    cache: Path


@dataclass(frozen=True)
class Prompt:
    """A prompt of a class.

    strategy: the kind of writer that its text came from.
    words: what was drawn for it, in the order of the text; empty for whole captions and templates.
    """

    class_id: int
    label: str
    position: int
    strategy: str
    text: str
    words: tuple[str, ...] = ()
    model: str | None = None
    request_hash: str | None = None
    verdict: str | None = None

    @property
    def prompt_id(self) -> str:
        """The same for equal texts of one class, wherever and whenever they were written."""
        return hashlib.sha256(f"{self.label}\x1f{self.text}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Rejected:
    """A text that was not taken, with the reason (`foley.prompts.screen`) and what was seen."""

    class_id: int
    label: str
    text: str
    reason: str
    detail: str
    strategy: str
    request_hash: str | None = None


@dataclass(frozen=True)
class Exchange:
    """A request to a language model and what came back (columns of `foley.tables.prompts.LLM_REQUESTS`)."""

    class_id: int
    label: str
    round: int
    purpose: str
    request_hash: str
    model: str
    answered_by: str
    request: str
    answer: str
    status: str
    reason: str | None
    input_tokens: int
    output_tokens: int
    attempts: int
    seconds: float
    lost_tokens: int


@dataclass
class Written:
    """All that came of writing prompts for one class or for many."""

    prompts: list[Prompt] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    def add(self, other: Written) -> None:
        self.prompts += other.prompts
        self.rejected += other.rejected
        self.exchanges += other.exchanges


class PromptWriter(Protocol):
    """A way to come by prompts."""

    Options: ClassVar[type]

    def __init__(self, options: Any, setting: Setting) -> None:
        """
        Raises:
            ConfigError: options that do not fit the setting.
        """

    def write(self, briefs: Sequence[ClassBrief], progress: Progress = iter) -> Written:
        """Prompts for every class, each class with at least one.

        Raises:
            ValueError: a class without a prompt; says how to come by one.
        """


def check_template(template: str, needs: Sequence[str], where: str) -> str:
    """The template, if it holds each of the placeholders ``needs`` and no other.

    Raises:
        ValueError: it does not; names it and ``where`` it stands.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{where}: template {template!r} is malformed: {error}") from None
    found = {name for _, name, spec, conversion in parts if name is not None and not spec and not conversion}
    if found != set(needs) or any(spec or conversion for _, _, spec, conversion in parts):
        wanted = " and ".join(f"{{{name}}}" for name in needs)
        raise ValueError(f"{where}: template {template!r} must hold {wanted} and no other placeholder")
    return template


def fill(template: str, **values: str) -> str:
    """A checked template with its placeholders filled; braces in a value mean nothing."""
    return "".join(
        literal + (values[name] if name is not None else "")
        for literal, name, _, _ in string.Formatter().parse(template)
    )
