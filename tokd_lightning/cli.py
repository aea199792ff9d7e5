"""The ``tokd`` command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tokd_lightning import __version__
from tokd_lightning.commands import data, deploy, runs, tables
from tokd_lightning.errors import TERMINATED, Terminated, TokdError

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells have it

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
        The exit code: 0, 2 for what the user can mend (said in one line), 130 after Ctrl-C, 141
        where nobody reads its output any more, 143 after SIGTERM.
    """
    given = list(sys.argv[1:] if args is None else args)
    try:
        if given and given[0] in LIGHTNING:
            from tokd_lightning.training import run

            return run(given)
        if given and given[0] in _FOR_FITS and not {"-h", "--help"} & set(given):
            return _FOR_FITS[given[0]](given[1:])
        options = _parser().parse_args(given)
        run_command: Callable[[argparse.Namespace], int] = options.run
        return run_command(options)
    except TokdError as error:
        print(f"tokd: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as `| head` ends a program
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"tokd: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 2
    except Terminated as told:
        print(f"tokd: {told}", file=sys.stderr)
        return TERMINATED
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

    for name, what in _FOR_FITS_HELP.items():
        commands.add_parser(name, help=what, description=what)

    for group in (data, runs, deploy, tables):
        group.add_to(commands)
    return parser


def _inputs(args: list[str]) -> int:
    from tokd_lightning.inputs import print_inputs

    return print_inputs(args)


def _probe(args: list[str]) -> int:
    from tokd_lightning.probe import probe

    return probe(args)


# They take the arguments of a fit, which LightningCLI knows.
_FOR_FITS: dict[str, Callable[[list[str]], int]] = {"inputs": _inputs, "probe": _probe}
_FOR_FITS_HELP = {
    "inputs": "print the hashes that a fit would record of its data and teacher, as JSON",
    "probe": "time a few batches of a fit: tokd probe --out FILE and the fit's own arguments",
}
