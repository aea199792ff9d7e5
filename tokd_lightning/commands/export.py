"""``tokd export``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked, importing


def add_to(commands: Any) -> None:
    """Add ``tokd export`` to the subcommands."""
    export = commands.add_parser("export", help="write a student as ONNX, safetensors or a page")
    export.add_argument("source", type=Path, metavar="RUN|CKPT", help="run folder, or checkpoint")
    export.add_argument(
        "--format", type=_formats, default=["onnx"], dest="formats", metavar="A,B",
        help="onnx (default), onnx-int8, safetensors, web: several with commas between them",
    )  # fmt: skip
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    export.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the run's data, if it was moved"
    )
    export.add_argument(
        "--detector", metavar="D",
        help="haar, mtcnn, none, a YuNet .onnx (default: what cropped the training frames)",
    )  # fmt: skip
    export.add_argument(
        "--calibrate", action="store_true",
        help="divide the logits by the temperature that fits the validation scores",
    )  # fmt: skip
    export.add_argument(
        "--runtime", type=Path, metavar="DIR",
        help="folder of onnxruntime-web, for --format web without npm",
    )  # fmt: skip
    export.set_defaults(run=_export)


def _formats(text: str) -> list[str]:
    names = text.split(",")
    known = ("onnx", "onnx-int8", "safetensors", "web")
    if unknown := set(names).difference(known):
        said = f"{min(unknown)!r} is not one of {', '.join(known)}"
        raise argparse.ArgumentTypeError(said)
    return names


def _export(options: argparse.Namespace) -> int:
    with importing():
        from tokd_lightning.deploy.export import export

    return export(**asked(options))
