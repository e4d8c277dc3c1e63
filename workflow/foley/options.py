"""A component's options: a dataclass in its own file, filled from the config with readable errors.

Apart from `config`, so that scripts reach this small module and not the models of the whole config: a new section
there must not rerun what does not use it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError


class ConfigError(ValueError):
    """The config is wrong; the message names the key and says what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint: "did you mean `x`?" when a known name is close, else the list of known names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {', '.join(f'`{k}`' for k in sorted(known)) or 'none'}"


def explain(key: str, item: Mapping[str, Any]) -> str:
    """One of pydantic's errors in a line."""
    message = re.sub(r"^(Value error|Assertion failed), ", "", item["msg"])
    got = item.get("input")
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool | type(None)) else ""
    return f"`{key}`: {message}{shown}" if key else message


def parse_options(options_class: type, given: Mapping[str, Any], where: str) -> Any:
    """A component's options as its dataclass.

    Raises:
        ConfigError: unknown keys or wrong types; ``where`` is the key of the options in the config.
    """
    if not dataclasses.is_dataclass(options_class):
        raise TypeError(f"{options_class} is not a dataclass")
    names = [item.name for item in dataclasses.fields(options_class)]
    for key in given:
        if key not in names:
            raise ConfigError(f"config: unknown key `{where}.{key}`; {did_you_mean(str(key), names)}")
    try:
        return TypeAdapter(options_class).validate_python(dict(given))
    except ValidationError as error:
        lines = [
            explain(".".join([where, *map(str, item["loc"])]), item)
            for item in error.errors(include_url=False)
        ]
        raise ConfigError("config: " + "\n        ".join(lines)) from None
    except ValueError as error:
        raise ConfigError(f"config: `{where}`: {error}") from None
