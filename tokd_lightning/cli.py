"""The ``tokd`` command."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tokd_lightning import __version__
from tokd_lightning.commands import VERBS, LineParser
from tokd_lightning.commands.examples import describe
from tokd_lightning.errors import TERMINATED, Terminated, TokdError, one_line, the_told_one
from tokd_lightning.extras import missing_package

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
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)  # custom methods, networks and data modules may be here
        with the_told_one():
            return _run(given)
    except ModuleNotFoundError as error:
        told = missing_package(error, given[0] if given else "")
        if told is None:
            raise
        print(f"tokd: {told}", file=sys.stderr)
        return 2
    except TokdError as error:
        print(f"tokd: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # e.g. after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        print(f"tokd: {one_line(error)}", file=sys.stderr)
        return 2
    except Terminated as told:
        print(f"tokd: {told}", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("tokd: interrupted", file=sys.stderr)
        return 130


def _run(given: list[str]) -> int:
    if set(given) == {"--version", "--verbose"}:
        from tokd_lightning.training.environment import describe

        print("\n".join(describe()))
        return 0
    verb = given[0] if given else ""
    if verb in VERBS and not {"-h", "--help"} & set(given):
        main_of = getattr(_module(verb), "main", None)  # of those that LightningCLI parses
        if main_of is not None:
            return int(main_of(given[1:]))
    options, unknown = parser((verb,) if verb in VERBS else VERBS).parse_known_args(given)
    if unknown:
        options.of.error(f"unrecognized arguments: {' '.join(unknown)}")
    run_command: Callable[[argparse.Namespace], int] = options.run
    return run_command(options)


def parser(verbs: Sequence[str] = VERBS) -> LineParser:
    """Make the parser of ``tokd``.

    Args:
        verbs: Commands to add; each is a module of :mod:`tokd_lightning.commands`.
    """
    made = LineParser(
        prog="tokd",
        description="Two-in-one knowledge distillation for facial forgery detection.",
    )
    made.add_argument("--version", action="version", version=f"tokd_lightning {__version__}")
    made.add_argument(
        "--verbose", action="store_true", help="with --version: versions, device, commit"
    )
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for verb in verbs:
        _module(verb).add_to(commands)
    for verb, command in commands.choices.items():
        command.set_defaults(of=command)
        describe(verb, command)
    return made


def _module(verb: str) -> ModuleType:
    return import_module(f"tokd_lightning.commands.{verb}")
