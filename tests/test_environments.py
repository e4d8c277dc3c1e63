"""The conda environments hold what the project is tested with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda path: path.stem)
def test_versions_are_those_of_the_constraints(path: Path) -> None:
    tested = set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    pinned = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"][-1]["pip"]
    assert pinned and set(pinned) <= tested
