"""What ``tokd fit | validate | test | predict`` say on the terminal."""

import logging
import math
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from tokd_lightning.errors import TokdError

HINT = {"distiller": ": tokd methods lists those there are"}


class Parser(LightningArgumentParser):
    """Says what is wrong with an argument in one line, without the usage of three hundred flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # else half a name is taken for one

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a TokdError with the part of jsonargparse's message that names the cause."""
        raise TokdError(one_line(message)) from ex


class _Said(logging.Handler):
    """Prints what this package logs, on the first process alone."""

    def emit(self, record: logging.LogRecord) -> None:
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # Lightning sets it on import
            print(f"{record.levelname}: {record.getMessage()}", file=sys.stderr)


def quieten() -> None:
    """Drop advertisements, and warnings about what is meant to be as it is; say what we log."""
    ours = logging.getLogger("tokd_lightning")
    ours.setLevel(logging.INFO)
    ours.handlers = [_Said()]
    for message in (
        r".*LeafSpec.*is deprecated",
        r"Found \d+ module\(s\) in eval mode at the start of training",
        r"Be aware that when using `ckpt_path`, callbacks",
        r"The '\w+_dataloader' does not have many workers",
        r"The number of training batches",
        r"predict returned None",
        r"Checkpoint directory .* exists and is not empty",
        r"The `srun` command is available on your system but is not used",
    ):
        warnings.filterwarnings("ignore", message)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(
            lambda record: (
                not re.match(
                    r".*Tip: |(\[rank: \d+\] )?Seed set to|TPU available|GPU available"
                    r"|`Trainer.fit` stopped|Restoring states|Restored all states"
                    r"|Loaded model weights",
                    record.getMessage(),
                )
            )
        )


def print_metrics(metrics: dict[str, float], split: str, folder: Path) -> None:
    """Print a table of the frame and video level metrics of a split."""
    print(f"{folder.name}, {split}:")
    table = Table()
    for column in ("", "frame", "video"):
        table.add_column(column, justify="left" if not column else "right")
    names = [k.split("/")[2] for k in metrics if k.startswith(f"{split}/frame/")]
    for name in names:
        values = (metrics.get(f"{split}/{level}/{name}", math.nan) for level in ("frame", "video"))
        table.add_row(name, *(f"{value:.4f}" for value in values))
    Console().print(table)


def one_line(message: str) -> str:
    """Put the cause that a library names over several lines into one."""
    lines = [line.strip(" -") for line in message.strip().splitlines() if line.strip()]
    text = " ".join(lines)
    if nested := re.search(
        r"Union subtypes Subtypes: \[<class 'tokd_.*?Errors: (.*?) Expected a <class 'NoneType'>",
        text,
    ):
        return one_line(nested[1])
    if unread := re.search(r'Parser key "([^"]+)": Config file loop detected: (\S+) ->', text):
        return f"{unread[1]}: {unread[2]} names no class that can be imported"
    if unknown := re.search(
        r'Parser key "([^"]+)": Expected a path but (\S+) either not accessible or invalid(.*)',
        text,
    ):
        key, value, why = unknown.groups()
        if kind := re.search(r"to be a subclass of <class '(\w+)'>", why):
            return f"{key}: {value} is no {kind[1]}"
        return (
            f"{key}: {value} is neither a file nor a class that can be imported{HINT.get(key, '')}"
        )
    if expected := re.findall(
        r'Parser key "([^"]+)": ?((?:Type|Expected)[^:]*?\. Got value: (?:\[.*?\]|\S+))', text
    ):
        return f"{expected[-1][0]}: {expected[-1][1]}"
    if re.search(r"arguments are required: (\w+\.)?(data|model)\b", text):
        return "name an experiment: tokd fit --config experiments/….yaml"
    if absent := re.search(r'Parser key "config": .*?does not exist: (\S+)', text):
        return (
            f"--config: there is no file {absent[1]}: start where experiments/ is, or give its "
            "whole path"
        )
    if text.startswith("unrecognized arguments"):
        return f"{text[:200]}: see tokd fit --help; a .yaml belongs behind --config"
    if "No supported gpu backend" in text:
        return "no GPU was found: leave --trainer.accelerator at auto, or set it to cpu"
    if match := re.search(r"[Oo]ption '([^']+)'", text):
        return f"unknown option '{match[1]}', in a YAML or on the command line: see tokd fit --help"
    return text if len(text) <= 300 else f"{text[:297]}…"


def some(keys: Sequence[str]) -> str:
    """Name the first three keys and how many more there are."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Turn what libraries raise over a user's mistake into a TokdError of one line."""
    try:
        yield
    except MisconfigurationException as error:
        raise TokdError(one_line(str(error))) from error
    except ValueError as error:
        # jsonargparse wraps what a constructor raises: the cause is what the user can mend.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, TokdError):
            raise cause from None
        if isinstance(cause, ValueError) and cause is not error:
            raise TokdError(one_line(str(cause))) from error
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise TokdError("the GPU is out of memory: lower --data.batch_size") from error
    except RuntimeError as error:
        compiling = sys.modules.get("torch._dynamo.exc")  # slow to import, and there if it failed
        if compiling is None or not isinstance(error, compiling.TorchDynamoException):
            raise
        cause = getattr(error, "inner_exception", error)
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise TokdError(
            f"torch.compile failed ({reason[:160]}): leave --model.compile at false, or see that a "
            "C++ compiler (gcc, clang) is on the PATH"
        ) from error
