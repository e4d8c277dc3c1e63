"""The texts in resources/prompts: templates for each dataset kind, and the instructions for a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from foley.options import did_you_mean
from foley.prompts.protocol import Templates, check_template

DEFAULT = "default"
# Each instruction with the placeholders that it must hold.
INSTRUCTIONS = {
    "system": (),
    "captions": ("count", "label", "context", "hints", "senses", "avoid"),
    "words": ("count", "label", "context", "hints", "senses", "avoid"),
    "critic_system": (),
    "critic": ("label", "context", "hints", "senses", "texts"),
}


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys and values, got {type(content).__name__}")
    return content


def read_templates(path: Path, kind: str) -> Templates:
    """The templates of a dataset kind; what the file does not say for it is as under `default`.

    Raises:
        ValueError: the file is not valid; names file, kind and key.
    """
    content = _mapping(path)
    known = ("label", "words", "context")
    for name, entry in content.items():
        if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
            raise ValueError(f"{path}: {name} must hold texts under {', '.join(known)}")
        for key in entry:
            if key not in known:
                raise ValueError(f"{path}: unknown key {name}.{key}; {did_you_mean(str(key), known)}")
    lacking = [key for key in known if key not in content.get(DEFAULT, {})]
    if lacking:
        raise ValueError(f"{path}: {DEFAULT} lacks {', '.join(lacking)}")
    texts = content[DEFAULT] | content.get(kind, {})
    check_template(texts["label"], ("label",), f"{path}: {kind}.label")
    check_template(texts["words"], ("label", "words"), f"{path}: {kind}.words")
    return Templates(**texts)


def read_instructions(path: Path) -> dict[str, str]:
    """The instructions for a language model, by name.

    Raises:
        ValueError: one is missing, or lacks a placeholder; names file and key.
    """
    content = _mapping(path)
    for name, needs in INSTRUCTIONS.items():
        if not isinstance(content.get(name), str):
            raise ValueError(f"{path}: {name} must be a text")
        check_template(content[name], needs, f"{path}: {name}")
    return {name: content[name].strip() for name in INSTRUCTIONS}
