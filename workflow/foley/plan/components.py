"""Looking components up by name, and checking their options without importing them twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foley.options import ConfigError, did_you_mean, parse_options
from foley.runtime.code import code_hash, load, module_file


def target(kinds: Mapping[str, str], name: str, where: str) -> str:
    """`package.module:Class` of the kind that the config names at ``where``.

    Raises:
        ConfigError: there is no such kind.
    """
    if name not in kinds:
        raise ConfigError(
            f"config: `{where}` is `{name}`, which Foley does not know; {did_you_mean(name, kinds)}"
        )
    return kinds[name]


def check_options(component: str, options: Mapping[str, Any], where: str, cache: Path) -> None:
    """Check options against the dataclass in the component's own file, which may import torch.

    The answer is kept below ``cache``, keyed by options and code, so that only a new combination costs that second.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    if not options:
        return
    file = module_file(component.partition(":")[0])
    assert file is not None
    facts = json.dumps([component, dict(options), code_hash(file)], sort_keys=True, default=str)
    mark = cache / "checked" / hashlib.sha256(facts.encode()).hexdigest()[:24]
    if mark.is_file():
        return
    parse_options(load(component).Options, options, where)  # type: ignore[attr-defined]
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def need_file(path: str | None, where: str, what: str) -> None:
    """Raise ConfigError where a file that the config names is not there."""
    if path is None or not Path(path).is_file():
        raise ConfigError(f"config: `{where}`: no file at {path}; it should hold {what}")
