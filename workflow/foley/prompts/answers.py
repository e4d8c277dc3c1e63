"""The forms that a language model's answers must have, and the check that they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foley.prompts.ask import status_of
from foley.prompts.clients.protocol import Answer
from foley.prompts.screen import is_refusal


class AnswerForm(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def schema_sent(cls) -> dict[str, Any]:
        """The JSON schema that goes with a request: references resolved, titles left out."""
        whole = cls.model_json_schema()
        return _plain(whole, whole.get("$defs", {}))


class Captions(AnswerForm):
    captions: list[str] = Field(description="one sound a caption, in one English sentence or phrase")


class Words(AnswerForm):
    words: list[str] = Field(description="words, or phrases of at most three words, that describe the sound")


class Verdict(AnswerForm):
    number: int = Field(description="number of the text that is judged")
    describes_sound: bool = Field(description="whether the text describes something that can be heard")
    right_sense: bool = Field(description="whether it is a sound of the class in the sense that is meant")
    reason: str = Field(description="why, in at most twelve words")


class Verdicts(AnswerForm):
    verdicts: list[Verdict]


FormT = TypeVar("FormT", bound=AnswerForm)


def _plain(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    kept: dict[str, Any] = {key: schema[key] for key in ("type", "description", "required") if key in schema}
    if "properties" in schema:
        kept["properties"] = {
            name: _plain(inner, definitions) for name, inner in schema["properties"].items()
        }
    if "items" in schema:
        kept["items"] = _plain(schema["items"], definitions)
    return kept


def read_answer(answer: Answer, form: type[FormT]) -> tuple[str, str | None, FormT | None]:
    """Status, reason and content of an answer.

    The status is `ok`, `blocked` (by the service), `cut_off`, `refused` (by the model, in words) or `invalid` (not of
    the form); the content is None but for `ok`.
    """
    status, reason = status_of(answer)
    if status != "ok":
        return status, reason, None
    try:
        return "ok", None, form.model_validate_json(_json_in(answer.text))
    except ValidationError as error:
        if is_refusal(answer.text):
            return "refused", "the model declines in words", None
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return "invalid", f"{place}: {first['msg']}" if place else first["msg"], None


def _json_in(text: str) -> str:
    """The JSON object in a text: models that nothing holds to a schema put it in a code block, or a word before it."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text
