"""Resumable, checked transfer of one file over http(s), or from a path named by a file:// URL.

No network library is imported before the first transfer, so that who only asks for sizes starts in a moment.
"""

from __future__ import annotations

import email.utils
import errno
import hashlib
import json
import logging
import os
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foley import __version__
from foley.download.disk import Meter, need_space, readable
from foley.download.errors import DownloadError, WrongContent

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_RECEIVE_BYTES = 1 << 16  # what a broken connection may lose
_CONNECT_S = 30.0
_SCHEMES = ("http", "https", "file")
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", re.IGNORECASE)


@dataclass(frozen=True)
class Patience:
    """How long a transfer is tried.

    attempts: in a row without a gain of at least 1 MiB.
    first_wait_s, longest_wait_s: pause after the first failure, doubled after each further one up to the longest.
    silence_s: how long a server may say nothing.
    longest_retry_after_s: a server that asks for a longer pause than this ends the transfer.
    """

    attempts: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    silence_s: float = 60.0
    longest_retry_after_s: float = 900.0


PATIENCE = Patience()
_OFFLINE_KEYS = ("FOLEY_OFFLINE", "HF_HUB_OFFLINE")


def without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment: those belong in no log, table or page."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def go_offline() -> None:
    """Let this process and those that it starts open no connection."""
    for key in _OFFLINE_KEYS:
        os.environ[key] = "1"


def is_offline(offline: bool = False) -> bool:
    """Whether no connection may be opened: asked for, or FOLEY_OFFLINE or HF_HUB_OFFLINE set to something true."""
    values = (os.environ.get(key, "") for key in _OFFLINE_KEYS)
    return offline or any(value.lower() not in ("", "0", "no", "off", "false") for value in values)


def check_url(url: str) -> None:
    """Raise DownloadError for a URL that no transfer understands."""
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme not in _SCHEMES:
        raise DownloadError(f"{without_secrets(url)}: only http://, https:// and file:// URLs are understood")


def check_checksum(checksum: str | None, what: str) -> None:
    """Raise DownloadError for a checksum that is not `md5:<hex>` or `sha256:<hex>`."""
    if checksum is not None and not _CHECKSUM.fullmatch(checksum):
        raise DownloadError(
            f"{what}: checksum {checksum!r} is neither md5:<32 digits> nor sha256:<64 digits>"
        )


class Digest:
    """SHA-256 of what passes, and the published kind of checksum if that is another one."""

    def __init__(self, checksum: str | None) -> None:
        self.count = 0
        self._hashes = {"sha256": hashlib.sha256()}
        if checksum is not None and checksum.lower().startswith("md5:"):
            self._hashes["md5"] = hashlib.md5(usedforsecurity=False)

    def update(self, block: bytes) -> None:
        self.count += len(block)
        for each in self._hashes.values():
            each.update(block)

    def hex(self, algorithm: str) -> str:
        return self._hashes[algorithm].hexdigest()


def digest_file(path: Path, checksum: str | None = None) -> Digest:
    """Digest of a whole file."""
    digest = Digest(checksum)
    with open(path, "rb") as file, Meter(f"checking {path.name}", path.stat().st_size) as meter:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            meter.add(len(block))
    return digest


def disagreement(digest: Digest, size_bytes: int | None, checksum: str | None) -> str | None:
    """How a file differs from the published one, both values named; None where it does not."""
    if size_bytes is not None and digest.count != size_bytes:
        return f"it has {digest.count:,} bytes, expected {size_bytes:,}"
    if checksum is not None:
        algorithm, _, expected = checksum.lower().partition(":")
        if digest.hex(algorithm) != expected:
            return f"its {algorithm} is {digest.hex(algorithm)}, expected {expected}"
    return None


def part_of(target: Path) -> Path:
    """Where an unfinished transfer to ``target`` lies."""
    return target.with_name(f"{target.name}.part")


def _note_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def discard_part(target: Path) -> None:
    """Forget an unfinished transfer."""
    part_of(target).unlink(missing_ok=True)
    _note_of(target).unlink(missing_ok=True)


def by_hand(url: str, target: Path, size_bytes: int | None) -> str:
    """The sentence that says how to go without this transfer."""
    size = "" if size_bytes is None else f" ({readable(size_bytes)})"
    return f"download {without_secrets(url)}{size} by hand and put it at {target}"


def download(
    url: str,
    target: Path,
    *,
    size_bytes: int | None = None,
    checksum: str | None = None,
    patience: Patience = PATIENCE,
) -> Digest:
    """Fetch ``url`` to ``target``, going on where an earlier transfer broke off, and check it.

    Until it is whole and right it lies at ``<target>.part``, beside a note of the version that the server gave.
    Only one process at a time may fetch to a target (see `foley.download.lock`).

    Args:
        size_bytes: published size; a server that offers another one is told off before anything is fetched.
        checksum: `md5:<hex>` or `sha256:<hex>`.

    Returns:
        The digest of the whole file.

    Raises:
        WrongContent: size or checksum differ; what arrived is set aside as `<target>.bad`.
        DownloadError: it cannot be had: refused, not there, no network, disk full. What has arrived stays.
    """
    check_url(url)
    check_checksum(checksum, target.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(url, target, size_bytes, checksum, patience)
    digest = transfer.run()
    wrong = disagreement(digest, size_bytes, checksum)
    if wrong is not None:
        bad = set_aside(part_of(target), target)
        _note_of(target).unlink(missing_ok=True)
        raise WrongContent(
            f"{without_secrets(url)} is not the published file: {wrong}. It was changed at its source, or a proxy "
            f"answered in its place. What arrived was set aside as {bad}; nothing of it was used"
        )
    with open(part_of(target), "rb") as file:
        os.fsync(file.fileno())
    os.replace(part_of(target), target)
    _note_of(target).unlink(missing_ok=True)
    return digest


def set_aside(path: Path, target: Path) -> Path:
    """Rename a bad file to ``<target>.bad``, in place of an earlier one."""
    bad = target.with_name(f"{target.name}.bad")
    os.replace(path, bad)
    return bad


class _Again(Exception):
    """A failure that may pass; ``wait_s`` where the server says how long to wait."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


class _Transfer:
    def __init__(
        self, url: str, target: Path, size_bytes: int | None, checksum: str | None, patience: Patience
    ) -> None:
        self.url, self.target, self.size_bytes = url, target, size_bytes
        self.checksum, self.patience = checksum, patience
        self.part, self.note = part_of(target), _note_of(target)
        self.digest = Digest(checksum)

    def run(self) -> Digest:
        have = self._resumable()
        if have:
            log.info("%s: going on at %s", self.target.name, readable(have))
        try:
            with Meter(self.target.name, self.size_bytes, have) as meter:
                if urllib.parse.urlsplit(self.url).scheme.lower() == "file":
                    self._copy(meter)
                else:
                    self._fetch(meter)
        except OSError as error:
            if isinstance(error, DownloadError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DownloadError(
                f"the disk of {self.part} is full; make room and start again: it goes on at "
                f"{readable(self.part.stat().st_size)}"
            ) from None
        return self.digest

    def _unavailable(self, reason: str) -> DownloadError:
        # The causes hold whole URLs, secrets included: raise this `from None`.
        remedy = by_hand(self.url, self.target, self.size_bytes)
        return DownloadError(
            f"{self.target.name} could not be fetched: {reason}. Try again later, or {remedy}"
        )

    # file://

    def _copy(self, meter: Meter) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.netloc not in ("", "localhost"):
            raise DownloadError(
                f"{without_secrets(self.url)}: a file:// URL needs three slashes: file:///path"
            )
        source = Path(urllib.request.url2pathname(parts.path))
        self.note.unlink(missing_ok=True)
        meter.reset(0)
        self.digest = Digest(self.checksum)
        try:
            reader = open(source, "rb")  # noqa: SIM115
        except OSError as error:
            raise self._unavailable(f"{source}: {error.strerror}") from None
        with reader, open(self.part, "wb") as out:
            while block := reader.read(_BLOCK_BYTES):
                self.digest.update(block)
                out.write(block)
                meter.add(len(block))

    # http and https

    def _fetch(self, meter: Meter) -> None:
        import requests

        attempt, best = 0, self._resumable()
        with requests.Session() as session:
            while True:
                try:
                    self._receive(session, meter)
                    return
                except _Again as again:
                    have = self.part.stat().st_size if self.part.exists() else 0
                    if have - best >= _BLOCK_BYTES:
                        attempt, best = 0, have
                    attempt += 1
                    if attempt >= self.patience.attempts:
                        raise self._unavailable(again.reason) from None
                    wait = min(self.patience.first_wait_s * 2 ** (attempt - 1), self.patience.longest_wait_s)
                    if again.wait_s is not None:
                        if again.wait_s > self.patience.longest_retry_after_s:
                            raise self._unavailable(
                                f"{again.reason} and asks to wait for {again.wait_s:.0f} s"
                            ) from None
                        wait = again.wait_s
                    log.warning("%s: %s; again in %.1f s", self.target.name, again.reason, wait)
                    time.sleep(wait)

    def _identity(self) -> str:
        # The query tells versions apart and may hold a secret.
        return hashlib.sha256(self.url.encode()).hexdigest()

    def _known(self) -> dict[str, Any] | None:
        """The note of the unfinished transfer, if it is of this URL."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) and note.get("url_sha256") == self._identity() else None

    def _resumable(self) -> int:
        """How many bytes of the unfinished transfer can be kept."""
        note = self._known()
        if note is None or not self.part.is_file():
            return 0
        # Without a version from the server, two versions may be mixed: only a checksum would tell.
        if not note.get("validator") and self.checksum is None:
            return 0
        have = self.part.stat().st_size
        return 0 if self.size_bytes is not None and have > self.size_bytes else have

    def _catch_up(self, have: int) -> None:
        """Bring the digest to the state after the first ``have`` bytes."""
        if self.digest.count == have:
            return
        self.digest = Digest(self.checksum)
        if not have:
            return
        with open(self.part, "rb") as file:
            while self.digest.count < have:
                block = file.read(min(_BLOCK_BYTES, have - self.digest.count))
                if not block:
                    raise DownloadError(f"{self.part} shrank while it was read; start again")
                self.digest.update(block)

    def _receive(self, session: Any, meter: Meter) -> None:
        import requests

        have = self._resumable()
        self._catch_up(have)
        meter.reset(have)
        if have and have == self.size_bytes:
            return
        headers = {"Accept-Encoding": "identity", "User-Agent": f"foley/{__version__}"}
        if have:
            headers["Range"] = f"bytes={have}-"
            validator = (self._known() or {}).get("validator")
            if validator:
                headers["If-Range"] = validator
        try:
            with session.get(
                self.url, headers=headers, stream=True, timeout=(_CONNECT_S, self.patience.silence_s)
            ) as response:
                total = self._accept(response, have)
                self._write(response, have if response.status_code == 206 else 0, total, meter)
        except requests.exceptions.SSLError:
            raise self._unavailable("the server's certificate is not trusted") from None
        except requests.exceptions.TooManyRedirects:
            raise self._unavailable("its server redirects in circles") from None
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
            raise self._unavailable("the URL, or one that it redirects to, is not understood") from None
        except requests.exceptions.Timeout:
            raise _Again("the server did not answer in time") from None
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise _Again(f"download failed: {_cause(error)}") from None
        except requests.exceptions.RequestException as error:
            raise self._unavailable(f"download failed: {type(error).__name__}") from None

    def _accept(self, response: Any, have: int) -> int | None:
        """Check an answer's head; the file's whole size where it tells."""
        status, said = response.status_code, f"the server answered {response.status_code} {response.reason}"
        if status in (401, 403, 407):
            raise self._unavailable(
                f"{said}: it wants an account or a licence (credentials are read from ~/.netrc)"
            )
        if status == 416:  # the unfinished part is none of this file
            discard_part(self.target)
            raise _Again(said, wait_s=0.0)
        if status in (408, 425, 429) or status >= 500:
            raise _Again(said, retry_after(response.headers.get("Retry-After")))
        if status not in (200, 206):
            raise self._unavailable(said)
        if status == 206:
            found = re.fullmatch(
                r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
            )
            if found is None or int(found[1]) != have:
                discard_part(self.target)
                raise _Again("the server sent another range than the one asked for", wait_s=0.0)
            total = None if found[2] == "*" else int(found[2])
        else:
            if have:
                log.info("%s: the server has no ranges, or a new version: starting anew", self.target.name)
            length = response.headers.get("Content-Length", "")
            encoded = response.headers.get("Content-Encoding", "identity") != "identity"
            total = int(length) if length.isdigit() and not encoded else None
        if total is not None and self.size_bytes is not None and total != self.size_bytes:
            kind = response.headers.get("Content-Type", "unknown type")
            raise WrongContent(
                f"{without_secrets(self.url)} is not the published file: its server offers {total:,} bytes "
                f"({kind}), expected {self.size_bytes:,}. If its publisher has changed it, correct its size and "
                f"checksum in the config; else {by_hand(self.url, self.target, self.size_bytes)}"
            )
        return total

    def _write(self, response: Any, have: int, total: int | None, meter: Meter) -> None:
        if have == 0:
            self.digest = Digest(self.checksum)
            meter.reset(0)
            discard_part(self.target)
            self._remember(response)
        if self.size_bytes is None and total is not None:  # nobody has looked yet whether there is room
            need_space({self.part: total - have}, f"downloading {self.target.name}")
        total = self.size_bytes if total is None else total
        with open(self.part, "ab" if have else "wb") as out:
            for block in response.iter_content(_RECEIVE_BYTES):
                out.write(block)
                self.digest.update(block)
                meter.add(len(block))
                if total is not None and self.digest.count > total:
                    break
        if total is not None and self.digest.count < total:
            raise _Again(f"download failed: the connection ended at {self.digest.count:,} of {total:,} bytes")
        if total is not None and self.digest.count > total:
            discard_part(self.target)
            raise WrongContent(
                f"{without_secrets(self.url)} is not the published file: its server sends more than the {total:,} "
                f"bytes expected. What arrived was deleted; {by_hand(self.url, self.target, self.size_bytes)}"
            )

    def _remember(self, response: Any) -> None:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            return  # ranges of an encoded body are ranges of something else
        etag = response.headers.get("ETag", "")
        # A weak ETag says that two versions mean the same, not that they are equal to the byte.
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        note = {
            "url": without_secrets(self.url),
            "url_sha256": self._identity(),
            "validator": validator,
        }
        temporary = self.note.with_name(f"{self.note.name}.new")
        temporary.write_text(json.dumps(note), encoding="utf-8")
        os.replace(temporary, self.note)


def _cause(error: BaseException) -> str:
    """The innermost system error of a library's exception; its own text may hold the whole URL."""
    for each in _chain(error):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    names = " ".join(type(each).__name__ for each in _chain(error))
    if "NameResolution" in names or "gaierror" in names:
        return "the server's name is not known (no network?)"
    return "the connection broke off"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        each = todo.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        todo += [each.__cause__, each.__context__, getattr(each, "reason", None)]
        todo += [argument for argument in each.args if isinstance(argument, BaseException)]


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (a number or a date, RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.isascii() and value.strip().isdigit():  # other scripts have digits that are no numbers
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
