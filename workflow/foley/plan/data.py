"""Where each dataset's raw files are, come from or are made; what has to be downloaded; what is left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from foley.classes.published_vectors import KNOWN
from foley.config import Config, Dataset
from foley.datasets.protocol import DatasetKind
from foley.datasets.registry import KINDS
from foley.datasets.tree import Fingerprint, fingerprint
from foley.download.disk import readable
from foley.download.errors import DownloadError
from foley.download.fetch import Pending, below, identity_of, missing
from foley.download.http import check_url, is_offline
from foley.download.sources import AnySource, HubSource, RemoteFile, Source
from foley.options import ConfigError, did_you_mean, parse_options
from foley.plan.components import check_options, need_file, target
from foley.runtime.code import load


@dataclass(frozen=True)
class Download:
    """Something to fetch: for which dataset or class vectors, what, into which folder, and the mark of its end."""

    wanted_by: str
    title: str
    source: AnySource
    storage: str
    root: Path

    @property
    def marker(self) -> Path:
        return self.root / ".foley" / f"{self.source.name}.json"

    @property
    def done(self) -> bool:
        return self.marker.is_file()

    @property
    def size_bytes(self) -> int | None:
        return self.source.size_bytes


class DataPlan:
    """The datasets of a config.

    Args:
        wanted: ids of the datasets that studies and the page ask for; configured but unused ones cost nothing.
        vectors: ids of the class vectors that studies ask for.
        trust_cache: in the jobs of a run, whose main process has just looked: don't look at raw trees again.

    Raises:
        ConfigError: one clear message about a key, a folder or a file.
    """

    def __init__(
        self,
        config: Config,
        resources: Path,
        wanted: Sequence[str],
        vectors: Sequence[str],
        *,
        trust_cache: bool,
    ) -> None:
        self.config = config
        self.resources = resources
        self.cache = Path(config.cache)
        self.vectors = list(vectors)
        self.trust_cache = trust_cache
        self._fingerprints: dict[str, Fingerprint] = {}
        self._kinds: dict[str, DatasetKind] = {}
        # Why a dataset with `optional: true` is left out.
        self.left_out: dict[str, str] = {}
        for dataset in dict.fromkeys(wanted):
            self._check(dataset)
        self.datasets = [dataset for dataset in dict.fromkeys(wanted) if dataset not in self.left_out]
        _ = self.all_downloads  # which finds datasets that want different files at one place

    # What a dataset is

    def kind_name(self, dataset: str) -> str:
        entry = self.config.datasets[dataset]
        return entry.kind or ("folder" if entry.folder is not None else dataset)

    def target(self, dataset: str) -> str:
        """`package.module:Class` of the dataset's kind."""
        kind = self.kind_name(dataset)
        if self.config.datasets[dataset].kind is None and kind not in KINDS:
            raise ConfigError(
                f"config: `datasets.{dataset}` has no `kind`, and its id is none either "
                f"({did_you_mean(kind, KINDS)}); for your own clips give `folder: path/`"
            )
        return target(KINDS, kind, f"datasets.{dataset}.kind")

    def kind(self, dataset: str) -> DatasetKind:
        """The dataset's kind with its options."""
        if dataset not in self._kinds:
            cls: Any = load(self.target(dataset))
            options = parse_options(
                cls.Options, self.config.datasets[dataset].options, f"datasets.{dataset}.options"
            )
            self._kinds[dataset] = cls(options)
        return self._kinds[dataset]

    def is_generated(self, dataset: str) -> bool:
        """Whether a rule makes the raw audio."""
        return self.kind(dataset).generated

    def is_downloaded(self, dataset: str) -> bool:
        """Whether rules fetch the raw files: the config gives no place of theirs, and they can be had."""
        return _given(self.config.datasets[dataset]) is None and bool(self.kind(dataset).sources())

    def root(self, dataset: str) -> str:
        """Folder of the raw files."""
        if self.is_generated(dataset):
            return f"{self.config.results}/raw/dataset={dataset}"
        given = _given(self.config.datasets[dataset])
        if given is not None:
            return given
        kind = self.kind(dataset)
        if not kind.sources() and not kind.by_hand:
            raise ConfigError(
                f"config: `datasets.{dataset}.path` is missing: point it at the folder that holds the dataset"
            )
        return f"{self.config.data}/{self.storage(dataset)}"

    def storage(self, dataset: str) -> str:
        """Folder below `data` of a dataset that is downloaded or was fetched by hand."""
        return self.kind(dataset).storage or self.kind_name(dataset)

    def shards(self, dataset: str) -> range:
        return range(self.config.datasets[dataset].shards)

    def fingerprint(self, dataset: str) -> Fingerprint | None:
        """Content hashes of a raw tree of the user's; None for one that rules make or fetch, which follows those."""
        if self.is_generated(dataset) or self.is_downloaded(dataset):
            return None
        if dataset not in self._fingerprints:
            kind = self.kind(dataset)
            self._fingerprints[dataset] = fingerprint(
                Path(self.root(dataset)),
                self.config.datasets[dataset].shards,
                self.cache,
                media=kind.media,
                tables=kind.tables,
                trust_cache=self.trust_cache,
            )
        return self._fingerprints[dataset]

    def class_table(self, dataset: str) -> str | None:
        """The class table: the user's, the one of the kind in resources, or None (words of the labels)."""
        entry = self.config.datasets[dataset]
        if entry.classes is not None:
            return entry.classes
        ours = self.resources / "classes" / f"{self.kind_name(dataset)}.yaml"
        return str(ours) if ours.is_file() else None

    def vectors_table(self, dataset: str, vectors: str) -> str | None:
        """The class table that some class vectors have in place of the dataset's own, if any."""
        return self.config.class_vectors[vectors].classes.get(dataset)

    def facts(self, dataset: str) -> dict[str, Any]:
        """What the dataset's card says of where it comes from."""
        kind = self.kind(dataset)
        return {
            "kind": self.kind_name(dataset),
            "title": kind.title,
            "licence": kind.licence,
            "citation": kind.citation,
            "url": kind.url,
            "published_clips": kind.published_clips,
            "claims": self.claims(dataset),
            "by_hand": kind.by_hand,
            "sources": [
                {"name": file.name, "size_bytes": file.size_bytes, "checksum": file.checksum}
                for source in kind.sources()
                if not isinstance(source, HubSource)
                for file in source.files
            ],
            "multi_label": kind.multi_label,
        }

    def claims(self, dataset: str) -> list[list[str]]:
        """What the official folds and splits promise to keep apart: [what, between]."""
        return sorted(map(list, self.kind(dataset).claims))

    # Downloads

    def archives(self, storage: str) -> str:
        """Folder of a storage's archives, and where a user puts one that was fetched by hand."""
        return f"{self.config.data}/archives/{storage}"

    def downloads(self, dataset: str) -> list[Download]:
        """What rules fetch for a dataset; empty when nothing."""
        if not self.is_downloaded(dataset):
            return []
        storage, root = self.storage(dataset), Path(self.root(dataset))
        entry, kind = self.config.datasets[dataset], self.kind(dataset)
        return [
            Download(dataset, f"{kind.title}, {kind.licence}", _moved(source, entry), storage, root)
            for source in kind.sources()
        ]

    def words(self, vectors: str) -> Download | None:
        """The word vectors to fetch for some class vectors; None where they lie on disk or none are needed."""
        entry = self.config.class_vectors[vectors]
        if entry.path is None or "://" not in entry.path:
            return None
        known = KNOWN.get(entry.path)
        size, checksum = entry.size_bytes, entry.checksum
        if known is not None:
            size, checksum = size or known.size_bytes, checksum or known.checksum
        if size is None:
            raise ConfigError(
                f"config: `class_vectors.{vectors}.size_bytes` is missing: a download is checked against it, and "
                "against `checksum` if you give one"
            )
        file = RemoteFile(entry.path, size, checksum)
        source = Source(file.name, (file,))
        storage = "word_vectors"
        return Download(vectors, "word vectors", source, storage, Path(self.config.data) / storage)

    def words_file(self, vectors: str) -> str | None:
        """Where the word vectors of some class vectors lie, once they are fetched."""
        download = self.words(vectors)
        if download is None or isinstance(download.source, HubSource):
            return self.config.class_vectors[vectors].path
        return str(download.root / download.source.files[0].name)

    @cached_property
    def all_downloads(self) -> dict[str, Download]:
        """Everything that rules fetch, by its mark; several datasets may share one.

        Raises:
            ConfigError: two of them want different files at one place.
        """
        found = [download for dataset in self.datasets for download in self.downloads(dataset)]
        found += [d for vectors in self.vectors if (d := self.words(vectors)) is not None]
        first: dict[str, Download] = {}
        for download in found:
            other = first.setdefault(str(download.marker), download)
            if identity_of(other.source) != identity_of(download.source):
                raise ConfigError(
                    f"config: `{other.wanted_by}` and `{download.wanted_by}` both fetch {download.source.name} into "
                    f"{download.root}, but with different sizes or checksums: give both the same, or fetch one "
                    "yourself and point its `path` at it"
                )
        return first

    def download(self, storage: str, source: str) -> Download:
        """What the rule fetches that writes the mark of ``source`` in the folder ``storage``."""
        marker = Path(self.config.data, storage, ".foley", f"{source}.json")
        return self.all_downloads[str(marker)]

    def storages(self) -> list[str]:
        """Folders below `data` that downloads fill."""
        return sorted({download.storage for download in self.all_downloads.values()})

    def source_as_data(self, storage: str, source: str) -> dict[str, Any]:
        """A source as plain data, with what the config says otherwise of its files: what its job gets."""
        return asdict(self.download(storage, source).source)

    def content(self, storage: str, source: str) -> dict[str, Any]:
        """What of a source makes it another one when it changes: its files, not where they come from."""
        return identity_of(self.download(storage, source).source)

    def announcement(self) -> list[str]:
        """Lines for the terminal: what is left out, and what would be downloaded, how large, and from where."""
        lines = [f"left out: {dataset}: {reason}" for dataset, reason in self.left_out.items()]
        pending = [d for d in self.all_downloads.values() if not d.done]
        if not pending:
            return lines
        lines.append(f"to download: {_total(pending)}, into {self.config.data}/")
        of: dict[tuple[str, str], list[Download]] = {}
        for download in pending:
            of.setdefault((download.wanted_by, download.title), []).append(download)
        for (name, title), mine in sorted(of.items()):
            lines.append(f"  {name}: {title}, {_total(mine)}")
            lines += [
                f"    {file}"
                for download in mine
                for file in missing(download.source, Path(self.archives(download.storage)))
            ]
        return lines

    # Checks

    def _check(self, dataset: str) -> None:
        entry = self.config.datasets[dataset]
        check_options(self.target(dataset), entry.options, f"datasets.{dataset}.options", self.cache)
        files = {
            file.name
            for source in self.kind(dataset).sources()
            if not isinstance(source, HubSource)
            for file in source.files
        }
        for name in entry.downloads:
            if name not in files:
                raise ConfigError(
                    f"config: `datasets.{dataset}.downloads` names `{name}`, which is none of its files; "
                    f"{did_you_mean(name, files)}"
                )
        self._check_places(dataset)
        if entry.classes is not None:
            need_file(entry.classes, f"datasets.{dataset}.classes", "a class table in YAML")
        try:
            self._check_presence(dataset)
        except ConfigError as error:
            # Whoever gives a place means it.
            if not entry.optional or _given(entry) is not None:
                raise
            self.left_out[dataset] = str(error).removeprefix("config: ")

    def _check_places(self, dataset: str) -> None:
        """Whether `mirror` and `downloads` name places that a download can come from."""
        entry = self.config.datasets[dataset]
        for source in self.kind(dataset).sources():
            if isinstance(source, HubSource):
                if entry.mirror is not None:
                    raise ConfigError(
                        f"config: `datasets.{dataset}.mirror` is for published files; name a mirror of the Hugging "
                        "Face hub by the environment variable HF_ENDPOINT"
                    )
                continue
            for file in _moved(source, entry).files:
                try:
                    check_url(file.url)
                except DownloadError as error:
                    given = entry.downloads.get(file.name)
                    key = f"downloads.{file.name}.url" if given is not None and given.url else "mirror"
                    raise ConfigError(f"config: `datasets.{dataset}.{key}`: {error}") from None

    def _check_presence(self, dataset: str) -> None:
        if self.is_generated(dataset):
            if _given(self.config.datasets[dataset]) is not None:
                raise ConfigError(
                    f"config: `datasets.{dataset}`: {self.kind(dataset).title} is made by a rule; leave `path` out"
                )
            return
        entry, kind = self.config.datasets[dataset], self.kind(dataset)
        root = self.root(dataset)
        if self.is_downloaded(dataset):
            if is_offline(self.config.offline):
                self._refuse_offline(dataset)
            return
        # The jobs of a run need not look again; whether an optional dataset takes part, they must.
        if self.trust_cache and not entry.optional:
            return
        key = f"datasets.{dataset}." + ("folder" if entry.folder is not None else "path")
        if _given(entry) is None and not Path(root).is_dir():
            raise ConfigError(
                f"config: `{key}` is not given, and {kind.title} cannot be downloaded without you. "
                f"{kind.by_hand.rstrip('.')}. Put it at {root}, or point `{key}` at it"
            )
        try:
            kind.check(Path(root))
        except FileNotFoundError as error:
            raise ConfigError(f"config: `{key}`: {error}") from None

    def _refuse_offline(self, dataset: str) -> None:
        # An archive that the user fetched elsewhere needs no network, nor does a mirror on this machine.
        lacking = [
            file
            for download in self.downloads(dataset)
            if not download.done
            for file in missing(download.source, Path(self.archives(download.storage)))
            if not _is_here(file)
        ]
        if lacking:
            raise ConfigError(
                f"config: `datasets.{dataset}`: {self.kind(dataset).title} is not here and Foley is offline. Point "
                f"`datasets.{dataset}.path` at a copy, or fetch these on a machine with a network: "
                + "; ".join(map(str, lacking))
            )


def _given(entry: Dataset) -> str | None:
    return entry.folder if entry.folder is not None else entry.path


def _is_here(file: Pending) -> bool:
    return file.url.lower().startswith("file:")


@overload
def _moved(source: Source, entry: Dataset) -> Source: ...


@overload
def _moved(source: HubSource, entry: Dataset) -> HubSource: ...


def _moved(source: AnySource, entry: Dataset) -> AnySource:
    """A source with its files where the config says that they are."""
    if isinstance(source, HubSource):
        return source
    files = []
    for file in source.files:
        other = entry.downloads.get(file.name)
        mirrored = below(entry.mirror, file.name) if entry.mirror else file.url
        files.append(
            RemoteFile(
                url=(other and other.url) or mirrored,
                size_bytes=file.size_bytes if other is None or other.size_bytes is None else other.size_bytes,
                checksum=(other and other.checksum) or file.checksum,
                filename=file.name,
            )
        )
    return replace(source, files=tuple(files))


def _total(downloads: Sequence[Download]) -> str:
    sizes = [d.size_bytes for d in downloads]
    unknown = sizes.count(None)
    text = readable(sum(size or 0 for size in sizes))
    return f"{text} and {unknown} of unknown size" if unknown else text
