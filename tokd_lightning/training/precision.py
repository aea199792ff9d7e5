"""Default precision of a run."""

from typing import Any

import torch
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.utilities import rank_zero_info

from tokd_lightning.runs.identity import Config

_AMPERE = 8  # compute capability of the first GPUs with bfloat16


def default_precision(accelerator: Any, devices: Any) -> str:
    """Return ``bf16-mixed`` if all GPUs of a trainer support it, else ``32-true``.

    Args:
        accelerator: ``--trainer.accelerator``.
        devices: ``--trainer.devices``; all of them must support it.
    """
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return "32-true"
    given = CUDAAccelerator.auto_device_count() if devices == "auto" else devices
    chosen = CUDAAccelerator.parse_devices(given) or []
    able = [torch.cuda.get_device_capability(device)[0] >= _AMPERE for device in chosen]
    return "bf16-mixed" if able and all(able) else "32-true"


def settle_precision(config: Config, run: Config | None) -> str | None:
    """Return the precision to train or test in, and log where it comes from.

    An explicit precision, also one given by a plugin, has priority. Next is that of the run to be
    resumed or tested, so that a run on two machines keeps one precision. A new run uses the
    machine's default.

    Args:
        config: The resolved configuration.
        run: The configuration the run was started with; None for a new run.
    """
    trainer = config["trainer"]
    asked: str | None = trainer.get("precision")
    if asked is not None or "Precision" in str(trainer.get("plugins")):
        return asked
    default = default_precision(trainer["accelerator"], trainer["devices"])
    if run is None:
        if default != "32-true":
            rank_zero_info(f"precision: {default}, which --trainer.precision changes")
        return default
    own: str | None = run.get("trainer", {}).get("precision")
    if (own or "32-true") != default:
        rank_zero_info(f"precision: {own or '32-true'}, as the run was started, not {default}")
    return own
