"""Training on several devices at once: one function in several processes, each with a device of its own.

accelerate joins them into a process group (NCCL; Gloo on CPUs), gives each its device and adds tensors up. Its own
launchers are for shells and notebooks: one starts a program again, which a Snakemake script is not, the other forks a
process that may hold CUDA already. So :func:`launch` starts a fresh interpreter, which imports once and then forks.
They meet through a file, since several trainings on one machine would fight over a port. When a process fails, all end;
when the caller is killed, so are they.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foley.runtime.code import LIBRARY
from foley.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

# Tensors are added up in parts of so many numbers (64 MB of float32): few enough calls, and little memory on top.
_NUMBERS_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, as one of them sees it.

    Attributes:
        rank: its own number, from 0.
        size: how many they are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of ``count`` rows are its own: shares are consecutive and differ by one row at most."""
        each, more = divmod(count, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over all processes in the place of each tensor; of one dtype, on one device."""
        if self.size == 1:
            return
        import torch
        from accelerate.utils import reduce

        for part in _parts(tensors):
            whole = reduce(torch.cat([tensor.reshape(-1) for tensor in part]), "sum")
            for tensor, own in zip(part, whole.split([t.numel() for t in part]), strict=True):
                tensor.copy_(own.view_as(tensor))

    def agree(self, value: Any) -> bool:
        """Whether all processes have the same value."""
        if self.size == 1:
            return True
        from accelerate.utils import gather_object

        return len(set(gather_object([value]))) == 1


_current = ProcessGroup()


def current() -> ProcessGroup:
    """The group of this process; of itself alone where :func:`launch` did not start it."""
    return _current


class SharedCheckpoint(Checkpoint):
    """A checkpoint that the main process writes and all read."""

    def load(self) -> dict[str, Any] | None:
        state = super().load()
        if not current().agree(-1 if state is None else int(state["epochs_done"])):
            log.warning("checkpoint %s is not the same to all processes: starting anew", self.path)
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        if current().is_main:
            super().save(state)

    def discard(self) -> None:
        if current().is_main:
            super().discard()


def launch(function: Callable[..., None], processes: int, /, *args: Any, **kwargs: Any) -> None:
    """Call ``function`` in several new processes, which :func:`current` tells of each other, and wait for them.

    Each has one of the visible CUDA devices; where there are fewer of them, all compute on the CPU. Threads are shared
    out. What they log is logged here.

    Args:
        function: of a module, so that it can be imported; its arguments can be pickled.

    Raises:
        The first error of any process; RuntimeError where one was killed.
    """
    if processes < 2:
        raise ValueError(f"processes must be at least 2, not {processes}; call the function itself")
    import torch

    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(LIBRARY.parent), *filter(None, [environment.get("PYTHONPATH")])]
    )
    if torch.cuda.device_count() < processes:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        if sys.platform == "linux":
            # Gloo would look the host's own name up, which not every machine knows.
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    # A library that asks for CUDA while it is imported must not start it: a fork could not use it then.
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    threads = max(1, torch.get_num_threads() // processes)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[variable] = str(threads)
    with tempfile.TemporaryDirectory(prefix="foley-processes-") as name:
        folder = Path(name)
        call = pickle.dumps((function, args, kwargs))
        (folder / "call").write_bytes(pickle.dumps((os.getpid(), sys.path, processes, threads, call)))
        started = subprocess.Popen(
            [sys.executable, "-m", __name__, name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # On a terminal it shows the progress bar.
            stderr=None if sys.stderr.isatty() else subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        try:
            assert started.stdout is not None
            for line in started.stdout:
                _log_again(line.rstrip("\n"))
            code = started.wait()
        finally:
            # With it go the others, see `_die_with`.
            started.kill()
            started.wait()
        if code:
            raise _first_error(folder, code)


def _parts(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    part: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if part and held + tensor.numel() > _NUMBERS_AT_ONCE:
            yield part
            part, held = [], 0
        part.append(tensor)
        held += tensor.numel()
    if part:
        yield part


# What processes say, and how they fail


class _ToCaller(logging.Handler):
    """One line a record: level, logger, message."""

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record).replace("\n", "\\n")
        print(f"{record.levelno}\t{record.name}\t{message}", flush=True)


def _log_again(line: str) -> None:
    level, _, rest = line.partition("\t")
    name, _, message = rest.partition("\t")
    if level.isdigit() and message:
        logging.getLogger(name).log(int(level), "%s", message.replace("\\n", "\n"))
    elif line:
        log.info("%s", line)


def _keep_error(folder: Path, rank: int, error: BaseException, at: int | None = None) -> None:
    """Leave an error for the caller, who is told the first in time."""
    try:
        kept = pickle.dumps(error)
        pickle.loads(kept)
    except Exception:  # an error that cannot be pickled is told in words
        kept = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    (folder / f"error-{time.time_ns() if at is None else at:020d}-{rank}").write_bytes(kept)


def _first_error(folder: Path, code: int) -> BaseException:
    kept = sorted(folder.glob("error-*"))
    if not kept:
        return RuntimeError(
            f"the processes that train together ended with code {code} and no error; see the log"
        )
    error = pickle.loads(kept[0].read_bytes())
    assert isinstance(error, BaseException)
    return error


# In the new processes


def _die_with(parent: int) -> None:
    """Be killed when the parent process is (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _start(folder: Path) -> None:
    """Fork the processes, and end with them."""
    parent, paths, count, threads, call = pickle.loads((folder / "call").read_bytes())
    _die_with(parent)
    sys.path[:] = paths
    function, args, kwargs = pickle.loads(call)
    from accelerate import PartialState  # noqa: F401  # once, before the fork
    from torch import version
    from torch.multiprocessing import ProcessExitedException, start_processes

    # AMD's runtime starts with its first question and cannot be forked.
    how = "fork" if version.hip is None else "spawn"
    given = os.getpid(), folder, count, threads, function, args, kwargs
    started = start_processes(_run, given, nprocs=count, join=False, start_method=how)
    try:
        while not started.join():
            pass
    except ProcessExitedException:
        for rank, process in enumerate(started.processes):
            # SIGTERM is how the others were ended.
            if process.exitcode is not None and process.exitcode < 0 and process.exitcode != -signal.SIGTERM:
                killed = f"process {rank} of {count} was killed by {signal.Signals(-process.exitcode).name}"
                # Before the errors of those that lost it.
                _keep_error(folder, rank, RuntimeError(f"{killed}; memory may have run out"), at=0)
        sys.exit(1)


def _run(
    rank: int,
    parent: int,
    folder: Path,
    count: int,
    threads: int,
    function: Callable[..., None],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> None:
    global _current
    _die_with(parent)
    root = logging.getLogger()
    handler = _ToCaller()
    handler.setFormatter(logging.Formatter("%(message)s" if rank == 0 else f"[process {rank}] %(message)s"))
    root.addHandler(handler)
    # What concerns all is said once.
    root.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logging.captureWarnings(True)
    try:
        import torch
        from accelerate import PartialState
        from accelerate.utils import check_cuda_p2p_ib_support

        torch.set_num_threads(threads)
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
        }
        on_cpu = not torch.cuda.is_available()
        if not on_cpu and not check_cuda_p2p_ib_support():
            os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
        state = PartialState(cpu=on_cpu, init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
        _current = ProcessGroup(rank, count)
        log.info("%d processes train together on %s", count, state.device.type)
        function(*args, **kwargs)
        state.destroy_process_group()
    except BaseException as error:  # KeyboardInterrupt as well: the caller must hear of it
        _keep_error(folder, rank, error)
        sys.stdout.flush()
        sys.exit(1)


if __name__ == "__main__":
    # The module that others import holds the group, not this second copy of it.
    from foley.training import processes

    processes._start(Path(sys.argv[1]))
