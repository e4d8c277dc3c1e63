"""Whether a raw tree is its publisher's, file by file: the MD5 of every clip that soundata and mirdata publish.

Bittner et al., "mirdata: Software for Reproducible Usage of Datasets", ISMIR 2019; Fuentes et al., "Soundata", 2021.
Neither package is imported, and neither has to be installed: only their lists are read. Releases up to soundata 0.1
and mirdata 0.3 bring them along; later ones fetch them on demand (`soundata.initialize("esc50").download(["index"])`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

log = logging.getLogger(__name__)

NAMES_KEPT = 20


@dataclass(frozen=True)
class Index:
    """A published list: of which package and dataset there, and what its paths have in front of ours."""

    package: str
    name: str
    top: str = ""


INDEXES = {
    "esc50": Index("soundata", "esc50"),
    "urbansound8k": Index("soundata", "urbansound8k"),
    "fsd50k": Index("soundata", "fsd50k"),
    "tau2019": Index("soundata", "tau2019uas", "TAU-urban-acoustic-scenes-2019-development/"),
    "gtzan": Index("mirdata", "gtzan_genre", "gtzan_genre/"),
}


@dataclass(frozen=True)
class Comparison:
    """How a tree compares with a published list of checksums.

    not_checked: why nothing was compared, and how to change that; None where it was.
    index: the list's file name.
    published: how many clips the list has; each is one of matching, different and missing.
    different_names, missing_names: at most `NAMES_KEPT` of each, in the list's order.
    """

    not_checked: str | None = None
    index: str | None = None
    published: int = 0
    matching: int = 0
    different: int = 0
    missing: int = 0
    different_names: tuple[str, ...] = ()
    missing_names: tuple[str, ...] = ()


def compare(root: Path, kind_id: str, *, index: Path | None = None, workers: int | None = None) -> Comparison:
    """Compare the clips below ``root`` with the published checksums of a dataset kind.

    Args:
        index: the list, where it isn't to be looked for in the installed packages.
        workers: threads; reading and hashing release the interpreter lock.

    Raises:
        ValueError: the list is damaged; names its file.
    """
    known = INDEXES.get(kind_id)
    if known is None:
        return Comparison(not_checked="no list of per-clip checksums is known for this dataset")
    if index is None:
        index = installed_index(known)
    if index is None:
        return Comparison(
            not_checked=f"the list of per-clip checksums is not here; install {known.package} and run "
            f"`{known.package}.initialize({known.name!r}).download(['index'])`"
        )
    if not root.is_dir():  # removed since, to save space: the clips stand without it
        return Comparison(not_checked=f"the raw files are no longer at {root}")
    published = _read(index, known)
    names = list(published)
    start = perf_counter()

    from tqdm import tqdm

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        found = list(
            tqdm(
                pool.map(lambda name: _md5(root / name), names), total=len(names), unit="files", leave=False,
                desc=f"checking {root.name}", disable=not sys.stderr.isatty() or len(names) < 500,
            )
        )  # fmt: skip
    log.info("%s: %d checksums, %.0f/s", kind_id, len(names), len(names) / max(perf_counter() - start, 1e-9))
    missing = [name for name, digest in zip(names, found, strict=True) if digest is None]
    different = [
        name
        for name, digest in zip(names, found, strict=True)
        if digest is not None and digest != published[name]
    ]
    return Comparison(
        index=index.name,
        published=len(names),
        matching=len(names) - len(missing) - len(different),
        different=len(different),
        missing=len(missing),
        different_names=tuple(different[:NAMES_KEPT]),
        missing_names=tuple(missing[:NAMES_KEPT]),
    )


def installed_index(known: Index) -> Path | None:
    """The list in the installed package, the newest one; None where there is none."""
    spec = importlib.util.find_spec(known.package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        # `esc50_index.json` in old releases, `esc50_index_2.0.json` in new ones; `_sample` and `mini` are for tests.
        found = sorted(Path(folder, "datasets", "indexes").glob(f"{known.name}_index*.json"))
        found = [path for path in found if "sample" not in path.name and "mini" not in path.name]
        if found:
            return found[-1]
    return None


def _read(path: Path, known: Index) -> dict[str, str]:
    """Path below the dataset's root -> MD5, for the audio of every clip."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        clips = content["clips"] if "clips" in content else content["tracks"]
        listed = [clip["audio"] for clip in clips.values()]
        # A list may cover several parts of a dataset (TAU's evaluation set); ours is the one below `top`.
        return {name.removeprefix(known.top): digest for name, digest in listed if name.startswith(known.top)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no list of checksums as {known.package} has them ({type(error).__name__}: {error}); "
            "download it again"
        ) from None


def _md5(path: Path) -> str | None:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return None
