"""The demo and the zero-shot study on the real ESC-50, on the cluster and on this machine: the same tables.

Each takes as long as two runs, so neither is part of `make test-slurm`; on a quiet machine:

    pytest tests/slurm -m slurm_full -k demo
    pytest tests/slurm -m slurm_full -k esc50        # needs the real clips (FOLEY_SHARED_DATA)
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from cluster import Cluster
from cluster_project import ClusterProject, check_gpus, same_tables
from project import REPOSITORY, Project, copy_project

pytestmark = [pytest.mark.slurm_full, pytest.mark.timeout(6 * 3600)]


def compare(local: Project, on_cluster: Project, cluster: Cluster) -> None:
    """Run both to the end; the tables must be the same, and GPUs shared out."""
    remote = ClusterProject(on_cluster, cluster)
    before = remote.last_job()
    remote.run()
    local.make()
    same_tables(on_cluster.tables(), local.tables())
    rows = remote.attempts(before)
    check_gpus(on_cluster.path("results"), rows, cluster)
    print(f"{len(rows)} jobs of Slurm's")
    assert on_cluster.planned() == []


def test_demo(cluster: Cluster, tmp_path: Path) -> None:
    """The default experiment, as it is."""
    one, other = (copy_project(tmp_path / name / "foley", "soundbox.yaml") for name in ("local", "cluster"))
    compare(Project(one.folder, "config.yaml"), Project(other.folder, "config.yaml"), cluster)


def test_esc50(cluster: Cluster, tmp_path: Path, shared_data: Path) -> None:
    """All 2,000 clips, all five splits, both embeddings, every method; three seeds, and no further questions."""
    for name in ("local", "cluster"):
        project = copy_project(tmp_path / name / "foley", "esc50.yaml")
        preset = yaml.safe_load((REPOSITORY / "experiments/zero_shot_esc50.yaml").read_text())
        preset["datasets"]["esc50"]["path"] = str(shared_data / "esc50")
        preset["embeddings"]["mn04"]["weights"] = str(shared_data / "weights/mn04_as_mAP_432.pt")
        preset["class_vectors"]["words"]["path"] = str(shared_data / "vectors/words-300d.bin")
        preset["zero_shot"] |= {"seeds": 3, "references": {"oracle": False}, "learning_curve": None}
        preset["zero_shot"] |= {"variance": None, "quality": None}
        project.path("whole.yaml").write_text(yaml.safe_dump(preset))
    compare(
        Project(tmp_path / "local/foley", "whole.yaml"),
        Project(tmp_path / "cluster/foley", "whole.yaml"),
        cluster,
    )
    shutil.rmtree(tmp_path / "local")
