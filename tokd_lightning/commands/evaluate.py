"""``tokd evaluate``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked, importing, refuse_missing


def add_to(commands: Any) -> None:
    """Add ``tokd evaluate`` to the subcommands."""
    evaluate = commands.add_parser("evaluate", help="runs on any data sets (Table 7): AUC, EER, …")
    evaluate.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder, or best.ckpt")
    evaluate.add_argument(
        "--on", action="append", required=True, metavar="[NAME=]KIND[-QUALITY]:PATH",
        help="data set: celebdf:DIR, ffpp-c23:DIR, own:DIR or own:FILE.csv|.json; may be repeated",
    )  # fmt: skip
    evaluate.add_argument("--split", choices=("test", "val"), default="test", help="(test)")
    evaluate.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that a FILE's paths are relative to"
    )
    evaluate.add_argument(
        "--frames", type=int, metavar="N", help="frames per video (default: the run's)"
    )
    evaluate.add_argument(
        "--batch-size", type=int, metavar="N", help="frames per batch (default: the run's)"
    )
    evaluate.add_argument(
        "--workers", type=int, metavar="N", help="dataloader workers (default: the run's)"
    )
    evaluate.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto", help="(auto)")
    evaluate.add_argument(
        "--precision", choices=("32-true", "16-mixed", "bf16-mixed"), help="(the run's)"
    )
    evaluate.add_argument(
        "--on-error", choices=("fail", "skip"), help="what an unreadable frame does"
    )
    evaluate.add_argument(
        "--robustness", nargs="?", const="all", metavar="NAME,…",
        help="perturb the frames too: jpeg,h264,blur,noise,resize,brightness,contrast,occlusion "
        "(all)",
    )  # fmt: skip
    evaluate.add_argument(
        "--details", action="store_true", help="show calibration, thresholds and methods"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of the table")
    evaluate.add_argument("--force", action="store_true", help="evaluate again, whatever there is")
    evaluate.add_argument(
        "--update",
        action="store_true",
        help="evaluate again where weights, data or code have changed",
    )
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    refuse_missing(options.runs)
    with importing():
        from tokd_lightning.evaluation import evaluate_command

    return evaluate_command(**asked(options))
