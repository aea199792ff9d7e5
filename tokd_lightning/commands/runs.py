"""Commands on methods and runs: ``methods``, ``evaluate``, ``explain``, ``compare``, ``tour``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked


def add_to(commands: Any) -> None:
    """Add them."""
    methods = commands.add_parser("methods", help="the distillation methods side by side")
    methods.add_argument("--student", default="resnet18_thin", metavar="BACKBONE")
    methods.add_argument("--teacher", default="xception", metavar="BACKBONE")
    methods.add_argument("--size", type=int, default=299, metavar="PX", help="of the images (299)")
    methods.set_defaults(run=_methods)

    evaluate = commands.add_parser("evaluate", help="runs on any data sets (Table 7): AUC, EER, …")
    evaluate.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder, or best.ckpt")
    evaluate.add_argument(
        "--on", action="append", required=True, metavar="[NAME=]KIND[-QUALITY]:PATH",
        help="celebdf:DIR, ffpp-c23:DIR, own:DIR or own:FILE.csv|.json; again for another",
    )  # fmt: skip
    evaluate.add_argument("--split", choices=("test", "val"), default="test")
    evaluate.add_argument("--root", type=Path, metavar="DIR", help="of the frames that FILEs list")
    evaluate.add_argument("--frames", type=int, metavar="N", help="per video (default: the run's)")
    evaluate.add_argument("--batch-size", type=int, metavar="N", help="default: the run's")
    evaluate.add_argument("--workers", type=int, metavar="N", help="decoding (default: the run's)")
    evaluate.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    evaluate.add_argument("--precision", choices=("32-true", "16-mixed", "bf16-mixed"))
    evaluate.add_argument("--on-error", choices=("fail", "skip"), help="at an unreadable frame")
    evaluate.add_argument(
        "--robustness", nargs="?", const="all", metavar="NAME,…",
        help="perturbed too: jpeg,h264,blur,noise,resize,contrast,occlusion, or all of them",
    )  # fmt: skip
    evaluate.add_argument(
        "--details", action="store_true", help="show calibration, thresholds, forgeries"
    )
    evaluate.add_argument("--json", action="store_true", help="for programs")
    evaluate.add_argument("--force", action="store_true", help="evaluate again")
    evaluate.add_argument("--update", action="store_true", help="evaluate again what has changed")
    evaluate.set_defaults(run=_evaluate)

    explain = commands.add_parser("explain", help="what runs look at: Grad-CAM, RFAMs, frequencies")
    explain.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder, or best.ckpt")
    explain.add_argument(
        "--on", metavar="[NAME=]KIND[-QUALITY]:PATH",
        help="other data, or the run's own where they lie now (default: as its fit.yaml says)",
    )  # fmt: skip
    explain.add_argument("--split", choices=("test", "val"), default="test")
    explain.add_argument("--frames", type=int, default=8, metavar="N", help="for Grad-CAM (8)")
    explain.add_argument("--errors", type=int, default=4, metavar="N", help="worst beside them (4)")
    explain.add_argument(
        "--strides", type=int, nargs="+", choices=(8, 16, 32), default=[32], metavar="S",
        help="of the maps that Grad-CAM reads: 8, 16, 32 (32)",
    )  # fmt: skip
    explain.add_argument("--bands", type=int, default=10, metavar="N", help="of frequency (10)")
    explain.add_argument("--widths", choices=("log", "equal"), default="log", help="of the bands")
    explain.add_argument(
        "--band-frames", type=int, metavar="N", help="per video, without bands (default: the run's)"
    )
    explain.add_argument("--batch-size", type=int, metavar="N", help="default: the run's")
    explain.add_argument("--workers", type=int, metavar="N", help="decoding (default: the run's)")
    explain.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    explain.add_argument("--on-error", choices=("fail", "skip"), help="at an unreadable frame")
    explain.add_argument(
        "--out", type=Path, default=Path("runs/explanations"), metavar="DIR", help="of several runs"
    )
    explain.add_argument("--force", action="store_true", help="explain again")
    explain.set_defaults(run=_explain)

    compare = commands.add_parser("compare", help="runs side by side: a table and the curves")
    compare.add_argument("folders", type=Path, nargs="+", metavar="RUN")
    compare.add_argument("--out", type=Path, default=Path("runs/compare"), metavar="DIR")
    compare.set_defaults(run=_compare)

    board = commands.add_parser("dashboard", help="a W&B workspace and report of all runs")
    board.add_argument("runs", type=Path, nargs="?", default=Path("runs"), metavar="RUNS_DIR")
    board.add_argument("--project", metavar="P", help="default: WANDB_PROJECT, else tokd")
    board.add_argument("--entity", metavar="E", help="default: WANDB_ENTITY, else your own")
    board.add_argument("--dry-run", action="store_true", help="show it; needs no account")
    board.add_argument("--out", type=Path, metavar="FILE.json", help="write both as JSON")
    board.set_defaults(run=_dashboard)

    tour = commands.add_parser("tour", help="the whole main job on the demo data (make demo)")
    tour.add_argument("--data", type=Path, default=Path("data/demo"), metavar="DIR")
    tour.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    tour.add_argument("--quality", nargs="+", default=["c23"], metavar="Q")
    tour.add_argument("--seed", type=int, nargs="+", default=[0], metavar="S")
    tour.add_argument("--workers", type=int, default=2, metavar="N")
    tour.set_defaults(run=_tour)


def _methods(options: argparse.Namespace) -> int:
    from tokd_lightning.distillation.catalogue import print_methods

    print_methods(**asked(options))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from tokd_lightning.evaluate import evaluate_command

    return evaluate_command(**asked(options))


def _explain(options: argparse.Namespace) -> int:
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
