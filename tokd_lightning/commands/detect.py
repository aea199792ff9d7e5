"""``tokd detect``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked


def add_to(commands: Any) -> None:
    """Add ``tokd detect`` to the subcommands."""
    detect = commands.add_parser("detect", help="score images, folders and videos")
    detect.add_argument(
        "model", type=Path, metavar="MODEL", help="what tokd export wrote, or hf:OWNER/NAME"
    )
    detect.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="images, videos, folders; - is a file on standard input",
    )
    live = detect.add_mutually_exclusive_group()
    live.add_argument(
        "--camera", metavar="N", help="score a camera once a second until Ctrl-C: 0 is the first"
    )
    live.add_argument(
        "--watch", type=Path, metavar="DIR", help="score files as they arrive in a folder"
    )
    said = detect.add_mutually_exclusive_group()
    said.add_argument("--json", action="store_true", help="print JSON instead of the table")
    said.add_argument("--csv", action="store_true", help="print CSV, one row per file")
    detect.add_argument(
        "--annotate", type=Path, metavar="DIR", help="write pictures with face, score and heatmap"
    )
    detect.add_argument(
        "--backend", choices=("onnx", "onnx-int8", "torch"), default="onnx", help="runtime (onnx)"
    )
    detect.add_argument("--frames", type=int, default=32, metavar="N", help="frames per video (32)")
    detect.add_argument(
        "--detector", metavar="D", help="haar, mtcnn, none, a YuNet .onnx (default: as in training)"
    )
    detect.add_argument(
        "--faces",
        choices=("largest", "all"),
        default="largest",
        help="score the largest face of a file (default), or all of them",
    )
    detect.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="call a file fake from this P(fake) on (default: the model's)",
    )
    detect.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="faces per batch (32)"
    )
    detect.add_argument(
        "--workers", type=int, metavar="N", help="processes that read files (one per core)"
    )
    detect.add_argument(
        "--time-limit", type=float, default=60.0, metavar="S", help="seconds for one file (60)"
    )
    detect.set_defaults(run=_detect)


def _detect(options: argparse.Namespace) -> int:
    from tokd_lightning.deploy.detect import detect

    return detect(**asked(options))
