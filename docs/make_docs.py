"""Write the docs that are made from the code, so that they cannot drift: `make docs`.

- workflow/schemas/config.schema.json and docs/config.md from the config models,
- docs/tables.md from the table schemas,
- docs/dag.svg from the rules, where graphviz' `dot` is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from foley.config import describe, json_schema
from foley.datasets.catalogue import describe as describe_datasets
from foley.tables.registry import describe as describe_tables

ROOT = Path(__file__).resolve().parents[1]


def draw_dag() -> None:
    """The graph of rules of the default experiment."""
    graph = subprocess.run(
        [sys.executable, "-m", "snakemake", "--rulegraph", "dot", "--quiet"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    graph = graph[graph.index("digraph") :]
    drawn = subprocess.run(
        ["dot", "-Tsvg", "-Grankdir=LR", "-Gbgcolor=white", "-Nfontname=Helvetica", "-Ncolor=#44617b"],
        input=graph, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (ROOT / "docs" / "dag.svg").write_text(drawn)


def main() -> None:
    (ROOT / "workflow" / "schemas" / "config.schema.json").write_text(json_schema())
    (ROOT / "docs" / "config.md").write_text(describe())
    (ROOT / "docs" / "tables.md").write_text(describe_tables())
    (ROOT / "docs" / "datasets.md").write_text(describe_datasets())
    if shutil.which("dot"):
        draw_dag()
    else:
        print("docs/dag.svg stays as it is: graphviz' `dot` is not installed")


if __name__ == "__main__":
    main()
