"""What a set of prompts may cost, in requests and in tokens, over all runs that it takes."""

from __future__ import annotations

import threading


class BudgetSpent(ValueError):
    """The next request could cost more than is left."""


class Budget:
    """Counts every answer of the set and every failed request once, also those of earlier runs, and each request before
    it is sent.

    A request is only sent where its own worst case (the question, and the longest answer that is allowed) still fits
    beside those under way; so the budget is never exceeded, as far as a service keeps to its own limits. A request
    whose answer was lost on the way counts its worst case.
    """

    def __init__(self, max_requests: int, max_tokens: int) -> None:
        self.max_requests, self.max_tokens = max_requests, max_tokens
        self.requests = self.tokens = 0
        self._under_way = 0
        self._counted: set[str] = set()
        self._lock = threading.Lock()

    def count(self, key: str, requests: int, tokens: int) -> None:
        """What is there already: an answer, or requests of earlier runs that failed."""
        with self._lock:
            if key not in self._counted:
                self._counted.add(key)
                self.requests += requests
                self.tokens += tokens

    def reserve(self, tokens: int) -> None:
        """Take room for one request of at most ``tokens``.

        Raises:
            BudgetSpent: there is none.
        """
        with self._lock:
            spent = f"{self.requests:,} requests and {self.tokens:,} tokens are spent"
            if self.requests + 1 > self.max_requests:
                raise BudgetSpent(f"{spent}, and max_requests is {self.max_requests:,}")
            if self.tokens + self._under_way + tokens > self.max_tokens:
                raise BudgetSpent(
                    f"{spent}, the next request may take {tokens:,} more (beside {self._under_way:,} under way), and "
                    f"max_tokens is {self.max_tokens:,}"
                )
            self.requests += 1
            self._under_way += tokens

    def lose(self, reserved: int) -> None:
        """Count what was reserved as spent: the service may have answered, and nothing of use came."""
        with self._lock:
            self._under_way -= reserved
            self.tokens += reserved

    def settle(self, key: str, reserved: int, spent: int | None) -> None:
        """Replace what was reserved by what an answer took; None where none came."""
        with self._lock:
            self._under_way -= reserved
            if spent is not None:
                self.tokens += spent
                self._counted.add(key)
