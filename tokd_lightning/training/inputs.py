"""``tokd inputs``: the hashes of data and teacher that a fit would record."""

import json
from typing import Any

from jsonargparse import ArgumentParser

from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.errors import renamed
from tokd_lightning.modules.checkpoint import state_hash
from tokd_lightning.training.cli import TokdCLI
from tokd_lightning.training.console import mistakes_in_one_line, quieten


class _Parsed(TokdCLI):
    """CLI that reads a configuration and builds nothing."""

    def before_instantiate_classes(self) -> None:
        """Skip the handling of an earlier run."""

    def instantiate_classes(self) -> None:
        """Skip building model, data and trainer."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def print_inputs(args: list[str]) -> int:
    """Print the hashes of data and teacher as JSON.

    Args:
        args: Arguments of ``tokd fit``.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: The arguments are wrong, or the data cannot be read.
    """
    quieten()
    with renamed({"tokd fit --config": "tokd inputs --config"}), mistakes_in_one_line():
        config = _Parsed(["fit", *args]).resolved
        hashes = _data(config["data"]).data_hashes()
    if teacher := config["model"]["init_args"].get("teacher"):
        hashes["teacher"] = state_hash(teacher)
    print(json.dumps(hashes))
    return 0


def _data(block: dict[str, Any]) -> FrameDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(FrameDataModule, "data")
    built = parser.instantiate_classes(parser.parse_object({"data": block}))
    data: FrameDataModule = built.data
    return data
