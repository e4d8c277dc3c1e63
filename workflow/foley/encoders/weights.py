"""Where the weights of an encoder or generator come from: a local path, or a pinned download into a cache.

No torch here, so a rule that only fetches starts in a moment.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped]

# Downloads that need no `sha256` in the config: URL -> (sha256, bytes).
PINNED = {
    "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt": (
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
        4_066_513,
    ),
}

_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 30.0  # of silence, not of the whole download


def resolve(
    path_or_url: str,
    sha256: str | None,
    cache_dir: Path,
    offline: bool = False,
    size_bytes: int | None = None,
) -> Path:
    """Return a local path for weights named by a path or an http(s) URL, downloading them once if need be.

    A download lands in `cache_dir` atomically: other jobs see a whole, checked file or none, and two jobs
    that fetch the same file at once do no harm.

    Args:
        path_or_url: An existing file or directory, or a URL.
        sha256: Pinned checksum in hex; local, cached and downloaded files are checked against it. None checks
            nothing; directories aren't checked.
        cache_dir: Made if missing.
        offline: Never touch the network.
        size_bytes: Expected size, if known: error messages then say how much to fetch.

    Raises:
        FileNotFoundError: The file is neither here nor to be had; says where it comes from and belongs.
        ValueError: Its bytes don't match `sha256`, or the URL is neither http nor https.
    """
    if not _is_url(path_or_url):
        path = Path(path_or_url).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"weights not found: {path}. Correct the path, or give an https:// URL")
        if path.is_file():
            _check(path, sha256, "Point to the right file, or set its sha256 to null if it is your own")
        return path

    if sha256 is None and path_or_url in PINNED:
        sha256, size_bytes = PINNED[path_or_url]
    target = _cached_path(path_or_url, cache_dir)
    if target.is_file():
        _check(target, sha256, f"Delete {target} and start again, or correct the pinned sha256")
        return target
    if offline:
        raise FileNotFoundError(
            _unavailable(path_or_url, target, size_bytes, "downloads are off (offline mode)")
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    _download(path_or_url, sha256, target, size_bytes)
    return target


def _is_url(text: str) -> bool:
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise ValueError(f"weights {text!r}: only http://, https:// and local paths are understood")
    return bool(separator)


def _cached_path(url: str, cache_dir: Path) -> Path:
    # Two hosts may use one file name, so the URL is part of the folder; the name itself stays readable.
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "weights"
    return Path(cache_dir) / hashlib.sha256(url.encode()).hexdigest()[:12] / name


def _download(url: str, sha256: str | None, target: Path, size_bytes: int | None) -> None:
    temporary = target.with_name(f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    digest = hashlib.sha256()
    try:
        with open(temporary, "xb") as file:
            for block in _blocks(url, target, size_bytes):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if sha256 is not None and digest.hexdigest() != sha256.lower():
            raise ValueError(
                f"{without_secrets(url)}: downloaded {temporary.stat().st_size:,} bytes with sha256 "
                f"{digest.hexdigest()}, but {sha256} is pinned. The file was changed at its source, "
                "or a proxy answered in its place; nothing was kept"
            )
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _blocks(url: str, target: Path, size_bytes: int | None) -> Iterator[bytes]:
    """Yield the body of `url`; whatever goes wrong on the way becomes a FileNotFoundError with a remedy."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            declared = response.headers.get("Content-Length")
            expected = int(declared) if declared and declared.isdigit() else None
            received = 0
            with tqdm(total=expected, unit="B", unit_scale=True, desc=target.name, disable=None) as progress:
                while block := response.read(_BLOCK_BYTES):
                    received += len(block)
                    progress.update(len(block))
                    yield block
            if expected is not None and received != expected:
                raise http.client.IncompleteRead(b"", expected - received)
    except urllib.error.HTTPError as error:
        reason = f"the server answered {error.code} {error.reason}"
        raise FileNotFoundError(_unavailable(url, target, size_bytes, reason)) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = f"download failed: {getattr(error, 'reason', None) or error}"
        raise FileNotFoundError(_unavailable(url, target, size_bytes, reason)) from error


def _unavailable(url: str, target: Path, size_bytes: int | None, reason: str) -> str:
    size = f" ({size_bytes / 1e6:,.1f} MB)" if size_bytes is not None else ""
    return (
        f"weights {target.name} are not here and could not be fetched: {reason}. "
        f"Download {without_secrets(url)}{size} on a machine with network access and put it at {target}"
    )


def without_secrets(url: str) -> str:
    """A URL without password and query: those belong in no log, table or page."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _check(path: Path, sha256: str | None, hint: str) -> None:
    if sha256 is None:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) has sha256 {found}, expected {sha256}. {hint}"
        )
