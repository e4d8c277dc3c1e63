"""A real Slurm cluster on this machine: munge, accounting in MariaDB, a controller and several nodes on loopback.

    python tests/slurm/cluster.py up FOLDER      # and then: snakemake --workflow-profile FOLDER/profile
    python tests/slurm/cluster.py down FOLDER
    python tests/slurm/cluster.py packages       # that are not installed yet

Needs root and Debian's packages, no systemd and no cgroups. GPUs are fakes: character devices that Slurm
shares out and no program can use. Everything listens on 127.0.0.1 and lies in one folder, except for the link
/etc/slurm/slurm.conf: Snakemake's job steps drop SLURM_CONF, so that their `srun` looks there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# A program of each of Debian's packages; the plugin has none.
PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "squeue": "slurm-client",
    "munged": "munge",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
PROFILE = Path(__file__).resolve().parents[2] / "profiles" / "slurm" / "config.yaml"
ACCOUNT = "lab"


class ClusterError(RuntimeError):
    """The cluster did not do what it was told to."""


def find_program(name: str) -> str | None:
    """Daemons lie in sbin, which is not on everybody's path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def missing_packages() -> list[str]:
    missing = [package for program, package in PROGRAMS.items() if find_program(program) is None]
    return [*missing, "slurm-wlm-mysql-plugin"] if missing else []


def lacking() -> str | None:
    """Why no cluster can be started here; None where it can."""
    if os.geteuid() != 0:
        return "starting Slurm's daemons needs root"
    missing = missing_packages()
    return f"apt-get install {' '.join(missing)}" if missing else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready: Callable[[], bool], what: str, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"gave up waiting for {what}")
        time.sleep(0.1)


def state_of(pid: int) -> tuple[str, int, str] | None:
    """Name, parent and state of a process; None when it is gone."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return None
    state, parent, *_ = rest.split()
    return name, int(parent), state


def lives(pid: int) -> bool:
    found = state_of(pid)
    return found is not None and found[2] not in "ZX"


@dataclass(frozen=True)
class Node:
    name: str
    gpus: int
    cpus: int = 2
    memory_mb: int = 100_000  # promised, not there: jobs ask for what they may take, and take little here


@dataclass
class Cluster:
    """Four nodes with three GPUs, so that GPUs are scarcer than places for jobs."""

    folder: Path
    nodes: tuple[Node, ...] = (Node("n1", gpus=2), Node("n2", gpus=1), Node("n3", gpus=0), Node("n4", gpus=0))
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def gpus(self) -> int:
        return sum(node.gpus for node in self.nodes)

    def environment(self) -> dict[str, str]:
        """Ours, with which Slurm's commands reach this cluster."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        return inherited | {
            "SLURM_CONF": str(self.conf),
            "MYSQL_UNIX_PORT": str(self.folder / "mysql.sock"),  # where slurmdbd looks for its database
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stdout

    def _answers(self, *command: str) -> Callable[[], bool]:
        def ask() -> bool:
            return subprocess.run(command, env=self.environment(), capture_output=True).returncode == 0

        return ask

    # Up

    def start(self) -> None:
        """Start everything; returns when all nodes are idle.

        Raises:
            ClusterError: something did not start; its log is in the folder.
        """
        reason = lacking()
        if reason:
            raise ClusterError(reason)
        self._refuse_another()
        self._write_files()
        self._link()
        self._start_munge()
        self._start_accounting()
        self.start_controller()
        for node in self.nodes:
            self.start_node(node.name)
        wait_until(lambda: len(self._idle()) == len(self.nodes), "idle nodes")

    def _idle(self) -> list[str]:
        return self.call("sinfo", "-h", "-N", "-p", "cpu", "-t", "idle", "-o", "%N").split()

    def _start_daemon(self, name: str, program: str, *arguments: str) -> None:
        found = find_program(program)
        assert found is not None
        with (self.folder / "log" / f"{name}.out").open("ab") as output:
            daemon = subprocess.Popen(
                [found, *arguments], env=self.environment(), stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        self._daemons[name] = daemon
        (self.folder / "run" / f"{name}.pid").write_text(f"{daemon.pid} {Path(found).name}")

    def start_controller(self) -> None:
        self._start_daemon("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        wait_until(self._answers("scontrol", "ping"), "slurmctld")

    def stop_controller(self) -> None:
        """Nobody answers `squeue` and `sbatch`; nodes and their jobs go on."""
        self._end(["slurmctld"], signal.SIGTERM)

    def start_node(self, name: str) -> None:
        self._start_daemon(f"slurmd.{name}", "slurmd", "-D", "-N", name, "-f", str(self.conf))

    def _write_files(self) -> None:
        for part in ("run", "log", "state", "munge", "devices", "profile"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o700)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for number in range(max(node.gpus for node in self.nodes)):
            device = self.folder / "devices" / f"gpu{number}"
            if not device.exists():  # Slurm takes character devices only; these are as /dev/null
                os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
        self._ports = {name: free_port() for name in ("slurmctld", "slurmdbd", *(n.name for n in self.nodes))}
        self.conf.write_text(self._slurm_conf())
        (self.folder / "gres.conf").write_text(
            "".join(
                f"NodeName={n.name} Name=gpu Type=fake File={self.folder}/devices/gpu[0-{n.gpus - 1}]\n"
                for n in self.nodes
                if n.gpus
            )
        )
        # Nothing here uses cgroups, but slurmd loads a plugin for them, and this one works in any container.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        database = self.folder / "slurmdbd.conf"
        database.write_text(self._slurmdbd_conf())
        database.chmod(0o600)
        (self.folder / "profile" / "config.yaml").write_text(self.profile())

    def _slurm_conf(self) -> str:
        host = socket.gethostname().partition(".")[0]
        with_gpus = ",".join(n.name for n in self.nodes if n.gpus)
        lines = [
            "ClusterName=tests",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={self._ports['slurmctld']}",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={self.folder}/munge.sock",
            "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool.%n",
            f"SlurmctldPidFile={self.folder}/run/slurmctld.own",
            f"SlurmdPidFile={self.folder}/run/slurmd.%n.own",
            f"SlurmctldLogFile={self.folder}/log/slurmctld.log",
            f"SlurmdLogFile={self.folder}/log/slurmd.%n.log",
            # No cgroups: nothing but the jobs themselves keeps to what they asked for.
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "MpiDefault=none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "SlurmdParameters=config_overrides",
            "SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2",
            "GresTypes=gpu",
            "ReturnToService=2",
            # A node that is silent for so long is down, and its jobs have failed.
            "SlurmdTimeout=30",
            "KillWait=2",
            "JobRequeue=1",  # the default of most sites; the profile asks not to
            "EnforcePartLimits=ALL",
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={self._ports['slurmdbd']}",
            f"AccountingStoragePass={self.folder}/munge.sock",
            "AccountingStorageTRES=gres/gpu",
            "AccountingStoreFlags=job_comment",
            "AccountingStorageEnforce=associations",
        ]
        for node in self.nodes:
            gres = f" Gres=gpu:fake:{node.gpus}" if node.gpus else ""
            lines.append(
                f"NodeName={node.name} NodeHostname={host} NodeAddr=127.0.0.1 Port={self._ports[node.name]} "
                f"CPUs={node.cpus} RealMemory={node.memory_mb}{gres} State=UNKNOWN"
            )
        lines.append("PartitionName=cpu Nodes=ALL Default=YES MaxTime=2-00:00:00 State=UP")
        lines.append(f"PartitionName=gpu Nodes={with_gpus} MaxTime=2-00:00:00 State=UP")
        return "\n".join(lines) + "\n"

    def _slurmdbd_conf(self) -> str:
        return "\n".join(
            [
                "AuthType=auth/munge",
                f"AuthInfo=socket={self.folder}/munge.sock",
                "DbdHost=localhost",
                "DbdAddr=127.0.0.1",
                f"DbdPort={self._ports['slurmdbd']}",
                "CommunicationParameters=NoInAddrAny",
                "SlurmUser=root",
                f"PidFile={self.folder}/run/slurmdbd.own",
                f"LogFile={self.folder}/log/slurmdbd.log",
                "StorageType=accounting_storage/mysql",
                "StorageHost=localhost",
                "StorageUser=root",
                "StorageLoc=accounting",
                "",
            ]
        )

    def profile(self) -> str:
        """profiles/slurm as a user of this cluster edits it, and with less patience, as all is near."""
        changes = {
            r"^  # slurm_account: .*": f"  slurm_account: \"'{ACCOUNT}'\"",
            r"^  # slurm_partition: .*": "  slurm_partition: \"'cpu'\"",
            r"&gpu \{.*\}": "&gpu {slurm_partition: gpu}",
            r"^slurm-init-seconds-before-status-checks: .*": "slurm-init-seconds-before-status-checks: 2",
            r"^latency-wait: .*": "latency-wait: 10\nseconds-between-status-checks: 2",
        }
        text = PROFILE.read_text(encoding="utf-8")
        for pattern, line in changes.items():
            text, count = re.subn(pattern, lambda _, line=line: line, text, flags=re.M)
            if count != 1:
                raise ClusterError(f"{PROFILE} has {count} lines like {pattern!r}, not one")
        return text

    def _refuse_another(self) -> None:
        """There is one SYSTEM_CONF: jobs of a second cluster would go astray, and those of the first one."""
        if not SYSTEM_CONF.is_symlink():
            if SYSTEM_CONF.exists():
                raise ClusterError(f"{SYSTEM_CONF} is a real file: this machine has a cluster of its own")
            return
        other = Cluster(SYSTEM_CONF.readlink().parent)
        if other._pid("slurmctld") is not None:
            raise ClusterError(
                f"another cluster is up, in {other.folder}, and a machine holds one at a time; to end it: "
                f"{sys.executable} {__file__} down {other.folder}"
            )

    def _link(self) -> None:
        SYSTEM_CONF.parent.mkdir(parents=True, exist_ok=True)
        SYSTEM_CONF.unlink(missing_ok=True)
        SYSTEM_CONF.symlink_to(self.conf)

    def _start_munge(self) -> None:
        self._start_daemon(
            "munged", "munged", "--foreground", "--force", f"--key-file={self.folder}/munge/key",
            f"--socket={self.folder}/munge.sock", f"--pid-file={self.folder}/run/munged.own",
            f"--log-file={self.folder}/log/munged.log", f"--seed-file={self.folder}/munge/seed",
        )  # fmt: skip
        wait_until(self._answers("munge", "-n", "-S", f"{self.folder}/munge.sock"), "munged")

    def _start_accounting(self) -> None:
        data, sock = self.folder / "mysql", self.folder / "mysql.sock"
        if not data.exists():
            self.call(
                "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
            )  # fmt: skip
        self._start_daemon(
            "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={sock}",
            f"--pid-file={self.folder}/run/mariadbd.own", "--skip-networking", "--innodb-buffer-pool-size=64M",
            "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        wait_until(
            self._answers("mariadb-admin", "--no-defaults", "-uroot", f"--socket={sock}", "ping"), "MariaDB"
        )
        self._start_daemon("slurmdbd", "slurmdbd", "-D")
        wait_until(self._answers("sacctmgr", "-n", "-i", "list", "cluster"), "slurmdbd")
        for what in (
            ("cluster", "tests"),
            ("account", ACCOUNT, "Description=tests", "Organization=tests"),
            ("user", "root", f"Account={ACCOUNT}", f"DefaultAccount={ACCOUNT}"),
        ):
            # Fails where a cluster that was up before has them already.
            subprocess.run(
                ["sacctmgr", "-i", "-Q", "add", *what], env=self.environment(), capture_output=True
            )
        known = self.call("sacctmgr", "-n", "-P", "list", "assoc", "user=root", "format=account").split()
        if ACCOUNT not in known:
            raise ClusterError(f"the account {ACCOUNT} was not made: {known}")

    # What happens on it

    def queue(self) -> list[list[str]]:
        """Unfinished jobs: id, state, node, comment (the rule and its wildcards)."""
        listed = self.call("squeue", "-h", "-t", "PD,R,CG,CF", "-o", "%i|%T|%N|%k")
        return [line.split("|") for line in listed.splitlines()]

    def accounting(self) -> list[dict[str, str]]:
        """All jobs of this cluster from the accounting database, each attempt a row."""
        fields = [
            "JobIDRaw",
            "JobName",
            "Comment",
            "State",
            "Partition",
            "NodeList",
            "AllocTRES",
            "Timelimit",
            "Start",
            "End",
        ]
        listed = self.call(
            "sacct", "-X", "-n", "-P", "-D", "--starttime=2000-01-01", f"--format={','.join(fields)}"
        )
        return [dict(zip(fields, line.split("|"), strict=True)) for line in listed.splitlines()]

    def kill_node(self, name: str) -> None:
        """The node dies: its daemon and everything that runs on it, at once."""
        doomed = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                on_node = f"SLURMD_NODENAME={name}".encode() in (entry / "environ").read_bytes().split(b"\0")
                ours = f"SLURM_CONF={self.conf}".encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            if not on_node or not (ours or SYSTEM_CONF.resolve() == self.conf):
                continue
            doomed.append(int(entry.name))
            above = state_of(int(entry.name))
            if above is not None and (parent := state_of(above[1])) is not None and parent[0] == "slurmstepd":
                doomed.insert(0, above[1])  # before its tasks, lest it report their end
        self._end([f"slurmd.{name}"], signal.SIGKILL, first=doomed)

    # Down

    def _pid(self, name: str) -> int | None:
        """The living process of a daemon of this folder; a number that another program has got meanwhile is none."""
        note = self.folder / "run" / f"{name}.pid"
        if not note.is_file():
            return None
        pid, program = note.read_text().split()
        found = state_of(int(pid))
        return int(pid) if found is not None and found[2] not in "ZX" and found[0] == program[:15] else None

    def _end(self, names: list[str], how: signal.Signals, first: list[int] | None = None) -> None:
        ending = {name: pid for name in names if (pid := self._pid(name)) is not None}
        for pid in [*ending.values(), *(first or [])]:
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 20
        for name, pid in ending.items():
            while lives(pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
            if name in self._daemons:
                self._daemons.pop(name).wait()
            (self.folder / "run" / f"{name}.pid").unlink()

    def cancel_all(self) -> None:
        """`scancel` of everything; returns when nothing is left."""
        self.call("scancel", "--user=root")
        wait_until(lambda: not self.queue(), "the end of all jobs")

    def stop(self) -> None:
        """End everything that ``start`` has started, also when it failed half way or was another process."""
        if self._pid("slurmctld") is not None:
            try:
                self.cancel_all()
            except ClusterError as error:
                print(f"cluster: {error}", file=sys.stderr)
        self._end([f"slurmd.{node.name}" for node in self.nodes], signal.SIGTERM)
        for name in ("slurmctld", "slurmdbd", "mariadbd", "munged"):
            self._end([name], signal.SIGTERM)
        if SYSTEM_CONF.is_symlink() and SYSTEM_CONF.readlink() == self.conf:
            SYSTEM_CONF.unlink()


def main() -> None:
    if sys.argv[1:] == ["packages"]:
        print(*missing_packages())
        return
    if len(sys.argv) != 3 or sys.argv[1] not in ("up", "down"):
        sys.exit(__doc__)
    cluster = Cluster(Path(sys.argv[2]).resolve())
    if sys.argv[1] == "down":
        cluster.stop()
        return
    start = time.monotonic()
    try:
        cluster.start()
    except ClusterError as error:
        cluster.stop()
        sys.exit(f"cluster: {error}; logs: {cluster.folder}/log")
    print(f"up in {time.monotonic() - start:.1f} s: {', '.join(n.name for n in cluster.nodes)}")
    print(f"snakemake --workflow-profile {cluster.folder}/profile")


if __name__ == "__main__":
    main()
