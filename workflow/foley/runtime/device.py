"""The device lease: N jobs on one box, each on a GPU of its own.

Snakemake counts GPUs and never says which one. The candidates are $FOLEY_GPUS, else the entries of
CUDA_VISIBLE_DEVICES (Slurm sets it to what the job was given), else what nvidia-smi lists; a lease is an
flock on one file per device, which the kernel frees when the holder dies, SIGKILL included. The files lie in
$FOLEY_GPU_LOCKS, else in a folder of the user in /tmp.
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

POOL = "FOLEY_GPUS"
# Where locks lie. Not in TMPDIR: runs and jobs that share a box may have folders of their own there.
LOCKS = "FOLEY_GPU_LOCKS"


def candidates(environment: Mapping[str, str]) -> list[str]:
    """Ids of the devices a job may choose from; empty on a machine without one."""
    for key in (POOL, "CUDA_VISIBLE_DEVICES"):
        if key in environment:
            return [entry for entry in environment[key].split(",") if entry and entry != "-1"]
    if "SLURM_JOB_ID" in environment:  # nvidia-smi would list devices that were given to others
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()


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


def lease(count: int, environment: MutableMapping[str, str] | None = None) -> Lease:
    """Take ``count`` devices, waiting for free ones, and point CUDA_VISIBLE_DEVICES at them.

    Must run before torch starts CUDA. Without any device the lease is empty and the job runs on the CPU.

    Raises:
        RuntimeError: more devices asked for than there are.
    """
    environment = os.environ if environment is None else environment
    if not count:
        # A job that leased no device must not use one beside a job that did.
        environment["CUDA_VISIBLE_DEVICES"] = ""
        return Lease({})
    pool = candidates(environment)
    if not pool:
        return Lease({})
    if count > len(pool):
        raise RuntimeError(
            f"{count} GPUs asked for, {len(pool)} to choose from ({','.join(pool)}): lower the rule's `gpu` resource"
        )
    # Under Slurm device numbers may be relative to the job, so its locks are its own.
    scope = environment.get("SLURM_JOB_ID", "local")
    folder = Path(environment.get(LOCKS) or f"/tmp/foley-gpus-{os.getuid()}") / scope
    folder.mkdir(parents=True, exist_ok=True)
    while True:  # all the locks or none, so that two jobs cannot each hold half
        held: dict[str, int] = {}
        for device in pool:
            handle = os.open(folder / f"{device.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            held[device] = handle
            if len(held) == count:
                environment["CUDA_VISIBLE_DEVICES"] = ",".join(held)
                return Lease(held)
        Lease(held).release()
        time.sleep(random.uniform(0.05, 0.15))
