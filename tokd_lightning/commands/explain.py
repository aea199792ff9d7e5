"""``tokd explain``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked, importing, refuse_missing


def add_to(commands: Any) -> None:
    """Add ``tokd explain`` to the subcommands."""
    explain = commands.add_parser("explain", help="what runs look at: Grad-CAM, RFAMs, frequencies")
    explain.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder, or best.ckpt")
    explain.add_argument(
        "--on", metavar="[NAME=]KIND[-QUALITY]:PATH",
        help="data set (default: the run's own, where its fit.yaml says)",
    )  # fmt: skip
    explain.add_argument("--split", choices=("test", "val"), default="test", help="(test)")
    explain.add_argument(
        "--frames", type=int, default=8, metavar="N", help="frames shown by Grad-CAM (8)"
    )
    explain.add_argument(
        "--errors", type=int, default=4, metavar="N", help="worst errors shown too (4)"
    )
    explain.add_argument(
        "--strides", type=int, nargs="+", choices=(8, 16, 32), default=[32], metavar="S",
        help="strides of the maps that Grad-CAM reads: 8, 16, 32 (32)",
    )  # fmt: skip
    explain.add_argument("--bands", type=int, default=10, metavar="N", help="frequency bands (10)")
    explain.add_argument(
        "--widths", choices=("log", "equal"), default="log", help="how wide they are (log)"
    )
    explain.add_argument(
        "--band-frames",
        type=int,
        metavar="N",
        help="frames per video, scored without each band (the run's)",
    )
    explain.add_argument(
        "--batch-size", type=int, metavar="N", help="frames per batch (default: the run's)"
    )
    explain.add_argument(
        "--workers", type=int, metavar="N", help="dataloader workers (default: the run's)"
    )
    explain.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="(auto)")
    explain.add_argument(
        "--on-error", choices=("fail", "skip"), help="what an unreadable frame does"
    )
    explain.add_argument(
        "--out",
        type=Path,
        default=Path("runs/explanations"),
        metavar="DIR",
        help="folder for figures of several runs (runs/explanations)",
    )
    explain.add_argument("--force", action="store_true", help="explain again, whatever there is")
    explain.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    refuse_missing(options.runs)
    with importing():
        from tokd_lightning.explain import explain_command

    return explain_command(**asked(options))
