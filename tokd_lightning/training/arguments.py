"""Command-line options of a fit or test in addition to Lightning's."""

import inspect
import sys
from collections.abc import Sequence
from typing import Any, get_args

from lightning.pytorch.cli import LightningArgumentParser

from tokd_lightning.errors import TokdError


def config_first(args: Sequence[str]) -> list[str]:
    """Move ``--config`` files before all other options, so that the options override them.

    Args:
        args: The subcommand and its arguments.

    Raises:
        TokdError: Neither a file nor both classes (``--model`` and ``--data``) are given, or an
            option's value is ``--``, which argparse drops.
    """
    if bare := [arg for arg in args if arg.startswith("--") and arg.endswith("=--")]:
        raise TokdError(f"{bare[0]}: -- is not a value: give one, or leave the option out")
    files: list[str] = []
    others: list[str] = []
    rest = list(args[1:])
    while rest:
        arg = rest.pop(0)
        if arg in {"--config", "-c"} and rest:
            files += [arg, rest.pop(0)]
        else:
            (files if arg.startswith("--config=") else others).append(arg)
    names = {arg.partition("=")[0] for arg in others}
    helped = any(name.endswith("help") or name == "--print_config" for name in names)
    if not files and not helped and not {"--model", "--data"} <= names:
        if args[0] in {"validate", "test", "predict"}:
            raise TokdError(f"name a run: tokd {args[0]} runs/NAME")
        raise TokdError("name an experiment: tokd fit --config experiments/….yaml")
    return [*args[:1], *files, *others]


def check_values(config: Any) -> None:
    """Check for null where a value is required, which the parser accepts, and negative workers.

    Args:
        config: The parsed configuration of a subcommand, with ``data`` and ``model``.

    Raises:
        TokdError: Such a value is set.
    """
    for group in ("data", "model"):
        block = config[group]
        for name, value in (
            vars(block.init_args) if block and block.get("init_args") else {}
        ).items():
            if value is None and not _may_be_null(str(block.class_path), name):
                raise TokdError(f"--{group}.{name} must not be null")
            if name == "num_workers" and isinstance(value, int) and value < 0:
                raise TokdError(f"--{group}.{name} must be a number from 0 on, not {value}")


def _may_be_null(class_path: str, name: str) -> bool:
    module, _, kind = class_path.rpartition(".")
    for base in getattr(sys.modules.get(module), kind, object).__mro__:
        found = inspect.signature(base).parameters.get(name) if "__init__" in vars(base) else None
        if found is not None:
            kind = found.annotation  # printed, a Literal or None is Optional[Literal[…]]
            return type(None) in get_args(kind) or "None" in str(kind) or kind is found.empty
    return True


def link(parser: LightningArgumentParser) -> None:
    """Give the seed to model and data, and the model the size of the data's images."""
    for target in ("model.init_args.seed", "data.init_args.seed"):
        parser.link_arguments("seed_everything", target)
    parser.link_arguments("data.input_size", "model.init_args.size", apply_on="instantiate")


def add_arguments(parser: LightningArgumentParser) -> None:
    """Add the options for the run folder, earlier runs, logging and checkpoints."""
    add = parser.add_argument
    add("--runs", type=str, default="runs", help="folder of all run folders (runs)")
    add(
        "--name",
        type=str | None,
        default=None,
        help="name of the run's folder; else made from data, network, method and seed",
    )
    add("--rerun", action="store_true", help="set an earlier run aside and fit again")
    add("--reuse", action="store_true", help="do nothing if the run is finished already")
    add(
        "--log",
        type=str,
        default="wandb",
        help="where curves also go: wandb (default), tensorboard, mlflow, with commas, or none",
    )
    add(
        "--pictures",
        type=int | None,
        default=None,
        help="frames that a test draws in pictures.png, 0: none; null: a real one and one of each "
        "forgery",
    )
    add(
        "--checkpoint_every",
        type=int | None,
        default=None,
        help="save last.ckpt every so many batches; null: so often that saving takes less than "
        "1 % of the time",
    )
    add(
        "--monitor",
        type=str,
        default="val/frame/acc",
        help="metric of the validation that selects best.ckpt, the highest wins",
    )
