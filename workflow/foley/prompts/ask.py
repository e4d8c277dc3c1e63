"""Questions to a language model: from the cache where the answer is there, else sent, with patience and a budget."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import ConfigDict

from foley.download.http import Patience, is_offline
from foley.prompts.budget import Budget
from foley.prompts.cache import AnswerCache, Stored, request_hash
from foley.prompts.clients.protocol import UNREADABLE, Answer, Client, ClientError, Request, Unavailable

log = logging.getLogger(__name__)

# Characters a token: few enough that the budget's worst case is one.
_CHARS_PER_TOKEN = 2


@dataclass(frozen=True)
class Limits:
    """What asking may cost and how patient it is. None of it changes an answer.

    max_requests, max_tokens: of a whole set of prompts, all runs together and failures too; checked before anything is
        sent.
    concurrency: classes that are worked on at once.
    timeout_s: how long one answer may take.
    attempts: of one request, in a row.
    first_wait_s, longest_wait_s: pause after the first failure, doubled after each further one up to the longest.
    longest_retry_after_s: a service that asks for a longer pause than this ends the run.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    max_requests: int = 2_000
    max_tokens: int = 2_000_000
    concurrency: int = 2
    timeout_s: float = 120.0
    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_retry_after_s: float = 900.0

    def __post_init__(self) -> None:
        if min(self.max_requests, self.max_tokens) < 0:
            raise ValueError("max_requests and max_tokens must not be negative")
        if min(self.concurrency, self.attempts) < 1 or self.timeout_s <= 0:
            raise ValueError("concurrency and attempts must be at least 1, timeout_s above 0")

    @property
    def patience(self) -> Patience:
        return Patience(
            attempts=self.attempts,
            first_wait_s=self.first_wait_s,
            longest_wait_s=self.longest_wait_s,
            silence_s=self.timeout_s,
            longest_retry_after_s=self.longest_retry_after_s,
        )


class NotAnswered(Exception):
    """The cache has no answer, and nothing may be sent."""


class Stopped(Exception):
    """Another thread has failed: what has not been sent stays unsent."""


Ask = Callable[[Request], tuple[str, Stored]]


class Asker:
    """Answers by request, as (hash, answer). Threads may share it."""

    def __init__(
        self,
        cache: AnswerCache,
        identity: Mapping[str, str],
        limits: Limits,
        make_client: Callable[[], Client],
    ) -> None:
        self.budget = Budget(limits.max_requests, limits.max_tokens)
        self.sent = 0
        self._cache, self._identity, self._patience = cache, identity, limits.patience
        self._make_client = make_client
        self._client: Client | None = None
        self._client_lock = threading.Lock()
        self._stop = threading.Event()
        # The service asks all of its callers to wait, not the thread that it told so.
        self._not_before = 0.0
        self._pause_lock = threading.Lock()

    def recall(self, request: Request) -> tuple[str, Stored]:
        """An answer that is there.

        Raises:
            NotAnswered: there is none.
        """
        key = request_hash(request, self._identity)
        stored = self._cache.get(key)
        if stored is None:
            self._count_failed(key)
            raise NotAnswered(key)
        self._count(key, stored)
        return key, stored

    def ask(self, request: Request) -> tuple[str, Stored]:
        """An answer that is there, or one that is asked for now and kept before it is returned.

        Raises:
            ClientError: it cannot be had.
            BudgetSpent: it would cost too much.
            Stopped: `stop` was called.
        """
        key = request_hash(request, self._identity)
        stored = self._cache.get(key)
        if stored is None:
            with self._cache.lock(key):
                stored = self._cache.get(key)  # another process may have asked meanwhile
                if stored is None:
                    return key, self._send(key, request)
        self._count(key, stored)
        return key, stored

    def stop(self) -> None:
        self._stop.set()

    def _count(self, key: str, stored: Stored) -> None:
        answer = stored.answer
        tokens = answer.input_tokens + answer.output_tokens + stored.lost_tokens
        self.budget.count(key, stored.attempts, tokens)

    def _count_failed(self, key: str) -> tuple[int, int]:
        """Requests of earlier runs that have no answer yet; counted once, whatever is sent under the hash now."""
        requests, tokens = self._cache.failed(key)
        self.budget.count(f"{key}, failed", requests, tokens)
        return requests, tokens

    def _send(self, key: str, request: Request) -> Stored:
        client = self._connect()
        worst = (len(request.system) + len(request.text)) // _CHARS_PER_TOKEN + request.max_output_tokens
        before, lost = self._count_failed(key)
        for attempt in range(1, self._patience.attempts + 1):
            self._wait_for_service()
            self.budget.reserve(worst)
            self._cache.note_sent(key, worst)
            self.sent += 1
            start = time.monotonic()
            try:
                answer = client.complete(request)
            except (Unavailable, ClientError) as failed:
                paid = worst if isinstance(failed, Unavailable) and failed.paid else 0
                self._cache.note_failed(key, str(failed), paid)
                lost += paid
                if paid:
                    self.budget.lose(worst)
                else:
                    self.budget.settle(key, worst, None)
                if isinstance(failed, ClientError):
                    raise
                wait = self._wait_s(attempt, failed)
                log.warning("request %s: %s; again in %.1f s", key, failed.reason, wait)
            except BaseException:
                self.budget.lose(worst)  # as the file says: it was sent
                raise
            else:
                self.budget.settle(key, worst, answer.input_tokens + answer.output_tokens)
                stored = Stored(answer, before + attempt, round(time.monotonic() - start, 3), lost)
                self._cache.put(key, request, self._identity, stored)
                return stored
            if self._stop.wait(wait):
                raise Stopped
        raise AssertionError("unreachable")

    def _wait_for_service(self) -> None:
        """Wait while the service has asked any thread to.

        Raises:
            Stopped: `stop` was called.
        """
        while True:
            with self._pause_lock:
                left = self._not_before - time.monotonic()
            # Spread out, so that threads that waited together do not come back together.
            if self._stop.wait(left * random.uniform(1.0, 1.1)) if left > 0 else self._stop.is_set():
                raise Stopped
            if left <= 0:
                return

    def _wait_s(self, attempt: int, failed: Unavailable) -> float:
        """How long to wait after a failure; never less than the service asks for.

        Raises:
            ClientError: too long, or too often.
        """
        patience = self._patience
        if attempt >= patience.attempts:
            raise ClientError(f"{failed.reason}, {attempt} times in a row. Start again later") from None
        if failed.wait_s is not None and failed.wait_s > patience.longest_retry_after_s:
            raise ClientError(
                f"{failed.reason} and asks to wait for {failed.wait_s:.0f} s. Start again after that"
            ) from None
        # Spread out, so that jobs that failed together do not come back together.
        wait = min(patience.first_wait_s * 2 ** (attempt - 1), patience.longest_wait_s)
        wait *= random.uniform(0.5, 1.0)
        if failed.wait_s is not None:
            wait = max(wait, failed.wait_s + random.uniform(0.0, 0.1) * failed.wait_s)
            with self._pause_lock:
                self._not_before = max(self._not_before, time.monotonic() + failed.wait_s)
        return wait

    def _connect(self) -> Client:
        """The client, made when something must be sent: a run that only reads answers needs no key or network."""
        with self._client_lock:
            if self._client is None:
                if is_offline() and self._identity.get("client") != "local":
                    raise ClientError(
                        "connections are off (offline mode), and this answer is not in the cache"
                    )
                self._client = self._make_client()
            return self._client


def readable(request: Request) -> str:
    """What was asked, in one text for a table."""
    return f"{request.system}\n\n{request.text}"


def status_of(answer: Answer) -> tuple[str, str | None]:
    """Whether a model has answered: ok, cut_off, blocked or invalid, with the reason."""
    if answer.finish == "STOP":
        return "ok", None
    if answer.finish == "MAX_TOKENS":
        return "cut_off", "the answer was longer than max_output_tokens"
    if answer.finish == UNREADABLE:
        return "invalid", "the response is whole, but has not the service's form"
    return "blocked", answer.finish
