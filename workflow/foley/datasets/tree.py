"""What a raw tree holds, by content: which file belongs to which shard, and a fingerprint of each shard.

Works like git's index: a file's hash is kept with its size and mtime and recomputed only when either
changes. So a touched file invalidates nothing, and a changed file invalidates its own shard alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from foley.datasets.protocol import AUDIO_SUFFIXES, has_suffix, walk_files
from foley.tables import atomic_file


def shard_of(source: str, shards: int) -> int:
    """The shard of a raw file: from its name alone, so that adding a file moves no other."""
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big") % shards


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of a raw tree: of its list of files and tables, and of each shard's audio."""

    index: str
    shards: tuple[str, ...]


def _matches(relative: str, patterns: Sequence[str]) -> bool:
    return any(PurePosixPath(relative).match(pattern) for pattern in patterns)


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:  # ingest says why, and rejects the clip
        return "unreadable"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _found_path(root: Path, shards: int, cache: Path, media: frozenset[str], tables: Sequence[str]) -> Path:
    """Where it stands what was found in a tree; the names of each shard's files lie in a folder of that name."""
    how = _short_hash(json.dumps([shards, sorted(media), *tables]))
    return cache / "trees" / f"{_short_hash(str(root.resolve()))}-{how}.json"


def _list_name(shard: int) -> str:
    return f"shard={shard}.json"


def read_list(
    root: Path,
    shards: int,
    shard: int,
    cache: Path,
    *,
    media: frozenset[str] = AUDIO_SUFFIXES,
    tables: Sequence[str] = (),
) -> list[str] | None:
    """The names of a shard's files that hold clips, as `fingerprint` left them, sorted; None where it has not."""
    folder = _found_path(root, shards, cache, media, tables).with_suffix("")
    try:
        names = json.loads((folder / _list_name(shard)).read_text())
    except (OSError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _write_lists(folder: Path, names: Sequence[list[str]], changed: Collection[int]) -> None:
    """Write the lists of the shards that changed, and those that are not there."""
    try:
        there = set(os.listdir(folder))
    except OSError:
        there = set()
    for shard, mine in enumerate(names):
        if shard in changed or _list_name(shard) not in there:
            with atomic_file(folder / _list_name(shard)) as temporary:
                temporary.write_text(json.dumps(mine))


def _read_found(path: Path) -> Fingerprint | None:
    """What was found last; None when there is nothing or it cannot be read."""
    try:
        found = json.loads(path.read_text())
        return Fingerprint(found["index"], tuple(found["shards"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(
    root: Path,
    shards: int,
    cache: Path,
    *,
    media: frozenset[str] = AUDIO_SUFFIXES,
    tables: Sequence[str] = (),
    trust_cache: bool = False,
) -> Fingerprint:
    """Fingerprint the files below ``root`` that hold clips, and the tables that say something of them.

    Beside the hashes the names of each shard's files are kept, so that its job need not look at the tree (`read_list`).
    A file that is both (Parquet, with audio and labels) counts by content in the list of clips too, but for no other
    file's shard.

    Args:
        media: suffixes of the files that hold clips.
        tables: glob patterns of the files beside them that count; others don't.
        cache: folder that keeps the hashes between runs.
        trust_cache: take what was found last without looking at the tree; for the jobs of a run whose main
            process has just looked (thousands of stat calls a job would swamp a shared file system, and millions
            of hashes the job's memory).

    Raises:
        FileNotFoundError: ``root`` is not a folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}")
    kept_path = cache / "trees" / f"{_short_hash(str(root.resolve()))}.json"
    found_path = _found_path(root, shards, cache, media, tables)
    found_before = _read_found(found_path)
    if trust_cache and found_before is not None:
        return found_before
    try:
        kept: dict[str, list] = json.loads(kept_path.read_text())
    except (OSError, ValueError):
        kept = {}

    def counts(relative: str) -> bool:
        return has_suffix(relative, media) or _matches(relative, tables)

    # Datasets may share a folder and take other files of it, so each leaves the others' hashes alone.
    current = {relative: entry for relative, entry in kept.items() if counts(relative)}
    if not (trust_cache and current):
        others = {relative: entry for relative, entry in kept.items() if relative not in current}
        known_before, current = current, {}
        stale: list[str] = []
        for relative, status in walk_files(root, counts):
            known = known_before.get(relative)
            if known is not None and known[:2] == [status.st_size, status.st_mtime_ns]:
                current[relative] = known
            else:
                current[relative] = [status.st_size, status.st_mtime_ns, ""]
                stale.append(relative)
        if stale:
            from tqdm import tqdm

            # hashlib releases the interpreter lock, so reading and hashing overlap.
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
                hashes = pool.map(lambda name: _hash_file(root / name), stale)
                bar = tqdm(
                    zip(stale, hashes, strict=True), total=len(stale), unit="files", leave=False,
                    desc=f"hashing {root.name}", disable=not sys.stderr.isatty() or len(stale) < 500,
                )  # fmt: skip
                for relative, digest in bar:
                    current[relative][2] = digest
        if stale or current.keys() != known_before.keys():
            with atomic_file(kept_path) as temporary:
                temporary.write_text(json.dumps({**others, **current}))
    index = hashlib.sha256()
    parts = [hashlib.sha256() for _ in range(shards)]
    names: list[list[str]] = [[] for _ in range(shards)]
    tables_hash = hashlib.sha256()
    for relative in sorted(current):
        digest = current[relative][2]
        if has_suffix(relative, media):
            is_table = _matches(relative, tables)
            index.update(f"{relative} {digest}\n".encode() if is_table else f"{relative}\n".encode())
            shard = shard_of(relative, shards)
            parts[shard].update(f"{relative} {digest}\n".encode())
            names[shard].append(relative)
        else:
            tables_hash.update(f"{relative} {digest}\n".encode())
    # Labels and folds come from the tables, and shards carry them: a changed table invalidates every shard.
    index.update(tables_hash.digest())
    for part in parts:
        part.update(tables_hash.digest())
    found = Fingerprint(index.hexdigest()[:16], tuple(part.hexdigest()[:16] for part in parts))
    before = found_before.shards if found_before is not None else ()
    changed = {n for n, part in enumerate(found.shards) if n >= len(before) or part != before[n]}
    _write_lists(found_path.with_suffix(""), names, changed)
    if found != found_before:
        with atomic_file(found_path) as temporary:
            temporary.write_text(json.dumps(asdict(found)))
    return found
