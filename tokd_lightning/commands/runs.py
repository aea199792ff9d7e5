"""Commands on methods and runs: ``methods``, ``evaluate``, ``explain``, ``compare``, ``tour``."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked
from tokd_lightning.errors import TokdError


def add_to(commands: Any) -> None:
    """Add these commands to the parser."""
    methods = commands.add_parser("methods", help="the distillation methods side by side")
    methods.add_argument(
        "--student", default="resnet18_thin", metavar="NET", help="student (resnet18_thin)"
    )
    methods.add_argument(
        "--teacher", default="xception", metavar="NET", help="teacher's branches (xception)"
    )
    methods.add_argument(
        "--size", type=int, default=299, metavar="PX", help="side of the images (299)"
    )
    methods.set_defaults(run=_methods)

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
        help="perturb the frames too: jpeg,h264,blur,noise,resize,contrast,occlusion (all)",
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
        "--errors", type=int, default=4, metavar="N", help="worst errors shown besides (4)"
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

    compare = commands.add_parser("compare", help="runs side by side: a table and the curves")
    compare.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="run folders")
    compare.add_argument(
        "--out",
        type=Path,
        default=Path("runs/compare"),
        metavar="DIR",
        help="folder for table and curves (runs/compare)",
    )
    compare.set_defaults(run=_compare)

    board = commands.add_parser("dashboard", help="a W&B workspace and report of all runs")
    board.add_argument(
        "runs",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="RUNS_DIR",
        help="folder of all run folders (runs)",
    )
    board.add_argument("--project", metavar="P", help="W&B project (WANDB_PROJECT, else tokd)")
    board.add_argument(
        "--entity", metavar="E", help="W&B user or team (WANDB_ENTITY, else your own)"
    )
    board.add_argument(
        "--dry-run", action="store_true", help="print what would be made; needs no account"
    )
    board.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write workspace and report as JSON"
    )
    board.set_defaults(run=_dashboard)

    tour = commands.add_parser("tour", help="the whole main job on the demo data (make demo)")
    tour.add_argument(
        "--data",
        type=Path,
        default=Path("data/demo"),
        metavar="DIR",
        help="demo data, made if need be (data/demo)",
    )
    tour.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of all run folders (runs)",
    )
    tour.add_argument(
        "--quality", nargs="+", default=["c23"], metavar="Q", help="compressions (c23)"
    )
    tour.add_argument(
        "--seed", type=int, nargs="+", default=[0], metavar="S", help="seeds of students (0)"
    )
    tour.add_argument("--workers", type=int, default=2, metavar="N", help="fits at a time (2)")
    tour.set_defaults(run=_tour)


def _methods(options: argparse.Namespace) -> int:
    from tokd_lightning.distillation.catalogue import print_methods

    print_methods(**asked(options))
    return 0


def _refuse_missing(runs: Sequence[Path]) -> None:
    """Raise for a missing run before work on the others begins."""
    for run in runs:
        if not run.exists():
            raise TokdError(f"{run} does not exist: name folders that tokd fit made, runs/NAME")


def _evaluate(options: argparse.Namespace) -> int:
    _refuse_missing(options.runs)
    from tokd_lightning.evaluate import evaluate_command

    return evaluate_command(**asked(options))


def _explain(options: argparse.Namespace) -> int:
    _refuse_missing(options.runs)
    from tokd_lightning.explain import explain_command

    return explain_command(**asked(options))


def _compare(options: argparse.Namespace) -> int:
    from tokd_lightning.tables.compare import compare_runs

    folders = [path for path in options.folders if (path / "fit.yaml").is_file()]
    for path in options.folders:
        if len(options.folders) > 1 and path.is_dir() and path not in folders:
            print(f"{path} is no run folder: left out")
    compare_runs(folders or options.folders, options.out)
    return 0


def _dashboard(options: argparse.Namespace) -> int:
    from tokd_lightning.dashboard import dashboard

    return dashboard(**asked(options))


def _tour(options: argparse.Namespace) -> int:
    from tokd_lightning.tables.demo import run_demo

    return run_demo(options.data, options.runs, options.quality, options.seed, options.workers)
