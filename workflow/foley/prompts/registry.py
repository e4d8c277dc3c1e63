"""Prompt writers and clients of language models by name: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = {
    "file": "foley.prompts.file:FilePrompts",
    "label": "foley.prompts.label:LabelPrompts",
    "llm": "foley.prompts.llm:LLMPrompts",
    "words": "foley.prompts.words:WordPrompts",
}

CLIENTS = {
    "gemini": "foley.prompts.clients.gemini:GeminiClient",
    "gemini_legacy": "foley.prompts.clients.gemini_legacy:LegacyGeminiClient",
    "local": "foley.prompts.clients.local:LocalClient",
}


def targets(kind: str, options: Mapping[str, Any]) -> list[str]:
    """What a set of prompts is written by: its writer and, if that asks a language model, the client.

    Raises:
        KeyError: there is no such kind.
    """
    client = options.get("client", "gemini") if kind == "llm" else None
    return [KINDS[kind], *([CLIENTS[client]] if client in CLIENTS else [])]


def lasting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without the limits, which change no prompt: what a rule's parameters and a table's provenance hold."""
    return {name: value for name, value in options.items() if name != "limits"}


def files(options: Mapping[str, Any]) -> list[str]:
    """Files that a set of prompts is made from, for the rerun logic: a list of words, a model in a local folder."""
    found = [Path(str(options["path"])).expanduser()] if options.get("path") else []
    folder = Path(str(options.get("model", ""))).expanduser()
    if options.get("client") == "local" and folder.is_dir():
        found += [path for path in folder.iterdir() if path.is_file()]
    return sorted(map(str, found))


def uses_gpu(options: Mapping[str, Any]) -> bool:
    """Whether it runs a model here."""
    return options.get("client") == "local"
