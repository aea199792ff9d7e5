"""The SLURM queue: which of a table's jobs are in it, and why a job waits or has ended."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.errors import TokdError
from tokd_lightning.schedule.jobs import last_line

FOLDER = ".cluster"  # in the folder of runs: submitit's files, and records of queued jobs
_ANSWER = 120  # seconds to wait for an answer of SLURM
_FIELDS = {"JobArrayID": 40, "State": 20, "exit_code": 12, "Reason": 60, "Name": 200}
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}
# Reasons that do not resolve by waiting.
_NEVER = re.compile(
    r"^(Partition(TimeLimit|NodeLimit|Down|Inactive)|DependencyNeverSatisfied|BadConstraints"
    r"|JobHeld\w*|.*held$|Invalid\w+|\w*NotAllowed|\w*WallDuration\w*|\w+PerJob\w*|MaxMemPerLimit"
    r"|(Association|QOS)\w*TimeLimit|ReqNodeNotAvail.*|NodeDown)$"
)
_MEMORY = r"(?i)slurmstepd\S* error: .*(memory|oom)"  # what SLURM writes to the log of a job
_SAID = r"^(?!\$ )"  # not the command, which stands in the log before all that it says
_UNKNOWN = {"", "None", "(null)"}
# These variables tell SLURM's commands where the cluster is; the others change their answers.
_KEPT = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_LIBRARY_PATH"}
_DROPPED = ("SLURM_", "SLURMD_", "SRUN_", "SQUEUE_", "SACCT_", "SCONTROL_", "SUBMITIT_")


class QueuedJob(NamedTuple):
    """A job as reported by SLURM.

    Attributes:
        number: Its id, such as ``100_3``.
        state: ``PENDING``, ``RUNNING``, ``FAILED`` …
        code: How its batch script ended, such as ``exit code 1``; empty on success or before the
            end.
        reason: Why it waits.
        name: Its name.
    """

    number: str
    state: str
    code: str = ""
    reason: str = ""
    name: str = ""

    @property
    def active(self) -> bool:
        """Return whether it is in the queue, waiting or running."""
        return self.state not in _ENDED and not self.ending

    @property
    def ending(self) -> bool:
        """Return whether it is completing: it will leave the queue, or be requeued at its end."""
        return self.state == "COMPLETING"

    @property
    def stuck(self) -> bool:
        """Return whether it waits for a reason that does not resolve by itself."""
        return self.state == "PENDING" and bool(_NEVER.match(self.reason))

    @property
    def undecided(self) -> bool:
        """Return whether SLURM has not considered it yet."""
        return self.state == "PENDING" and self.reason in _UNKNOWN

    def __str__(self) -> str:
        waits = self.state == "PENDING" and self.reason not in _UNKNOWN
        return f"{self.state} ({self.reason})" if waits else self.state


class SubmittedJob(NamedTuple):
    """Stored record of a submitted job.

    Attributes:
        job: Its id.
        cluster: Name of the cluster; empty if an older version wrote the record.
        user: Id of the user who submitted it; negative if an older version wrote the record.
        held: Whether its submission did not complete: the job is on hold, never released.
        since: When it was submitted, in seconds since the Unix epoch.
    """

    job: str
    cluster: str = ""
    user: int = -1
    held: bool = False
    since: float = 0.0


def read_record(path: Path) -> SubmittedJob | None:
    """Read the record of a cell's job; None if it is missing or unreadable."""
    try:
        it, since = json.loads(path.read_text()), path.stat().st_mtime
        cluster = str(it["cluster"]) if "user" in it else ""
        return SubmittedJob(
            str(it["job"]), cluster, int(it.get("user", -1)), bool(it.get("held")), since
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Queue:
    """SLURM's limits, and the jobs of this user and of those who submitted the recorded jobs.

    Args:
        cluster: Name of the cluster.
        max_array: Maximum number of elements of a job array; None if unknown.
        room: Number of further jobs that SLURM accepts, given the jobs known here; None if
            unknown.
        accounting: Whether ``sacct`` keeps records of jobs.
        entries: Id of a job -> the job, ended jobs too for as long as SLURM keeps them.
    """

    cluster: str
    max_array: int | None
    room: int | None
    accounting: bool
    entries: Mapping[str, QueuedJob]

    def of(self, record: SubmittedJob | None) -> QueuedJob | None:
        """Return a record's job; None if it is on another cluster or no longer known to SLURM."""
        if record is None or record.cluster not in {"", self.cluster}:
            return None
        return self.entries.get(record.job)

    def fate(self, record: SubmittedJob, log: Path) -> str:
        """Return how a job that has left the queue ended, with the last line that it wrote.

        Args:
            record: Record of the job.
            log: Log of its run; if this job wrote nothing to it, submitit's log of the job is read.
        """
        entry = self.of(record)
        if entry is None and self.accounting and record.cluster in {"", self.cluster}:
            entry = _accounted(record.job)
        if record.cluster not in {"", self.cluster}:
            how = f"of the cluster {record.cluster}"
        elif entry is None:
            how = "has left the queue"
        else:
            how = ", ".join(filter(None, (entry.state, entry.code)))
        own = log.parent.parent / FOLDER / f"{record.job}_0_log.err"
        written = log.is_file() and log.stat().st_mtime >= record.since
        if said := last_line(own, _MEMORY):  # the run had no time to say anything
            return f"job {record.job} {how}: {said}; --slurm mem_gb=… asks for more (log: {own})"
        source = log if written and last_line(log, _SAID) else own
        said = last_line(source, _SAID)
        return f"job {record.job} {how}" + (f": {said} (log: {source})" if said else "")


def read_queue(records: Iterable[SubmittedJob] = ()) -> Queue:
    """Query SLURM's cluster name, its limits and the jobs of this user and of the records' users.

    Variables that change the answers of SLURM's commands are not passed on, and users are
    identified by id, not by name: a job that is missing here would be submitted twice.

    Raises:
        TokdError: SLURM does not answer.
    """
    users = sorted({os.getuid(), *(record.user for record in records if record.user >= 0)})
    lines = [line.partition("=") for line in ask("scontrol", "show", "config").splitlines()]
    config = {name.strip(): value.strip() for name, _, value in lines}
    fields = ",".join(f"{name}:{width}" for name, width in _FIELDS.items())
    answer = ask(
        *("squeue", "--noheader", "--array", "--all", "--states=all", f"--Format={fields}"),
        f"--user={','.join(map(str, users))}",
    )
    entries = {entry.number: entry for entry in map(_entry, answer.splitlines()) if entry.number}
    largest, most = (config.get(name, "") for name in ("MaxArraySize", "MaxJobCount"))
    return Queue(
        config.get("ClusterName", ""),
        int(largest) if largest.isdigit() else None,
        max(0, int(most) - len(entries) - 1) if most.isdigit() else None,
        not config.get("AccountingStorageType", "none").endswith("none"),
        entries,
    )


def ask(*command: str, said: str | None = None) -> str:
    """Run a SLURM command and return its output.

    Args:
        command: The command.
        said: Its standard input.

    Raises:
        TokdError: It does not exist, fails, or gives no answer.
    """
    try:
        answer = subprocess.run(
            command, input=said, env=environment(), timeout=_ANSWER,
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise TokdError(f"there is no {command[0]} here: it comes with SLURM") from None
    except subprocess.TimeoutExpired:
        raise TokdError(f"{command[0]} gives no answer: nothing was submitted") from None
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise TokdError(f"{command[0]}: {lines[-1]}: nothing was submitted")
    return answer.stdout


def environment() -> dict[str, str]:
    """Return the environment without the variables that a SLURM job or its user set for SLURM.

    Raises:
        TokdError: The environment selects another cluster, which is not supported.
    """
    for name in ("SLURM_CLUSTERS", "SBATCH_CLUSTERS"):
        if os.environ.get(name):
            raise TokdError(
                f"{name} is {os.environ[name]}: jobs of other clusters are not followed, unset it "
                "and start the command where that cluster's jobs are submitted"
            )
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(_DROPPED)
    }


def queue_of(runs: Path, names: Sequence[str]) -> tuple[dict[str, SubmittedJob], Queue | None]:
    """Return the records of some cells' jobs, and the queue.

    Args:
        runs: Folder of all run folders.
        names: Names of the cells.

    Returns:
        Name of a cell -> record, where there is one; and the queue, None without any record or
        without ``squeue``.
    """
    found = {name: read_record(runs / FOLDER / f"{name}.json") for name in names}
    records = {name: record for name, record in found.items() if record is not None}
    if not records or shutil.which("squeue") is None:
        return records, None
    return records, read_queue(records.values())


def _entry(line: str) -> QueuedJob:
    values, start = [], 0
    for width in _FIELDS.values():
        values.append(line[start : start + width].strip())
        start += width
    number, state, code, reason, name = values
    return QueuedJob(number, state, _code(code) if state in _ENDED else "", reason, name)


def _code(text: str) -> str:
    """Describe a wait(2) status, as printed by squeue, in words."""
    if not text.isdigit() or not int(text):
        return ""
    code, number = int(text) >> 8, int(text) & 0x7F
    return f"signal {number}" if number else f"exit code {code}"


def _accounted(number: str) -> QueuedJob | None:
    command = ("sacct", "--jobs", number, "--noheader", "--parsable2", "--allocations", "--format")
    try:
        lines = ask(*command, "State,ExitCode").strip().splitlines()
    except TokdError:  # sacct is missing or does not answer: the message just says less
        return None
    if not lines:
        return None
    state, _, code = lines[-1].partition("|")
    first, _, number_of_signal = code.partition(":")
    how = f"signal {number_of_signal}" if number_of_signal not in {"", "0"} else ""
    how = how or (f"exit code {first}" if first not in {"", "0"} else "")
    return QueuedJob(number, state.split()[0] if state else "UNKNOWN", how)
