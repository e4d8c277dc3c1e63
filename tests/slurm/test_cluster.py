"""The workflow on a real Slurm cluster: the same tables, whatever happens to nodes, jobs and the main process."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cluster import Cluster, ClusterError, wait_until
from cluster_project import PATIENCE_S, TRAINING, ClusterProject, check_gpus, same_tables
from project import Project, copy_project, write_clips, write_words

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]

SHARDS = [f"results/clips/dataset=soundbox/audio/shard={shard}.parquet" for shard in (0, 1)]
# A job waits here for as long as the test wants it to.
HELD = (
    "    open('held-{}', 'w').close()\n"
    "    while __import__('os').path.exists('hold-{}'): __import__('time').sleep(0.1)\n"
)


def hold(project: Project, script: str, before: str, name: str) -> None:
    """Let a rule's jobs wait for as long as the file ``hold-<name>`` is there."""
    project.insert(f"workflow/scripts/{script}.py", before, HELD.format(name, name))


def hold_last_epoch(project: Project) -> None:
    """A checkpoint after each epoch, and a pause before the last of three that lasts as `hold-training` is there."""
    loop = project.path("workflow/foley/training/loop.py")
    text = loop.read_text()
    held = HELD.format("training", "training").replace("    ", "            ")
    for before, after in (
        ("checkpoint_every_s: float = 30.0", "checkpoint_every_s: float = 0.0"),
        ("        model.train()\n", f"        if epoch == 2:\n{held}        model.train()\n"),
    ):
        assert before in text
        text = text.replace(before, after, 1)
    loop.write_text(text)
    project.path("hold-training").touch()


FALLS_BACK = "Falling back to 'sacct' for status queries"
THREE_EPOCHS = {"embeddings": {"scratch": {"options": {"epochs": 3, "patience": 3}}}}


@pytest.mark.ci
def test_the_way_to_a_trained_encoder(fresh: ClusterProject, undisturbed: Project) -> None:
    """From nothing to embeddings of the project's own network: the tables of a local run; GPUs shared out."""
    before = fresh.last_job()
    fresh.run(TRAINING)
    same_tables(fresh.project.tables(), undisturbed.tables())
    check_gpus(fresh.project.path("results"), fresh.attempts(before), fresh.cluster)


def test_the_whole_study(fresh: ClusterProject, whole: Project, tmp_path: Path) -> None:
    """From nothing to the page, in a working directory elsewhere: the tables of a local run; GPUs shared out."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = fresh.last_job()
    fresh.run(options=("--directory", str(elsewhere)))
    same_tables(Project(elsewhere, "").tables(), whole.tables())
    assert not fresh.project.path("results").exists()

    rows = fresh.attempts(before)
    assert check_gpus(elsewhere / "results", rows, fresh.cluster) > 1
    # Rules of seconds share jobs.
    logged = len(list((elsewhere / "results/logs").rglob("*.log")))
    assert len(rows) < logged
    assert all(row["Comment"].startswith(("rule_", "group_")) for row in rows)


def test_a_node_dies_in_the_middle_of_a_shard(trained: ClusterProject, undisturbed: Project) -> None:
    project, cluster = trained.project, trained.cluster
    shutil.rmtree(project.path("results"))
    hold(project, "ingest_shard", "    ingest_shard(\n", "shard")
    project.path("hold-shard").touch()
    before = trained.last_job()
    with trained.started(*SHARDS) as run:
        run.wait_for(lambda: len(trained.running("ingest_shard")) == 2, "two shards")
        run.wait_for(project.path("held-shard").exists, "a job in the middle of its shard")
        node = trained.running("ingest_shard_wildcards_soundbox_0")[0][2]
        cluster.kill_node(node)
        project.path("hold-shard").unlink()
        said = run.succeed()
    cluster.start_node(node)
    assert "NODE_FAIL" in said
    tries = [row for row in trained.attempts(before) if "soundbox_0" in row["Comment"]]
    assert [row["State"] for row in tries] == ["NODE_FAIL", "COMPLETED"]
    assert tries[0]["NodeList"] == node != tries[1]["NodeList"]
    expected = undisturbed.tables()
    for path in SHARDS:
        assert project.table(path).replace_schema_metadata(None).equals(expected[path.partition("/")[2]])


def test_a_node_dies_in_the_middle_of_a_training(trained: ClusterProject, tmp_path: Path) -> None:
    project, cluster = trained.project, trained.cluster
    expected = project.copy_to(tmp_path / "expected")
    expected.make(TRAINING, changes=THREE_EPOCHS)
    hold_last_epoch(project)
    before = trained.last_job()
    with trained.started(TRAINING, changes=THREE_EPOCHS) as run:
        run.wait_for(project.path("held-training").exists, "the last epoch")
        node = trained.running("train_encoder")[0][2]
        cluster.kill_node(node)
        project.path("hold-training").unlink()
        run.succeed()
    cluster.start_node(node)
    tries = [row for row in trained.attempts(before) if "train_encoder" in row["Comment"]]
    assert [row["State"] for row in tries] == ["NODE_FAIL", "COMPLETED"]
    (log,) = project.path("results/logs/train_encoder").rglob("*.log")
    assert "continues after epoch 2" in log.read_text()
    assert project.table(TRAINING).equals(expected.table(TRAINING))


def test_a_job_out_of_time_gets_more(trained: ClusterProject, tmp_path: Path) -> None:
    """A training that Slurm ends at its limit of a minute goes on from its checkpoint, with two."""
    project = trained.project
    expected = project.copy_to(tmp_path / "expected")
    expected.make(TRAINING, changes=THREE_EPOCHS)
    hold_last_epoch(project)
    before = trained.last_job()

    with trained.started(
        TRAINING, options=("--set-resources", "train_encoder:runtime=1*2**(attempt-1)"), changes=THREE_EPOCHS
    ) as run:
        # On a busy machine a minute may be over before the last epoch, and then a later try is held there.
        run.wait_for(project.path("held-training").exists, "the last epoch")
        ended = len(trained.attempts(before))
        run.wait_for(lambda: trained.attempts(before)[ended - 1]["State"] == "TIMEOUT", "a job out of time")
        project.path("hold-training").unlink()
        said = run.succeed()
    assert "TIMEOUT" in said
    tries = trained.attempts(before)
    assert all("train_encoder" in row["Comment"] for row in tries)
    assert [row["State"] for row in tries] == [*["TIMEOUT"] * ended, "COMPLETED"]
    assert [row["Timelimit"] for row in tries] == [f"00:0{2**n}:00" for n in range(ended + 1)]
    (log,) = project.path("results/logs/train_encoder").rglob("*.log")
    assert "continues after epoch 2" in log.read_text()
    assert project.table(TRAINING).equals(expected.table(TRAINING))


def test_a_job_without_enough_memory_gets_more(trained: ClusterProject) -> None:
    """No cgroups here: the job itself keeps to what it asked for."""
    project = trained.project
    shutil.rmtree(project.path("results/clips"))
    hungry = "    held = [b'x' * (10 << 20) for _ in range(45) if not __import__('time').sleep(0.02)]\n"
    project.insert("workflow/scripts/ingest_shard.py", "    ingest_shard(\n", hungry)
    before = trained.last_job()
    said = trained.run(SHARDS[0], options=("--set-resources", "ingest_shard:mem_mb=400*2**(attempt-1)"))
    assert re.search(r"out of memory: it holds \d+ MiB and asked for 400 \(resource `mem_mb`\)", said)
    tries = [row for row in trained.attempts(before) if "ingest_shard" in row["Comment"]]
    assert [row["State"] for row in tries] == ["FAILED", "COMPLETED"]
    assert ["mem=400M" in tries[0]["AllocTRES"], "mem=800M" in tries[1]["AllocTRES"]] == [True, True]


def test_a_run_outlives_the_end_of_all_its_jobs(trained: ClusterProject, undisturbed: Project) -> None:
    """`scancel` of everything: all is submitted again."""
    project, cluster = trained.project, trained.cluster
    shutil.rmtree(project.path("results"))
    hold(project, "ingest_shard", "    ingest_shard(\n", "shard")
    project.path("hold-shard").touch()
    before = trained.last_job()
    with trained.started(*SHARDS) as run:
        run.wait_for(lambda: len(trained.running("ingest_shard")) == 2, "two shards")
        cluster.cancel_all()
        project.path("hold-shard").unlink()
        run.succeed()
    states = sorted(row["State"].split()[0] for row in trained.attempts(before) if "ingest" in row["Comment"])
    assert states == ["CANCELLED", "CANCELLED", "COMPLETED", "COMPLETED"]
    for path in SHARDS:
        found = project.table(path).replace_schema_metadata(None)
        assert found.equals(undisturbed.tables()[path.partition("/")[2]])


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Runs that heed Ctrl-C, though the tests themselves may run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_leaves_no_job(trained: ClusterProject, ctrl_c: None) -> None:
    """Ctrl-C in the main process, with a job that runs and one that waits; the same command goes on."""
    project, cluster = trained.project, trained.cluster
    shutil.rmtree(project.path("results/clips/dataset=soundbox"))
    hold(project, "ingest_shard", "    ingest_shard(\n", "shard")
    project.path("hold-shard").touch()
    before = trained.last_job()
    # One node has two GPUs.
    one_by_one = ("--set-resources", "ingest_shard:gpu=2", "ingest_shard:slurm_partition=gpu")
    with trained.started(*SHARDS, options=one_by_one) as run:
        run.wait_for(
            lambda: sorted(job[1] for job in cluster.queue()) == ["PENDING", "RUNNING"],
            "a job that runs and one that waits",
        )
        run.wait_for(project.path("held-shard").exists, "a job in the middle of its shard")
        name, _ = project.path("results/.slurm_run").read_text().splitlines()
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(PATIENCE_S) != 0, run.said()
    wait_until(lambda: not cluster.call("squeue", "-h", f"--name={name}").split(), "an empty queue")
    assert [row["State"].split()[0] for row in trained.attempts(before)] == ["CANCELLED", "CANCELLED"]
    assert all(row["JobName"] == name for row in trained.attempts(before))
    project.path("hold-shard").unlink()
    trained.run(*SHARDS)


@pytest.mark.ci
def test_a_lost_main_process(trained: ClusterProject, undisturbed: Project) -> None:
    """SIGKILL of the main process: one shard ends without it, one still runs when the command is given again."""
    project = trained.project
    shutil.rmtree(project.path("results/clips/dataset=soundbox"))
    insert = HELD.replace("hold-{}", "hold-' + snakemake.wildcards.shard + '").replace("held-{}", "held")
    project.insert("workflow/scripts/ingest_shard.py", "    ingest_shard(\n", insert)
    project.path("hold-0").touch()
    project.path("hold-1").touch()
    before = trained.last_job()
    with trained.started(*SHARDS) as run:
        run.wait_for(lambda: len(trained.running("ingest_shard")) == 2, "two shards")
        run.wait_for(project.path("held").exists, "a job at work")
        run.kill()
    project.path("hold-1").unlink()
    deadline = datetime.now() + timedelta(seconds=120)
    while len(trained.running("ingest_shard")) > 1:
        assert datetime.now() < deadline
    assert len(trained.running("ingest_shard_wildcards_soundbox_0")) == 1
    with trained.started(*SHARDS) as run:
        run.wait_for(lambda: "whose main process is gone" in run.said(), "word of the lost run")
        project.path("hold-0").unlink()
        run.succeed()
    rows = [row for row in trained.attempts(before) if "ingest_shard" in row["Comment"]]
    states = {shard: [r["State"].split()[0] for r in rows if r["Comment"].endswith(shard)] for shard in "01"}
    assert states == {"0": ["CANCELLED", "COMPLETED"], "1": ["COMPLETED"]}
    first, second = (row for row in rows if row["Comment"].endswith("0"))
    assert first["End"] <= second["Start"]
    for path in SHARDS:
        found = project.table(path).replace_schema_metadata(None)
        assert found.equals(undisturbed.tables()[path.partition("/")[2]])
    # What the shard was made from was recorded without the main process: it reruns when that changes.
    assert not [job for job in project.planned("shard") if job.startswith("ingest_shard")]
    project.append("workflow/foley/datasets/ingest.py", "\n# changed\n")
    assert [job for job in project.planned("shard") if job.startswith("ingest_shard")] == [
        "ingest_shard 0",
        "ingest_shard 1",
    ]


def test_a_controller_that_is_silent_for_a_while(trained: ClusterProject, undisturbed: Project) -> None:
    """Two shards end while nobody answers for them: neither runs again, and the run goes on."""
    project, cluster = trained.project, trained.cluster
    shutil.rmtree(project.path("results/clips/dataset=soundbox"))
    hold(project, "ingest_shard", "    ingest_shard(\n", "shard")
    project.path("hold-shard").touch()
    before = trained.last_job()
    with trained.started(*SHARDS) as run:
        run.wait_for(lambda: len(trained.running("ingest_shard")) == 2, "two shards")
        run.wait_for(project.path("held-shard").exists, "a job at work")
        cluster.stop_controller()
        try:
            # The accounting still answers, and the plugin asks it each time that the controller does not.
            run.wait_for(lambda: run.said().count(FALLS_BACK) >= 2, "questions while nobody answers")
            project.path("hold-shard").unlink()
            run.wait_for(lambda: all(project.path(path).exists() for path in SHARDS), "both shards")
            asked = run.said().count(FALLS_BACK)
            run.wait_for(lambda: run.said().count(FALLS_BACK) >= asked + 2, "questions after their end")
        finally:
            cluster.start_controller()
        run.succeed()
    rows = [row for row in trained.attempts(before) if "ingest_shard" in row["Comment"]]
    assert [row["State"] for row in rows] == ["COMPLETED", "COMPLETED"]
    for path in SHARDS:
        found = project.table(path).replace_schema_metadata(None)
        assert found.equals(undisturbed.tables()[path.partition("/")[2]])


def test_a_job_with_two_gpus(trained: ClusterProject) -> None:
    project = trained.project
    shutil.rmtree(project.path(TRAINING).parents[2])
    before = trained.last_job()
    trained.run(
        TRAINING, options=("--set-resources", "train_encoder:gpu=2", "train_encoder:slurm_partition=gpu")
    )
    (row,) = [row for row in trained.attempts(before) if "train_encoder" in row["Comment"]]
    assert (row["NodeList"], row["State"]) == ("n1", "COMPLETED")
    assert "gres/gpu=2" in row["AllocTRES"]
    log = next(project.path("results/logs/train_encoder").rglob("*.log")).read_text()
    assert log.count("starts; devices ['0', '1']") == 1


def test_more_than_the_cluster_has_is_refused(trained: ClusterProject) -> None:
    """No waiting for ever for what no node has."""
    project = trained.project
    shutil.rmtree(project.path("results/clips"))
    with trained.started(
        SHARDS[0], options=("--set-resources", "ingest_shard:mem_mb=200000", "--retries", "0")
    ) as run:
        assert run.process.wait(120) != 0
    assert "sbatch failed" in run.said()


def test_a_second_cluster_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    """Both would need /etc/slurm/slurm.conf, and the first one would lose its jobs."""
    with pytest.raises(ClusterError, match=f"another cluster is up, in {re.escape(str(cluster.folder))}"):
        Cluster(tmp_path).start()
    assert not list(tmp_path.iterdir())


def test_read_only_input_and_scratch(fresh: ClusterProject, tmp_path: Path) -> None:
    """A user's folder that nobody may write to, and tables that are built in the node's scratch folder."""
    clips = tmp_path / "clips"
    write_clips(clips)
    project = copy_project(tmp_path / "own", "folder.yaml")
    write_words(project.path("words.txt"))
    for path in [*clips.rglob("*"), clips]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in [clips, *clips.rglob("*")]}
    scratch = tmp_path / "scratch"
    look = f"'\\n'.join(map(str, __import__('pathlib').Path({str(scratch)!r}).rglob('*')))"
    project.insert(
        "workflow/foley/datasets/ingest.py",
        "        out.write(batch)\n    tables.write(rejected_path",
        f"        open('being-built', 'w').write({look})\n",
    )
    own = ClusterProject(project, fresh.cluster)
    own.run(
        "results/features/dataset=mine/feature=logmel/shard=0.parquet",
        options=("--default-resources", "slurm_account='lab'", f"tmpdir='{scratch}'"),
        changes={"datasets": {"mine": {"folder": str(clips), "shards": 1}}},
    )
    assert re.search(
        rf"^{re.escape(str(scratch))}/foley-[^/]+/shard=0.parquet$",
        project.path("being-built").read_text(),
        re.M,
    )
    assert not list(scratch.iterdir())
    assert {path: path.stat().st_mtime_ns for path in [clips, *clips.rglob("*")]} == before
