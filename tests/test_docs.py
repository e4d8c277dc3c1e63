"""Docs that are made from the code are those of this code."""

from __future__ import annotations

from pathlib import Path

from foley.datasets.catalogue import describe

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_datasets_page_is_made_from_the_kinds() -> None:
    assert (DOCS / "datasets.md").read_text(encoding="utf-8") == describe(), "run `make docs`"
