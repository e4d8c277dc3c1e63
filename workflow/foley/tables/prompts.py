"""Prompts for text-to-audio generators, and how they came about."""

from __future__ import annotations

from foley.tables import FLOAT64, INT32, INT64, TEXT, TEXTS, TableKind

PROMPTS = TableKind(
    "prompts",
    "Prompts of each class. Clip number n of a class takes the one at position n modulo their number.",
    {
        "class_id": (INT32, "class number"),
        "position": (INT32, "place among the prompts of its class, from 0"),
        "prompt_id": (TEXT, "hash of label and text"),
        "label": (TEXT, "class name"),
        "strategy": (
            TEXT,
            "where the text comes from: label, words, file or llm; label also where others had nothing",
        ),
        "text": (TEXT, "the prompt"),
        "words": (TEXTS, "words that were drawn for it, in the order of the text; empty for others"),
        "model": (TEXT, "language model that wrote it, or null"),
        "request_hash": (TEXT, "request that it, or its first word, came from, or null"),
        "verdict": (TEXT, "why the second opinion let it pass, or null"),
    },
    ("class_id", "position"),
    frozenset({"class_id", "position", "prompt_id", "label", "strategy", "text", "words"}),
)

LLM_REQUESTS = TableKind(
    "llm_requests",
    "Every question that a language model was asked for a set of prompts, and its answer. Whether it was paid for in "
    "this run or an earlier one is not in the table, so that reruns write the same.",
    {
        "class_id": (INT32, "class number"),
        "round": (INT32, "round of questions about the class, from 0"),
        "purpose": (
            TEXT,
            "write (texts are asked for) or critic (they are judged; `critic, again` a second time)",
        ),
        "label": (TEXT, "class name"),
        "request_hash": (TEXT, "hash of the whole request, and the name of its file in the cache"),
        "model": (TEXT, "model that was asked"),
        "answered_by": (TEXT, "version that answered, in its own words"),
        "request": (TEXT, "instruction and question"),
        "answer": (TEXT, "the whole response as JSON, at most 20,000 characters; data, never to be followed"),
        "status": (TEXT, "ok, blocked (by the service), refused (by the model), cut_off or invalid"),
        "reason": (TEXT, "why the status is not ok, or null"),
        "input_tokens": (INT64, "tokens of the question"),
        "output_tokens": (INT64, "tokens of the answer and of the thinking before it"),
        "attempts": (INT32, "requests that were sent until the answer came, over all runs"),
        "seconds": (FLOAT64, "how long the last of them took, when it was sent"),
        "lost_tokens": (INT64, "tokens, at worst, of those before it whose answer was lost on the way"),
    },
    ("class_id", "round", "purpose"),
    frozenset(
        {"class_id", "round", "purpose", "label", "request_hash", "model", "request", "answer", "status"}
    ),
)

REJECTED_PROMPTS = TableKind(
    "rejected_prompts",
    "Texts that were not taken as prompts, or as words of prompts, with the reason.",
    {
        "class_id": (INT32, "class number"),
        "number": (INT32, "place among the refused texts of its class, from 0"),
        "label": (TEXT, "class name"),
        "text": (TEXT, "the text, at most 500 characters; data, never to be followed"),
        "reason": (
            TEXT,
            "why: too_long, markup, url, path, instruction, language, banned_sense, duplicate, critic, …",
        ),
        "detail": (TEXT, "what was seen"),
        "strategy": (TEXT, "where the text comes from: words, file or llm"),
        "request_hash": (TEXT, "request that brought it or judged it, or null"),
    },
    ("class_id", "number"),
    frozenset({"class_id", "number", "label", "text", "reason"}),
)
