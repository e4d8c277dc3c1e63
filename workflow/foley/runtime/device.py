"""The device lease: N jobs on one box, each on a GPU of its own.

Snakemake counts GPUs and never says which one. The candidates are $FOLEY_GPUS, else the entries of
CUDA_VISIBLE_DEVICES, else what nvidia-smi lists; in a job of Slurm's CUDA_VISIBLE_DEVICES alone, which Slurm sets to
what the job was given. A lease is an flock on one file per device, which the kernel frees when the holder dies,
SIGKILL included. The files lie in $FOLEY_GPU_LOCKS, a folder that users may share, else in one of the user in /tmp.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("foley")

POOL = "FOLEY_GPUS"
# Where locks lie. Not in TMPDIR: runs and jobs that share a box may have folders of their own there.
LOCKS = "FOLEY_GPU_LOCKS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
# What AMD's runtime goes by, which honours CUDA_VISIBLE_DEVICES as well.
OF_AMD = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
# Device files of NVIDIA's driver, one a GPU; in a container, those that it was given.
DEVICE_FILES = Path("/dev")
SAY_AGAIN_S = 600


def _entries(text: str) -> list[str]:
    """Entries of a list of devices, as CUDA reads it: a -1 ends it. Each once; blanks around them don't count."""
    found: list[str] = []
    for entry in map(str.strip, text.split(",")):
        if entry == "-1":
            break
        # Slurm's word for a job that was given none.
        if entry and entry != "NoDevFiles" and entry not in found:
            found.append(entry)
    return found


def _ask_nvidia_smi() -> dict[str, str] | None:
    """Number of each GPU -> its UUID; None where there is no nvidia-smi, or none that works."""
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout or "").split())
        log.warning("nvidia-smi fails (%s): %s", error.returncode, said)
        return None
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("nvidia-smi fails: %s", error)
        return None
    # Without a GPU it says so in words, and ends well.
    return dict(re.findall(r"^\s*(\d+)\s*,\s*([A-Za-z]+-[\w-]+)\s*$", listed.stdout, re.M))


def _count_device_files() -> list[str]:
    """Numbers of the GPUs, by the driver's device files; CUDA counts from 0 those that it may use."""
    files = [path for path in DEVICE_FILES.glob("nvidia[0-9]*") if path.name[len("nvidia") :].isdigit()]
    return [str(number) for number in range(len(files))]


def _preset(environment: Mapping[str, str]) -> list[str] | None:
    """What a variable says of the devices to choose from; None where none does."""
    if "SLURM_JOB_ID" in environment:
        # The other variable may come from the login node, and others may have what it or nvidia-smi lists.
        return _entries(environment.get(VISIBLE, ""))
    for key in (POOL, VISIBLE):
        if key in environment:
            return _entries(environment[key])
    return None


def candidates(environment: Mapping[str, str]) -> dict[str, str]:
    """The devices a job may choose from -> the names of their locks; empty on a machine without one.

    A lock is called as the device's UUID where nvidia-smi knows it, so that there is one however the device is called;
    one that is listed by its number and by its UUID is there once.
    """
    pool = _preset(environment)
    if pool == []:
        return {}
    uuids = _ask_nvidia_smi()
    if pool is None:
        # A container for computing may lack the tool and have the GPUs.
        pool = _count_device_files() if uuids is None else list(uuids)
    names: dict[str, str] = {}
    for device in pool:
        # CUDA takes the beginning of a UUID as well.
        begun = [uuid for uuid in (uuids or {}).values() if uuid.startswith(device)]
        name = (uuids or {}).get(device) or (begun[0] if len(begun) == 1 else device)
        if name not in names.values():
            names[device] = name
    return names


class Lease:
    """Devices held by this process until it ends or ``release`` is called."""

    def __init__(self, held: dict[str, int]) -> None:
        self._held = held

    @property
    def devices(self) -> list[str]:
        return list(self._held)

    def release(self) -> None:
        for handle in self._held.values():
            os.close(handle)
        self._held = {}


@contextmanager
def _open_to_all(shared: bool) -> Iterator[None]:
    """What is made here may be used by every user, if it is shared."""
    before = os.umask(0 if shared else 0o077)
    try:
        yield
    finally:
        os.umask(before)


def _open_lock(path: Path, shared: bool) -> int:
    try:
        # Without O_CREAT, which the kernel refuses on others' files in a folder like /tmp.
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        pass
    try:
        with _open_to_all(shared):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # made by another meanwhile
        return os.open(path, os.O_RDWR)


def lease(count: int, environment: MutableMapping[str, str] | None = None) -> Lease:
    """Take ``count`` devices, waiting for free ones, and point CUDA_VISIBLE_DEVICES at them.

    Must run before torch starts CUDA. Without any device the lease is empty and the job runs on the CPU.

    Raises:
        RuntimeError: more devices asked for than there are.
    """
    environment = os.environ if environment is None else environment
    if not count:
        # A job that leased no device must not use one beside a job that did.
        environment[VISIBLE] = ""
        return Lease({})
    named = candidates(environment)
    preset = _preset(environment) is not None
    if not named:
        given_by_slurm = "SLURM_JOB_ID" in environment and any(environment.get(key) for key in OF_AMD)
        if preset and not given_by_slurm:
            log.warning("no GPU was given to this job, which asked for %d: it runs on the CPU", count)
            # Unset, the variable would let torch see every GPU of the machine, those of others too.
            environment[VISIBLE] = ""
        return Lease({})
    if count > len(named):
        raise RuntimeError(
            f"{count} GPUs asked for, {len(named)} to choose from ({','.join(named)}): "
            "lower the rule's `gpu` resource"
        )
    if not preset:
        # The order of nvidia-smi; CUDA's own is the fastest first.
        environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    shared = bool(environment.get(LOCKS))
    # Under Slurm device numbers may be relative to the job, so its locks are its own.
    scope = environment.get("SLURM_JOB_ID", "local")
    folder = Path(environment.get(LOCKS) or f"/tmp/foley-gpus-{os.getuid()}") / scope
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    with _open_to_all(shared):
        for path in (folder.parent, folder):
            path.mkdir(0o1777, exist_ok=True)
    say_at = time.monotonic()
    while True:  # all the locks or none, so that two jobs cannot each hold half
        held: dict[str, int] = {}
        for device, name in named.items():
            handle = _open_lock(folder / f"{name.replace('/', '_')}.lock", shared)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            held[device] = handle
            if len(held) == count:
                environment[VISIBLE] = ",".join(held)
                return Lease(held)
        Lease(held).release()
        if time.monotonic() >= say_at:
            log.info("waits for %d of the GPUs %s (locks in %s)", count, ",".join(named), folder)
            say_at = time.monotonic() + SAY_AGAIN_S
        time.sleep(random.uniform(0.05, 0.15))
