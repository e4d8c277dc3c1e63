"""Run the benchmarks and write what they found to docs/benchmarks.md (`make bench`)."""

from __future__ import annotations

import argparse
import importlib
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path

from measure import REPOSITORY, Table, cores

# In order; the last only when asked for.
NAMES = (
    "frontend",
    "augment",
    "ingest_datasets",
    "seeds",
    "diffusion",
    "diverse",
    "ingest_memory",
    "noop",
    "dag",
)
ON_DEMAND = ("demo",)
PAGE = REPOSITORY / "docs" / "benchmarks.md"
PACKAGES = (
    "torch", "diffusers", "numpy", "scipy", "scikit-learn", "soundfile", "soxr", "librosa", "pyarrow", "datasets",
    "audiomentations", "snakemake",
)  # fmt: skip


def machine() -> str:
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in PACKAGES)
    return f"{cores()} cores; Python {platform.python_version()}, {versions}"


def replace_section(page: str, name: str, text: str) -> str:
    """Put ``text`` between the markers of a benchmark.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE} has no section `{begin}` … `{end}`")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def write_section(path: Path, name: str, tables: list[Table]) -> None:
    text = "\n\n".join([*(table.markdown() for table in tables), f"Measured on {machine()}."])
    path.write_text(replace_section(path.read_text(), name, text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that all works; writes nothing"
    )
    parser.add_argument(
        "--only", action="append", choices=NAMES + ON_DEMAND, help="one benchmark; repeatable"
    )
    parser.add_argument("--demo", action="store_true", help="also the whole demo, which takes minutes")
    arguments = parser.parse_args()
    names = arguments.only or [*NAMES, *(ON_DEMAND if arguments.demo else ())]
    for name in names:
        module = importlib.import_module(name)
        print(f"\n## {module.TITLE}\n", flush=True)
        start = time.perf_counter()
        tables = module.run(arguments.quick)
        print("\n\n".join(table.markdown() for table in tables))
        print(f"\n({name}: {time.perf_counter() - start:.0f} s)", flush=True)
        if not arguments.quick:
            write_section(PAGE, name, tables)


if __name__ == "__main__":
    main()
