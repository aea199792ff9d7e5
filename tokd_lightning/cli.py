"""The ``tokd`` command."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tokd_lightning import __version__
from tokd_lightning.errors import TokdError

LIGHTNING = {
    "fit": "train a teacher or distil a student: --config experiments/….yaml",
    "validate": "score the validation split with a run's best checkpoint",
    "test": "score the test split; writes scores and metrics to the run's folder",
    "predict": "score the test split's frames without metrics",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run ``tokd``.

    Args:
        args: Arguments without the program's name; None takes them from the command line.

    Returns:
        The exit code: 0, 2 for what the user can mend (said in one line), 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if args is None else args)
    try:
        if given and given[0] in LIGHTNING:
            from tokd_lightning.training import run

            return run(given)
        options = _parser().parse_args(given)
        run_command: Callable[[argparse.Namespace], int] = options.run
        return run_command(options)
    except TokdError as error:
        print(f"tokd: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"tokd: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tokd: interrupted", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like everything else here."""

    def error(self, message: str) -> NoReturn:
        raise TokdError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tokd",
        description="Two-in-one knowledge distillation for facial forgery detection.",
    )
    parser.add_argument("--version", action="version", version=f"tokd_lightning {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, what in LIGHTNING.items():
        commands.add_parser(name, help=what)

    demo = commands.add_parser("demo", help="make a synthetic mini-FF++ to try everything on")
    demo.add_argument("--out", type=Path, required=True, metavar="DIR")
    demo.add_argument("--identities", type=int, metavar="N", help="default 120, or all photographs")
    demo.add_argument("--faces", type=Path, metavar="DIR", help="photographs instead of drawings")
    demo.add_argument("--landmarks", type=Path, metavar="CSV", help="file name, then x, y pairs")
    demo.add_argument("--quality", nargs="+", default=["c23", "c40"], metavar="Q")
    demo.add_argument("--seed", type=int, default=0, metavar="S")
    demo.set_defaults(run=_demo)

    prepare = commands.add_parser("prepare", help="videos of a data set to frames of faces")
    prepare.add_argument("layout", choices=("ffpp", "celebdf", "folder"))
    prepare.add_argument("root", type=Path, metavar="ROOT")
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR")
    prepare.add_argument("--quality", nargs="+", metavar="Q", help="default: all there are")
    prepare.add_argument("--methods", nargs="+", metavar="M", help="default: all there are (FF++)")
    prepare.add_argument("--splits", type=Path, metavar="DIR", help="split files, if elsewhere")
    prepare.add_argument("--frames", type=int, default=32, metavar="N", help="per video (32)")
    prepare.add_argument(
        "--size", type=int, default=299, metavar="PX", help="side of a frame (299)"
    )
    prepare.add_argument("--margin", type=float, default=1.3, help="side / face (1.3)")
    prepare.add_argument(
        "--detector", default="haar", metavar="D", help="haar, mtcnn, none, a YuNet .onnx, a .csv"
    )
    prepare.add_argument("--encoding", choices=("jpeg", "png"), default="jpeg")
    prepare.add_argument("--jpeg-quality", type=int, default=95, metavar="Q", help="default 95")
    prepare.add_argument("--pack", action="store_true", help="one uint8 array per video: fastest")
    prepare.add_argument("--reencode", type=int, metavar="CRF", help="add a twin at c<CRF>")
    prepare.add_argument("--workers", type=int, metavar="N", help="default: one per core")
    prepare.set_defaults(run=_prepare)

    verify = commands.add_parser("verify", help="look for what silently spoils a data set")
    verify.add_argument("path", type=Path, metavar="PATH", help="a tree, a .csv or a .json")
    verify.add_argument("--root", type=Path, metavar="DIR", help="of a manifest's frames")
    verify.add_argument("--expect", choices=("ffpp", "celebdf-v1", "celebdf-v2"))
    verify.add_argument("--quality", metavar="Q", help="default: all there are")
    verify.add_argument("--splits", type=Path, metavar="DIR", help="split files, if elsewhere")
    verify.add_argument("--frames", type=int, metavar="N", help="wanted per video (default 32)")
    verify.add_argument("--size", type=int, metavar="PX", help="side that all frames must have")
    verify.add_argument("--quick", action="store_true", help="read headers only")
    verify.add_argument(
        "--json", nargs="?", const=True, type=Path, metavar="FILE", help="for programs"
    )
    verify.add_argument("--workers", type=int, metavar="N", help="default: one per core")
    verify.set_defaults(run=_verify)

    show = commands.add_parser("show", help="draw frames of a data set, or the errors of a run")
    show.add_argument("path", type=Path, metavar="PATH", help="a tree, a .csv, a .json, or a run")
    show.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    show.add_argument("--root", type=Path, metavar="DIR", help="of a manifest's or a run's frames")
    show.add_argument("--quality", metavar="Q", help="default: all there are")
    show.add_argument("--method", nargs="+", metavar="M", help="default: all there are")
    show.add_argument("--split", choices=("train", "val", "test"))
    show.add_argument("--identities", type=int, default=4, metavar="N", help="rows at most (4)")
    show.add_argument("--tile", type=int, default=160, metavar="PX", help="side of a picture (160)")
    show.add_argument("--cutoff", type=float, default=0.33, help="of the high-pass (0.33)")
    show.add_argument("--seed", type=int, metavar="S", help="draw the videos instead")
    show.set_defaults(run=_show)

    methods = commands.add_parser("methods", help="the distillation methods side by side")
    methods.add_argument("--student", default="resnet18_thin", metavar="BACKBONE")
    methods.add_argument("--teacher", default="xception", metavar="BACKBONE")
    methods.add_argument("--size", type=int, default=299, metavar="PX", help="of the images (299)")
    methods.set_defaults(run=_methods)

    compare = commands.add_parser("compare", help="runs side by side: a table and the curves")
    compare.add_argument("folders", type=Path, nargs="+", metavar="RUN")
    compare.add_argument("--out", type=Path, default=Path("runs/compare"), metavar="DIR")
    compare.set_defaults(run=_compare)

    report = commands.add_parser("report", help="the paper's tables and figures beside the runs")
    report.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    report.add_argument(
        "--table", nargs="+", metavar="T", help="3, figure4, beyond; default: begun"
    )
    report.add_argument("--dataset", nargs="+", metavar="D", help="ffpp, celebdf, demo")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: report in --runs")
    report.set_defaults(run=_report)

    tour = commands.add_parser("tour", help="the whole main job on the demo data (make demo)")
    tour.add_argument("--data", type=Path, default=Path("data/demo"), metavar="DIR")
    tour.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    tour.add_argument("--quality", nargs="+", default=["c23"], metavar="Q")
    tour.add_argument("--seed", type=int, nargs="+", default=[0], metavar="S")
    tour.add_argument("--workers", type=int, default=2, metavar="N")
    tour.set_defaults(run=_tour)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from tokd_lightning.data.demo import make_demo

    make_demo(
        options.out,
        identities=options.identities,
        faces=options.faces,
        landmarks=options.landmarks,
        quality=options.quality,
        seed=options.seed,
    )
    return 0


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name != "run"}


def _prepare(options: argparse.Namespace) -> int:
    from tokd_lightning.data.prepare import prepare

    return prepare(**_arguments(options))


def _verify(options: argparse.Namespace) -> int:
    from tokd_lightning.data.verify import verify

    return verify(**_arguments(options))


def _show(options: argparse.Namespace) -> int:
    from tokd_lightning.data.show import show

    return show(**_arguments(options))


def _methods(options: argparse.Namespace) -> int:
    from tokd_lightning.distillation.catalogue import print_methods

    print_methods(**_arguments(options))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from tokd_lightning.tables.compare import compare_runs

    folders = [path for path in options.folders if (path / "fit.yaml").is_file()]
    for path in options.folders:
        if len(options.folders) > 1 and path.is_dir() and path not in folders:
            print(f"{path} is no run folder: left out")
    compare_runs(folders or options.folders, options.out)
    return 0


def _report(options: argparse.Namespace) -> int:
    from tokd_lightning.tables.report.command import report

    return report(**_arguments(options))


def _tour(options: argparse.Namespace) -> int:
    from tokd_lightning.tables.demo import run_demo

    return run_demo(options.data, options.runs, options.quality, options.seed, options.workers)
