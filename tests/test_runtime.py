"""How a rule runs: seeds, code hashes, the device lease, the lock, and the frame around every script.

What processes do to one another is tested with real processes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foley.runtime import code, device, lock, slurm
from foley.runtime.identity import Process
from foley.runtime.seeds import SeedStreams, derive

LIBRARY = Path(__file__).resolve().parents[1] / "workflow" / "foley"


class Processes:
    """Starts Python programs in a world of their own: a temporary folder, and no devices but those given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, program: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        hidden = ("FOLEY_GPUS", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "FOLEY_CLUSTER_JOB", "FOLEY_SCRATCH")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        environment |= {
            "FOLEY_GPU_LOCKS": str(self.folder / "locks"),
            "PYTHONPATH": str(LIBRARY.parent),
            **variables,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            cwd=self.folder,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, program: str, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Run to the end -> exit code, output, errors."""
        process = self.start(program, *arguments, **variables)
        out, errors = process.communicate(timeout=60)
        return process.returncode, out, errors

    def wait_for_line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    running = Processes(tmp_path)
    yield running
    for process in running.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


# Seeds


def test_derived_seeds_are_those_of_every_platform() -> None:
    # printf '7\x1ftrain\x1f3' | sha256sum: the first eight bytes as a big-endian number, halved.
    assert derive(7, "train", 3) == 0x8DDE1059A5532ECE >> 1
    assert derive(0) == 0x5FECEB66FFC86F38 >> 1


@given(st.integers(0, 2**31), st.lists(st.text(max_size=5) | st.integers(), max_size=3))
def test_derived_seeds_fit_every_generator(seed: int, names: list[object]) -> None:
    assert 0 <= derive(seed, *names) < 2**63
    assert derive(seed, *names) == derive(seed, *names) != derive(seed + 1, *names)
    torch.Generator().manual_seed(derive(seed, *names))


def test_names_of_a_stream_do_not_run_together() -> None:
    seeds = [derive(1), derive(11), derive(1, 1), derive(1, "a", "b"), derive(1, "ab"), derive(1, "b", "a")]
    assert len(set(seeds)) == len(seeds)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5), st.data())
def test_numbers_of_a_seed_do_not_depend_on_its_companions(seeds: list[int], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(seeds) - 1))

    def draws(streams: SeedStreams) -> list[torch.Tensor]:
        return [streams.normal(3, 2), streams.uniform(4), streams.integers(9, 5), streams.permutations(6)]

    together, alone = SeedStreams(seeds, "test"), SeedStreams([seeds[row]], "test")
    for many, one in zip(draws(together), draws(alone), strict=True):
        assert many.shape[0] == len(together) == len(seeds)
        assert torch.equal(many[row], one[0])
    assert not torch.equal(SeedStreams(seeds, "other").normal(8), SeedStreams(seeds, "test").normal(8))


# Code hashes


def test_reachable_follows_imports_inside_functions(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def main():\n    from foley.classifiers import ale\n    import numpy\n")
    found = {path.relative_to(LIBRARY).as_posix() for path in code.reachable([script]) if path != script}
    # The module, what it imports, and the packages that importing it runs.
    assert {
        "classifiers/ale.py",
        "training/loop.py",
        "runtime/seeds.py",
        "tables/__init__.py",
        "__init__.py",
    } <= found
    assert "classifiers/__init__.py" in found
    assert not {path for path in found if path.startswith(("datasets/", "generators/", "encoders/"))}


@pytest.mark.parametrize(
    "before",
    [
        "if input():\n    pass\nelse:\n    ",
        "try:\n    pass\nexcept ImportError:\n    ",
        "try:\n    pass\nfinally:\n    ",
        "with open('x') as file:\n    ",
        "while True:\n    ",
        "for x in ():\n    pass\nelse:\n    ",
        "match input():\n    case _:\n        ",
        "class A:\n    async def f(self):\n        ",
    ],
)
def test_reachable_follows_imports_wherever_they_stand(tmp_path: Path, before: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{before}import foley.metrics.paired\n")
    assert LIBRARY / "metrics/paired.py" in code.reachable([script])


def test_relative_imports_are_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("x = 1\nfrom .a import b\n")
    with pytest.raises(ValueError, match=r"script\.py:2: use an absolute import"):
        code.reachable([script])
    with pytest.raises(ValueError, match="names no module of foley"):
        code.code_hash(Path(__file__), "foley.nowhere:Thing")
    with pytest.raises(ValueError, match="not a part of foley"):
        code.load("os:system")


def test_code_hash_changes_with_what_is_reached_and_only_then(tmp_path: Path, processes: Processes) -> None:
    copy = tmp_path / "copy" / "foley"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "script.py"
    script.write_text("def main():\n    from foley.metrics import bootstrap\n")

    def hashes() -> tuple[str, str]:
        """Of the script alone, and with a target that it loads by name."""
        program = """
            import sys
            from pathlib import Path
            from foley.runtime.code import code_hash
            script = Path(sys.argv[1])
            print(code_hash(script), code_hash(script, "foley.classifiers.ale:ALE"))
        """
        status, out, errors = processes.run(program, str(script), PYTHONPATH=str(copy.parent))
        assert status == 0, errors
        alone, with_target = out.split()
        return alone, with_target

    def add_line(path: Path) -> None:
        path.write_text(path.read_text() + "\n# changed\n")

    first = hashes()
    assert first[0] != first[1]
    # Neither another mtime, nor other line ends, nor another place of the script.
    os.utime(copy / "metrics" / "bootstrap.py", (1, 1))
    seeds = copy / "runtime" / "seeds.py"
    seeds.write_bytes(seeds.read_bytes().replace(b"\n", b"\r\n"))
    assert hashes() == first
    # A file that nothing here reaches.
    add_line(copy / "datasets" / "esc50.py")
    assert hashes() == first
    # A file that only the target reaches.
    add_line(copy / "training" / "batched.py")
    second = hashes()
    assert second[0] == first[0]
    assert second[1] != first[1]
    # A file that both reach, the script only through another one.
    add_line(seeds)
    third = hashes()
    assert third[0] != second[0]
    assert third[1] != second[1]
    add_line(script)
    assert hashes()[0] != third[0]


# The device lease

# Holds a device for a moment; a second holder of the same one would find its mark.
HOLD = """
    import os, sys, time
    from foley.runtime import device
    held = device.lease(int(sys.argv[1]))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(held.devices)
    assert len(set(held.devices)) == int(sys.argv[1])
    for name in held.devices:
        os.close(os.open(f"in-use-{name}", os.O_CREAT | os.O_EXCL))
    time.sleep(float(sys.argv[2]))
    for name in held.devices:
        os.unlink(f"in-use-{name}")
    held.release()
    print(",".join(held.devices) or "released")
"""


def test_no_device_is_ever_leased_twice(processes: Processes) -> None:
    started = [processes.start(HOLD, "1", "0.1", FOLEY_GPUS="0,1,2,3") for _ in range(10)]
    started += [processes.start(HOLD, "2", "0.1", FOLEY_GPUS="0,1,2,3") for _ in range(2)]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_a_killed_holder_frees_its_device(processes: Processes) -> None:
    program = """
        import time
        from foley.runtime import device
        print(device.lease(1).devices[0], flush=True)
        time.sleep(60)
    """
    holder = processes.start(program, FOLEY_GPUS="7")
    assert processes.wait_for_line(holder) == "7"
    waiting = processes.start(program, FOLEY_GPUS="7")
    time.sleep(0.4)
    assert waiting.poll() is None
    holder.send_signal(signal.SIGKILL)
    assert processes.wait_for_line(waiting) == "7"


def test_too_many_devices_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"3 GPUs asked for, 2 to choose from \(x,y\)"):
        device.lease(3, {"FOLEY_GPUS": "x,y"})


@pytest.mark.parametrize(
    "environment",
    [
        {"FOLEY_GPUS": ""},
        {"FOLEY_GPUS": "", "HIP_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": ""},
        {"CUDA_VISIBLE_DEVICES": "-1"},
        {"CUDA_VISIBLE_DEVICES": "-1,0"},
        {"CUDA_VISIBLE_DEVICES": "NoDevFiles", "SLURM_JOB_ID": "1"},
        {"SLURM_JOB_ID": "1"},
        {"SLURM_JOB_ID": "1", "FOLEY_GPUS": "0"},
    ],
)
def test_a_job_that_was_given_no_device_sees_none(environment: dict[str, str]) -> None:
    """Left unset, CUDA_VISIBLE_DEVICES would let torch use every GPU of the machine."""
    assert device.lease(1, environment).devices == []
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_devices_of_amd_are_left_to_slurm() -> None:
    environment = {"SLURM_JOB_ID": "1", "ROCR_VISIBLE_DEVICES": "0"}
    assert device.lease(1, environment).devices == []
    assert "CUDA_VISIBLE_DEVICES" not in environment


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FOLEY_GPUS": "2,3", "CUDA_VISIBLE_DEVICES": "0,1"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-abc,1", "SLURM_JOB_ID": "1"}, ["GPU-abc", "1"]),
        # What Slurm gave counts, not what was exported on the login node.
        ({"FOLEY_GPUS": "2,3", "CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "1"}, ["0"]),
        ({"FOLEY_GPUS": " 2, 3 "}, ["2", "3"]),
        ({"FOLEY_GPUS": "5,5"}, ["5"]),
        ({"CUDA_VISIBLE_DEVICES": "6,-1,7"}, ["6"]),
    ],
)
def test_candidates(environment: dict[str, str], expected: list[str]) -> None:
    assert list(device.candidates(environment)) == expected


def test_a_job_that_asks_for_no_device_sees_none() -> None:
    """Lest it use one beside a job that leased it."""
    environment = {"FOLEY_GPUS": "0", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert device.lease(0, environment).devices == []
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Puts an nvidia-smi in the way that says the given words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(device, "DEVICE_FILES", tmp_path / "dev")

    def say(words: str, status: int = 0) -> None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{words}'\nexit {status}\n")
        (folder / "nvidia-smi").chmod(0o755)

    return say


def test_devices_are_those_that_nvidia_smi_numbers(
    nvidia_smi: Callable[[str, int], None], tmp_path: Path
) -> None:
    nvidia_smi("0, GPU-aaaa-1\n1, GPU-bbbb-2", 0)
    assert list(device.candidates({})) == ["0", "1"]
    # By whatever name a device is called, its lock is one.
    names = [
        device.candidates({"FOLEY_GPUS": called})
        for called in ("1", "GPU-bbbb-2", "GPU-bb", "1,GPU-bbbb-2", "GPU-bb,1")
    ]
    assert [list(found.values()) for found in names] == [["GPU-bbbb-2"]] * 5
    assert device.candidates({"FOLEY_GPUS": "MIG-3,x"}) == {"MIG-3": "MIG-3", "x": "x"}
    with pytest.raises(RuntimeError, match=r"2 GPUs asked for, 1 to choose from \(0\)"):
        device.lease(2, {"FOLEY_GPUS": "0,GPU-aaaa-1"})
    environment = {"FOLEY_GPU_LOCKS": str(tmp_path / "locks")}
    device.lease(1, environment).release()
    assert environment.items() >= {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}.items()


def test_words_of_nvidia_smi_are_no_devices(
    nvidia_smi: Callable[[str, int], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nvidia_smi("No devices were found", 0)
    assert device.candidates({}) == {}
    environment: dict[str, str] = {}
    assert device.lease(1, environment).devices == []
    # Nobody said that there is none: what torch finds without NVIDIA's driver it may use.
    assert environment == {}
    assert caplog.text == ""
    nvidia_smi("Driver/library version mismatch", 18)
    assert device.candidates({}) == {}
    assert "nvidia-smi fails (18): Driver/library version mismatch" in caplog.text
    # The driver's device files are there all the same, as in a container that lacks the tool.
    (tmp_path / "dev").mkdir()
    for name in ("nvidia3", "nvidia5", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert list(device.candidates({})) == ["0", "1"]


def test_locks_may_be_shared_by_users(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "locks"
    device.lease(1, {"FOLEY_GPUS": "4", "FOLEY_GPU_LOCKS": str(folder)}).release()
    modes = [path.stat().st_mode & 0o7777 for path in (folder, folder / "local", folder / "local/4.lock")]
    assert modes == [0o1777, 0o1777, 0o666]
    assert folder.parent.stat().st_mode & 0o002 == 0


def test_a_job_says_what_it_waits_for(tmp_path: Path, processes: Processes) -> None:
    program = """
        import logging, sys
        from foley.runtime import device
        logging.basicConfig(level=logging.INFO, stream=sys.stdout)
        device.lease(1)
    """
    held = device.lease(1, {"FOLEY_GPUS": "4", "FOLEY_GPU_LOCKS": str(tmp_path / "locks")})
    waiting = processes.start(program, FOLEY_GPUS="4, 4")
    assert "waits for 1 of the GPUs 4 (locks in " in processes.wait_for_line(waiting)
    held.release()
    assert waiting.wait(60) == 0


# The lock


def test_only_one_run_holds_the_lock(processes: Processes, tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    program = """
        import sys, time
        from pathlib import Path
        from foley.runtime import lock
        lock.hold(Path(sys.argv[1]))
        print("held", flush=True)
        time.sleep(60)
    """
    holder = processes.start(program, str(path))
    assert processes.wait_for_line(holder) == "held"
    with pytest.raises(RuntimeError, match="another run is under way in this folder"):
        lock.hold(path)
    status, _, errors = processes.run(program, str(path))
    assert status == 1
    assert "another run is under way" in errors
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert processes.wait_for_line(processes.start(program, str(path))) == "held"


def test_a_lock_that_cannot_be_held_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert "File exists" in str(lock.hold(tmp_path / "file" / "lock"))

    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert lock.hold(tmp_path / "lock") == "the file system knows no locks (No locks available)"
    monkeypatch.undo()
    assert lock.hold(tmp_path / "lock") is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_is_known_again(processes: Processes) -> None:
    program = """
        import sys
        from foley.runtime.identity import Process
        print(Process.this(), flush=True)
        sys.stdin.read()
    """
    other = processes.start(program)
    process = Process.parse(processes.wait_for_line(other))
    assert process is not None
    assert Process.parse(str(process)) == process
    assert process.pid == other.pid
    assert process.is_gone() is False
    # Another that got its number, another machine, another container, this machine before it was started anew.
    assert replace(process, started="1").is_gone() is True
    assert replace(process, host="login2").is_gone() is None
    assert replace(process, namespace="pid:[7]").is_gone() is None
    assert replace(process, namespace="pid:[7]", boot="earlier").is_gone() is True
    other.kill()  # not waited for yet, a zombie
    deadline = time.monotonic() + 10
    while not process.is_gone():
        assert time.monotonic() < deadline
    assert Process.parse("") is Process.parse("a b c d e") is None


# The frame around every script

SNAKEMAKE = """
    import sys, time
    from types import SimpleNamespace
    from foley.runtime.job import run_job

    snakemake = SimpleNamespace(
        rule="extract_features", wildcards={"dataset": "mine", "shard": 3}, threads=2,
        params={"b": [1, None], "a": {"x": object}}, log=["logs/extract.log"], resources={"gpu": 1},
    )
"""


def test_a_failed_job_says_so_in_three_lines(processes: Processes, tmp_path: Path) -> None:
    program = (
        textwrap.dedent(SNAKEMAKE)
        + """
def deep_inside():
    raise ValueError("clip a.wav is\\n   no good")

with run_job(snakemake):
    deep_inside()
print("never")
"""
    )
    status, out, errors = processes.run(program, FOLEY_GPUS="")
    assert status == 1
    assert out == ""
    assert errors.split("\n") == [
        "",
        "foley: extract_features (dataset=mine, shard=3) failed",
        "  ValueError: clip a.wav is no good",
        "  log: logs/extract.log",
        "",
    ]
    log = (tmp_path / "logs" / "extract.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "in deep_inside" in log
    assert "ValueError: clip a.wav is\n   no good" in log


def test_a_job_logs_its_device_and_throughput(processes: Processes, tmp_path: Path) -> None:
    program = (
        textwrap.dedent(SNAKEMAKE)
        + """
import json, os, warnings
with run_job(snakemake) as job:
    warnings.warn("careful")
    assert list(job.progress(range(5))) == list(range(5))
    print(json.dumps([job.name, job.provenance, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]]))
"""
    )
    status, out, errors = processes.run(program, FOLEY_GPUS="5")
    assert (status, errors) == (0, "")
    assert out.strip() == (
        '["extract_features (dataset=mine, shard=3)", {"rule": "extract_features", '
        '"wildcards": {"dataset": "mine", "shard": "3"}, '
        '"params": {"a": {"x": "<class \'object\'>"}, "b": [1, null]}}, "5", "2"]'
    )
    log = (tmp_path / "logs" / "extract.log").read_text()
    assert "starts; devices ['5']" in log
    assert "UserWarning: careful" in log
    assert re.search(r"5 clips in \d+\.\d s \(\d+\.\d clips/s\)", log)
    assert re.search(r"extract_features \(dataset=mine, shard=3\) done in", log)


def test_too_few_devices_end_the_job_in_three_lines(processes: Processes) -> None:
    program = textwrap.dedent(SNAKEMAKE).replace('"gpu": 1', '"gpu": 9') + "with run_job(snakemake): pass"
    status, _, errors = processes.run(program, FOLEY_GPUS="0,1")
    assert status == 1
    assert errors.count("\n") == 4
    assert "RuntimeError: 9 GPUs asked for, 2 to choose from" in errors


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_job_ends_with_the_workflow_that_started_it(processes: Processes, tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        textwrap.dedent(SNAKEMAKE)
        + "import os\nwith run_job(snakemake):\n    print(os.getpid(), flush=True)\n    time.sleep(60)\n"
    )
    workflow = processes.start(
        "import subprocess, sys; from foley.runtime.job import announce_workflow; announce_workflow(); "
        "subprocess.run([sys.executable, sys.argv[1]])", str(job), FOLEY_GPUS="",
    )  # fmt: skip
    pid = int(processes.wait_for_line(workflow))
    workflow.kill()
    workflow.wait()
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:  # it is gone, or a zombie that nobody has waited for
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the job outlived its workflow")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_job_without_files_to_open_is_no_orphan(processes: Processes, tmp_path: Path) -> None:
    """It cannot see whether its workflow is there, says so, and goes on; gone is what /proc does not know."""
    program = textwrap.dedent(SNAKEMAKE) + (
        "import os, resource\n"
        "from foley.runtime.job import announce_workflow\n"
        "announce_workflow()\n"
        "if os.fork():\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "with run_job(snakemake):\n"
        "    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
        "    time.sleep(1.5)\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "print('done')\n"
    )
    status, out, errors = processes.run(program, FOLEY_GPUS="")
    assert (status, out, errors) == (0, "done\n", "")
    log = (tmp_path / "logs" / "extract.log").read_text()
    assert log.count("cannot see whether the workflow is there") == 1
    orphan = textwrap.dedent(SNAKEMAKE) + "with run_job(snakemake): print('never')\n"
    namespace = os.readlink("/proc/self/ns/pid")
    status, out, _ = processes.run(orphan, FOLEY_GPUS="", FOLEY_WORKFLOW=f"99999999 {namespace}")
    assert (status, out) == (143, "")
    assert "process 99999999) is gone: the job ends" in (tmp_path / "logs" / "extract.log").read_text()


# On a cluster


# What a job on a node finds set.
ON_CLUSTER = {"SLURM_JOB_ID": "7", "FOLEY_CLUSTER_JOB": "1"}


def test_further_attempts_ask_for_more_up_to_a_limit() -> None:
    assert [slurm.ask_for(1440, attempt) for attempt in (1, 2, 3, 4)] == [1440, 2880, 5760, 11520]
    assert [slurm.ask_for(1440, attempt, 2880) for attempt in (1, 2, 3, 4)] == [1440, 2880, 2880, 2880]
    assert slurm.ask_for(8000.7, 2, 10000) == 10000
    assert slurm.ask_for(8000.7, 1, 4000) == 4000


def test_a_job_ends_when_it_takes_more_memory_than_it_asked_for(processes: Processes, tmp_path: Path) -> None:
    hungry = textwrap.dedent(SNAKEMAKE).replace('"gpu": 1', '"gpu": 0, "mem_mb": 300') + (
        "with run_job(snakemake):\n"
        "    held = []\n"
        "    for _ in range(80):\n"
        "        held.append(b'x' * (10 << 20))\n"
        "        time.sleep(0.02)\n"
        "print('done')\n"
    )
    status, out, errors = processes.run(hungry, **ON_CLUSTER)
    assert status == 137
    assert out == ""
    found = re.search(r"out of memory: it holds (\d+) MiB and asked for 300 \(resource `mem_mb`\)", errors)
    assert found, errors
    # It ends a little below what it asked for, before Slurm would end it.
    assert 285 < int(found[1]) < 800
    assert "out of memory" in (tmp_path / "logs" / "extract.log").read_text()
    # With as much as it takes, and where no cluster shares out memory, it goes on: not in a local run within a job of
    # Slurm's either, where `mem_mb` is nobody's limit.
    enough = hungry.replace('"mem_mb": 300', '"mem_mb": 3000')
    assert processes.run(enough, **ON_CLUSTER)[:2] == (0, "done\n")
    assert processes.run(hungry, SLURM_JOB_ID="7")[:2] == (0, "done\n")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_job_answers_for_the_memory_of_its_children(processes: Processes) -> None:
    program = textwrap.dedent(SNAKEMAKE).replace('"gpu": 1', '"gpu": 0, "mem_mb": 300') + (
        "import os, subprocess\n"
        "child = 'import time; held = bytearray(b\"x\") * (700 << 20); time.sleep(CHILD)'\n"
        "with run_job(snakemake):\n"
        "    subprocess.run(['sh', '-c', f'{sys.executable} -c \\'{child}\\'; exit 0'])\n"
        "print('done')\n"
    )
    status, out, errors = processes.run(program.replace("CHILD", "30"), **ON_CLUSTER)
    assert (status, out) == (137, "")
    found = re.search(r"it holds (\d+) MiB and asked for 300", errors)
    assert found and 285 < int(found[1]) < 900, errors


def test_pages_that_forked_processes_share_count_once(processes: Processes) -> None:
    program = """
        import os, time
        from foley.runtime.memory import held_mib
        held = bytearray(b"x") * (100 << 20)
        ours, theirs = os.pipe()
        children = [os.fork() for _ in range(1)]
        if not children[0]:
            os.read(ours, 1)
            os._exit(0)
        print(held_mib(0), held_mib(), flush=True)
        os.write(theirs, b"x")
        os.wait()
    """
    status, out, errors = processes.run(program)
    assert status == 0, errors
    exact, most = map(int, out.split())
    assert 100 <= exact < 150
    assert 200 <= most < 300


def test_tables_are_built_in_scratch_on_a_cluster(processes: Processes, tmp_path: Path) -> None:
    program = textwrap.dedent(SNAKEMAKE).replace('"gpu": 1', '"gpu": 0, "tmpdir": "scratch"') + (
        "import os\nfrom pathlib import Path\nfrom foley import tables\n"
        "from foley.tables.scores import SCORES\n"
        "with run_job(snakemake):\n"
        "    with tables.writer(Path('here/scores.parquet'), SCORES) as out:\n"
        "        print(sorted(str(p) for p in Path('.').rglob('*.parquet')))\n"
        "        assert not os.listdir('here') or not [p for p in Path('here').iterdir() if p.stat().st_size]\n"
        "print(tables.read('here/scores.parquet', SCORES).num_rows, os.listdir('scratch'), os.listdir('here'))\n"
    )
    status, out, errors = processes.run(program, **ON_CLUSTER)
    assert status == 0, errors
    during, after = out.splitlines()
    assert re.fullmatch(r"\['scratch/foley-\w+/scores.parquet'\]", during)
    assert after == "0 [] ['scores.parquet']"


WRITES = (
    "import os, signal\nfrom pathlib import Path\nfrom foley import tables\n"
    "from foley.tables.scores import SCORES\n"
    "with run_job(snakemake):\n"
    "    with tables.writer(Path('here/scores.parquet'), SCORES) as out:\n"
    "        print(len(os.listdir('here')), len(os.listdir('scratch')), flush=True)\n"
)


def test_what_killed_jobs_left_is_removed(processes: Processes, tmp_path: Path) -> None:
    """By the next job: its own target's half-written files, and scratch folders of whom is gone."""
    frame = textwrap.dedent(SNAKEMAKE).replace('"gpu": 1', '"gpu": 0, "tmpdir": "scratch"')
    killed = frame + WRITES + "        os.kill(os.getpid(), signal.SIGKILL)\n"
    lives = frame + WRITES.replace("scores.parquet", "other.parquet") + "        time.sleep(60)\n"
    (tmp_path / "scratch" / "foley-of-another").mkdir(parents=True)
    assert processes.run(killed, **ON_CLUSTER)[:2] == (-signal.SIGKILL, "1 2\n")
    living = processes.start(lives, **ON_CLUSTER)
    # The killed job's file beside its target is still there, the one in scratch is not.
    assert processes.wait_for_line(living) == "2 2"
    status, out, errors = processes.run(frame + WRITES, **ON_CLUSTER | {"SLURM_JOB_ID": "8"})
    assert (status, out) == (0, "2 3\n"), errors
    assert living.poll() is None
    left = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert len(left) == 2
    assert left[0].startswith(".other.parquet.") and left[1] == "scores.parquet"
    assert len(list((tmp_path / "scratch").iterdir())) == 2


def test_a_job_that_ends_itself_leaves_no_files(processes: Processes, tmp_path: Path) -> None:
    program = (
        textwrap.dedent(SNAKEMAKE).replace('"gpu": 1', '"gpu": 0, "mem_mb": 300, "tmpdir": "scratch"')
        + WRITES
        + "        held = bytearray(b'x') * (400 << 20)\n        time.sleep(30)\n"
    )
    assert processes.run(program, **ON_CLUSTER)[:2] == (137, "1 1\n")
    assert os.listdir(tmp_path / "here") == os.listdir(tmp_path / "scratch") == []


def test_a_scratch_folder_with_a_variable_is_refused(processes: Processes, tmp_path: Path) -> None:
    program = textwrap.dedent(SNAKEMAKE).replace('"gpu": 1', '"gpu": 0, "tmpdir": "$SLURM_TMPDIR"')
    status, _, errors = processes.run(program + "with run_job(snakemake): pass\n", **ON_CLUSTER)
    assert status == 1
    assert "resource `tmpdir` '$SLURM_TMPDIR': no variable is filled in here" in errors
    assert errors.count("\n") == 4
    assert not (tmp_path / "$SLURM_TMPDIR").exists()


# Stands in for Slurm's commands: a queue that is a file, one id a line.
SQUEUE = """#!/bin/sh
[ -e broken ] && { echo "Unable to contact slurm controller" >&2; exit 1; }
case "$*" in *--name=run-1*) cat queue;; esac
"""
SCANCEL = """#!/bin/sh
[ "$*" = "--name=run-1" ] && [ ! -e stuck ] && : > queue
exit 0
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "queue").write_text("11\n12_3\n")
    return tmp_path


LOST = Process.this()


def note_lost(note: Path, **changes: str) -> None:
    """The note of a run whose main process was on this machine, as it is now but for ``changes``, and is gone."""
    slurm.note_run(note, "run-1")
    name, process = note.read_text().splitlines()
    assert (name, process) == ("run-1", str(LOST))
    lost = replace(LOST, **({"started": "1"} | changes))
    note.write_text(f"{name}\n{lost}\n")


def end_lost(note: Path, patience_s: float = 5, guarded: bool = True) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return slurm.end_lost_run(note, patience_s, guarded=guarded, say=said.append), said


@pytest.mark.parametrize("changes", [{"started": "1"}, {"boot": "earlier"}])
def test_jobs_of_a_lost_run_are_cancelled(queue: Path, changes: dict[str, str]) -> None:
    note = queue / "results" / ".slurm_run"
    assert end_lost(note) == ([], [])
    note_lost(note, **changes)
    found, (said,) = end_lost(note)
    assert found == ["11", "12_3"]
    assert "cancelled 2 jobs of a run whose main process is gone: 11 12_3" in said
    assert (queue / "queue").read_text() == ""
    assert not note.exists()


@pytest.mark.parametrize("where", ["another machine", "another container", "unknown", "unguarded"])
def test_jobs_of_a_run_that_may_live_are_left_alone(queue: Path, where: str) -> None:
    """Locks may be kept to each machine, so that one was got on a second login node says nothing of the first."""
    note = queue / "results" / ".slurm_run"
    if where == "unknown":
        note.parent.mkdir()
        note.write_text("run-1\n")
    else:
        changes = {"another machine": {"host": "login2"}, "another container": {"namespace": "pid:[7]"}}
        note_lost(note, **changes.get(where, {}))
    before = note.read_text()
    with pytest.raises(RuntimeError, match=r"end them with `scancel --name=run-1` and start again"):
        end_lost(note, guarded=where != "unguarded")
    assert (queue / "queue").read_text() == "11\n12_3\n"
    assert note.read_text() == before
    # Once none is left, it goes on, and says what it cannot know.
    (queue / "queue").write_text("")
    found, said = end_lost(note, guarded=where != "unguarded")
    assert found == []
    assert [("taken for lost" in line) for line in said] == ([] if where == "unguarded" else [True])
    assert not note.exists()


def test_a_living_run_is_told_without_a_lock(queue: Path) -> None:
    note = queue / ".slurm_run"
    slurm.note_run(note, "run-1")
    (queue / "queue").write_text("")
    with pytest.raises(
        RuntimeError, match=rf"another run is under way in this folder \(process {os.getpid()}\)"
    ):
        end_lost(note, guarded=False)
    assert note.exists()


def test_a_lost_run_that_cannot_be_ended_stops_the_next(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = queue / ".slurm_run"
    note_lost(note)
    before = note.read_text()
    (queue / "stuck").touch()
    with pytest.raises(RuntimeError, match=r"do not end: see `squeue --name=run-1`"):
        end_lost(note, 0.1)
    (queue / "broken").touch()
    with pytest.raises(RuntimeError, match="Unable to contact slurm controller"):
        end_lost(note)
    monkeypatch.setenv("PATH", str(queue / "nowhere"))
    with pytest.raises(RuntimeError, match="whose commands are not on this machine"):
        end_lost(note)
    assert note.read_text() == before
