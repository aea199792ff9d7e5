"""The ``tokd`` command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from tokd_lightning import __version__
from tokd_lightning.commands import LineParser, data, deploy, fits, runs, tables
from tokd_lightning.errors import TERMINATED, Terminated, TokdError, the_told_one

BROKEN_PIPE = 141  # 128 + SIGPIPE, the shell convention


def main(args: Sequence[str] | None = None) -> int:
    """Run ``tokd``.

    Args:
        args: Arguments without the program's name; None takes them from the command line.

    Returns:
        The exit code: 0, 2 for an error the user can fix (reported in one line), 130 after Ctrl-C,
        141 when the reader of its output has gone, 143 after SIGTERM.
    """
    given = list(sys.argv[1:] if args is None else args)
    try:
        with the_told_one():
            return _run(given)
    except TokdError as error:
        print(f"tokd: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # e.g. after `| head`
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


def _run(given: list[str]) -> int:
    command = given[0] if given else ""
    if command in fits.HELP and not {"-h", "--help"} & set(given):
        return _run_fit(given)
    options, unknown = _parser().parse_known_args(given)
    if unknown:
        options.of.error(f"unrecognized arguments: {' '.join(unknown)}")
    run_command: Callable[[argparse.Namespace], int] = options.run
    return run_command(options)


def _run_fit(given: list[str]) -> int:
    """Run a command whose arguments LightningCLI parses."""
    if given[0] == "inputs":
        from tokd_lightning.inputs import print_inputs

        return print_inputs(given[1:])
    if given[0] == "probe":
        from tokd_lightning.probe import probe

        return probe(given[1:])
    from tokd_lightning.training import run

    return run(given)


def _parser() -> LineParser:
    parser = LineParser(
        prog="tokd",
        description="Two-in-one knowledge distillation for facial forgery detection.",
    )
    parser.add_argument("--version", action="version", version=f"tokd_lightning {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    fits.add_to(commands)
    for group in (data, runs, deploy, tables):
        group.add_to(commands)
    for command in commands.choices.values():
        command.set_defaults(of=command)
    return parser
