"""Parameters of ``--slurm KEY=VALUE``: submitit's names, for its jobs and for sbatch scripts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokd_lightning.errors import TokdError

# A cell is one task on one node, so nodes and ntasks_per_node are not supported.
PARAMETERS = (
    *("account", "array_parallelism", "comment", "constraint", "cpus_per_gpu", "cpus_per_task"),
    *("exclude", "exclusive", "gpus_per_node", "gpus_per_task", "gres", "job_name", "mail_type"),
    *("mail_user", "mem", "mem_per_cpu", "mem_per_gpu", "nodelist", "partition", "qos", "setup"),
    *("signal_delay_s", "time", "wckey"),
)
# submitit's names in its cluster-independent interface.
_ALIASES = {"mem_gb": "mem", "name": "job_name", "timeout_min": "time"}
_DEFAULTS = {"time": 1440, "array_parallelism": 8}
_SET_BY_US = {
    *("array_inx", "error", "export", "export_file", "get_user_env", "hold", "input", "job_name"),
    *("no_requeue", "open_mode", "output", "requeue", "signal", "wait", "wrap"),
}
_GPUS = ("gpus_per_node", "gpus_per_task", "gres")


def slurm_parameters(given: Sequence[str]) -> dict[str, Any]:
    """Parse SLURM parameters.

    Args:
        given: ``KEY=VALUE`` each; ``setup=COMMAND`` may be given several times.

    Returns:
        Parameters for submitit's ``SlurmExecutor``, ``time`` in minutes.

    Raises:
        TokdError: A parameter does not exist, or its value is invalid.
    """
    parameters: dict[str, Any] = dict(_DEFAULTS)
    for text in given:
        key, equals, value = text.partition("=")
        name = _ALIASES.get(key, key)
        if not equals or not value or "\n" in value:
            raise TokdError(f"--slurm {text}: write KEY=VALUE, such as partition=gpu")
        if name not in PARAMETERS:
            known = ", ".join(sorted((*PARAMETERS, *_ALIASES)))
            raise TokdError(f"--slurm {text}: choose from {known}")
        if name == "setup":
            parameters.setdefault("setup", []).append(value)
        else:
            parameters[name] = _value(key, value)
    return parameters


def obeyed(variable: str, parameters: Mapping[str, Any]) -> bool:
    """Return whether an sbatch variable, such as ``SBATCH_PARTITION``, may be kept.

    Such variables override the options in a script, so those that set what our jobs or ``--slurm``
    set are removed.
    """
    name = variable.removeprefix("SBATCH_").lower()
    name = {"mem_per_node": "mem", "timelimit": "time"}.get(name, name)
    return name not in _SET_BY_US and name not in parameters


def asks_for_gpus(parameters: dict[str, Any]) -> bool:
    """Return whether the jobs request a GPU."""
    return any(name in parameters for name in _GPUS)


def _value(key: str, value: str) -> Any:
    try:
        if key in {"time", "timeout_min"}:
            return _minutes(value)
        if key == "mem_gb":
            return f"{_positive(float(value) * 1024)}M"
        if key in {"array_parallelism", "signal_delay_s"}:
            return _positive(int(value))
    except ValueError:
        what = "minutes, or D-HH:MM:SS" if key in {"time", "timeout_min"} else "a positive number"
        raise TokdError(f"--slurm {key}={value}: give {what}") from None
    return True if value.lower() == "true" else value


def _positive(number: float) -> int:
    if not number >= 1:
        raise ValueError
    return int(number)


def _minutes(text: str) -> int:
    """Parse a time limit in SLURM's forms (M, M:S, H:M:S, D-H, D-H:M, D-H:M:S) to minutes."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        raise ValueError
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not dash:
        parts = [0] * (len(parts) < 3) + parts  # the first number is minutes unless there are three
    hours, minutes, seconds = (*parts, 0, 0, 0)[:3]
    return _positive(int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0))
