"""Which process something belongs to, so that another can tell later whether it is there: a run, a file it left."""

from __future__ import annotations

import os
import socket
from dataclasses import astuple, dataclass
from pathlib import Path


def pid_namespace() -> str:
    """The namespace that this process's ids are counted in; a container has one of its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in ticks since boot; None when there is no such process, or but its remains."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else rest[18]


@dataclass(frozen=True)
class Process:
    """A process and where it runs; written as one line."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Process:
        pid = os.getpid()
        started = _started(pid) if Path("/proc/self/stat").exists() else None
        return cls(socket.gethostname(), _boot() or "-", pid_namespace() or "-", pid, started or "-")

    @classmethod
    def parse(cls, line: str) -> Process | None:
        """What ``str`` wrote; None when it is nothing of the kind."""
        parts = line.split()
        if len(parts) != 5 or not parts[3].isdigit():
            return None
        host, boot, namespace, pid, started = parts
        return cls(host, boot, namespace, int(pid), started)

    def __str__(self) -> str:
        return " ".join(map(str, astuple(self)))

    def is_gone(self) -> bool | None:
        """Whether it has ended; None where this machine cannot tell."""
        ours = Process.this()
        if self.host != ours.host or "-" in (self.boot, ours.boot, ours.started):
            return None
        if self.boot != ours.boot:
            return True  # the machine was started anew
        if self.namespace != ours.namespace:
            return None
        return _started(self.pid) != self.started
