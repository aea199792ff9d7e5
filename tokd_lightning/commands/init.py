"""``tokd init``."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from tokd_lightning.commands import print_next
from tokd_lightning.errors import TokdError, reason
from tokd_lightning.runs.recipe import recipes

_FOLDERS = ("experiments", "configs")


def add_to(commands: Any) -> None:
    """Add ``tokd init`` to the subcommands."""
    init = commands.add_parser("init", help="copy the shipped experiments to a folder, to edit")
    init.add_argument("folder", type=Path, metavar="DIR", help="new or existing folder")
    init.set_defaults(run=_init)


def _init(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    for name in _FOLDERS:
        if (folder / name).exists():
            raise TokdError(f"{folder / name} exists: it is not replaced; give another DIR")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FOLDERS:
            shutil.copytree(recipes() / name, folder / name)
    except OSError as error:  # shutil's own error has a list for a text
        raise TokdError(f"{folder} cannot be written: {reason(error)}; give another DIR") from error
    count = len(list((folder / "experiments").glob("*.yaml")))
    print(f"{folder}: {count} experiments, and their parts in configs/")
    if folder.resolve() != Path.cwd():
        print(f"next: cd {folder}")
    print_next("fit", "--config", "experiments/ffpp_teacher.yaml", "--data.root", "DIR")
    return 0
