"""Prompt writers and clients of language models by name: one line each."""

from __future__ import annotations

from collections.abc import Mapping
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
