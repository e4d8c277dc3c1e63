"""Profiles and conda environments agree with the rules and with constraints.txt."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_set_resources

from foley.runtime.code import module_file

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


def cluster_page() -> str:
    return (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def test_the_recipe_for_a_cluster_looks_where_its_experiment_writes() -> None:
    recipe = cluster_page().split("```sh\n", 1)[1].split("```", 1)[0]
    runs = [line for line in recipe.splitlines() if line.startswith("snakemake ")]
    assert len(runs) == 2
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    presets = {preset for line in runs for preset in re.findall(r"--configfile (\S+)", line)}
    for preset in presets:
        config |= yaml.safe_load((ROOT / preset).read_text(encoding="utf-8"))
    assert len(presets) <= 1
    # It has what it needs: no data of the user's to give.
    needed = [
        entry[key] for entry in config["datasets"].values() for key in ("path", "folder") if key in entry
    ]
    assert not needed
    named = re.findall(r"(\S*)/(?:report/index\.html|\.slurm_run)\b", cluster_page())
    assert len(named) >= 3
    assert {folder.lstrip("`") for folder in named} == {config["results"]}


def test_memory_that_is_set_as_documented_grows_with_each_attempt() -> None:
    (example,) = re.findall(r"^set-resources:\n.*?(?=^```)", cluster_page(), re.M | re.S)
    ((rule, entry),) = yaml.safe_load(example)["set-resources"].items()
    assert rule in rules()
    asked = parse_set_resources([f"{rule}:mem_mb={entry['mem_mb']}"])[rule]["mem_mb"]
    context = {"input": [], "threads": 1, "rulename": rule, "async_run": None}
    values = [asked.evaluate({}, attempt=attempt, **context).value for attempt in (1, 2, 3)]
    assert values == [64000, 128000, 256000]


def key(requirement: str) -> str:
    """A package's name, as it is compared."""
    return re.sub(r"[-_.]+", "-", requirement.partition("==")[0]).lower()


def packages_of(environment: Path) -> list[str]:
    return [
        package
        for entry in yaml.safe_load(environment.read_text())["dependencies"]
        if isinstance(entry, dict)
        for package in entry["pip"]
    ]


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_environments_have_the_versions_that_are_tested(path: Path) -> None:
    tested = {key(line): line.partition("==")[2] for line in (ROOT / "constraints.txt").read_text().split()}
    packages = packages_of(path)
    assert packages
    for package in packages:
        assert package.partition("==")[2] == tested[key(package)], package


# What a script may run of the library, definition by definition: a file, and the name of a function or class in it;
# no name for what importing the file runs. A function that is named is taken to be called, a class with all its
# methods. What is loaded by name (`foley.runtime.code.load`) is not followed.
Part = tuple[Path, str]


@cache
def parse(path: Path) -> tuple[list[ast.stmt], dict[str, ast.stmt]]:
    """Statements that importing a file runs, and its definitions by name."""
    body = ast.parse(path.read_bytes()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [s for s in body if not isinstance(s, kinds)], {s.name: s for s in body if isinstance(s, kinds)}


@cache
def imports(path: Path, name: str) -> tuple[dict[str, Part], set[Part], set[str]]:
    """Of a part: names that stand for other parts, the files that it imports, and the third-party modules."""
    statements, definitions = parse(path)
    known: dict[str, Part] = {}
    files, others = set(), set()
    for statement in [definitions[name]] if name else statements:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            continue
        for node in ast.walk(statement):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                base = str(node.module)
                modules = [base]
                for alias in node.names:
                    module, file = module_file(f"{base}.{alias.name}"), module_file(base)
                    if module or file:
                        part = (module, "") if module else (file, alias.name)
                        known[alias.asname or alias.name] = part  # type: ignore[assignment]
            for module in modules:
                if file := module_file(module):
                    files.add((file, ""))
                elif module.partition(".")[0] not in sys.stdlib_module_names:
                    others.add(module.partition(".")[0])
    return known, files, others


@cache
def named(path: Path, name: str) -> set[Part]:
    """The parts that a part names."""
    statements, definitions = parse(path)
    known = imports(path, "")[0] | imports(path, name)[0]
    found = {(path, "")} | imports(path, name)[1]
    for node in (node for s in ([definitions[name]] if name else statements) for node in ast.walk(s)):
        if isinstance(node, ast.Name) and node.id in definitions:
            found.add((path, node.id))
        elif isinstance(node, ast.Name) and node.id in known:
            found.add(known[node.id])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            file, of = known.get(node.value.id, (path, "?"))
            if not of:
                found.add((file, node.attr))
    return {resolved(*part) for part in found}


def resolved(path: Path, name: str) -> Part:
    """The part itself where it is imported from elsewhere; the file where it is a constant."""
    if name in parse(path)[1]:
        return path, name
    elsewhere = imports(path, "")[0].get(name)
    return resolved(*elsewhere) if elsewhere else (path, "")


def reached(script: Path) -> set[str]:
    """Third-party modules that a script may import."""
    todo: list[Part] = [(script, "")]
    seen: set[Part] = set()
    while todo:
        part = todo.pop()
        if part not in seen:
            seen.add(part)
            todo += named(*part)
    return set().union(*(imports(*part)[2] for part in seen))


# Only of Python 3.14, and what stands for it before; `zipfile` of Python 3.11 has no such archives.
OPTIONAL = {"compression", "zstandard"}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_conda_environments_hold_what_their_scripts_import(path: Path) -> None:
    own = {
        name: ROOT / "workflow/scripts" / f"{script[1]}.py"
        for name, text in rules().items()
        if f"envs/{path.name}" in text and (script := re.search(r"scripts/(\w+)\.py", text))
    }
    assert own
    # By name, with the version that is tested: not by way of another package, which may take any.
    holds = {key(package) for package in packages_of(path)}
    distributions = metadata.packages_distributions()
    lacking = {
        f"{name}: {module}"
        for name, script in own.items()
        for module in reached(script) - OPTIONAL - {"snakemake"}
        if not holds & {key(package) for package in distributions.get(module, [module])}
    }
    assert not lacking


def test_imports_are_followed_from_function_to_function() -> None:
    assert {"torch", "numpy", "pyarrow", "soundfile"} <= reached(ROOT / "workflow/scripts/train_encoder.py")
    assert "jinja2" in reached(ROOT / "workflow/scripts/write_report.py")
    assert not {"torch", "jinja2"} & reached(ROOT / "workflow/scripts/ingest_shard.py")
