"""Terminal output of ``tokd fit | validate | test | predict``."""

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
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from tokd_lightning.errors import TokdError, the_told_one
from tokd_lightning.lightning_internals import option_names
from tokd_lightning.training.messages import classes_in, one_line


class Parser(LightningArgumentParser):
    """Parser that reports errors in one line, without the usage of three hundred flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # no abbreviated option names

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a TokdError with the part of jsonargparse's message that names the cause."""
        known = option_names(self)
        said = one_line(message, known)
        whole = "--config" in known  # False in the parser of a class's arguments
        raise TokdError(re.sub(r"^(?=[\w.]+: )", "--" if whole else "", said)) from ex


class _Said(logging.Handler):
    """Handler that prints this package's log messages, on rank zero only."""

    def emit(self, record: logging.LogRecord) -> None:
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # Lightning sets it on import
            print(f"{record.levelname}: {record.getMessage()}", file=sys.stderr)


def quieten() -> None:
    """Drop advertisements and warnings about intended behaviour; print this package's messages."""
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
    """Print a table of the frame and video level metrics of a split.

    If forgeries were left out of training, it has columns for the seen and the unseen ones.
    """
    print(f"{folder.name}, {split}:")
    table, start = Table(), f"{split}/frame/"
    levels: tuple[str, ...] = ("frame", "video")
    if any(key.startswith(f"{split}/unseen/") for key in metrics):
        levels += tuple(f"{part}/{level}" for part in ("seen", "unseen") for level in levels)
    for column in ("", *(level.replace("/", " ") for level in levels)):
        table.add_column(column, justify="left" if not column else "right", no_wrap=not column)
    for name in [key.removeprefix(start) for key in metrics if key.startswith(start)]:
        values = (metrics.get(f"{split}/{level}/{name}", math.nan) for level in levels)
        table.add_row(name, *(f"{value:.4f}" for value in values))
    Console().print(table)


def some(keys: Sequence[str]) -> str:
    """Return the first three keys and how many more there are, as text."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Turn library errors caused by a user's mistake into a one-line TokdError."""
    try:
        with the_told_one():
            yield
    except MisconfigurationException as error:
        raise TokdError(one_line(str(error))) from error
    except UnicodeDecodeError as error:
        raise TokdError(f"a given file is not UTF-8 text ({error})") from error
    except yaml.YAMLError as error:
        raise TokdError(f"a value is not valid YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:
        # jsonargparse wraps what a constructor raises: the cause is what the user can fix.
        around: BaseException = error
        cause: BaseException = error
        while cause.__cause__ is not None:
            around, cause = cause, cause.__cause__
        if isinstance(cause, ValueError) and cause is not error:
            raise TokdError(one_line(str(cause))) from error
        if isinstance(cause, TypeError) and (made := classes_in(str(around))):
            raise TokdError(f"{made} cannot be made from its options: {cause}") from error
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise TokdError("the GPU is out of memory: lower --data.batch_size") from error
    except RuntimeError as error:
        compiling = sys.modules.get("torch._dynamo.exc")  # slow to import; loaded if it raised
        if compiling is None or not isinstance(error, compiling.TorchDynamoException):
            raise
        cause = getattr(error, "inner_exception", error)
        reason = next(iter(str(cause).splitlines()), type(cause).__name__)
        raise TokdError(
            f"torch.compile failed ({reason[:160]}): leave --model.compile at false, or see that a "
            "C++ compiler (gcc, clang) is on the PATH"
        ) from error
