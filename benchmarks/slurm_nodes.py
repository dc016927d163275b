"""Two SLURM nodes on this machine, with accounting: for tests, benchmarks.cluster, and to try docs/cluster.md.

    python -m benchmarks.slurm_nodes FOLDER     brings them up, says how to use them, takes them down at Ctrl-C

All they have is in FOLDER: keys, database, spools, logs; nothing of the system's own SLURM is read or written. Each
node has one core of this machine and a TMPDIR of its own. Needs Debian's slurm-wlm, slurmdbd, mariadb-server and
munge (.ci/slurm installs them), and no root where the user may start daemons.
"""

import contextlib
import getpass
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
ACCOUNT, PARTITION = "lab", "short"
_DAEMONS = (
    "munged",
    "mariadb-install-db",
    "mariadbd",
    "mariadb",
    "slurmdbd",
    "slurmctld",
    "slurmd",
    "sbatch",
)
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# A cluster that is slow to forget costs a test minutes. cred_expire is how long a requeued job waits (no less than
# 5 s are taken), SlurmdTimeout how long a silent node is believed in.
_SLURM = """
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
TaskProlog={folder}/prolog
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=2
SlurmdParameters=config_overrides
SlurmdTimeout=10
KillWait=5
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=associations,limits
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=1 RealMemory=4000
PartitionName={partition} Nodes=n1,n2 Default=YES MaxTime=240 State=UP
"""
_SLURMDBD = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser={user}
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""
_GRANT = """
create user slurm@'127.0.0.1' identified by '{password}'; grant all on slurm.* to slurm@'127.0.0.1';
create user slurm@localhost identified by '{password}'; grant all on slurm.* to slurm@localhost;
"""


class NoCluster(Exception):
    """The two nodes cannot be had here; the reason."""


def missing() -> str | None:
    """Say what is not installed, None where all is."""
    absent = [name for name in _DAEMONS if not shutil.which(name, path=_PATH)]
    if absent:
        return f"{', '.join(absent)} not installed: .ci/slurm installs Debian's slurm-wlm with accounting"
    if importlib.util.find_spec("submitit") is None:
        return "submitit is not installed: pip install -e '.[slurm]'"
    return None


@dataclass(frozen=True)
class Cluster:
    """The nodes while they are up. environment: what a process needs to speak to them."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str) -> str:
        """Run a command of SLURM's; its output. Raises CalledProcessError."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Return {job, ARRAY_INDEX after the array's number: (state, node)} of what is queued or runs."""
        rows = self.run("squeue", "--noheader", "--array", "--format=%i %T %N").splitlines()
        return {(words := row.split())[0]: (words[1], (words[2:] or [""])[0]) for row in rows}

    def states(self) -> dict[str, str]:
        """Return {node: its state}: idle, allocated, down."""
        rows = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return dict(row.split() for row in rows)

    def tmp(self, node: str) -> Path:
        """Return the folder that TMPDIR names in this node's jobs."""
        return self.folder / f"tmp-{node}"

    def start(self, node: str) -> None:
        """Start a node's daemon, on the core that is the node's."""
        cores = sorted(os.sched_getaffinity(0))
        core = cores[NODES.index(node) % len(cores)]
        environment = {**self.environment, "SLURMD_NODENAME": node}
        command = ["taskset", "--cpu-list", str(core), "slurmd", "-N", node]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def is_up(self, node: str) -> bool:
        """Say if a node's daemon runs."""
        return _alive(self.folder / f"{node}.pid") is not None

    def kill_daemon(self, node: str) -> None:
        """Kill a node's daemon. Its jobs go on, and SLURM, which hears of them no more, starts them elsewhere."""
        os.kill(int((self.folder / f"{node}.pid").read_text()), signal.SIGKILL)

    def switch_off(self, node: str) -> None:
        """Kill all that runs on a node at once."""
        for pid in self._processes(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait_for_nodes(self, seconds: float = 240.0) -> None:
        """Wait until every node can be given jobs. Raises NoCluster with the nodes' states and SLURM's reasons.

        A node that was away when its job ended is completing until SLURM asks it again: 82 s have been seen.
        """
        try:
            wait(self._nodes_up, seconds, "both nodes up")
        except NoCluster as error:
            raise NoCluster(
                f"{error}\n{self.run('sinfo', '--Node', '--list-reasons')}{self.states()}"
            ) from None

    def _nodes_up(self) -> bool:
        """Say if every node can be given jobs. One that was drained, for a job did not end in time, is resumed."""
        states = self.states()
        for node, state in states.items():
            if state.startswith("drain"):
                self.run("scontrol", "update", f"nodename={node}", "state=resume")
        return set(states.values()) <= {"idle", "allocated", "mixed"}

    def _processes(self, node: str) -> list[int]:
        """The processes of this cluster that run on a node: its daemon, what that started, the jobs."""
        marks = {f"SLURM_CONF={self.environment['SLURM_CONF']}".encode(), f"SLURMD_NODENAME={node}".encode()}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if marks <= set(path.read_bytes().split(b"\0")):
                    found.append(int(path.parent.name))
        return found


def _alive(pid_file: Path) -> int | None:
    """The process that a daemon's file names, while it lives; one that nobody waits for leaves its number."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        stat = Path(f"/proc/{pid}/stat").read_text()
        return None if stat[stat.rindex(")") + 2] in "ZX" else pid
    return None


def wait(ready: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `ready()` is true; the commands that it runs may fail meanwhile. Raises NoCluster."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(subprocess.CalledProcessError):
            if ready():
                return
        time.sleep(0.1)
    raise NoCluster(f"not within {seconds:.0f} s: {what}")


@contextlib.contextmanager
def nodes(folder: Path) -> Iterator[Cluster]:
    """Bring the nodes up in `folder`, an empty one, and take them down. Raises NoCluster with the reason."""
    if reason := missing():
        raise NoCluster(reason)
    folder = folder.resolve()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
    environment |= {"PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    cluster = Cluster(folder, environment)
    _write(folder)
    try:
        try:
            _start(cluster)
        except (subprocess.SubprocessError, OSError) as error:
            said = str(getattr(error, "stderr", "") or "").strip()
            raise NoCluster(f"{error} {said}; its logs are in {folder}") from error
        yield cluster
    finally:
        _stop(cluster)


def _write(folder: Path) -> None:
    """Write the files that the daemons read."""
    for name in ("munge", "state", "mariadb", *(f"{part}{node}" for node in NODES for part in ("", "tmp-"))):
        (folder / name).mkdir(parents=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(5)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
    values = dict(zip(("slurmctld", "slurmdbd", "mariadb", *NODES), ports, strict=True))
    values |= {"folder": folder, "user": getpass.getuser(), "partition": PARTITION}
    values |= {"host": socket.gethostname().partition(".")[0], "password": secrets.token_hex(12)}
    for path, content in (
        (folder / "slurm.conf", _SLURM.format(**values)),
        (folder / "slurmdbd.conf", _SLURMDBD.format(**values)),
        (folder / "prolog", f'#!/bin/sh\necho "export TMPDIR={folder}/tmp-$SLURMD_NODENAME"\n'),
        (folder / "grant.sql", _GRANT.format(**values)),
        (folder / "mariadb.port", str(values["mariadb"])),
    ):
        path.write_text(content)
        path.chmod(0o600)
    (folder / "prolog").chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)


def _start(cluster: Cluster) -> None:
    folder, user = cluster.folder, getpass.getuser()
    munge, database = folder / "munge", folder / "mariadb"
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    cluster.run("munged", "--force", *(f"--{option}={munge / name}" for option, name in files.items()))
    mine = ("--no-defaults", f"--user={user}", f"--datadir={database}")
    cluster.run("mariadb-install-db", *mine, "--auth-root-authentication-method=normal", "--skip-test-db")
    port = (folder / "mariadb.port").read_text()
    files = {"socket": "socket", "pid-file": "pid", "log-error": "log"}
    command = [
        "mariadbd",
        *mine,
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--innodb-buffer-pool-size=64M",
    ]
    command += [f"--{option}={database / name}" for option, name in files.items()]
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    subprocess.run(["setsid", "--fork", *command], env=cluster.environment, check=True, **nowhere)
    sql = ("mariadb", "--no-defaults", f"--socket={database / 'socket'}", "--user=root")
    wait(lambda: cluster.run(*sql, f"--execute=source {folder / 'grant.sql'}") == "", 60, "mariadbd answers")
    cluster.run("slurmdbd")
    manager = ("sacctmgr", "--immediate", "add")
    wait(lambda: cluster.run(*manager, "cluster", "virtual"), 60, "slurmdbd answers")
    cluster.run(*manager, "account", ACCOUNT)
    cluster.run(*manager, "user", user, f"account={ACCOUNT}")
    cluster.run("slurmctld")
    wait(lambda: cluster.run("scontrol", "ping"), 60, "slurmctld answers")
    for node in NODES:
        cluster.start(node)
    cluster.wait_for_nodes()


def _stop(cluster: Cluster) -> None:
    """End every daemon and every job, by their own process ids."""
    for node in NODES:
        cluster.switch_off(node)
    for name in ("slurmctld.pid", "slurmdbd.pid", "mariadb/pid", "munge/pid"):
        if pid := _alive(cluster.folder / name):
            os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(NoCluster):
                wait(lambda name=name: not _alive(cluster.folder / name), 15, f"{name}'s process ends")


if __name__ == "__main__":
    try:
        with nodes(Path(sys.argv[1])) as up:
            print(f"two nodes, partition {PARTITION}, account {ACCOUNT}; in another shell:")
            print(f"  export SLURM_CONF={up.environment['SLURM_CONF']}\nCtrl-C takes them down", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except NoCluster as why:
        raise SystemExit(f"no cluster: {why}") from None
