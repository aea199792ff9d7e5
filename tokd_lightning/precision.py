"""The precision of a run whose configuration leaves it open."""

from typing import Any

import torch
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.utilities import rank_zero_info

from tokd_lightning.naming import Config

_AMPERE = 8  # compute capability from which a GPU multiplies bfloat16


def default_precision(accelerator: Any, devices: Any) -> str:
    """Return ``bf16-mixed`` where a trainer runs on GPUs that have it, else ``32-true``.

    Args:
        accelerator: ``--trainer.accelerator``.
        devices: ``--trainer.devices``; all of them count.
    """
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return "32-true"
    given = CUDAAccelerator.auto_device_count() if devices == "auto" else devices
    chosen = CUDAAccelerator.parse_devices(given) or []
    able = [torch.cuda.get_device_capability(device)[0] >= _AMPERE for device in chosen]
    return "bf16-mixed" if able and all(able) else "32-true"


def settle_precision(config: Config, run: Config | None) -> str | None:
    """Return the precision to train or test in, and say where it comes from.

    What is asked for counts, by a plugin too. Else it is that of the run which a fit goes on with
    or a test is of: no run is of two precisions because it met two machines. A new run takes that
    of the machine.

    Args:
        config: The resolved configuration.
        run: The configuration that the run was started with; None for a new one.
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
