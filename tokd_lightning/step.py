"""A step of SLURM, whose tasks are the processes of one run."""

import os
import re
from pathlib import Path

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

_BATCH = re.compile(r"slurmstepd: \[[^]]*\.batch\]")
_PORTS = 10_000


class StepEnvironment(SLURMEnvironment):
    """The tasks of a step as Lightning's processes, whatever the job's own options are.

    Lightning's class goes by the job: it refuses ``--ntasks`` without ``--ntasks-per-node``, and
    steps that are smaller than their job. It also requeues, which is for the job script here.
    """

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    @staticmethod
    def _validate_srun_used() -> None:
        """Known: there is a step."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """Leave it to what compares the step with what was asked for."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Leave it to what compares the step with what was asked for."""

    def world_size(self) -> int:
        """Return the number of tasks of the step."""
        return int(os.environ["SLURM_STEP_NUM_TASKS"])

    @property
    def main_address(self) -> str:
        """Address of the step's first node; not every node knows its own name."""
        if "MASTER_ADDR" not in os.environ:
            nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_NODELIST"]
            alone = len(tasks_per_node()) == 1
            first = "127.0.0.1" if alone else self.resolve_root_node_address(nodes)
            os.environ["MASTER_ADDR"] = first
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """Port of the step, so that two steps of a job can run side by side."""
        if "MASTER_PORT" not in os.environ:
            job, step = (int(os.environ[name]) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
            os.environ["MASTER_PORT"] = str(15_000 + (job + 101 * step) % _PORTS)
        return int(os.environ["MASTER_PORT"])


def started_by_srun() -> bool:
    """Return whether this process is one of several tasks of a step.

    A job has tasks before anything has started them, so ``SLURM_NTASKS`` tells nothing. What a
    step sets is handed on to jobs that are submitted in it, and to the shell of ``srun --pty``.
    """
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2 or _in_batch_script():
        return False
    in_shell = os.environ.get("SLURM_TASK_PID") != str(os.getpid())
    return not ("SLURM_PTY_PORT" in os.environ and in_shell)


def tasks_per_node() -> list[int]:
    """Return how many tasks the step has on each of its nodes, from ``2(x3),1``."""
    text = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ["SLURM_STEP_NUM_TASKS"]
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def _in_batch_script() -> bool:
    """Return whether the task of SLURM that this process belongs to is a batch script."""
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
    except OSError:  # hidden, or gone
        return ""
