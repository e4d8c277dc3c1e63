"""Ctrl-C in a run whose jobs go to Slurm: the real workflow and plugin, with Slurm's commands as scripts of our own."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, copy_project, environment

from foley.runtime import slurm
from foley.runtime.identity import Process

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not importlib.util.find_spec(slurm.PLUGIN), reason="needs `make install-cluster`"),
]

SHARDS = [f"results/clips/dataset=soundbox/audio/shard={shard}.parquet" for shard in (0, 1)]
# A cluster that takes every job, one a second, and runs none. `queue` holds a line for each: number and the run's name.
COMMANDS = {
    "sbatch": """
exec 9> submitting
flock 9
sleep 1
number=$(($(wc -l < queue) + 1))
while [ $# -gt 0 ]; do [ "$1" != --job-name ] || name=$2; shift; done
echo "$number $name" >> queue
echo $number
""",
    "squeue": """
for one; do case "$one" in --name=*) name=${one#--name=};; --name) name=;; esac; done
[ -n "$name" ] || name=${!#}
grep " $name$" queue | sed 's/ .*/|RUNNING/'
""",
    "scancel": """
echo "$*" >> cancelled
for one; do case "$one" in --name=*) sed -i "/ ${one#--name=}$/d" queue;; esac; done
""",
    "scontrol": "echo 'MinJobAge               = 300 sec'\n",
    "sinfo": "echo 'cpu*'\n",
    "sacctmgr": "echo lab\n",
    "sacct": "",
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = copy_project(tmp_path / "foley", "soundbox.yaml")
    project.path("commands").mkdir()
    project.path("queue").touch()
    for name, text in COMMANDS.items():
        path = project.path(f"commands/{name}")
        path.write_text(f"#!/bin/bash\ncd '{project.folder}'\n{text}")
        path.chmod(0o755)
    return project


@pytest.fixture
def run(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """Two shards, by a main process that heeds no hooks."""
    command = project.options(
        *("--workflow-profile", "profiles/slurm", "--no-hooks", "--default-resources", "slurm_account='lab'"),
        *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
        *("--", *SHARDS),
    )
    with project.path("run.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=project.folder,
            env=environment() | {"PATH": f"{project.path('commands')}:{os.environ['PATH']}"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A test that itself runs in the background of a shell would hand on that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_ctrl_c_leaves_no_job(project: Project, run: subprocess.Popen[bytes]) -> None:
    note, queue = project.path("results/.slurm_run"), project.path("queue")
    deadline = time.monotonic() + 120
    while not queue.read_text():
        assert run.poll() is None, project.path("run.log").read_text()
        assert time.monotonic() < deadline, project.path("run.log").read_text()
        time.sleep(0.02)
    name, owner = note.read_text().splitlines()
    assert queue.read_text().startswith(f"1 {name}\n")
    assert Process.parse(owner).pid == run.pid
    run.send_signal(signal.SIGINT)
    assert run.wait(120) != 0
    said = project.path("run.log").read_text()
    assert queue.read_text() == "", said
    assert f"--name={name}" in project.path("cancelled").read_text()
    assert "Traceback" not in said
