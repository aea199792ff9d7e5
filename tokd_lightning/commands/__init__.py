"""Options of the ``tokd`` commands other than Lightning's; implementations are imported lazily."""

import argparse
import re
from difflib import get_close_matches
from typing import Any, NoReturn

from tokd_lightning.errors import TokdError


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
            kind = f"unknown command {value}" if kind == "COMMAND" else f"{kind} {value}"
            near = self._nearest(value.strip("'\""), choices)
            message = kind + (near or f": choose from {', '.join(choices)}")
        raise TokdError(f"{message} (see {where} --help)")

    def _nearest(self, word: str, known: Any) -> str:
        near = get_close_matches(word, list(known), 1)
        return f": did you mean {near[0]}?" if near else ""


def asked(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a command by name."""
    return {name: value for name, value in vars(options).items() if name not in {"run", "of"}}
