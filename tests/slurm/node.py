"""A real Slurm of one node that lives in its own namespaces and leaves nothing behind.

Controller, node daemon, munge and every job run in a private mount namespace, where a folder of ours lies over the
configuration folder that Slurm was compiled with (a job's inner ``srun`` looks only there, not at ``SLURM_CONF``), and
in a private process namespace, so that ending its first process ends them all. Ports, key and sockets are our own: a
Slurm that the machine may already run is neither seen nor disturbed.
"""

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

CONFIG_FOLDER = Path("/etc/slurm")
DAEMONS = ("munged", "slurmctld", "slurmd")
TOOLS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "unshare", "nsenter", "setpriv")
NEW_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")
START_TIMEOUT_S = 60

# The first process of the namespaces: it lays the files in place, then waits, and inherits what the daemons orphan.
FIRST_PROCESS = """
set -e
mount --bind "$1/etc" {config}
mount --bind "$1/hosts" /etc/hosts
touch "$1/ready"
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"""

SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_wait_s}
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
MinJobAge=86400
KillWait=5
MpiDefault=none
GresTypes=gpu
# The node may claim more cores than the machine has.
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""

# A requeued job starts only when its old credential has expired; Slurm's default is two minutes.
REQUEUE_WAIT_S = 15

GPUS = 2


def why_unavailable() -> str | None:
    """Return why no Slurm can be started here, or None where one can."""
    if os.geteuid() != 0:
        return "a Slurm of our own needs root (private mounts)"
    if missing := [program for program in DAEMONS + TOOLS if shutil.which(program, path=search_path()) is None]:
        return f"not installed: {', '.join(missing)} (Debian packages slurm-wlm and munge)"
    if not CONFIG_FOLDER.is_dir():
        return f"{CONFIG_FOLDER}, the compiled-in configuration folder of Debian's Slurm, is absent"
    probe = subprocess.run([*NEW_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"no private namespaces: {probe.stderr.strip()}" if probe.returncode else None


def search_path() -> str:
    """Return PATH with the folders of system daemons, which users' paths often lack."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def free_ports(count: int) -> list[int]:
    """Return TCP ports that nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class SlurmNode(AbstractContextManager["SlurmNode"]):
    """Start Slurm on entering, end it and all its jobs on leaving."""

    def __init__(self, *, cpus: int = 2, memory_mb: int = 8000) -> None:
        self.cpus = cpus
        self.memory_mb = memory_mb
        # Not pytest's folder: the path of a socket must stay below 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self._outer: subprocess.Popen[bytes] | None = None
        self._first_pid = 0

    def __enter__(self) -> Self:
        try:
            self._write_files()
            self._open_namespaces()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def command(self, *words: str, cwd: Path) -> list[str]:
        """Return the command line that runs ``words`` among the daemons, in the folder ``cwd``."""
        # Entering a mount namespace leads to its root folder, hence the env.
        return ["nsenter", f"--target={self._first_pid}", "--mount", "--pid", "--", "env", f"--chdir={cwd}", *words]

    def popen(
        self, words: Sequence[str], *, cwd: Path, log: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program among the daemons, its two outputs in one file."""
        with log.open("ab") as out:
            return subprocess.Popen(
                self.command(*words, cwd=cwd), stdout=out, stderr=subprocess.STDOUT, env=self._environment(env)
            )

    def run(self, *words: str, timeout_s: float = 60) -> str:
        """Run a short command among the daemons and return what it prints.

        Raises
        ------
        RuntimeError
            If it fails; the message holds its error output.
        """
        done = subprocess.run(
            self.command(*words, cwd=self.folder),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self._environment(None),
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}{self.logs()}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Return all jobs that the controller remembers: id, state, comment (rule and wildcards), gres and memory."""
        fields = {"id": "%i", "state": "%T", "comment": "%k", "partition": "%P", "gpus": "%b", "memory": "%m"}
        lines = self.run("squeue", "--noheader", "--states=all", "--format=" + "|".join(fields.values())).splitlines()
        return [dict(zip(fields, line.split("|"), strict=True)) for line in lines if line.strip()]

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        parts = []
        for log in sorted(self.folder.glob("*.log")):
            tail = log.read_text(errors="replace").splitlines()[-15:]
            parts.append(f"\n--- {log.name}\n" + "\n".join(tail))
        return "".join(parts)

    def stop(self) -> None:
        """End everything in the namespaces and remove the folder; harmless when repeated."""
        if self._outer is not None:
            # With the outer process goes the namespace's first (--kill-child), and with that all daemons and jobs.
            self._outer.kill()
            self._outer.wait()
            deadline = time.monotonic() + 10
            while Path(f"/proc/{self._first_pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            self._outer = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        # What an outer Slurm, or SLURM_CONF, would say about itself must not reach this one.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        return {**inherited, "PATH": search_path(), **(extra or {})}

    def _write_files(self) -> None:
        # Munge refuses sockets that other users could not reach.
        self.folder.chmod(0o755)
        for name in ("etc", "state", "spool"):
            (self.folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        controller_port, node_port = free_ports(2)
        text = SLURM_CONF.format(
            host=host,
            controller_port=controller_port,
            node_port=node_port,
            folder=self.folder,
            cpus=self.cpus,
            memory_mb=self.memory_mb,
            gpus=GPUS,
            requeue_wait_s=REQUEUE_WAIT_S,
        )
        (self.folder / "etc/slurm.conf").write_text(text)
        # Slurm takes only device files for GPUs: ours are copies of /dev/null.
        gpus = [self.folder / f"gpu{number}" for number in range(GPUS)]
        for gpu in gpus:
            os.mknod(gpu, stat.S_IFCHR | 0o666, os.stat(os.devnull).st_rdev)
        (self.folder / "etc/gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in gpus))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {host}\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)

    def _open_namespaces(self) -> None:
        first_process = ["bash", "-c", FIRST_PROCESS.format(config=CONFIG_FOLDER), "first-process", str(self.folder)]
        self._outer = subprocess.Popen(
            # --pdeathsig: should the tests themselves be killed, Slurm must not stay.
            ["setpriv", "--pdeathsig=KILL", *NEW_NAMESPACES, "--kill-child", *first_process],
            stdin=subprocess.DEVNULL,
        )
        self._wait_for((self.folder / "ready").exists, "the namespaces")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self._first_pid = int(children[0])

    def _start_daemons(self) -> None:
        folder = self.folder
        self.run(
            "munged",
            f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munge.seed",
        )
        self.run("slurmctld", "-c")
        self.run("slurmd")
        self._wait_for(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T"), "an idle node")

    def _wait_for(self, condition: object, what: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._holds(condition):
            if self._outer is not None and self._outer.poll() is not None:
                raise TimeoutError(f"waiting for {what}: the first process ended{self.logs()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {START_TIMEOUT_S} s for {what}{self.logs()}")
            time.sleep(0.2)

    @staticmethod
    def _holds(condition: object) -> bool:
        try:
            return bool(condition())  # type: ignore[operator]
        except RuntimeError:  # the controller does not answer yet
            return False
