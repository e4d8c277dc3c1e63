"""The frame around every script: log file, readable errors, threads, device lease, progress, provenance."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from foley.runtime import device
from foley.runtime.identity import pid_namespace
from foley.runtime.memory import call_when_over, descendants, keep_freed_memory
from foley.tables import SCRATCH, clear_scratch, remove_unfinished

T = TypeVar("T")
log = logging.getLogger("foley")


@dataclass
class Job:
    """What a script may know of the job that it runs in."""

    rule: str
    wildcards: dict[str, str]
    provenance: dict[str, Any] = field(default_factory=dict)
    threads: int = 1

    @property
    def name(self) -> str:
        keys = ", ".join(f"{key}={value}" for key, value in self.wildcards.items())
        return f"{self.rule} ({keys})" if keys else self.rule

    def progress(
        self,
        items: Iterable[T],
        *,
        total: int | None = None,
        unit: str = "clips",
        size: Callable[[T], int] | None = None,
    ) -> Iterator[T]:
        """Pass ``items`` through with a bar on a terminal, and log the throughput at the end.

        ``size`` says how many units an item holds, for batches.
        """
        from tqdm import tqdm

        start, count = time.monotonic(), 0
        bar = tqdm(
            items, total=total, unit=unit, desc=self.rule, disable=not sys.stderr.isatty(), leave=False
        )
        for item in bar:
            yield item
            count += 1 if size is None else size(item)
        spent = max(time.monotonic() - start, 1e-9)
        log.info("%d %s in %.1f s (%.1f %s/s)", count, unit, spent, count / spent, unit)


def _plain(value: Any) -> Any:
    """Snakemake's containers as plain, ordered data for the provenance record."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in sorted(value.items())}
    if hasattr(value, "items") and not isinstance(value, str):
        return {str(key): _plain(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


# The workflow's process id and its namespace, which jobs inherit.
WORKFLOW = "FOLEY_WORKFLOW"


def announce_workflow() -> None:
    """Let processes started from here know that they are this workflow's jobs."""
    os.environ[WORKFLOW] = f"{os.getpid()} {pid_namespace()}"


# Set in a job that a cluster runs; in one of a local run that is itself within a job of Slurm's, it is not.
CLUSTER_JOB = "FOLEY_CLUSTER_JOB"
# Of what a job asked for, the part that it keeps to: Slurm counts the processes of Snakemake beside it as well, and
# ends a job without a word.
KEPT_PART = 0.95


def announce_cluster_job() -> None:
    """Let processes started from here know that a cluster runs them, with what they asked it for."""
    os.environ[CLUSTER_JOB] = "1"


def _leave(status: int) -> NoReturn:
    """End this process at once, from any thread, and what it has started; leave no half-written files."""
    for pid in descendants():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    remove_unfinished()
    os._exit(status)


def _ancestors() -> Iterator[int]:
    """Raises OSError where /proc does not say: one of them has just ended, or no file can be opened."""
    pid = os.getpid()
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


def _die_with_the_workflow() -> Callable[[], None]:
    """End this process when the workflow that started it is gone, be it before this process came so far.

    A killed workflow would otherwise leave jobs behind that hold devices and cores while the next run starts.
    Returns the check, for moments that cannot wait for the next look.
    """
    workflow, _, namespace = os.environ.get(WORKFLOW, "").partition(" ")
    # Nobody's job, or one that cannot see its workflow: no /proc, or a container with process ids of its own.
    if not workflow or not namespace or namespace != pid_namespace():
        return lambda: None

    unseen = False

    def is_gone() -> bool:
        nonlocal unseen
        try:
            return int(workflow) not in _ancestors()
        except (FileNotFoundError, ProcessLookupError):
            return True  # a process between it and us has just ended
        except OSError as error:
            # Out of open files, for example: that says nothing of the workflow.
            if not unseen:
                log.warning("cannot see whether the workflow is there: %s", error)
            unseen = True
            return False

    def end_if_gone() -> None:
        if is_gone():
            log.error("the workflow that started this job (process %s) is gone: the job ends", workflow)
            _leave(143)

    def watch() -> None:
        while True:
            time.sleep(0.5)
            end_if_gone()

    end_if_gone()
    threading.Thread(target=watch, daemon=True, name="watch-workflow").start()
    return end_if_gone


def _complain(job: Job, message: str, log_path: Path | None) -> None:
    """Say on the terminal, in three lines, that a job failed, why, and where its log is."""
    print(f"\nfoley: {job.name} failed", file=sys.stderr)
    print(f"  {message}", file=sys.stderr)
    print(f"  log: {log_path}", file=sys.stderr, flush=True)


def _keep_to_memory(job: Job, asked_mib: int, log_path: Path | None) -> None:
    """End this process when it takes, with those that it started, more memory than it asked the cluster for.

    Many clusters enforce no limit, and then the node fails with all its jobs, or the kernel picks one. A job that ends
    by itself is told from others, and its next attempt asks for more.
    """

    def end(held_mib: int) -> None:
        message = (
            f"out of memory: it holds {held_mib} MiB and asked for {asked_mib} (resource `mem_mb`); "
            "a further attempt asks for twice as much, up to `cluster.max_mem_mb` of the config, unless "
            "`set-resources` gives the rule a plain number, which every attempt asks for"
        )
        log.error("%s", message)
        _complain(job, message, log_path)
        _leave(137)

    call_when_over(int(KEPT_PART * asked_mib), end)


def refuse_variables(scratch: str) -> None:
    """Refuse a scratch folder that only a shell could find.

    Raises:
        ValueError: it holds a `$`, which Snakemake keeps as it is, and makes a folder of that name.
    """
    if "$" in scratch:
        raise ValueError(
            f"resource `tmpdir` {scratch!r}: no variable is filled in here; give a path that every node has, "
            "or `system_tmpdir` for the node's own TMPDIR"
        )


def _prepare_for_cluster(job: Job, resources: Any, log_path: Path | None) -> None:
    """What a job does on a cluster only: keep to its memory, and build tables in the node's own scratch folder."""
    if CLUSTER_JOB not in os.environ:
        return
    limit = resources.get("mem_mb")
    if isinstance(limit, int) and limit > 0:
        _keep_to_memory(job, limit, log_path)
        log.info("Slurm job %s; at most %d MiB", os.environ.get("SLURM_JOB_ID", "none"), limit)
    scratch = resources.get("tmpdir")
    if scratch:
        refuse_variables(str(scratch))
        os.environ[SCRATCH] = str(scratch)
        cleared = clear_scratch(scratch)
        if cleared:
            log.info("removed %d folders that killed jobs left in %s", cleared, scratch)


@contextmanager
def run_job(snakemake: Any) -> Iterator[Job]:
    """Run a script's one library call inside the house's frame.

    Logs go to the rule's log file. An uncaught error goes there with its traceback and to the terminal in three
    lines: the job, the error, the log. Imports of heavy libraries belong inside the block: the device lease and
    the thread count must be set before torch starts.
    """
    job = Job(
        rule=snakemake.rule,
        wildcards={str(key): str(value) for key, value in snakemake.wildcards.items()},
        threads=int(snakemake.threads),
    )
    job.provenance = {"rule": job.rule, "wildcards": job.wildcards, "params": _plain(snakemake.params)}
    log_path = Path(str(snakemake.log[0])) if len(snakemake.log) else None
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if log_path is not None:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log_path, mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(job.threads)
    keep_freed_memory()
    end_if_orphaned = _die_with_the_workflow()
    try:
        _prepare_for_cluster(job, snakemake.resources, log_path)
        # Held to the end of the process, whose CUDA context goes last: the kernel frees it.
        held = device.lease(int(snakemake.resources.get("gpu", 0) or 0))
        # A device that comes free because the workflow was killed must not go to another of its jobs.
        end_if_orphaned()
        start = time.monotonic()
        log.info("%s starts; devices %s", job.name, held.devices or "cpu")
        yield job
        log.info("%s done in %.1f s", job.name, time.monotonic() - start)
    except Exception as error:
        log.error("%s", "".join(traceback.format_exception(error)))
        message = " ".join(str(error).split()) or repr(error)  # one line, whatever the error
        _complain(job, f"{type(error).__name__}: {message}", log_path)
        # The three lines are the message; a second traceback on the terminal would bury them.
        handler.close()
        sys.exit(1)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
