"""What the clients of both of Gemini's packages share: its address, its JSON schema, and what its answers mean."""

from __future__ import annotations

import json
import re
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, ValidationError

# Private, but the house reads this header in one way.
from foley.download.http import retry_after as retry_after
from foley.prompts.clients.protocol import (
    LONGEST_ANSWER,
    UNREADABLE,
    Answer,
    ClientSettings,
    Request,
    Unavailable,
    api_key,
    failure,
    without,
)

ADDRESS = "https://generativelanguage.googleapis.com"


def address(base_url: str | None) -> str:
    """Where requests go; always named, so that no variable of the environment redirects them."""
    return (base_url or ADDRESS).rstrip("/")


def check_base_url(base_url: str | None) -> None:
    """Raise ValueError for an address that is none, or that holds a secret: the config is no place for one."""
    if base_url is None:
        return
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url must be an http:// or https:// address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("base_url must hold no user, password or query: secrets belong in the environment")


class GeminiService(ABC):
    """One request a call by one of the packages; retries and waiting are the caller's."""

    name: ClassVar[str]  # of the client in the config

    @classmethod
    def identity(cls, settings: ClientSettings) -> Mapping[str, str]:
        return {"client": cls.name, "address": address(settings.base_url)}

    def __init__(self) -> None:
        self._key = api_key()

    @abstractmethod
    def send(self, request: Request) -> str:
        """The body of the service's response. Raises as :class:`foley.prompts.clients.protocol.Client`."""

    def complete(self, request: Request) -> Answer:
        return read_response(self.send(request), request.model, self._key)

    def failed(self, status: int, message: str, response: object, details: object) -> Exception:
        """The error for a response that is none of success, to be raised ``from None``."""
        headers = getattr(response, "headers", None) or {}
        return failure(status, message, asked_wait_s(headers.get("Retry-After"), details), self._key)


def generation(request: Request) -> dict[str, Any]:
    """How to answer, by the names that both packages know."""
    return {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "candidate_count": 1,
        "max_output_tokens": request.max_output_tokens,
        "response_mime_type": "application/json",
        "response_schema": dialect(request.schema),
    }


def late() -> Unavailable:
    return Unavailable("the service did not answer in time", paid=True)


def unconnected(error: Exception, sent: bool) -> Unavailable:
    """``sent``: whether the request may have reached the service before the connection failed."""
    return Unavailable(f"the connection failed: {type(error).__name__}", paid=sent)


def broken() -> Unavailable:
    return Unavailable("the service's response broke off, or is no response of Gemini's", paid=True)


def dialect(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema as the service wants it: its own type names, and only the keywords that it knows."""
    kept: dict[str, Any] = {"type": str(schema["type"]).upper()}
    for key in ("description", "required", "enum"):
        if key in schema:
            kept[key] = schema[key]
    if "properties" in schema:
        kept["properties"] = {name: dialect(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = dialect(schema["items"])
    return kept


def asked_wait_s(header: str | None, details: object) -> float | None:
    """Seconds to wait: the longer of the header `Retry-After` and `retryDelay` in the error's google.rpc.RetryInfo."""
    waits = [retry_after(header), *_delays(details)]
    return max((wait for wait in waits if wait is not None), default=None)


def _delays(details: object) -> Iterable[float]:
    if isinstance(details, Mapping):
        delay = details.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
            yield float(delay[:-1])
        for inner in details.values():
            yield from _delays(inner)
    elif isinstance(details, list | tuple):
        for inner in details:
            yield from _delays(inner)


class _Part(BaseModel):
    text: str = ""
    thought: bool = False


class _Content(BaseModel):
    parts: list[_Part] = []


class _Candidate(BaseModel):
    content: _Content = _Content()
    finishReason: str | None = None


class _Feedback(BaseModel):
    blockReason: str | None = None


_Count = Annotated[int, Field(ge=0, lt=2**40)]


class _Usage(BaseModel):
    promptTokenCount: _Count = 0
    candidatesTokenCount: _Count = 0
    totalTokenCount: _Count = 0


class _Response(BaseModel):
    """What matters of a `GenerateContentResponse`; the service may add fields at any time."""

    candidates: list[_Candidate] = []
    promptFeedback: _Feedback = _Feedback()
    usageMetadata: _Usage = _Usage()
    modelVersion: str | None = None


def read_response(body: str, model: str, secret: str) -> Answer:
    """The answer in a response's JSON.

    A whole response was paid for, so it is an answer whatever it holds: null is like a field that is not there, and one
    of another form than Gemini's is `UNREADABLE`.

    Raises:
        Unavailable: the body is no whole JSON object; a proxy answered, or the connection broke off.
    """
    try:
        whole: object = json.loads(body)
    except json.JSONDecodeError:
        raise broken() from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, nesting without end
        whole = {"candidates": UNREADABLE}
    if not isinstance(whole, Mapping):
        raise broken()
    try:
        whole = _without_null(whole)
    except RecursionError:
        whole = {"candidates": UNREADABLE}
    try:
        response = _Response.model_validate(whole)
    except ValidationError:
        response = _Response(candidates=[_Candidate(finishReason=UNREADABLE)], usageMetadata=_usage_in(whole))
    candidate = response.candidates[0] if response.candidates else _Candidate(finishReason="NO_CANDIDATE")
    blocked = response.promptFeedback.blockReason
    usage = response.usageMetadata
    return Answer(
        text=without(secret, "".join(part.text for part in candidate.content.parts if not part.thought))[
            :LONGEST_ANSWER
        ],
        model=without(secret, response.modelVersion or model)[:200],
        finish=without(
            secret, f"PROMPT_BLOCKED: {blocked}" if blocked else candidate.finishReason or "UNKNOWN"
        )[:200],
        input_tokens=usage.promptTokenCount,
        # The total counts the thinking as well, which is paid for like an answer.
        output_tokens=max(usage.candidatesTokenCount, usage.totalTokenCount - usage.promptTokenCount),
        raw=_encodable(without(secret, body))[:LONGEST_ANSWER],
    )


def _usage_in(whole: object) -> _Usage:
    try:
        return _Usage.model_validate(whole.get("usageMetadata", {}) if isinstance(whole, Mapping) else {})
    except ValidationError:
        return _Usage()


def _without_null(value: Any) -> Any:
    """JSON without null, and with texts that can be written down."""
    if isinstance(value, Mapping):
        return {_encodable(key): _without_null(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_null(inner) for inner in value if inner is not None]
    return _encodable(value) if isinstance(value, str) else value


def _encodable(text: str) -> str:
    """A text in which half a surrogate pair, which no encoding knows, is the replacement character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
