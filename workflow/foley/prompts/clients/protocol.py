"""What a language model is to Foley: one request in, one answer out, and errors that say whether to try again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# The key of the service is taken from the first of these that is set, and from nowhere else.
KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
# More of an answer is cut off where it arrives.
LONGEST_ANSWER = 1_000_000
# How an answer finished that came whole, but not in the service's form.
UNREADABLE = "UNREADABLE"
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Request:
    """One question to a model: all that decides its answer.

    schema: JSON schema (objects, arrays, strings, integers, booleans) of the answer.
    seed: 31 bits; services honour it as well as they can.
    thinking_tokens: how long a model may think before it answers; None = as the model has it.
    """

    model: str
    system: str
    text: str
    schema: Mapping[str, Any]
    temperature: float
    top_p: float
    max_output_tokens: int
    seed: int
    thinking_tokens: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a model said.

    model: version that answered, in its own words.
    finish: STOP where it had finished, MAX_TOKENS where it was cut off, UNREADABLE where the response is of another
        form than the service's; else why there is no answer.
    output_tokens: of the answer and of the thinking before it.
    raw: the whole response as JSON.
    """

    text: str
    model: str
    finish: str
    input_tokens: int
    output_tokens: int
    raw: str


@dataclass(frozen=True)
class ClientSettings:
    """
    base_url: where the service is, if not at its own address (a proxy).
    revision: of a model on the Hugging Face hub.
    timeout_s: how long an answer may take.
    """

    model: str
    base_url: str | None = None
    revision: str | None = None
    timeout_s: float = 120.0


class Client(Protocol):
    """A way to a model. ``complete`` may be called from several threads."""

    @staticmethod
    def identity(settings: ClientSettings) -> Mapping[str, str]:
        """What else decides an answer beside the request: part of its hash. Needs no key, network or package."""

    def __init__(self, settings: ClientSettings) -> None:
        """
        Raises:
            ClientError: no key, or no such model.
        """

    def complete(self, request: Request) -> Answer:
        """
        Raises:
            Unavailable: a failure that may pass.
            ClientError: one that will not.
        """


class ClientError(ValueError):
    """A request that will fail again: no key, a wrong model, no permission. Says what to do."""


class Unavailable(Exception):
    """A failure that may pass.

    wait_s: how long to wait, where the service says so.
    paid: whether the service may have answered and count it, though nothing of use came.
    """

    def __init__(self, reason: str, wait_s: float | None = None, *, paid: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.wait_s, self.paid = reason, wait_s, paid


def api_key() -> str:
    """The key of the service.

    Raises:
        ClientError: it is not set, or no key; the message does not show it.
    """
    for name in KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if key and not re.fullmatch(r"[\x21-\x7e]+", key):
            raise ClientError(f"{name} holds blanks or special characters: it is no API key")
        if key:
            return key
    raise ClientError(
        f"no API key: set the environment variable {' or '.join(KEY_VARIABLES)}. It is read from there only, never "
        "from the config, and is written nowhere"
    )


def without(secret: str, text: str) -> str:
    """A text in which the secret cannot be read, should a server have sent it back."""
    return text.replace(secret, "[key]") if secret else text


def failure(status: int, message: str, retry_after_s: float | None, secret: str) -> Exception:
    """The error for an HTTP status of the service, to be raised ``from None``: causes hold headers, and so the key."""
    said = " ".join(without(secret, message).split())[:_LONGEST_MESSAGE]
    what = f"the service answered {status}" + (f" ({said})" if said else "")
    if status in (408, 425, 429) or status >= 500:
        return Unavailable(what, retry_after_s)
    if status in (401, 403) or "API_KEY_INVALID" in message or "API key not valid" in message:
        return ClientError(f"{what}: check the key in {' or '.join(KEY_VARIABLES)} and what it is allowed")
    if status == 404:
        return ClientError(f"{what}: there is no such model for this key; correct `model` in the options")
    return ClientError(f"{what}: it does not take this request; check `model` and the other options")
