"""Profiles and conda environments agree with the rules and with constraints.txt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = sorted(ROOT.glob("envs/*.yaml"))


def rules() -> dict[str, str]:
    """Name of each rule -> its text."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("workflow/rules/*.smk"))]
    found = re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", "\n".join(texts), re.M | re.S)
    return dict(found)


def profile(name: str) -> dict:
    return yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))


def test_the_cluster_knows_every_rule_that_uses_a_gpu() -> None:
    with_gpu = {name for name, text in rules().items() if re.search(r"^        gpu=", text, re.M)}
    assert len(with_gpu) >= 18
    entries = profile("slurm")["set-resources"]
    assert set(entries) == with_gpu
    # One line says what they get.
    assert len({id(entry) for entry in entries.values()}) == 1


def test_groups_hold_rules_without_gpus() -> None:
    grouped = profile("slurm")["groups"]
    assert set(grouped) <= set(rules()) - set(profile("slurm")["set-resources"])
    sizes = dict(entry.split("=") for entry in profile("slurm")["group-components"])
    assert set(sizes) <= set(grouped.values())


def test_every_rule_on_a_cluster_says_what_it_takes() -> None:
    for name, text in rules().items():
        if name == "all" or "localrule: True" in text:
            continue
        assert re.search(r"^        mem_mb=memory\(\d+", text, re.M), f"{name} has no mem_mb"
        assert re.search(r"^        runtime=minutes\(\d+\)", text, re.M), f"{name} has no runtime"


def test_what_holds_on_one_machine_holds_on_a_cluster() -> None:
    default, slurm = profile("default"), profile("slurm")
    assert default == {key: slurm.get(key) for key in default}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_environments_have_the_versions_that_are_tested(path: Path) -> None:
    def key(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", requirement.partition("==")[0]).lower()

    tested = {key(line): line.partition("==")[2] for line in (ROOT / "constraints.txt").read_text().split()}
    packages = [
        package
        for entry in yaml.safe_load(path.read_text())["dependencies"]
        if isinstance(entry, dict)
        for package in entry["pip"]
    ]
    assert packages
    for package in packages:
        assert package.partition("==")[2] == tested[key(package)], package
