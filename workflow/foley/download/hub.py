"""Snapshots of dataset repositories of the Hugging Face hub, at a pinned commit.

huggingface_hub does the transfer (it resumes, and knows the hub's own storage); here are the pin, the checks against
the hub's listing, and errors that say what to do. It reads a token from the environment (HF_TOKEN) or its login.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TypeVar

from foley.download.archives import safe_parts
from foley.download.disk import readable
from foley.download.errors import DownloadError, WrongContent
from foley.download.http import PATIENCE, Patience, digest_file, set_aside, without_secrets

log = logging.getLogger(__name__)

T = TypeVar("T")
_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, with its SHA-256 if it is in large-file storage, else its git hash."""

    path: str
    size_bytes: int
    sha256: str | None
    git_blob: str | None


def endpoint_of() -> str:
    """Base URL of the hub: HF_ENDPOINT (a mirror that speaks its API), else the public one."""
    return (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")


def page_of(repo: str, revision: str) -> str:
    """Where a person looks at the files of a revision."""
    return f"{without_secrets(endpoint_of())}/datasets/{repo}/tree/{revision}"


def check_revision(repo: str, revision: str) -> None:
    """Raise DownloadError unless ``revision`` is a commit: a branch or a tag may move."""
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DownloadError(
            f"{repo}: revision {revision!r} is no commit of 40 hex digits, and a branch or tag may move. Find the "
            f"commit at {page_of(repo, 'main').replace('/tree/', '/commits/')} or with "
            f"`git ls-remote {_HUB}/datasets/{repo}`"
        )


def by_hand(repo: str, revision: str, patterns: tuple[str, ...], folder: Path) -> str:
    """The command that fetches a snapshot on another machine, and where it belongs."""
    include = " ".join(f"--include {pattern!r}" for pattern in patterns)
    return (
        f"on a machine with network access run `hf download {repo} --repo-type dataset --revision {revision} "
        f"{include} --local-dir {folder.name}` and put that folder, with its .cache, at {folder}"
    )


def fetch_snapshot(
    repo: str,
    revision: str,
    patterns: tuple[str, ...],
    folder: Path,
    *,
    size_bytes: int | None = None,
    offline: bool = False,
    room: Callable[[int], None] = lambda count: None,
    patience: Patience = PATIENCE,
) -> list[HubFile]:
    """Bring the files of a dataset repository that match ``patterns`` below ``folder``, and check them.

    What lies there already is kept, whether an earlier call or a person has put it there.

    Args:
        size_bytes: for messages, where no listing can be had.
        offline: open no connection.
        room: called with the number of bytes still to fetch, before that starts.

    Raises:
        WrongContent: a file differs from the hub's listing.
        DownloadError: no such repository, revision or file; no access; no network.
    """
    check_revision(repo, revision)
    # It logs every URL that it asks for, and the hub redirects to signed ones.
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return _Snapshot(repo, revision, patterns, folder, size_bytes, endpoint_of(), patience).fetch(
        offline, room
    )


@dataclass(frozen=True)
class _Snapshot:
    repo: str
    revision: str
    patterns: tuple[str, ...]
    folder: Path
    size_bytes: int | None
    endpoint: str
    patience: Patience

    @property
    def what(self) -> str:
        return f"{self.repo} at {self.revision[:12]}"

    @property
    def host(self) -> str:
        return without_secrets(self.endpoint)

    @property
    def remedy(self) -> str:
        return by_hand(self.repo, self.revision, self.patterns, self.folder)

    def fetch(self, offline: bool, room: Callable[[int], None]) -> list[HubFile]:
        from huggingface_hub.utils import filter_repo_objects

        listing = {file.path: file for file in self._listing(offline)}
        names = sorted(filter_repo_objects(list(listing), allow_patterns=list(self.patterns)))
        if not names:
            raise DownloadError(
                f"{self.what} has no file that matches {', '.join(self.patterns)}; look at "
                f"{self.host}/datasets/{self.repo}/tree/{self.revision}"
            )
        files = [listing[name] for name in names]
        for file in files:
            try:
                safe_parts(file.path)
            except ValueError as error:
                raise DownloadError(f"{self.what}: {file.path!r} is {error}; nothing was fetched") from None
        lacking = [file for file in files if not self._is_here(file)]
        if lacking and offline:
            listed = "; ".join(f"{file.path} ({readable(file.size_bytes)})" for file in lacking)
            raise DownloadError(
                f"{self.what}: Foley is offline, and these files are missing: {listed}. To get them, {self.remedy}"
            )
        if lacking:
            room(sum(file.size_bytes for file in lacking))
            self._transfer()
        for file in files:
            self._check(file)
        return files

    def _is_here(self, file: HubFile) -> bool:
        path = self.folder / file.path
        return path.is_file() and path.stat().st_size == file.size_bytes

    def _check(self, file: HubFile) -> None:
        path = self.folder / file.path
        if not path.is_file():
            raise DownloadError(f"{self.what}: {file.path} did not arrive at {path}; start again")
        size = path.stat().st_size
        wrong = None
        if size != file.size_bytes:
            wrong = f"{size:,} bytes, the hub lists {file.size_bytes:,}"
        elif file.sha256 is not None:
            found = digest_file(path).hex("sha256")
            if found != file.sha256:
                wrong = f"sha256 {found}, the hub lists {file.sha256}"
        elif file.git_blob is not None:
            content = path.read_bytes()  # what is not in large-file storage is small
            found = hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest()
            if found != file.git_blob:
                wrong = f"the git hash {found}, the hub lists {file.git_blob}"
        if wrong is not None:
            bad = set_aside(path, path)
            raise WrongContent(
                f"{self.what}: {file.path} has {wrong}. It was set aside as {bad}; start again"
            )

    def _listing(self, offline: bool) -> list[HubFile]:
        """The repository's files at the commit, which never change: from an earlier note of them, or the hub."""
        note = self.folder / f".foley-{self.revision}.json"
        try:
            return [HubFile(*row) for row in json.loads(note.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            pass
        except (ValueError, TypeError):
            log.warning("%s is damaged; asking again", note)
        if offline:
            return self._listing_by_hand()
        files = self._persist(self._ask)
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_name(f"{note.name}.new")
        temporary.write_text(json.dumps([astuple(file) for file in files]), encoding="utf-8")
        os.replace(temporary, note)
        return files

    def _ask(self) -> list[HubFile]:
        from huggingface_hub import HfApi, RepoFile

        tree = HfApi(endpoint=self.endpoint).list_repo_tree(
            self.repo, recursive=True, revision=self.revision, repo_type="dataset"
        )
        return [
            HubFile(
                entry.path,
                entry.size,
                sha256=None if entry.lfs is None else entry.lfs.sha256,
                git_blob=entry.blob_id if entry.lfs is None and entry.xet_hash is None else None,
            )
            for entry in tree
            if isinstance(entry, RepoFile)
        ]

    def _listing_by_hand(self) -> list[HubFile]:
        """What `hf download` noted when a person ran it elsewhere; it has sizes only."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            listed = get_cached_repo_tree(
                self.repo, repo_type="dataset", revision=self.revision, local_dir=self.folder
            )
        except CachedRepoTreeNotFoundError:
            raise DownloadError(
                f"{self.what} ({readable(self.size_bytes)}) is not here, and Foley is offline. "
                f"To get it, {self.remedy}"
            ) from None
        return [HubFile(entry.path, entry.size, None, None) for entry in listed]

    def _transfer(self) -> None:
        from huggingface_hub import snapshot_download

        def size() -> int:
            return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

        def fetch() -> None:
            snapshot_download(
                self.repo,
                repo_type="dataset",
                revision=self.revision,
                allow_patterns=list(self.patterns),
                local_dir=self.folder,
                endpoint=self.endpoint,
                max_workers=4,
                tqdm_class=_bars(self.what),
            )

        start, before = time.monotonic(), size()
        self._persist(fetch)
        moved, spent = size() - before, max(time.monotonic() - start, 1e-9)
        log.info("%s: %s in %.1f s (%s/s)", self.what, readable(moved), spent, readable(moved / spent))

    def _persist(self, work: Callable[[], T]) -> T:
        """Run ``work``, again after failures that may pass; whatever stays wrong becomes a DownloadError.

        The library's own messages may hold signed URLs, so none is passed on.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return work()
            except Exception as error:
                reason, wait = self._explain(error)
            if wait is None:
                raise DownloadError(reason) from None
            wait = wait or min(self.patience.first_wait_s * 2 ** (attempt - 1), self.patience.longest_wait_s)
            if attempt >= self.patience.attempts or wait > self.patience.longest_retry_after_s:
                raise DownloadError(
                    f"{self.what} could not be fetched: {reason}. Try again later, or {self.remedy}"
                ) from None
            log.warning("%s: %s; again in %.1f s", self.what, reason, wait)
            time.sleep(wait)

    def _explain(self, error: Exception) -> tuple[str, float | None]:
        """What an error of the library means, and how long to wait: 0 for the usual pause, None if it won't pass."""
        import httpx2
        from huggingface_hub import errors

        log_in = "log in with `hf auth login` (or set HF_TOKEN)"
        match error:
            case errors.GatedRepoError():
                page = f"{_HUB}/datasets/{self.repo}"
                return f"{self.repo} is gated: open {page}, accept its conditions, then {log_in}", None
            case errors.RevisionNotFoundError():
                return (
                    f"{self.repo} has no commit {self.revision} at {self.host}: correct its `revision`",
                    None,
                )
            case errors.RepositoryNotFoundError():
                return (
                    f"there is no dataset {self.repo} at {self.host}, or it is private: correct its name, or {log_in}",
                    None,
                )
            case errors.LocalEntryNotFoundError():
                return f"{self.host} could not be reached", 0.0
            case errors.EntryNotFoundError():
                return (
                    f"a file of {self.what} is missing at {self.host}; if that stays so, {self.remedy}",
                    None,
                )
            case errors.HfHubHTTPError():
                status = error.response.status_code
                if status in (401, 403):
                    return f"{self.host} refuses {self.what} ({status}): {log_in}", None
                if status in (408, 429) or status >= 500:
                    asked = error.response.headers.get("Retry-After", "")
                    return f"{self.host} answered {status}", float(asked) if asked.isdigit() else 0.0
                return f"{self.host} answered {status} for {self.what}; {self.remedy}", None
            case errors.FileMetadataError():
                return (
                    f"{self.host} does not answer like a Hugging Face hub: check HF_ENDPOINT",
                    None,
                )
            case httpx2.TransportError() | ConnectionError() | TimeoutError():
                return f"the connection to {self.host} failed ({type(error).__name__})", 0.0
            case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return f"the disk of {self.folder} is full; make room and start again", None
        raise error


def _bars(what: str) -> Any:
    """huggingface_hub's bars on a terminal; elsewhere a log line now and then with the number of files."""
    from huggingface_hub.utils import tqdm

    class Bars(tqdm):  # type: ignore[misc]
        _line = time.monotonic()
        _files = 0

        def update(self, n: float | None = 1) -> bool | None:
            if self.disable and getattr(self, "unit", "it") == "it":
                type(self)._files += int(n or 0)
                if time.monotonic() - type(self)._line >= 10:
                    type(self)._line = time.monotonic()
                    log.info("%s: %d files are here", what, type(self)._files)
            return super().update(n)

    return Bars
