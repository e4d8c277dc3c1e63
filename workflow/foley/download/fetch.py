"""From what a dataset is published as to its tree: fetch, check, unpack, and leave a mark that says what was done.

State lies below the tree's root in `.foley/`: what was unpacked from where (`<source>.tree`), and, while it works,
the unpacked but unfinished tree (`<source>.unpacking/`) and a lock.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foley.download import hub
from foley.download.archives import Limits, Unpacked, archive_kind, unpack
from foley.download.disk import Meter, need_space, readable
from foley.download.errors import BadArchive, DownloadError, WrongContent
from foley.download.http import (
    PATIENCE,
    Patience,
    by_hand,
    check_checksum,
    check_url,
    digest_file,
    disagreement,
    download,
    is_offline,
    part_of,
    without_secrets,
)
from foley.download.lock import exclusive
from foley.download.sources import AnySource, HubSource, RemoteFile, Source

__all__ = [
    "BadArchive", "DownloadError", "Pending", "WrongContent", "below", "fetch_source", "identity_of", "missing",
    "source_from",
]  # fmt: skip

log = logging.getLogger(__name__)

_FORMAT = 1  # of the record of a tree


@dataclass(frozen=True)
class Pending:
    """A file that is not here yet: what a person needs to know of it.

    place: where it goes, and where a person may put it.
    left_bytes: what is still to be fetched; None where nobody knows.
    """

    name: str
    url: str
    size_bytes: int | None
    left_bytes: int | None
    place: Path

    def __str__(self) -> str:
        return f"{self.name}  {readable(self.size_bytes)}  {self.url}  -> {self.place}"


def source_from(data: Mapping[str, Any]) -> AnySource:
    """A source from plain data (`dataclasses.asdict` of one)."""
    if "repo" in data:
        return HubSource(**{**data, "patterns": tuple(data["patterns"])})
    return Source(**{**data, "files": tuple(RemoteFile(**file) for file in data["files"])})


def identity_of(source: AnySource) -> dict[str, Any]:
    """What decides whether an unpacked tree is that of ``source``, as plain data; its files' addresses do not."""
    if isinstance(source, HubSource):
        data = asdict(source)
        data.pop("size_bytes")
    else:
        content = [file.checksum or [file.name, file.size_bytes] for file in _files(source)]
        data = {"name": source.name, "files": content, "into": source.into, "strip": source.strip}
    identity: dict[str, Any] = json.loads(json.dumps(data))
    return identity


def missing(source: AnySource, archives: Path) -> list[Pending]:
    """Files of a source that are neither whole in ``archives`` nor put there by hand."""
    if isinstance(source, HubSource):
        size = source.size_bytes
        name = f"{source.repo}@{source.revision[:12]}"
        page = hub.page_of(source.repo, source.revision)
        return [Pending(name, page, size, size, _snapshot_folder(archives, source))]
    return [
        Pending(
            file.name, without_secrets(file.url), file.size_bytes, _left(file, archives), archives / file.name
        )
        for file in _files(source)
        if not (archives / file.name).is_file()
    ]


def fetch_source(
    marker: Path,
    *,
    source: AnySource,
    root: Path,
    archives: Path,
    title: str,
    offline: bool = False,
    provenance: Mapping[str, Any] | None = None,
    patience: Patience = PATIENCE,
) -> None:
    """Download one source into ``archives``, check it, unpack it below ``root / source.into`` and write the marker.

    A tree that an earlier call has unpacked and that is still whole is left as it is, and nothing is fetched. A
    file at `<archives>/<file name>` is taken whoever put it there; only what was downloaded here is removed in the
    end. Two calls for one source wait for each other, calls for different sources of one root work side by side.

    Args:
        title: the dataset's name, for messages.
        offline: open no connection (also FOLEY_OFFLINE=1 or HF_HUB_OFFLINE=1).

    Raises:
        DownloadError: whatever a person must act on: no network, no access, no room on the disk, a wrong checksum
            (WrongContent), an archive that is damaged or would do harm (BadArchive).
    """
    if not source.name or source.name != Path(source.name).name or source.name.startswith("."):
        raise DownloadError(f"{title}: {source.name!r} cannot name a source: it becomes a part of a path")
    job = _Fetch(source, root, archives, title, is_offline(offline), patience)
    with job.locks():
        record = job.tree.record(identity_of(source))
        if record is not None:
            log.info(
                "%s: %s is unpacked at %s; delete %s to fetch it anew",
                title, source.name, root / source.into, job.tree.record_path,
            )  # fmt: skip
        elif isinstance(source, HubSource):
            record = job.fetch_snapshot(source)
        else:
            record = job.fetch_files(source)
        job.tidy()
    facts = {key: value for key, value in record.items() if key not in ("members", "format", "identity")}
    _write_json(marker, {**facts, "provenance": _scrubbed(provenance or {})})


@dataclass(frozen=True)
class _Fetch:
    """One call's work, under its locks."""

    source: AnySource
    root: Path
    archives: Path
    title: str
    offline: bool
    patience: Patience

    @property
    def tree(self) -> _Tree:
        return _Tree(self.root, self.source.name)

    @property
    def into(self) -> Path:
        folder = self.root / self.source.into
        if ".." in Path(self.source.into).parts or Path(self.source.into).is_absolute():
            raise DownloadError(f"{self.title}: `into` {self.source.into!r} leaves the folder of the dataset")
        return folder

    def locks(self) -> ExitStack:
        """The tree's lock, then those of the archives, always in one order."""
        stack = ExitStack()
        if isinstance(self.source, HubSource):
            names = [_snapshot_folder(self.archives, self.source).name]
        else:
            names = sorted(file.name for file in _files(self.source))
        try:
            what = f"{self.source.name} of {self.title}"
            stack.enter_context(exclusive(self.tree.state / f"{self.source.name}.lock", what))
            for name in names:
                stack.enter_context(exclusive(self.archives / f".{name}.lock", name))
        except BaseException:
            stack.close()
            raise
        return stack

    # Archives and plain files

    def fetch_files(self, source: Source) -> dict[str, Any]:
        files = _files(source)
        self.tree.clear_staging()
        self._refuse_missing(source, files)
        self._need_room(source, files)
        digests = [self._obtain(file) for file in files]
        paths = [self.archives / file.name for file in files]
        if archive_kind(paths[-1].name) is None:
            if len(paths) > 1:
                raise DownloadError(
                    f"{self.title}: {source.name} has several files, which are no split archive"
                )
            staged = self.tree.staging / paths[0].name
            staged.parent.mkdir(parents=True)
            _link_or_copy(paths[0], staged)
            unpacked = Unpacked([(staged.name, staged.stat().st_size)])
        else:
            unpacked = self._unpack(source, paths)
        facts = [
            {
                "name": file.name,
                "url": without_secrets(file.url),
                "size_bytes": path.stat().st_size,
                "checksum": file.checksum,
                "sha256": sha256,
            }
            for file, path, sha256 in zip(files, paths, digests, strict=True)
        ]
        record = self._settle(unpacked, {"files": facts})
        return record

    def tidy(self) -> None:
        """Remove what was downloaded here and is unpacked now; never what a person has put here."""
        self.tree.clear_staging()
        if isinstance(self.source, HubSource):
            folder = _snapshot_folder(self.archives, self.source)
            if _ours(folder).exists():
                shutil.rmtree(folder, ignore_errors=True)
                _ours(folder).unlink()
            return
        for path in (self.archives / file.name for file in _files(self.source)):
            if (_check_note(path) or {}).get("downloaded"):
                path.unlink()
            if not path.exists():
                _check_note_path(path).unlink(missing_ok=True)

    def _refuse_missing(self, source: Source, files: Sequence[RemoteFile]) -> None:
        for file in files:
            check_url(file.url)
            check_checksum(file.checksum, file.name)
        if not self.offline:
            return
        lacking = [
            f
            for f in files
            if not (self.archives / f.name).is_file() and not f.url.lower().startswith("file:")
        ]
        if lacking:
            listed = "; ".join(by_hand(f.url, self.archives / f.name, f.size_bytes) for f in lacking)
            raise DownloadError(
                f"{self.title}: {source.name} is not here and Foley is offline; on a machine with network access "
                f"{listed}"
            )

    def _need_room(self, source: Source, files: Sequence[RemoteFile]) -> None:
        fetch = sum(_left(file, self.archives) or 0 for file in files)
        if archive_kind(files[-1].name) is None and _device(self.archives) == _device(self.root):
            unpacked = 0  # a plain file is linked into the tree
        else:
            # Without a published size: an archive rarely unpacks to less than itself, so this is the least.
            unpacked = source.unpacked_bytes or sum(file.size_bytes or 0 for file in files)
        what = f"{self.title}: {source.name} ({readable(fetch)} to download, {readable(unpacked)} to unpack)"
        need_space({self.archives: fetch, self.root: unpacked}, what)

    def _obtain(self, file: RemoteFile) -> str:
        """Have the checked file in `archives`; its SHA-256."""
        path = self.archives / file.name
        if path.is_file():
            known = _check_note(path)
            wanted = [file.size_bytes, file.checksum]
            if known is not None and known["wanted"] == wanted:
                return str(known["sha256"])
            digest = digest_file(path, file.checksum)
            wrong = disagreement(digest, file.size_bytes, file.checksum)
            if wrong is not None:
                raise WrongContent(
                    f"{path} is not the published {file.name}: {wrong}. It was left as it is: delete it to have it "
                    f"downloaded, replace it ({by_hand(file.url, path, file.size_bytes)}), or, if it is a newer one "
                    f"that you trust, correct its checksum and size in the config (`downloads`: `{file.name}`)"
                )
            downloaded = bool(known and known["downloaded"])
        else:
            digest = download(
                file.url, path, size_bytes=file.size_bytes, checksum=file.checksum, patience=self.patience
            )
            downloaded = True
            if file.checksum is None:
                log.info("%s: no checksum is published; its sha256 is %s", file.name, digest.hex("sha256"))
        stat = path.stat()
        _write_json(
            _check_note_path(path),
            {
                "size_bytes": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "wanted": [file.size_bytes, file.checksum],
                "sha256": digest.hex("sha256"),
                "downloaded": downloaded,
            },
        )
        return digest.hex("sha256")

    def _unpack(self, source: Source, paths: Sequence[Path]) -> Unpacked:
        limits = Limits.of(sum(path.stat().st_size for path in paths), source.unpacked_bytes)
        try:
            with Meter(f"unpacking {paths[-1].name}", source.unpacked_bytes) as meter:
                return unpack(paths, self.tree.staging, limits=limits, strip=source.strip, progress=meter.add)
        except BaseException as error:
            self.tree.clear_staging()
            if isinstance(error, BadArchive):
                raise BadArchive(
                    f"{self.title}: {error}. The archive is kept in {self.archives}: delete it to have it fetched "
                    "anew, or unpack a good copy yourself and point the dataset's `path` at the folder"
                ) from None
            raise

    # Snapshots of the hub

    def fetch_snapshot(self, source: HubSource) -> dict[str, Any]:
        self.tree.clear_staging()
        folder = _snapshot_folder(self.archives, source)
        if not folder.exists():
            self.archives.mkdir(parents=True, exist_ok=True)
            _ours(folder).touch()
        files = hub.fetch_snapshot(
            source.repo,
            source.revision,
            source.patterns,
            folder,
            size_bytes=source.size_bytes,
            offline=self.offline,
            room=lambda size: need_space({self.archives: size}, f"downloading {source.name} of {self.title}"),
            patience=self.patience,
        )
        if _device(self.archives) != _device(self.root):
            need_space({self.root: sum(f.size_bytes for f in files)}, f"{source.name} of {self.title}")
        for file in files:
            staged = self.tree.staging / file.path
            staged.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(folder / file.path, staged)
        page = hub.page_of(source.repo, source.revision)
        facts = [{"name": f.path, "url": page, "size_bytes": f.size_bytes, "sha256": f.sha256} for f in files]
        unpacked = Unpacked([(f.path, f.size_bytes) for f in files])
        return self._settle(unpacked, {"repo": source.repo, "revision": source.revision, "files": facts})

    # The tree

    def _settle(self, unpacked: Unpacked, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Move the staged tree into place and note what it holds."""
        into = self.into
        members = [(os.path.normpath(os.path.join(self.source.into, path)), n) for path, n in unpacked.files]
        record = {
            "format": _FORMAT,
            "identity": identity_of(self.source),
            "title": self.title,
            "source": self.source.name,
            "into": self.source.into,
            **facts,
            "unpacked": {"files": len(members), "bytes": unpacked.total_bytes},
            "members": members,
        }
        stale = self.tree.stale({path for path, _ in members})
        _merge(self.tree.staging, into)
        for path in stale:
            (self.root / path).unlink(missing_ok=True)
        if stale:
            log.info("%s: %d files of an earlier %s removed", self.title, len(stale), self.source.name)
        _write_json(self.tree.record_path, record)
        return record


@dataclass(frozen=True)
class _Tree:
    """What is noted of a source's part of the tree at ``root``."""

    root: Path
    source: str

    @property
    def state(self) -> Path:
        return self.root / ".foley"

    @property
    def staging(self) -> Path:
        return self.state / f"{self.source}.unpacking"

    @property
    def record_path(self) -> Path:
        return self.state / f"{self.source}.tree"

    def clear_staging(self) -> None:
        if self.staging.exists():
            shutil.rmtree(self.staging)

    def record(self, identity: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of the unpacked source, if it is this very one and all its files are here."""
        record = _read_json(self.record_path)
        if record is None or record.get("format") != _FORMAT or record.get("identity") != identity:
            return None
        for path, size in record["members"]:
            try:
                stat = os.lstat(self.root / path)
            except OSError:
                return None
            if size >= 0 and stat.st_size != size:
                return None
        return record

    def stale(self, members: set[str]) -> list[str]:
        """Files that an earlier version of the source has put here, and that nothing puts here now."""
        earlier = _read_json(self.record_path)
        if earlier is None or "members" not in earlier:
            return []
        others: set[str] = set()
        for path in self.state.glob("*.tree"):
            if path != self.record_path:
                others |= {name for name, _ in (_read_json(path) or {}).get("members", [])}
        return [path for path, _ in earlier["members"] if path not in members and path not in others]


def _files(source: Source) -> tuple[RemoteFile, ...]:
    """The files of a source, each with a name that it can be kept under."""
    for file in source.files:
        if file.name in ("", ".", "..") or "/" in file.name or "\\" in file.name:
            raise DownloadError(f"{without_secrets(file.url)}: {file.name!r} cannot name a file")
    return source.files


def _left(file: RemoteFile, archives: Path) -> int | None:
    """Bytes still to fetch; None where nobody knows."""
    path = archives / file.name
    if path.is_file():
        return 0
    if file.size_bytes is None:
        return None
    part = part_of(path)
    have = part.stat().st_size if part.is_file() else 0
    return max(file.size_bytes - have, 0)


def below(mirror: str, name: str) -> str:
    """URL of a file below the base URL of a mirror, whose query (a signature, say) goes with it."""
    base, question, query = mirror.partition("?")
    return f"{base.rstrip('/')}/{name}{question}{query}"


def _snapshot_folder(archives: Path, source: HubSource) -> Path:
    # Two repositories may be named alike; two revisions must not mix.
    return archives / f"{source.repo.replace('/', '--')}@{source.revision[:12]}"


def _ours(folder: Path) -> Path:
    """The mark of a snapshot's folder that was made here."""
    return folder.with_name(f".{folder.name}.ours")


def _check_note_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.checked.json")


def _check_note(path: Path) -> dict[str, Any] | None:
    """What was found when the file was last checked, if it is still that file."""
    note = _read_json(_check_note_path(path))
    try:
        stat = path.stat()
    except OSError:
        return None
    if note is None or [note.get("size_bytes"), note.get("mtime_ns")] != [stat.st_size, stat.st_mtime_ns]:
        return None
    return note


def _device(path: Path) -> int:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path.stat().st_dev


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _merge(staged: Path, into: Path) -> None:
    """Move a tree into another one, whole folders at a time where nothing is in the way."""
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staged, into)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY, errno.EINVAL):
            raise
    into.mkdir(exist_ok=True)
    for entry in sorted(os.scandir(staged), key=lambda each: each.name):
        target = into / entry.name
        if entry.is_dir(follow_symlinks=False):
            if target.exists() and not target.is_dir():
                raise DownloadError(f"{target} is a file where a folder of the archive goes; move it away")
            _merge(Path(entry.path), target)
        elif target.is_dir() and not target.is_symlink():
            raise DownloadError(f"{target} is a folder where a file of the archive goes; move it away")
        else:
            os.replace(entry.path, target)
    os.rmdir(staged)


def _scrubbed(value: Any) -> Any:
    """Plain data without the secrets that URLs in it may hold."""
    if isinstance(value, Mapping):
        return {str(key): _scrubbed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(inner) for inner in value]
    return without_secrets(value) if isinstance(value, str) and "://" in value else value


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    from foley.tables import atomic_file  # it brings Arrow, which who only asks for sizes need not load

    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1, sort_keys=True, default=str), encoding="utf-8")
