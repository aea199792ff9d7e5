"""The ``tokd`` command."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

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

    show = commands.add_parser("show", help="draw a contact sheet of a data set")
    show.add_argument("root", type=Path, metavar="DIR")
    show.add_argument("--out", type=Path, required=True, metavar="FILE.png")
    show.set_defaults(run=_show)

    compare = commands.add_parser("compare", help="runs side by side: a table and the curves")
    compare.add_argument("folders", type=Path, nargs="+", metavar="RUN")
    compare.add_argument("--out", type=Path, default=Path("runs/compare"), metavar="DIR")
    compare.set_defaults(run=_compare)

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


def _show(options: argparse.Namespace) -> int:
    from tokd_lightning.data.contact_sheet import draw_contact_sheet

    draw_contact_sheet(options.root, options.out)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from tokd_lightning.tables.compare import compare_runs

    folders = [path for path in options.folders if (path / "fit.yaml").is_file()]
    for path in options.folders:
        if len(options.folders) > 1 and path.is_dir() and path not in folders:
            print(f"{path} is no run folder: left out")
    compare_runs(folders or options.folders, options.out)
    return 0


def _tour(options: argparse.Namespace) -> int:
    from tokd_lightning.tables.demo import run_demo

    return run_demo(options.data, options.runs, options.quality, options.seed, options.workers)
