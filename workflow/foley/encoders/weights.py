"""Where the weights of an encoder or generator come from: a local path, or a pinned download into a cache.

No torch here, so a rule that only fetches starts in a moment.
"""

from __future__ import annotations

import hashlib
import urllib.parse
from pathlib import Path

from foley.download.errors import DownloadError, WrongContent
from foley.download.http import PATIENCE, by_hand, download, is_offline, without_secrets
from foley.download.lock import exclusive

__all__ = ["PINNED", "resolve", "without_secrets"]

# Downloads that need no `sha256` in the config: URL -> (sha256, bytes).
PINNED = {
    "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt": (
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
        4_066_513,
    ),
}


def resolve(
    path_or_url: str,
    sha256: str | None,
    cache_dir: Path,
    offline: bool = False,
    size_bytes: int | None = None,
) -> Path:
    """Return a local path for weights named by a path or an http(s) URL, downloading them once if need be.

    A download lands in `cache_dir` atomically: other jobs see a whole, checked file or none, and of two jobs
    that fetch the same file at once the second waits for the first. A download that breaks off goes on next time.

    Args:
        path_or_url: An existing file or directory, or a URL.
        sha256: Pinned checksum in hex; local, cached and downloaded files are checked against it. None checks
            nothing; directories aren't checked.
        cache_dir: Made if missing.
        offline: Never touch the network (also FOLEY_OFFLINE=1 or HF_HUB_OFFLINE=1).
        size_bytes: Expected size, if known: a server that offers another one is refused, and messages say how
            much to fetch.

    Raises:
        FileNotFoundError: The file is neither here nor to be had; says where it comes from and belongs.
        ValueError: Its bytes don't match `sha256` or `size_bytes`, or the URL is neither http nor https.
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
    if not target.is_file():
        if is_offline(offline):
            remedy = by_hand(path_or_url, target, size_bytes)
            raise FileNotFoundError(
                f"weights {target.name} are not here, and downloads are off (offline mode). To get them, {remedy}"
            )
        with exclusive(target.with_name(f".{target.name}.lock"), target.name):
            if not target.is_file():  # nobody has fetched it meanwhile
                return _fetch(path_or_url, sha256, target, size_bytes)
    _check(target, sha256, f"Delete {target} and start again, or correct the pinned sha256")
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


def _fetch(url: str, sha256: str | None, target: Path, size_bytes: int | None) -> Path:
    checksum = None if sha256 is None else f"sha256:{sha256.lower()}"
    try:
        download(url, target, size_bytes=size_bytes, checksum=checksum, patience=PATIENCE)
    except WrongContent as error:
        raise ValueError(f"weights {target.name}: {error}") from None
    except DownloadError as error:
        raise FileNotFoundError(f"weights {target.name} are not here: {error}") from None
    return target


def _check(path: Path, sha256: str | None, hint: str) -> None:
    if sha256 is None:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) has sha256 {found}, expected {sha256}. {hint}"
        )
