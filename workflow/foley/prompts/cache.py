"""Answers that were paid for, one file each: written before anything is done with them, and never asked for again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foley import tables
from foley.download.lock import exclusive
from foley.prompts.clients.protocol import Answer, Request

log = logging.getLogger(__name__)

_FORMAT = 1


@dataclass(frozen=True)
class Stored:
    """An answer as it was when it came, with what it cost: the same however often it is read again.

    attempts: requests that were sent until it came.
    seconds: how long the last of them took.
    """

    answer: Answer
    attempts: int
    seconds: float


def request_hash(request: Request, identity: Mapping[str, str]) -> str:
    """A hash over all that decides an answer: who is asked, the model, every parameter, the whole text."""
    facts = {"format": _FORMAT, "identity": dict(identity), "request": asdict(request)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


class AnswerCache:
    """A folder of answers. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> Stored | None:
        """The answer under a request's hash; None where there is none, or none that can be read."""
        path = self.path(key)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return Stored(Answer(**content["answer"]), int(content["attempts"]), float(content["seconds"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            bad = path.with_name(f"{path.name}.bad")
            with suppress(FileNotFoundError):  # another process was quicker
                os.replace(path, bad)
            log.warning("%s is no answer any more: set aside as %s, it will be asked for again", path, bad)
            return None

    def put(self, key: str, request: Request, identity: Mapping[str, str], stored: Stored) -> None:
        """Keep an answer; when this returns, no crash can lose it."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "identity": dict(identity),
            "request": asdict(request),
            "answer": asdict(stored.answer),
            "attempts": stored.attempts,
            "seconds": stored.seconds,
        }
        path = self.path(key)
        with tables.atomic_file(path) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        for folder in (path.parent, self.folder):  # the names, too
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Only one process or thread at a time asks for an answer; the others wait for it."""
        with exclusive(self.path(key).with_name(f".{key}.lock"), f"request {key}"):
            yield
