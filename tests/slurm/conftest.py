"""A Slurm cluster for the session, and projects that run on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, ClusterError
from cluster_project import TRAINING, ClusterProject
from project import Project, copy_project


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A cluster is started only when these tests are asked for by their marker."""
    if "slurm" in config.getoption("markexpr"):
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.skip(reason="starts a Slurm cluster: run `make test-slurm`"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    # Not pytest's own folder, whose long name leaves no room for the names of sockets.
    folder = Path(tempfile.mkdtemp(prefix="foley-slurm-"))
    one = Cluster(folder)
    try:
        one.start()
        yield one
    except ClusterError as error:
        logs = [f"{path}:\n{path.read_text(errors='replace')[-1500:]}" for path in folder.glob("log/*")]
        pytest.fail("\n".join([str(error), *logs]))
    finally:
        one.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A local run on soundbox up to a trained encoder. Don't change it: copy it."""
    project = copy_project(tmp_path_factory.mktemp("undisturbed") / "foley", "soundbox.yaml")
    project.make(TRAINING)
    return project


@pytest.fixture(scope="session")
def whole(undisturbed: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A local run on soundbox to its end."""
    project = undisturbed.copy_to(tmp_path_factory.mktemp("whole") / "foley")
    project.make()
    return project


@pytest.fixture
def fresh(cluster: Cluster, tmp_path: Path) -> Iterator[ClusterProject]:
    """The project without results."""
    yield ClusterProject(copy_project(tmp_path / "foley", "soundbox.yaml"), cluster)
    cluster.cancel_all()


@pytest.fixture
def trained(cluster: Cluster, undisturbed: Project, tmp_path: Path) -> Iterator[ClusterProject]:
    """A copy of the local run, to go on with."""
    yield ClusterProject(undisturbed.copy_to(tmp_path / "foley"), cluster)
    cluster.cancel_all()
