"""A real SLURM on this machine, without systemd and accounting, in a folder of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

PROGRAMS = (
    "setpriv",
    "munged",
    "slurmctld",
    "slurmd",
    "sbatch",
    "squeue",
    "srun",
    "scontrol",
    "scancel",
)
FREEZER = Path("/sys/fs/cgroup/freezer")
SBIN = ":/usr/sbin:/sbin"


def missing() -> str:
    """Say what is missing to start it; nothing where it can be."""
    for program in PROGRAMS:
        if shutil.which(program, path=f"{os.environ['PATH']}{SBIN}") is None:
            return f"no {program} (Debian: slurmctld slurmd slurm-client munge)"
    return ""


def no_cgroups() -> str:
    """Say why processes cannot be told by cgroups here; nothing where they can."""
    trial = FREEZER / f"tokd-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        return f"no cgroup of our own below {FREEZER}: {error.strerror}"
    return ""


def wait(what: Callable[[], object], seconds: float, told: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, told
        time.sleep(0.2)


class Cluster:
    """One controller and some nodes, all of them this machine.

    Args:
        folder: A short path: sockets are in it.
        proctrack: How SLURM knows the processes of a job.
        options: Further lines of slurm.conf.
    """

    def __init__(self, folder: Path, proctrack: str, options: Mapping[str, str]) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self.host = socket.gethostname().partition(".")[0]
        self.nodes = [self.host, f"{self.host}-2"]
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        ports = _free_ports(3)
        lines = {
            **{"ClusterName": "trial", "SlurmctldHost": f"{self.host}(127.0.0.1)"},
            **{"SlurmUser": _user(), "SlurmdUser": _user(), "SlurmctldPort": ports[0]},
            **{"AuthType": "auth/munge", "AuthInfo": f"socket={folder}/munge,cred_expire=5"},
            **{"CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny"},
            **{"StateSaveLocation": folder / "state", "SlurmdSpoolDir": f"{folder}/spool/%n"},
            **{"SlurmctldPidFile": folder / "ctld.pid", "SlurmdPidFile": f"{folder}/%n.pid"},
            **{"SlurmctldLogFile": folder / "ctld.log", "SlurmdLogFile": f"{folder}/%n.log"},
            **{"ProctrackType": proctrack, "TaskPlugin": "task/none", "MpiDefault": "none"},
            **{"JobAcctGatherType": "jobacct_gather/none", "ReturnToService": 2},
            **{"AccountingStorageType": "accounting_storage/none", "GresTypes": "gpu"},
            **{"SelectType": "select/cons_tres", "SelectTypeParameters": "CR_CPU"},
            **{"SchedulerParameters": "batch_sched_delay=0,sched_min_interval=0,bf_interval=2"},
            **{"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"},
            **{"KillWait": 20, "MinJobAge": 600, "SlurmdParameters": "config_overrides"},
            **options,
        }
        made = [f"{name}={value}" for name, value in lines.items()]
        made += [
            f"NodeName={node} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} CPUs=8 "
            "Gres=gpu:4 State=UNKNOWN"
            for node, port in zip(self.nodes, ports[1:], strict=True)
        ]
        made += [
            "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1",
            "PartitionName=short Nodes=ALL MaxTime=10",
            f"PartitionName=urgent Nodes={self.host} PriorityTier=10 PreemptMode=off",
            f"PartitionName=lost Nodes={self.host} PriorityTier=1 PreemptMode=cancel",
        ]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text("\n".join(made) + "\n")
        for number in range(4):  # files that are devices and always there
            (folder / f"gpu{number}").symlink_to(os.devnull)
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
        folder.chmod(0o755)
        (folder / "cgroup.conf").write_text(
            "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n"
        )

    def start(self) -> None:
        """Start it and wait for its nodes."""
        key, place = self.folder / "munge.key", self.folder
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self._begin(
            *("munged", "--foreground", "--force", f"--socket={place}/munge", f"--key-file={key}"),
            *(f"--pid-file={place}/munged.pid", f"--log-file={place}/munged.log"),
            f"--seed-file={place}/munge.seed",
        )
        wait((place / "munge").exists, 20, "munged does not answer")
        self._begin("slurmctld", "-D", "-f", str(place / "slurm.conf"))
        wait(lambda: not self._code("scontrol", "ping"), 30, "slurmctld does not answer")
        for node in self.nodes:
            self._begin("slurmd", "-D", "-f", str(place / "slurm.conf"), "-N", node)
        states = ("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T")
        wait(lambda: self(*states).split() == ["idle", "idle"], 60, "the nodes do not come up")

    def stop(self) -> None:
        """End all of it, its jobs included."""
        with suppress(subprocess.SubprocessError, AssertionError):
            self.clear()
        for process in reversed(self._started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for node in self.nodes:  # slurmd leaves them
            groups = sorted((FREEZER / f"slurm_{node}").rglob("*/"), reverse=True)
            for group in [*groups, FREEZER / f"slurm_{node}"]:
                with suppress(OSError):
                    group.rmdir()

    def clear(self) -> None:
        """Cancel all jobs and wait until they are gone."""
        user = str(os.getuid())
        subprocess.run(["scancel", "--user", user], env=self._env(), check=False)
        wait(lambda: not self("squeue", "--noheader").strip(), 60, "jobs stay in the queue")

    def __call__(self, *command: str) -> str:
        """Run one of SLURM's programs and return what it prints."""
        answer = subprocess.run(
            command, env=self._env(), capture_output=True, text=True, timeout=120, check=False
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job."""
        words = self("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, number: str, *states: str, seconds: float = 60) -> dict[str, str]:
        """Wait until a job is in one of some states."""
        told = f"job {number} does not become {states}"
        wait(lambda: self.job(number)["JobState"] in states, seconds, told)
        return self.job(number)

    def _begin(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("ab") as out:
            self._started.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *command],  # also where a test is killed
                    env=self._env(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=True,
                )
            )  # fmt: skip

    def _code(self, *command: str) -> int:
        return subprocess.run(command, env=self._env(), capture_output=True).returncode

    def _env(self) -> dict[str, str]:
        path = f"{os.environ['PATH']}{SBIN}"  # of now: a test has programs of its own there
        plain = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
        return plain | self.environment | {"PATH": path}


def running(folder: Path, proctrack: str, **options: str) -> Iterator[Cluster]:
    """Start a cluster, for a fixture, and end it after."""
    cluster = Cluster(folder, proctrack, options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
