"""The normalisation of images, where only the pretrained weights say one."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from tokd_lightning.models.backbones import normalisation_to_follow


def follow_weights(config: Any, given: Callable[[], Any]) -> None:
    """Take mean and std of a network's pretrained weights where the configuration has none.

    It concerns networks that are not cut into stages, such as transformers. CNNs keep the paper's
    0.5, or what the configuration says; a fit announces where their weights were trained otherwise.

    Args:
        config: Arguments of a subcommand, with defaults; changed in place.
        given: Parses the same without defaults.
    """
    model = config.model.init_args
    name = model.get("backbone") or model.get("student")
    if not name or not model.get("pretrained"):
        return
    theirs = normalisation_to_follow(name)
    if theirs is None or {"mean", "std"} & {*(given().data.get("init_args") or {}).keys()}:
        return
    config.data.init_args.mean, config.data.init_args.std = list(theirs.mean), list(theirs.std)
    rank_zero_info(
        f"images are normalised as for the weights of {theirs.of}, mean {list(theirs.mean)} and "
        f"std {list(theirs.std)}: --data.mean and --data.std set others"
    )
