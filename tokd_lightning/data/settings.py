"""How a run was fed, read off its configuration."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tokd_lightning.data.datamodule import FrameDataModule


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments of a run's data module, those that its ``fit.yaml`` does not hold too.

    A configuration is saved without its nulls (``crop``, where whole images are taken), and an
    earlier version's lacks what came later: what is not there is as the class has it.

    Args:
        config: The resolved configuration of a fit.

    Raises:
        LookupError: It has no data module; or TypeError, AttributeError: it is no configuration.
    """
    block = config["data"]
    module, _, name = str(block["class_path"]).rpartition(".")
    try:
        kind = getattr(import_module(module), name)
        known = isinstance(kind, type) and issubclass(kind, FrameDataModule)
    except (ImportError, AttributeError, ValueError):  # a module of one's own, elsewhere now
        known = False
    defaults: dict[str, Any] = {}
    for base in reversed(kind.__mro__ if known else FrameDataModule.__mro__):
        if "__init__" in vars(base) and issubclass(base, FrameDataModule):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.items()
            defaults |= {k: p.default for k, p in parameters if p.default is not p.empty}
    return defaults | dict(block.get("init_args") or {})
