"""What a raw tree holds, by content: which file belongs to which shard, and a fingerprint of each shard.

Works like git's index: a file's hash is kept with its size and mtime and recomputed only when either
changes. So a touched file invalidates nothing, and a changed file invalidates its own shard alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from foley.datasets.protocol import AUDIO_SUFFIXES
from foley.tables import atomic_file


def shard_of(source: str, shards: int) -> int:
    """The shard of a raw file: from its name alone, so that adding a file moves no other."""
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big") % shards


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of a raw tree: of its list of files and tables, and of each shard's audio."""

    index: str
    shards: tuple[str, ...]


def _hash_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(root: Path, shards: int, cache: Path, *, trust_cache: bool = False) -> Fingerprint:
    """Fingerprint the tree below ``root``.

    Args:
        cache: folder that keeps the hashes between runs.
        trust_cache: take the kept hashes without looking at the tree; for the jobs of a run whose main
            process has just looked (thousands of stat calls a job would swamp a shared file system).

    Raises:
        FileNotFoundError: ``root`` is not a folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}")
    kept_path = cache / "trees" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    try:
        kept: dict[str, list] = json.loads(kept_path.read_text())
    except (OSError, ValueError):
        kept = {}
    if trust_cache and kept:
        current = kept
    else:
        current = {}
        stale: list[str] = []
        for folder, folders, files in os.walk(root, followlinks=True):
            folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
            for file in files:
                if file.startswith("."):
                    continue
                path = os.path.join(folder, file)
                try:
                    stat = os.stat(path)
                except FileNotFoundError:  # a dangling link
                    continue
                relative = os.path.relpath(path, root).replace(os.sep, "/")
                known = kept.get(relative)
                if known is not None and known[:2] == [stat.st_size, stat.st_mtime_ns]:
                    current[relative] = known
                else:
                    current[relative] = [stat.st_size, stat.st_mtime_ns, ""]
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
        if stale or current.keys() != kept.keys():
            with atomic_file(kept_path) as temporary:
                temporary.write_text(json.dumps(current))
    index = hashlib.sha256()
    parts = [hashlib.sha256() for _ in range(shards)]
    tables_hash = hashlib.sha256()
    for relative in sorted(current):
        digest = current[relative][2]
        if os.path.splitext(relative)[1].lower() in AUDIO_SUFFIXES:
            index.update(f"{relative}\n".encode())
            parts[shard_of(relative, shards)].update(f"{relative} {digest}\n".encode())
        else:
            tables_hash.update(f"{relative} {digest}\n".encode())
    # Labels and folds come from the tables, and shards carry them: a changed table invalidates every shard.
    index.update(tables_hash.digest())
    for part in parts:
        part.update(tables_hash.digest())
    return Fingerprint(index.hexdigest()[:16], tuple(part.hexdigest()[:16] for part in parts))
