"""Two runs of the real workflow on tiny data, made once and copied by the tests that change something."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from project import Project, copy_project, made_once, write_clips, write_odd_clips, write_words


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run on soundbox. Don't change it: copy it (`soundbox`)."""

    def make(folder: Path) -> Project:
        project = copy_project(folder, "soundbox.yaml")
        project.make()
        return project

    return made_once(tmp_path_factory, "finished", "soundbox.yaml", make)


# Those of `two_methods`.
METHODS = ["ale", "zerodiffusion"]


@pytest.fixture(scope="session")
def two_methods(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run of two of the methods, which have all stages: less to do again. Don't change it."""

    def make(folder: Path) -> Project:
        project = finished.copy_to(folder)
        config = yaml.safe_load(project.path(project.config).read_text())
        config["zero_shot"]["methods"] = METHODS
        project.path(project.config).write_text(yaml.safe_dump(config))
        for path in [*project.path("results").rglob("method=*")]:
            if path.name.removeprefix("method=") not in METHODS:
                shutil.rmtree(path)
        project.make()
        return project

    return made_once(tmp_path_factory, "two_methods", finished.config, make)


@pytest.fixture(scope="session")
def folder_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with a folder dataset, not run yet. Don't run it: copy it."""
    project = copy_project(tmp_path_factory.mktemp("folder") / "foley", "folder.yaml")
    write_clips(project.path("clips"))
    write_odd_clips(project.path("clips"))
    write_words(project.path("words.txt"))
    return project


@pytest.fixture(scope="session")
def folder_run(folder_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run on a folder dataset. Don't change it: copy it (`mine`)."""

    def make(folder: Path) -> Project:
        project = folder_project.copy_to(folder)
        project.make()
        return project

    return made_once(tmp_path_factory, "folder_run", folder_project.config, make)


@pytest.fixture
def soundbox(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished run on soundbox, to change at will."""
    yield finished.copy_to(tmp_path / "foley")
    shutil.rmtree(tmp_path / "foley")


@pytest.fixture
def mine(folder_run: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished run on a folder dataset, to change at will."""
    yield folder_run.copy_to(tmp_path / "foley")
    shutil.rmtree(tmp_path / "foley")
