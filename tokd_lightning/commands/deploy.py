"""Commands that use a student: ``export``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked


def add_to(commands: Any) -> None:
    """Add them."""
    export = commands.add_parser("export", help="write a student as ONNX or safetensors")
    export.add_argument("source", type=Path, metavar="RUN|CKPT")
    export.add_argument(
        "--format", nargs="+", choices=("onnx", "safetensors"), default=["onnx"], dest="formats"
    )
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument("--data", type=Path, metavar="DIR", help="the run's data, if moved")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from tokd_lightning.deploy.exporting import export

    return export(**asked(options))
