"""Answers that were paid for, one file each: written before anything is done with them, and never asked for again.

Beside it, as long as there is no answer, a file of the requests that were sent for it and what became of them.
"""

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

    attempts: requests that were sent until it came, over all runs.
    seconds: how long the last of them took.
    lost_tokens: at worst, of those before it whose answer was lost on the way.
    """

    answer: Answer
    attempts: int
    seconds: float
    lost_tokens: int = 0


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
            return Stored(
                Answer(**content["answer"]), int(content["attempts"]), float(content["seconds"]),
                int(content.get("lost_tokens", 0)),
            )  # fmt: skip
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
            "lost_tokens": stored.lost_tokens,
        }
        path = self.path(key)
        with tables.atomic_file(path) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
        self._sync_names(path)
        self._tries(key).unlink(missing_ok=True)  # the answer says what they were

    def note_sent(self, key: str, worst: int) -> None:
        """Write down that a request of at most ``worst`` tokens goes out: it counts even if its process dies."""
        self._append(key, {"sent": worst})

    def note_failed(self, key: str, reason: str, tokens: int) -> None:
        """Write down that it failed, and what it may have cost."""
        self._append(key, {"failed": reason, "tokens": tokens})

    def failed(self, key: str) -> tuple[int, int]:
        """Requests under a hash that have no answer, of all runs, and the tokens that they took at worst."""
        requests = tokens = under_way = 0
        try:
            lines = self._tries(key).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return 0, 0
        for line in lines:
            try:
                note = json.loads(line)
                if "sent" in note:
                    requests, tokens, under_way = requests + 1, tokens + under_way, int(note["sent"])
                else:
                    tokens, under_way = tokens + int(note["tokens"]), 0
            except (ValueError, KeyError, TypeError):  # its process died while it wrote this
                continue
        return requests, tokens + under_way

    def _tries(self, key: str) -> Path:
        return self.path(key).with_suffix(".tries")

    def _append(self, key: str, note: Mapping[str, Any]) -> None:
        path = self._tries(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        # On a line of its own, whatever a process that died has left.
        line = f"\n{json.dumps(dict(note), ensure_ascii=False)}\n".encode()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            self._sync_names(path)

    def _sync_names(self, path: Path) -> None:
        """No crash can lose the names of a file and its folder."""
        for folder in (path.parent, self.folder):
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
