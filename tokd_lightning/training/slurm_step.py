"""SLURM step whose tasks are the processes of one run."""

import os
import re
from pathlib import Path

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

_BATCH = re.compile(r"slurmstepd: \[[^]]*\.batch\]")
_PORTS = 10_000


class StepEnvironment(SLURMEnvironment):
    """Cluster environment with a step's tasks as Lightning's processes, whatever the job's options.

    Lightning's class uses the job's options: it refuses ``--ntasks`` without ``--ntasks-per-node``,
    and steps smaller than their job. It also requeues, which is left to the job script here.
    """

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    @staticmethod
    def _validate_srun_used() -> None:
        """Do nothing: there is a step."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """Do nothing: :func:`~tokd_lightning.training.launch.check_processes` checks them."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Do nothing: :func:`~tokd_lightning.training.launch.check_processes` checks them."""

    def world_size(self) -> int:
        """Return the number of tasks of the step."""
        return int(os.environ["SLURM_STEP_NUM_TASKS"])

    @property
    def main_address(self) -> str:
        """Address of the step's first node; not every node can resolve its own name."""
        if "MASTER_ADDR" not in os.environ:
            nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_NODELIST"]
            alone = len(tasks_per_node()) == 1
            first = "127.0.0.1" if alone else self.resolve_root_node_address(nodes)
            os.environ["MASTER_ADDR"] = first
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """Port of the step; two steps of a job can run at once."""
        if "MASTER_PORT" not in os.environ:
            job, step = (int(os.environ[name]) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
            os.environ["MASTER_PORT"] = str(15_000 + (job + 101 * step) % _PORTS)
        return int(os.environ["MASTER_PORT"])


def started_by_srun() -> bool:
    """Return whether this process is one of several tasks of a step.

    A job has tasks before any is started, so ``SLURM_NTASKS`` is no evidence. Jobs submitted
    within a step, and the shell of ``srun --pty``, inherit the step's variables.
    """
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2 or _in_batch_script():
        return False
    in_shell = os.environ.get("SLURM_TASK_PID") != str(os.getpid())
    return not ("SLURM_PTY_PORT" in os.environ and in_shell)


def tasks_per_node() -> list[int]:
    """Return the number of tasks of the step on each of its nodes, from ``2(x3),1``."""
    text = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ["SLURM_STEP_NUM_TASKS"]
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def _in_batch_script() -> bool:
    """Return whether this process belongs to a batch script's SLURM task."""
    if "/step_batch" in _read(Path("/proc/self/cgroup")):
        return True
    task = os.environ.get("SLURM_TASK_PID", "")
    status = _read(Path("/proc") / task / "status") if task.isdigit() else ""
    parent = re.search(r"^PPid:\s*(\d+)$", status, re.MULTILINE)
    command = _read(Path("/proc") / parent[1] / "cmdline") if parent else ""
    return bool(_BATCH.match(command))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # inaccessible or gone
        return ""
