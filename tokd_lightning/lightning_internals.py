"""Private names of Lightning, torch and jsonargparse that this package depends on.

Read in Lightning 2.6.6, torch 2.15 and jsonargparse 4.53. ``tests/test_lightning_internals.py``
checks that each still exists and does what is expected here.
"""

from collections.abc import Callable
from typing import Any, TypeGuard

from torch import nn

# Class -> its private names that subclasses in this package override or read.
OVERRIDDEN = {
    "lightning.pytorch.cli.LightningCLI": (
        *("_instantiate_trainer", "_run_subcommand", "_parse_ckpt_path", "_parser"),
    ),
    "lightning.pytorch.loggers.CSVLogger": ("_experiment",),
    "lightning.pytorch.callbacks.RichProgressBar": ("_get_train_description",),
    "lightning.fabric.plugins.environments.slurm.SLURMEnvironment": (
        *("_validate_srun_used", "_validate_srun_variables"),
    ),
}


def on_signal(trainer: Any, number: int, handler: Callable[..., Any]) -> None:
    """Handle a signal until the end of the fit, when Lightning restores the earlier handler."""
    trainer._signal_connector._register_signal(number, handler)


def logs_after_this_batch(trainer: Any) -> bool:
    """Return whether a row is logged after this batch: some values are costly to compute."""
    return bool(trainer._logger_connector.should_update_logs)


def started_processes(trainer: Any) -> list[Any]:
    """Return the processes that this one has started for other ranks, in Lightning's own list."""
    found: list[Any] = getattr(trainer.strategy.launcher, "procs", [])
    return found


def removes_loss_scale(optimizer: Any) -> bool:
    """Return whether an optimizer divides gradients by the fp16 loss scale in its own step."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def is_compiled(network: nn.Module) -> bool:
    """Return whether a module was compiled in place."""
    return network._compiled_call_impl is not None


def is_batchnorm(module: nn.Module) -> TypeGuard[nn.modules.batchnorm._BatchNorm]:
    """Return whether a module is a BatchNorm of any dimension, timm's and synchronised ones too."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def take_state(module: nn.Module, other: nn.Module) -> None:
    """Make a module use the parameters and buffers of another, without copying them."""
    module._parameters, module._buffers = other._parameters, other._buffers


def option_names(parser: Any) -> set[str]:
    """Return the names of all options of a jsonargparse parser, including its subcommands'."""
    parsers = [parser]
    for action in parser._actions:
        parsers += (getattr(action, "_name_parser_map", None) or {}).values()
    actions = [action for one in parsers for action in one._actions]
    return {name for action in actions for name in (*action.option_strings, action.dest)}
