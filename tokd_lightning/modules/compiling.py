"""Compilation of the networks, left to the first batch."""

from torch import nn

BACKEND = "inductor"


def compile_in_place(*networks: nn.Module) -> None:
    """Have networks compiled when they are first called; weights, names and hooks stay as they are.

    The first call compiles for its batch size, the first one of another size for any. What is
    compiled is lost in a copy and no part of a checkpoint.

    Args:
        networks: Changed in place; those that have been given before are left.
    """
    for network in networks:
        if network._compiled_call_impl is None:
            network.compile(backend=BACKEND)
