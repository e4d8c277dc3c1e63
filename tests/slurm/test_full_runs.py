"""The demo and the zero-shot study on the real ESC-50, on the cluster and on this machine: the same tables.

Each takes as long as two runs, so neither is part of `make test-slurm`; on a quiet machine:

    pytest tests/slurm -m slurm_full -k demo -s
    pytest tests/slurm -m slurm_full -k esc50 -s     # needs the real clips (FOLEY_SHARED_DATA)

A clone in which `make demo` is done spares the local half of the first one: FOLEY_DEMO=<its folder>. So does
FOLEY_ESC50 for the second: a new folder gets the local half and keeps it, a done one spares it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from cluster import Cluster
from cluster_project import ClusterProject, check_gpus, same_tables
from project import REPOSITORY, Project, copy_project

PATIENCE_S = 3 * 3600
pytestmark = [pytest.mark.slurm_full, pytest.mark.timeout(2 * PATIENCE_S)]

# Whether tables are equal does not hang on how long anything learns; each kind of job is there.
SHORT = {
    "ale": {"classifier_options": {"epochs": 2, "batch_size": 32}},  # on real clips
    "zerodiffusion": {"generator_options": {"epochs": 2}, "classifier_options": {"epochs": 2}},
    "ddpm": {"generator_options": {"epochs": 2}, "classifier_options": {"epochs": 2}},
}


def compare(local: Project, on_cluster: Project, cluster: Cluster) -> None:
    """Run both to the end, the local one unless it is done; the tables must be the same, and GPUs shared out."""
    remote = ClusterProject(on_cluster, cluster)
    before = remote.last_job()
    try:
        remote.run(patience_s=PATIENCE_S)
    finally:
        cluster.cancel_all()
    if not local.path("results/report/index.html").exists():
        local.make()
    same_tables(on_cluster.tables(), local.tables())
    print(f"{len(on_cluster.tables())} tables are the same")
    assert check_gpus(on_cluster.path("results"), remote.attempts(before), cluster) > 1
    assert on_cluster.planned() == []


def test_demo(cluster: Cluster, tmp_path: Path) -> None:
    """The default experiment, as it is."""
    one, other = (copy_project(tmp_path / name / "foley", "soundbox.yaml") for name in ("local", "cluster"))
    done = os.environ.get("FOLEY_DEMO")
    local = Project(Path(done) if done else one.folder, "config.yaml")
    compare(local, Project(other.folder, "config.yaml"), cluster)


def small_esc50(folder: Path, shared_data: Path) -> Project:
    """The preset on all clips, all five splits, with short schedules."""
    if (folder / "whole.yaml").exists():
        return Project(folder, "whole.yaml")
    project = copy_project(folder, "esc50.yaml")
    preset = yaml.safe_load((REPOSITORY / "experiments/zero_shot_esc50.yaml").read_text())
    preset["results"] = "results"
    preset["datasets"]["esc50"]["path"] = str(shared_data / "esc50")
    preset["embeddings"]["mn04"]["weights"] = str(shared_data / "weights/mn04_as_mAP_432.pt")
    preset["embeddings"]["scratch"]["options"] |= {"epochs": 1, "patience": 1}
    preset["class_vectors"]["words"]["path"] = str(shared_data / "vectors/words-300d.bin")
    preset["methods"] = SHORT
    study = preset["zero_shot"]
    preset["zero_shot"] = {key: study[key] for key in ("datasets", "embeddings")} | {
        "class_vectors": ["words"],
        "methods": [*SHORT, "ridge", "gaussian_process"],
        "seeds": 2,
        "bootstrap": 200,
    }
    project.path("whole.yaml").write_text(yaml.safe_dump(preset))
    return Project(folder, "whole.yaml")


def test_esc50(cluster: Cluster, tmp_path: Path, shared_data: Path) -> None:
    """All 2,000 clips, all five splits, both embeddings, every default method; short schedules, two seeds."""
    kept = os.environ.get("FOLEY_ESC50")
    local = Path(kept) if kept else tmp_path / "local/foley"
    remote = tmp_path / "cluster/foley"
    compare(small_esc50(local, shared_data), small_esc50(remote, shared_data), cluster)
    shutil.rmtree(remote)
    if not kept:
        shutil.rmtree(local)
