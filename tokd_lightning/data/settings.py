"""Data settings of a run, read from its configuration."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.errors import TokdError


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments of a run's data module, including those that its ``fit.yaml`` lacks.

    A configuration is saved without its nulls (``crop``, if whole images are taken), and that of an
    earlier version lacks later arguments: missing ones have the defaults of the class.

    Args:
        config: The resolved configuration of a fit.

    Raises:
        LookupError: It has no data module.
        TypeError: It is not a configuration.
        AttributeError: It is not a configuration.
    """
    block = config["data"]
    module, _, name = str(block["class_path"]).rpartition(".")
    try:
        kind = getattr(import_module(module), name)
        known = isinstance(kind, type) and issubclass(kind, FrameDataModule)
    except (ImportError, AttributeError, ValueError):  # a custom module that has moved
        known = False
    defaults: dict[str, Any] = {}
    for base in reversed(kind.__mro__ if known else FrameDataModule.__mro__):
        if "__init__" in vars(base) and issubclass(base, FrameDataModule):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.items()
            defaults |= {k: p.default for k, p in parameters if p.default is not p.empty}
    return defaults | dict(block.get("init_args") or {})


def module_of(config: Mapping[str, Any], root: Path | None = None) -> FrameDataModule:
    """Build a run's data module for reading frames outside training.

    Args:
        config: The resolved configuration of a fit.
        root: Where the data are now; by default where the configuration says.

    Raises:
        TokdError: There is no such data module.
    """
    given = dict(config["data"]["init_args"])
    module, _, name = str(config["data"]["class_path"]).rpartition(".")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise TokdError(f"{module}.{name} does not exist") from error
    if root is not None:
        given["root"] = root
    given |= {"augmentation": [], "teacher_quality": None, "num_workers": 0}
    data: FrameDataModule = kind(**given)
    return data
