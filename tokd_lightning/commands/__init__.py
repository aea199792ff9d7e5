"""The commands of ``tokd``: one module per verb, whose options and option names it owns."""

import argparse
import atexit
import gc
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from tokd_lightning.errors import TokdError

# Option names in messages about data sets, which training uses too.
OUR_WORDS = {
    r" \(--data\.quality\)": " (--quality)",
    r"--splits \(--data\.splits in training\)": "--splits",
    r"--data\.(splits|quality)": r"--\1",
    r"with --data\.root": "as PATH",
    r"\(--data\.root\)": "(--root)",
}
# In the order of ``tokd --help``.
VERBS = (
    "init", "fit", "validate", "test", "predict",
    "prepare", "landmarks", "verify", "show", "demo",
    "evaluate", "audit", "explain", "export", "detect", "push", "pull",
    "table", "figure", "report", "compare", "tour",
    "methods", "detectors", "dashboard", "inputs", "probe",
)  # fmt: skip


class LineParser(argparse.ArgumentParser):
    """Parser that reports errors in one line, like the rest of this package."""

    def error(self, message: str) -> NoReturn:
        """Raise a TokdError that names the nearest valid word."""
        where = self.prog
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            message += self._nearest(unknown[1].partition("=")[0], self._option_string_actions)
        elif wrong := re.match(
            r"argument (\S+): invalid choice: (.*?) \(choose from (.*)\)$", message
        ):
            kind, value, names = wrong.groups()
            choices = re.findall(r"[^\s,']+", names)
            if not kind.startswith("-"):  # a position, whose name here is a list of choices
                kind = "unknown command" if kind == "COMMAND" else where
            kind = f"{kind} {value}"
            near = self._nearest(value.strip("'\""), choices)
            message = kind + (near or f": choose from {', '.join(choices)}")
        raise TokdError(f"{message} (see {where} --help)")

    def _nearest(self, word: str, known: Any) -> str:
        near = get_close_matches(word, list(known), 1)
        return f": did you mean {near[0]}?" if near else ""


def asked(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a command by name."""
    return {
        name: value for name, value in vars(options).items() if name not in {"run", "of", "verbose"}
    }


def print_next(*arguments: object) -> None:
    """Print the command to run next.

    Args:
        *arguments: Of ``tokd``.
    """
    print(f"next: {shlex.join(['tokd', *map(str, arguments)])}")


@contextmanager
def importing() -> Iterator[None]:
    """Import the training stack inside: in four fifths of the time, and without wandb.

    The garbage collector would look again and again at what is imported, none of which goes away;
    it leaves that alone from here on. timm imports wandb where it can, for a training script of its
    own, which takes half a second; runs that are logged to W&B import it later.
    """
    first, collecting = "torch" not in sys.modules, gc.isenabled()
    modules: Any = sys.modules
    absent = "wandb" not in modules
    if absent:
        modules["wandb"] = None  # how Python marks what is missing
    gc.disable()
    try:
        yield
    finally:
        if absent:
            modules.pop("wandb", None)
        if first:
            gc.freeze()
            atexit.register(gc.unfreeze)  # nanobind reports what is never collected as leaks
        if collecting:
            gc.enable()


def refuse_missing(runs: Sequence[Path]) -> None:
    """Raise for a missing run before work on the others begins."""
    for run in runs:
        if not run.exists():
            raise TokdError(f"{run} does not exist: name folders that tokd fit made, runs/NAME")
